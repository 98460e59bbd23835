"""Progress of what takes long."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from nicegui import ui

Step = Callable[[float, str], None]


@contextmanager
def progress(title: str) -> Iterator[Step]:
    """A dialog while something long goes on; await the work inside.

        with progress("Importing …") as step:
            for number, entry in enumerate(entries, 1):
                await take(entry)
                step(number / len(entries), f"{number} of {len(entries)}")

    Until the first step nobody knows how far it is.
    """
    with ui.dialog().props("persistent") as dialog, ui.card().classes("am-dialog"):
        with ui.element("h2"):
            ui.label(title)
        bar = ui.linear_progress(show_value=False).props(f'indeterminate aria-label="{"progress"}"')
        words = ui.label("").classes("am-soft").props("role=status")
    dialog.open()

    def step(share: float, text: str = "") -> None:
        bar.props(remove="indeterminate")
        bar.value = max(0.0, min(1.0, share))
        words.text = text

    try:
        yield step
    finally:
        dialog.delete()
