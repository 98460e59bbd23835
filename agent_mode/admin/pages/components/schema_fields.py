"""What a JSON schema asks for, as the fields of a form. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from agent_mode.errors import Problem

Kind = Literal["text", "lines", "number", "integer", "switch", "choice", "words", "group", "rows", "json"]

_LINES = 300
"""Texts that may be longer get a field of several lines."""
_WRITTEN = {"llm": "LLM", "api": "API", "url": "URL", "id": "ID", "json": "JSON", "mb": "MB"}
_DEEPEST = 4
"""What is nested deeper is edited as JSON."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field.

    Attributes:
        name: of the property.
        label: what people read.
        kind: `text`, `lines` (a text of several), `number`, `integer`, `switch`, `choice`, `words` (a list of
            texts), `group` (an object), `rows` (a list of objects), `json` (whatever else).
        help: what it means.
        required: whether it must be there.
        nullable: whether it may be null.
        default: what holds when it is left out.
        choices: of a `choice`.
        bounds: what a number must lie between; None: no bound.
        longest: most characters of a text, or None.
        secret: whether it is never shown.
        fields: of a `group`, or of each of the `rows`.
    """

    name: str
    label: str
    kind: Kind
    help: str = ""
    required: bool = False
    nullable: bool = False
    default: Any = None
    choices: tuple[Any, ...] = ()
    bounds: tuple[float | None, float | None] = (None, None)
    longest: int | None = None
    secret: bool = False
    fields: tuple[Field, ...] = ()

    @property
    def hint(self) -> str:
        """The help, and within which bounds a number lies."""
        low, high = self.bounds
        if low is not None and high is not None:
            return f"{self.help} ({low:,} to {high:,})".strip()
        return self.help


def fields_of(schema: Mapping[str, Any]) -> tuple[Field, ...]:
    """The fields that the schema of an object asks for; a schema that is none asks for nothing."""
    return _fields(schema, schema, 1)


def _fields(root: Mapping[str, Any], schema: Mapping[str, Any], depth: int) -> tuple[Field, ...]:
    properties = schema.get("properties")
    required = schema.get("required") or ()
    if not isinstance(properties, Mapping):
        return ()
    return tuple(
        _field(root, str(name), found, depth, required=name in required)
        for name, found in properties.items()
        if isinstance(found, Mapping)
    )


def _field(
    root: Mapping[str, Any], name: str, found: Mapping[str, Any], depth: int, *, required: bool
) -> Field:
    schema, nullable = _meant(root, found)
    kind = _kind(root, schema, depth)
    inner: tuple[Field, ...] = ()
    if kind == "group":
        inner = _fields(root, schema, depth + 1)
    elif kind == "rows":
        inner = _fields(root, _meant(root, schema["items"])[0], depth + 1)
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    choices = schema.get("enum") or ([schema["const"]] if "const" in schema else [])
    return Field(
        name=name,
        label=_label(name, found.get("title")),  # not that of what it refers to
        kind=kind,
        help=str(schema.get("description") or ""),
        required=required,
        nullable=nullable,
        default=schema.get("default"),
        choices=tuple(choices),
        bounds=(_number(low), _number(high)),
        longest=schema.get("maxLength") if isinstance(schema.get("maxLength"), int) else None,
        secret=schema.get("secret") is True or schema.get("format") == "password",
        fields=inner,
    )


def _meant(root: Mapping[str, Any], found: Any) -> tuple[Mapping[str, Any], bool]:
    """A schema with its reference followed, and whether null fits it; of several kinds, all but null."""
    nullable = False
    for _ in range(8):  # references may go in a circle
        if not isinstance(found, Mapping):
            return {}, nullable
        outer = {key: value for key, value in found.items() if key not in ("$ref", "anyOf", "oneOf", "allOf")}
        if "$ref" in found:
            found = {**_referred(root, found["$ref"]), **outer}
            continue
        kinds = found.get("anyOf") or found.get("oneOf") or found.get("allOf")
        if not isinstance(kinds, list):
            return found, nullable
        rest = [kind for kind in kinds if not (isinstance(kind, Mapping) and kind.get("type") == "null")]
        nullable = nullable or len(rest) < len(kinds)
        if len(rest) != 1 or not isinstance(rest[0], Mapping):
            return outer, nullable
        found = {**rest[0], **outer}
    return {}, nullable


def _referred(root: Mapping[str, Any], path: Any) -> Mapping[str, Any]:
    found: Any = root
    for part in str(path).removeprefix("#/").split("/"):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _kind(root: Mapping[str, Any], schema: Mapping[str, Any], depth: int) -> Kind:
    if schema.get("enum") or "const" in schema:
        return "choice"
    match schema.get("type"):
        case "string":
            longest = schema.get("maxLength")
            several = (isinstance(longest, int) and longest > _LINES) or schema.get("format") == "textarea"
            return "lines" if several else "text"
        case "integer":
            return "integer"
        case "number":
            return "number"
        case "boolean":
            return "switch"
        case "array":
            items, _ = _meant(root, schema.get("items"))
            if items.get("type") == "string" and not items.get("enum"):
                return "words"
            return "rows" if _is_group(items) and depth < _DEEPEST else "json"
        case "object" if _is_group(schema) and depth < _DEEPEST:
            return "group"
    return "json"


def _is_group(schema: Mapping[str, Any]) -> bool:
    return schema.get("type") == "object" and isinstance(schema.get("properties"), Mapping)


def _label(name: str, title: Any) -> str:
    """The title of whoever wrote one; pydantic's own is the name in capitals, which reads badly."""
    plain = name.replace("_", " ").strip()
    if isinstance(title, str) and title and title.lower() != plain.lower():
        return title
    written = " ".join(_WRITTEN.get(word, word) for word in plain.split())
    return f"{written[:1].upper()}{written[1:]}"


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def empty_row(fields: tuple[Field, ...]) -> dict[str, Any]:
    """A new row: what must be there, with nothing in it."""
    blank: dict[Kind, Any] = {"switch": False, "words": [], "rows": [], "text": "", "lines": ""}
    return {
        field.name: empty_row(field.fields) if field.kind == "group" else blank.get(field.kind)
        for field in fields
        if field.required
    }


