"""A persona as the tests of the store write it."""

from __future__ import annotations

from typing import Any

from agent_mode.store.personas import PersonaForm


def form(key: str = "coder", **changes: Any) -> PersonaForm:
    """A persona with all fields set."""
    values: dict[str, Any] = {
        "key": key,
        "name": "Coder",
        "emoji": "💻",
        "category": "software",
        "prompt": "You write code.",
        "description": "Writes code",
        "capabilities": ["python", "sql"],
        "tags": ["dev"],
        "model": None,
    }
    return PersonaForm.model_validate(values | changes)
