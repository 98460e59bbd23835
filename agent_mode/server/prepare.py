"""What has to be in the data directory before the server starts."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from pathlib import Path

from agent_mode.errors import ConfigurationError
from agent_mode.observe.logs import get_logger
from agent_mode.settings import ROOT, Settings

log = get_logger(__name__)

KEY_FILE = "connection_key"
PUT_FILE = "own_pipelines.json"
"""Names of the files that we have put into the pipelines folder: one that is gone from there was deleted."""


def data_dir(settings: Settings) -> Path:
    """Creates the data directory.

    Raises:
        ConfigurationError: it cannot be written.
    """
    folder = settings.data_dir
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigurationError(
            f"The data directory {folder} cannot be written ({error.strerror}).",
            hint="Give this user the right to write there, or let AGENT_MODE_DATA_DIR name another folder.",
            field="AGENT_MODE_DATA_DIR",
        ) from error
    return folder.resolve()


def connection_key(settings: Settings, folder: Path) -> str:
    """The configured key, or the one generated at the first start (readable by this user only).

    Raises:
        ConfigurationError: it cannot be sent in a header, where callers have to put it.
    """
    if settings.pipelines_api_key:
        if not _fits_a_header(settings.pipelines_api_key):
            raise ConfigurationError(
                "PIPELINES_API_KEY holds characters that no caller can send.",
                hint="Use letters, digits and signs of ASCII, without white space; or unset it.",
                field="PIPELINES_API_KEY",
            )
        return settings.pipelines_api_key
    path = folder / KEY_FILE
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write("am-" + secrets.token_urlsafe(32))
    except FileExistsError:
        pass
    key = path.read_text().strip()
    if not key:
        raise ConfigurationError(
            f"The connection key in {path} is empty.",
            hint="Delete the file; a new key is made at the next start. Or set PIPELINES_API_KEY.",
        )
    if not _fits_a_header(key):
        raise ConfigurationError(
            f"The connection key in {path} holds characters that no caller can send.",
            hint="Delete the file; a new key is made at the next start. Or set PIPELINES_API_KEY.",
        )
    return key


def _fits_a_header(key: str) -> bool:
    return all("!" <= letter <= "~" for letter in key)


def pipelines_dir(settings: Settings, folder: Path) -> Path:
    """The folder that the server loads: our files renewed, other files and all valves left alone.

    It is a copy because the server moves a file that fails to load. A file of ours that was deleted since the
    last start stays deleted.
    """
    target = folder / "pipelines"
    target.mkdir(exist_ok=True)
    sources = sorted((ROOT / "pipelines").glob("*.py"))
    put_before = _put_before(folder / PUT_FILE)
    for source in sources:
        if source.name in put_before and _was_deleted(target, source.name):
            log.info("pipeline left out, since it was deleted", file=source.name, undo=f"delete {PUT_FILE}")
            continue
        shutil.copyfile(source, target / source.name)
        _let_failure_go(target / "failed" / source.name)
        _seed_valves(settings, target / source.stem)
    _write_put(folder / PUT_FILE, put_before | {source.name for source in sources})
    for valves in target.glob("*/valves.json"):
        _set_aside_if_broken(valves)
    return target


def _was_deleted(target: Path, name: str) -> bool:
    """A file that failed to load is gone too, but the server has put it aside."""
    return not (target / name).exists() and not (target / "failed" / name).exists()


def _let_failure_go(failed: Path) -> None:
    """The file has a new chance; what failed may be somebody's work, and stays under another name."""
    if failed.exists():
        failed.replace(failed.with_name(f"{failed.name}.old"))


def _put_before(path: Path) -> set[str]:
    """The files of ours that earlier starts put into the folder."""
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return set()
    except ValueError:
        log.warning("list of our pipelines unreadable; all of them are put in place", file=str(path))
        return set()
    return {name for name in names if isinstance(name, str)} if isinstance(names, list) else set()


def _write_put(path: Path, names: set[str]) -> None:
    new = path.with_name(f"{path.name}.new")
    new.write_text(json.dumps(sorted(names), indent=2) + "\n", encoding="utf-8")
    new.replace(path)


def _seed_valves(settings: Settings, folder: Path) -> None:
    seed = settings.valves_dir / f"{folder.name}.json"
    valves = folder / "valves.json"
    if seed.is_file() and not valves.exists():
        folder.mkdir(exist_ok=True)
        shutil.copyfile(seed, valves)


def _set_aside_if_broken(valves: Path) -> None:
    """A `valves.json` that is no JSON object keeps the whole server from starting."""
    try:
        usable = isinstance(json.loads(valves.read_text()), dict)
    except (ValueError, RecursionError):
        usable = False
    if not usable:
        aside = valves.with_name("valves.json.broken")
        valves.replace(aside)
        log.error("valves file unreadable; set aside, defaults are used", file=str(aside))
