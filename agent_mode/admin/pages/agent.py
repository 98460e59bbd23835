"""The editor of one agent: its fields, its JSON, its history, and a pane to try it."""

from __future__ import annotations

import json
from typing import Any

from nicegui import ui

from agent_mode.admin import agents as shared
from agent_mode.admin.agent_templates import EMPTY, draft_of
from agent_mode.admin.drafts import Draft, oddities
from agent_mode.admin.pages.agent_fields import Fields
from agent_mode.admin.pages.agent_try import TryPane
from agent_mode.admin.pages.components import toast
from agent_mode.admin.pages.components.banner import banner, problem_list
from agent_mode.admin.pages.components.buttons import button
from agent_mode.admin.pages.components.code_editor import code_editor
from agent_mode.admin.pages.components.editor import editor_frame
from agent_mode.admin.pages.components.empty import empty
from agent_mode.admin.pages.components.history import Entry, history, side_by_side
from agent_mode.admin.pages.components.shell import url
from agent_mode.admin.pages.page import page
from agent_mode.admin.pages.visit import Visit
from agent_mode.errors import DefinitionError, Problem, StoreError
from agent_mode.store.agent_versions import lines
from agent_mode.store.agents import Agent, AgentVersion
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
    await _Page(visit, values, None).draw()


