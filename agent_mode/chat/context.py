"""Where in Open WebUI a turn belongs, and who asks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

MAX_ID = 256
_SAID_LIMIT = 32_768


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
        user_id = id_of(user.get("id")) if isinstance(user, dict) else None
        if user_id is None:
            return cls()
        name = user.get("name")
        return cls(user_id, user.get("role") == "admin", name if isinstance(name, str) else "")

    @property
    def owner(self) -> str:
        """Whose the records of the user's chats are; who merely claims an id has none of that id's."""
        return self.id or f"?{self.claimed or ''}"


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
        chat_id=id_of(meta.get("chat_id")),
        message_id=id_of(meta.get("message_id")),
        parent_id=id_of(user_message.get("parentId")),
        user_message_id=id_of(meta.get("user_message_id")) or id_of(user_message.get("id")),
        session_id=id_of(meta.get("session_id")),
        task=id_of(meta.get("task")),
        said=said if said and len(said) <= _SAID_LIMIT else None,
        via=id_of(via),
        base=id_of(base),
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


def id_of(value: Any) -> str | None:
    """The value, if it can be an id or a name; else None."""
    if not isinstance(value, str) or not value or len(value) > MAX_ID or not value.isprintable():
        return None
    return value
