"""Open WebUI's export of prompts. Import only."""

from __future__ import annotations

from typing import Any

from agent_mode.errors import CatalogueError
from agent_mode.store.formats.entries import Draft, Entry, check_count, entry, refused
from agent_mode.store.formats.jsonfile import text_at, texts_at
from agent_mode.store.formats.keys import Keys

NAME = "openwebui-prompts"


def recognises(document: Any) -> bool:
    items = document if isinstance(document, list) else [document]
    return any(isinstance(item, dict) and {"command", "content"} <= item.keys() for item in items)


def read(document: Any, filename: str) -> list[Entry]:
    """The prompts of a parsed export; what one is called there is its command here."""
    items = document if isinstance(document, list) else [document]
    check_count(len(items))
    keys = Keys()
    return [_entry(item, f"{filename} #{number}", keys) for number, item in enumerate(items, start=1)]


def _entry(item: Any, place: str, keys: Keys) -> Entry:
    if not isinstance(item, dict):
        return refused(place, CatalogueError("It must be an object."))
    command = item.get("command")
    return entry(command if isinstance(command, str) else place, keys, lambda: _parse(item))


def _parse(item: dict[str, Any]) -> Draft:
    prompt = text_at(item, "content").strip()
    if not prompt:
        raise CatalogueError("content: is missing.", hint="Write one in the file.", field="content")
    command = text_at(item, "command")
    return Draft(
        key_from=(command,),
        # Early versions call the name title.
        name=text_at(item, "name") or text_at(item, "title") or command.lstrip("/"),
        prompt=prompt,
        tags=texts_at(item, "tags"),
        enabled=item.get("is_active") is not False,
        extras={NAME: item},
    )
