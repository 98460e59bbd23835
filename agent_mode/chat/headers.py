"""What a request's headers tell of a turn. Their names are in lower case."""

from __future__ import annotations

from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from urllib.parse import unquote

from agent_mode.chat.context import TurnContext, User, id_of


def user_of(headers: Mapping[str, str]) -> User | None:
    """The user, where the connection has header templates for it or Open WebUI forwards it everywhere."""
    for start in ("x-agent-mode-user-", "x-openwebui-user-"):
        user_id = _header(headers, f"{start}id")
        if user_id is not None:
            name = unquote(_header(headers, f"{start}name") or "")
            return User(user_id, headers.get(f"{start}role") == "admin", name)
    return None


def context_of_headers(headers: Mapping[str, str]) -> TurnContext:
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


def session_token(headers: Mapping[str, str]) -> str | None:
    """Open WebUI's session cookie; it comes when the connection is set to forward cookies."""
    try:
        cookie = SimpleCookie(headers.get("cookie", "")).get("token")
    except CookieError:
        return None
    return cookie.value if cookie is not None and cookie.value else None


def _header(headers: Mapping[str, str], name: str) -> str | None:
    """A header's text; None where a template was not filled in."""
    value = id_of(headers.get(name))
    return None if value is None or "{{" in value or value in ("None", "null") else value
