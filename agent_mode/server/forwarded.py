"""Requests that Open WebUI forwards for a user: they carry our key, and the user chose everything else.

Open WebUI's route `/openai/{any path}` hands requests of every signed-in user on to a connection, with the
connection's key: always before 0.10, later with `ENABLE_OPENAI_API_PASSTHROUGH`. Whoever has that key can run
Python on this server, so what Open WebUI forwards must not pass for what it asks of its own accord.

Its own calls for chats are built like forwarded ones, so those cannot be told apart. Everything else that it
asks of a Pipelines server (models, pipelines, valves, filters) is built in another way, in 0.6.43, 0.8.12 and
0.12.4 alike, and no user has a hand in these marks:

    own         Host, Authorization, Accept, Accept-Encoding, User-Agent [, Content-Length, Content-Type]
    forwarded   Host, Content-Type, [X-OpenWebUI-User-…,] Authorization, Accept, …, [X-Agent-Mode-…,] Cookie
"""

from __future__ import annotations

from collections.abc import Iterable

from agent_mode.errors import RequestError

_CLIENT = b"aiohttp/"
"""In the User-Agent of everything that Open WebUI forwards."""
_USER_MARK = b"x-openwebui-"
_TEMPLATES = frozenset(
    f"x-agent-mode-{name}".encode()
    for name in ("chat-id", "message-id", "parent-id", "user-message-id", "task")
)
"""Headers that an admin writes into the connection for chats: a forwarded request has them as well."""


def is_forwarded(method: str, headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a request other than for models and chats bears a mark of a forwarded one.

    Args:
        method: of the request, in capitals.
        headers: of the request, in the order in which they came.
    """
    names: list[bytes] = []
    values: dict[bytes, bytes] = {}
    for name, value in headers:
        names.append(name.lower())
        values[names[-1]] = value
    if any(name.startswith(_USER_MARK) or name in _TEMPLATES for name in names):
        return True
    if _CLIENT not in values.get(b"user-agent", b"") or b"content-type" not in values:
        return False
    if method in ("GET", "HEAD") or b"cookie" in values:
        return True  # Open WebUI's own have nothing to describe, and no cookies
    # A program of somebody's own that uses aiohttp may say both, and mostly says them the other way round.
    return b"authorization" in values and names.index(b"content-type") < names.index(b"authorization")


def refusal() -> RequestError:
    """What is answered to a forwarded request."""
    return RequestError(
        "Open WebUI forwarded this request for one of its users, and users may only chat.",
        hint="An admin sets the connection's authentication to Session in Open WebUI, or switches "
        "ENABLE_OPENAI_API_PASSTHROUGH off there. A program of your own that uses aiohttp sends "
        "Authorization before Content-Type, and on GET no Content-Type.",
        code="forwarded",
        status=403,
    )
