"""HTTP on the wire: uvicorn's fast parser, with a bound on the head of a request and on the wait for it."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES = 65_536
"""Largest head of a request: its address and headers. With a cookie or two it is 2 KiB."""
HEAD_SECONDS = 30.0
"""How long a client may take to send a head, and how long a new connection may stay without one."""
BODY_SECONDS = 120.0
"""How long a client may send nothing in the midst of a body."""
_AROUND = 4
"""Bytes around a header's name and value."""
_TOO_LARGE = "The head of the request is too large."


class _TooLarge(Exception):
    """Raised in the parser, which ends by it."""


class BoundedHttp(HttpToolsProtocol):
    """Closes connections whose client sends too large a head, or stops in the midst of a request.

    h11 bounds the head by itself, but sends a quarter fewer tokens per second, and waits for the rest of a
    request forever as well.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._in_head = False
        self._in_body = False
        self._parsed = 0
        """Bytes of the head that the parser has told us."""
        self._unparsed = 0
        """Bytes of the head that it may be keeping: it tells of a header when it has all of it."""
        self._handed_over = False
        self._timer: asyncio.TimerHandle | None = None

    # The connection

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._wait(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        was_in_head = self._in_head
        super().data_received(data)
        if self._handed_over or self.transport.is_closing():
            self._stop_waiting()
        elif self._in_head:
            if not was_in_head:
                self._wait(HEAD_SECONDS)
                return
            self._unparsed += len(data)
            if self._unparsed > HEAD_BYTES:
                self._refuse("431 Request Header Fields Too Large", _TOO_LARGE)
        elif self._in_body:
            self._wait(BODY_SECONDS)
        else:
            self._stop_waiting()

    def handle_websocket_upgrade(self) -> None:
        self._handed_over = True
        super().handle_websocket_upgrade()

    def send_400_response(self, msg: str) -> None:
        if self._parsed > HEAD_BYTES:
            self._refuse("431 Request Header Fields Too Large", _TOO_LARGE)
        else:
            super().send_400_response(msg)

    # The parser

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._in_body = True, False
        self._parsed = self._unparsed = 0

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + _AROUND)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head, self._in_body = False, True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_body = False
        super().on_message_complete()

    def _count(self, size: int) -> None:
        self._parsed += size
        if self._parsed > HEAD_BYTES:
            raise _TooLarge

    # The end

    def _wait(self, seconds: float) -> None:
        self._stop_waiting()
        self._timer = self.loop.call_later(seconds, self._late)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        self._timer = None
        if self._is_answering() or (self._in_body and self._is_our_turn()):
            self._wait(BODY_SECONDS if self._in_body else HEAD_SECONDS)
        elif self._in_head:
            self._refuse("408 Request Timeout", "The rest of the request did not come in time.")
        else:
            self.transport.close()

    def _is_answering(self) -> bool:
        """Whether an answer is on its way, which must not be cut off."""
        cycle = self.cycle
        return cycle is not None and cycle.response_started and not cycle.response_complete

    def _is_our_turn(self) -> bool:
        """Whether the client waits for us to take what it has sent, or to ask for it."""
        return self.flow.read_paused or self.cycle.waiting_for_100_continue

    def _refuse(self, status: str, text: str) -> None:
        self._stop_waiting()
        if not self._is_answering():
            head = f"HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\n"
            head += f"content-length: {len(text)}\r\nconnection: close\r\n\r\n"
            self.transport.write(f"{head}{text}".encode("ascii"))
        self.transport.close()
