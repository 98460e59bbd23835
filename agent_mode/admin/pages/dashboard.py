"""Dashboard: how the switches go, what runs, what went wrong last."""

from __future__ import annotations

from datetime import UTC, datetime

from nicegui import ui

from agent_mode.admin.pages.components import charts, words
from agent_mode.admin.pages.components.buttons import link
from agent_mode.admin.pages.components.empty import empty
from agent_mode.admin.pages.components.shell import heading
from agent_mode.admin.pages.page import page
from agent_mode.admin.pages.visit import Visit
from agent_mode.observe.metrics import Mishap, metrics
from agent_mode.store.run_records import RunRecord

LOOK_SECONDS = 3.0
_HOURS = 24
_LAST = 6


@page("/", title="Dashboard", icon="space_dashboard", place=10)
async def dashboard(visit: Visit) -> None:
    """The first page."""
    heading("Dashboard", f"Figures of this process since {words.exact(metrics.since)}.")
    tiles = ui.element("div").classes("am-tiles")
    body = ui.element("div").classes("am-halves")
    shown: list[object] = []

    async def look() -> None:
        failed, _ = await visit.runtime.run_store.page(0, _LAST, state="failed")
        active = visit.runtime.runs.active
        state = [metrics.turns.total, metrics.switches.total, active, failed, datetime.now(UTC).minute]
        if state == shown:
            return
        shown[:] = state
        tiles.clear()
        body.clear()
        with tiles:
            _tiles(visit, active)
        with body:
            _figures()
            _went_wrong(list(metrics.mishaps)[::-1][:_LAST], failed)

    await look()
    ui.timer(LOOK_SECONDS, look, immediate=False)


def _tiles(visit: Visit, active: int) -> None:
    hours = metrics.hours(_HOURS)
    rate = metrics.success_rate
    p50, p95, p99 = metrics.quantiles(0.5, 0.95, 0.99)
    runtime = visit.runtime
    _tile("Active runs", words.count(active), "chats and agents at work now", "/runs?state=running")
    _tile(
        "Switches", words.count(hours[-1].switches), f"this hour; {sum(h.switches for h in hours)} in a day"
    )
    _tile("Switch latency", _ms(p50), f"median; p95 {_ms(p95)}, p99 {_ms(p99)}")
    _tile(
        "Success rate",
        "–" if rate is None else f"{rate:.1%}",
        f"of {words.counted(metrics.turns.total, 'turn')} in chats and over the API; "
        f"{metrics.turns.by().get('failed', 0)} failed",
    )
    _tile("Personas", words.count(len(runtime.personas.all())), "in the catalogue")
    _tile("Agents", words.count(len(runtime.agents.all())), "in the store")


def _tile(title: str, value: str, note: str, to: str = "") -> None:
    with ui.element("div").classes("am-card am-tile"):
        if to:
            link(title, to)
        else:
            ui.label(title).classes("am-soft")
        ui.label(value).classes("am-figure")
        ui.label(note).classes("am-soft")


def _figures() -> None:
    hours = metrics.hours(_HOURS)
    names = [f"{hour.begins % 24:02d}:00" for hour in hours]
    with _section("Turns and switches in each hour (UTC)", wide=True):
        charts.columns(
            "Turns, switches and failures in each of the last 24 hours",
            names,
            {
                "Turns": ([hour.turns for hour in hours], charts.GREY),
                "Switches": ([hour.switches for hour in hours], charts.BLUE),
                "Failed": ([hour.failed for hour in hours], charts.RED),
            },
        )
    with _section("Strategies of the switches"):
        if metrics.switches.total:
            charts.bars("Switches by strategy", dict(list(metrics.switches.by().items())[:10]))
        else:
            empty("No switch yet", "Call another persona in a chat, such as !writer.", icon="swap_horiz")
    with _section("What kinds of errors"):
        if metrics.errors.total:
            charts.bars("Failures by code", dict(list(metrics.errors.by().items())[:10]), charts.RED)
        else:
            empty("No error", "Nothing has failed since the start.", icon="check_circle")


def _went_wrong(mishaps: list[Mishap], failed: list[RunRecord]) -> None:
    with _section("What went wrong last", wide=True):
        known = {mishap.run_id for mishap in mishaps}
        older = [record for record in failed if record.id not in known]
        if not mishaps and not older:
            ui.label("Nothing. Errors of turns and runs will stand here, each with its cure.").classes(
                "am-soft"
            )
        with ui.element("ul").classes("am-mishaps"):
            for mishap in mishaps:
                _mishap(mishap.where, mishap.at, mishap.message, mishap.hint, mishap.code, mishap.run_id)
            for record in older[: max(0, _LAST - len(mishaps))]:
                error = record.error or {}
                hint = str(error.get("hint") or "")
                message = str(error.get("message") or "")
                _mishap(record.agent, record.started_at, message, hint, str(error.get("code")), record.id)


def _mishap(where: str, at: datetime, message: str, hint: str, code: str, run_id: str | None) -> None:
    with ui.element("li"):
        with ui.element("div").classes("am-inline am-actions"):
            ui.label(where).classes("am-strong")
            words.moment(at).classes("am-soft")
            ui.label(code).classes("am-code am-soft")
            if run_id:
                link("The run", f"/runs/{run_id}")
        ui.label(message)
        ui.label(hint).classes("am-soft")


def _section(title: str, *, wide: bool = False) -> ui.element:
    section = ui.element("section").classes("am-card am-whole" if wide else "am-card")
    with section, ui.element("h2"):
        ui.label(title)
    return section


def _ms(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    return f"{seconds * 1000:.1f} ms" if seconds < 0.1 else f"{seconds * 1000:.0f} ms"
