"""The REST API as an ASGI app of its own. Whoever mounts it has asked for the connection key before."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fastapi import FastAPI, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException

from agent_mode.admin.api import agent_types, agents, credentials, personas, running, runs, shapes, strategies
from agent_mode.admin.api.errors import FormError, error_json
from agent_mode.admin.backend import Backend
from agent_mode.complaints import complaints
from agent_mode.errors import AgentModeError, Problem, RequestError
from agent_mode.observe.logs import get_logger

log = get_logger(__name__)

PREFIX = "/api/v1"
_COLLECTIONS = frozenset(
    f"{PREFIX}/{name}" for name in ("agents", "personas", "runs", "agent-types", "strategies")
)

App = Callable[..., Awaitable[None]]


def make_app(backend: Backend, version: str) -> App:
    """The API of a running server.

    Its documentation is a document alone (`/api/v1/openapi.json`): a page that shows it would load its parts
    from elsewhere, and a browser could not send it the key.
    """
    errors = {status: {"model": shapes.Error} for status in ("4XX", "5XX")}
    app = FastAPI(
        title="Agent Mode",
        version=version,
        description="Agents, personas, strategies and runs. Every error is `{code, message, field, hint}`.",
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=errors,  # pyright: ignore[reportArgumentType]  FastAPI takes ranges of statuses too
        # For the document alone: the layer has asked for the key.
        dependencies=[Security(HTTPBearer(auto_error=False, description="The connection key"))],
    )
    app.state.backend = backend
    for router in (
        running.router,
        agents.router,
        agent_types.router,
        personas.router,
        runs.router,
        strategies.router,
    ):
        app.include_router(router)
    app.include_router(credentials.router)
    app.add_exception_handler(AgentModeError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    return _Safe(app)


class _Safe:
    """Accepts addresses with and without the last slash, and leaves no failure without a readable answer."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"].rstrip("/")
        path = f"{path}/" if path in _COLLECTIONS else path
        begun = False

        async def watched(message: MutableMapping[str, Any]) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app({**scope, "path": path, "raw_path": path.encode()}, receive, watched)
        except Exception:
            log.exception("the API failed", path=path, method=scope.get("method"))
            if begun:
                raise
            body = json.dumps(error_json(_internal())).encode()
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": 500, "headers": headers})
            await send({"type": "http.response.body", "body": body})


def _answer(error: AgentModeError, headers: Any = None) -> JSONResponse:
    return JSONResponse(error_json(error), status_code=error.status, headers=headers)


async def _ours(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, AgentModeError)
    return _answer(error)


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    """A parameter in the address that FastAPI refused."""
    assert isinstance(error, RequestValidationError)
    found = [
        Problem(".".join(entry.path[1:]) or entry.field, f"{entry.message}.", entry.hint)
        for entry in complaints(error.errors())
    ]
    return _answer(FormError("The request cannot be used", problems=found))


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    words = {
        404: ("There is nothing at this address.", f"{PREFIX}/openapi.json names what there is.", "no_route"),
        405: (
            f"{request.method} is not known at this address.",
            f"{PREFIX}/openapi.json names what is.",
            "no_method",
        ),
    }
    message, hint, code = words.get(error.status_code, (str(error.detail), "", "bad_request"))
    return _answer(RequestError(message, hint=hint, code=code, status=error.status_code), error.headers)


def _internal() -> AgentModeError:
    return AgentModeError(
        "Something went wrong inside Agent Mode.",
        hint="Try again; an admin finds the reason in the server's log.",
        code="internal",
    )
