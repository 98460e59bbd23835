"""One strategy file or template: edit it, check it, see what it does, go back to an older text."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from nicegui import ui

from agent_mode.admin import strategy_files as files
from agent_mode.admin.pages.components import history as versions
from agent_mode.admin.pages.components import toast
from agent_mode.admin.pages.components.banner import banner, error_banner
from agent_mode.admin.pages.components.buttons import button
from agent_mode.admin.pages.components.code_editor import code_editor
from agent_mode.admin.pages.components.confirm import confirm
from agent_mode.admin.pages.components.editor import Typed, editor_frame
from agent_mode.admin.pages.components.empty import empty
from agent_mode.admin.pages.components.switch_preview import SwitchPreview
from agent_mode.admin.pages.page import page
from agent_mode.admin.pages.visit import Visit
from agent_mode.admin.previews import Drafted
from agent_mode.errors import AgentModeError, RequestError
from agent_mode.prompts import strategies
from agent_mode.prompts.strategies import Strategy
from agent_mode.prompts.templates import ALLOWED, SIMPLE, Templates, compile_template

_BACK = ("/strategies", "Strategies")
_FRESH_TEMPLATE = """\
You are {{agentName}} from now on.

{{agentInstructions}}

{{baseInstructions}}

The earlier replies came from {{previousAgentName}}.
"""
_CHECK_SECONDS = 0.6


def _fresh_strategies(provider: str) -> str:
    standard = f"{provider}-standard"
    entry = {
        "type": "simple",
        "agentSwitchTemplate": SIMPLE.name,
        "assertiveness": "medium",
        "contextualMemory": "high",
        "specialHandling": [],
        "placement": "replace_first",
        "pivot": "user",
        "history": "full",
        "why": "",
        "source": "",
    }
    document = {
        "provider": provider,
        "match": [f"{provider}-*"],
        "default": standard,
        "strategies": {standard: entry},
    }
    return json.dumps(document, indent=2) + "\n"


@page("/strategies/files/new/file", title="New strategy file")
async def new_strategies(visit: Visit) -> None:
    """Asks for the provider."""
    _ask(visit, "strategies", "New strategy file", "Provider (its file is <provider>-prompt-strategies.json)")


@page("/strategies/templates/new/template", title="New template")
async def new_template(visit: Visit) -> None:
    """Asks for the name."""
    _ask(visit, "template", "New template", "Name (strategies call it so)")


@page("/strategies/files/{name}", title="Strategy file")
async def strategy_file(visit: Visit, name: str) -> None:
    """The editor of a strategy file."""
    await _Page(visit, files.File("strategies", name)).show()


@page("/strategies/templates/{name}", title="Template")
async def template(visit: Visit, name: str) -> None:
    """The editor of a template."""
    await _Page(visit, files.File("template", name)).show()


def _ask(visit: Visit, kind: files.Kind, title: str, label: str) -> None:
    async def create() -> None:
        try:
            file = files.File(kind, str(field.value or "").strip())
            text = _FRESH_TEMPLATE if kind == "template" else _fresh_strategies(file.name)
            await files.save(visit.runtime, file, text, visit.author, "", "created")
        except AgentModeError as error:
            field.error = error.message
            editor.wrong(error)
            return
        visit.record("created", file.noun, file.name)
        ui.navigate.to(f"/strategies/{_PLACES[kind]}/{file.name}")

    with editor_frame(title, back=_BACK) as editor:
        with editor.actions:
            button("Create", create, kind="main", icon="check")
        field = ui.input(label).props("outlined dense maxlength=64").classes("am-field")
        field.on("keydown.enter", create)


_PLACES = {"strategies": "files", "template": "templates"}


class _Page:
    """The editor of a file."""

    def __init__(self, visit: Visit, file: files.File) -> None:
        self._visit = visit
        self._file = file
        self._refused = False

    async def show(self) -> None:
        visit, file = self._visit, self._file
        there = await files.read(visit.runtime, file)
        self._text = there.text
        self._base = there
        users = [s.id for s in visit.runtime.strategies.all() if s.template == file.name]
        note = f"Variables: {', '.join(f'{{{{{name}}}}}' for name in ALLOWED)}."
        if file.kind == "strategies":
            note = "JSON; docs/strategies.md names every field."
        elif users:
            more = f" and {len(users) - 4} more" if len(users) > 4 else ""
            note += f" Used by {', '.join(users[:4])}{more}."
        with editor_frame(file.filename, back=_BACK, note=note) as self._editor:
            with self._editor.actions:
                if file.kind == "template" and not users:
                    button("Delete", self._delete, kind="danger", icon="delete")
                button("Save", self._editor.saving(self._save), kind="main", icon="check")
            with ui.tabs().props("align=left no-caps") as tabs:
                parts = [
                    ui.tab("Text", icon="edit"),
                    ui.tab("Preview", icon="visibility"),
                    ui.tab("Versions", icon="history"),
                ]
            with ui.tab_panels(tabs, value=parts[0]).classes("am-panels"):
                with ui.tab_panel(parts[0]):
                    self._verdict = ui.element("div").classes("am-fields").props("aria-live=polite")
                    self._draw_text()
                with ui.tab_panel(parts[1]):
                    preview = self._preview()
                    await preview.show()
                with ui.tab_panel(parts[2]):
                    self._history = ui.element("div").classes("am-fields")
                    await self._draw_history()
            tabs.on_value_change(preview.refresh)
        self._editor.keeps(Typed(self._where, lambda: self._text, self._bring_back))
        self._check()
        self._checked = self._text
        ui.timer(_CHECK_SECONDS, self._check_if_changed)

    def _draw_text(self) -> None:
        language = "JSON" if self._file.kind == "strategies" else "Markdown"
        self._field = code_editor(self._text, language, self._file.filename, self._changed)

    def _where(self) -> tuple[str, str]:
        return f"/strategies/{_PLACES[self._file.kind]}/{self._file.name}", self._base.mark

    async def _bring_back(self, text: Any, mark: Any) -> None:
        """Shows an unsaved text again, based on the text that its author had seen."""
        if isinstance(text, str) and isinstance(mark, str):
            if mark != self._base.mark:
                known = (there for there in self._texts.values() if files.mark_of(there) == mark)
                self._base = files.Content(next(known, self._base.text), mark)
            self._field.value = self._text = text

    def _changed(self, text: str) -> None:
        self._text = text
        if self._refused:  # by what stood there before; the verdict follows
            self._refused = False
            self._editor.notices.clear()
        self._editor.touched()

    def _check_if_changed(self) -> None:
        if self._checked != self._text:
            self._checked = self._text
            self._check()

    def _check(self) -> None:
        """Says while one types whether it could be saved."""
        self._verdict.clear()
        with self._verdict:
            try:
                odd = files.check(self._visit.runtime, self._file, self._text)
            except AgentModeError as error:
                error_banner(error)
                return
            for error in odd:
                banner(error.message, error.hint, tone="warning")

    async def _save(self, *, over: bool = False) -> None:
        visit, file, text = self._visit, self._file, self._text
        try:
            saved = await files.save(
                visit.runtime, file, text, visit.author, None if over else self._base.mark
            )
        except AgentModeError as error:
            if error.code == "stale_version":
                await self._conflict(error)
            else:
                self._checked, self._refused = self._text, True
                self._verdict.clear()  # said once
                self._editor.wrong(error)
            return
        visit.record("saved", file.noun, file.name)
        self._base = saved
        self._editor.saved(changed=self._text != text)
        toast.done("Saved. It is used from the next switch on.")
        await self._draw_history()

    async def _conflict(self, error: AgentModeError) -> None:
        runtime, file = self._visit.runtime, self._file
        try:
            there = (await files.read(runtime, file)).text
        except RequestError:
            there = ""  # deleted
        newest = next(iter(await files.history(runtime, file)), None)
        known = newest is not None and newest.text == there  # else it was changed by hand
        author, label = (newest.author, newest.label) if newest and known else ("somebody", "on the disk")

        async def load_theirs() -> None:
            undo = self._editor.way_back()
            await self._load()
            toast.done(f"This is what {author} has saved.", undo=undo)

        async def keep_mine() -> None:
            await self._save(over=True)

        self._editor.conflict(error, load_theirs=load_theirs, keep_mine=keep_mine)
        with self._editor.notices:
            versions.differences(self._base.text, there, self._text, author=author, label=label)

    async def _load(self) -> None:
        """Shows what is on the disk in place of what was typed."""
        there = await files.read(self._visit.runtime, self._file)
        self._base = there
        self._field.value = self._text = there.text
        self._editor.saved()
        await self._draw_history()

    async def _delete(self) -> None:
        if self._editor.dirty and not await confirm(
            "Delete it with your changes?",
            "The template itself can be brought back. What you changed and did not save is lost.",
            action="Delete",
            danger=True,
        ):
            return
        visit, file = self._visit, self._file
        gone = await files.delete(visit.runtime, file, visit.author)
        visit.record("deleted", file.noun, file.name)
        self._editor.saved()
        with (
            self._editor.notices,
            banner("This template is deleted.", "Undo brings it back.", tone="warning"),
        ):
            button("To the list", to="/strategies")

        async def undo() -> None:
            await files.save(visit.runtime, file, gone.text, visit.author, "", "brought back")
            visit.record("restored", file.noun, file.name)
            await self._load()

        toast.done(f"Deleted {file.name}.", undo=undo)

    def _preview(self) -> SwitchPreview:
        if self._file.kind == "strategies":
            return SwitchPreview(self._visit, strategy=self._drafted_strategy)
        return SwitchPreview(self._visit, templates=self._drafted, strategy=self._with_this)

    def _drafted(self) -> Templates:
        return Drafted(self._visit.runtime.templates, compile_template(self._file.name, self._text))

    def _with_this(self, model: str) -> Strategy | None:
        """The model's own strategy with this template, so that its effect shows with any model."""
        return replace(self._visit.runtime.strategies.select(model).strategy, template=self._file.name)

    def _drafted_strategy(self, model: str) -> Strategy | None:
        """What the unsaved file says about the model, if it is the one that speaks about it."""
        found = self._visit.runtime.strategies.select(model).strategy
        drafts = {s.id: s for s in strategies.check(self._file.filename, self._text)}
        if found.provider != self._file.name:
            raise RequestError(
                f"{model or 'This model'} gets {found.id} of {found.provider}, not one of this file.",
                hint=f"Type a model that this file speaks about, such as {next(iter(drafts))}.",
            )
        return drafts.get(found.id, found)

    async def _draw_history(self) -> None:
        found = await files.history(self._visit.runtime, self._file)
        self._texts = {version.number: version.text for version in found}
        self._history.clear()
        with self._history:
            if not found:
                empty("No versions yet", "The first change here keeps what was there before.", icon="history")
                return
            versions.history(
                [versions.Entry(v.number, v.label, v.author, v.message, v.at) for v in found],
                self._text_of,
                self._roll_back,
                lambda: self._editor.dirty,
            )

    async def _text_of(self, number: int) -> str:
        return self._texts[number]

    async def _roll_back(self, number: int) -> None:
        visit, file = self._visit, self._file
        undo = self._editor.way_back(newest=True)
        await files.roll_back(visit.runtime, file, number, visit.author)
        visit.record("rolled back", file.noun, file.name, f"to number {number}")
        await self._load()
        toast.done(f"{file.filename} is as it was then, as a new version.", undo=undo)
