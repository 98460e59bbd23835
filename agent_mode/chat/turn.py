"""One request from Open WebUI, validated once; after this nobody reads raw bodies."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from http.cookies import CookieError, SimpleCookie
from typing import Any, NamedTuple
from urllib.parse import unquote

from agent_mode.chat.commands import last_text, message_text
from agent_mode.errors import RequestError

CONTEXT_KEY = "agent_mode"
"""The key of the body in which an inlet leaves the chat's context for `pipe()`."""

MAX_MESSAGES = 10_000
MAX_ID = 256
CONTEXT_SECONDS = 24 * 3600
"""For how long a signed context is believed: a turn's tool calls carry it along, and may wait for people."""
_SAID_LIMIT = 32_768

_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
_OWN_KEYS = frozenset(
    {
        CONTEXT_KEY,
        "model",
        "messages",
        "stream",
        "user",
        "metadata",
        "chat_id",
        "session_id",
        "id",
        "message_id",
    }
    | {"message_ids", "parent_id", "user_message", "features", "variables", "background_tasks", "tool_ids"}
    | {"filter_ids", "files", "params", "title", "model_item", "task", "tool_servers", "parent_message"}
)
"""Keys of the body that are Open WebUI's or ours; a provider would refuse or misread them."""

_TASK_OPENERS = (
    "### Task:\nGenerate a concise title summarizing",
    "### Task:\nGenerate a concise, 3-5 word title",
    "### Task:\nGenerate 1-3 broad tags",
    "### Task:\nPredict 3-5 useful messages",
    "### Task:\nSuggest 3-5 relevant follow-up",
    "### Task:\nGenerate a detailed prompt for a",
    "### Task:\nAnalyze the chat history to determine the necessity of generating search queries",
    "### Task:\nYou are an autocompletion system",
    "### Task:\nSummarize the conversation history that will be compacted",
)
"""How Open WebUI's default task prompts begin; looked at when neither inlet nor header names the task."""


@dataclass(frozen=True, slots=True)
class TurnContext:
    """Where in Open WebUI a turn belongs; all None for other callers.

    Attributes:
        chat_id: the chat.
        message_id: the assistant message that this turn writes.
        parent_id: the assistant message before it on this branch; None at the root.
        user_message_id: the message that is being answered.
        session_id: the browser session; without one the caller is a program.
        task: name of a background task, such as `title_generation`.
        said: the user's own words, where something is put around them later (a knowledge template).
        via: the model that the user had picked, where the filter gave the turn to our console model.
        base: the model that `via` is built on, if that is a workspace model.
        prefix: what a command begins with, where the filter read the message.
        offered: the filter's valve `models`.
        policy, cased, silent: its valves `history_policy`, `case_sensitive`, and `show_persona_info` off.
        place: number of this model among those that answer side by side, from 1.
        models: how many answer side by side.
        branch_known: whether `parent_id` can be believed (None then means the root).
        tools: whether tools are switched on in the chat, besides Open WebUI's own.
    """

    chat_id: str | None = None
    message_id: str | None = None
    parent_id: str | None = None
    user_message_id: str | None = None
    session_id: str | None = None
    task: str | None = None
    said: str | None = None
    via: str | None = None
    base: str | None = None
    place: int | None = None
    models: int | None = None
    prefix: str | None = None
    offered: str | None = None
    policy: str | None = None
    cased: bool = False
    silent: bool = False
    branch_known: bool = False
    tools: bool = False

    @property
    def interactive(self) -> bool:
        """Whether a person looks at a page that shows events."""
        return self.session_id is not None


_FIELDS = frozenset(item.name for item in fields(TurnContext))


@dataclass(frozen=True, slots=True)
class User:
    """Who asks, as Open WebUI says.

    Attributes:
        id: None where nobody vouches for it.
        admin: whether Open WebUI calls the user an admin.
        name: as Open WebUI says.
        credential: the user's own session token or API key, if it came with the request.
        claimed: the id that the request gives and nobody vouches for. It opens nothing.
    """

    id: str | None = None
    admin: bool = False
    name: str = ""
    credential: str | None = field(default=None, repr=False)
    claimed: str | None = None

    @classmethod
    def of(cls, user: Any) -> User:
        """From Open WebUI's `{id, role, name, …}`."""
        user_id = _id(user.get("id")) if isinstance(user, dict) else None
        if user_id is None:
            return cls()
        name = user.get("name")
        return cls(user_id, user.get("role") == "admin", name if isinstance(name, str) else "")

    @property
    def owner(self) -> str:
        """Whose the records of the user's chats are; who merely claims an id has none of that id's."""
        return self.id or f"?{self.claimed or ''}"


