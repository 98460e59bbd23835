"""Strategy files and templates: checked, written whole or not at all, each former text kept as a version.

The files in `AGENT_MODE_STRATEGIES_DIR` are what counts, whoever writes them. Their versions lie beside the
database, in `strategy-versions/` of the data directory: `<file>/000001.json`, …
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Literal

from agent_mode.admin.conflicts import stale
from agent_mode.admin.previews import missing_templates
from agent_mode.chat.runtime import Runtime
from agent_mode.errors import AgentModeError, RequestError, StoreError, StrategyError, TemplateError
from agent_mode.prompts import strategies
from agent_mode.prompts.templates import ALLOWED, compile_template, unknown_placeholders

Kind = Literal["strategies", "template"]

TEMPLATE_SUFFIX = ".txt"
SIZE_LIMIT = 256 * 1024
"""Largest text in bytes that is written."""
KEPT = 50
"""Versions of one file that are kept: the newest, and the first, to which a reset goes."""
OUTSIDE = "outside of the Agents page"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)
_NUMBER = re.compile(r"(\d{6})\.json", re.ASCII)


@dataclass(frozen=True, slots=True)
class File:
    """One of the files.

    Args:
        kind: which kind.
        name: of the template, or of the provider.
    """

    kind: Kind
    name: str

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise RequestError(
                f"{self.name[:70]!r} is no name of a file here.",
                hint="Use 1 to 64 characters of a-z, 0-9, - and _.",
                code="strategy_file_not_found",
                status=404,
                field="name",
            )

    @property
    def noun(self) -> str:
        """What it is called."""
        return "strategy file" if self.kind == "strategies" else "template"

    @property
    def filename(self) -> str:
        """Its name on the disk."""
        return self.name + (strategies.SUFFIX if self.kind == "strategies" else TEMPLATE_SUFFIX)

    def within(self, folder: Path) -> Path:
        """Its path below the folder of the strategies."""
        return folder / self.filename if self.kind == "strategies" else folder / "templates" / self.filename


@dataclass(frozen=True, slots=True)
class Version:
    """A text as it once was."""

    number: int
    author: str
    message: str
    at: datetime
    """Aware, in UTC."""
    text: str

    @property
    def label(self) -> str:
        """How people call it."""
        return str(self.number)


@dataclass(frozen=True, slots=True)
class State:
    """A file in the list of them."""

    file: File
    strategies: int
    """How many it holds, or how many name it."""
    error: AgentModeError | None
    """Why it cannot be used as it is now."""


@dataclass(frozen=True, slots=True)
class Content:
    """A file as it is now."""

    text: str
    mark: str
    """Changes with the text; "" for a file that there is not."""


def listed(runtime: Runtime) -> list[File]:
    """All files, those that cannot be used too: strategies by provider, then templates by name."""
    folder = runtime.settings.strategies_dir
    found: list[File] = []
    for kind, place, suffix in (
        ("strategies", folder, strategies.SUFFIX),
        ("template", folder / "templates", TEMPLATE_SUFFIX),
    ):
        with contextlib.suppress(OSError):  # the books say what is wrong with the folder
            names = sorted(name.removesuffix(suffix) for name in os.listdir(place) if name.endswith(suffix))
            found += [File(kind, name) for name in names if _NAME.fullmatch(name)]  # pyright: ignore[reportArgumentType]
    return found


def states(runtime: Runtime) -> list[State]:
    """All files as `listed`, with what depends on them and what is wrong with them."""
    every = runtime.strategies.all()
    used, held = Counter(s.template for s in every), Counter(s.provider for s in every)
    broken: dict[str, AgentModeError] = {**runtime.strategies.errors()}
    broken |= {f"{name}{TEMPLATE_SUFFIX}": error for name, error in runtime.templates.errors().items()}
    return [
        State(file, (held if file.kind == "strategies" else used)[file.name], broken.get(file.filename))
        for file in listed(runtime)
    ]


async def read(runtime: Runtime, file: File) -> Content:
    """A file as it is now.

    Raises:
        RequestError: code `strategy_file_not_found`.
        StoreError: code `strategy_file_unreadable`.
    """
    found = await asyncio.to_thread(_read, file.within(runtime.settings.strategies_dir))
    if found is None:
        raise RequestError(
            f"There is no file {file.filename}.",
            hint="The list of strategies and templates shows those that there are.",
            code="strategy_file_not_found",
            status=404,
        )
    return found


def check(runtime: Runtime, file: File, text: str) -> list[AgentModeError]:
    """What is odd about a text that can be used.

    Raises:
        StrategyError: it cannot be used; names entry and field.
        TemplateError: it cannot be used.
    """
    if len(text.encode(errors="replace")) > SIZE_LIMIT:
        raise StrategyError(f"The text is larger than {SIZE_LIMIT // 1024} KiB.", hint="Write less.")
    if file.kind == "strategies":
        found = strategies.check(file.filename, text)
        return list(missing_templates(found, runtime.templates.names()))
    compile_template(file.name, text)
    unknown = unknown_placeholders(text)
    if not unknown:
        return []
    message = f"{', '.join(unknown)} is no variable, and is left out."
    return [TemplateError(message, hint=f"The variables are: {', '.join(ALLOWED)}.")]


async def save(
    runtime: Runtime, file: File, text: str, author: str, seen: str | None, message: str = ""
) -> Content:
    """Writes a file; this server uses it at once, others within a second.

    Args:
        runtime: of the server.
        file: which one; it need not be there yet.
        text: its new text.
        author: for the versions.
        seen: the `mark` of what the author has edited; "": the file shall be new; None: overwrite any.
        message: why, for the versions.

    Raises:
        StrategyError, TemplateError: the text cannot be used.
        StoreError: code `stale_version`, `strategy_file_exists` or `strategies_not_written`; nothing was
            changed.
    """
    text = text.replace("\r\n", "\n").rstrip() + "\n"
    await asyncio.to_thread(check, runtime, file, text)
    async with _writing:
        saved = await asyncio.to_thread(_save, _folders(runtime), file, text, author, seen, message)
    runtime.strategies.refresh()
    runtime.templates.refresh()
    return saved


async def history(runtime: Runtime, file: File) -> list[Version]:
    """Its versions, the newest first; none before its first change here."""
    return await asyncio.to_thread(_versions, _folders(runtime)[1] / file.filename)


async def version(runtime: Runtime, file: File, number: int) -> Version:
    """One of its versions.

    Raises:
        StoreError: code `unknown_version`.
    """
    for found in await history(runtime, file):
        if found.number == number:
            return found
    raise StoreError(
        f"There is no version {number} of {file.filename}.",
        code="unknown_version",
        status=404,
        hint=f"The first and the newest {KEPT} are kept.",
    )


async def reset(runtime: Runtime, file: File, author: str) -> Content:
    """Makes the text the newest that was there before the first change here.

    Raises:
        RequestError: code `strategy_file_not_found`.
        StoreError: code `unknown_version`: it was made here; or as `save`.
    """
    found = await history(runtime, file)
    if not found:
        return await read(runtime, file)  # nothing was changed here
    if found[-1].author != OUTSIDE:
        raise StoreError(
            f"{file.filename} was made here, so there is nothing to go back to.",
            code="unknown_version",
            status=404,
            hint="Roll back to one of its versions, or delete it.",
        )
    return await save(runtime, file, found[-1].text, author, None, "reset")


async def roll_back(runtime: Runtime, file: File, number: int, author: str) -> Content:
    """Makes an old text the newest.

    Raises:
        StoreError: code `unknown_version`, or as `save`.
    """
    old = await version(runtime, file, number)
    return await save(runtime, file, old.text, author, None, f"rolled back to {old.label}")


async def delete(runtime: Runtime, file: File, author: str) -> Content:
    """Removes a template that no strategy names; `save` with the text that is returned brings it back.

    Raises:
        RequestError: code `strategy_file_in_use` or `strategy_file_not_found`.
        StoreError: code `strategies_not_written`.
    """
    users = sorted({s.id for s in runtime.strategies.all() if s.template == file.name})
    if file.kind != "template" or users or file.name in ("simple", "minimal"):
        raise RequestError(
            f"{file.filename} is in use: {', '.join(users[:5]) or 'it is a last resort'}.",
            hint="Let those strategies name another template first.",
            code="strategy_file_in_use",
            status=409,
        )
    there = await read(runtime, file)
    folder, kept = _folders(runtime)
    async with _writing:
        await asyncio.to_thread(_note, kept / file.filename, there.text, author, "deleted")
        try:
            await asyncio.to_thread(file.within(folder).unlink)
        except OSError as error:
            raise _not_written(folder, error) from error
    runtime.templates.refresh()
    return there


_writing = asyncio.Lock()


def _folders(runtime: Runtime) -> tuple[Path, Path]:
    return runtime.settings.strategies_dir, runtime.settings.data_dir / "strategy-versions"


def mark_of(text: str) -> str:
    """The `mark` of a text."""
    return sha256(text.encode(errors="replace")).hexdigest()


def _read(path: Path) -> Content | None:
    try:
        with path.open("rb") as file:
            data = file.read(SIZE_LIMIT * 4)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(
            f"{path.name} cannot be read: {error.strerror}.",
            code="strategy_file_unreadable",
            hint="Let the server's user read it.",
        ) from error
    text = data.decode("utf-8-sig", errors="replace").replace("\r\n", "\n")
    return Content(text, mark_of(text))


def _save(
    folders: tuple[Path, Path], file: File, text: str, author: str, seen: str | None, message: str
) -> Content:
    folder, kept = folders
    path, history = file.within(folder), kept / file.filename
    there = _read(path)
    if seen == "" and there is not None:
        raise StoreError(
            f"There is a file {file.filename} already.",
            code="strategy_file_exists",
            status=409,
            hint="Choose another name, or edit the one that is there.",
            field="name",
        )
    versions = _versions(history)
    if seen and (there is None or there.mark != seen):
        raise _stale(path, file.filename, versions, there)
    if there is not None and there.text == text:
        return there
    if there is not None and (not versions or versions[0].text != there.text):
        _note(history, there.text, OUTSIDE, "as it was found")
    try:
        _write(path, text.encode())
    except OSError as error:
        raise _not_written(folder, error) from error
    _note(history, text, author, message)
    return Content(text, mark_of(text))


def _stale(path: Path, name: str, versions: Sequence[Version], there: Content | None) -> StoreError:
    if versions and there is not None and versions[0].text == there.text:
        return stale(name, versions[0].number, versions[0].author, versions[0].at)
    at = datetime.fromtimestamp(path.stat().st_mtime, UTC) if there is not None else datetime.now(UTC)
    what = "changed" if there is not None else "deleted"
    return StoreError(
        f"{name} was {what} meanwhile {OUTSIDE}, at {at.isoformat(timespec='seconds')}.",
        code="stale_version",
        status=409,
        hint="Read it again, compare, and repeat your change where it is still wanted.",
    )


def _write(path: Path, data: bytes) -> None:
    """Puts a whole new file in place of the old, with the rights of the old."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}.tmp"
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileNotFoundError):
            temporary.chmod(path.stat().st_mode & 0o777)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _versions(folder: Path) -> list[Version]:
    try:
        numbers = sorted(
            (int(m[1]) for name in os.listdir(folder) if (m := _NUMBER.fullmatch(name))), reverse=True
        )
    except FileNotFoundError:
        return []
    found: list[Version] = []
    for number in numbers:
        # One that cannot be read must not hide the others.
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            values = json.loads((folder / f"{number:06}.json").read_text("utf-8"))
            values["at"] = datetime.fromisoformat(values["at"])
            found.append(Version(**{**values, "number": number}))
    return found


def _note(folder: Path, text: str, author: str, message: str) -> None:
    number = next((version.number for version in _versions(folder)), 0) + 1
    version = Version(number, author, message, datetime.now(UTC), text)
    values = asdict(version) | {"at": version.at.isoformat()}
    try:
        _write(folder / f"{number:06}.json", json.dumps(values, ensure_ascii=False, indent=1).encode())
        for old in _versions(folder)[KEPT:-1]:
            (folder / f"{old.number:06}.json").unlink(missing_ok=True)
    except OSError as error:
        raise _not_written(folder, error) from error


def _not_written(folder: Path, error: OSError) -> StoreError:
    return StoreError(
        f"The files in {folder} cannot be changed: {error.strerror}.",
        code="strategies_not_written",
        status=409,
        hint="Make the folder writable for the server's user, or copy it to one that is and let "
        "AGENT_MODE_STRATEGIES_DIR name that.",
    )
