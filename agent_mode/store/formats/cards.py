"""Character Card V1, V2 and V3 as JSON: the format in which role-play programs exchange characters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agent_mode.errors import CatalogueError
from agent_mode.store.formats.block import BLOCK, block, complete
from agent_mode.store.formats.emoji import split_emoji
from agent_mode.store.formats.entries import Draft, Entry, entry, line, original
from agent_mode.store.formats.jsonfile import dumps, object_at, text_at, texts_at
from agent_mode.store.formats.keys import Keys
from agent_mode.store.formats.placeholders import fill
from agent_mode.store.forms import PersonaForm

NAME = "character-card"

_SPEC = {"spec": "chara_card_v3", "spec_version": "3.0"}
_SECTIONS = {
    "personality": "Personality",
    "scenario": "Scenario",
    "mes_example": "Example of the dialogue",
    "post_history_instructions": "Keep in mind",
}
_V1_TEXTS = ("name", "description", "personality", "scenario", "first_mes", "mes_example")
_V2_TEXTS = (
    "system_prompt",
    "post_history_instructions",
    "creator",
    "creator_notes",
    "character_version",
)
_WHOLE = "whole_prompt"
"""In our block: `description` is the prompt as it is, with no introduction missing."""


def recognises(document: Any) -> bool:
    if not isinstance(document, dict):
        return False
    if isinstance(document.get("data"), dict):
        return str(document.get("spec", "")).startswith("chara_card") or _is_v1(document["data"])
    return _is_v1(document)


def _is_v1(data: Mapping[str, Any]) -> bool:
    return {"name", "description"} <= data.keys() and bool({"personality", "first_mes"} & data.keys())


def read(document: Any, filename: str) -> list[Entry]:
    """The one character of a parsed card."""
    name = _data(document).get("name")
    shown = name if isinstance(name, str) and name.strip() else filename
    return [entry(shown, Keys(), lambda: _parse(document))]


def write(forms: Sequence[PersonaForm]) -> bytes:
    """The card of one persona, V3."""
    return dumps(card(forms[0]))


def card(form: PersonaForm) -> dict[str, Any]:
    """The persona as a V3 card; one that came as a card keeps every field that nobody changed."""
    raw, changed = original(form, NAME, _parse)
    document = _upgraded(raw or {})
    if not changed:
        return document
    data = document["data"]
    _put(data, form, changed)
    # V2 programs repeat some fields outside of `data`.
    document.update({name: data[name] for name in _V1_TEXTS if name in document and name in data})
    extensions = data["extensions"] = object_at(data, "extensions")
    complete(extensions, form, lambda: _parse(document), key=raw is None)
    return document


def v2(document: dict[str, Any]) -> dict[str, Any]:
    """The same card as programs before V3 read it."""
    return document | {"spec": "chara_card_v2", "spec_version": "2.0"}


def _data(document: dict[str, Any]) -> dict[str, Any]:
    inner = document.get("data")
    return inner if isinstance(inner, dict) else document


def _upgraded(raw: dict[str, Any]) -> dict[str, Any]:
    nested = isinstance(raw.get("data"), dict)
    if nested and raw.get("spec") == _SPEC["spec"]:
        return raw
    outer = raw if nested else {}
    blank: dict[str, Any] = dict.fromkeys([*_V1_TEXTS, *_V2_TEXTS], "")
    blank |= {"alternate_greetings": [], "group_only_greetings": [], "tags": [], "extensions": {}}
    return outer | _SPEC | {"data": blank | _data(raw)}


def _put(data: dict[str, Any], form: PersonaForm, changed: frozenset[str]) -> None:
    if changed & {"name", "emoji"}:
        data["name"] = form.name
    if "description" in changed:
        data["creator_notes"] = form.description
    if "tags" in changed:
        data["tags"] = list(form.tags)
    if changed & {"name", "prompt"}:  # another name would change what {{char}} stands for
        data |= dict.fromkeys(["system_prompt", *_SECTIONS], "") | {"description": form.prompt}
        extensions = object_at(data, "extensions")
        data["extensions"] = extensions | {BLOCK: block(extensions) | {_WHOLE: True}}


def _parse(document: dict[str, Any]) -> Draft:
    data = _data(document)
    ours = block(object_at(data, "extensions", "data"))
    name = line(text_at(data, "name", "data"), 400)
    if not name:
        raise CatalogueError("data.name: is missing.", hint="Write one in the card.", field="data.name")
    plain_name = name if "emoji" in ours else split_emoji(name)[1]
    called = line(text_at(data, "nickname", "data"), 80) or plain_name
    return Draft(
        key_from=(ours.get("key", ""), plain_name),
        name=name,
        prompt=fill(_prompt(data, called, whole=ours.get(_WHOLE) is True), called),
        emoji=ours.get("emoji"),
        category=ours.get("category"),
        description=fill(text_at(data, "creator_notes", "data"), called),
        capabilities=ours.get("capabilities", ()),
        tags=texts_at(data, "tags"),
        model=ours.get("model"),
        extras={NAME: dict(document)},
    )


def _prompt(data: Mapping[str, Any], called: str, *, whole: bool) -> str:
    lead = text_at(data, "system_prompt", "data").strip()
    if not lead and not whole:
        lead = f"You are {called}."
    parts = [lead, text_at(data, "description", "data").strip()]
    for field, title in _SECTIONS.items():
        if text := text_at(data, field, "data").strip():
            parts.append(f"## {title}\n{text}")
    return "\n\n".join(filter(None, parts))