@dataclass(frozen=True, slots=True)
class Turn:
    """One validated request.

    Attributes:
        model: the model that was asked, as Open WebUI names it (`personas.coder`).
        messages: OpenAI messages, oldest first, at least one.
        stream: whether the caller wants chunks.
        params: what goes on to the provider (`temperature`, `tools`, …).
        context: where in Open WebUI the turn belongs.
        user: who asks; without an id where nobody vouches for it.
    """

    model: str
    messages: list[dict[str, Any]]
    stream: bool = False
    params: dict[str, Any] = field(default_factory=dict)
    context: TurnContext = field(default_factory=TurnContext)
    user: User = User()

    @classmethod
    def parse(
        cls,
        body: Any,
        headers: Mapping[str, str] | None = None,
        *,
        secret: str = "",
        user: User | None = None,
    ) -> Turn:
        """Validates a request body.

        Any user of Open WebUI may write a `user` into a body, and Open WebUI does not always write over it.
        So only who is vouched for counts: by `user`, by the inlet's signature, or by headers, which those
        who have the connection key set.

        Args:
            body: the JSON of `POST /chat/completions`.
            headers: the request's headers, names in lower case.
            secret: what an inlet signed its context with.
            user: who called with a credential that Open WebUI confirmed; None: with the connection key.

        Raises:
            RequestError: names the field that is wrong.
        """
        if not isinstance(body, dict):
            raise _bad("The request body must be a JSON object.", "body")
        model = body.get("model")
        if not isinstance(model, str) or not model or len(model) > MAX_ID:
            raise _bad("`model` must be the id of a model.", "model", "GET /models lists them.")
        stream = body.get("stream", False)
        if stream is None:
            stream = False
        if not isinstance(stream, bool):
            raise _bad("`stream` must be true or false.", "stream")
        messages = _messages(body.get("messages"))
        headers = headers or {}
        claimed = User.of(body.get("user"))
        named = user or _user_from_headers(headers)
        signed = unpack(body.get(CONTEXT_KEY), secret)
        if signed and signed.user.id and (named or claimed).id not in (None, signed.user.id):
            signed = None  # it was written for somebody else
        context = signed.context if signed else _from_headers(headers)
        if context.task is None and _looks_like_task(messages):
            context = replace(context, task="unknown")
        return cls(
            model=model,
            messages=messages,
            stream=stream,
            params={key: value for key, value in body.items() if key not in _OWN_KEYS},
            context=context,
            user=user or replace(_vouched(signed, named, claimed), credential=_session_token(headers)),
        )

    @property
    def said(self) -> str:
        """What the user wrote last."""
        if self.context.said is not None:
            return self.context.said
        return last_text(self.messages)


def _bad(
    message: str, field: str, hint: str = "Send it as OpenAI's chat completions API says."
) -> RequestError:
    return RequestError(message, hint=hint, field=field)


def _messages(messages: Any) -> list[dict[str, Any]]:
    if not isinstance(messages, list) or not messages:
        raise _bad("`messages` must be a list with at least one message.", "messages")
    if len(messages) > MAX_MESSAGES:
        raise _bad(f"`messages` holds more than {MAX_MESSAGES} messages.", "messages", "Start a new chat.")
    for index, message in enumerate(messages):
        if not isinstance(message, dict):
            raise _bad("A message must be an object.", f"messages.{index}")
        role = message.get("role")
        if not isinstance(role, str) or role not in _ROLES:
            raise _bad(
                "A message's `role` is unknown.",
                f"messages.{index}.role",
                f"Known: {', '.join(sorted(_ROLES))}.",
            )
        content = message.get("content")
        if isinstance(content, str):
            continue
        if content is None and role == "assistant":
            continue  # a message that only calls tools
        if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
            raise _bad("A message's `content` must be text or a list of parts.", f"messages.{index}.content")
    return messages


def context_of(
    body: dict[str, Any], said: str | None = None, via: str | None = None, base: str | None = None
) -> TurnContext:
    """The context that an inlet call tells.

    Args:
        body: of Open WebUI's inlet call; its `metadata` tell the context.
        said: the user's own words, if something may be put around them before `pipe()` sees them.
        via: the model that the user had picked, if another one is to answer.
        base: the model that `via` is built on, if it is a workspace model.
    """
    metadata = body.get("metadata")
    meta = metadata if isinstance(metadata, dict) else {}
    user_message = meta.get("user_message", meta.get("parent_message"))  # its name in Open WebUI up to 0.9
    user_message = user_message if isinstance(user_message, dict) else {}
    return TurnContext(
        chat_id=_id(meta.get("chat_id")),
        message_id=_id(meta.get("message_id")),
        parent_id=_id(user_message.get("parentId")),
        user_message_id=_id(meta.get("user_message_id")) or _id(user_message.get("id")),
        session_id=_id(meta.get("session_id")),
        task=_id(meta.get("task")),
        said=said if said and len(said) <= _SAID_LIMIT else None,
        via=_id(via),
        base=_id(base),
        place=_place(user_message, meta.get("message_id"), body.get("model")),
        models=_models(user_message),
        branch_known="parentId" in user_message,
        tools=bool(meta.get("tool_ids") or meta.get("tool_servers")),
    )