@page("/agents/{agent_id}", title="Agent", wide=True)
async def agent(visit: Visit, agent_id: str) -> None:
    """The editor of an agent of the store."""
    record = await visit.runtime.agent_store.get(agent_id)
    if record is None:
        await _draw_deleted(visit, agent_id)
        return
    await _Page(visit, shared.editable(record), record).draw()


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
    """

    def __init__(self, visit: Visit, values: dict[str, Any], record: Agent | None) -> None:
        self._visit = visit
        self._values = values
        self._record = record
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
                button("Save", self._save, kind="main", icon="check")
            with ui.element("div").classes("am-two"):
                with ui.element("div").classes("am-fields"):
                    self._draw_tabs()
                self._pane.draw()
        if self._record is not None:
            usable, found = await shared.problems_of(self._visit.backend, self._record)
            if not usable:
                self._show(found, "As it is saved, this agent cannot be used.")
        ui.timer(0, self._fields.load_offers, once=True)

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
        for title, box in self._boxes.items():
            box.set_visibility(title == name)
        if name == "JSON":
            self._show_json()
        elif name == "History":
            await self._show_history()

    def _redraw(self) -> None:
        self._fields_are_old = False
        box = self._boxes["Fields"]
        box.clear()
        with box:
            self._fields.draw(self._values, fixed_id=self._record is not None)
        ui.timer(0, self._fields.load_offers, once=True)

    def _show_json(self) -> None:
        box = self._boxes["JSON"]
        if self._json_problem:
            return
        box.clear()
        with box:
            ui.label("The same agent as the API has it. What is changed here changes the fields.").classes(
                "am-soft"
            )
            self._json_wrong = ui.label().classes("am-field-error").props("role=alert")
            self._json = code_editor(_dumped(self._values), "JSON", "Agent as JSON", self._json_changed)

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
            history(entries, self._text_of, self._roll_back)

    async def _text_of(self, number: int) -> str:
        assert self._record is not None
        version = await self._visit.runtime.agent_store.version(self._record.id, number)
        return "\n".join(lines(shared.shown(version).content))

    async def _roll_back(self, number: int) -> None:
        assert self._record is not None
        saved = await shared.roll_back(self._visit.backend, self._record.id, number, self._visit.author)
        self._visit.record("rolled back", "agent", saved.id, f"to {label_of(number)}")
        await self._load(saved)
        await self._show_history()
        toast.done(f"{saved.name} is as it was in version {label_of(number)}.")

    def _touched(self) -> None:
        self._editor.touched()

    async def _read(self, values: dict[str, Any]) -> Draft:
        return await shared.read_draft(self._visit.runtime, values, self._record)

    async def _read_to_try(self) -> Draft | None:
        if self._json_problem:
            return None
        named = {"id": self._values.get("id") or "draft", "name": self._values.get("name") or "Draft"}
        made = await self._read({**self._values, **named})
        self._show(made.problems)
        return made if made.form is not None else None

    def _show(self, problems: list[Problem], title: str = "This cannot be saved yet.") -> None:
        """Each problem beside its field; above them those that have none, and how many there are."""
        self._editor.notices.clear()
        rest = self._fields.form.show(problems)
        if not problems:
            return
        hint = "What is wrong stands beside the fields, too." if len(rest) < len(problems) else ""
        with self._editor.notices, banner(title, hint, tone="error"):
            problem_list(problems)
        ui.run_javascript("window.scrollTo({top: 0})")

    async def _check(self) -> None:
        """Says all that is wrong, and what is odd."""
        if self._json_problem:
            self._show([Problem("JSON", self._json_problem, "Correct it in the JSON tab.")])
            return
        made = await self._read(self._values)
        if made.form is not None and self._record is None:
            backend = self._visit.backend
            if backend.has_pipeline(made.form.id):
                made = Draft(problems=[shared.taken(made.form.id)])
            elif await self._visit.runtime.agent_store.get(made.form.id) is not None:
                made = Draft(problems=[shared.exists(made.form.id)])
        self._show(made.problems)
        if made.form is None or made.parts is None:
            return
        odd = await oddities(self._visit.backend, made.form, made.parts)
        with self._editor.notices:
            if not odd:
                banner("Nothing is wrong with it.", tone="good")
                return
            with banner("It can be saved. What it names is not here now:", tone="warning"):
                problem_list(odd)

    async def _save(self) -> None:
        if self._json_problem:
            self._show([Problem("JSON", self._json_problem, "Correct it in the JSON tab.")])
            return
        try:
            if self._record is None:
                saved = await shared.create(self._visit.backend, self._values, self._visit.author)
            else:
                saved = await shared.replace_all(
                    self._visit.backend,
                    self._record.id,
                    self._values,
                    self._visit.author,
                    self._record.version,
                )
        except DefinitionError as error:
            self._show(list(error.problems))
            return
        except StoreError as error:
            await self._not_saved(error)
            return
        await self._is_saved(saved)

    async def _is_saved(self, saved: Agent) -> None:
        fresh = self._record is None
        self._visit.record(
            "created" if fresh else "saved", "agent", saved.id, f"version {label_of(saved.version)}"
        )
        offered = self._visit.backend.is_offered(saved.id)
        more = " It is a model in Open WebUI now." if fresh and offered else ""
        if fresh:
            ui.navigate.history.replace(url(f"/agents/{saved.id}"))
        await self._load(saved)
        toast.done(f"Saved {saved.name}.{more}")

    async def _load(self, record: Agent) -> None:
        """Shows a version in place of what is there."""
        self._record = record
        self._fields.kept_valves = record.valves
        self._deleter.set_visibility(True)
        self._take(shared.editable(record))
        self._editor.rename(record.name, f"{record.id} · version {label_of(record.version)}")
        self._editor.saved()

    def _take(self, values: dict[str, Any]) -> None:
        self._values.clear()
        self._values.update(values)
        self._json_problem = ""
        if self._tabs.value == "JSON":
            self._fields_are_old = True
            self._show_json()
        else:
            self._redraw()

    async def _not_saved(self, error: StoreError) -> None:
        if error.code == "stale_version" and self._record is not None:
            await self._conflict(error, self._record)
        elif error.code == "agent_not_found" and self._record is not None:
            # Somebody has deleted it meanwhile: saved again, it is there again.
            self._record = None
            self._editor.wrong(
                StoreError(error.message, hint="Save again to make it anew; your changes are still here.")
            )
        elif error.code == "agent_exists":
            self._show([Problem("id", error.message, error.hint)])
        else:
            self._editor.wrong(error)

    async def _conflict(self, error: StoreError, mine: Agent) -> None:
        runtime = self._visit.runtime
        theirs = await shared.known(runtime, mine.id)
        newest = (await shared.history(runtime, mine.id))[0]

        async def load_theirs() -> None:
            draft, base = json.loads(json.dumps(self._values)), self._record
            await self._load(theirs)

            async def back() -> None:
                self._record = base
                self._take(draft)
                self._touched()

            toast.done(f"This is what {newest.author} has saved.", undo=back)

        async def keep_mine() -> None:
            self._record = theirs  # seen now; if somebody saves once more, that is told again
            await self._save()

        self._editor.conflict(error, load_theirs=load_theirs, keep_mine=keep_mine)
        with self._editor.notices:
            _draw_differences(mine, theirs, newest, self._values)

    async def _delete(self) -> None:
        assert self._record is not None
        record = self._record
        await shared.delete(self._visit.backend, record.id, self._visit.author)
        self._visit.record("deleted", "agent", record.id)
        self._editor.saved()
        ui.navigate.to(f"/agents/{record.id}")


def _draw_differences(mine: Agent, theirs: Agent, newest: AgentVersion, draft: dict[str, Any]) -> None:
    """What the other one has changed, and how the own draft differs from that."""
    before, after = _text(shared.editable(mine)), _text(shared.editable(theirs))
    with ui.element("div").classes("am-card am-fields"):
        with ui.element("h2"):
            ui.label(f"What {newest.author} has changed")
        side_by_side(before, after, "When you opened it", f"Version {newest.label}")
        with ui.element("details"):
            with ui.element("summary"):
                ui.label("How yours differs from that")
            side_by_side(after, _text({**EMPTY, **draft}), f"Version {newest.label}", "Yours")


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
