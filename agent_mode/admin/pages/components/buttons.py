"""Buttons and links in three kinds: the main thing to do, another thing, a thing that takes away."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from nicegui import helpers, ui
from nicegui.events import ClickEventArguments

from agent_mode.admin.pages.components.shell import url

Kind = Literal["main", "plain", "danger"]


def button(
    text: str,
    on_click: Callable[..., Awaitable[Any] | Any] | None = None,
    *,
    kind: Kind = "plain",
    icon: str = "",
    to: str | None = None,
) -> ui.button:
    """A button.

    Args:
        text: what it does, as a verb.
        on_click: sync or async; an AgentModeError that it raises becomes a toast with its cure.
        kind: `main` once on a page; `danger` for what takes away.
        icon: name of a Material icon.
        to: a page to go to in place of `on_click`, such as `/agents/new`.
    """
    made = ui.button(text, on_click=_lasting(on_click), color=None).props("no-caps unelevated")
    if to is not None:
        made.on_click(lambda: ui.navigate.to(to))
    if icon:
        made.props(f"icon={icon}")
    return made.classes(f"am-button am-button--{kind}")


def icon_button(icon: str, label: str, on_click: Callable[..., Awaitable[Any] | Any]) -> ui.button:
    """A button that shows an icon alone; `label` is what it does, for tooltip and screen readers."""
    made = ui.button(on_click=_lasting(on_click), color=None).props(f"flat round dense icon={icon}")
    made._props["aria-label"] = label
    with made:
        ui.tooltip(label)
    return made.classes("am-icon-button")


def link(text: str, to: str) -> ui.element:
    """A link to a page of ours, such as `/runs?agent=writer`."""
    made = ui.element("a").classes("am-link")
    made._props["href"] = url(to)
    with made:
        ui.label(text)
    return made


def _lasting(on_click: Callable[..., Awaitable[Any] | Any] | None) -> Callable[..., Awaitable[None]] | None:
    """The handler, which may take away its own button, and go on: what it draws has a place all the same."""
    if on_click is None:
        return None
    layout = ui.context.client.layout
    expected = helpers.expects_arguments(on_click)

    async def run(event: ClickEventArguments) -> None:
        with layout:
            result = on_click(event) if expected else on_click()
            if inspect.isawaitable(result):
                await result

    return run
