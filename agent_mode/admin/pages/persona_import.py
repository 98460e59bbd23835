"""Import personas: drop a file, see what would happen to each entry, then do it."""

from __future__ import annotations

from nicegui import events, ui

from agent_mode.admin import persona_files as files
from agent_mode.admin.pages.components import toast, words
from agent_mode.admin.pages.components.banner import banner, error_banner
from agent_mode.admin.pages.components.buttons import button, link
from agent_mode.admin.pages.components.editor import editor_frame
from agent_mode.admin.pages.components.persona_parts import address
from agent_mode.admin.pages.components.progress import progress
from agent_mode.admin.pages.page import page
from agent_mode.admin.pages.visit import Visit
from agent_mode.errors import CatalogueError
from agent_mode.store import formats
from agent_mode.store.imports import ImportReport, ImportStep, Outcome, apply_import, in_words

_TONES: dict[Outcome, str] = {"created": "green", "updated": "blue", "unchanged": "grey", "refused": "red"}
_SHOWN = 500
"""So many entries are listed; all count."""
_NOTE = "Ours, character cards (JSON, PNG), Open WebUI models and prompts, Agent Hotswap, Markdown, CSV."


@page("/personas/import", title="Import personas")
async def persona_import(visit: Visit) -> None:
    """The file, the plan, the deed."""
    await _Import(visit).show()


class _Import:
    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._file: tuple[bytes, str] | None = None
        self._found: files.Incoming | None = None

    async def show(self) -> None:
        with editor_frame("Import personas", back=("/personas", "Personas"), note=_NOTE) as editor:
            self._upload = (
                ui.upload(
                    label="Drop a file here",
                    auto_upload=True,
                    max_file_size=formats.SIZE_LIMIT,
                    on_upload=self._taken,
                    on_rejected=self._rejected,
                )
                # A preview would be a picture at a blob: address, which our policy does not let in.
                .props('flat bordered no-thumbnails accept=".json,.png,.md,.markdown,.csv"')
                .classes("am-upload")
            )
            with editor.actions:
                button("Choose a file", lambda: self._upload.run_method("pickFiles"), icon="attach_file")
            self._overwrite = ui.switch("Also replace what was written or edited here", on_change=self._plan)
            self._out = ui.element("div").classes("am-fields")

    async def _taken(self, event: events.UploadEventArguments) -> None:
        self._file = (await event.file.read(), event.file.name)
        self._upload.reset()
        await self._plan()

    def _rejected(self) -> None:
        size = formats.SIZE_LIMIT // 1024**2
        self._out.clear()
        with self._out:
            banner(
                "This file was not taken.", f"At most {size} MiB of JSON, PNG, Markdown or CSV.", tone="error"
            )

    async def _plan(self, _: object = None) -> None:
        if self._file is None:
            return
        data, name = self._file
        self._found = None
        self._out.clear()
        try:
            with progress(f"Reading {name[:80]} …"):
                self._found = await files.incoming(
                    self._visit.runtime.persona_store, data, name, overwrite=bool(self._overwrite.value)
                )
        except CatalogueError as error:
            with self._out:
                error_banner(error)
            return
        with self._out:
            self._draw_plan(self._found)

    def _draw_plan(self, found: files.Incoming) -> None:
        plan, todo = found.plan, found.plan.count("created") + found.plan.count("updated")
        banner(
            f"{found.filename}: {found.format}, {words.counted(len(plan.steps), 'entry', 'entries')}.",
            "Nothing was changed yet." if todo else "There is nothing to do.",
        )
        refused = self._visit.runtime.settings.override_phrases == "refuse" and bool(found.flagged)
        for key, phrases in list(found.flagged.items())[:20]:
            hint = "Reword it, or set AGENT_MODE_OVERRIDE_PHRASES=warn." if refused else "Read it first."
            text = f"{key} carries override phrases: {', '.join(phrases)}."
            banner(text, hint, tone="error" if refused else "warning")
        with ui.row().classes("am-actions"):
            _counts(plan, planned=True)
            if todo and not refused:
                button(f"Import {words.count(todo)}", self._apply, kind="main", icon="check")
        _table(plan.steps, planned=True)

    async def _apply(self) -> None:
        found, visit = self._found, self._visit
        if found is None:
            return
        self._found = None  # a second click does nothing
        found.refuse_flagged(visit.runtime.settings.override_phrases)
        with progress("Importing …"):
            store = visit.runtime.persona_store
            message = f"imported from {found.filename}"
            report = await apply_import(store, found.plan, visit.author, message=message)
            await visit.runtime.personas.refresh(store)
        done = report.count("created") + report.count("updated")
        visit.record("imported", "persona", found.filename[:200], words.counted(done, "persona"))
        self._file = None
        self._out.clear()
        with self._out:
            banner(
                f"{words.counted(done, 'persona')} imported.",
                "Enabled ones are models and commands now.",
                tone="good",
            )
            with ui.row().classes("am-actions"):
                _counts(report, planned=False)
                button("To the personas", to="/personas")
            _table(report.steps, planned=False)
        toast.done(f"{words.counted(done, 'persona')} imported.")


def _counts(plan: files.ImportPlan | ImportReport, *, planned: bool) -> None:
    for outcome, tone in _TONES.items():
        count = plan.count(outcome)
        if count:
            ui.label(f"{words.count(count)} {in_words(outcome, planned=planned)}").classes(
                f"am-state am-state--{tone}"
            )


def _table(steps: tuple[ImportStep, ...], *, planned: bool) -> None:
    order = ("refused", "updated", "created", "unchanged")
    ordered = sorted(steps, key=lambda step: order.index(step.outcome))
    with ui.element("table").classes("am-table"):
        with ui.element("thead"), ui.element("tr"):
            for title in ("In the file", "Key", "What happens", "Why"):
                with ui.element("th").props("scope=col"):
                    ui.label(title)
        with ui.element("tbody"):
            for step in ordered[:_SHOWN]:
                with ui.element("tr"):
                    _cell("In the file", step.name_in_file)
                    with _cell("Key"):
                        if step.key and step.outcome in ("updated", "unchanged"):
                            link(step.key, address(step.key)).classes("am-whole-word")
                        elif step.key:
                            ui.label(step.key).classes("am-whole-word")
                    with _cell("What happens"):
                        ui.label(in_words(step.outcome, planned=planned)).classes(
                            f"am-state am-state--{_TONES[step.outcome]}"
                        )
                    _cell("Why", _why(step))
    if len(ordered) > _SHOWN:
        ui.label(f"And {words.count(len(ordered) - _SHOWN)} more.").classes("am-soft")


def _why(step: ImportStep) -> str:
    """The reason, with the field before it where it does not begin with that itself."""
    reason = step.reason or ""
    named = step.field is None or reason.startswith(f"{step.field}:")
    return reason if named else f"{step.field}: {reason}"


def _cell(title: str, text: str = "") -> ui.element:
    cell = ui.element("td")
    cell._props["data-label"] = title
    if text:
        with cell:
            ui.label(text)
    return cell
