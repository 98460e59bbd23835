"""How a run is drawn: in lists, as a tree, as a timeline."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from nicegui import ui

from agent_mode.admin.pages.components import words
from agent_mode.admin.pages.components.banner import banner
from agent_mode.admin.pages.components.buttons import link
from agent_mode.store.run_records import RunRecord


@dataclass(frozen=True, slots=True)
class Branch:
    """A run with those that it called."""

    run: RunRecord
    below: list[Branch] = field(default_factory=list)


def tree(root: RunRecord, others: Sequence[RunRecord]) -> Branch:
    """The runs below a run, in the order in which they began. Pure."""
    below = [record for record in others if record.parent_id == root.id and record.id != root.id]
    rest = [record for record in others if record not in below]
    return Branch(root, [tree(record, rest) for record in below])


def tokens(record: RunRecord) -> int:
    """All tokens that a run has cost, as far as the provider told."""
    total = record.usage.get("total_tokens", record.usage.get("tokens", 0))
    return int(total) if isinstance(total, int | float) else 0


def pretty(value: Any) -> str:
    """A value of a tool call as a person reads it. Pure."""
    if isinstance(value, str):
        try:
            parsed = json.loads(value)
        except ValueError:
            return value
        value = parsed if isinstance(parsed, dict | list) else value
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False, default=str)


def draw_tree(branch: Branch, current: str) -> None:
    """Who called whom, as nested lists."""
    with ui.element("ul").classes("am-tree"):
        _draw_branch(branch, current)


def _draw_branch(branch: Branch, current: str) -> None:
    record = branch.run
    with ui.element("li"):
        with ui.element("div").classes("am-inline am-actions"):
            if record.id == current:
                ui.label(record.agent).classes("am-strong")
            else:
                link(record.agent, f"/runs/{record.id}")
            words.state(record.state)
            ui.label(words.lasted(record.duration_ms)).classes("am-soft")
        if branch.below:
            with ui.element("ul").classes("am-tree"):
                for below in branch.below:
                    _draw_branch(below, current)


def draw_facts(record: RunRecord) -> None:
    """The facts of a run, by name."""
    told = {
        "Agent": record.agent,
        "Type": record.agent_type,
        "Model": record.model or "",
        "Begun": words.exact(record.started_at),
        "Took": words.lasted(record.duration_ms),
        "LLM calls": str(record.steps),
        "Tool calls": str(len(record.tool_calls)),
        "Tokens": words.count(tokens(record)) if tokens(record) else _no_tokens(record),
        "User": record.user_id or "",
        "Chat": record.chat_id or "",
        "Run": record.id,
    }
    with ui.element("dl").classes("am-facts"):
        for name, value in told.items():
            if value:
                with ui.element("div"):
                    with ui.element("dt"):
                        ui.label(name)
                    with ui.element("dd"):
                        ui.label(value)


def _no_tokens(record: RunRecord) -> str:
    return "not told" if record.parent_id is None or not record.steps else "counted with the run above it"


def draw_timeline(record: RunRecord) -> None:
    """What it did, step by step: each tool call with arguments and result."""
    with ui.element("ol").classes("am-timeline"):
        with ui.element("li"):
            ui.label("Begun").classes("am-strong")
            ui.label(words.exact(record.started_at)).classes("am-soft")
        for call in record.tool_calls:
            with ui.element("li").classes("am-bad" if call.get("is_error") else ""):
                _draw_call(call)
        with ui.element("li").classes("am-bad" if record.state == "failed" else ""):
            with ui.element("div").classes("am-inline am-actions"):
                ui.label("Ended" if record.ended_at else "Goes on").classes("am-strong")
                words.state(record.state)
            ui.label(words.exact(record.ended_at)).classes("am-soft")
    if record.error:
        error = record.error
        hint = str(error.get("hint") or "")
        message = str(error.get("message") or "")
        banner(f"{message} ({error.get('code')})", hint, tone="error")


def _draw_call(call: dict[str, Any]) -> None:
    with ui.element("div").classes("am-inline am-actions"):
        ui.icon("build").props("aria-hidden=true")
        ui.label(str(call.get("name") or "tool")).classes("am-strong")
        ui.label(str(call.get("agent") or "")).classes("am-soft")
        if "ms" in call or "duration_ms" in call:
            ui.label(words.lasted(call.get("duration_ms", call.get("ms")))).classes("am-soft")
        if call.get("is_error"):
            words.state("failed")
    with ui.element("details"):
        with ui.element("summary"):
            ui.label("Arguments and result")
        ui.label("Arguments").classes("am-soft")
        words.code(pretty(call.get("arguments", {})))
        ui.label("Result").classes("am-soft")
        result = call.get("result")
        words.code("nothing yet" if result is None else pretty(result))
