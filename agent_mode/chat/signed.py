"""The context of a turn as an inlet leaves it in the body, signed with the connection key."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from dataclasses import fields
from typing import Any, NamedTuple

from agent_mode.chat.context import MAX_ID, TurnContext, User

CONTEXT_KEY = "agent_mode"
"""The key of the body in which an inlet leaves the chat's context for `pipe()`."""

CONTEXT_SECONDS = 24 * 3600
"""For how long a signed context is believed: a turn's tool calls carry it along, and may wait for people."""

_FIELDS = frozenset(item.name for item in fields(TurnContext))
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


def _fields(context: TurnContext) -> dict[str, Any]:
    return {name: getattr(context, name) for name in _FIELDS}
