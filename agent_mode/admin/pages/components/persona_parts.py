"""How personas are drawn: as cards, with what can be done with them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

from nicegui import ui

from agent_mode.admin import persona_files as files
from agent_mode.admin import personas as shared
from agent_mode.admin.pages.components import toast, words
from agent_mode.admin.pages.components.buttons import icon_button, link
from agent_mode.admin.pages.visit import Visit
from agent_mode.store import formats

Again = Callable[[], Awaitable[None]]


class Shown(Protocol):
    """What a card needs of a persona."""

    @property
    def key(self) -> str: ...
    @property
    def display_name(self) -> str: ...
    @property
    def description(self) -> str: ...
    @property
    def enabled(self) -> bool: ...
    @property
    def edited(self) -> bool: ...
    @property
    def origin(self) -> str: ...
    @property
    def tags(self) -> tuple[str, ...]: ...


def address(key: str) -> str:
    """The page of a persona."""
    return f"/personas/{key}/edit"


def card(visit: Visit, persona: Shown, again: Again) -> None:
    """A persona in the grid; `again` draws the grid anew."""
    with ui.element("div").classes("am-person-head"):
        link(persona.display_name, address(persona.key)).classes("am-person-name")
        ui.label(f"!{persona.key}").classes("am-code am-soft")
    ui.label(persona.description or "No description.").classes("am-person-text").classes(
        "" if persona.description else "am-soft"
    )
    with ui.element("div").classes("am-person-foot"):
        with ui.row().classes("am-inline"):
            words.state("enabled" if persona.enabled else "disabled")
            if whose := whose_is(persona):
                ui.label(whose).classes("am-state am-state--blue")
        with ui.row().classes("am-person-tools"):
            verb = "Disable" if persona.enabled else "Enable"
            icon = "toggle_on" if persona.enabled else "toggle_off"
            icon_button(icon, f"{verb} {persona.key}", lambda: turn(visit, persona, again))
            icon_button(
                "content_copy", f"Duplicate {persona.key}", lambda: duplicate(visit, persona.key, again)
            )
            if persona.origin == "custom":
                icon_button("delete", f"Delete {persona.key}", lambda: delete(visit, persona.key, again))


def whose_is(persona: Shown) -> str:
    """Where a persona comes from, unless it is shipped and untouched."""
    if persona.origin == "custom":
        return "your own"
    return "edited here" if persona.edited else ""


async def turn(visit: Visit, persona: Shown, again: Again) -> None:
    """Enables it if it is disabled, and the other way round."""
    key, enabled = persona.key, not persona.enabled

    async def change(value: bool) -> None:
        await shared.set_enabled(visit.runtime, key, value, visit.author)
        visit.record("enabled" if value else "disabled", "persona", key)
        await again()

    await change(enabled)
    done = f"{persona.display_name} is {'a model again' if enabled else 'no model any more'}."
    toast.done(done, undo=lambda: change(not enabled))


async def duplicate(visit: Visit, key: str, again: Again) -> None:
    """Makes a disabled copy."""
    made = await shared.copy(visit.runtime, key, visit.author)
    visit.record("created", "persona", made.key, f"copy of {key}")
    await again()

    async def undo() -> None:
        await shared.delete(visit.runtime, made.key)
        visit.record("deleted", "persona", made.key)
        await again()

    toast.done(f"Made {made.key}, still disabled.", undo=undo)


async def delete(visit: Visit, key: str, again: Again) -> None:
    """Deletes a persona of one's own, with a way back."""
    gone = await shared.delete(visit.runtime, key)
    visit.record("deleted", "persona", key)
    await again()

    async def undo() -> None:
        await shared.restore(visit.runtime, gone, visit.author)
        visit.record("restored", "persona", key)
        await again()

    toast.done(f"Deleted {gone.display_name}.", undo=undo)


def export_menu(
    visit: Visit,
    keys: Callable[[], Awaitable[list[str]]],
    text: str = "Export",
    ask: Callable[[], Awaitable[bool]] | None = None,
) -> None:
    """A button with the formats that can be written.

    Args:
        visit: whose.
        keys: of those to export.
        text: of the button.
        ask: asked first; what it denies is not done.
    """

    async def export(name: str, *_: object) -> None:
        if ask is not None and not await ask():
            return
        found = await files.chosen(visit.runtime.persona_store, await keys())
        made = await files.outgoing(found, name)
        ui.download(made.data, made.filename, made.media_type)
        toast.done(f"{words.count(len(found))} exported as {made.filename}.")

    button = ui.button(text, color=None).props('no-caps unelevated icon=download aria-haspopup="menu"')
    with button.classes("am-button am-button--plain"), ui.menu().props("auto-close"):
        for item in formats.FORMATS.values():
            if item.write is not None:
                ui.menu_item(item.title, on_click=partial(export, item.name))


def go_to(key: str) -> None:
    """Opens the page of a persona."""
    ui.navigate.to(address(key))
