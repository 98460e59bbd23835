"""What a run already knows when it goes on in a later request: answers of LLMs, tools and agents.

A tool that the caller executes ends the request, and the run goes on in the next one. There the agent's code
runs once more from its beginning, and everything that it asks for and that was answered before is answered
from here. Answers are found by what was asked (who, what kind, with which content, the how-manieth time), so
an agent whose order of work varies still finds them, and one that asks something new is simply answered anew.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from typing import Any

_MAX_SEEN = 5_000
"""How many events a run remembers to have shown; an agent that shows more may show the rest once more."""


class Memo:
    """The known answers of one run.

    Args:
        state: as `dump` told, or None for a new run.
    """

    def __init__(self, state: dict[str, Any] | None = None) -> None:
        state = state or {}
        self._known: dict[str, Any] = dict(state.get("known", {}))
        self.calls: dict[str, list[str]] = {key: list(ids) for key, ids in state.get("calls", {}).items()}
        """Ids under which a call went out to the caller, by key."""
        self.call_count: int = state.get("call_count", 0)
        self._asked: Counter[str] = Counter()
        self._seen: set[str] = set(state.get("seen", ()))
        self.inner = bool(state.get("inner"))
        """Whether it holds more than a transcript can tell."""

    def key(self, path: tuple[str, ...], kind: str, content: Any) -> str:
        """The name of one question; the same question asked again gets another."""
        text = json.dumps([path, kind, content], sort_keys=True, default=str)
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]
        self._asked[digest] += 1
        return f"{digest}-{self._asked[digest]}"

    def __contains__(self, key: str) -> bool:
        return key in self._known

    def recall(self, key: str) -> Any:
        return self._known[key]

    def record(self, key: str, answer: Any, *, inner: bool) -> None:
        """Keeps an answer (JSON); `inner`: a transcript would not tell it."""
        self._known[key] = answer
        self.inner = self.inner or inner

    def first(self, key: str) -> bool:
        """Whether this happens for the first time in the run, earlier requests included."""
        if key in self._seen:
            return False
        if len(self._seen) < _MAX_SEEN:
            self._seen.add(key)
        return True

    def dump(self) -> dict[str, Any]:
        """As JSON, for the next request of the same run."""
        return {
            "known": self._known,
            "calls": self.calls,
            "call_count": self.call_count,
            "inner": self.inner,
            "seen": sorted(self._seen),
        }
