"""The editor of one agent: its fields, its JSON, its history, and a pane to try it."""

from __future__ import annotations

import copy
import json
from typing import Any

from nicegui import ui

from agent_mode.admin import agents as shared
from agent_mode.admin.agent_templates import EMPTY, draft_of
from agent_mode.admin.drafts import Draft, oddities, text_without_secrets, without_secrets
from agent_mode.admin.pages.agent_fields import Fields
from agent_mode.admin.pages.agent_try import TryPane
from agent_mode.admin.pages.components import toast
from agent_mode.admin.pages.components.banner import banner, problem_list
from agent_mode.admin.pages.components.buttons import button
from agent_mode.admin.pages.components.code_editor import code_editor
from agent_mode.admin.pages.components.confirm import confirm
from agent_mode.admin.pages.components.editor import Typed, editor_frame
from agent_mode.admin.pages.components.empty import empty
from agent_mode.admin.pages.components.history import Entry, differences, history
from agent_mode.admin.pages.components.shell import url
from agent_mode.admin.pages.page import page
from agent_mode.admin.pages.visit import Visit
from agent_mode.errors import DefinitionError, Problem, StoreError
from agent_mode.store.agent_versions import lines
from agent_mode.store.agents import Agent
from agent_mode.store.versions import label_of

_BACK = ("/agents", "Agents")
_FIRST: Any = "Fields"  # NiceGUI takes names of tabs, and does not say so


@page("/agents/new/{template}", title="New agent", wide=True)
async def new(visit: Visit, template: str) -> None:
    """The editor of an agent that is not saved yet."""
    values = draft_of(template, allow_code=visit.runtime.settings.allow_custom_python)
    if values is None:
        empty(
            "There is no such template",
            "Choose one of the list.",
            lambda: button("Templates", to="/agents/new"),
        )
        return
    await _Page(visit, values, None, f"/agents/new/{template}").draw()


@page("/agents/{agent_id}", title="Agent", wide=True)
async def agent(visit: Visit, agent_id: str) -> None:
    """The editor of an agent of the store."""
    record = await visit.runtime.agent_store.get(agent_id)
    if record is None:
        await _draw_deleted(visit, agent_id)
        return
    await _Page(visit, shared.editable(record), record, f"/agents/{agent_id}").draw()


async def _draw_deleted(visit: Visit, agent_id: str) -> None:
    versions = await shared.history(visit.runtime, agent_id)

    async def restore() -> None:
        await shared.restore(visit.backend, agent_id, visit.author)
        visit.record("restored", "agent", agent_id)
        ui.navigate.to(f"/agents/{agent_id}")

    empty(
        f"{agent_id} was deleted by {versions[0].author}",
        "Its history is still here.",
        lambda: button("Bring it back", restore, kind="main", icon="undo"),
        icon="delete",
    )


