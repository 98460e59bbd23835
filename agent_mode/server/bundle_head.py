"""What each bundle begins with: a copy of this file, which finds, unpacks and imports the package.

All bundles in one folder agree on one package, the newest of them; docs/stock-server.md tells the rules. It
runs where there may be nothing but Python, so: the standard library alone, ASCII alone. And it never raises:
the server would move the file away and tell the admin of a success.
"""

from __future__ import annotations

import base64
import bz2
import contextlib
import fcntl
import hashlib
import importlib
import importlib.util
import io
import logging
import os
import re
import shutil
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

PACKAGE = "agent_mode"
HOME = ".agent_mode"
"""Folder beside the bundles: the unpacked package and, unless told otherwise, the data."""
MARK = b"#: "
"""How each line of the packed package begins, at the end of a bundle."""
LABEL = re.compile(rb"^bundle: agent_mode (\S+) ([0-9a-f]{64})$", re.MULTILINE)
"""Line of the front matter: version and SHA-256 of the packed package."""
UNPACKED = re.compile(r"[0-9a-f]{16}")
KEEP_DAYS = 90
"""So long after the last start with it an unpacked package stays, when a newer one is unpacked beside it."""
_HEAD_BYTES = 4096

log = logging.getLogger("agent_mode.bundle")


class Packed(NamedTuple):
    """The package inside a bundle. The greatest is the newest: of one version, in the file that came last."""

    version: tuple[Any, ...]
    modified: int
    path: Path
    digest: str
    text: str


def start(file: str, name: str, source: str) -> type[Any]:
    """The class `Pipeline` of a bundle.

    Args:
        file: the bundle.
        name: of the module that the server makes of it.
        source: the pipeline file inside it.
    """
    problem = ""
    try:
        problem = make_importable(Path(file).resolve())
        space: dict[str, Any] = {"__name__": name, "__file__": file}
        exec(compile(source, f"{file} (pipeline)", "exec", dont_inherit=True), space)
        return space["Pipeline"]
    except Exception as error:  # noqa: BLE001  whatever it is, the server and the other pipelines must go on
        problem = problem or f"{name} of Agent Mode cannot be used ({reason(error)})."
        log.error("%s: %s", name, problem)
        return answering(name, problem)


def make_importable(file: Path) -> str:
    """Lets `import agent_mode` find one package, for every bundle the same; returns what is wrong, or "".

    With a package that lacks what it needs, the classes to import are stand-ins that answer with that.
    """
    if _is_own():
        return _load()
    problems: list[str] = []
    tried: dict[str, Packed] = {}
    for candidate in sorted(find(file.parent), reverse=True):
        if candidate.digest in tried:
            continue  # the same package in another bundle
        if not is_whole(candidate):
            problems.append(f"{candidate.path.name} is damaged. Upload it again.")
            log.error(problems[-1])
            continue
        if _is_loaded(candidate):
            return ""
        if not drop():
            log.warning("Another version of Agent Mode is at work; it goes on until the server restarts.")
            return ""
        tried[candidate.digest] = candidate
        problem = _enter(candidate, file.parent)
        if not problem:
            return ""
        problems.append(problem)
        log.error("Agent Mode %s of %s: %s", candidate.text, candidate.path.name, problem)
    if len(tried) != 1 and drop() and tried:
        _enter(next(iter(tried.values())), file.parent)  # its stand-ins answer, not those of the oldest
    return problems[0] if problems else f"{file.name} is damaged. Upload it again."


def is_whole(packed: Packed) -> bool:
    """Whether the whole file came. Also asked of one whose package is loaded, for the next start needs it."""
    try:
        return bool(read(packed))
    except (OSError, ValueError):
        return False


def find(folder: Path) -> Iterator[Packed]:
    """The packages of all bundles in a folder."""
    for path in sorted(folder.glob("*.py")):
        try:
            with path.open("rb") as file:
                label = LABEL.search(file.read(_HEAD_BYTES))
            modified = path.stat().st_mtime_ns
        except OSError:
            continue  # gone or not ours to read
        if label:
            text, digest = label[1].decode(), label[2].decode()
            yield Packed(order_of(text), modified, path, digest, text)


def order_of(version: str) -> tuple[Any, ...]:
    """A version as something that sorts; `1.0rc1` and `1.0.dev2` go before `1.0`."""
    found = re.match(r"(\d+(?:\.\d+)*)(.*)", version)
    numbers, rest = (found[1], found[2]) if found else ("0", version)
    return [int(part) for part in numbers.split(".")], not rest, rest


def _is_own() -> bool:
    """Whether the server has a package that is no bundle's: on `PYTHONPATH`, installed, or our own server."""
    loaded = sys.modules.get(PACKAGE)
    if loaded is not None and not hasattr(loaded, "__bundle__"):
        if not hasattr(loaded, "__problem__"):
            return True
        drop()  # something was missing; it may have been installed meanwhile
        loaded = None
    spec = importlib.util.find_spec(PACKAGE) if loaded is None else None
    return spec is not None and spec.origin is not None


def _is_loaded(packed: Packed) -> bool:
    loaded = sys.modules.get(PACKAGE)
    return getattr(loaded, "__bundle__", None) == packed.digest and not hasattr(loaded, "__problem__")


