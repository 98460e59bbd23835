"""What makes a function a page: address, place in the navigation, frame, readable errors.

    @page("/runs", title="Runs", icon="history", place=50)
    async def runs(visit: Visit, q: str = "") -> None:
        ui.label(f"{visit.author} looks for {q}")

Parameters after `visit` come from the address: `{name}` in the path, or the query.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from nicegui import ui

from agent_mode.admin.pages import visit as visits
from agent_mode.admin.pages.components import shell, toast
from agent_mode.admin.pages.components.banner import banner, error_banner
from agent_mode.admin.pages.visit import Visit
from agent_mode.errors import AgentModeError
from agent_mode.observe.logs import get_logger

log = get_logger(__name__)

BUILD_SECONDS = 30.0
"""How long a page may take to be built."""

Builder = Callable[..., Awaitable[None]]


def page(
    path: str, *, title: str, icon: str = "", place: int | None = None, wide: bool = False
) -> Callable[[Builder], Builder]:
    """Decorator: makes an async function a page below `/admin`.

    Args:
        path: such as `/agents/{agent_id}`.
        title: of the window, and in the navigation.
        icon: name of a Material icon, for the navigation.
        place: where it stands in the navigation; None: not there. A page below another one
            (`/agents/{agent_id}` below `/agents`) marks that one as the current.
        wide: whether it takes the whole width of the window.
    """

    def register(build: Builder) -> Builder:
        signature = inspect.signature(build, eval_str=True)
        parameters = list(signature.parameters.values())[1:]

        async def built(**given: Any) -> None:
            visit = visits.current()
            ui.on_exception(_show)
            with shell.frame(title, path, visit.person, wide=wide):
                try:
                    _warn(visit)
                    await build(visit, **given)
                except AgentModeError as error:
                    error_banner(error)

        built.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportFunctionMemberAccess]
        ui.page(path, title=f"{title} · Agent Mode", response_timeout=BUILD_SECONDS, language="en-US")(built)
        if place is not None:
            shell.add_place(shell.Place(path, title, icon, place))
        return build

    return register


def _warn(visit: Visit) -> None:
    """Says on every page that nothing is kept, where that is so."""
    if (reason := visit.runtime.without_store) is not None:
        banner(
            "Nothing can be saved and nothing is kept: the database cannot be used, and a temporary one "
            f"stands in for it. {reason.message}",
            f"{reason.hint} Then restart the server.".strip(),
            tone="error",
        )


def _show(error: Exception) -> None:
    """What an event's handler raises is told to whoever caused it."""
    if not isinstance(error, AgentModeError):
        log.error("a page failed", exc_info=error)
    toast.failed(error)
