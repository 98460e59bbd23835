"""Character cards inside a PNG picture."""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from collections.abc import Sequence
from io import BytesIO
from typing import Any

from agent_mode.errors import CatalogueError
from agent_mode.store.formats import cards
from agent_mode.store.formats.entries import Entry
from agent_mode.store.formats.jsonfile import dumps, loads
from agent_mode.store.forms import PersonaForm

NAME = "character-card-png"
SIGNATURE = b"\x89PNG\r\n\x1a\n"

SIDE_LIMIT = 10_000
PIXEL_LIMIT = 50_000_000
_CHUNK_LIMIT = 20_000
_PICTURE = (400, 600)

_KEYWORDS = ("ccv3", "chara")
"""Where a card may lie, the newer one first: a picture often holds both."""
_TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt")


def read(data: bytes, filename: str) -> list[Entry]:
    """The character of a picture; its pixels are not looked at."""
    texts = _texts(data)
    text = next((texts[keyword] for keyword in _KEYWORDS if keyword in texts), None)
    if text is None:
        raise CatalogueError(
            "The picture holds no character card.",
            hint="Import the file as it was downloaded; programs that edit pictures drop the card.",
        )
    try:
        document = loads(base64.b64decode(text))
    except (binascii.Error, ValueError) as error:
        raise _damaged("the card is not base64") from error
    if not cards.recognises(document):
        raise CatalogueError("The picture's text is no character card.", hint="Export the card once more.")
    return cards.read(document, filename)


def write(forms: Sequence[PersonaForm]) -> bytes:
    """A plain picture with the card of one persona, for programs that read V3 and for older ones."""
    try:
        from PIL import Image, PngImagePlugin  # noqa: PLC0415 # needed for pictures alone
    except ImportError as error:
        raise _no_pillow() from error
    form = forms[0]
    document = cards.card(form)
    notes = PngImagePlugin.PngInfo()
    for keyword, content in (("ccv3", document), ("chara", cards.v2(document))):
        notes.add_text(keyword, base64.b64encode(dumps(content)).decode("ascii"))
    red, green, blue = hashlib.sha256(form.key.encode()).digest()[:3]
    picture = Image.new("RGB", _PICTURE, (64 + red // 2, 64 + green // 2, 64 + blue // 2))
    file = BytesIO()
    picture.save(file, "PNG", pnginfo=notes)
    return file.getvalue()


def _texts(data: bytes) -> dict[str, Any]:
    try:
        from PIL.PngImagePlugin import PngStream  # noqa: PLC0415
    except ImportError as error:
        raise _no_pillow() from error
    # Only the chunks are read: a card often lies behind the pixels, and decoding those could take a gigabyte.
    file = BytesIO(data)
    file.seek(len(SIGNATURE))
    stream = PngStream(file)
    try:
        _walk(stream, file)
    except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:
        raise _damaged(str(error)) from error
    return dict(stream.im_text)


def _walk(stream: Any, file: BytesIO) -> None:
    for _ in range(_CHUNK_LIMIT):
        kind, position, length = stream.read()
        if kind == b"IEND":
            return
        if kind == b"IHDR" or kind in _TEXT_CHUNKS:
            # Pillow stops at a text that grows beyond a megabyte when it is unpacked.
            content = stream.call(kind, position, length)
        else:
            content = file.read(length)
        stream.crc(kind, content)
        if kind == b"IHDR":
            _check_size(*stream.im_size)
    raise CatalogueError(f"The picture has more than {_CHUNK_LIMIT} parts.", hint="Save it once more.")


def _check_size(width: int, height: int) -> None:
    if max(width, height) > SIDE_LIMIT or width * height > PIXEL_LIMIT:
        raise CatalogueError(
            f"The picture is too large: {width} × {height} pixels.",
            hint=f"Make it smaller than {PIXEL_LIMIT // 1_000_000} million pixels.",
        )


def _damaged(reason: str) -> CatalogueError:
    return CatalogueError(f"The picture cannot be read: {reason}.", hint="Download or export it once more.")


def _no_pillow() -> CatalogueError:
    return CatalogueError(
        "Pictures need the package Pillow, which is not installed.",
        hint="Install it (pip install pillow), or use the card as a JSON file.",
    )
