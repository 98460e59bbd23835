"""What code yields, returns or passes on, as messages to the server."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import mimetypes
import os
from collections.abc import Mapping, Sequence, Set, ValuesView
from pathlib import Path
from typing import Any

from agent_mode.sandbox.child.frames import Message

_BYTES = (bytes, bytearray, memoryview)
_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"<svg", "image/svg+xml"),
)


def plain(value: Any) -> Any:
    """JSON of what is none: dataclasses, sets and other collections, numbers of numpy.

    Raises:
        TypeError: it has no JSON that says the same.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return dict(value)
    convert = getattr(value, "tolist", None)  # numpy, without importing it
    if callable(convert):
        return convert()
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=repr)  # the same order in every process
    if isinstance(value, (Sequence, Set, ValuesView)) and not isinstance(value, _BYTES):
        return list(value)
    raise TypeError(f"{type(value).__name__} is nothing that JSON can say")


def output(value: Any) -> Message | None:
    """The message for what `run` yields or returns; None: nothing to show.

    Raises:
        ValueError, TypeError, OSError: an image that is none.
    """
    if value is None:
        return None
    if isinstance(value, str):
        return {"t": "output", "text": str(value)}
    if isinstance(value, _BYTES) or callable(getattr(value, "savefig", None)):
        return image(value)
    if isinstance(value, dict) and "image" in value and set(value) <= {"image", "mime"}:
        return image(value["image"], value.get("mime"))
    return {"t": "output", "text": _json(value)}


def _json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, default=_plain_or_text)
    except (TypeError, ValueError, RecursionError):  # a circle, or keys that are no text
        return repr(value)


def _plain_or_text(value: Any) -> Any:
    try:
        return plain(value)
    except TypeError:
        return str(value)


def image(source: Any, mime: str | None = None) -> Message:
    """The message for an image.

    Args:
        source: the bytes, a path, an `http(s)` or `data:` URL, the text of an SVG, or anything with `savefig`
            (a figure of matplotlib).
        mime: what it is; None: found out.

    Raises:
        ValueError, TypeError: it is no image.
        OSError: the file cannot be read.
    """
    if callable(save := getattr(source, "savefig", None)):
        buffer = io.BytesIO()
        save(buffer, format="png", bbox_inches="tight")
        return _image(buffer.getvalue(), "image/png")
    if isinstance(source, _BYTES):
        return _image(bytes(source), mime)
    if isinstance(source, str):
        if source.startswith(("http://", "https://")):
            return {"t": "image", "mime": mime or "", "data": source}
        if source.startswith("data:"):
            return _from_data_url(source)
        if source.lstrip().startswith(("<svg", "<?xml")):
            return _image(source.encode(), "image/svg+xml")
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        return _image(path.read_bytes(), mime or mimetypes.guess_type(path.name)[0])
    raise TypeError(f"{type(source).__name__} is no image; give bytes, a path, a URL or a figure")


def _from_data_url(url: str) -> Message:
    head, _, data = url.partition(",")
    kind, encoding = head.removeprefix("data:").partition(";")[::2]
    if encoding != "base64":
        raise ValueError("The data: URL of an image has to be base64.")
    return _image(base64.b64decode(data, validate=True), kind)


def _image(data: bytes, mime: str | None) -> Message:
    mime = mime or _sniffed(data)
    if mime is None or not mime.startswith("image/"):
        raise ValueError("These bytes are no PNG, JPEG, GIF, WebP or SVG image; name their type with mime=…")
    return {"t": "image", "mime": mime, "data": base64.b64encode(data).decode("ascii")}


def _sniffed(data: bytes) -> str | None:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((mime for magic, mime in _MAGIC if data.lstrip().startswith(magic)), None)
