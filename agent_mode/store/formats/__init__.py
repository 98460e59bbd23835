"""Persona files of this and of other programs: recognised, read, and written.

    for entry in read(data, "personas.json"):
        print(entry.name_in_file, entry.problem or entry.form)

What a foreign format says and ours has no field for stays with the persona in `extras`, under the format's
name, so that an export to the same format gives back what nobody changed.
"""

from __future__ import annotations

from agent_mode.store.formats.entries import ENTRY_LIMIT, Entry
from agent_mode.store.formats.registry import FORMATS, SIZE_LIMIT, Format, detect, read, write

__all__ = ["ENTRY_LIMIT", "FORMATS", "SIZE_LIMIT", "Entry", "Format", "detect", "read", "write"]
