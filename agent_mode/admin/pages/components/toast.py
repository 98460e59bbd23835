"""Short messages at the window's edge: done (with a way back), failed (with the cure)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from nicegui import ui

from agent_mode.admin.pages.components.buttons import link as next_step
from agent_mode.admin.pages.components.hints import hint_of
from agent_mode.errors import AgentModeError

UNDO_SECONDS = 10
_INTERNAL = "Something went wrong inside Agent Mode."
_LOOK = "Try again; the reason is in the server's log."


def done(
    text: str, *, undo: Callable[[], Awaitable[None]] | None = None, link: tuple[str, str] | None = None
) -> None:
    """Says that something was done.

    Args:
        text: such as `Deleted writer.`
        undo: takes it back; offered for ten seconds. What it raises is shown.
        link: what to do next, and the page for it; offered as long.
    """
    if undo is None and link is None:
        ui.notification(text, position="bottom", timeout=4, classes="am-toast", close_button="Close")
        return
    # A notification's own buttons run in the browser alone; these stand beside the page.
    with ui.context.client.layout, ui.element("div").classes("am-undo").props("role=status") as box:
        ui.label(text)

        if link is not None:
            next_step(*link)
        if undo is not None:
            way_back = undo

            async def back() -> None:
                box.delete()
                await way_back()

            ui.button("Undo", on_click=back, color=None).props("flat dense no-caps").classes("am-button")
        ui.button(on_click=box.delete, color=None).props('flat round dense icon=close aria-label="Close"')
        ui.timer(UNDO_SECONDS, box.delete, once=True)


def failed(error: Exception) -> None:
    """Says what went wrong, and the cure."""
    if isinstance(error, AgentModeError):
        where = f"{error.field}: " if error.field else ""
        text = f"{where}{error.message}\n{hint_of(error)}".strip()
    else:
        text = f"{_INTERNAL}\n{_LOOK}"
    ui.notification(
        text,
        position="bottom",
        timeout=12,
        classes="am-toast am-toast--error",
        multi_line=True,
        close_button="Close",
    )
