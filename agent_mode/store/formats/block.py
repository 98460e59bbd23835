"""Our own block inside a foreign document: what a persona has and the format has no field for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from agent_mode.store.formats.entries import Draft
from agent_mode.store.formats.keys import Keys
from agent_mode.store.forms import PersonaForm

BLOCK = "agent_mode"
"""The block's name; a format says where it lies."""

_TEXTS = ("key", "emoji", "category", "model")
_NOTED = ("category", "capabilities", "model")


def block(holder: Mapping[str, Any]) -> dict[str, Any]:
    """The usable fields of the block in this object; {} if there is none."""
    found = holder.get(BLOCK)
    if not isinstance(found, dict):
        return {}
    return {name: value for name, value in found.items() if _usable(name, value)}


def complete(
    holder: dict[str, Any], form: PersonaForm, parse: Callable[[], Draft], *, key: bool = False
) -> None:
    """Note in the block what reading the document back would not find.

    Args:
        holder: the object in which the block lies; it is part of the document.
        form: the persona that the document shall hold.
        parse: reads the document back.
        key: whether the key must be found as well: not where the document came with one of its own.
    """
    draft = replace(parse(), extras={})
    found = draft.form(form.key)
    missing: dict[str, Any] = {}
    if key and Keys().take(*draft.key_from, draft.name) != form.key:
        missing["key"] = form.key
    if (found.name, found.emoji) != (form.name, form.emoji):
        missing["emoji"] = form.emoji  # with it the name is taken as it stands
    for name in _NOTED:
        if getattr(found, name) != getattr(form, name):
            value = getattr(form, name)
            missing[name] = list(value) if isinstance(value, tuple) else value
    if missing:
        holder[BLOCK] = block(holder) | missing


def _usable(name: str, value: Any) -> bool:
    if name in _TEXTS:
        return isinstance(value, str)
    if name == "capabilities":
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    return True
