"""Strategies: which one a model gets and why, all of them, their files and templates."""

from __future__ import annotations

from collections.abc import Sequence

from nicegui import ui

from agent_mode.admin import previews
from agent_mode.admin import strategy_files as files
from agent_mode.admin.pages.components import words
from agent_mode.admin.pages.components.banner import banner, error_banner
from agent_mode.admin.pages.components.buttons import button, link
from agent_mode.admin.pages.components.listing import Choice, Column, Listing, Query
from agent_mode.admin.pages.components.shell import heading
from agent_mode.admin.pages.components.switch_preview import SwitchPreview
from agent_mode.admin.pages.page import page
from agent_mode.admin.pages.visit import Visit
from agent_mode.chat.scene import connection_for
from agent_mode.errors import ProviderError
from agent_mode.prompts.strategies import Strategy

_MODEL_CHARS = 200
_ROWS = 200
"""So many models of the connection are shown."""


@page("/strategies", title="Strategies", icon="alt_route", place=40)
async def strategies(visit: Visit, model: str = "") -> None:
    """The page."""
    heading("Strategies", "How a model is told that somebody else answers from now on: it differs by family.")
    _wrong_files(visit)
    _lookup(visit, model[:_MODEL_CHARS])
    with ui.tabs().props("align=left no-caps outside-arrows mobile-arrows") as tabs:
        parts = [
            ui.tab("Your models", icon="dns"),
            ui.tab("All strategies", icon="list"),
            ui.tab("Files and templates", icon="description"),
            ui.tab("Preview", icon="visibility"),
        ]
    with ui.tab_panels(tabs, value=parts[0]).classes("am-panels"):
        with ui.tab_panel(parts[0]):
            _models(visit)
        with ui.tab_panel(parts[1]):
            await _all(visit)
        with ui.tab_panel(parts[2]):
            _files(visit)
        with ui.tab_panel(parts[3]):
            await SwitchPreview(visit).show()


def _wrong_files(visit: Visit) -> None:
    for error in (*visit.runtime.strategies.errors().values(), *visit.runtime.templates.errors().values()):
        banner(error.message, f"{error.hint} What was last good is used until then.", tone="warning")
    for error in previews.missing_templates(visit.runtime.strategies.all(), visit.runtime.templates.names()):
        banner(error.message, error.hint, tone="warning")


def _lookup(visit: Visit, model: str) -> None:
    def show() -> None:
        out.clear()
        name = str(field.value or "").strip()
        if not name:
            return
        found = visit.runtime.strategies.select(name)
        with out:
            with ui.row().classes("am-inline"):
                ui.label(name).classes("am-strong")
                ui.label("gets")
                ui.label(found.strategy.id).classes("am-state am-state--blue")
                ui.label(found.matched_by).classes("am-soft")
            ui.label(previews.reason(found))
            if found.strategy.why:
                ui.label(found.strategy.why).classes("am-soft")
            with ui.element("dl").classes("am-facts"):
                for title, value in previews.told(found, visit.runtime.templates):
                    if value:
                        with ui.element("div"):
                            with ui.element("dt"):
                                ui.label(title)
                            with ui.element("dd"):
                                ui.label(value)
            with ui.row().classes("am-actions"):
                if found.strategy.provider != "built-in":
                    button("Its file", to=f"/strategies/files/{found.strategy.provider}", icon="edit")
                if found.strategy.template in visit.runtime.templates.names():
                    button("Its template", to=f"/strategies/templates/{found.strategy.template}", icon="edit")

    with ui.element("section").classes("am-card am-fields"):
        with ui.element("h2"):
            ui.label("Which one would a model get?")
        field = ui.input("Id of a model, such as openrouter/anthropic/claude-sonnet-4-5", value=model)
        field.props(f"outlined dense clearable debounce=200 maxlength={_MODEL_CHARS}").classes("am-field")
        field.on_value_change(show)
        out = ui.element("div").classes("am-fields")
        show()


def _models(visit: Visit) -> None:
    body = ui.element("div").classes("am-list")
    with body:
        ui.spinner()

    async def load() -> None:
        runtime = visit.runtime
        connection = connection_for(runtime, visit.backend.valves)
        try:
            offered = sorted(str(entry["id"]) for entry in await runtime.llm.models(connection))
        except ProviderError as error:
            body.clear()
            with body:
                error_banner(error)
            return
        body.clear()
        with body:
            _table(visit, offered)

    ui.timer(0, load, once=True)


def _table(visit: Visit, offered: list[str]) -> None:
    with ui.element("table").classes("am-table"):
        titles = ("Model", "Strategy", "Template", "Why")
        with ui.element("thead"), ui.element("tr"):
            for title in titles:
                with ui.element("th").props("scope=col"):
                    ui.label(title)
        with ui.element("tbody"):
            for name in offered[:_ROWS]:
                found = visit.runtime.strategies.select(name)
                texts = (name, found.strategy.id, found.strategy.template, previews.reason(found))
                with ui.element("tr"):
                    for title, text in zip(titles, texts, strict=True):
                        cell = ui.element("td")
                        cell._props["data-label"] = title
                        with cell:
                            ui.label(text).classes("am-strong" if title == "Model" else "")
    if len(offered) > _ROWS:
        rest = words.count(len(offered) - _ROWS)
        ui.label(f"And {rest} more; look them up above.").classes("am-soft")


async def _all(visit: Visit) -> None:
    every = visit.runtime.strategies.all()

    async def load(query: Query) -> tuple[Sequence[Strategy], int]:
        found = previews.fitting(visit.runtime.strategies.all(), query.q, query.chosen.get("provider"))
        return found[query.offset : query.offset + query.limit], len(found)

    await Listing(
        load,
        [
            Column("Model or pattern", lambda s: s.id),
            Column("Provider", lambda s: s.provider),
            Column("Template", lambda s: s.template),
            Column("Placement", lambda s: s.placement, minor=True),
            Column("Why", lambda s: s.why, minor=True),
        ],
        noun="strategy",
        plural="strategies",
        href=lambda s: f"/strategies/files/{s.provider}",
        filters=[
            Choice("provider", "Provider", {name: name for name in sorted({s.provider for s in every})})
        ],
    ).show()


def _files(visit: Visit) -> None:
    runtime = visit.runtime
    folder = runtime.settings.strategies_dir
    ui.label(f"They lie in {folder}. What is saved is used at once, without a restart.").classes("am-soft")
    found = files.states(runtime)
    with ui.element("div").classes("am-halves"):
        for kind, title in (("strategies", "Strategy files"), ("template", "Templates")):
            with ui.element("section").classes("am-card am-fields"):
                with ui.element("h2"):
                    ui.label(title)
                with ui.element("ul").classes("am-plain"):
                    for state in found:
                        if state.file.kind == kind:
                            _file(state)
                if kind == "template":
                    button("New template", to="/strategies/templates/new/template", icon="add")
                else:
                    button("New strategy file", to="/strategies/files/new/file", icon="add")


def _file(state: files.State) -> None:
    file = state.file
    place = "files" if file.kind == "strategies" else "templates"
    count = words.counted(state.strategies, "strategy", "strategies")
    text = count if file.kind == "strategies" else f"used by {count}"
    with ui.element("li").classes("am-inline am-actions"):
        link(file.filename, f"/strategies/{place}/{file.name}")
        ui.label(text).classes("am-soft")
        if state.error is not None:
            ui.label("broken").classes("am-state am-state--red")
