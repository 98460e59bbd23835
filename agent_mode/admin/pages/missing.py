"""What stands where there is no page: our own frame, so that the way back is there."""

from __future__ import annotations

from fastapi import Request, Response
from nicegui import Client, ui
from nicegui import app as nicegui_app

from agent_mode.admin.pages import visit as visits
from agent_mode.admin.pages.components import shell
from agent_mode.admin.pages.components.buttons import button
from agent_mode.admin.pages.components.empty import empty

_TITLE = "Not found"


def install() -> None:
    """Takes the place of NiceGUI's own page, which has no language, no heading and no way back."""
    plain = nicegui_app.exception_handlers[404]

    async def missing(request: Request, error: Exception) -> Response:
        if request.scope.get("endpoint") not in (None, nicegui_app):
            return await plain(request, error)  # pyright: ignore[reportGeneralTypeIssues]  a script or picture
        blank = ui.page("", title=f"{_TITLE} · Agent Mode", language="en-US")
        with Client(blank, request=request) as client, shell.frame(_TITLE, "", visits.current().person):
            shell.heading(_TITLE)
            empty(
                "There is no page at this address",
                "It may have been renamed. All pages are in the navigation.",
                lambda: button("To the dashboard", to="/"),
                icon="search_off",
            )
        return client.build_response(request, 404)

    nicegui_app.exception_handler(404)(missing)
