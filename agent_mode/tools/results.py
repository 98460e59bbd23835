"""A tool's result as a model gets it.

What Open WebUI 0.12.4 puts into the `tool` message of a call (utils/middleware.py, utils/tool_approval.py):

| What happened | The message |
| --- | --- |
| the tool returned text | the text |
| it returned an object, or a list | JSON, indented; a list as `{"results": […]}` |
| it returned nothing | an empty text |
| it returned a picture | `<tool>: Image file read successfully.`, or `[image]` inside JSON; the picture |
| | follows in a *user* message that begins with `IMAGES_NOTE`, after the tool messages |
| it raised an exception, or its server answered 400 or above | `{"error": "…"}` |
| there is no such tool, or the user may not use it | `Error: Tool "<name>" not found.` |
| the arguments were no JSON, or no object | `Error: Tool call arguments …` |
| the user denied the call | `Error: tool call rejected by user.` |
| the same, or no answer, in a chat that is not saved | `Error: tool call was not approved.` |
| the tool runs in the browser, and that is gone | `Error: Browser session is not connected …` |
| the server stopped while the tool ran | `Error: tool execution was interrupted; …` |
"""

from __future__ import annotations

import json
from typing import Any

Content = str | list[dict[str, Any]]
"""Text, or OpenAI content parts where pictures are in it."""

IMAGES_NOTE = "Here are the images from the tool results above. Please analyze them."
"""How the user message begins in which Open WebUI shows a model the pictures of tools."""

_DENIALS = ("error: tool call rejected by user", "error: tool call was not approved")
_ERRORS = ("error:", "exception:", "traceback", "http error!")
_TEXT_TYPES = ("text", "input_text", "output_text")
_READ = 256 * 1024
"""Longer JSON is a result, not a report of an error, and not worth being parsed."""
_TAIL = 4
"""The end of a shortened text is one part in so many."""


def content_of(value: Any) -> Content:
    """What a tool gave, whatever it is, as the content of a message.

    Args:
        value: text, a list of content parts (of the chat or of the responses API, or MCP's), or any JSON.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return [_image(value)] if value.startswith("data:image/") else value
    if not isinstance(value, list) or not any(_is_part(item) for item in value):
        return _json(value)
    parts = [_part(item) for item in value]
    if all(part["type"] == "text" for part in parts):
        return "\n".join(part["text"] for part in parts)
    return parts


def text_of(content: Any) -> str:
    """The text of a content; a picture is `[image]`."""
    content = content_of(content)
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] if part["type"] == "text" else "[image]" for part in content)


def images_of(content: Any) -> list[str]:
    """Addresses of the pictures in a content."""
    content = content_of(content)
    if isinstance(content, str):
        return []
    return [part["image_url"]["url"] for part in content if part["type"] == "image_url"]


def images_note(urls: list[str]) -> dict[str, Any]:
    """The user message that shows a model the pictures of tools, as Open WebUI writes it."""
    return {"role": "user", "content": [{"type": "text", "text": IMAGES_NOTE}, *map(_image, urls)]}


def is_images_note(message: dict[str, Any]) -> bool:
    """Whether a message is no user's, but shows the model the pictures of the tools before it."""
    content = message.get("content")
    if message.get("role") != "user" or not isinstance(content, list) or not content:
        return False
    first = content[0]
    return isinstance(first, dict) and first.get("text") == IMAGES_NOTE


def is_error(content: Any) -> bool:
    """Whether a tool failed, was denied or is unknown: by the same signs that Open WebUI goes by."""
    text = text_of(content).strip()
    if text[:20].lower().startswith(_ERRORS):
        return True
    if not text.startswith(("{", '"')) or len(text) > _READ:
        return False
    found: Any = text
    while isinstance(found, str):
        try:
            found = json.loads(found)
        except (ValueError, RecursionError):
            return False
    if not isinstance(found, dict):
        return False
    if _says_something(found.get("error")) or str(found.get("status")).strip().lower() in ("error", "failed"):
        return True
    return (found.get("success") is False or found.get("ok") is False) and _says_something(
        found.get("message")
    )


def is_denied(content: Any) -> bool:
    """Whether the user denied the call."""
    return text_of(content).strip().lower().startswith(_DENIALS)


def shortened(content: Content, limit: int) -> Content:
    """The content with at most so many characters of text: beginning and end stay, a mark says what is gone.

    Args:
        content: text or parts; pictures stay.
        limit: characters, the mark included; a limit smaller than the mark leaves the mark alone.
    """
    if isinstance(content, str):
        return _shortened(content, limit)
    left = limit
    parts: list[dict[str, Any]] = []
    for part in content:
        if part.get("type") != "text":
            parts.append(part)
            continue
        if left > 0:
            text = _shortened(str(part.get("text") or ""), left)
            parts.append({**part, "text": text})
            left -= len(text)
    return parts


def _shortened(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    mark = _mark(len(text), len(text))
    kept = max(limit - len(mark), 0)  # the real mark is no longer than that of everything
    if not kept:
        return mark.strip()
    tail = kept // _TAIL
    head = kept - tail
    return text[:head] + _mark(len(text) - kept, len(text)) + (text[-tail:] if tail else "")


def _mark(gone: int, whole: int) -> str:
    return f"\n[… {gone:,} of {whole:,} characters are left out here …]\n"


def _is_part(item: Any) -> bool:
    return isinstance(item, dict) and item.get("type") in (*_TEXT_TYPES, "image_url", "input_image", "image")


def _part(item: Any) -> dict[str, Any]:
    """One item of a list as a content part; what is none, as JSON."""
    if isinstance(item, str):
        return {"type": "text", "text": item}
    kind = item.get("type") if isinstance(item, dict) else None
    if kind in _TEXT_TYPES and isinstance(item.get("text"), str):
        return {"type": "text", "text": item["text"]}
    if kind in ("image_url", "input_image"):
        address = item.get("image_url")
        url = address.get("url") if isinstance(address, dict) else address
        if isinstance(url, str):
            return _image(url)
    if kind == "image" and isinstance(item.get("data"), str):
        return _image(f"data:{item.get('mimeType') or 'image/png'};base64,{item['data']}")
    return {"type": "text", "text": _json(item)}


def _image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _says_something(value: Any) -> bool:
    return bool(value.strip()) if isinstance(value, str) else isinstance(value, dict | list) and bool(value)
