"""The frame of an editor: where it belongs, what is edited, what can be done; and leaving it unsaved.

with editor_frame("Writer", back=("/agents", "Agents")) as editor:
    with editor.actions:
        button("Save", save, kind="main")
    ui.input("Name", on_change=editor.touched)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from nicegui import ui

from agent_mode.admin.pages.components.banner import banner, error_banner
from agent_mode.admin.pages.components.buttons import button, link
from agent_mode.errors import AgentModeError


class Editor:
    """What a page does with its frame."""

    def __init__(
        self, names: tuple[ui.label, ui.label], mark: ui.label, actions: ui.row, notices: ui.element
    ) -> None:
        self._names = names
        self._mark = mark
        self._dirty = False
        self.actions = actions
        """Where its buttons go."""
        self.notices = notices
        """Where it says what is wrong."""

    @property
    def dirty(self) -> bool:
        """Whether something was changed and not saved."""
        return self._dirty

    def rename(self, title: str, note: str) -> None:
        """Another title, and another line below it."""
        self._names[0].text, self._names[1].text = title, note

    def touched(self, *_: object) -> None:
        """Something was changed: the browser asks before the page is left."""
        if not self._dirty:
            self._dirty = True
            self._mark.text = "Not saved"
            ui.run_javascript("window.onbeforeunload = (event) => { event.preventDefault(); return ''; }")

    def saved(self) -> None:
        """All is saved; nothing is wrong any more."""
        self._dirty = False
        self._mark.text = ""
        self.notices.clear()
        ui.run_javascript("window.onbeforeunload = null")

    def wrong(self, error: AgentModeError) -> None:
        """Shows what is wrong above the fields, in place of what stood there."""
        self.notices.clear()
        with self.notices:
            error_banner(error)

    def conflict(
        self,
        error: AgentModeError,
        *,
        load_theirs: Callable[[], Awaitable[None]],
        keep_mine: Callable[[], Awaitable[None]],
    ) -> None:
        """Somebody else has saved meanwhile (`stale_version`): nothing is lost, the person chooses.

        Args:
            error: says who, and when.
            load_theirs: shows the newest version in place of the own changes.
            keep_mine: saves the own changes as a version after it.
        """
        self.notices.clear()
        hint = "Your changes are still here. Compare before you choose."
        with self.notices, banner(error.message, hint, tone="warning"), ui.row().classes("am-actions"):
            button("Show theirs", load_theirs)
            button("Save mine over it", keep_mine, kind="danger")


@contextmanager
def editor_frame(title: str, *, back: tuple[str, str], note: str = "") -> Iterator[Editor]:
    """The frame; fields go inside, buttons into `editor.actions`.

    Args:
        title: of what is edited.
        back: address and name of the list that it stands in.
        note: a line below the title.
    """
    with ui.element("div").classes("am-editor-head"):
        with ui.element("div").classes("am-heading"):
            link(f"← {back[1]}", back[0])
            with ui.element("h1"):
                heading = ui.label(title)
            below = ui.label(note).classes("am-soft")
        tools = ui.row().classes("am-actions")
    with tools:
        mark = ui.label("").classes("am-soft").props("role=status")
        actions = ui.row().classes("am-actions")
    editor = Editor((heading, below), mark, actions, ui.element("div").classes("am-notices"))
    with ui.element("div").classes("am-fields"):
        yield editor
