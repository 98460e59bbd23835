"""What stands on the page in a box: errors with their cure, notes, warnings."""

from __future__ import annotations

from typing import Literal

from nicegui import ui

from agent_mode.admin.pages.components.buttons import button
from agent_mode.admin.pages.components.hints import hint_of, way_back
from agent_mode.errors import AgentModeError, DefinitionError, Problem

Tone = Literal["error", "warning", "note", "good"]
_ICONS = {"error": "error_outline", "warning": "warning_amber", "note": "info", "good": "check_circle"}


def banner(text: str, hint: str = "", *, tone: Tone = "note") -> ui.element:
    """A box with a sentence, and the cure or what to do below it."""
    box = ui.element("div").classes(f"am-banner am-banner--{tone}")
    box.props("role=alert" if tone == "error" else "role=status")
    with box:
        ui.icon(_ICONS[tone]).props("aria-hidden=true")
        with ui.element("div"):
            ui.label(text)
            if hint:
                ui.label(hint).classes("am-banner-hint")
    return box


def error_banner(error: AgentModeError) -> ui.element:
    """An error with its cure and a way on; one with several problems lists them all by field."""
    if not isinstance(error, DefinitionError):
        box = banner(error.message, hint_of(error), tone="error")
        if (back := way_back(error)) is not None:
            with box:
                button(back.text, to=back.path)
        return box
    box = banner(error.message.partition(":")[0] + ".", tone="error")
    with box:
        problem_list(error.problems)
    return box


def problem_list(problems: list[Problem] | tuple[Problem, ...]) -> None:
    """Problems by field, each with its cure."""
    with ui.element("ul").classes("am-problems"):
        for problem in problems:
            with ui.element("li"):
                ui.label(problem.field).classes("am-code")
                ui.label(problem.message)
                if problem.hint:
                    ui.label(problem.hint).classes("am-banner-hint")
