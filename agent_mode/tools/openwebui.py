"""Open WebUI's REST interface, as far as we ask it something."""

from __future__ import annotations

import asyncio
import json
import secrets
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from agent_mode.errors import ToolError
from agent_mode.observe.logs import get_logger
from agent_mode.tools.believed import Believed, fingerprint
from agent_mode.tools.rest import Reply, Rest
from agent_mode.tools.runner import LIST_TOOLS, TOOL_RUNNER, sign_call
from agent_mode.tools.specs import ToolSpec, from_functions, from_request

log = get_logger(__name__)

BELIEVED_SECONDS = 60.0
"""For how long it is believed whose a credential is, and which models it opens."""
REFUSED_SECONDS = 10.0
"""For how long a refusal is believed: what an admin grants shall soon be seen."""
TOOLS_SECONDS = 30.0
"""For how long a list of tools is believed. Whether a call is allowed, Open WebUI decides at each call."""
CHECKS_AT_ONCE = 8
"""How many credentials are checked side by side."""
MOST_WAITING = 200
"""How many may wait for it; more are turned away."""
_SERVERS_AT_ONCE = 4
_SERVER_SECONDS = 20.0
_LONGEST = 8192
_SEARCH = frozenset({"search_tools", "call_tool"})
"""Open WebUI's tool search, which takes the place of large tools."""


@dataclass(frozen=True, slots=True)
class Account:
    """Whose credential it is, as Open WebUI says.

    Attributes:
        id: None where Open WebUI says only that the credential is good.
        role: `admin` or `user`.
    """

    id: str | None
    name: str = ""
    email: str = ""
    role: str = "user"

    def as_user(self) -> dict[str, Any]:
        """As Open WebUI puts it into the body of a request to a pipeline."""
        return {"id": self.id, "name": self.name, "email": self.email, "role": self.role}