def _place(user_message: dict[str, Any], message_id: Any, model: Any) -> int | None:
    """The number of the model among those that answer this message.

    By the answer's place among its siblings; after a regenerate there are more siblings than models, then by
    the model's place in the selection.
    """
    models, children = user_message.get("models"), user_message.get("childrenIds")
    if not isinstance(models, list) or not isinstance(children, list):
        return None
    first = children[: len(models)]
    if message_id in first:
        return first.index(message_id) + 1
    return models.index(model) + 1 if model in models else None


def _models(user_message: dict[str, Any]) -> int | None:
    models = user_message.get("models")
    return len(models) if isinstance(models, list) and models else None


_SIGNED = _FIELDS | {"by", "by_name", "by_admin", "at"}


class Signed(NamedTuple):
    """What an inlet tells of a turn."""

    context: TurnContext
    user: User


def pack(context: TurnContext, secret: str, user: User | None = None) -> dict[str, Any]:
    """The context as an inlet leaves it in the body, signed.

    Any user of Open WebUI may put keys into a body, and an inlet is not called for every model, so a
    context that is not signed with the connection key is not believed.

    Args:
        context: where the turn belongs.
        secret: the connection key.
        user: who asks, as Open WebUI told the inlet.
    """
    user = user or User()
    values = {**_fields(context), "by": user.id, "by_name": user.name[:MAX_ID], "by_admin": user.admin}
    values = {key: value for key, value in values.items() if value} | {"at": int(time.time())}
    return {**values, "signature": _sign(values, secret)}


def unpack(value: Any, secret: str) -> Signed | None:
    """What `pack` left; None if there is nothing, its signature is wrong, or it is too old."""
    if not isinstance(value, dict) or not secret:
        return None
    values = {key: item for key, item in value.items() if key != "signature"}
    signature = value.get("signature")
    if not all(isinstance(item, str | int) for item in values.values()):
        return None  # `pack` makes no others; deep ones could not even be signed
    if not isinstance(signature, str) or not signature.isascii() or set(values) - _SIGNED:
        return None
    if not hmac.compare_digest(signature, _sign(values, secret)):
        return None
    if time.time() - values.pop("at") > CONTEXT_SECONDS:
        return None
    user = User(values.pop("by", None), bool(values.pop("by_admin", False)), values.pop("by_name", ""))
    return Signed(TurnContext(**values), user)


def _sign(values: dict[str, Any], secret: str) -> str:
    # The key signs other things too; a signature of one kind must not pass as one of another.
    message = f"turn-context\n{json.dumps(values, sort_keys=True)}".encode()
    return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


def _vouched(signed: Signed | None, named: User | None, claimed: User) -> User:
    """Who asks with the connection key: of several that say so, the inlet knows most."""
    if signed is not None and signed.user.id is not None:
        return signed.user
    return named or User(claimed=claimed.id)


def _user_from_headers(headers: Mapping[str, str]) -> User | None:
    """The user, where the connection has header templates for it or Open WebUI forwards it everywhere."""
    for start in ("x-agent-mode-user-", "x-openwebui-user-"):
        user_id = _header(headers, f"{start}id")
        if user_id is not None:
            name = unquote(_header(headers, f"{start}name") or "")
            return User(user_id, headers.get(f"{start}role") == "admin", name)
    return None


def _header(headers: Mapping[str, str], name: str) -> str | None:
    """A header's text; None where a template was not filled in."""
    value = _id(headers.get(name))
    return None if value is None or "{{" in value or value in ("None", "null") else value


def _from_headers(headers: Mapping[str, str]) -> TurnContext:
    """The context of a chat whose inlet is not ours (a workspace model on one of our models).

    Open WebUI sends the chat id itself; the others come from header templates in the connection.
    """
    chat_id = _header(headers, "x-agent-mode-chat-id") or _header(headers, "x-openwebui-chat-id")
    message_id = _header(headers, "x-agent-mode-message-id")
    return TurnContext(
        chat_id=chat_id,
        message_id=message_id,
        parent_id=_header(headers, "x-agent-mode-parent-id"),
        user_message_id=_header(headers, "x-agent-mode-user-message-id"),
        session_id=chat_id,
        task=_header(headers, "x-agent-mode-task"),
        # Open WebUI sends an empty one at the root; a template that it does not know stays as it is.
        branch_known=message_id is not None and "{{" not in headers.get("x-agent-mode-parent-id", "{{"),
    )


def _session_token(headers: Mapping[str, str]) -> str | None:
    """Open WebUI's session cookie; it comes when the connection is set to forward cookies."""
    try:
        cookie = SimpleCookie(headers.get("cookie", "")).get("token")
    except CookieError:
        return None
    return cookie.value if cookie is not None and cookie.value else None


def _fields(context: TurnContext) -> dict[str, Any]:
    return {name: getattr(context, name) for name in _FIELDS}


def _id(value: Any) -> str | None:
    if not isinstance(value, str) or not value or len(value) > MAX_ID or not value.isprintable():
        return None
    return value


def _looks_like_task(messages: list[dict[str, Any]]) -> bool:
    users = [message for message in messages if message["role"] == "user"]
    return len(users) == 1 and message_text(users[0]).startswith(_TASK_OPENERS)
