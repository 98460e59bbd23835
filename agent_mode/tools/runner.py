"""What Agent Mode and its model `tool_runner` tell each other through Open WebUI.

Open WebUI executes tools of its own only inside a chat: it asks the chat's model which tool to call (with
`params.function_calling = "legacy"`), runs as the user what the model names, and answers with what came out.
So the loopback opens a chat with the model `tool_runner`, which is ours, and the user's message is one line:
the call that is wanted, signed with the connection key. The model reads it and names exactly that call.

How the line comes back to the model, by `chat_completion_tools_handler` of Open WebUI 0.12.4:

- The selection: a system message with the tools, then a user message `Query: <line>`, with
  `History:\\n<ROLE>: \"\"\"…\"\"\"…` before it if the chat has other messages.
- The answer: the line alone; after a tool has run, what it gave stands before it in the same message, in the
  admin's knowledge template. So whatever stands around the line is not ours, and only the line is read.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Sequence
from typing import Any

TOOL_RUNNER_KEY = "tool_runner"
TOOL_RUNNER_NAME = "Agent Mode tool runner"
TOOL_RUNNER = f"personas.{TOOL_RUNNER_KEY}"
"""The model that asks Open WebUI for one exact tool call."""

LIST_TOOLS = "*"
"""In place of a tool's name: asks for the tools that Open WebUI sent along."""

NOT_FOR_CHATS = (
    "This model calls tools for Agent Mode's agents and is not for chats. "
    "Pick another model, such as a persona."
)
DONE = "done"

_LINE = re.compile(r"agent-mode-call:([A-Za-z0-9_-]+)\.([0-9a-f]{64})")
_QUERY = "Query: "

Call = tuple[str, dict[str, Any], str]
"""A tool's name, the arguments, and a number that is used once."""


def sign_call(secret: str, name: str, arguments: dict[str, Any], nonce: str) -> str:
    """The call as one line that only a holder of the secret can have written.

    Args:
        secret: the connection key; not empty.
        name: the tool's name in Open WebUI, or `LIST_TOOLS`.
        arguments: of the call, as JSON allows them.
        nonce: a number that is used once.

    Raises:
        ValueError: the arguments are no JSON (a number that is not finite), or there is no secret.
    """
    if not secret:
        raise ValueError("a call needs a secret to be signed with")
    call = {"name": name, "arguments": arguments, "nonce": nonce}
    text = base64.urlsafe_b64encode(json.dumps(call, allow_nan=False).encode()).decode().rstrip("=")
    return f"agent-mode-call:{text}.{_signature(secret, text)}"


def read_call(secret: str, text: str) -> Call | None:
    """The call of the last line in a text that carries our signature; None if none does."""
    return _found(secret, text)[0]


def selected(secret: str, messages: Sequence[dict[str, Any]]) -> Call | None:
    """The call that Open WebUI asks for now; None unless this is the selection of a call that we signed."""
    text = _question(messages)
    call, at = _found(secret, text)
    if call is None or call[0] == LIST_TOOLS:
        return None
    # An admin's filter may have put something around the line; then the tools on offer show what this is.
    is_query = text.startswith(_QUERY, text.rfind("\n", 0, at) + 1)
    return call if is_query or offers(messages, call[0]) else None


def runner_reply(
    secret: str, messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]] | None = None
) -> str:
    """What the model `tool_runner` answers.

    Args:
        secret: the connection key.
        messages: of the request.
        tools: the request's own `tools`; Open WebUI sends them where the model's API is to choose.
    """
    call, _ = _found(secret, _question(messages))
    if call is None:
        return NOT_FOR_CHATS
    name, arguments, _ = call
    if name == LIST_TOOLS:
        return json.dumps(list(tools or ()))
    if selected(secret, messages) is not None:
        return json.dumps({"tool_calls": [{"name": name, "parameters": arguments}]})
    return DONE


def offers(messages: Sequence[dict[str, Any]], name: str) -> bool:
    """Whether Open WebUI's selection names a tool among those to choose from."""
    systems = (message.get("content") for message in messages if message.get("role") == "system")
    return any(isinstance(content, str) and json.dumps(name) in content for content in systems)


def _found(secret: str, text: str) -> tuple[Call | None, int]:
    """The last call that we signed, and where in the text it stands."""
    if secret:
        for match in reversed(list(_LINE.finditer(text))):
            if hmac.compare_digest(match[2], _signature(secret, match[1])):
                return _call(match[1]), match.start()
    return None, 0


def _call(text: str) -> Call | None:
    call = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    name, arguments, nonce = call.get("name"), call.get("arguments"), call.get("nonce")
    if not isinstance(name, str) or not isinstance(arguments, dict) or not isinstance(nonce, str):
        return None
    return name, arguments, nonce


def _question(messages: Sequence[dict[str, Any]]) -> str:
    for message in reversed(messages):
        if message.get("role") == "user":
            content = message.get("content")
            if isinstance(content, list):
                parts = (part.get("text") for part in content if isinstance(part, dict))
                return "\n".join(part for part in parts if isinstance(part, str))
            return content if isinstance(content, str) else ""
    return ""


def _signature(secret: str, text: str) -> str:
    # The key signs other things too; a signature of one kind must not pass as one of another.
    return hmac.new(secret.encode(), f"tool-call\n{text}".encode(), hashlib.sha256).hexdigest()