class OpenWebUIClient:
    """Open WebUI as its users see it: each question is asked with the credential of the user it is about.

    Args:
        url: Open WebUI's address; None: there is none, and every question raises ToolError `no_openwebui`.
        secret: the connection key, which signs what our model `tool_runner` is asked.
    """

    def __init__(self, url: str | None, secret: str = "") -> None:
        self.rest = Rest(url)
        self.secret = secret
        self._accounts: Believed[Account | None] = Believed(
            lambda a: BELIEVED_SECONDS if a else REFUSED_SECONDS
        )
        self._models: Believed[bool] = Believed(lambda may: BELIEVED_SECONDS if may else REFUSED_SECONDS)
        self._toolkits: Believed[list[dict[str, Any]]] = Believed(lambda _: TOOLS_SECONDS, 2_000)
        self._tools: Believed[list[ToolSpec]] = Believed(lambda _: TOOLS_SECONDS, 2_000)
        self._task_model: Believed[str | None] = Believed(lambda _: TOOLS_SECONDS)
        self._at_once = asyncio.Semaphore(CHECKS_AT_ONCE)
        self._waiting = 0

    @property
    def known(self) -> bool:
        """Whether this server knows where Open WebUI is."""
        return self.rest.url is not None

    async def close(self) -> None:
        for believed in (self._accounts, self._models, self._toolkits, self._tools, self._task_model):
            await believed.close()
        await self.rest.close()

    async def whoami(self, credential: str, *, fresh: bool = False) -> Account | None:
        """Whose credential it is; None if Open WebUI refuses it. A refusal is remembered too, but shorter.

        Args:
            credential: a session token, or an API key (`sk-…`).
            fresh: ask again, whatever is believed.

        Raises:
            ToolError: Open WebUI does not answer, or too many credentials are being checked.
        """
        if not usable(credential):
            return None
        if fresh:
            return await self._check(credential)
        return await self._accounts.get(fingerprint(credential), lambda: self._check(credential))

    async def account(self, account_id: str, service_key: str) -> Account | None:
        """Somebody's account as it is now; None if there is none, or it is not let in.

        Args:
            account_id: whose.
            service_key: an admin's API key.

        Raises:
            ToolError: Open WebUI does not answer, or the key is no admin's.
        """
        reply = await self.rest.get(f"/api/v1/users/{quote(account_id, safe='')}", service_key)
        if reply.status in (400, 404):
            return None
        # Old versions keep id or role to themselves.
        told = reply.data if reply.status == 200 and isinstance(reply.data, dict) else {}
        if not isinstance(told.get("role"), str):
            raise refused(reply)
        return _account(Reply(200, {**told, "id": account_id}))

    async def may_use_with(self, credential: str, model: str) -> bool:
        """Whether Open WebUI lets the credential's owner chat with a model.

        Raises:
            ToolError: Open WebUI does not answer.
        """
        if not usable(credential):
            return False
        key = f"{fingerprint(credential)} {model}"
        return await self._models.get(key, lambda: self._may_use(credential, model))

    async def toolkits(self, credential: str, *, fresh: bool = False) -> list[dict[str, Any]]:
        """The toolkits and tool servers that the credential's owner may use: `{id, name, specs?, …}`.

        Args:
            fresh: ask again, whatever is believed.

        Raises:
            ToolError: Open WebUI does not answer, or refuses the credential.
        """
        if fresh:
            return await self._list_toolkits(credential)
        return await self._toolkits.get(fingerprint(credential), lambda: self._list_toolkits(credential))

    async def tools_of(self, credential: str) -> list[ToolSpec]:
        """All tools of Open WebUI that the credential's owner may use outside of a chat page.

        Workspace tools come with their specs. Of tool servers (OpenAPI, MCP) Open WebUI tells a plain user
        the names at most, so our model `tool_runner` is asked what Open WebUI sends along with them.

        Raises:
            ToolError: Open WebUI does not answer, or refuses the credential.
        """
        return await self._tools.get(fingerprint(credential), lambda: self._gather(credential))

    async def task_model(self, credential: str) -> str | None:
        """The model that Open WebUI has choose tools in place of the chat's own; "" if none, None if unknown.

        Raises:
            ToolError: Open WebUI does not answer.
        """
        return await self._task_model.get(fingerprint(credential), lambda: self._ask_task_model(credential))

    async def model_entry(self, credential: str, model: str) -> dict[str, Any] | None:
        """The model's entry in the list that the credential's owner sees; None if it is not in it.

        Raises:
            ToolError: Open WebUI does not answer.
        """
        reply = await self.rest.get("/api/models", credential)
        entries = reply.data.get("data") if isinstance(reply.data, dict) else None
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, dict) and entry.get("id") == model:
                return entry
        return None

    async def _check(self, credential: str) -> Account | None:
        if self._waiting >= MOST_WAITING:
            raise ToolError(
                "Too many users' credentials are being checked at once.",
                hint="Try again in a moment.",
                code="openwebui_busy",
                status=503,
                retryable=True,
            )
        self._waiting += 1
        try:
            async with self._at_once:
                return await self._ask_whoami(credential)
        finally:
            self._waiting -= 1

    async def _ask_whoami(self, credential: str) -> Account | None:
        if not credential.startswith("sk-"):
            return _account(await self.rest.get("/api/v1/auths/", credential))
        # API keys get 403 there. This route tells the same, unless the admin has switched users' status off.
        reply = await self.rest.get("/api/v1/users/user/status", credential)
        if reply.status != 403:
            return _account(reply)
        # Not `/api/models`: it makes Open WebUI ask us for our models, with this credential.
        good = await self.rest.get("/api/v1/users/user/info", credential)
        return Account(None) if good.status == 200 else None

    async def _may_use(self, credential: str, model: str, above: frozenset[str] = frozenset()) -> bool:
        reply = await self.rest.get("/api/v1/models/model", credential, {"id": model})
        record = reply.data
        if reply.status != 200 or not isinstance(record, dict) or record.get("is_active") is False:
            # Admins, and all where the admin has switched access control off, need no record.
            return await self.model_entry(credential, model) is not None
        base = record.get("base_model_id")
        if not isinstance(base, str) or not base:
            return True
        above |= {model}
        return base not in above and await self._may_use(credential, base, above)

    async def _list_toolkits(self, credential: str) -> list[dict[str, Any]]:
        reply = await self.rest.get("/api/v1/tools/", credential)
        if reply.status != 200 or not isinstance(reply.data, list):
            raise refused(reply)
        return [entry for entry in reply.data if isinstance(entry, dict) and isinstance(entry.get("id"), str)]

    async def _gather(self, credential: str) -> list[ToolSpec]:
        toolkits = await self.toolkits(credential)
        found: list[ToolSpec] = []
        servers: list[str] = []
        for toolkit in toolkits:
            if toolkit["id"].startswith("server:"):
                servers.append(toolkit["id"])
            else:
                specs = toolkit.get("specs")
                found += from_functions(specs, toolkit["id"])
        limit = asyncio.Semaphore(_SERVERS_AT_ONCE)

        async def of_server(tool_id: str) -> list[ToolSpec]:
            async with limit:
                return await self._tools_of_server(credential, tool_id)

        for specs in await asyncio.gather(*(of_server(tool_id) for tool_id in servers)):
            found += specs
        return found

    async def _tools_of_server(self, credential: str, tool_id: str) -> list[ToolSpec]:
        if not self.secret:
            return []
        line = sign_call(self.secret, LIST_TOOLS, {}, secrets.token_hex(8))
        body = {
            "model": TOOL_RUNNER,
            "stream": False,
            "tool_ids": [tool_id],
            "params": {"function_calling": "native"},
            "messages": [{"role": "user", "content": line}],
        }
        try:
            reply = await self.rest.post("/api/chat/completions", credential, body, seconds=_SERVER_SECONDS)
            listed = json.loads(reply.data["choices"][0]["message"]["content"])
        except (ToolError, TimeoutError, ValueError, TypeError, KeyError, IndexError) as error:
            log.warning("a tool server's tools are left out", tool_id=tool_id, reason=type(error).__name__)
            return []
        specs = from_request(listed)
        deferred = [spec for spec in specs if spec.original in _SEARCH]
        if deferred:
            log.warning("Open WebUI's tool search hides large tools", tool_id=tool_id)
        return [replace(spec, source="openwebui", tool_id=tool_id) for spec in specs if spec not in deferred]

    async def _ask_task_model(self, credential: str) -> str | None:
        reply = await self.rest.get("/api/v1/tasks/config", credential)
        if reply.status != 200 or not isinstance(reply.data, dict):
            return None
        local, external = reply.data.get("TASK_MODEL") or "", reply.data.get("TASK_MODEL_EXTERNAL") or ""
        if not local and not external:
            return ""
        # Which of the two counts is a matter of the connection over which our models come.
        entry = await self.model_entry(credential, TOOL_RUNNER) or {}
        chosen = local if entry.get("connection_type") == "local" else external
        return "" if chosen == TOOL_RUNNER else chosen


