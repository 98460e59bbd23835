"""Tickets: the signed, expiring values of the session cookie of the Agents page."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import jwt

COOKIE = "agent_mode_admin"
HOURS = 12
"""How long somebody stays signed in."""
_SECONDS = HOURS * 3600
_AUDIENCE = "agent-mode-admin"


@dataclass(frozen=True, slots=True)
class Person:
    """Who is signed in.

    Attributes:
        name: as the records show it.
        via: with what.
        account_id: Open WebUI's id of the account; "" for the connection key.
    """

    name: str
    via: Literal["key", "account"]
    account_id: str = ""


@dataclass(frozen=True, slots=True)
class Ticket:
    """A session of one person.

    Attributes:
        id: of the session; no secret.
        expires: seconds since the epoch.
    """

    id: str
    person: Person
    expires: int


def new_id() -> str:
    """The id of a new session."""
    return secrets.token_urlsafe(12)


class Tickets:
    """Makes and reads tickets.

    A ticket is good in every process with the same secrets. That a session was ended is remembered here,
    until the ticket would have expired; whoever keeps a record of it tells the next process by `end`.

    Args:
        secret: of the installation.
        key: the connection key; with a new one, all sessions end.
    """

    def __init__(self, secret: str, key: str) -> None:
        self._key = hmac.digest(
            secret.encode(errors="surrogateescape"),
            b"agent-mode admin page\0" + key.encode(errors="surrogateescape"),
            hashlib.sha256,
        )
        self._ended: dict[str, float] = {}

    def issue(self, person: Person, session_id: str = "") -> str:
        """The cookie of a new session.

        Args:
            person: whose.
            session_id: of the session, from `new_id`.
        """
        now = int(time.time())
        claims = {
            "aud": _AUDIENCE,
            "jti": session_id or new_id(),
            "sub": person.name,
            "via": person.via,
            "uid": person.account_id,
            "iat": now,
            "exp": now + _SECONDS,
        }
        return jwt.encode(claims, self._key, algorithm="HS256")

    def read(self, value: str | None) -> Ticket | None:
        """The session of a cookie; None if it is forged, expired or ended."""
        if not value:
            return None
        try:
            claims = jwt.decode(
                value,
                self._key,
                algorithms=["HS256"],
                audience=_AUDIENCE,
                options={"require": ["exp", "jti", "sub"]},
            )
        except jwt.InvalidTokenError:
            return None
        via: Literal["key", "account"] = "account" if claims.get("via") == "account" else "key"
        person = Person(str(claims["sub"]), via, str(claims.get("uid") or ""))
        ticket = Ticket(str(claims["jti"]), person, int(claims["exp"]))
        return ticket if self.holds(ticket) else None

    def holds(self, ticket: Ticket) -> bool:
        """Whether the session goes on."""
        return ticket.id not in self._ended and time.time() < ticket.expires

    def end(self, ids: Iterable[str]) -> None:
        """Ends sessions."""
        now = time.time()
        self._ended = {known: until for known, until in self._ended.items() if until > now}
        self._ended |= dict.fromkeys(ids, now + _SECONDS)
