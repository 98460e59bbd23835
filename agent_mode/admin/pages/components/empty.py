"""What stands where there is nothing yet: what it would be, and how to get it."""

from __future__ import annotations

from collections.abc import Callable

from nicegui import ui


def empty(title: str, text: str, action: Callable[[], object] | None = None, *, icon: str = "inbox") -> None:
    """An empty state.

    Args:
        title: what there is not.
        text: what to do.
        action: draws the button that does it.
        icon: name of a Material icon.
    """
    with ui.element("div").classes("am-empty"):
        ui.icon(icon).props("aria-hidden=true")
        with ui.element("h2"):
            ui.label(title)
        ui.label(text).classes("am-soft")
        if action is not None:
            action()
