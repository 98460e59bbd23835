"""Who hands over to whom, drawn. The chart gets names as data, so they stay text."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from nicegui import ui

from agent_mode.admin.pages.components.charts import BLUE, GREY


def hand_overs(definition: Mapping[str, Any]) -> tuple[list[str], list[tuple[str, str]]]:
    """The names of the sub-agents, who begins as the first, and who may hand over to whom. Pure.

    The definition may be a draft with anything in it.
    """
    listed = definition.get("agents")
    agents = [agent for agent in listed if isinstance(agent, dict)] if isinstance(listed, list) else []
    names = [*dict.fromkeys(str(agent["name"]) for agent in agents if agent.get("name"))]
    root = definition.get("root")
    if isinstance(root, str) and root in names:
        names.remove(root)
        names.insert(0, root)
    edges: list[tuple[str, str]] = []
    for agent in agents:
        name, targets = str(agent.get("name") or ""), agent.get("can_hand_over_to")
        to = names if targets is None else targets if isinstance(targets, list) else []
        edges += [
            (name, str(target)) for target in to if name in names and target in names and target != name
        ]
    return names, [*dict.fromkeys(edges)]


def levels(names: list[str], edges: list[tuple[str, str]]) -> list[list[str]]:
    """The names by how many hand-overs away from the first they are; what none leads to comes last. Pure."""
    if not names:
        return []
    away = {names[0]: 0}
    waiting = deque(away)
    while waiting:
        name = waiting.popleft()
        for source, target in edges:
            if source == name and target not in away:
                away[target] = away[name] + 1
                waiting.append(target)
    beyond = max(away.values()) + 1
    found: list[list[str]] = [[] for _ in range(beyond + 1)]
    for name in names:
        found[away.get(name, beyond)].append(name)
    return [level for level in found if level]


def draw_graph(definition: Mapping[str, Any]) -> None:
    """The sub-agents as a graph, the one that begins on the left; and the same in words."""
    names, edges = hand_overs(definition)
    if not names:
        return
    rows = levels(names, edges)
    nodes = [
        {
            "name": name,
            "value": [column, (len(row) - 1) / 2 - place],
            "itemStyle": {"color": BLUE if name == names[0] else GREY},
        }
        for column, row in enumerate(rows)
        for place, name in enumerate(row)
    ]
    links = [
        {
            "source": source,
            "target": target,
            "lineStyle": {"curveness": 0.2 if (target, source) in edges else 0},
        }
        for source, target in edges
    ]
    tallest = max(len(row) for row in rows)
    high = (tallest - 1) / 2 + 0.5
    series = {
        "type": "graph",
        "coordinateSystem": "cartesian2d",
        "data": nodes,
        "links": links,
        "silent": True,
        "symbolSize": 20,
        "edgeSymbol": ["none", "arrow"],
        "edgeSymbolSize": 9,
        "lineStyle": {"color": GREY, "width": 1.5, "opacity": 1},
        "label": {
            "show": True,
            "position": "bottom",
            "width": 130,
            "overflow": "truncate",
            "formatter": "{b}",
        },
    }
    axis = {"type": "value", "show": False}
    chart = ui.echart(
        {
            "animation": False,
            "xAxis": {**axis, "min": -0.4, "max": max(len(rows) - 1, 1) + 0.4},
            "yAxis": {**axis, "min": -high, "max": high},
            "grid": {"left": 8, "right": 8, "top": 8, "bottom": 24},
            "series": [series],
        },
        renderer="svg",
    ).classes("am-chart")
    chart._style["height"] = f"{max(8, 4 * tallest + 3)}rem"
    chart._props["role"] = "img"
    chart._props["aria-label"] = "Who hands over to whom"
    with ui.element("ul").classes("am-soft am-plain"):
        for name in names:
            to = ", ".join(target for source, target in edges if source == name) or "nobody"
            begins = " begins, and" if name == names[0] else ""
            with ui.element("li"):
                ui.label(f"{name}{begins} hands over to {to}")
