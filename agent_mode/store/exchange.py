"""The catalogue of persona files: one JSON file each, named after its key."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiofiles
from pydantic import ValidationError

from agent_mode.errors import CatalogueError
from agent_mode.store.forms import PersonaForm, problems

SIZE_LIMIT = 1024 * 1024
"""Largest file in bytes that is read."""

_BOM = b"\xef\xbb\xbf"


async def read_catalogue(directory: Path) -> tuple[list[PersonaForm], list[CatalogueError]]:
    """Read all `*.json` files of a folder, in the order of their names.

    A file that cannot be used becomes one error that names the file and, in `field`, its first wrong field;
    it never stops the others. A folder that cannot be read is one error. Nothing is raised.
    """
    try:
        paths = await asyncio.to_thread(_json_files, directory)
    except OSError as error:
        return [], [_complaint(directory, f"the folder cannot be read: {error.strerror}")]
    forms: list[PersonaForm] = []
    errors: list[CatalogueError] = []
    for path in paths:
        try:
            forms.append(await _read(path))
        except CatalogueError as error:
            errors.append(error)
    return forms, errors


def _json_files(directory: Path) -> list[Path]:
    # Hidden files are what editors and macOS leave behind.
    return sorted(path for path in directory.iterdir() if path.suffix == ".json" and path.name[0] != ".")


async def _read(path: Path) -> PersonaForm:
    try:
        async with aiofiles.open(path, "rb") as file:
            data = await file.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise _complaint(path, f"the file cannot be read: {error.strerror}") from error
    if len(data) > SIZE_LIMIT:
        raise _complaint(path, f"the file is larger than {SIZE_LIMIT // 1024} KiB")
    try:
        form = PersonaForm.model_validate_json(data.removeprefix(_BOM))
    except ValidationError as error:
        found = problems(error)
        text = "; ".join(f"{entry.field}: {entry.message}" for entry in found)
        raise _complaint(path, text, field=found[0].field) from error
    if form.key != path.stem:
        raise _complaint(path, f"key: '{form.key}' must equal the file's name '{path.stem}'", field="key")
    return form


def _complaint(path: Path, text: str, *, field: str | None = None) -> CatalogueError:
    hint = "Correct it and start again; the other personas are not affected."
    return CatalogueError(f"{path.name}: {text}.", hint=hint, field=field)
