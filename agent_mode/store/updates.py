"""Updates of the persona catalogue from elsewhere: fetch, look, apply; off unless sources are configured.

    source = Source.parse("https://example.org/personas.json#sha256=…")
    plan = await take_over(store, source, folder, accept, dry=True)   # what would happen
    await take_over(store, source, folder, accept, dry=False)         # keeps the file for the next start

What the user edited or made is protected, as with the shipped catalogue (`PersonaStore.protect`). A file of
this kind looks like

    {"format": "agent-mode-personas", "version": 1, "personas": [{"key": "coder", "name": …}, …]}

with the fields of the files in `personas/`.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

import aiofiles
from pydantic import BaseModel, ValidationError

from agent_mode.counting import counted
from agent_mode.errors import CatalogueError, StoreError
from agent_mode.observe.logs import get_logger
from agent_mode.store.download import SIZE_LIMIT, Network, Source, download, is_public
from agent_mode.store.forms import PersonaForm, problems
from agent_mode.store.personas import PersonaStore, SeedReport

__all__ = [
    "SIZE_LIMIT",
    "Network",
    "Source",
    "apply",
    "download",
    "is_public",
    "keep",
    "kept",
    "parse",
    "preview",
    "take_over",
]

log = get_logger(__name__)

_BOM = b"\xef\xbb\xbf"
_SHOWN = 5
"""How many complaints about one file are spelled out."""
_HINT = "Nothing was changed. Have whoever publishes the catalogue correct it."


class _Catalogue(BaseModel):
    format: Literal["agent-mode-personas"]
    version: Literal[1]
    personas: list[PersonaForm]


def parse(data: bytes) -> list[PersonaForm]:
    """Reads a catalogue file; all of it is right, or none of it is used.

    Raises:
        CatalogueError: code `catalogue_file`; `field` is the first wrong field, such as `personas.3.prompt`.
    """
    try:
        forms = _Catalogue.model_validate_json(data.removeprefix(_BOM)).personas
    except ValidationError as error:
        found = problems(error)
        text = "; ".join(f"{entry.field}: {entry.message}" for entry in found[:_SHOWN])
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise _complaint(f"{text}{more}", found[0].field) from error
    double = next((key for key, times in Counter(form.key for form in forms).items() if times > 1), None)
    if double is not None:
        raise _complaint(f"personas: the key '{double}' occurs twice", "personas")
    return forms


async def preview(store: PersonaStore, forms: Iterable[PersonaForm]) -> SeedReport:
    """What `apply` would do now; writes nothing.

    Raises:
        StoreError: the database failed.
    """
    return await store.preview_seeding(forms)


async def apply(store: PersonaStore, forms: Sequence[PersonaForm]) -> SeedReport:
    """Brings the personas into the store in one transaction, protecting the user's; a backup comes first.

    Raises:
        StoreError: the database or the backup failed; nothing was changed.
    """
    if store.before_destructive is not None and (await preview(store, forms)).updated:
        await store.before_destructive(f"before updating {counted(len(forms), 'persona')} from a catalogue")
    return await store.seed(forms)


async def take_over(
    store: PersonaStore, source: Source, folder: Path, accept: Callable[[PersonaForm], bool], *, dry: bool
) -> SeedReport:
    """Applies one source and keeps its file; what is kept already is not downloaded again.

    Args:
        store: the personas.
        source: where the catalogue is.
        folder: where applied catalogues are kept.
        accept: whether a persona of it may be taken over.
        dry: only say what would happen.

    Raises:
        CatalogueError: the file cannot be had or used; nothing was changed.
        StoreError: the database, the backup or the folder failed.
    """
    data = await _kept_data(source, folder)
    if data is None:
        data = await download(source)
    forms = [form for form in parse(data) if accept(form)]
    if dry:
        return await preview(store, forms)
    report = await apply(store, forms)
    await keep(source, data, folder)
    return report


async def keep(source: Source, data: bytes, folder: Path) -> None:
    """Keeps an applied file, so that the next start seeds it after the shipped catalogue and not the reverse.

    Raises:
        StoreError: code `catalogue_folder`; the file cannot be written.
    """
    try:
        await asyncio.to_thread(_write, _path(source, folder), data)
    except OSError as error:
        raise StoreError(
            f"The catalogue cannot be kept in {folder}: {error.strerror}.",
            hint="Make the folder writable for this user; until then, the next start undoes the update.",
            code="catalogue_folder",
        ) from error


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(path)
        except OSError:
            Path(file.name).unlink(missing_ok=True)
            raise


async def kept(sources: Iterable[Source], folder: Path) -> list[PersonaForm]:
    """The personas of the kept files of these sources, in their order; a damaged file is left out."""
    forms: list[PersonaForm] = []
    for source in sources:
        data = await _kept_data(source, folder)
        if data is None:
            continue
        try:
            forms += parse(data)
        except CatalogueError as error:
            log.warning("kept catalogue left out", file=_path(source, folder), reason=error.message)
    return forms


async def _kept_data(source: Source, folder: Path) -> bytes | None:
    """The kept file of a source; None if there is none, or not the right one."""
    path = _path(source, folder)
    try:
        async with aiofiles.open(path, "rb") as file:
            data = await file.read(SIZE_LIMIT + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        log.warning("kept catalogue cannot be read", file=path, reason=error.strerror)
        return None
    if hashlib.sha256(data).hexdigest() == source.sha256:
        return data
    log.warning("kept catalogue left out", file=path, reason="it was changed on this disk")
    return None


def _path(source: Source, folder: Path) -> Path:
    return folder / f"{source.sha256}.json"


def _complaint(text: str, field: str) -> CatalogueError:
    return CatalogueError(
        f"The catalogue cannot be used: {text}.", hint=_HINT, code="catalogue_file", field=field
    )
