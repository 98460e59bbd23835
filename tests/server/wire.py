"""A chat request over a connection of its own, which another thread can cut at any moment."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any

PATIENCE = 30.0
"""Seconds without a byte after which a test gives up."""


class Stopped(Exception):
    """The user pressed Stop."""


class Stop:
    """The Stop button of one message: ends what is under way, wherever it is."""

    def __init__(self) -> None:
        self.pressed = threading.Event()
        self._lock = threading.Lock()
        self._connection: http.client.HTTPConnection | None = None

    def press(self) -> None:
        with self._lock:
            self.pressed.set()
            if self._connection is not None and self._connection.sock is not None:
                with contextlib.suppress(OSError):
                    self._connection.sock.shutdown(socket.SHUT_RDWR)

    @contextlib.contextmanager
    def ends(self, connection: http.client.HTTPConnection) -> Iterator[None]:
        """Inside, the button closes the connection.

        Raises:
            Stopped: it did, or had been pressed before.
        """
        with self._lock:
            self.check()
            self._connection = connection
        try:
            yield
        except (OSError, http.client.HTTPException):
            self.check()
            raise
        finally:
            with self._lock:
                self._connection = None
        self.check()

    def check(self) -> None:
        """Raises `Stopped` when it was pressed."""
        if self.pressed.is_set():
            raise Stopped


@contextlib.contextmanager
def post(
    host: str, port: int, path: str, body: Any, headers: Mapping[str, str], stop: Stop
) -> Iterator[http.client.HTTPResponse]:
    """Sends JSON; gives the response with its body unread.

    Raises:
        Stopped: Stop was pressed meanwhile.
    """
    connection = http.client.HTTPConnection(host, port, timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.connect()
        with stop.ends(connection):
            sent = {"Content-Type": "application/json", **headers}
            connection.request("POST", path, json.dumps(body).encode(), sent)
            with contextlib.closing(connection.getresponse()) as response:
                yield response


def lines(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """The body's lines as they come, without their ends.

    Raises:
        http.client.IncompleteRead: the connection broke.
    """
    rest = b""
    while data := response.read1(2**16):
        *whole, rest = (rest + data).split(b"\n") if b"\n" in data else [rest + data]
        yield from whole
    if rest:
        yield rest
