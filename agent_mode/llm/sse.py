"""Server-sent events of an OpenAI-compatible provider, vetted chunk by chunk.

Open WebUI acts on a top-level `event` key in a chunk (an `execute` event runs code in the user's page), so
nothing that a provider or a model writes may carry one. Only parsed chunks pass, and each is written anew
as one `data:` line.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from agent_mode.errors import ProviderError

CONTROL_KEYS = frozenset({"event", "selected_model_id", "type"})
"""Top-level keys on which Open WebUI acts: an event, another model for the chat, a Responses item."""

MAX_LINE = 64 * 1024 * 1024
"""Longest line in bytes that is taken from a provider (an image may come inside one)."""

_KEY = re.compile(
    r"(?<![A-Za-z0-9])(?:(?:sk|pk)[-_][\w*.-]{6,}"
    r"|(?i:key|bearer)[-_ =:]{1,3}(?=[\w.-]{0,64}[\d*])[\w*.-]{6,})"  # but not "key provided"
)

_READABLE = 10_000
"""So much of a provider's words is looked at to make a short line of them."""

MAX_PARTIAL = 256 * 1024
"""Longest JSON in bytes that may go over several lines: each line makes it be parsed once more."""


@dataclass(slots=True)
class Facts:
    """What a stream has told so far."""

    started: bool = False
    finish_reason: str | None = None
    done: bool = False
    usage: dict[str, Any] | None = None
    chunks: list[dict[str, Any]] = field(default_factory=list, compare=False, repr=False)
    """Those of the block that came last, parsed, for whoever reads what he passes on."""


@dataclass(slots=True)
class SseReader:
    """Turns the bytes of a provider's stream into blocks of vetted chunks."""

    facts: Facts = field(default_factory=Facts)
    _tail: bytes = b""
    _foreign: bytes = b""
    _partial: bytes = b""
    """The data lines so far of an event whose JSON goes over several lines."""

    def feed(self, data: bytes) -> bytes:
        """The vetted chunks that are complete with this socket read, as `data:` lines; maybe none.

        Raises:
            ProviderError: the provider reports an error, or sends something that is no chunk. What was
                complete before it is in the error's `partial`.
        """
        data = self._tail + data
        cut = max(data.rfind(b"\n"), data.rfind(b"\r", 0, -1)) + 1
        self._tail = data[cut:]
        if len(self._tail) > MAX_LINE:
            raise not_json("a line of more than 64 MiB")
        return self._lines(data[:cut])

    def close(self) -> bytes:
        """What the last line holds when the provider ended without a line break."""
        rest, self._tail = self._tail, b""
        try:
            block = self._lines(rest)
        except BrokenChunk as error:
            if self.facts.started and rest:
                raise BrokenChunk(error.partial, cut_off()) from None
            raise
        if self._partial:
            raise BrokenChunk(block, self._no_json())
        if not self.facts.started and not self.facts.done:
            raise not_json(self._foreign[:80].decode("utf-8", "replace") or "an empty answer")
        return block

    def _lines(self, block: bytes) -> bytes:
        out: list[bytes] = []
        chunks = self.facts.chunks = []
        for line in block.splitlines():
            if line[:5] != b"data:":
                if not line and self._partial:
                    raise BrokenChunk(b"".join(out), self._no_json())
                # Comments, field names other than data, and text that is no event stream at all.
                if line and line[:1] != b":" and not self.facts.started:
                    self._foreign = self._foreign or line.strip()
                continue
            payload = line[5:].strip()
            if payload == b"[DONE]":
                if self._partial:
                    raise BrokenChunk(b"".join(out), self._no_json())
                self.facts.done = True
                continue
            if not payload or self.facts.done:
                continue
            try:
                chunk = json.loads((self._partial + payload).decode())  # as bytes, UTF-16 would pass
            except (ValueError, RecursionError):
                self._partial += payload + b"\n"
                if len(self._partial) > MAX_PARTIAL:
                    raise BrokenChunk(b"".join(out), self._no_json()) from None
                continue
            if type(chunk) is not dict:
                self._partial = b""
                continue
            try:
                if self._partial:
                    self._partial, payload = b"", json.dumps(chunk).encode()
                vetted = self._vet(chunk, payload, out)
            except RecursionError:  # what could just be read may be too deep to be written
                raise BrokenChunk(b"".join(out), not_json("a chunk nested too deeply")) from None
            if vetted is not None:
                out += (b"data: ", vetted, b"\n\n")
                chunks.append(chunk)
        return b"".join(out)

    def _no_json(self) -> ProviderError:
        sample, self._partial = self._partial[:80], b""
        return not_json(sample.decode("utf-8", "replace"))

    def _vet(self, chunk: dict[str, Any], payload: bytes, out: list[bytes]) -> bytes | None:
        facts = self.facts
        if chunk.get("error"):
            raise BrokenChunk(b"".join(out), reported(chunk["error"]))
        choices = chunk.get("choices")
        if type(choices) is not list:
            return None  # neither text nor usage: nothing that a chat could show
        facts.started = True
        if choices:
            first = choices[0]
            reason = first.get("finish_reason") if type(first) is dict else None
            if type(reason) is str:
                facts.finish_reason = reason
        usage = chunk.get("usage")
        if type(usage) is dict:
            facts.usage = usage
        if CONTROL_KEYS.isdisjoint(chunk):
            return payload
        return json.dumps({key: value for key, value in chunk.items() if key not in CONTROL_KEYS}).encode()


class BrokenChunk(ProviderError):
    """A provider's error in the middle of a stream, with the vetted chunks that came before it."""

    def __init__(self, partial: bytes, error: ProviderError) -> None:
        super().__init__(
            error.message, hint=error.hint, code=error.code, status=error.status, retryable=error.retryable
        )
        self.partial = partial
        self.detail = error.detail


def cut_off() -> ProviderError:
    return ProviderError(
        "The connection to the model provider broke in the middle of the answer.",
        hint="What came before stays; try again for the rest.",
        code="provider_broken_stream",
        retryable=True,
    )


def not_json(sample: str) -> ProviderError:
    return ProviderError(
        "The model provider sent something that is not a chat answer.",
        hint="Check that the base URL leads to an OpenAI-compatible API (it usually ends in /v1).",
        code="provider_not_json",
    ).with_detail(sample)


def reported(error: Any) -> ProviderError:
    text = error.get("message") if isinstance(error, dict) else error
    return ProviderError(
        f"The model provider stopped with an error: {readable(text)}",
        hint="Try again; if it stays so, look at the provider's status.",
        code="provider_error",
        retryable=True,
    )


def readable(text: Any, limit: int = 300) -> str:
    """A provider's words as one short line: no key, no markup, no control characters."""
    words = _KEY.sub("[key]", " ".join(str(text or "no reason given")[:_READABLE].split()))
    printable = "".join(char for char in words if char.isprintable()).replace("<", "‹").replace(">", "›")
    return printable if len(printable) <= limit else printable[: limit - 1] + "…"
