"""The budget of one top-level run; whatever agents it calls spend from the same."""

from __future__ import annotations

import time
from typing import Any

from agent_mode.counting import counted
from agent_mode.errors import LimitError
from agent_mode.valves import AgentValves


class Share:
    """What one agent has done of a run's work.

    Attributes:
        calls: its LLM calls, those of earlier requests of the run included.
    """

    def __init__(self) -> None:
        self.calls = 0
        self._tokens: int | None = 0

    def recalled(self) -> None:
        """A call that an earlier request made; what it cost is in the run's budget alone."""
        self.calls += 1
        self._tokens = None

    def add(self, tokens: int) -> None:
        if self._tokens is not None:
            self._tokens += tokens

    def usage(self) -> dict[str, int]:
        """Its tokens, where all of them are known."""
        return {"tokens": self._tokens} if self._tokens else {}


class Budget:
    """Counts LLM calls, tool calls, tokens and seconds.

    Args:
        valves: of the agent that was asked; its limits hold for all.
        used: what earlier requests of the same run spent, as `spent()` told.
    """

    def __init__(self, valves: AgentValves, used: dict[str, float] | None = None) -> None:
        used = used or {}
        self._valves = valves
        self.steps = int(used.get("steps", 0))
        self.tool_calls = int(used.get("tool_calls", 0))
        self.tokens = int(used.get("tokens", 0))
        self._seconds_before = float(used.get("seconds", 0))
        self._since = time.monotonic()
        self.usage: dict[str, int] = {k: int(v) for k, v in used.items() if k.endswith("_tokens")}

    @property
    def seconds(self) -> float:
        """Seconds spent so far; waiting for the caller's tools does not count."""
        return self._seconds_before + time.monotonic() - self._since

    @property
    def seconds_left(self) -> float:
        return max(0.0, self._valves.max_seconds - self.seconds)

    def step(self) -> None:
        """One more LLM call.

        Raises:
            LimitError: that is one too many, or the tokens are spent.
        """
        if self.steps >= self._valves.max_steps:
            raise _spent("steps", self._valves.max_steps, "LLM call", "max_steps")
        if self.tokens >= self._valves.max_tokens:
            raise _spent("tokens", self._valves.max_tokens, "token", "max_tokens")
        self.steps += 1

    def tool_call(self) -> None:
        """One more tool call.

        Raises:
            LimitError: that is one too many.
        """
        if self.tool_calls >= self._valves.max_tool_calls:
            raise _spent("tool_calls", self._valves.max_tool_calls, "tool call", "max_tool_calls")
        self.tool_calls += 1

    def add_usage(self, usage: dict[str, Any] | None, *, characters: int = 0) -> int:
        """What an LLM call cost; by the provider's totals, else estimated at four characters a token.

        Returns:
            its tokens.
        """
        if not usage:
            self.tokens += characters // 4
            return characters // 4
        for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
            value = usage.get(name)
            if isinstance(value, int):
                self.usage[name] = self.usage.get(name, 0) + value
        total = usage.get("total_tokens")
        if not isinstance(total, int):
            parts = (usage.get("prompt_tokens"), usage.get("completion_tokens"))
            total = sum(part for part in parts if isinstance(part, int))
        self.tokens += total
        return total

    def out_of_time(self) -> LimitError:
        return _spent("seconds", self._valves.max_seconds, "second", "max_seconds")

    def spent(self) -> dict[str, float]:
        """As JSON, for the next request of the same run."""
        return {
            "steps": self.steps,
            "tool_calls": self.tool_calls,
            "tokens": self.tokens,
            "seconds": round(self.seconds, 3),
            **self.usage,
        }


def _spent(kind: str, limit: float, what: str, valve: str) -> LimitError:
    return LimitError(
        f"The agent stopped at its limit of {counted(limit, what)}.",
        hint=f"Ask for less at once, or let an admin raise the valve `{valve}`.",
        code=f"limit_{kind}",
    )
