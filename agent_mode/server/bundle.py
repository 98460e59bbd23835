"""Bundles: pipeline files that carry the whole package, for upload to a stock Pipelines server.

A bundle is one Python file: front matter, the code of `bundle_head.py`, the pipeline file's source, and after
that, in comment lines, package, personas, strategies and valves as a packed archive. The same checkout always
gives the same bytes: names are sorted, times are fixed, and bzip2 packs alike everywhere.
"""

from __future__ import annotations

import ast
import base64
import bz2
import hashlib
import io
import re
import zipfile
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from agent_mode import __version__
from agent_mode.errors import ConfigurationError
from agent_mode.server import bundle_head
from agent_mode.settings import ROOT

OUTPUT = Path("dist")
LINE_CHARS = 100
_FOLDERS = ("agent_mode", "personas", "strategies", "valves")
_FRONT_MATTER = re.compile(r'\A"""(.*?)"""', re.DOTALL)
_FIRST_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest time that a ZIP archive can hold


def add_command(commands: Any) -> None:
    """Adds `bundle` to the parser of `python -m agent_mode`."""
    parser: ArgumentParser = commands.add_parser(
        "bundle", help="write self-contained pipeline files, to upload to a stock server"
    )
    parser.add_argument("files", type=Path, nargs="*", help="pipeline files; default: all that are shipped")
    parser.add_argument("--output", type=Path, default=OUTPUT, help=f"folder to write to ({OUTPUT})")


def run(arguments: Namespace) -> list[str]:
    """Writes the bundles; returns the lines to print.

    Raises:
        ConfigurationError: a file is no pipeline, or cannot be read or written. Nothing was written then,
            unless the folder failed half way.
    """
    sources = arguments.files or sorted((ROOT / "pipelines").glob("*.py"))
    if not sources:
        raise ConfigurationError("There are no pipeline files here.", hint="Run it from the checkout.")
    bundles = {source.name: make(source) for source in sources}
    try:
        arguments.output.mkdir(parents=True, exist_ok=True)
        for name, content in bundles.items():
            (arguments.output / name).write_bytes(content)
    except OSError as error:
        raise ConfigurationError(
            f"{error.filename} cannot be written ({error.strerror}).",
            hint="Let --output name another folder.",
            field="output",
        ) from error
    return [
        f"{arguments.output / name}  {len(content) / 1024:.0f} KiB, with Agent Mode {__version__}"
        for name, content in bundles.items()
    ]


def make(pipeline: Path) -> bytes:
    """The bundle of one pipeline file.

    Raises:
        ConfigurationError: the file cannot be read, or is no pipeline.
    """
    source = _source(pipeline)
    packed = package()
    found = _FRONT_MATTER.match(source)
    front = found[1].strip() if found else f"title: {pipeline.stem}\nversion: {__version__}"
    lines = "\n".join(f"    {line!a}" for line in source.splitlines(keepends=True))
    text = f'''"""
bundle: agent_mode {__version__} {hashlib.sha256(packed).hexdigest()}
{front}
"""
# Made by `python -m agent_mode bundle`; change what it was made of, not this file.
{_head()}

SOURCE = (
{lines}
)
Pipeline = start(__file__, __name__, SOURCE)

# Package, personas, strategies and valves: a ZIP archive, packed with bzip2, in base64.
{_in_comments(packed)}
'''
    return text.encode()


def _source(pipeline: Path) -> str:
    try:
        source = pipeline.read_text(encoding="utf-8")
        tree = ast.parse(source)
    except (OSError, ValueError, SyntaxError) as error:
        raise ConfigurationError(
            f"{pipeline} is no Python file that can be read ({error}).", hint="Check it.", field="files"
        ) from error
    if not any(isinstance(node, ast.ClassDef) and node.name == "Pipeline" for node in tree.body):
        raise ConfigurationError(
            f"{pipeline} has no class Pipeline.",
            hint="Name files such as those in pipelines/; docs/write-an-agent.md shows how to write one.",
            field="files",
        )
    return source


def _head() -> str:
    """The code of `bundle_head.py` without its docstring."""
    code = Path(bundle_head.__file__).read_text(encoding="utf-8")
    docstring = ast.parse(code).body[0]
    return "\n".join(code.splitlines()[docstring.end_lineno :]).strip()


def _in_comments(data: bytes) -> str:
    text = base64.b64encode(data).decode()
    mark = bundle_head.MARK.decode()
    return "\n".join(mark + text[start : start + LINE_CHARS] for start in range(0, len(text), LINE_CHARS))


@cache
def package() -> bytes:
    """The packed archive that all bundles of this checkout carry."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for path in _files():
            entry = zipfile.ZipInfo(path.relative_to(ROOT).as_posix(), _FIRST_TIME)
            entry.create_system = 3
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, path.read_bytes())
    return bz2.compress(file.getvalue(), 9)


def _files() -> Iterator[Path]:
    """What goes in, sorted by name."""
    found = [path for folder in _FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()]
    for path in sorted([*found, ROOT / "LICENSE"], key=lambda path: path.relative_to(ROOT).as_posix()):
        parts = path.relative_to(ROOT).parts
        if "__pycache__" not in parts and not any(part.startswith(".") for part in parts):
            yield path
