"""Bodies of requests: read once, checked, and given on to upstream."""

from __future__ import annotations

import gc
import json
from itertools import chain
from typing import Any

from agent_mode.errors import RequestError
from agent_mode.server.streaming import Receive

MAX_DEPTH = 100
"""How deeply a body may be nested: far more than any chat is, far less than what Python can write again."""


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def read_json(raw: bytes) -> Any:
    """What a body holds.

    Raises:
        RequestError: it is not JSON in UTF-8, or nested too deeply.
    """
    try:
        body = _loads(raw.decode())  # as bytes, UTF-16 would pass
        if raw.count(b"[") + raw.count(b"{") <= MAX_DEPTH or _is_flat(body):
            return body
        reason = "it is nested too deeply"
    except RecursionError:
        reason = "it is nested too deeply"
    except ValueError as error:
        reason = str(error)
    raise RequestError(
        f"The request body is not JSON: {reason}.", hint="Send a JSON object in UTF-8.", field="body"
    )


def _loads(text: str) -> Any:
    """The JSON. What is made of it is no garbage: to look for some takes longer than to read a large body."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        return json.loads(text, parse_constant=_no_constant)
    finally:
        if collecting:
            gc.enable()


_CONTAINERS = frozenset({dict, list})  # JSON knows no others


def _is_flat(body: Any) -> bool:
    """Whether no more than `MAX_DEPTH` lists and objects are inside one another."""
    level = [body]
    for _ in range(MAX_DEPTH):
        inner = (outer.values() if type(outer) is dict else outer for outer in level)
        level = [item for item in chain.from_iterable(inner) if type(item) in _CONTAINERS]
        if not level:
            return True
    return False


def check_for_upstream(body: Any) -> None:
    """Upstream's refusals quote the body, and it answers 500 if that cannot be written.

    Raises:
        RequestError: it cannot.
    """
    try:
        json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    except ValueError as error:
        raise RequestError(
            "The request body holds half a character, or a number too large.",
            hint="Send whole characters in UTF-8, and finite numbers.",
            field="body",
        ) from error


def replay(raw: bytes, receive: Receive) -> Receive:
    """The body once more for upstream; after it, whatever else the connection says."""
    given = False

    async def again() -> Any:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": raw, "more_body": False}

    return again
