"""The words between the server and the code: JSON objects, each behind a mark and its length."""

from __future__ import annotations

import struct
from collections.abc import Callable
from json import dumps, loads  # by name: code may put something else in its module
from typing import Any

Message = dict[str, Any]

LIMIT = 64 * 2**20
"""Largest message in bytes, in either direction."""
_HEAD = struct.Struct("!HI")
_MARK = 0xA75C


class Garbled(Exception):
    """What came is no message: something else was written into the connection."""


class TooLarge(ValueError):
    """The message is larger than `LIMIT`."""


def pack(message: Message, default: Callable[[Any], Any] | None = None) -> bytes:
    """The message as bytes.

    Args:
        default: makes JSON of what is none, as in `json.dumps`.

    Raises:
        TypeError, ValueError, RecursionError: it holds what JSON cannot say.
        TooLarge: it is larger than `LIMIT`.
    """
    body = dumps(message, separators=(",", ":"), default=default).encode("ascii")
    if len(body) > LIMIT:
        raise TooLarge(f"{len(body) / 2**20:.0f} MiB are too large, {LIMIT >> 20} MiB are the limit")
    return _HEAD.pack(_MARK, len(body)) + body


class Inbox:
    """Puts the bytes of a stream together to messages.

    Args:
        record: makes each JSON object of the messages.
    """

    def __init__(self, record: Callable[[dict[str, Any]], Any] | None = None) -> None:
        self._data = bytearray()
        self._record = record

    def feed(self, data: bytes) -> None:
        self._data += data

    def take(self) -> Message | None:
        """The next message, None while it is not complete.

        Raises:
            Garbled: the bytes are no message; the inbox is of no more use.
        """
        data = self._data
        if len(data) < _HEAD.size:
            return None
        mark, length = _HEAD.unpack_from(data)
        if mark != _MARK or length > LIMIT:
            raise Garbled("no message begins like this")
        end = _HEAD.size + length
        if len(data) < end:
            return None
        body = data[_HEAD.size : end]
        del data[:end]
        try:
            message = loads(body.decode("ascii"), object_hook=self._record)
        except (ValueError, RecursionError) as error:
            raise Garbled("not JSON") from error
        if not isinstance(message, dict):
            raise Garbled("not a JSON object")
        return message
