"""Valves: every pipeline of this server, ours and others', and a form for the valves of each."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nicegui import ui

from agent_mode.admin import valve_drafts as drafts
from agent_mode.admin.pages.components import toast
from agent_mode.admin.pages.components.buttons import button, link
from agent_mode.admin.pages.components.editor import Typed, editor_frame
from agent_mode.admin.pages.components.empty import empty
from agent_mode.admin.pages.components.history import differences
from agent_mode.admin.pages.components.listing import Choice, Column, Listing, Query
from agent_mode.admin.pages.components.schema_fields import Field, fields_of, has_secret
from agent_mode.admin.pages.components.schema_form import Form
from agent_mode.admin.pages.components.shell import heading, url
from agent_mode.admin.pages.page import page
from agent_mode.admin.pages.valve_row import Row
from agent_mode.admin.pages.visit import Visit
from agent_mode.admin.valves import PipelineInfo, ValveForm
from agent_mode.errors import DefinitionError, Problem, RequestError, StoreError

_KINDS = {"agent": "Agents", "pipe": "Pipes", "manifold": "Manifolds", "filter": "Filters"}
_BESIDE = 40
"""How many pipelines stand beside a form; all are in the list."""
_NONE = object()
_OLDER = "older"
"""No mark of any form: a draft is based on what does not hold any more."""


@page("/valves", title="Valves", icon="tune", place=60)
async def valves(visit: Visit) -> None:
    """The list of pipelines."""
    heading("Valves", "What can be set of each pipeline on this server, ours and those of others.")

    async def load(query: Query) -> tuple[Sequence[PipelineInfo], int]:
        kind = query.chosen.get("kind", "")
        return visit.backend.pipelines(query.offset, query.limit, query.q, kind)

    await Listing(
        load,
        [
            Column("Pipeline", lambda info: info.name),
            Column("Id", lambda info: info.id),
            Column("Kind", lambda info: info.kind),
            Column("From", lambda info: "Agent Mode" if info.own else "others"),
            Column("Changed", _changed, kind="number"),
        ],
        noun="pipeline",
        href=lambda info: f"/valves/{info.id}",
        filters=[Choice("kind", "Kind", _KINDS)],
        search="Search name or id",
        empty=lambda: empty("No pipeline is loaded", "Put files into the pipelines folder and restart."),
    ).show()


def _changed(info: PipelineInfo) -> str:
    if not info.editable:
        return "no valves"
    return str(info.changed) if info.changed else ""


@page("/valves/{pipeline_id}", title="Valves", wide=True)
async def pipeline(visit: Visit, pipeline_id: str) -> None:
    """The form of one pipeline."""
    with ui.element("div").classes("am-sided"):
        beside = ui.element("nav").classes("am-beside").props('aria-label="Pipelines"')
        with ui.element("div").classes("am-sided-main"):
            await _Page(visit, visit.backend.valve_form(pipeline_id), beside).draw()


class _Page:
    """One open form.

    Args:
        visit: who edits.
        form: as it was when it was loaded.
        beside: where the other pipelines are listed.
    """

    def __init__(self, visit: Visit, form: ValveForm, beside: ui.element) -> None:
        self._visit = visit
        self._beside = beside
        self._held: dict[str, Any] = {}
        self._know(form)
        self._held.update(form.entered())
        self._rows: dict[str, Row] = {}

    def _know(self, form: ValveForm) -> None:
        """It is these values that the form is based on from now on."""
        self._form = form
        self._seen = form.mark
        self._found = {field.name: field for field in fields_of(form.schema)}
        self._opaque = {name for name, field in self._found.items() if has_secret(field)}
        self._before = self._shown(form)

    def _shown(self, form: ValveForm) -> dict[str, Any]:
        """The values that may be compared and kept in the browser."""
        return self._visible(form.values)

    def _visible(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in values.items() if name not in self._opaque}

    async def draw(self) -> None:
        info = self._form.pipeline
        whose = "Agent Mode" if info.own else "others"
        self._draw_beside()
        with editor_frame(
            info.name, back=("/valves", "Valves"), note=f"{info.id} · {info.kind} · of {whose}"
        ) as self._editor:
            with self._editor.actions:
                if info.kind == "agent":
                    button("Open the agent", to=f"/agents/{info.id}", icon="smart_toy")
                button("Reset all", self._reset_all, icon="restart_alt")
                button("Save", self._editor.saving(self._save), kind="main", icon="check")
            self._body = ui.element("div").classes("am-card am-valves")
        self._redraw()
        self._editor.keeps(
            Typed(self._where, self._draft, self._bring_back, self._public, says_nothing=self._says_nothing)
        )

    def _where(self) -> tuple[str, str]:
        return f"/valves/{self._form.pipeline.id}", drafts.mark(self._before)

    def _draft(self) -> drafts.Draft:
        return drafts.draft(self._form.entered(), self._held, self._fields.half, self._before)

    def _public(self, draft: drafts.Draft) -> drafts.Draft:
        return drafts.public(draft, self._form.secrets, self._opaque)

    def _says_nothing(self, found: Any) -> bool:
        draft = drafts.usable(found)
        return draft is None or (not draft["half"] and self._with(draft) == self._held)

    def _with(self, draft: drafts.Draft) -> dict[str, Any]:
        return drafts.over(self._form.entered(), draft, self._found)

    async def _bring_back(self, found: Any, version: Any) -> None:
        """Puts what was typed over what holds, based on the values that its author had seen."""
        draft = drafts.usable(found)
        if draft is None:
            return
        self._know(self._form)
        if version != drafts.mark(self._before):
            self._seen, self._before = _OLDER, draft["before"]
        held = self._with(draft)
        self._held.clear()
        self._held.update(copy.deepcopy(held))
        self._redraw({path: text for path, text in draft["half"].items() if isinstance(text, str)})

    def _draw_beside(self) -> None:
        shown, total = self._visit.backend.pipelines(0, _BESIDE)
        here = self._form.pipeline.id
        if here not in {info.id for info in shown}:
            shown = [*shown, self._form.pipeline]
        with self._beside:
            for info in shown:
                with ui.element("a").classes("am-here" if info.id == here else "") as entry:
                    entry._props["href"] = url(f"/valves/{info.id}")
                    if info.id == here:
                        entry.props("aria-current=page")
                    ui.label(info.name)
                    if info.id != info.name:
                        ui.label(info.id).classes("am-code am-soft")
                    count = ui.label().classes("am-soft am-small")
                    _say_changed(count, info)
                    if info.id == here:
                        self._count = count
            if total > len(shown):
                link(f"All {total} pipelines", "/valves")

    def _redraw(self, half: Mapping[str, str] | None = None) -> None:
        """Draws all fields anew.

        Args:
            half: what was typed and could not be read, by path.
        """
        self._fields = Form(self._touched, half)
        self._rows = {}
        self._body.clear()
        with self._body:
            if not self._found:
                ui.label("This pipeline has no valves.").classes("am-soft")
            for field in self._found.values():
                row = Row(field, self._fields, self._held, self._is_changed, self._reset)
                self._rows[field.name] = row
                row.draw()

    def _touched(self) -> None:
        self._editor.touched()
        for row in self._rows.values():
            row.mark()

    def _is_changed(self, name: str) -> bool:
        """Whether the form holds something else than the default; what it leaves out is as by default."""
        usual = self._form.defaults
        return name in usual and self._held.get(name, usual[name]) != usual[name]

    def _reset(self, field: Field) -> None:
        """Makes one valve as by default; it holds once it is saved."""
        self._held.pop(field.name, None)
        self._fields.forget(field.name)
        self._rows[field.name].draw()
        self._rows[field.name].focus()
        self._touched()

    def _reset_all(self) -> None:
        undo = self._editor.way_back()
        kept = [name for name in self._held if name in self._form.secrets]
        for name in [name for name in self._held if self._is_changed(name) and name not in kept]:
            del self._held[name]
        self._redraw()
        self._touched()
        words = " Secrets are kept; reset them one by one." if kept else ""
        toast.done(f"All as by default. It holds once you save.{words}", undo=undo)

    async def _save(self) -> None:
        if unread := self._fields.unread:
            self._refuse(unread)
            return
        before, sent = self._form.values, copy.deepcopy(self._held)
        pipeline_id = self._form.pipeline.id
        try:
            saved = await self._visit.backend.save_valve_form(
                pipeline_id, sent, self._visit.author, self._seen
            )
        except DefinitionError as error:
            self._refuse(list(error.problems))
            return
        except StoreError as error:
            if error.code != "stale_version":
                raise
            self._conflict(error)
            return
        names = [name for name, value in saved.values.items() if value != before.get(name)]
        self._visit.record("saved", "valves", pipeline_id, ", ".join(names))
        self._fields.show(self._fields.unread)
        changed = self._held != sent or bool(self._fields.half)
        self._settle(saved, lambda name: self._held.get(name, _NONE) == sent.get(name, _NONE))
        self._editor.saved(changed=changed)
        toast.done("Saved. It holds from the next request on.")

    def _settle(self, form: ValveForm, as_stored: Callable[[str], bool]) -> None:
        """Shows what holds now, and leaves alone what somebody is typing.

        Args:
            form: the valves as they are now.
            as_stored: of which names it is shown; the others stay as they are.
        """
        self._know(form)
        _say_changed(self._count, form.pipeline)
        if self._found.keys() != self._rows.keys():
            self._redraw(self._fields.half)  # the pipeline was loaded anew, and is another one
        entered = form.entered()
        for name, row in self._rows.items():
            if as_stored(name) and not self._fields.is_half(name):
                row.settle(self._found[name], entered)

    def _refuse(self, problems: list[Problem]) -> None:
        rest = self._fields.show(problems)
        if rest:
            self._editor.wrong(DefinitionError("Nothing was saved", problems=rest))
            return
        count = len({problem.field for problem in problems})
        values = "One value cannot be used" if count == 1 else f"{count} values cannot be used"
        self._editor.wrong(
            RequestError(f"{values}. Nothing was saved.", hint="The reason stands beside the field.")
        )

    def _conflict(self, error: StoreError) -> None:
        theirs = self._visit.backend.valve_form(self._form.pipeline.id)

        async def load_theirs() -> None:
            undo = self._editor.way_back()
            self._show(self._visit.backend.valve_form(theirs.pipeline.id))
            toast.done("These are the values that are saved.", undo=undo)

        async def keep_mine() -> None:
            draft = self._draft()
            self._settle(theirs, lambda name: name not in {*draft["changed"], *draft["reset"]})
            await self._save()

        self._editor.conflict(error, load_theirs=load_theirs, keep_mine=keep_mine)
        mine = drafts.over(theirs.entered(), self._draft(), self._found)
        secrets = theirs.secrets
        with self._editor.notices:
            ui.label("Save mine over it leaves what you did not change as theirs.").classes("am-soft")
            differences(
                drafts.readable(self._before, secrets),
                drafts.readable(self._shown(theirs), secrets),
                drafts.readable(self._visible({**theirs.defaults, **mine}), secrets),
                author="somebody",
                label="that holds now",
            )

    def _show(self, form: ValveForm) -> None:
        """Shows these values in place of what was typed."""
        self._know(form)
        self._held.clear()
        self._held.update(form.entered())
        _say_changed(self._count, form.pipeline)
        self._redraw()
        self._editor.saved()


def _say_changed(label: ui.label, info: PipelineInfo) -> None:
    label.text = f"{info.changed} changed"
    label.set_visibility(bool(info.changed))
