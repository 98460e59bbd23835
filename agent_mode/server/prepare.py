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
    """The configured key, or the one generated at the first start (readable by this user only)."""
    if settings.pipelines_api_key:
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
    return key


def pipelines_dir(settings: Settings, folder: Path) -> Path:
    """The folder that the server loads: our files renewed, other files and all valves left alone.

    It is a copy because the server moves a file that fails to load.
    """
    target = folder / "pipelines"
    target.mkdir(exist_ok=True)
    for source in sorted((ROOT / "pipelines").glob("*.py")):
        shutil.copyfile(source, target / source.name)
        _seed_valves(settings, target / source.stem)
    for valves in target.glob("*/valves.json"):
        _set_aside_if_broken(valves)
    return target


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
