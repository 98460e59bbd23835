"""The server's end of a run's connection: reads no faster than asked, never waits to be read."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from agent_mode.sandbox.child.frames import Message, pack

_CHUNK = 2**17


class Link:
    """A socket on the event loop.

    Asyncio's transports throw away what was received when a write fails; this keeps the last words of a
    process that has died.

    Args:
        connection: is closed by `close`.
        received: called with the bytes that came.
        ended: called once, when nothing will come any more.
    """

    def __init__(
        self, connection: socket.socket, received: Callable[[bytes], None], ended: Callable[[], None]
    ) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._received = received
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._unsent = bytearray()
        self._reading = False
        self._last = False
        self._closed = False

    @property
    def reading(self) -> bool:
        return self._reading

    def resume(self) -> None:
        """Takes what comes; this is also how it begins."""
        if not self._reading and not self._closed:
            self._reading = True
            self._loop.add_reader(self._socket.fileno(), self._read)
            if self._last:
                self._loop.call_soon(self._read)

    def pause(self) -> None:
        """Leaves what comes to the system, which makes the other side wait."""
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._socket.fileno())

    def finish(self) -> None:
        """The other side has ended: what is there now is all that comes."""
        self._last = True
        if self._reading:
            self._loop.call_soon(self._read)

    def send(self, message: Message) -> None:
        """Sends a message as soon as the other side takes it.

        Raises:
            TypeError, ValueError, RecursionError: it is no JSON, or too large.
        """
        self._unsent += pack(message)
        if not self._closed:
            self._write()

    def close(self) -> None:
        """Closes the socket; nothing is called any more."""
        if not self._closed:
            self.pause()
            self._loop.remove_writer(self._socket.fileno())
            self._closed = True
            self._unsent.clear()
            self._socket.close()

    def _write(self) -> None:
        try:
            sent = self._socket.send(self._unsent)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:  # nobody reads any more; that it has ended is seen when reading
            sent = len(self._unsent)
        del self._unsent[:sent]
        if self._unsent:
            self._loop.add_writer(self._socket.fileno(), self._write)
        else:
            self._loop.remove_writer(self._socket.fileno())

    def _read(self) -> None:
        if not self._reading:
            return
        try:
            data = self._socket.recv(_CHUNK)
        except (BlockingIOError, InterruptedError):
            if not self._last:
                return
            data = b""
        except OSError:
            data = b""
        if data:
            self._received(data)
            if self._last and self._reading:
                self._loop.call_soon(self._read)
        else:
            self.pause()
            self._ended()
