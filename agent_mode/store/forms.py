"""What a person or a file may say about a persona, and the rules for it."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, ValidationError
from pydantic_core import PydanticCustomError

from agent_mode.complaints import Complaint, complaints
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

_HINTS = {
    "key": "Write a short word such as reviewer; it is called with a ! before it.",
    "name": "Write what people shall see, in one line of 1 to 80 characters.",
    "emoji": "Write one emoji, or leave it empty.",
    "category": "Write one word or a few, in one line of 1 to 80 characters.",
    "prompt": "Write in 1 to 100000 characters what the persona is and how it answers.",
    "description": "Say in at most 1000 characters what it is good for.",
    "capabilities": "Write a list of at most 50 lines of at most 80 characters each.",
    "tags": "Write a list of at most 50 words of at most 80 characters each.",
    "model": "Write the id of a model of the provider, or null for the usual one.",
    "enabled": "Write true or false.",
    "extras": "Write a JSON object, or leave it out.",
}

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
    enabled: StrictBool = True
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


def problems(error: ValidationError) -> list[Complaint]:
    """What a failed validation of a persona complains about; `file` where it is none at all."""
    found = complaints(error.errors(include_url=False), known=PersonaForm.model_fields, hints=_HINTS)
    return [entry if entry.path else entry._replace(path=("file",)) for entry in found]


def first_problem(error: ValidationError) -> str:
    """The first of `problems` as text: `name: This field is missing`."""
    [first, *_] = problems(error)
    return f"{first.field}: {first.message}"