def placed(problems: list[Problem], places: set[str]) -> tuple[dict[str, list[Problem]], list[Problem]]:
    """Which problem stands beside which field: the nearest one around its path; and those without any.

    Args:
        problems: by dotted path.
        places: the paths of the fields that are shown.
    """
    found: dict[str, list[Problem]] = {}
    rest: list[Problem] = []
    for problem in problems:
        path = problem.field
        while path and path not in places:
            path = path.rpartition(".")[0]
        if path:
            found.setdefault(path, []).append(problem)
        else:
            rest.append(problem)
    return found, rest


def read_json(text: str) -> tuple[Any, str]:
    """What a field of JSON means, and why it cannot be read; nothing is null."""
    try:
        return (json.loads(text) if text.strip() else None), ""
    except (ValueError, RecursionError) as error:
        return None, f"This is not JSON: {error}"


def moved_up(half: Mapping[str, str], path: str, gone: int) -> dict[str, str]:
    """What is half typed, by path, once a row is taken away: the ones after it move up.

    Args:
        half: by path.
        path: of the rows.
        gone: place of the row.
    """
    found: dict[str, str] = {}
    for where, text in half.items():
        place, dot, rest = where.removeprefix(f"{path}.").partition(".")
        if not where.startswith(f"{path}.") or not place.isdigit() or int(place) < gone:
            found[where] = text
        elif int(place) > gone:
            found[f"{path}.{int(place) - 1}{dot}{rest}"] = text
    return found


def has_secret(field: Field) -> bool:
    """Whether a secret stands in one of the fields inside."""
    return any(part.secret or has_secret(part) for part in field.fields)
