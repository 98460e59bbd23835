"""Who is calling: the connection key, compared in constant time, on every route but the status routes."""

from __future__ import annotations

import base64
import hmac
import ipaddress
from collections.abc import Mapping
from typing import Any

from agent_mode.errors import AuthenticationError
from agent_mode.server.upstream import DEFAULT_KEY

OPEN_PATHS = frozenset({"/", "/v1", "/healthz", "/readyz"})
"""Status routes; they tell that the server is up and nothing else."""


class WrongKey(AuthenticationError):
    """A key was sent, and it is not the connection key; it may be a user's own credential of Open WebUI."""


def is_open(method: str, path: str, headers: Mapping[str, str]) -> bool:
    """Whether the route needs no key: a status route, or a browser's CORS preflight, which carries none."""
    preflight = method == "OPTIONS" and "access-control-request-method" in headers
    return preflight or (method in ("GET", "HEAD") and path in OPEN_PATHS)


def check(authorization: str | None, key: str, server: Any, *, page: bool = False) -> None:
    """Checks the key of a request.

    Args:
        authorization: the Authorization header.
        key: the connection key.
        server: ASGI's `scope["server"]`: the address that the request reached.
        page: whether a browser may show the key as the password of basic authentication. Browsers send
            that along with requests that other sites start, so only for what merely reads.

    Raises:
        WrongKey: a bearer token was sent that is not the key.
        AuthenticationError: anything else; with the reason.
    """
    if key == DEFAULT_KEY and not is_loopback(server[0] if server else None):
        raise AuthenticationError(
            "The well-known default key is only good on this machine's own loopback address.",
            hint="Set PIPELINES_API_KEY to a key of your own and restart.",
        )
    if not authorization:
        raise AuthenticationError(
            "No key was sent.", hint="Send the connection key: `Authorization: Bearer <key>`."
        )
    scheme, _, token = authorization.partition(" ")
    if page and scheme.lower() == "basic":
        token = _password(token)
    elif scheme.lower() != "bearer":
        raise AuthenticationError(
            "The key was not sent as a bearer token.",
            hint="Set the connection's authentication to Bearer: `Authorization: Bearer <key>`.",
        )
    if not hmac.compare_digest(token.strip().encode("latin-1", "replace"), key.encode()):
        raise WrongKey(
            "The key is not this server's connection key.",
            hint="Copy it from what ./start.sh prints, or from PIPELINES_API_KEY.",
        )


def _password(token: str) -> str:
    try:
        return base64.b64decode(token, validate=True).decode().partition(":")[2]
    except ValueError:
        return ""


def is_loopback(host: str | None) -> bool:
    """Whether an address can be reached from this machine only."""
    if host is None:
        return False
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
