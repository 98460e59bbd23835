"""Keeps the parsed files of a folder, and notices when one of them is edited."""

from __future__ import annotations

import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Generic, TypeVar

from agent_mode.errors import AgentModeError

T = TypeVar("T")
E = TypeVar("E", bound=AgentModeError)

INTERVAL = 1.0
"""Seconds between two looks at the folder."""

_log = logging.getLogger(__name__)
_Stamp = tuple[int, int, int, int]


class DirectoryWatch(Generic[T, E]):
    """The files of one folder whose names end with `suffix`, each parsed once per edit.

    A file that can no longer be read or parsed keeps its last good content and gets an entry in `errors`. A
    deleted file is forgotten. A folder that cannot be read keeps all it had, under its own name in `errors`.
    Threads may share one watch.

    Args:
        directory: the folder; subfolders and hidden files are left alone.
        suffix: how the names end, for example `.txt`.
        parse: makes the content from file name and text; raises `error` when the text cannot be used.
        error: the type of what `parse` raises and what `errors` holds.
        clock: seconds, never going back.
    """

    def __init__(
        self,
        directory: Path,
        suffix: str,
        parse: Callable[[str, str], T],
        error: type[E],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.directory = directory
        self._suffix = suffix
        self._parse = parse
        self._error = error
        self._clock = clock
        self._lock = threading.Lock()
        self._stamps: dict[str, _Stamp] = {}
        self._content: Mapping[str, T] = {}
        self._errors: Mapping[str, E] = {}
        self._due = clock() + INTERVAL
        self._look()

    def content(self) -> Mapping[str, T]:
        """File name to content: the same object until something changed. Looks at the folder when due."""
        if self._clock() >= self._due:
            self._look_again()
        return self._content

    def errors(self) -> Mapping[str, E]:
        """File name to what is wrong with the file as it is now."""
        self.content()
        return self._errors

    def refresh(self) -> None:
        """Looks at the folder now, for who has just changed it."""
        with self._lock:
            self._due = self._clock() + INTERVAL
            self._look()

    def _look_again(self) -> None:
        # Whoever finds another thread looking goes on with what there is.
        if self._lock.acquire(blocking=False):
            try:
                self._due = self._clock() + INTERVAL
                self._look()
            finally:
                self._lock.release()

    def _look(self) -> None:
        try:
            names = os.listdir(self.directory)
        except OSError as exc:
            error = self._error(
                f"The folder {self.directory} cannot be read: {exc.strerror or exc}.",
                hint="Create it, or let the server's user read it.",
            )
            self._note(self.directory.name, error)
            return
        content, errors, stamps = dict(self._content), dict(self._errors), dict(self._stamps)
        present: set[str] = set()
        for name in sorted(names):
            if (
                not name.startswith(".")
                and name.endswith(self._suffix)
                and self._load(name, content, errors, stamps)
            ):
                present.add(name)
        for gone in (stamps.keys() | content.keys() | errors.keys()) - present:
            for kept in (content, errors, stamps):
                kept.pop(gone, None)
        self._stamps, self._errors = stamps, errors
        # Its identity tells others that something changed, so an unchanged look must not replace it.
        if content.keys() != self._content.keys() or any(content[n] is not self._content[n] for n in content):
            self._content = content

    def _load(
        self, name: str, content: dict[str, T], errors: dict[str, E], stamps: dict[str, _Stamp]
    ) -> bool:
        """Reads the file if it is new or changed; False when there is no such file."""
        path = self.directory / name
        try:
            info = path.stat()
            if not stat.S_ISREG(info.st_mode):
                return False
            stamp = (info.st_mtime_ns, info.st_ctime_ns, info.st_size, info.st_ino)
            if stamps.get(name) == stamp:
                return True
            text = path.read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            return False
        except (OSError, UnicodeDecodeError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8 text"
            error = self._error(f"{name} cannot be read: {reason}.", hint="Save it as readable UTF-8 text.")
            stamps.pop(name, None)
            self._record(name, error, errors)
            return True
        stamps[name] = stamp
        try:
            content[name] = self._parse(name, text)
            errors.pop(name, None)
        except self._error as exc:
            self._record(name, exc.with_traceback(None), errors)
        return True

    def _note(self, name: str, error: E) -> None:
        errors = dict(self._errors)
        self._record(name, error, errors)
        self._errors = errors

    def _record(self, name: str, error: E, errors: dict[str, E]) -> None:
        if str(errors.get(name)) != str(error):
            _log.warning("%s: %s", error.code, error)
        errors[name] = error
