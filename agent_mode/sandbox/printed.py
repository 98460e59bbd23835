"""What a run prints: handed over line by line up to a limit, and the end of it kept to explain a failure."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress

MOST_BYTES = 2**16
MOST_LINES = 1_000
LINE_LENGTH = 2_000
"""Characters after which a line is broken."""
TAIL = 2**13
"""Bytes of the end that are kept whatever is printed."""
_CHUNK = 2**16
_LAST_CHUNKS = 64


class Printed:
    """The reading end of the pipe behind standard output and error.

    Args:
        descriptor: is closed by `close`.
        line: called with each line.
        enough: called once, when the limit is reached.
    """

    def __init__(self, descriptor: int, line: Callable[[str], None], enough: Callable[[], None]) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._line = line
        self._enough = enough
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(descriptor, self._read)
        self._tail = bytearray()
        self._part = b""
        self._bytes = self._lines = 0
        self._silent = False
        self._reading = True
        self._closed = False

    @property
    def tail(self) -> str:
        """The end of what was printed."""
        return self._tail.decode("utf-8", "replace")

    def silence(self) -> None:
        """Hands no more lines over; the tail goes on."""
        self._silent = True

    def close(self) -> None:
        """Takes what is left in the pipe and closes it."""
        if self._closed:
            return
        for _ in range(_LAST_CHUNKS):
            if not self._read():
                break
        self._stop()
        if self._part and not self._silent:
            self._say(self._part)
        self._closed = True
        os.close(self._descriptor)

    def _stop(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._descriptor)

    def _read(self) -> bool:
        data = b""
        with suppress(BlockingIOError, InterruptedError):
            data = os.read(self._descriptor, _CHUNK)
            if not data:
                self._stop()
        self._tail += data
        del self._tail[:-TAIL]
        if data and not self._silent:
            self._split(data)
        return bool(data)

    def _split(self, data: bytes) -> None:
        *lines, self._part = (self._part + data).split(b"\n")
        for line in lines:
            if not self._silent:
                self._say(line)
        while len(self._part) >= LINE_LENGTH and not self._silent:
            line, self._part = self._part[:LINE_LENGTH], self._part[LINE_LENGTH:]
            self._say(line)

    def _say(self, line: bytes) -> None:
        self._lines += 1
        self._bytes += len(line)
        if self._lines > MOST_LINES or self._bytes > MOST_BYTES:
            self._silent = True
            self._line("… (what was printed after this is left out)")
            self._enough()
            return
        text = line.decode("utf-8", "replace").rstrip("\r")
        for start in range(0, max(len(text), 1), LINE_LENGTH):
            self._line(text[start : start + LINE_LENGTH])
