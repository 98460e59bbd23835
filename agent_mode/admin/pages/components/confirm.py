"""Asking before something is done that cannot be taken back. What can be, is done at once with an undo."""

from __future__ import annotations

from nicegui import ui

from agent_mode.admin.pages.components.buttons import button


async def confirm(title: str, text: str, *, action: str, danger: bool = False) -> bool:
    """Asks, and waits for the answer.

    Args:
        title: the question.
        text: what will happen.
        action: the verb on the button.
        danger: whether it takes something away.
    """
    with ui.dialog() as dialog, ui.card().classes("am-dialog") as card:
        card._props.update({"role": "alertdialog", "aria-modal": "true", "aria-label": title})
        with ui.element("h2"):
            ui.label(title)
        ui.label(text)
        with ui.row().classes("am-actions"):
            button("Cancel", lambda: dialog.submit(False)).props("autofocus")
            button(action, lambda: dialog.submit(True), kind="danger" if danger else "main")
    answer = await dialog
    if not dialog.is_deleted:  # with the window, it is
        dialog.delete()
    return bool(answer)
