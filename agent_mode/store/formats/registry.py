"""Which formats there are, and which of them a file is in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from agent_mode.errors import CatalogueError
from agent_mode.store.formats import (
    card_png,
    cards,
    hotswap,
    markdown,
    native,
    openwebui,
    openwebui_prompts,
    prompts_csv,
)
from agent_mode.store.formats.entries import Entry, validated
from agent_mode.store.formats.jsonfile import loads
from agent_mode.store.forms import PersonaForm, content

SIZE_LIMIT = 20 * 1024 * 1024
"""Largest file in bytes that is read."""


@dataclass(frozen=True, slots=True)
class Format:
    """One format of persona files."""

    name: str
    title: str
    suffix: str
    media_type: str
    read: Callable[[Any, str], list[Entry]]
    """From the parsed document (JSON formats) or the bytes."""
    write: Callable[[Sequence[PersonaForm]], bytes] | None = None
    """None: import only."""
    single: bool = False
    """A file holds exactly one persona."""


_JSON = "application/json"
FORMATS = {
    item.name: item
    for item in (
        Format(native.NAME, "Agent Mode", ".json", _JSON, native.read, native.write),
        Format(hotswap.NAME, "Agent Hotswap", ".json", _JSON, hotswap.read),
        Format(cards.NAME, "Character card", ".json", _JSON, cards.read, cards.write, single=True),
        Format(
            card_png.NAME,
            "Character card (picture)",
            ".png",
            "image/png",
            card_png.read,
            card_png.write,
            single=True,
        ),
        Format(openwebui.NAME, "Open WebUI models", ".json", _JSON, openwebui.read, openwebui.write),
        Format(openwebui_prompts.NAME, "Open WebUI prompts", ".json", _JSON, openwebui_prompts.read),
        Format(
            markdown.NAME,
            "Agent or skill (Markdown)",
            ".md",
            "text/markdown",
            markdown.read,
            markdown.write,
            single=True,
        ),
        Format(prompts_csv.NAME, "Prompt list (CSV)", ".csv", "text/csv", prompts_csv.read),
    )
}
"""All formats by name."""

_JSON_MODULES = (native, cards, openwebui, openwebui_prompts, hotswap)
"""Asked in this order, the one with the weakest mark last."""

_ZIP = b"PK\x03\x04"
_HEAD = 64 * 1024


def detect(data: bytes, filename: str) -> str:
    """The name of the format that a file is in, by its content first and its name second."""
    return _inspect(data, filename)[0]


def read(data: bytes, filename: str) -> list[Entry]:
    """The personas of a file in any known format.

    It is work for the processor alone, up to some seconds for the largest files: call it in a thread.

    Args:
        data: the whole file.
        filename: its name, which tells some formats apart and names what has no name.

    Returns:
        one entry for each persona, in the order of the file; an unusable one has a `problem`.

    Raises:
        CatalogueError: if the file as a whole cannot be used.
    """
    name, payload = _inspect(data, filename)
    entries = FORMATS[name].read(payload, filename)
    if not entries:
        raise CatalogueError("The file holds no personas.", hint="Choose another file.")
    return entries


def write(format_name: str, personas: Sequence[object]) -> bytes:
    """The personas as a file of this format.

    Args:
        format_name: one of `FORMATS` that can be written.
        personas: forms or stored personas; exactly one for the formats that hold one.
    """
    wanted = FORMATS.get(format_name)
    if wanted is None or wanted.write is None:
        known = ", ".join(name for name, item in FORMATS.items() if item.write)
        raise CatalogueError(
            f"'{format_name}' cannot be written.", hint=f"Choose one of {known}.", field="format"
        )
    if wanted.single and len(personas) != 1:
        raise CatalogueError(
            f"A file of the format '{format_name}' holds one persona, not {len(personas)}.",
            hint="Export them one by one, or in another format.",
        )
    return wanted.write([_form(persona) for persona in personas])


def _form(persona: Any) -> PersonaForm:
    return validated(content(persona) | {"key": persona.key, "enabled": persona.enabled})


def _inspect(data: bytes, filename: str) -> tuple[str, Any]:
    if len(data) > SIZE_LIMIT:
        raise CatalogueError(
            f"The file is larger than {SIZE_LIMIT // 1024**2} MiB.", hint="Split it into several files."
        )
    if data.startswith(card_png.SIGNATURE):
        return card_png.NAME, data
    if data.startswith(_ZIP):
        raise CatalogueError(
            "Archives (CHARX, zip) are not read.", hint="Unpack it, or export the card as PNG or JSON."
        )
    head = data[:_HEAD].decode("utf-8-sig", errors="replace")
    suffix = filename.lower().rpartition(".")[2]
    if suffix in ("md", "markdown") or (suffix != "csv" and markdown.recognises(head)):
        return markdown.NAME, data
    if suffix == "csv" or (head.lstrip()[:1] not in ("{", "[") and prompts_csv.recognises(head)):
        return prompts_csv.NAME, data
    if suffix == "json" or head.lstrip()[:1] in ("{", "["):
        document = loads(data)
        for module in _JSON_MODULES:
            if module.recognises(document):
                return module.NAME, document
    raise CatalogueError(
        "This is no persona file that we know.",
        hint=f"Known are: {', '.join(item.title for item in FORMATS.values())}.",
    )
