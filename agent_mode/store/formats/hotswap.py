"""The `personas.json` of Agent Hotswap: a map from command to persona. Import only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from agent_mode.errors import CatalogueError
from agent_mode.store.formats.entries import Draft, Entry, check_count, entry, refused
from agent_mode.store.formats.jsonfile import text_at, texts_at
from agent_mode.store.formats.keys import Keys

NAME = "agent-hotswap"

_NUMBERED = re.compile(r"\s*(?:\d+[.)]|[-*•])\s")
_LABEL = 80


def recognises(document: Any) -> bool:
    found = _personas(document).values()
    return any(isinstance(item, dict) and isinstance(item.get("prompt"), str) for item in found)


def read(document: Any, filename: str) -> list[Entry]:
    """The personas of a parsed file; hidden ones are Agent Hotswap's own machinery and are refused."""
    found = _personas(document)
    check_count(len(found))
    keys = Keys()
    return [_entry(command, item, keys) for command, item in found.items()]


def _personas(document: Any) -> dict[str, Any]:
    if not isinstance(document, dict):
        return {}
    inner = document.get("personas")
    # A persona may itself be called "personas".
    return inner if isinstance(inner, dict) and "prompt" not in inner else document


def _entry(command: str, item: Any, keys: Keys) -> Entry:
    if not isinstance(item, dict):
        return refused(command, CatalogueError("It must be an object."))
    if command.startswith("_") or item.get("hidden") is True or item.get("always_active") is True:
        return refused(
            command,
            CatalogueError(
                "It is hidden: a part of Agent Hotswap that lies beneath every persona, not a persona.",
                hint="Put what you need of it into the personas that need it.",
            ),
        )
    return entry(command, keys, lambda: _parse(command, item))


def _parse(command: str, item: Mapping[str, Any]) -> Draft:
    prompt = text_at(item, "prompt").strip()
    if not prompt:
        raise CatalogueError("prompt: is missing.", hint="Write one in the file.", field="prompt")
    capabilities = [text.strip() for text in texts_at(item, "capabilities") if text.strip()]
    long = [text for text in capabilities if len(text) > _LABEL]
    rules = [text.strip() for text in texts_at(item, "rules") if text.strip()]
    category = text_at(item, "category")
    return Draft(
        key_from=(command,),
        name=text_at(item, "name") or command,
        emoji=text_at(item, "emoji") or None,
        prompt="\n\n".join([prompt, *_section("Capabilities", long), *_section("Rules", rules)]),
        description=text_at(item, "description"),
        capabilities=[text for text in capabilities if len(text) <= _LABEL],
        tags=[*texts_at(item, "tags"), *([category] if category else [])],
        extras={NAME: dict(item)},
    )


def _section(title: str, lines: list[str]) -> list[str]:
    if not lines:
        return []
    listed = (text if _NUMBERED.match(text) else f"- {text}" for text in lines)
    return ["\n".join([f"## {title}", *listed])]
