"""One persona: edit it, see what a model would be sent, compare its versions and go back."""

from __future__ import annotations

from typing import Any

from nicegui import ui

from agent_mode.admin import personas as shared
from agent_mode.admin.pages.components import history as versions
from agent_mode.admin.pages.components import toast
from agent_mode.admin.pages.components.banner import banner
from agent_mode.admin.pages.components.buttons import button
from agent_mode.admin.pages.components.confirm import confirm
from agent_mode.admin.pages.components.editor import Typed, editor_frame
from agent_mode.admin.pages.components.empty import empty
from agent_mode.admin.pages.components.persona_fields import Fields
from agent_mode.admin.pages.components.persona_parts import (
    address,
    delete,
    duplicate,
    export_menu,
    go_to,
)
from agent_mode.admin.pages.components.switch_preview import SwitchPreview
from agent_mode.admin.pages.page import page
from agent_mode.admin.pages.visit import Visit
from agent_mode.errors import AgentModeError
from agent_mode.store.personas import Persona
from agent_mode.store.versions import readable

_BACK = ("/personas", "Personas")
_NEW = "Once it is saved and enabled, it is a model and a command at once."


@page("/personas/new", title="New persona")
async def new(visit: Visit) -> None:
    """An empty editor."""
    await _Page(visit, None, 0).show()


@page("/personas/{key}/edit", title="Persona")
async def persona(visit: Visit, key: str) -> None:
    """The editor of a persona that there is."""
    seen = await shared.newest(visit.runtime, key)  # before the content, so that no change is overlooked
    await _Page(visit, await shared.known(visit.runtime, key), seen).show()


