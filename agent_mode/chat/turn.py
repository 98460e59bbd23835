"""One request from Open WebUI, validated once; after this nobody reads raw bodies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from agent_mode.chat.context import MAX_ID, TurnContext, User
from agent_mode.chat.headers import context_of_headers, session_token, user_of
from agent_mode.chat.messages import last_text, message_text
from agent_mode.chat.signed import CONTEXT_KEY, Signed, unpack
from agent_mode.errors import RequestError

MAX_MESSAGES = 10_000

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
    user: User = field(default_factory=User)

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
        named = user or user_of(headers)
        signed = unpack(body.get(CONTEXT_KEY), secret)
        if signed and signed.user.id and (named or claimed).id not in (None, signed.user.id):
            signed = None  # it was written for somebody else
        context = signed.context if signed else context_of_headers(headers)
        if context.task is None and _looks_like_task(messages):
            context = replace(context, task="unknown")
        return cls(
            model=model,
            messages=messages,
            stream=stream,
            params={key: value for key, value in body.items() if key not in _OWN_KEYS},
            context=context,
            user=user or replace(_vouched(signed, named, claimed), credential=session_token(headers)),
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


def _vouched(signed: Signed | None, named: User | None, claimed: User) -> User:
    """Who asks with the connection key: of several that say so, the inlet knows most."""
    if signed is not None and signed.user.id is not None:
        return signed.user
    return named or User(claimed=claimed.id)


def _looks_like_task(messages: list[dict[str, Any]]) -> bool:
    users = [message for message in messages if message["role"] == "user"]
    return len(users) == 1 and message_text(users[0]).startswith(_TASK_OPENERS)
