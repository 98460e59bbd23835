"""JSON and text from files that nobody vouches for."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn

from agent_mode.errors import CatalogueError

DEPTH_LIMIT = 64
"""Deepest nesting of lists and objects."""

_CONTAINERS = 500_000
_VALUES = 3_000_000


def decode(data: bytes) -> str:
    """The bytes as text, without a byte order mark."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CatalogueError("The file is not UTF-8 text.", hint="Save it as UTF-8 and try again.") from error


def loads(data: bytes | str) -> Any:
    """Parse JSON within the limits; `NaN` and the like are no JSON here either."""
    text = decode(data) if isinstance(data, bytes) else data
    # Twenty megabytes of "[],[]," would need half a gigabyte.
    if text.count("[") + text.count("{") > _CONTAINERS or text.count(",") > _VALUES:
        raise CatalogueError("The file holds too many values.", hint="Split it into several files.")
    try:
        value = json.loads(text, parse_constant=_no_number, parse_float=_number)
    except RecursionError as error:
        raise _too_deep() from error
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise CatalogueError(
            f"The file is not valid JSON: {error.msg} ({place}).", hint="Export it once more."
        ) from error
    except ValueError as error:
        raise CatalogueError(f"The file is not valid JSON: {error}.", hint="Export it once more.") from error
    _check_depth(value)
    return value


def dumps(value: Any) -> bytes:
    """JSON as a person reads it."""
    return json.dumps(value, ensure_ascii=False, indent=2).encode() + b"\n"


def _check_depth(value: Any) -> None:
    level, depth = [value], 1
    while level := [item for outer in level for item in _children(outer)]:
        depth += 1
        if depth > DEPTH_LIMIT:
            raise _too_deep()


def object_at(source: Mapping[str, Any], field: str, path: str = "") -> dict[str, Any]:
    """The object in a field; {} if the field is missing or null."""
    return _typed(source, field, path, dict, "an object")


def text_at(source: Mapping[str, Any], field: str, path: str = "") -> str:
    """The text in a field; "" if the field is missing or null."""
    return _typed(source, field, path, str, "text")


def texts_at(source: Mapping[str, Any], field: str) -> list[str]:
    """The texts in a list; what is no text is passed over."""
    found = source.get(field)
    return [item for item in found if isinstance(item, str)] if isinstance(found, list) else []


def _typed(source: Mapping[str, Any], field: str, path: str, kind: type, word: str) -> Any:
    value = source.get(field)
    if value is None:
        return kind()
    if not isinstance(value, kind):
        where = f"{path}.{field}" if path else field
        raise CatalogueError(f"{where}: must be {word}.", hint="Correct it in the file.", field=where)
    return value


def _children(value: Any) -> list[Any]:
    # Only containers count, and only they are kept: the rest of a large file needs no second list.
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [item for item in inner if isinstance(item, dict | list)]


def _number(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("a number is too large")
    return value


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number in JSON")


def _too_deep() -> CatalogueError:
    return CatalogueError(
        f"The file is nested more than {DEPTH_LIMIT} levels deep.", hint="No persona needs that: check it."
    )
