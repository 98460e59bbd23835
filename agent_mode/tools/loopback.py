"""The loopback: Open WebUI executes one named tool as the user, without a chat page (see runner.py)."""

from __future__ import annotations

import json
import secrets
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agent_mode.counting import counted
from agent_mode.errors import ToolError
from agent_mode.observe.logs import get_logger
from agent_mode.tools.openwebui import OpenWebUIClient, refused, usable
from agent_mode.tools.rest import Reply
from agent_mode.tools.results import is_error
from agent_mode.tools.runner import (
    TOOL_RUNNER,
    offers,
    read_call,
    runner_reply,
    selected,
    sign_call,
)
from agent_mode.tools.specs import ToolSpec

__all__ = ["Loopback", "ToolOutcome", "read_call", "runner_reply", "sign_call"]

log = get_logger(__name__)

_REMEMBERED = 10_000

THREE_WAYS = (
    "Set the connection's authentication to Session in Open WebUI, or let it forward cookies, "
    "or register your own API key of Open WebUI with Agent Mode."
)


@dataclass(frozen=True, slots=True)
class ToolOutcome:
    """What a tool gave.

    Attributes:
        text: the result; empty where the tool gave nothing.
        is_error: whether the tool itself says that it failed.
        sources: Open WebUI's records of the call, as it shows citations.
    """

    text: str
    is_error: bool
    sources: tuple[dict[str, Any], ...] = ()


class Loopback:
    """Lets Open WebUI execute tools, and answers as the model `tool_runner` that it asks on the way.

    Args:
        openwebui: the client; it knows Open WebUI's address.
        secret: the connection key, which signs the calls; the same on every replica.
    """

    def __init__(self, openwebui: OpenWebUIClient, secret: str) -> None:
        self._openwebui = openwebui
        self._secret = secret
        self._asked: OrderedDict[str, bool] = OrderedDict()
        """The calls that our model was asked for in this process, and whether their tool was on offer."""

    def reply(self, messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]] | None = None) -> str:
        """What the model `tool_runner` answers; `tools` are those of the request."""
        call = selected(self._secret, messages)
        if call is not None:
            name, _, nonce = call
            while len(self._asked) >= _REMEMBERED:
                self._asked.popitem(last=False)
            self._asked[nonce] = offers(messages, name)
        return runner_reply(self._secret, messages, tools)

    async def call(
        self,
        credential: str | None,
        spec: ToolSpec,
        arguments: dict[str, Any],
        *,
        timeout: float,  # noqa: ASYNC109  a valve's, and its end is said in words
    ) -> ToolOutcome:
        """Has Open WebUI execute one call as the credential's owner, and sees to it that it was this one.

        Args:
            credential: the user's own session token or API key; None if none is known.
            spec: the tool; one of `OpenWebUIClient.tools_of`.
            arguments: of the call.
            timeout: seconds for the whole call.

        Raises:
            ToolError: it was not executed, or nobody knows. Its code: `no_credential`, `tool_credential`,
                `tool_denied`, `tool_runner_access`, `tool_task_model`, `tool_server`, `tool_no_result`,
                `tool_timeout`, `tool_failed`, and those of an Open WebUI that does not answer.
        """
        if not credential:
            raise ToolError(
                f"The tool {spec.original} needs your own rights in Open WebUI; nothing shows who you are.",
                hint=THREE_WAYS,
                code="no_credential",
                status=401,
            )
        if not usable(credential):
            raise refused(Reply(401, None))
        if spec.tool_id is None or not self._secret:
            raise ToolError(
                f"Only the chat page can execute the tool {spec.original}.",
                hint="Use the agent in a chat of Open WebUI.",
            )
        nonce = secrets.token_hex(8)
        try:
            line = sign_call(self._secret, spec.original, arguments, nonce)
        except ValueError as error:
            raise ToolError(f"The arguments of {spec.original} are no JSON.", hint=str(error)) from error
        try:
            certain = await self._no_other_model(credential)
            reply = await self._post(credential, spec.tool_id, line, timeout)
        except TimeoutError as error:
            raise ToolError(
                f"The tool {spec.original} did not answer within {counted(timeout, 'second')}.",
                hint="Whether it did its work is not known. "
                "Try something smaller, or let an admin raise the valve `tool_timeout`.",
                code="tool_timeout",
                status=504,
            ) from error
        finally:
            asked = self._asked.pop(nonce, None)
        found = _tool_sources(reply)
        if found:
            return _outcome(spec, arguments, found)
        return await self._without_result(credential, spec, asked, certain=certain)

    async def _post(self, credential: str, tool_id: str, line: str, seconds: float) -> Reply:
        body = {
            "model": TOOL_RUNNER,
            "stream": False,
            "tool_ids": [tool_id],
            "params": {"function_calling": "legacy"},
            "messages": [{"role": "user", "content": line}],
        }
        reply = await self._openwebui.rest.post("/api/chat/completions", credential, body, seconds=seconds)
        if reply.status == 200:
            return reply
        if reply.status in (400, 403, 404) and "model not found" in reply.said.lower():
            raise ToolError(
                f"You may not use the model {TOOL_RUNNER} in Open WebUI, or Open WebUI does not know it yet.",
                hint=f"An admin shares the model {TOOL_RUNNER} with all who use tools through agents: "
                "Admin Panel, Settings, Models.",
                code="tool_runner_access",
                status=403,
            )
        raise refused(reply)

    async def _no_other_model(self, credential: str) -> bool:
        """Whether it is certain that Open WebUI asks our model which tool to call.

        Raises:
            ToolError: it asks another one.
        """
        model = await self._openwebui.task_model(credential)
        if model:
            raise _another_model(f"the task model “{model}”")
        return model == ""

    async def _without_result(
        self, credential: str, spec: ToolSpec, asked: bool | None, *, certain: bool
    ) -> ToolOutcome:
        """What an answer without a result means.

        Open WebUI leaves out without a word what the user may not use, and a result that is empty.

        Raises:
            ToolError: says which it is.
        """
        if asked:
            return ToolOutcome("", is_error=False)  # our model named the call, and its tool was on offer
        allowed = {toolkit["id"] for toolkit in await self._openwebui.toolkits(credential, fresh=True)}
        if spec.tool_id not in allowed or asked is False:
            raise ToolError(
                f"Open WebUI does not let you use the tool {spec.original} (of {spec.tool_id}), "
                "or it is not there any more.",
                hint="An admin, or whoever made the tool, shares it with you: Workspace, Tools, Access.",
                code="tool_denied",
                status=403,
            )
        if str(spec.tool_id).startswith("server:"):
            raise ToolError(
                f"Open WebUI could not reach the tool server of {spec.original} ({spec.tool_id}).",
                hint="An admin checks the tool server: Admin Panel, Settings, Integrations.",
                code="tool_server",
                retryable=True,
            )
        if not certain:
            raise _another_model("another model")
        # Perhaps another replica was asked, and the result is empty.
        raise ToolError(
            f"Open WebUI reported no result of the tool {spec.original}.",
            hint="It may have run and given nothing. Look before you try again.",
            code="tool_no_result",
        )


