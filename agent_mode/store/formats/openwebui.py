"""Open WebUI's export of workspace models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agent_mode.errors import CatalogueError
from agent_mode.store.formats.block import block, complete
from agent_mode.store.formats.entries import Draft, Entry, check_count, entry, original, refused
from agent_mode.store.formats.jsonfile import dumps, object_at, text_at
from agent_mode.store.formats.keys import Keys
from agent_mode.store.forms import PersonaForm

NAME = "openwebui-models"

_MARKS = frozenset({"params", "base_model_id", "info"})


def recognises(document: Any) -> bool:
    items = document if isinstance(document, list) else [document]
    return any(isinstance(item, dict) and "id" in item and not _MARKS.isdisjoint(item) for item in items)


def read(document: Any, filename: str) -> list[Entry]:
    """The models of a parsed export; one without a system prompt is no persona."""
    items = document if isinstance(document, list) else [document]
    check_count(len(items))
    keys = Keys()
    return [_entry(item, f"{filename} #{number}", keys) for number, item in enumerate(items, start=1)]


def write(forms: Sequence[PersonaForm]) -> bytes:
    """The personas as models that Open WebUI imports. One that names no model is given one there."""
    models = [_model(form) for form in forms]
    ids: set[str] = set()
    for form, model in zip(forms, models, strict=True):
        fields = _fields(model)
        if fields["id"] in ids:
            fields["id"] = form.key
        ids.add(fields["id"])
    return dumps(models)


def _entry(item: Any, place: str, keys: Keys) -> Entry:
    if not isinstance(item, dict):
        return refused(place, CatalogueError("It must be an object."))
    shown = next((item[name] for name in ("id", "name") if isinstance(item.get(name), str)), place)
    return entry(shown, keys, lambda: _parse(item))


def _fields(item: dict[str, Any]) -> dict[str, Any]:
    # Exports of early versions hold the model one level deeper.
    inner = item.get("info")
    return inner if isinstance(inner, dict) else item


def _parse(item: dict[str, Any]) -> Draft:
    fields = _fields(item)
    meta = object_at(fields, "meta")
    ours = block(meta)
    prompt = text_at(object_at(fields, "params"), "system", "params").strip()
    if not prompt:
        raise CatalogueError(
            "params.system: is missing; without a system prompt a model is no persona.",
            hint="Write one in Open WebUI, or leave this model out.",
            field="params.system",
        )
    name = text_at(fields, "name") or text_at(item, "name") or text_at(fields, "id")
    emoji = ours.get("emoji")
    return Draft(
        key_from=(text_at(fields, "id"),),
        name=name.removeprefix(f"{emoji} ") if emoji else name,
        prompt=prompt,
        emoji=emoji,
        category=ours.get("category"),
        description=text_at(meta, "description", "meta"),
        capabilities=ours.get("capabilities", _capabilities(meta)),
        tags=_tags(meta),
        model=text_at(fields, "base_model_id"),
        enabled=_enabled(fields),
        extras={NAME: item},
    )


def _model(form: PersonaForm) -> dict[str, Any]:
    raw, changed = original(form, NAME, _parse)
    item = raw or {
        "id": form.key,
        "base_model_id": None,
        "name": "",
        "meta": {},
        "params": {},
        "is_active": True,
    }
    if form.enabled != _enabled(_fields(item)):
        _fields(item)["is_active"] = form.enabled
    if changed:
        _put(_fields(item), form, changed)
        complete(_fields(item)["meta"], form, lambda: _parse(item))
    return item


def _put(fields: dict[str, Any], form: PersonaForm, changed: frozenset[str]) -> None:
    meta = fields["meta"] = object_at(fields, "meta")
    if changed & {"name", "emoji"}:
        fields["name"] = f"{form.emoji} {form.name}".strip()
    if "prompt" in changed:
        fields["params"] = object_at(fields, "params") | {"system": form.prompt}
    if "description" in changed:
        meta["description"] = form.description
    if "tags" in changed:
        meta["tags"] = [{"name": tag} for tag in form.tags]
    if "model" in changed:
        fields["base_model_id"] = form.model


def _enabled(fields: Mapping[str, Any]) -> bool:
    return fields.get("is_active") is not False


def _capabilities(meta: Mapping[str, Any]) -> list[str]:
    found = meta.get("capabilities")
    return (
        [name.replace("_", " ") for name, on in found.items() if on is True]
        if isinstance(found, dict)
        else []
    )


def _tags(meta: Mapping[str, Any]) -> list[str]:
    found = meta.get("tags")
    names = (
        [tag.get("name") if isinstance(tag, dict) else tag for tag in found]
        if isinstance(found, list)
        else []
    )
    return [name for name in names if isinstance(name, str)]
