"""The one layer around the Pipelines server's app: a pure ASGI class.

It asks every caller for the key, answers chats and inlets of our own pipelines natively, and adds to the
model list what Open WebUI shows. Everything else goes to upstream untouched.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from agent_mode.admin.api.errors import error_json
from agent_mode.admin.gate.gate import PREFIX, refuse_socket
from agent_mode.chat.turn import Turn
from agent_mode.errors import AgentModeError, AuthenticationError, ConfigurationError, RequestError
from agent_mode.llm import failures
from agent_mode.llm.client import HOP_HEADER
from agent_mode.llm.sse import Facts
from agent_mode.observe.metrics import exposition
from agent_mode.server import auth, callers, forwarded, streaming, upstream
from agent_mode.server.bodies import check_for_upstream, read_json, replay
from agent_mode.server.callers import SignedIn
from agent_mode.server.native import KeptPipeline, NativePipeline
from agent_mode.server.streaming import Receive, Scope, Send, send_error, send_json
from agent_mode.tools.openwebui import OpenWebUIClient
from agent_mode.tools.probe import REACHED, REACHED_PATHS
from agent_mode.valves import Valves

BROWSER_PATH = "/personas"
"""The persona browser as a page."""
METRICS_PATH = "/metrics"
"""The figures, as Prometheus reads them."""

_CHAT_PATHS = frozenset({"/chat/completions", "/v1/chat/completions"})
_MODEL_PATHS = frozenset({"/models", "/v1/models"})
_FILTER_PATH = re.compile(r"(?:/v1)?/([^/]+)/filter/(inlet|outlet)")
_VALVES_PATH = re.compile(r"(?:/v1)?/([^/]+)/valves/update")
_DELETE_PATHS = frozenset({"/pipelines/delete", "/v1/pipelines/delete"})
_ADD_PATHS = frozenset({"/pipelines/add", "/v1/pipelines/add", "/pipelines/upload", "/v1/pipelines/upload"})
_API_PREFIX = "/api/v1/"
_FIXED: dict[str, Any] = {"/healthz": {"status": True}, **dict.fromkeys(REACHED_PATHS, REACHED)}
"""What is always answered the same."""


class Layer:
    """Wraps an ASGI app.

    Args:
        app: upstream's app, or its middleware stack.
        key: the connection key.
        max_body: largest body in bytes that is read.
        ready: whether chats can be answered.
        page: makes the persona browser.
        openwebui: whom to ask about users who call with their own credential.
        api: our REST API, made when it is first asked.
        admin: the Agents page, which asks its visitors itself who they are.
        gauges: what is so at this moment, for Prometheus.
        record: has a write of Open WebUI's Pipelines tab recorded: action, kind and target.
    """

    def __init__(
        self,
        app: upstream.AsgiApp,
        *,
        key: str,
        max_body: int,
        ready: Callable[[], bool],
        page: Callable[[], str],
        openwebui: Callable[[], OpenWebUIClient | None] = lambda: None,
        api: Callable[[], upstream.AsgiApp] | None = None,
        admin: upstream.AsgiApp | None = None,
        temporary_store: Callable[[], bool] = lambda: False,
        gauges: Callable[[], Mapping[str, float]] = dict,
        record: Callable[[str, str, str], None] = lambda *_: None,
    ) -> None:
        self.app = app
        self._is_ready = ready
        self._has_temporary_store = temporary_store
        self._page = page
        self._openwebui = openwebui
        self._api = api
        self._admin = admin
        self._gauges = gauges
        self._record = record
        self._key = key
        self._max_body = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._admin is not None and scope["type"] != "lifespan" and _is_below(scope["path"], PREFIX):
            await self._admin(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await refuse_socket(receive, send)  # nothing else here has one
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if "origin" in headers:
            send = _with_cors(send)
        try:
            await self._route(scope, headers, receive, send)
        except AuthenticationError as error:
            asked = b'Basic realm="Agent Mode: the key is the password"'
            scheme = asked if scope["path"] == BROWSER_PATH else b"Bearer"
            await _refuse(scope, send, error, ((b"www-authenticate", scheme),))
        except AgentModeError as error:
            await _refuse(scope, send, error)

    async def _route(self, scope: Scope, headers: dict[str, str], receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"]
        caller: SignedIn | None = None
        if not auth.is_open(method, path, headers):
            page = method == "GET" and path == BROWSER_PATH
            caller = await callers.check(scope, headers, self._key, self._openwebui(), page=page)
        if caller is not None:
            scope = callers.with_key(scope, self._key)
        _refuse_forwarded(scope, headers)
        if method == "POST" and path in _CHAT_PATHS:
            await self._chat(scope, headers, receive, send, caller)
        elif method == "POST" and (match := _FILTER_PATH.fullmatch(path)):
            await self._filter(match[1], match[2], scope, receive, send)
        elif method in ("GET", "HEAD") and path in _FIXED:
            await send_json(send, 200, _FIXED[path])
        elif method == "POST" and (match := _VALVES_PATH.fullmatch(path)):
            await self._valves(match[1], scope, receive, send)
        elif method == "DELETE" and path in _DELETE_PATHS:
            await self._delete(scope, receive, send)
        elif method == "POST" and path in _ADD_PATHS:
            await self.app(scope, receive, self._recorded(send, "added", "pipeline", ""))
        elif (
            path.startswith(_API_PREFIX) and self._api is not None and not auth.is_open(method, path, headers)
        ):
            await self._rest(self._api(), scope, receive, send)
        elif method == "GET" and path in _MODEL_PATHS:
            await self._models(scope, receive, send)
        elif method == "GET" and path == BROWSER_PATH:
            await self._browser(send)
        elif method in ("GET", "HEAD") and path == "/readyz":
            await self._ready(send)
        elif method == "GET" and path == METRICS_PATH:
            await self._metrics(send)
        else:
            await self.app(scope, receive, send)

    async def _chat(
        self, scope: Scope, headers: dict[str, str], receive: Receive, send: Send, caller: SignedIn | None
    ) -> None:
        raw = await self._read(receive)
        body = read_json(raw)
        if caller is not None:
            body = await caller.vouched(body)
        found = upstream.pipeline_of(body["model"]) if _has_model(body) else None
        if found is None or not isinstance(found[0], NativePipeline):
            check_for_upstream(body)
            sent = raw if caller is None else json.dumps(body).encode()
            await self.app(scope, replay(sent, receive), send)
            return
        user = None if caller is None else caller.user
        turn = Turn.parse(body, headers, secret=self._key, user=user)
        if HOP_HEADER.lower() in headers:
            await send_error(send, failures.leads_back(turn.model))
            return
        pipeline, sub_id = found
        facts = Facts()
        try:
            runtime = pipeline.runtime()
        except ConfigurationError as error:
            await send_error(send, error)
            return
        await streaming.answer(turn, pipeline.answer(turn, sub_id, facts), facts, runtime.runs, receive, send)

    async def _filter(self, model: str, hook: str, scope: Scope, receive: Receive, send: Send) -> None:
        found = upstream.pipeline_of(model)
        if found is None or not isinstance(found[0], NativePipeline):
            await self.app(scope, receive, send)
            return
        form = read_json(await self._read(receive))
        body = form.get("body") if isinstance(form, dict) else None
        user = form.get("user") if isinstance(form, dict) else None
        if not isinstance(body, dict) or not isinstance(user, dict | None):
            raise RequestError(
                "A filter call needs `body` as an object, and `user` as an object or null.",
                hint='Send {"body": {…}, "user": {…}}.',
                field="body",
            )
        pipeline = found[0]
        body = await (pipeline.inlet(body, user) if hook == "inlet" else pipeline.outlet(body, user))
        await send_json(send, 200, body)

    async def _valves(self, pipeline_id: str, scope: Scope, receive: Receive, send: Send) -> None:
        raw = await self._read(receive)
        values = read_json(raw)
        check_for_upstream(values)
        send = self._recorded(send, "saved", "valves", pipeline_id)
        found = upstream.pipeline_of(pipeline_id)
        if found is not None and isinstance(values, dict):
            kept = _with_kept_addresses(found[0], values)
            if kept != values:
                values, raw = kept, json.dumps(kept).encode()
        if found is None or not isinstance(found[0], KeptPipeline) or not isinstance(values, dict):
            await self.app(scope, replay(raw, receive), send)
            return
        await send_json(send, 200, await found[0].save_valves(values))

    async def _delete(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = await self._read(receive)
        form = read_json(raw)
        pipeline_id = form.get("id") if isinstance(form, dict) else None
        found = upstream.pipeline_of(pipeline_id) if isinstance(pipeline_id, str) else None
        if found is None or not isinstance(found[0], KeptPipeline):
            check_for_upstream(form)
            send = self._recorded(send, "deleted", "pipeline", str(pipeline_id))
            await self.app(scope, replay(raw, receive), send)
            return
        await found[0].disable()
        self._record("disabled", "agent", str(pipeline_id))
        detail = f"Pipeline {pipeline_id} deleted successfully"  # upstream's words
        await send_json(send, 200, {"status": True, "detail": detail})

    def _recorded(self, send: Send, action: str, kind: str, target: str) -> Send:
        """Sends an answer, and has what was asked recorded if it was done."""

        async def watched(message: Any) -> None:
            if message["type"] == "http.response.start" and message["status"] < 400:
                self._record(action, kind, target)
            await send(message)

        return watched

    async def _rest(self, api: upstream.AsgiApp, scope: Scope, receive: Receive, send: Send) -> None:
        raw = await self._read(receive)
        if raw:
            check_for_upstream(read_json(raw))
        await api(scope, replay(raw, receive), send)

    async def _models(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Upstream's own list, with the tags and descriptions that Open WebUI shows.

        Upstream's function is asked, not its route: that takes seconds to make JSON of many thousand models.
        """
        data = await upstream.models()
        if data is None:
            await self.app(scope, receive, send)
            return
        for entry in data["data"]:
            found = upstream.pipeline_of(entry["id"])
            if found is not None and isinstance(found[0], NativePipeline):
                entry.update(found[0].model_extras(found[1]))
        await send_json(send, 200, data)

    async def _browser(self, send: Send) -> None:
        """The persona browser as a page."""
        html = self._page().encode()
        headers = [
            (b"content-type", b"text/html; charset=utf-8"),
            (b"content-length", str(len(html)).encode()),
            (b"x-frame-options", b"DENY"),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": html})

    async def _ready(self, send: Send) -> None:
        ready = self._is_ready()
        # Chats are answered all the same, so that a probe must not take the server away.
        more = {"temporary_store": True} if self._has_temporary_store() else {}
        await send_json(send, 200 if ready else 503, {"status": ready, **more})

    async def _metrics(self, send: Send) -> None:
        """The figures for Prometheus."""
        body, kind = exposition(self._gauges())
        headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _read(self, receive: Receive) -> bytes:
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise RequestError("The request ended before its body was complete.", status=400)
            part = message.get("body", b"")
            size += len(part)
            if size > self._max_body:
                raise RequestError(
                    f"The request is larger than {self._max_body // 2**20} MiB.",
                    hint="Send less, or raise AGENT_MODE_MAX_BODY_MB.",
                    code="too_large",
                    status=413,
                )
            parts.append(part)
            if not message.get("more_body"):
                return b"".join(parts)


async def _refuse(
    scope: Scope, send: Send, error: AgentModeError, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> None:
    if scope["path"].startswith(_API_PREFIX):
        await send_json(send, error.status, error_json(error), headers)
    else:
        await send_error(send, error, headers)


def _refuse_forwarded(scope: Scope, headers: Mapping[str, str]) -> None:
    """
    Raises:
        RequestError: Open WebUI forwards the request for a user, to a route that is not for users' chats.
    """
    method, path = scope["method"], scope["path"]
    if method == "POST":
        for_users = path in _CHAT_PATHS or _FILTER_PATH.fullmatch(path) is not None
    else:
        for_users = method == "GET" and (path in _MODEL_PATHS or path in _FIXED)
    if for_users or auth.is_open(method, path, headers):
        return
    if forwarded.is_forwarded(method, scope["headers"]):
        raise forwarded.refusal()


def _is_below(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(f"{prefix}/")


def _with_kept_addresses(pipeline: Any, values: dict[str, Any]) -> dict[str, Any]:
    """What Open WebUI's form sent, without addresses that are none; for pipelines of others as it came."""
    now = getattr(pipeline, "valves", None)
    return type(now).with_kept_addresses(values, now) if isinstance(now, Valves) else values


def _has_model(body: Any) -> bool:
    return isinstance(body, dict) and isinstance(body.get("model"), str)


def _with_cors(send: Send) -> Send:
    """Lets a browser read our answers, as upstream lets it read its own; the key is still needed."""
    allowed = b"access-control-allow-origin"

    async def allow(message: Any) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            if all(name.lower() != allowed for name, _ in headers):
                message = {**message, "headers": [*headers, (allowed, b"*")]}
        await send(message)

    return allow
