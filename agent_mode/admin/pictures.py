"""A picture for a model that has none: a symmetric pattern in a colour of its own, as a PNG. Pure."""

from __future__ import annotations

import base64
import colorsys
import hashlib
import struct
import zlib

from agent_mode.errors import RequestError

LARGEST = 150_000
"""Bytes that an own picture may have: Open WebUI sends it along with every list of models."""

_CELLS = 5
_CELL = 20
_MARGIN = 14
_SIZE = _CELLS * _CELL + 2 * _MARGIN
_KINDS = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif"}


def made(name: str) -> str:
    """The picture of a name, as a data URL; the same name always has the same."""
    digest = hashlib.sha256(name.encode("utf-8", "replace")).digest()
    red, green, blue = colorsys.hls_to_rgb(digest[0] / 256, 0.45, 0.55)
    colour = bytes(round(part * 255) for part in (red, green, blue))
    ground = bytes((240, 240, 240))
    half = _CELLS // 2 + 1
    filled = {
        (row, column)
        for row in range(_CELLS)
        for column in range(_CELLS)
        if digest[1 + row * half + min(column, _CELLS - 1 - column)] & 1
    }
    lines = []
    for y in range(_SIZE):
        row = (y - _MARGIN) // _CELL
        line = b"".join(colour if (row, (x - _MARGIN) // _CELL) in filled else ground for x in range(_SIZE))
        lines.append(b"\0" + line)
    header = struct.pack(">IIBBBBB", _SIZE, _SIZE, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"".join(lines), 9)), (b"IEND", b""))
    png = b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, content) for kind, content in chunks)
    return _as_url("png", png)


def own(data: bytes) -> str:
    """A picture that somebody brings, as a data URL.

    Raises:
        RequestError: it is too large, or of no kind that Open WebUI shows.
    """
    if len(data) > LARGEST:
        raise RequestError(
            f"The picture is larger than {LARGEST // 1000} KB.",
            hint="Make it smaller; 256 pixels are plenty.",
        )
    kind = next((kind for start, kind in _KINDS.items() if data.startswith(start)), None)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        kind = "webp"
    if kind is None:
        raise RequestError("This is no picture that Open WebUI shows.", hint="Take a PNG, JPEG, GIF or WebP.")
    return _as_url(kind, data)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _as_url(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
