"""What a backup says of each persona, and what putting it back would change. Pure functions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from agent_mode.errors import StoreError
from agent_mode.store.forms import PersonaForm, content, first_problem
from agent_mode.store.persona_rows import Persona

_BOOKKEEPING = ("origin", "shipped_hash")


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """What a restore does, or did, as sorted keys."""

    created: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    """Custom personas that are newer than the backup; their versions stay."""
    kept: tuple[str, ...] = ()
    """Shipped personas that are newer than the backup: the catalogue would bring them back anyway."""
    disabled: tuple[str, ...] = ()
    """Those of the above that are enabled in the backup, and not here: an agent has taken the name since."""

    @property
    def changes(self) -> bool:
        """True unless everything is as in the backup already."""
        return bool(self.created or self.updated or self.removed)


def entry_of(persona: Persona) -> dict[str, Any]:
    """The persona as a backup holds it: all but the moments at which it changed."""
    fields = ("key", "enabled", *_BOOKKEEPING)
    return {name: getattr(persona, name) for name in fields} | content(persona)


def plan(
    present: Iterable[Persona], saved: Mapping[str, Mapping[str, Any]], taken: Collection[str] = ()
) -> RestorePlan:
    """Compare the personas of the store with the entries of a backup.

    Args:
        present: those of the store.
        saved: the entries.
        taken: the keys that agents have as ids.
    """
    steps: dict[str, list[str]] = {"created": [], "updated": [], "unchanged": [], "removed": [], "kept": []}
    here = {persona.key: persona for persona in present}
    disabled = [
        key
        for key in sorted(saved)
        if key in taken and saved[key]["enabled"] and not (key in here and here[key].enabled)
    ]
    saved = {key: returning(entry, disabled) for key, entry in saved.items()}
    for key in sorted({*here, *saved}):
        persona = here.get(key)
        if persona is None:
            steps["created"].append(key)
        elif key not in saved:
            steps["kept" if persona.origin == "shipped" else "removed"].append(key)
        else:
            steps["unchanged" if entry_of(persona) == saved[key] else "updated"].append(key)
    return RestorePlan(**{step: tuple(keys) for step, keys in steps.items()}, disabled=tuple(disabled))


def returning(entry: Mapping[str, Any], disabled: Collection[str]) -> Mapping[str, Any]:
    """The entry as it comes back."""
    return {**entry, "enabled": False} if entry["key"] in disabled else entry


def form_of(entry: Mapping[str, Any]) -> PersonaForm:
    """The entry as input.

    Raises:
        StoreError: code `backup_refused`: the rules for personas have become stricter since.
    """
    try:
        return PersonaForm.model_validate(
            {name: value for name, value in entry.items() if name not in _BOOKKEEPING}
        )
    except ValidationError as error:
        raise StoreError(
            f"The backup cannot be restored: its persona {entry['key']} is not valid: "
            f"{first_problem(error)}.",
            code="backup_refused",
            status=409,
            hint="Nothing was changed. Restore another backup.",
        ) from error
