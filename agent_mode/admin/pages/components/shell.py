"""The frame around every page: navigation, who is signed in, the way out, light or dark."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from nicegui import ui

from agent_mode.admin.gate.gate import PREFIX, SIGN_OUT
from agent_mode.admin.gate.tickets import Person

THEME_COOKIE = "agent_mode_theme"
_THEMES: dict[str, tuple[bool | None, str, str, str]] = {
    "auto": (None, "light", "contrast", "Colours follow the system. Change to light"),
    "light": (False, "dark", "light_mode", "Light colours. Change to dark"),
    "dark": (True, "auto", "dark_mode", "Dark colours. Change to those of the system"),
}


@dataclass(frozen=True, slots=True)
class Place:
    """A page in the navigation."""

    path: str
    title: str
    icon: str
    order: int


_places: dict[str, Place] = {}


def add_place(place: Place) -> None:
    """Puts a page into the navigation."""
    _places[place.path] = place


def url(path: str) -> str:
    """The address of a page: `/runs` is at `/admin/runs`."""
    return f"{PREFIX}{path}"


@contextmanager
def frame(title: str, path: str, person: Person, *, wide: bool = False) -> Iterator[None]:
    """The page's content goes inside."""
    slot = ui.context.client.content.parent_slot
    if slot is not None:
        slot.parent.props("role=none")  # Quasar's own <main> holds the navigation too
    with _tag("a", "am-skip", href="#main"):
        ui.label("Skip to the content")
    with ui.element("div").classes("am-shell"):
        with _tag("header", "am-side"):
            _brand()
            _navigation(path)
            _visitor(person)
        with _tag("main", "am-main am-wide" if wide else "am-main", id="main", tabindex="-1"):
            yield


def heading(title: str, note: str = "") -> None:
    """The page's heading with a line below it."""
    with ui.element("div").classes("am-heading"):
        with ui.element("h1"):
            ui.label(title)
        if note:
            ui.label(note).classes("am-soft")


def _brand() -> None:
    with _tag("a", "am-brand", href=url("/")):
        ui.label("Agent Mode")


def _navigation(path: str) -> None:
    current = max(
        (p for p in _places if path == p or path.startswith(f"{p.rstrip('/')}/")), key=len, default=""
    )
    with _tag("nav", "am-nav", **{"aria-label": "Pages"}):
        for place in sorted(_places.values(), key=lambda place: place.order):
            here = place.path == current
            with _tag("a", "am-here" if here else "", href=url(place.path)) as link:
                if here:
                    link.props("aria-current=page")
                ui.icon(place.icon).props("aria-hidden=true")
                ui.label(place.title)


def _visitor(person: Person) -> None:
    with ui.element("div").classes("am-visitor"):
        _theme()
        with _tag("form", "", method="post", action=SIGN_OUT), _tag("button", "am-signout", type="submit"):
            ui.icon("logout").props("aria-hidden=true")
            ui.label("Sign out")
        ui.label(person.name).classes("am-soft am-cut")


def _theme() -> None:
    chosen = ui.context.client.request.cookies.get(THEME_COOKIE, "auto")
    value, _, icon, words = _THEMES.get(chosen, _THEMES["auto"])
    dark = ui.dark_mode(value)
    state = {"theme": chosen if chosen in _THEMES else "auto"}

    def change() -> None:
        state["theme"] = _THEMES[state["theme"]][1]
        dark.value, _, icon, words = _THEMES[state["theme"]]
        button.props(f'icon={icon} aria-label="{words}"')
        tip.text = words
        cookie = f"{THEME_COOKIE}={state['theme']}; path={PREFIX}; max-age=31536000; samesite=strict"
        ui.run_javascript(f"document.cookie = '{cookie}'")

    button = ui.button(on_click=change, color=None).props(
        f'flat round dense icon={icon} aria-label="{words}"'
    )
    button.classes("am-theme")
    with button:
        tip = ui.tooltip(words)


def _tag(
    name: Literal["a", "header", "nav", "main", "form", "button"], classes: str = "", **attributes: str
) -> ui.element:
    element = ui.element(name).classes(classes)
    element._props.update(attributes)
    return element
