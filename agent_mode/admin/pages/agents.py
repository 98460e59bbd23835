"""Agents: find one, make one, copy, switch off, delete."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from nicegui import ui

from agent_mode.admin import agents as shared
from agent_mode.admin.agent_templates import templates
from agent_mode.admin.pages.components import toast, words
from agent_mode.admin.pages.components.buttons import button, icon_button, link
from agent_mode.admin.pages.components.empty import empty
from agent_mode.admin.pages.components.listing import Choice, Column, Listing, Query
from agent_mode.admin.pages.components.shell import heading, url
from agent_mode.admin.pages.page import page
from agent_mode.admin.pages.visit import Visit
from agent_mode.admin.valves import PipelineInfo
from agent_mode.agents.types import all_types
from agent_mode.store.agents import Agent
from agent_mode.store.run_records import AgentFigures

_ERROR_HOURS = 24
_FILES = 50
"""So many agents of files are named below the list."""
_STATES = {"on": "Enabled", "off": "Disabled"}


@dataclass(frozen=True, slots=True)
class _Row:
    agent: Agent
    figures: AgentFigures | None
    usable: bool


@page("/agents", title="Agents", icon="smart_toy", place=20)
async def agents(visit: Visit) -> None:
    """The list."""
    kinds = {name: kind.title for name, kind in sorted(all_types().items())}
    with ui.element("div").classes("am-editor-head"):
        heading("Agents", "Each enabled agent is a model in Open WebUI.")
        with ui.row().classes("am-actions"):
            button("New agent", kind="main", icon="add", to="/agents/new")

    async def load(query: Query) -> tuple[Sequence[_Row], int]:
        chosen = query.chosen
        enabled = {"on": True, "off": False}.get(chosen.get("state", ""))
        runtime = visit.runtime
        found, total = await runtime.agent_store.page(
            query.offset, query.limit, chosen.get("type"), enabled, None, query.q or None
        )
        since = datetime.now(UTC) - timedelta(hours=_ERROR_HOURS)
        figures = await runtime.run_store.figures([agent.id for agent in found], since)
        return [
            _Row(
                agent,
                figures.get(agent.id),
                not agent.enabled or visit.backend.is_offered(agent.id),
            )
            for agent in found
        ], total

    hands = _Hands(visit)
    listing = Listing(
        load,
        [
            Column("Agent", _draw_name),
            Column("Type", lambda row: kinds.get(row.agent.agent_type, row.agent.agent_type)),
            Column("Model", lambda row: model_of(row.agent)),
            Column("State", _draw_state),
            Column("Last run", lambda row: words.moment(row.figures.last) if row.figures else ""),
            Column("Errors in a day", _draw_errors, "number"),
            Column("Actions", hands.draw, "actions"),
        ],
        noun="agent",
        href=lambda row: f"/agents/{row.agent.id}",
        search="Search name, id or description",
        filters=[Choice("type", "Type", kinds), Choice("state", "State", _STATES)],
        empty=lambda: empty(
            "No agents yet",
            "Begin with a template: name it, try it, save it. It is a model in Open WebUI at once.",
            lambda: button("Make the first one", icon="add", to="/agents/new"),
            icon="smart_toy",
        ),
    )
    hands.refresh = listing.refresh
    await listing.show()
    pipes, _ = visit.backend.pipelines(0, _FILES, kind="pipe")
    _draw_files([info for info in pipes if info.own])


def _draw_files(found: Sequence[PipelineInfo]) -> None:
    """The agents that are pipeline files: not in the store, and models in Open WebUI all the same."""
    if not found:
        return
    with ui.element("div").classes("am-inline am-actions"):
        ui.label("Agents from files, to be set under Valves:").classes("am-soft")
        for info in found:
            link(info.name, f"/valves/{info.id}")


@page("/agents/new", title="New agent")
async def begin(visit: Visit) -> None:
    """The templates."""
    heading("New agent", "Choose what it begins with. All of it can be changed afterwards.")
    with ui.element("div").classes("am-grid"):
        for template in templates(allow_code=visit.runtime.settings.allow_custom_python):
            with ui.element("a").classes("am-card am-choice-card") as card:
                card._props["href"] = url(f"/agents/new/{template.key}")
                ui.icon(template.icon).props("aria-hidden=true")
                with ui.element("h2"):
                    ui.label(template.title)
                ui.label(template.text).classes("am-soft")
    if not visit.runtime.settings.allow_custom_python:
        ui.label(
            "Agents with Python code of their own are switched off. Set AGENT_MODE_ALLOW_CUSTOM_PYTHON=true "
            "and restart, if whoever has the connection key may run code here."
        ).classes("am-soft")


class _Hands:
    """What can be done with an agent of the list.

    Args:
        visit: who does it.

    Attributes:
        refresh: shows what became of it.
    """

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self.refresh: Callable[[], Awaitable[None]]

    def draw(self, row: _Row) -> None:
        agent = row.agent
        icon, verb = ("toggle_on", "Disable") if agent.enabled else ("toggle_off", "Enable")
        icon_button(icon, f"{verb} {agent.name}", lambda: self._switch(agent, not agent.enabled))
        icon_button("content_copy", f"Duplicate {agent.name}", lambda: self._duplicate(agent))
        icon_button("delete", f"Delete {agent.name}", lambda: self._delete(agent))

    async def _switch(self, agent: Agent, enabled: bool) -> None:
        word = "enabled" if enabled else "disabled"
        await shared.patch(self._visit.backend, agent.id, {"enabled": enabled}, self._visit.author)
        self._visit.record(word, "agent", agent.id)
        await self.refresh()
        toast.done(f"{word.capitalize()} {agent.name}.", undo=lambda: self._switch(agent, not enabled))

    async def _duplicate(self, agent: Agent) -> None:
        made = await shared.copy(self._visit.backend, agent.id, self._visit.author)
        self._visit.record("created", "agent", made.id, f"copy of {agent.id}")
        ui.navigate.to(f"/agents/{made.id}")

    async def _delete(self, agent: Agent) -> None:
        await shared.delete(self._visit.backend, agent.id, self._visit.author)
        self._visit.record("deleted", "agent", agent.id)
        await self.refresh()

        async def back() -> None:
            await shared.restore(self._visit.backend, agent.id, self._visit.author)
            self._visit.record("restored", "agent", agent.id)
            await self.refresh()

        toast.done(f"Deleted {agent.name}.", undo=back)


def _draw_name(row: _Row) -> None:
    ui.label(row.agent.name).classes("am-strong")
    ui.label(row.agent.id).classes("am-code am-soft")


def _draw_state(row: _Row) -> None:
    if row.usable:
        words.state("enabled" if row.agent.enabled else "disabled")
    else:
        words.state("failed").text = "not usable"


def _draw_errors(row: _Row) -> str | object:
    failed = row.figures.failed if row.figures else 0
    address = f"/runs?q={row.agent.id}&state=failed&since={_ERROR_HOURS}"
    return link(words.count(failed), address) if failed else ""


def model_of(agent: Agent) -> str:
    """The model that an agent names; empty: as the server's settings say."""
    named = agent.definition.get("model") or agent.valves.get("llm_model")
    return named if isinstance(named, str) else ""
