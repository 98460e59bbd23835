"""Makes bundles, of this checkout and of others, and servers' worlds in which packages are missing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from agent_mode import __version__

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("agent_mode", "personas", "strategies", "valves", "pipelines")
MISSING = ("sqlalchemy", "aiosqlite", "alembic", "structlog", "aiofiles", "pydantic_settings")

_LOADER = """
import asyncio, importlib.util, json, logging, os, sys
logging.basicConfig(level="WARNING")

def load(path):
    "As the stock server does."
    spec = importlib.util.spec_from_file_location(os.path.basename(path)[:-3], path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Pipeline()

def shown(pipeline, stream=False):
    "What a chat with it gets."
    said = pipeline.pipe(user_message="hi", model_id="x", messages=[], body={"model": "x", "stream": stream})
    return list(said) if stream else said
"""


def build(out: Path, *files: Path, root: Path = ROOT, python: str = sys.executable) -> dict[str, Path]:
    """What `python -m agent_mode bundle` of a checkout writes, by the names of the files."""
    command = [python, "-m", "agent_mode", "bundle", "--output", str(out), *map(str, files)]
    subprocess.run(command, cwd=root, env=_environment(PYTHONPATH=str(root)), check=True, capture_output=True)
    return {path.stem: path for path in sorted(out.glob("*.py"))}


def checkout(folder: Path, version: str, **appended: str) -> Path:
    """A copy of this checkout as another version.

    Args:
        appended: by the name of a module of `agent_mode`, code to put at its end.
    """
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "LICENSE", folder)
    face = folder / "agent_mode" / "__init__.py"
    face.write_text(face.read_text().replace(f'__version__ = "{__version__}"', f'__version__ = "{version}"'))
    for name, code in appended.items():
        with (folder / "agent_mode" / f"{name}.py").open("a") as file:
            file.write(code)
    return folder


def site(folder: Path, python: str = sys.executable, without: tuple[str, ...] = MISSING) -> Path:
    """A folder that is to a process what `site-packages` is, with some packages missing."""
    folder.mkdir(parents=True)
    for entry in site_packages(python).iterdir():
        if entry.name.partition(".")[0].lower() not in without and not entry.name.endswith(".pth"):
            (folder / entry.name).symlink_to(entry)
    return folder


def install(folder: Path, *names: str, python: str = sys.executable) -> None:
    """Brings packages into a folder made by `site`."""
    for name in names:
        (folder / name).symlink_to(site_packages(python) / name)


def site_packages(python: str) -> Path:
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return Path(
        subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    )


def in_process(code: str, *, packages: Path | None = None, cwd: Path, **variables: str) -> tuple[Any, str]:
    """Runs code with `load` and `shown` in a process of its own.

    Args:
        packages: a folder made by `site`; None: all packages of this process.

    Returns:
        What it printed last, read as JSON, and what it logged.
    """
    switches = ["-S"] if packages else []
    variables |= {"PYTHONPATH": str(packages)} if packages else {}
    done = subprocess.run(
        [sys.executable, *switches, "-c", _LOADER + code],
        cwd=cwd,
        env=_environment(**variables),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def _environment(**variables: str) -> dict[str, str]:
    dropped = ("AGENT_MODE_", "PYTHONPATH", "OPENAI_", "OPENWEBUI_", "PIPELINES_")
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(dropped)},
        **variables,
    }
