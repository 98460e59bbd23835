"""What a person or a file may say about a persona, and the rules for it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from agent_mode.store.extras import Extras

RESERVED_KEYS = frozenset(
    {"agent", "list", "reset", "default", "normal", "multi", "settings", "history", "rollback", "help"}
    | {"console", "tool_runner", "auto"}
    | {f"persona{number}" for number in range(1, 10)}
)
"""Words that are commands or models of ours already."""

CONTENT_FIELDS = (
    "name",
    "emoji",
    "category",
    "prompt",
    "description",
    "capabilities",
    "tags",
    "model",
    "extras",
)
"""What makes a persona what it is: all but its key and whether it is enabled."""

_KEY = re.compile(r"[a-z][a-z0-9_-]{1,31}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_CONTROL_IN_TEXT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def _key(text: str) -> str:
    if not _KEY.fullmatch(text):
        raise PydanticCustomError(
            "persona_key", "must be 2 to 32 characters of a-z, 0-9, '-' and '_', and begin with a letter"
        )
    if text in RESERVED_KEYS:
        raise PydanticCustomError("persona_key_reserved", "'{key}' is a command already", {"key": text})
    return text


def _line(text: str) -> str:
    if _CONTROL.search(text):
        raise PydanticCustomError("persona_line", "must be one line without control characters")
    return text


def _text(text: str) -> str:
    # Forms in a browser post CRLF; the same text must not count as an edit.
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if _CONTROL_IN_TEXT.search(text):
        raise PydanticCustomError("persona_text", "must not contain control characters")
    return text


_Label = Annotated[str, Field(min_length=1, max_length=80), AfterValidator(_line)]


class PersonaForm(BaseModel):
    """A persona as input: from the API, the admin page or a file. White space around texts is cut."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    key: Annotated[str, AfterValidator(_key)]
    """What follows the `!` in a command, and the last part of the model's id."""
    name: _Label
    emoji: Annotated[str, Field(max_length=16), AfterValidator(_line)] = ""
    category: _Label = "custom"
    prompt: Annotated[str, Field(min_length=1, max_length=100_000), AfterValidator(_text)]
    description: Annotated[str, Field(max_length=1_000), AfterValidator(_text)] = ""
    capabilities: Annotated[tuple[_Label, ...], Field(max_length=50)] = ()
    tags: Annotated[tuple[_Label, ...], Field(max_length=50)] = ()
    model: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_line)] | None = None
    """Id of the provider's model that answers; None: the one of the connection."""
    enabled: bool = True
    extras: Extras = {}
    """What another program's format says about the persona and ours has no field for."""


def content(source: object) -> dict[str, Any]:
    """The content fields of a form or a persona, with lists as JSON has them."""
    values = {field: getattr(source, field) for field in CONTENT_FIELDS}
    return values | {"capabilities": list(values["capabilities"]), "tags": list(values["tags"])}


def content_hash(source: object) -> str:
    """SHA-256 in hex over the content fields as canonical JSON; equal for equal content."""
    values = content(source)
    if not values["extras"]:
        del values["extras"]  # as before there were any, so that the hashes of that time stay valid
    return json_hash(values)


def json_hash(value: object) -> str:
    """SHA-256 in hex over the value as canonical JSON."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def problems(error: ValidationError) -> list[tuple[str, str]]:
    """The complaints of a failed validation as (field, message), the field as a dotted path."""
    return [(_path(entry), entry["msg"]) for entry in error.errors(include_url=False, include_context=False)]


def _path(entry: Mapping[str, Any]) -> str:
    return ".".join(str(part) for part in entry["loc"]) or "file"
