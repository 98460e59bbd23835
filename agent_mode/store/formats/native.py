"""Our own persona file: one persona as an object, or many in one list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agent_mode.errors import CatalogueError
from agent_mode.store.formats.entries import Entry, accepted, check_count, refused, validated
from agent_mode.store.formats.jsonfile import dumps
from agent_mode.store.formats.keys import Keys
from agent_mode.store.forms import PersonaForm

NAME = "agent-mode"
_MARK = "agent-mode-personas"

_DERIVED = frozenset(
    {
        "origin",
        "content_hash",
        "shipped_hash",
        "created_at",
        "updated_at",
        "display_name",
        "edited",
        "version",
    }
)
"""What our API adds to a persona and no file decides."""


def recognises(document: Any) -> bool:
    if isinstance(document, list):
        return any(isinstance(item, dict) and {"key", "prompt"} <= item.keys() for item in document)
    if not isinstance(document, dict):
        return False
    return document.get("format") == _MARK or (
        isinstance(document.get("prompt"), str) and bool({"key", "name"} & document.keys())
    )


def read(document: Any, filename: str) -> list[Entry]:
    """The personas of a parsed file. A field of a later version is kept, not refused."""
    items = document
    if isinstance(document, dict):
        items = document.get("personas") if document.get("format") == _MARK else [document]
    if not isinstance(items, list):
        raise CatalogueError("personas: must be a list.", hint="Export it once more.", field="personas")
    check_count(len(items))
    keys = Keys()
    return [_entry(item, f"{filename} #{number}", keys) for number, item in enumerate(items, start=1)]


def write(forms: Sequence[PersonaForm]) -> bytes:
    """One persona as it stands in the catalogue, or all of them in one object."""
    if len(forms) == 1:
        return dumps(_plain(forms[0]))
    return dumps({"format": _MARK, "personas": [_plain(form) for form in forms]})


def _entry(item: Any, place: str, keys: Keys) -> Entry:
    if not isinstance(item, dict):
        return refused(place, CatalogueError("It must be an object."))
    names = [text for text in (item.get("key"), item.get("name")) if isinstance(text, str)]
    shown = next(iter(names), place)
    try:
        return accepted(shown, validated(_values(item) | {"key": keys.take(*names, place)}))
    except CatalogueError as error:
        return refused(shown, error)


def _values(item: Mapping[str, Any]) -> dict[str, Any]:
    known = {name: value for name, value in item.items() if name in PersonaForm.model_fields}
    unknown = {name: value for name, value in item.items() if name not in known and name not in _DERIVED}
    extras = known.get("extras", {})
    if unknown and isinstance(extras, dict):
        known["extras"] = extras | {NAME: unknown}
    return known


def _plain(form: PersonaForm) -> dict[str, Any]:
    values = form.model_dump(mode="json")
    later = values["extras"].pop(NAME, None)
    if values["enabled"]:
        del values["enabled"]
    if not values["extras"]:
        del values["extras"]
    return (later if isinstance(later, dict) else {}) | values