class _Page:
    """One open editor.

    Args:
        visit: who edits.
        values: the draft, which the fields write into.
        record: what is edited, as it was when it was loaded; None: nothing is saved yet.
        address: of this page.
    """

    def __init__(self, visit: Visit, values: dict[str, Any], record: Agent | None, address: str) -> None:
        self._visit = visit
        self._values = values
        self._record = record
        self._address = address
        self._fields = Fields(visit, self._touched)
        self._fields.kept_valves = record.valves if record else {}
        self._pane = TryPane(visit, self._read_to_try, lambda: self._fields.toolbox.tools)
        self._json: ui.codemirror | None = None
        self._json_wrong: ui.label | None = None
        self._json_problem = ""
        self._fields_are_old = False

    async def draw(self) -> None:
        title = self._record.name if self._record else "New agent"
        note = f"{self._record.id} · version {label_of(self._record.version)}" if self._record else ""
        with editor_frame(title, back=_BACK, note=note) as self._editor:
            with self._editor.actions:
                self._deleter = button("Delete", self._delete, icon="delete", kind="danger")
                self._deleter.set_visibility(self._record is not None)
                button("Check", self._check, icon="rule")
                button("Save", self._editor.saving(self._save), kind="main", icon="check")
            with ui.element("div").classes("am-two"):
                with ui.element("div").classes("am-fields"):
                    self._draw_tabs()
                self._pane.draw()
        if self._record is not None:
            usable, found = await shared.problems_of(self._visit.backend, self._record)
            if not usable:
                self._show(found, "As it is saved, this agent cannot be used.")
        self._editor.keeps(Typed(self._where, self._typed, self._bring_back, self._public))
        ui.timer(0, self._fields.load_offers, once=True)

    def _where(self) -> tuple[str, int]:
        return self._address, self._record.version if self._record else 0

    def _typed(self) -> dict[str, Any]:
        """What is not saved: the agent, and what was typed and cannot be read yet."""
        text = self._json.value if self._json is not None and self._json_problem else None
        return {"agent": self._values, "json": text, "half": self._fields.form.half}

    def _public(self, typed: dict[str, Any]) -> dict[str, Any]:
        known = shared.editable(self._record) if self._record else {}
        text = typed["json"]
        return {
            "agent": without_secrets(typed["agent"], known),
            "json": text and text_without_secrets(text, known),
            "half": {path: text_without_secrets(part, known) for path, part in typed["half"].items()},
        }

    async def _bring_back(self, typed: Any, version: Any) -> None:
        """Shows an unsaved draft again, based on the version that its author had seen."""
        if not isinstance(typed, dict) or not isinstance(typed.get("agent"), dict):
            return
        if self._record is not None and isinstance(version, int) and version != self._record.version:
            self._record = await shared.as_of(self._visit.runtime, self._record, version)
        half = typed.get("half")
        self._take(typed["agent"], half if isinstance(half, dict) else {})
        if isinstance(text := typed.get("json"), str):
            self._draw_json(text)
            self._json_changed(text)
            self._tabs.value = "JSON"

    def _draw_tabs(self) -> None:
        tabs = ui.tabs(value=_FIRST, on_change=self._turn).props("dense no-caps align=left")
        with tabs:
            for name in ("Fields", "JSON", "History"):
                ui.tab(name)
            self._tabs = tabs
        self._boxes = {name: ui.element("div").classes("am-fields") for name in ("Fields", "JSON", "History")}
        for name, box in self._boxes.items():
            box.set_visibility(name == "Fields")
        with self._boxes["Fields"]:
            self._fields.draw(self._values, fixed_id=self._record is not None)

    async def _turn(self, event: Any) -> None:
        name = event.value
        if name == "Fields":
            if self._json_problem:
                self._tabs.value = "JSON"  # else what was typed there would be lost
                toast.failed(
                    DefinitionError("This is not JSON yet.", problems=[Problem("JSON", self._json_problem)])
                )
                return
            if self._fields_are_old:
                self._redraw()
        elif name == "JSON" and (unread := self._fields.form.unread):
            self._tabs.value = "Fields"
            toast.failed(DefinitionError("This is not JSON yet.", problems=unread))
            return
        for title, box in self._boxes.items():
            box.set_visibility(title == name)
        if name == "JSON":
            self._show_json()
        elif name == "History":
            await self._show_history()

    def _redraw(self, half: dict[str, str] | None = None) -> None:
        self._fields_are_old = False
        box = self._boxes["Fields"]
        box.clear()
        with box:
            self._fields.draw(self._values, fixed_id=self._record is not None, half=half)
        ui.timer(0, self._fields.load_offers, once=True)

    def _show_json(self) -> None:
        if not self._json_problem:
            self._draw_json(_dumped(self._values))

    def _draw_json(self, text: str) -> None:
        box = self._boxes["JSON"]
        box.clear()
        with box:
            ui.label("The same agent as the API has it. What is changed here changes the fields.").classes(
                "am-soft"
            )
            self._json_wrong = ui.label().classes("am-field-error").props("role=alert")
            self._json = code_editor(text, "JSON", "Agent as JSON", self._json_changed)

    def _json_changed(self, text: str) -> None:
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            self._json_problem = f"This is not JSON: {error}."
        else:
            self._json_problem = "" if isinstance(values, dict) else "This is not a JSON object."
            if isinstance(values, dict):
                self._values.clear()
                self._values.update(values)
                self._fields_are_old = True
        if self._json_wrong is not None:
            self._json_wrong.text = self._json_problem
        self._touched()

    async def _show_history(self) -> None:
        box = self._boxes["History"]
        box.clear()
        with box:
            if self._record is None:
                empty(
                    "No versions yet",
                    "Each save is a version that can be compared and brought back.",
                    icon="history",
                )
                return
            versions = await shared.history(self._visit.runtime, self._record.id)
            entries = [Entry(v.number, v.label, v.author, v.message, v.created_at) for v in versions]
            history(entries, self._text_of, self._roll_back, lambda: self._editor.dirty)

    async def _text_of(self, number: int) -> str:
        assert self._record is not None
        version = await self._visit.runtime.agent_store.version(self._record.id, number)
        return "\n".join(lines(shared.shown(version).content))

    async def _roll_back(self, number: int) -> None:
        assert self._record is not None
        undo = self._editor.way_back(newest=True)
        saved = await shared.roll_back(self._visit.backend, self._record.id, number, self._visit.author)
        self._visit.record("rolled back", "agent", saved.id, f"to {label_of(number)}")
        await self._load(saved)
        await self._show_history()
        toast.done(f"{saved.name} is as it was in version {label_of(number)}.", undo=undo)

    def _touched(self) -> None:
        self._editor.touched()

    async def _read(self, values: dict[str, Any]) -> Draft:
        return await shared.read_draft(self._visit.runtime, values, self._record)

    async def _read_to_try(self) -> Draft | None:
        if unread := self._unread():
            self._show(unread)
            return None
        named = {"id": self._values.get("id") or "draft", "name": self._values.get("name") or "Draft"}
        made = await self._read({**self._values, **named})
        self._show(made.problems)
        return made if made.form is not None else None

    def _unread(self) -> list[Problem]:
        """What was typed and cannot be read yet."""
        if self._json_problem:
            return [Problem("JSON", self._json_problem, "Correct it in the JSON tab.")]
        return self._fields.form.unread

    def _show(self, problems: list[Problem], title: str = "This cannot be saved yet.") -> None:
        """Each problem beside its field; above them those that have none, and how many there are."""
        self._editor.notices.clear()
        rest = self._fields.form.show(problems)
        if not problems:
            return
        hint = "What is wrong stands beside the fields, too." if len(rest) < len(problems) else ""
        with self._editor.notices, banner(title, hint, tone="error"):
            problem_list(problems)
        self._editor.to_top()

    async def _check(self) -> None:
        """Says all that is wrong, and what is odd."""
        if unread := self._unread():
            self._show(unread)
            return
        made = await shared.check_draft(self._visit.backend, self._values, self._record)
        self._show(made.problems)
        if made.problems:
            return
        odd = await self._odd(made)
        with self._editor.notices:
            if not odd:
                banner("Nothing is wrong with it.", tone="good")
                return
            with banner("It can be saved. What it names is not here now:", tone="warning"):
                problem_list(odd)

    async def _odd(self, made: Draft) -> list[Problem]:
        if made.form is None or made.parts is None:
            return []
        offered = self._fields.toolbox
        tools = None if offered.problem else offered.tools
        return await oddities(self._visit.backend, made.form, made.parts, tools)

    async def _save(self) -> None:
        if unread := self._unread():
            self._show(unread)
            return
        sent = copy.deepcopy(self._values)
        try:
            if self._record is None:
                saved = await shared.create(self._visit.backend, sent, self._visit.author)
            else:
                saved = await shared.replace_all(
                    self._visit.backend,
                    self._record.id,
                    sent,
                    self._visit.author,
                    self._record.version,
                )
        except DefinitionError as error:
            self._show(list(error.problems))
            return
        except StoreError as error:
            await self._not_saved(error)
            return
        await self._is_saved(saved, sent)

    async def _is_saved(self, saved: Agent, sent: dict[str, Any]) -> None:
        fresh = self._record is None
        self._visit.record(
            "created" if fresh else "saved", "agent", saved.id, f"version {label_of(saved.version)}"
        )
        changed = self._values != sent or bool(self._unread())
        self._know(saved)
        # The fields stay as they are: somebody may be typing in them.
        self._fields.form.show(self._fields.form.unread)
        self._fields.fix_id()
        if not changed and isinstance(valves := self._values.get("valves"), dict):
            valves |= without_secrets(self._values, shared.editable(saved))["valves"]  # now there is a mask
        self._address = f"/agents/{saved.id}"
        self._editor.saved(changed=changed)
        if fresh:
            ui.navigate.history.replace(url(self._address))
        if self._tabs.value == "History":
            await self._show_history()
        self._say_saved(saved, fresh=fresh)
        odd = await self._odd(await shared.read_draft(self._visit.runtime, shared.editable(saved), saved))
        if odd and self._record is saved:
            with self._editor.notices, banner("Saved, but what it names is not here now:", tone="warning"):
                problem_list(odd)

    def _say_saved(self, saved: Agent, *, fresh: bool) -> None:
        if not (fresh and self._visit.backend.is_offered(saved.id)):
            toast.done(f"Saved {saved.name}.")
            return
        if self._visit.runtime.openwebui.known:
            words, link = "Admins can pick it in Open WebUI.", ("Publish it for others", "/setup/publish")
        else:
            words, link = "Open WebUI lists it once it is connected.", ("Connect it", "/setup")
        toast.done(f"Saved {saved.name}. {words}", link=link)

    def _know(self, record: Agent) -> None:
        """It is this version that the draft is based on from now on."""
        self._record = record
        self._fields.kept_valves = record.valves
        self._deleter.set_visibility(True)
        self._editor.rename(record.name, f"{record.id} · version {label_of(record.version)}")

    async def _load(self, record: Agent) -> None:
        """Shows a version in place of what is there."""
        self._know(record)
        self._take(shared.editable(record))
        self._editor.saved()

    def _take(self, values: dict[str, Any], half: dict[str, str] | None = None) -> None:
        self._values.clear()
        self._values.update(values)
        self._json_problem = ""
        self._redraw(half)
        if self._tabs.value == "JSON":
            self._show_json()

    async def _not_saved(self, error: StoreError) -> None:
        if error.code == "stale_version" and self._record is not None:
            await self._conflict(error, self._record)
        elif error.code == "agent_not_found" and self._record is not None:
            # Somebody has deleted it meanwhile: saved again, it is there again.
            self._record = None
            self._editor.wrong(
                StoreError(error.message, hint="Save again to make it anew; your changes are still here.")
            )
        elif error.code in ("agent_exists", "persona_exists"):
            self._show([Problem("id", error.message, error.hint)])
        else:
            self._editor.wrong(error)

    async def _conflict(self, error: StoreError, mine: Agent) -> None:
        runtime = self._visit.runtime
        theirs = await shared.known(runtime, mine.id)
        newest = (await shared.history(runtime, mine.id))[0]

        async def load_theirs() -> None:
            undo = self._editor.way_back()
            await self._load(theirs)
            toast.done(f"This is what {newest.author} has saved.", undo=undo)

        async def keep_mine() -> None:
            self._record = theirs  # seen now; if somebody saves once more, that is told again
            await self._save()

        self._editor.conflict(error, load_theirs=load_theirs, keep_mine=keep_mine)
        with self._editor.notices:
            differences(
                _text(shared.editable(mine)),
                _text(shared.editable(theirs)),
                _text({**EMPTY, **self._values}),
                author=newest.author,
                label=newest.label,
            )

    async def _delete(self) -> None:
        assert self._record is not None
        record = self._record
        if self._editor.dirty and not await confirm(
            f"Delete {record.name} with your changes?",
            "The agent itself can be brought back. What you changed and did not save is lost.",
            action="Delete",
            danger=True,
        ):
            return
        await shared.delete(self._visit.backend, record.id, self._visit.author)
        self._visit.record("deleted", "agent", record.id)
        self._editor.saved(go_to=f"/agents/{record.id}")


def _text(values: dict[str, Any]) -> str:
    """An agent as text to compare; of a draft whatever can be."""
    parts = {
        name: values.get(name) if isinstance(values.get(name), dict) else {}
        for name in ("valves", "definition")
    }
    tags = values.get("tags")
    return "\n".join(lines({**values, **parts, "tags": tags if isinstance(tags, list | tuple) else []}))


def _dumped(values: dict[str, Any]) -> str:
    ordered = {name: values[name] for name in EMPTY if name in values} | values
    return json.dumps(ordered, indent=2, ensure_ascii=False)
