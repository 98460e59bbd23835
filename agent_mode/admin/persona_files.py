"""Persona files coming in and going out, as the command line and the Agents page deal with them."""

from __future__ import annotations

import asyncio
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass

from agent_mode.errors import CatalogueError
from agent_mode.prompts import guard
from agent_mode.store import formats
from agent_mode.store.forms import PersonaForm
from agent_mode.store.imports import ImportPlan, plan_import
from agent_mode.store.personas import Persona, PersonaStore

_ZIP = "application/zip"


@dataclass(frozen=True, slots=True)
class Incoming:
    """A file of personas, and what taking it in would do."""

    filename: str
    format: str
    """Its title."""
    plan: ImportPlan
    flagged: dict[str, list[str]]
    """Key to the override phrases that its instructions carry."""

    def refuse_flagged(self, policy: str) -> None:
        """
        Args:
            policy: `AGENT_MODE_OVERRIDE_PHRASES`.

        Raises:
            CatalogueError: code `override_phrases`: they are not to be taken in.
        """
        if self.flagged and policy == "refuse":
            raise CatalogueError(
                f"Instructions carry override phrases: {', '.join(self.flagged)}.",
                hint="Reword them, or set AGENT_MODE_OVERRIDE_PHRASES=warn.",
                code="override_phrases",
                field="prompt",
            )


async def incoming(store: PersonaStore, data: bytes, filename: str, *, overwrite: bool) -> Incoming:
    """Reads a file and compares it with the store. Writes nothing.

    Args:
        store: the personas.
        data: the whole file.
        filename: its name.
        overwrite: whether to replace what was written or edited here.

    Raises:
        CatalogueError: the file as a whole cannot be used.
    """
    title, entries = await asyncio.to_thread(_read, data, filename)
    plan = await plan_import(store, entries, overwrite=overwrite)
    flagged = {
        step.form.key: phrases
        for step in plan.steps
        if step.form is not None and (phrases := guard.override_phrases(step.form.prompt))
    }
    return Incoming(filename, title, plan, flagged)


def _read(data: bytes, filename: str) -> tuple[str, list[formats.Entry]]:
    entries = formats.read(data, filename)
    return formats.FORMATS[formats.detect(data, filename)].title, entries


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A file to hand over."""

    filename: str
    media_type: str
    data: bytes = b""


async def chosen(store: PersonaStore, keys: Sequence[str] | None) -> list[Persona]:
    """The personas with these keys, or all.

    Raises:
        CatalogueError: one of them there is not.
    """
    wanted = None if keys is None else set(keys)
    found = [persona for persona in await store.all() if wanted is None or persona.key in wanted]
    missing = (wanted or set()) - {persona.key for persona in found}
    if missing:
        raise CatalogueError(
            f"There is no persona {', '.join(sorted(missing))}.",
            hint="Somebody deleted it, or it is misspelt; leave it out.",
            field="keys",
        )
    return found


async def outgoing(personas: Sequence[Persona | PersonaForm], format_name: str) -> Outgoing:
    """The personas as a file to download; several of a format that holds one persona each come as an archive.

    Args:
        personas: at least one.
        format_name: one of `formats.FORMATS` that can be written.

    Raises:
        CatalogueError: there are none, or the format cannot be written.
    """
    if not personas:
        raise CatalogueError("No persona was chosen.", hint="Choose at least one.")
    return await asyncio.to_thread(_write, personas, format_name)


def _write(personas: Sequence[Persona | PersonaForm], format_name: str) -> Outgoing:
    known = formats.FORMATS.get(format_name)
    one = personas[0].key if len(personas) == 1 else "personas"
    if known is None or not known.single or len(personas) == 1:
        data = formats.write(format_name, personas)
        assert known is not None  # or it could not have been written
        return Outgoing(f"{one}{known.suffix}", known.media_type, data)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for persona in personas:
            archive.writestr(f"{persona.key}{known.suffix}", formats.write(format_name, [persona]))
    return Outgoing(f"personas-{known.name}.zip", _ZIP, packed.getvalue())
