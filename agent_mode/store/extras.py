"""Fields of foreign persona formats that must survive a round trip: any JSON, within limits."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import AfterValidator, StringConstraints
from pydantic_core import PydanticCustomError

SIZE_LIMIT = 1024 * 1024
"""Largest extras of one persona, in bytes of JSON: a character card with a lorebook fits."""
DEPTH_LIMIT = 32
INTEGER_LIMIT = 2**63
"""Beyond it programs in other languages would silently lose digits."""


def _checked(extras: dict[str, Any]) -> dict[str, Any]:
    level: list[Any] = [extras]
    for _ in range(DEPTH_LIMIT):
        level = [inner for value in level for inner in _children(value)]
        if not level:
            break
    else:
        raise PydanticCustomError(
            "extras_depth", "must not be nested deeper than {limit} levels", {"limit": DEPTH_LIMIT}
        )
    text = json.dumps(extras, ensure_ascii=False, separators=(",", ":"))
    if len(text.encode()) > SIZE_LIMIT:
        raise PydanticCustomError(
            "extras_size", "must not be larger than {limit} KiB as JSON", {"limit": SIZE_LIMIT // 1024}
        )
    return json.loads(text)  # a copy that nobody else can change


def _children(value: Any) -> Iterator[Any]:
    kind = type(value)
    if kind is dict:
        for name, inner in value.items():
            if type(name) is not str:
                raise _not_json()
            _check_text(name)
            yield inner
    elif kind is list:
        yield from value
    elif kind is str:
        _check_text(value)
    elif kind is int:
        if not -INTEGER_LIMIT <= value < INTEGER_LIMIT:
            raise PydanticCustomError("extras_number", "must not hold whole numbers of more than 64 bits")
    elif kind is float:
        if not math.isfinite(value):
            raise _not_json()
    elif kind is not bool and value is not None:
        raise _not_json()


def _check_text(text: str) -> None:
    # What databases refuse: NUL, and halves of a character.
    if "\0" in text or (not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text)):
        raise PydanticCustomError("extras_text", "must not hold NUL or broken characters")


def _not_json() -> PydanticCustomError:
    return PydanticCustomError(
        "extras_json", "must hold nothing but JSON: objects, lists, texts, finite numbers, true, false, null"
    )


# White space that belongs to a foreign name must stay, whatever the model around it says.
_Name = Annotated[str, StringConstraints(strip_whitespace=False)]
Extras = Annotated[dict[_Name, Any], AfterValidator(_checked)]