class _Page:
    """The editor.

    Args:
        visit: whose.
        record: the persona; None: a new one.
        seen: number of its newest version.
    """

    def __init__(self, visit: Visit, record: Persona | None, seen: int) -> None:
        self._visit = visit
        self._record = record
        self._key = record.key if record else ""
        self._seen = seen

    async def show(self) -> None:
        record = self._record
        title = record.display_name if record else "New persona"
        note = f"!{record.key} in a chat, personas.{record.key} as a model." if record else _NEW
        with editor_frame(title, back=_BACK, note=note) as self._editor:
            self._draw_actions()
            with ui.tabs().props("align=left no-caps") as tabs:
                parts = [ui.tab("Persona", icon="edit"), ui.tab("Preview", icon="visibility")]
                if record:
                    parts.append(ui.tab("Versions", icon="history"))
            with ui.tab_panels(tabs, value=parts[0]).classes("am-panels"):
                with ui.tab_panel(parts[0]):
                    categories = await shared.categories(self._visit.runtime)
                    self._fields = Fields(record, list(categories), self._editor.touched)
                with ui.tab_panel(parts[1]):
                    preview = SwitchPreview(self._visit, self._fields.identity, self._fields.model)
                    await preview.show()
                if record:
                    with ui.tab_panel(parts[2]):
                        self._history = ui.element("div").classes("am-fields")
                        await self._draw_history()
            tabs.on_value_change(preview.refresh)
        self._editor.keeps(Typed(self._where, self._fields.values, self._bring_back))

    def _where(self) -> tuple[str, int]:
        return address(self._key) if self._record else "/personas/new", self._seen

    async def _bring_back(self, values: Any, version: Any) -> None:
        """Shows unsaved fields again, based on the version that their author had seen."""
        if isinstance(values, dict) and isinstance(version, int):
            self._seen = version
            self._fields.put(values)

    def _draw_actions(self) -> None:
        record = self._record
        with self._editor.actions:
            if record is None:
                button("Create", self._editor.saving(self._create), kind="main", icon="check")
                return
            export_menu(self._visit, self._only, ask=lambda: self._without_changes("Export"))
            button("Duplicate", self._duplicate, icon="content_copy")
            if record.origin == "custom":
                button("Delete", self._delete, kind="danger", icon="delete")
            button("Save", self._editor.saving(self._save), kind="main", icon="check")

    async def _create(self) -> None:
        self._fields.clear()
        try:
            made = await shared.create(self._visit.runtime, self._fields.values(), self._visit.author)
        except AgentModeError as error:
            self._wrong(error)
            return
        self._visit.record("created", "persona", made.key)
        self._editor.saved(go_to=address(made.key))

    def _wrong(self, error: AgentModeError) -> None:
        self._fields.wrong(error)
        self._editor.wrong(error)

    async def _only(self) -> list[str]:
        return [self._key]

    async def _without_changes(self, action: str) -> bool:
        """Asks whether it is to be done with what is saved."""
        text = "What you changed is not saved, and not in it."
        return not self._editor.dirty or await confirm(
            f"{action} it without your changes?", text, action=action
        )

    async def _duplicate(self) -> None:
        if not await self._without_changes("Duplicate"):
            return
        await duplicate(self._visit, self._key, _nothing)

    async def _delete(self) -> None:
        if self._editor.dirty and not await confirm(
            "Delete it with your changes?",
            "The persona itself can be brought back. What you changed and did not save is lost.",
            action="Delete",
            danger=True,
        ):
            return

        async def leave() -> None:
            there = await self._visit.runtime.persona_store.get(self._key)
            if there is not None:  # undone
                go_to(self._key)

        await delete(self._visit, self._key, leave)
        self._editor.saved()
        self._editor.notices.clear()
        with self._editor.notices, banner("This persona is deleted.", "Undo brings it back.", tone="warning"):
            button("To the list", to="/personas")

    async def _save(self, *, over: bool = False) -> None:
        runtime, values = self._visit.runtime, self._fields.values()
        self._fields.clear()
        expected = None if over else self._seen
        based_on = self._seen
        try:
            same = not shared.differs(await shared.known(runtime, self._key), values)
            saved = await shared.replace_all(runtime, self._key, values, self._visit.author, expected)
        except AgentModeError as error:
            if error.code == "stale_version":
                await self._conflict(error, based_on)
            else:
                self._wrong(error)
            return
        self._seen = await shared.newest(runtime, self._key)
        self._editor.saved(changed=self._fields.values() != values)
        if same:
            toast.done("Nothing was changed.")
            return
        self._visit.record("saved", "persona", self._key)
        toast.done(f"Saved. {saved.display_name} answers like this from the next message on.")
        with self._editor.notices:
            for problem in shared.flagged(saved.prompt):
                banner(problem.message, problem.hint, tone="warning")
        await self._draw_history()

    async def _conflict(self, error: AgentModeError, based_on: int) -> None:
        found = await shared.history(self._visit.runtime, self._key)
        newest = found[0]
        before = next((version.content for version in found if version.number == based_on), newest.content)

        async def load_theirs() -> None:
            undo = self._editor.way_back()
            await self._load()
            toast.done(f"This is what {newest.author} has saved.", undo=undo)

        async def keep_mine() -> None:
            await self._save(over=True)

        self._editor.conflict(error, load_theirs=load_theirs, keep_mine=keep_mine)
        with self._editor.notices:
            versions.differences(
                "\n".join(readable(before)),
                "\n".join(readable(newest.content)),
                "\n".join(readable({"extras": newest.content.get("extras"), **self._fields.values()})),
                author=newest.author,
                label=newest.label,
            )

    async def _load(self) -> None:
        """Shows what is stored in place of what was typed."""
        self._seen = await shared.newest(self._visit.runtime, self._key)
        self._fields.show(await shared.known(self._visit.runtime, self._key))
        self._editor.saved()
        await self._draw_history()

    async def _draw_history(self) -> None:
        found = await self._visit.runtime.persona_store.history(self._key)
        self._history.clear()
        with self._history:
            if not found:
                empty("No versions yet", "The first change makes one.", icon="history")
                return
            entries = [versions.Entry(v.number, v.label, v.author, v.message, v.created_at) for v in found]
            versions.history(entries, self._text_of, self._roll_back, lambda: self._editor.dirty)

    async def _text_of(self, number: int) -> str:
        return "\n".join(readable((await shared.version(self._visit.runtime, self._key, number)).content))

    async def _roll_back(self, number: int) -> None:
        undo = self._editor.way_back(newest=True)
        saved = await shared.roll_back(self._visit.runtime, self._key, number, self._visit.author)
        self._visit.record("rolled back", "persona", self._key, f"to number {number}")
        await self._load()
        toast.done(f"{saved.display_name} is as it was then, as a new version.", undo=undo)


async def _nothing() -> None:
    pass
