"""Valves: every pipeline of this server, ours and others', and a form for the valves of each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from nicegui import ui

from agent_mode.admin.pages.components import toast
from agent_mode.admin.pages.components.buttons import button, icon_button, link
from agent_mode.admin.pages.components.editor import editor_frame
from agent_mode.admin.pages.components.empty import empty
from agent_mode.admin.pages.components.listing import Choice, Column, Listing, Query
from agent_mode.admin.pages.components.schema_fields import Field, fields_of
from agent_mode.admin.pages.components.schema_form import Form
from agent_mode.admin.pages.components.shell import heading, url
from agent_mode.admin.pages.page import page
from agent_mode.admin.pages.visit import Visit
from agent_mode.admin.valves import PipelineInfo, ValveForm
from agent_mode.errors import DefinitionError, Problem, RequestError, StoreError

_KINDS = {"agent": "Agents", "pipe": "Pipes", "manifold": "Manifolds", "filter": "Filters"}
_BESIDE = 40
"""How many pipelines stand beside a form; all are in the list."""
_SHOWN = 60


@page("/valves", title="Valves", icon="tune", place=60)
async def valves(visit: Visit) -> None:
    """The list of pipelines."""
    heading("Valves", "What can be set of each pipeline on this server, ours and those of others.")

    async def load(query: Query) -> tuple[Sequence[PipelineInfo], int]:
        wanted, kind = query.q.lower(), query.chosen.get("kind")
        found = [
            info
            for info in visit.backend.pipelines()
            if (not kind or info.kind == kind) and (wanted in info.id.lower() or wanted in info.name.lower())
        ]
        return found[query.offset : query.offset + query.limit], len(found)

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
        self._take(form)

    def _take(self, form: ValveForm) -> None:
        self._form = form
        self._held = form.entered()

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
                button("Save", self._save, kind="main", icon="check")
            self._body = ui.element("div").classes("am-card am-valves")
        self._redraw()

    def _draw_beside(self) -> None:
        infos = self._visit.backend.pipelines()
        here = self._form.pipeline.id
        shown = infos[:_BESIDE]
        if here not in {info.id for info in shown}:
            shown = [*shown, *(info for info in infos if info.id == here)]
        self._beside.clear()
        with self._beside:
            for info in shown:
                with ui.element("a").classes("am-here" if info.id == here else "") as entry:
                    entry._props["href"] = url(f"/valves/{info.id}")
                    if info.id == here:
                        entry.props("aria-current=page")
                    ui.label(info.name)
                    if info.id != info.name:
                        ui.label(info.id).classes("am-code am-soft")
                    if info.changed:
                        ui.label(f"{info.changed} changed").classes("am-soft am-small")
            if len(infos) > len(shown):
                link(f"All {len(infos)} pipelines", "/valves")

    def _redraw(self) -> None:
        self._fields = Form(self._touched)
        self._rows: dict[str, _Row] = {}
        self._body.clear()
        with self._body:
            found = fields_of(self._form.schema)
            if not found:
                ui.label("This pipeline has no valves.").classes("am-soft")
            for field in found:
                self._rows[field.name] = _Row(self, field, ui.element("div").classes("am-valve"))
                self._rows[field.name].draw(self._fields)

    def _touched(self) -> None:
        self._editor.touched()
        for row in self._rows.values():
            row.mark()

    @property
    def held(self) -> dict[str, Any]:
        """What the form holds now; what is left out is as by default."""
        return self._held

    def is_changed(self, name: str) -> bool:
        """Whether the form holds something else than the default."""
        usual = self._form.defaults
        return name in usual and self._held.get(name, usual[name]) != usual[name]

    def reset(self, field: Field) -> None:
        """Makes one valve as by default; it holds once it is saved."""
        self._held.pop(field.name, None)
        self._fields.unread.pop(field.name, None)
        self._rows[field.name].draw(self._fields)
        self._touched()

    def _reset_all(self) -> None:
        kept = [name for name in self._held if name in self._form.secrets]
        for name in [name for name in self._held if self.is_changed(name) and name not in kept]:
            del self._held[name]
        self._redraw()
        self._touched()
        words = " Secrets are kept; reset them one by one." if kept else ""
        toast.done(f"All as by default. It holds once you save.{words}")

    async def _save(self) -> None:
        await self._write(self._form.mark)

    async def _write(self, seen: str | None) -> None:
        if self._fields.unread:
            self._refuse([Problem(name, reason) for name, reason in self._fields.unread.items()])
            return
        before = self._form.values
        pipeline_id = self._form.pipeline.id
        try:
            saved = await self._visit.backend.save_valve_form(
                pipeline_id, self._held, self._visit.author, seen
            )
        except DefinitionError as error:
            self._refuse(list(error.problems))
            return
        except StoreError as error:
            if error.code != "stale_version":
                raise
            self._editor.conflict(error, load_theirs=self._load, keep_mine=lambda: self._write(None))
            return
        names = [name for name, value in saved.values.items() if value != before.get(name)]
        self._visit.record("saved", "valves", pipeline_id, ", ".join(names))
        self._show(saved)
        toast.done("Saved. It holds from the next request on.")

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

    async def _load(self) -> None:
        form, held = self._form, self._held
        self._show(self._visit.backend.valve_form(form.pipeline.id))

        async def back() -> None:
            self._form, self._held = form, held
            self._redraw()
            self._editor.touched()

        toast.done("These are the values that are saved.", undo=back)

    def _show(self, form: ValveForm) -> None:
        self._take(form)
        self._draw_beside()
        self._redraw()
        self._editor.saved()


class _Row:
    """One valve: its field, its name, what is default, and the way back to it."""

    def __init__(self, page: _Page, field: Field, box: ui.element) -> None:
        self._page = page
        self.field = field
        self._box = box

    def draw(self, form: Form) -> None:
        self._box.clear()
        with self._box:
            form.field(self._page.held, self.field, self.field.name)
            with ui.element("div").classes("am-valve-foot"):
                ui.label(self.field.name).classes("am-code")
                ui.label(_default(self.field)).classes("am-soft am-cut")
                self._word = ui.label("changed").classes("am-state am-state--blue")
                self._button = icon_button(
                    "undo", f"Reset {self.field.label}", lambda: self._page.reset(self.field)
                )
        self.mark()

    def mark(self) -> None:
        """Says whether it is as by default."""
        changed = self._page.is_changed(self.field.name)
        self._word.set_visibility(changed)
        self._button.set_visibility(changed)


def _default(field: Field) -> str:
    if field.required:
        return "must be set"
    if field.secret:
        return "secret: never shown"
    if field.default is None or field.default == "":
        return "default: empty"
    if isinstance(field.default, bool):
        return f"default: {'on' if field.default else 'off'}"
    text = field.default if isinstance(field.default, str) else json.dumps(field.default, ensure_ascii=False)
    text = " ".join(text.split())
    return f"default: {text[:_SHOWN]}{'…' if len(text) > _SHOWN else ''}"