def drop() -> bool:
    """Forgets the loaded package. False: it is at work and stays; there are never two."""
    host = getattr(sys.modules.get(f"{PACKAGE}.server.host"), "host", None)
    if host is not None and not host.idle:
        return False
    for name in [name for name in sys.modules if name == PACKAGE or name.startswith(f"{PACKAGE}.")]:
        del sys.modules[name]
    return True


def _enter(packed: Packed, folder: Path) -> str:
    """Unpacks and imports a package; returns what is wrong with it, or ""."""
    try:
        unpacked = str(unpack(packed, folder))
        sys.path.append(unpacked)  # last: nothing of the server's own is hidden by it
        importlib.invalidate_caches()
        try:
            module: Any = importlib.import_module(PACKAGE)
        finally:
            sys.path.remove(unpacked)  # its modules are found by its own path from now on
        module.__bundle__ = packed.digest
        _default_data_folder(folder / HOME)
        return _load()
    except Exception as error:  # noqa: BLE001  another bundle may hold one that works
        drop()
        return f"The package cannot be used ({reason(error)})."


def _load() -> str:
    importlib.invalidate_caches()
    return importlib.import_module(f"{PACKAGE}.server.stand_ins").check()


def _default_data_folder(home: Path) -> None:
    """The server's own folder is often lost with its container; the bundles' folder rarely."""
    if "AGENT_MODE_DATA_DIR" in os.environ or not home.is_dir() or not os.access(home, os.W_OK):
        return
    data = home / "data"
    data.mkdir(mode=0o700, exist_ok=True)  # who talks to whom is in there
    os.environ["AGENT_MODE_DATA_DIR"] = str(data)


def unpack(packed: Packed, folder: Path) -> Path:
    """The folder with the package's files; unpacked once, checked each time.

    Raises:
        OSError: there is no place to write.
    """
    data = read(packed)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    failure: OSError | None = None
    for place in (lambda: folder / HOME, _private_place):
        try:
            return _put(files, place() / packed.digest[:16])
        except OSError as error:  # a read-only folder, or a full disk
            failure = error
    assert failure is not None
    raise failure


def read(packed: Packed) -> bytes:
    """The packed files, as a ZIP archive.

    Raises:
        ValueError: the bundle is damaged.
    """
    with packed.path.open("rb") as file:
        text = b"".join(line[len(MARK) :].strip() for line in file if line.startswith(MARK))
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:  # cut off
        data = b""
    if hashlib.sha256(data).hexdigest() != packed.digest:
        raise ValueError("the file is damaged, upload it again")
    return bz2.decompress(data)


def _private_place() -> Path:
    """A folder among the temporary files that nobody else can write to."""
    place = Path(tempfile.gettempdir()) / f"agent-mode-{os.getuid()}"
    place.mkdir(mode=0o700, exist_ok=True)
    found = place.lstat()
    if found.st_uid != os.getuid() or found.st_mode & 0o077 or place.is_symlink():
        raise PermissionError(f"{place} belongs to somebody else")
    return place


def _put(files: dict[str, bytes], target: Path) -> Path:
    if _is_there(files, target):
        with contextlib.suppress(OSError):  # of a folder that only another server may write to
            os.utime(target)
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(target.parent, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # or a server that shares the folder would lose what it is importing
        if not _is_there(files, target):
            _write(files, target)
            _sweep(target)
    finally:
        os.close(lock)
    return target


def _sweep(target: Path) -> None:
    """Removes the packages of old bundles; a server that still runs on one was started less long ago."""
    oldest = time.time() - KEEP_DAYS * 86_400
    for folder in target.parent.iterdir():
        if UNPACKED.fullmatch(folder.name) and folder != target and folder.stat().st_mtime < oldest:
            shutil.rmtree(folder, ignore_errors=True)


def _is_there(files: dict[str, bytes], target: Path) -> bool:
    return all(_holds(target / name, content) for name, content in files.items())


def _write(files: dict[str, bytes], target: Path) -> None:
    fresh = Path(tempfile.mkdtemp(dir=target.parent, prefix="unpacking-"))
    try:
        for name, content in files.items():
            path = fresh / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        fresh.chmod(0o755)
        shutil.rmtree(target, ignore_errors=True)  # incomplete or changed
        fresh.rename(target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _holds(path: Path, content: bytes) -> bool:
    try:
        return path.read_bytes() == content
    except OSError:
        return False


def answering(name: str, problem: str) -> type[Any]:
    """A pipeline with one model, which answers with what is wrong."""

    class Pipeline:
        def __init__(self) -> None:
            self.name = f"Agent Mode: {name}"

        def pipe(self, *, body: dict[str, Any], **_: Any) -> Any:
            return told(problem, stream=bool(body.get("stream")))

    return Pipeline


def told(problem: str, *, stream: bool) -> Any:
    """What `pipe()` returns for Open WebUI to show a red box with this text."""
    body = {"error": {"message": problem, "code": "package_missing", "type": "configuration"}}
    return (part for part in (body,)) if stream else body


def reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".strip(": ")