def usable(credential: str) -> bool:
    """Whether something can be a credential at all: what cannot stand in a header is not even asked about."""
    return 0 < len(credential) <= _LONGEST and credential.isascii() and credential.isprintable()


def refused(reply: Reply) -> ToolError:
    """The error for an answer that says that the credential is not good, or that something else failed."""
    said = f" It says: {reply.said}" if reply.said else ""
    if reply.status in (401, 403):
        return ToolError(
            f"Open WebUI does not accept the user's credential.{said}",
            hint="Sign in again, or register a new API key. For API keys an admin checks that they are "
            "enabled, that the user may have them, and that a list of allowed endpoints has these in it.",
            code="tool_credential",
            status=401,
        )
    return ToolError(
        f"Open WebUI did not do what it was asked ({reply.status}).{said}",
        hint="Try again; if it stays so, look at Open WebUI's log.",
        code="tool_failed",
    )


def _account(reply: Reply) -> Account | None:
    """The account in an answer; None if the credential is refused.

    Raises:
        ToolError: the answer says neither.
    """
    data = reply.data
    if reply.status in (401, 403):
        return None
    if reply.status != 200 or not isinstance(data, dict) or not isinstance(data.get("id"), str):
        raise refused(reply)
    if data.get("role") not in ("admin", "user"):
        return None  # pending: Open WebUI does not let them in either
    return Account(data["id"], str(data.get("name") or ""), str(data.get("email") or ""), data["role"])
