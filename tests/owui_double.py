"""Open WebUI 0.12.4, as far as we ask it something, over HTTP: accounts, models, tools, chats with tools.

with Double() as webui:
    bob = webui.user("bob")                     # bob.token, bob.key
    webui.toolkit("dice", roll_dice=roll, readers=[bob])
    webui.connect(server.url, server.key)       # our server, as an admin adds it; or `webui.model = function`
    webui.share("personas.tool_runner")
    ...
    webui.requests                              # what was asked, oldest first

The routes answer as those of the real one, tried side by side; whoever may not see a thing gets what Open
WebUI gives. In the chat, `personas.tool_runner` is called back as `chat_completion_tools_handler` does it.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import aiohttp
from aiohttp import web

Json = dict[str, Any]
Model = Callable[[list[Json], list[Json] | None], str]

RUNNER = "personas.tool_runner"
SELECTION = (
    "Available Tools: {{TOOLS}}\n\nYour task is to choose and return the correct tool(s) from the list of "
    "available tools based on the query.\n\n- If no tools match the query, return an "
    'empty array: \n   {\n     "tool_calls": []\n   }\n'
)
KNOWLEDGE = (
    "### Task:\nRespond to the user query using the provided context.\n\n<context>\n{context}\n</context>\n"
)


@dataclass(eq=False)
class Account:
    """One user of Open WebUI."""

    id: str
    role: str = "user"

    @property
    def token(self) -> str:
        """A session token; only its form is that of a real one."""
        return f"eyJhbGciOiJIUzI1NiJ9.{self.id}.c2lnbmF0dXJl"

    @property
    def key(self) -> str:
        return f"sk-{self.id:0>32}"

    def told(self) -> Json:
        return {
            "id": self.id,
            "name": self.id.capitalize(),
            "email": f"{self.id}@example.org",
            "role": self.role,
        }


@dataclass(eq=False)
class Toolkit:
    """A workspace tool (`dice`) or a tool server (`server:web`, `server:mcp:files`) with its functions."""

    id: str
    functions: dict[str, Callable[..., Any]]
    readers: Sequence[Account] | Literal["all"]
    parameters: dict[str, Json]
    broken: bool = False
    """A tool server that cannot be reached."""

    def open_to(self, account: Account) -> bool:
        return account.role == "admin" or self.readers == "all" or account in self.readers

    def spec(self, name: str) -> Json:
        doc = inspect.getdoc(self.functions[name]) or name
        found = self.parameters.get(name)
        if found is None:
            names = list(inspect.signature(self.functions[name]).parameters)
            properties = {n: {} for n in names if not n.startswith("__")}
            found = {"type": "object", "properties": properties}
        return {"name": name, "description": doc, "parameters": found}

    def tools(self) -> dict[str, tuple[Json, Callable[..., Any], str | None]]:
        """By the name that a chat knows them by: spec, function, and the toolkit that sources name."""
        mcp = self.id.startswith("server:mcp:")
        start = f"{self.id.removeprefix('server:mcp:')}_" if mcp else ""
        return {
            f"{start}{name}": ({**self.spec(name), "name": f"{start}{name}"}, run, None if mcp else self.id)
            for name, run in self.functions.items()
        }


@dataclass
class Request:
    """One request that came in."""

    method: str
    path: str
    account: Account | None
    body: Any = None
    cookie: str = ""


@dataclass
class Double:
    """Open WebUI's double, in a thread of its own, for the length of a `with` block."""

    auth_type: Literal["bearer", "session"] = "bearer"
    """Of the connection to our server."""
    keys_enabled: bool = True
    user_status: bool = True
    bypass_model_access: bool = False
    task_config_open: bool = True
    task_model: str = ""
    task_model_external: str = ""
    other_model: Model | None = None
    """The task model, if one is set."""
    connection_type: str = "external"
    always_stream: bool = False
    """An admin's default parameters ask every chat to stream."""
    delay: float = 0.0
    """Seconds before anything is answered."""
    down: int | None = None
    """A status to answer everything with."""
    model: Model | None = None
    """Answers for `personas.tool_runner`, in place of a connection."""
    wrap: Callable[[str], str] = field(default=lambda text: text)
    """What an admin's filter makes of the user's message."""
    requests: list[Request] = field(default_factory=list)
    url: str = ""

    def __post_init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.toolkits: dict[str, Toolkit] = {}
        self.models: dict[str, Sequence[Account] | Literal["all"]] = {RUNNER: []}
        self.bases: dict[str, str] = {}
        self.executed: list[tuple[str, Json, str]] = []
        """Tools that ran: name, parameters, as whom."""
        self._connection: tuple[str, str] | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    # What an admin does

    def user(self, name: str, role: str = "user") -> Account:
        self.accounts[name] = account = Account(name, role)
        return account

    def connect(self, url: str, key: str) -> None:
        self._connection = (url, key)

    def share(self, model: str, readers: Sequence[Account] | Literal["all"] = "all", base: str = "") -> None:
        self.models[model] = readers
        if base:
            self.bases[model] = base

    def toolkit(
        self,
        toolkit_id: str,
        *,
        readers: Sequence[Account] | Literal["all"] = "all",
        parameters: dict[str, Json] | None = None,
        **functions: Callable[..., Any],
    ) -> Toolkit:
        """A toolkit of functions; those with `__user__` are told who calls."""
        self.toolkits[toolkit_id] = made = Toolkit(toolkit_id, functions, readers, parameters or {})
        return made

    def asked(self, path: str) -> list[Request]:
        return [request for request in self.requests if request.path == path]

    # Life

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _run(self, work: Any) -> Any:
        future: Future[Any] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result(20)

    async def _start(self) -> None:
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"

    # Routes

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        credential = request.headers.get("Authorization", "").removeprefix("Bearer ")
        account = next((a for a in self.accounts.values() if credential in (a.token, a.key)), None)
        body = await request.json() if request.can_read_body else None
        cookie = request.headers.get("Cookie", "")
        self.requests.append(Request(request.method, request.path, account, body, cookie))
        await asyncio.sleep(self.delay)
        if self.down is not None:
            return web.json_response({"detail": "down"}, status=self.down)
        if account is None:
            return _refusal(401, "Your session has expired or the token is invalid. Please sign in again.")
        if credential.startswith("sk-") and not self.keys_enabled:
            return _refusal(403, "Use of API key is not enabled in the environment.")
        response = await self._routed(request, account, credential, body)
        response.set_cookie("token", credential)  # as GET /api/v1/auths/ does
        return response

    async def _routed(
        self, request: web.Request, account: Account, credential: str, body: Any
    ) -> web.Response:
        match (request.method, request.path):
            case "GET", "/api/v1/auths/":
                if credential.startswith("sk-"):
                    return _refusal(403, "A human session is required.")
                return web.json_response({**account.told(), "token": credential, "permissions": {}})
            case "GET", path if path.startswith("/api/v1/users/"):
                return self._users(account, path.removeprefix("/api/v1/users/"))
            case "GET", "/api/v1/models/model":
                return self._model(account, request.query["id"])
            case "GET", "/api/models":
                await self._refresh(credential)
                entries = [
                    {"id": model, "connection_type": self.connection_type}
                    for model in self.models
                    if self._sees(account, model)
                ]
                return web.json_response({"data": entries})
            case "GET", "/api/v1/tools/":
                return web.json_response(
                    [self._listed(kit) for kit in self.toolkits.values() if kit.open_to(account)]
                )
            case "GET", "/api/v1/tasks/config":
                if not self.task_config_open:
                    return _refusal(403, "not here")
                return web.json_response(
                    {"TASK_MODEL": self.task_model, "TASK_MODEL_EXTERNAL": self.task_model_external}
                )
            case "POST", "/api/chat/completions":
                return await self._chat(account, credential, body)
            case "POST", path if path.startswith("/api/v1/chats/") and path.endswith("/event"):
                if account.role != "admin":
                    return _refusal(401, "You do not have permission to access this resource.")
                return web.json_response(True)
        return _refusal(404, "Not Found")

    def _users(self, account: Account, rest: str) -> web.Response:
        if rest == "user/info":
            return web.json_response(None)
        if rest == "user/status":
            if not self.user_status:
                return _refusal(403, "The requested action has been restricted as a security measure.")
            return web.json_response(account.told())
        if account.role != "admin":
            return _refusal(401, "You do not have permission to access this resource.")
        found = self.accounts.get(rest)
        return web.json_response(found.told()) if found else _refusal(400, "User not found")

    def _sees(self, account: Account, model: str) -> bool:
        readers = self.models.get(model)
        if readers is None:
            return False
        return self.bypass_model_access or account.role == "admin" or readers == "all" or account in readers

    def _model(self, account: Account, model: str) -> web.Response:
        readers = self.models.get(model)
        if not readers:
            return _refusal(404, "We could not find what you're looking for :/")
        if account.role != "admin" and readers != "all" and account not in readers:
            return _refusal(401, "You do not have permission to access this resource.")
        base = self.bases.get(model)
        return web.json_response({"id": model, "base_model_id": base, "is_active": True, "access_grants": []})

    def _listed(self, kit: Toolkit) -> Json:
        listed: Json = {"id": kit.id, "name": kit.id, "meta": {"description": ""}}
        if not kit.id.startswith("server:"):
            listed |= {"content": None, "specs": [kit.spec(name) for name in kit.functions]}
        return listed

    # Chats

    async def _chat(self, account: Account, credential: str, body: Json) -> web.Response:
        if body["model"] != RUNNER or not self._sees(account, RUNNER):
            return _refusal(400, "Model not found")
        messages = [{**m, "content": self.wrap(m["content"])} for m in body["messages"]]
        tools: dict[str, tuple[Json, Callable[..., Any], str | None]] = {}
        for tool_id in body.get("tool_ids") or []:
            kit = self.toolkits.get(tool_id)
            if kit is not None and kit.open_to(account) and not kit.broken:  # else left out without a word
                tools |= kit.tools()
        sources: list[Json] = []
        if tools and (body.get("params") or {}).get("function_calling") == "legacy":
            sources = await self._select(account, credential, messages, tools)
            if sources:
                messages[-1] = {
                    **messages[-1],
                    "content": f"{_knowledge(sources)}\n{messages[-1]['content']}",
                }
            said = await self._ask(account, credential, {"messages": messages})
        else:
            listed = [{"type": "function", "function": spec} for spec, _, _ in tools.values()]
            extra = {"tools": listed} if listed else {}
            said = await self._ask(account, credential, {"messages": messages, **extra})
        answer = {"id": "x", "choices": [{"index": 0, "message": {"role": "assistant", "content": said}}]}
        shown = {"sources": sources} if sources else {}
        if self.always_stream:
            lines = [*([shown] if shown else []), answer]
            text = "".join(f"data: {json.dumps(line)}\n\n" for line in lines) + "data: [DONE]\n\n"
            return web.Response(text=text, content_type="text/event-stream")
        return web.json_response({**shown, **answer})

    async def _select(
        self,
        account: Account,
        credential: str,
        messages: list[Json],
        tools: dict[str, tuple[Json, Callable[..., Any], str | None]],
    ) -> list[Json]:
        """`chat_completion_tools_handler` of Open WebUI's utils/middleware.py."""
        prompt = SELECTION.replace("{{TOOLS}}", json.dumps([spec for spec, _, _ in tools.values()]))
        before = messages[:-1][-4:]
        history = "\n".join(f'{m["role"].upper()}: """{m["content"]}"""' for m in before)
        query = f"Query: {messages[-1]['content']}"
        question = f"History:\n{history}\n{query}" if history else query
        payload = {"messages": [{"role": "system", "content": prompt}, {"role": "user", "content": question}]}
        task_model = self.task_model if self.connection_type == "local" else self.task_model_external
        if task_model and task_model != RUNNER:
            assert self.other_model is not None
            said = self.other_model(payload["messages"], None)
        else:
            said = await self._ask(account, credential, payload)
        said = said[said.find("{") : said.rfind("}") + 1]
        if not said:
            return []
        result = json.loads(said)
        sources = []
        for call in result.get("tool_calls") or [result]:
            source = await self._execute(account, call, tools)
            sources += [source] if source else []
        return sources

    async def _execute(
        self,
        account: Account,
        call: Json,
        tools: dict[str, tuple[Json, Callable[..., Any], str | None]],
    ) -> Json | None:
        name = call.get("name")
        if name not in tools:
            return None
        spec, run, toolkit = tools[name]
        parameters = call.get("parameters", {})
        if toolkit is not None:  # MCP servers check their arguments themselves
            known = spec["parameters"].get("properties", {})
            parameters = {key: value for key, value in parameters.items() if key in known}
        self.executed.append((name, parameters, account.id))
        extra = {"__user__": account.told()} if "__user__" in inspect.signature(run).parameters else {}
        try:
            result = run(**parameters, **extra)
            result = await result if inspect.isawaitable(result) else result
        except Exception as error:  # noqa: BLE001  as Open WebUI does: a tool may raise anything
            result = {"error": str(error)}
        if isinstance(result, list):
            result = {"results": result}
        if isinstance(result, dict):
            result = json.dumps(result, indent=2, ensure_ascii=False)
        if not result:
            return None
        shown = f"{toolkit}/{name}" if toolkit else name
        return {
            "source": {"name": shown},
            "document": [str(result)],
            "metadata": [{"source": shown, "parameters": parameters}],
            "tool_result": True,
        }

    # The connection to our server

    async def _ask(self, account: Account, credential: str, payload: Json) -> str:
        if self.model is not None:
            return self.model(payload["messages"], payload.get("tools"))
        assert self._connection is not None
        url, key = self._connection
        body = {**payload, "model": RUNNER, "stream": False, "user": account.told()}
        headers = {"Authorization": f"Bearer {credential if self.auth_type == 'session' else key}"}
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{url}/chat/completions", json=body, headers=headers) as reply,
        ):
            data = await reply.json()
            assert reply.status == 200, data
            return data["choices"][0]["message"]["content"]

    async def _refresh(self, credential: str) -> None:
        """Before it lists models, Open WebUI asks its connections for theirs."""
        if self._connection is not None:
            url, key = self._connection
            headers = {"Authorization": f"Bearer {credential if self.auth_type == 'session' else key}"}
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"{url}/models", headers=headers) as reply,
            ):
                assert reply.status == 200, await reply.text()


def _refusal(status: int, detail: str) -> web.Response:
    return web.json_response({"detail": detail}, status=status)


def _knowledge(sources: list[Json]) -> str:
    context = "\n".join(f'<source name="{s["source"]["name"]}">{s["document"][0]}</source>' for s in sources)
    return KNOWLEDGE.replace("{context}", context)
