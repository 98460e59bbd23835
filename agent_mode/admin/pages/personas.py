"""Personas: all of them as cards, by category."""

from __future__ import annotations

from collections.abc import Sequence

from nicegui import ui

from agent_mode.admin import personas as shared
from agent_mode.admin.pages.components.buttons import button
from agent_mode.admin.pages.components.cards import Cards
from agent_mode.admin.pages.components.empty import empty
from agent_mode.admin.pages.components.listing import Choice, Query
from agent_mode.admin.pages.components.persona_parts import card, export_menu
from agent_mode.admin.pages.components.shell import heading
from agent_mode.admin.pages.page import page
from agent_mode.admin.pages.visit import Visit
from agent_mode.store.personas import PersonaHead

_STATES = {"enabled": "Enabled", "disabled": "Disabled"}
_WHOSE = {"custom": "Your own", "edited": "Shipped, edited here", "shipped": "Shipped"}


@page("/personas", title="Personas", icon="theater_comedy", place=30)
async def personas(visit: Visit) -> None:
    """The grid."""
    counted = await shared.categories(visit.runtime)
    with ui.element("div").classes("am-editor-head"):
        heading("Personas", "Who a model can be. Each enabled one is a model, and a command such as !coder.")
        with ui.row().classes("am-actions"):
            button("New persona", kind="main", icon="add", to="/personas/new")
            button("Import", icon="upload", to="/personas/import")
            listing: Cards[PersonaHead]
            export_menu(visit, lambda: _found(visit, listing.query))
            button("Backups", icon="inventory_2", to="/personas/backups")

    async def load(query: Query) -> tuple[Sequence[PersonaHead], int]:
        return await shared.page(visit.runtime, _wanted(query), query.offset, query.limit)

    listing = Cards(
        load,
        lambda persona: card(visit, persona, listing.refresh),
        lambda persona: persona.category,
        noun="persona",
        search="Search key, name or description",
        filters=[
            Choice("category", "Category", {name: f"{name} ({count})" for name, count in counted.items()}),
            Choice("state", "State", _STATES),
            Choice("whose", "Whose", _WHOSE),
        ],
        empty=lambda: empty(
            "No personas yet",
            "Make the first one, or import a file: ours, cards, Open WebUI models, Markdown or CSV.",
            lambda: button("New persona", kind="main", to="/personas/new"),
            icon="theater_comedy",
        ),
    )
    await listing.show()


def _wanted(query: Query) -> shared.Filter:
    chosen = query.chosen
    whose = chosen.get("whose")
    return shared.Filter(
        text=query.q,
        category=chosen.get("category"),
        enabled={"enabled": True, "disabled": False}.get(chosen.get("state", "")),
        origin={"custom": "custom", "edited": "shipped", "shipped": "shipped"}.get(whose or ""),
        edited=True if whose == "edited" else None,
    )


async def _found(visit: Visit, query: Query) -> list[str]:
    found, _ = await shared.page(visit.runtime, _wanted(query), 0, 1_000_000)
    return [persona.key for persona in found]
