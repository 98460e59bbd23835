"""One run: who called whom, what each step did, what it cost, how it ended."""

from __future__ import annotations

from nicegui import ui

from agent_mode.admin import runs as shared
from agent_mode.admin.pages.components import toast, words
from agent_mode.admin.pages.components.buttons import button
from agent_mode.admin.pages.components.editor import editor_frame
from agent_mode.admin.pages.components.run_parts import draw_facts, draw_timeline, draw_tree, tree
from agent_mode.admin.pages.page import page
from agent_mode.admin.pages.visit import Visit
from agent_mode.store.run_records import OPEN, RunRecord

LOOK_SECONDS = 1.0


@page("/runs/{run_id}", title="Run")
async def run(visit: Visit, run_id: str) -> None:
    """The run, which keeps itself up to date while it goes on."""
    record = await shared.known(visit.runtime, run_id)

    async def stop() -> None:
        top = (await shared.line(visit.runtime, record))[-1]
        stopped = await shared.stop(visit.runtime, top.id)
        visit.record("stopped", "run", top.id, top.agent)
        toast.done("Stopped." if stopped else "Another replica was told to stop it.")

    with editor_frame(f"Run of {record.agent}", back=("/runs", "Runs")) as editor:
        with editor.actions:
            stopper = button("Stop", stop, kind="danger", icon="stop")
            button("All runs of this agent", to=f"/runs?q={record.agent}")
        body = ui.element("div").classes("am-fields")
    shown: list[object] = []

    async def look() -> None:
        newest = await shared.known(visit.runtime, run_id)
        line = await shared.line(visit.runtime, newest)
        below = await shared.below(visit.runtime, line[-1])
        stopper.set_visibility(line[-1].state in OPEN)
        if shown == [newest, below]:
            return
        shown[:] = [newest, below]
        body.clear()
        with body:
            _draw(newest, line[-1], below)

    await look()
    if record.state in OPEN:
        ui.timer(LOOK_SECONDS, look, immediate=False)


def _draw(record: RunRecord, top: RunRecord, below: list[RunRecord]) -> None:
    with ui.element("section").classes("am-card"):
        draw_facts(record)
    if below:
        with ui.element("section").classes("am-card"):
            with ui.element("h2"):
                ui.label("Who called whom")
            draw_tree(tree(top, below), record.id)
    with ui.element("section").classes("am-card"):
        with ui.element("h2"):
            ui.label("Step by step")
        draw_timeline(record)
    if record.trace:
        with ui.element("details").classes("am-card"):
            with ui.element("summary"):
                ui.label("The whole trace")
            words.code(record.trace)