def _outcome(spec: ToolSpec, arguments: dict[str, Any], found: list[dict[str, Any]]) -> ToolOutcome:
    """The result, if it is that of the very call that was wanted.

    Raises:
        ToolError: another call was executed.
    """
    names = {spec.original, f"{spec.tool_id}/{spec.original}"}
    source, wanted = found[0], json.loads(json.dumps(arguments))
    known = spec.parameters.get("properties")
    metadata = source.get("metadata")
    given = metadata[0].get("parameters") if isinstance(metadata, list) and metadata else None
    given = given if isinstance(given, dict) else {}
    # Open WebUI takes out what the tool has no parameter for.
    dropped = {key for key in wanted if key not in given and key not in (known or ())}
    name = source.get("source", {}).get("name") if isinstance(source.get("source"), dict) else None
    if len(found) > 1 or name not in names or given != {k: v for k, v in wanted.items() if k not in dropped}:
        log.error("Open WebUI executed another call than was wanted", wanted=spec.original, executed=name)
        raise _another_model("another model", executed=str(name))
    document = source.get("document")
    text = str(document[0]) if isinstance(document, list) and document else ""
    return ToolOutcome(text, is_error(text), tuple(found))


def _another_model(which: str, executed: str | None = None) -> ToolError:
    did = f" It executed {executed[:120]} instead." if executed else ""
    return ToolError(
        f"Open WebUI lets {which} choose the tool's call, so it cannot be the one that was wanted.{did}",
        hint="An admin sets the task model back to the current model: Admin Panel, Settings, Interface. "
        "In a chat, agents can use the tools that are switched on there all the same.",
        code="tool_task_model",
    )


def _tool_sources(reply: Reply) -> list[dict[str, Any]]:
    """Open WebUI's records of executed tools, also where an admin's defaults made the answer a stream."""
    found: list[dict[str, Any]] = []
    for data in (reply.data, *reply.events):
        sources = data.get("sources") if isinstance(data, dict) else None
        for source in sources if isinstance(sources, list) else ():
            if isinstance(source, dict) and source.get("tool_result") is True:
                found.append(source)
    return found
