"""One question to a server, asked synchronously: for checks that work without anything else running."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

import requests
from requests.auth import AuthBase

from agent_mode.outages import why

CONNECT_SECONDS = 4.0
READ_SECONDS = 6.0
"""Seconds without a byte."""
MAX_BYTES = 32 * 2**20
_QUOTED = 200
REACHED_PATHS = frozenset({"/reached", "/v1/reached"})
"""Our server answers there whoever has its key, so that it is seen by which ways its key is brought."""
REACHED = {"reached": "agent_mode"}
"""What it answers."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered.

    Attributes:
        status: HTTP status; 0: there was no answer.
        data: the JSON; None if it was none.
        raw: the start of the body.
        reason: why there was no answer.
    """

    status: int
    data: Any = None
    raw: bytes = b""
    reason: str = ""

    @property
    def said(self) -> str:
        """The server's own words about a failure."""
        data = self.data if isinstance(self.data, dict) else {}
        detail = data.get("detail") or data.get("message") or ""
        return " ".join(str(detail).split())[:_QUOTED]


class _Bearer(AuthBase):
    """A token that nothing replaces: without it, requests would take what it finds in ~/.netrc."""

    def __init__(self, key: str | None) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._key:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request


def get(
    url: str, key: str | None = None, *, proxied: bool = False, body: dict[str, Any] | None = None
) -> Answer:
    """Asks; never raises, and follows no redirect: the key is for this address alone.

    Args:
        url: the whole address.
        key: bearer token.
        proxied: whether proxies of the environment may be used.
        body: JSON to send along.
    """
    try:
        with requests.Session() as session:
            session.trust_env = proxied and any(name.lower().endswith("_proxy") for name in os.environ)
            with session.get(
                url,
                json=body,
                auth=_Bearer(key),
                timeout=(CONNECT_SECONDS, READ_SECONDS),
                allow_redirects=False,
                stream=True,
            ) as reply:
                raw = _read(reply)
                return Answer(reply.status_code, _json(raw), raw[:2000])
    except requests.Timeout:
        return Answer(0, reason="no answer in time")
    except requests.ConnectionError:
        return Answer(0, reason="no connection")
    except (requests.RequestException, ValueError) as error:  # ValueError: a key that no header can hold
        return Answer(0, reason=why(error))


def _read(reply: requests.Response) -> bytes:
    parts: list[bytes] = []
    size = 0
    for part in reply.iter_content(65_536):
        size += len(part)
        if size > MAX_BYTES:
            raise requests.RequestException("too large")
        parts.append(part)
    return b"".join(parts)


def _json(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None
