"""Charts in the page's own colours, light and dark: their text takes its colour from the style sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nicegui import ui

BLUE = "#3b82f6"
RED = "#dc2626"
GREY = "#8a8a8a"
_LETTER = 7.5
"""Pixels that a letter of a name may take."""
_WIDEST = 180.0
_FAINT = "rgba(128, 128, 128, 0.25)"


def columns(title: str, names: Sequence[str], series: Mapping[str, tuple[Sequence[float], str]]) -> None:
    """Columns over time.

    Args:
        title: for screen readers.
        names: below the columns.
        series: by name: the values and their colour.
    """
    _chart(
        title,
        {
            "xAxis": {"type": "category", "data": list(names), "axisTick": {"show": False}},
            "yAxis": {"type": "value", "minInterval": 1, "splitLine": {"lineStyle": {"color": _FAINT}}},
            "legend": {"bottom": 0, "itemHeight": 10},
            "grid": {"left": 8, "right": 8, "top": 12, "bottom": 32, "containLabel": True},
            "series": [
                {"type": "bar", "name": name, "data": list(values), "color": colour, "barMaxWidth": 18}
                for name, (values, colour) in series.items()
            ],
        },
    )


def bars(title: str, values: Mapping[str, float], colour: str = BLUE) -> None:
    """Lying bars, the longest on top."""
    names = list(values)[::-1]
    # ECharts takes the letters for narrower than they are, and cuts the names.
    room = min(_LETTER * max(map(len, names), default=0), _WIDEST)
    _chart(
        title,
        {
            "xAxis": {"type": "value", "minInterval": 1, "splitLine": {"lineStyle": {"color": _FAINT}}},
            "yAxis": {
                "type": "category",
                "data": names,
                "axisTick": {"show": False},
                "axisLabel": {"width": room, "overflow": "truncate"},
            },
            "grid": {"left": room + 16, "right": 24, "top": 8, "bottom": 24},
            "series": [
                {
                    "type": "bar",
                    "data": [values[name] for name in names],
                    "color": colour,
                    "barMaxWidth": 18,
                    "label": {"show": True, "position": "right"},
                }
            ],
        },
    )


def _chart(title: str, options: dict[str, Any]) -> None:
    whole = {
        "animation": False,
        "textStyle": {"fontFamily": "system-ui, sans-serif"},
        "tooltip": {"trigger": "axis", "confine": True},
        **options,
    }
    chart = ui.echart(whole, renderer="svg").classes("am-chart")
    chart._props["role"] = "img"
    chart._props["aria-label"] = title
