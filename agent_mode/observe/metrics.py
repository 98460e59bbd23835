"""The figures of this process: switches, turns, runs, what went wrong. Their one home.

Recording is a few additions in plain Python; whoever wants to see the figures does the work. They begin anew
with the process. Labels come from us and from files of admins, never from users, and there are at most
`MOST_LABELS` of each kind.
"""

from __future__ import annotations

import bisect
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import Any, Literal

from agent_mode.errors import AgentModeError, ConfigurationError

MOST_LABELS = 64
OTHER = "other"
"""The label of all further ones."""
HOURS = 48
"""So many hours are kept one by one."""
RECENT = 2000
"""Quantiles are those of so many last switches."""
FAILURES = 20
"""So many of the last failures are kept."""
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Upper bounds of the histogram of switches, in seconds; the goal is 0.2."""

Outcome = Literal["done", "failed", "stopped"]


@dataclass(frozen=True, slots=True)
class Mishap:
    """Something that went wrong."""

    at: datetime
    """Aware."""
    where: str
    """The model that was asked."""
    code: str
    message: str
    hint: str
    run_id: str | None = None


class Labelled:
    """Counts by labels, of which there are only so many."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, ...], int] = {}

    def add(self, *labels: str) -> None:
        if labels not in self.counts and len(self.counts) >= MOST_LABELS:
            labels = (OTHER,) * len(labels)
        self.counts[labels] = self.counts.get(labels, 0) + 1

    def by(self, place: int = 0) -> dict[str, int]:
        """The counts by one of the labels, the largest first."""
        found: dict[str, int] = {}
        for labels, count in self.counts.items():
            found[labels[place]] = found.get(labels[place], 0) + count
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    @property
    def total(self) -> int:
        return sum(self.counts.values())


@dataclass(slots=True)
class Hour:
    """What happened in one hour."""

    begins: int
    """Hours since the epoch."""
    switches: int = 0
    turns: int = 0
    failed: int = 0


@dataclass(slots=True)
class Metrics:
    """What is counted. Used on the server's event loop only."""

    since: datetime = field(default_factory=lambda: datetime.now(UTC))
    switches: Labelled = field(default_factory=Labelled)
    """By strategy."""
    turns: Labelled = field(default_factory=Labelled)
    """Turns of chats, and runs over the API, by outcome."""
    runs: Labelled = field(default_factory=Labelled)
    """By agent type and outcome."""
    errors: Labelled = field(default_factory=Labelled)
    """By code."""
    fallbacks: Labelled = field(default_factory=Labelled)
    """Of hard resets, by category."""
    mishaps: deque[Mishap] = field(default_factory=lambda: deque(maxlen=FAILURES))
    """The newest last."""
    latencies: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    """Switches by bucket; the last one holds those above all bounds."""
    latency_sum: float = 0.0
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))
    """Seconds that the last switches took."""
    _hours: deque[Hour] = field(default_factory=lambda: deque(maxlen=HOURS))

    def switched(self, strategy: str, seconds: float) -> None:
        """Another one answers than before.

        Args:
            strategy: name of the strategy by which it was told so.
            seconds: from the request to the messages that go to the LLM, without waiting for others.
        """
        self.switches.add(strategy)
        self.latencies[bisect.bisect_left(BUCKETS, seconds)] += 1
        self.latency_sum += seconds
        self.recent.append(seconds)
        self._hour().switches += 1

    def fell_back(self, category: str) -> None:
        """A hard reset had to do without something."""
        self.fallbacks.add(category)

    def turn(self, model: str, error: AgentModeError | None, *, stopped: bool = False) -> None:
        """A turn has ended, or a run over the API, which stands for one.

        Args:
            model: the model or the agent that was asked.
            error: why it failed; None: it did not.
            stopped: whether it was ended before it was done.
        """
        hour = self._hour()
        hour.turns += 1
        if error is None:
            self.turns.add("stopped" if stopped else "done")
            return
        hour.failed += 1
        self.turns.add("failed")
        self.errors.add(error.code)
        run_id = error.where.get("run_id")
        self.mishaps.append(Mishap(datetime.now(UTC), model, error.code, error.message, error.hint, run_id))

    def run(self, agent_type: str, outcome: str) -> None:
        """A run of an agent has ended, or waits for its tools."""
        self.runs.add(agent_type, outcome)

    def quantiles(self, *shares: float) -> list[float | None]:
        """The quantiles of the last switches in seconds; None where there was none."""
        ordered = sorted(self.recent)
        if not ordered:
            return [None] * len(shares)
        return [ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in shares]

    @property
    def success_rate(self) -> float | None:
        """The share of turns that did not fail; None where there was none."""
        total = self.turns.total
        return None if not total else 1 - self.turns.by().get("failed", 0) / total

    def hours(self, count: int) -> list[Hour]:
        """The last hours, the oldest first, those without anything too."""
        now = _hour_now()
        known = {hour.begins: hour for hour in self._hours}
        return [known.get(begins) or Hour(begins) for begins in range(now - count + 1, now + 1)]

    def _hour(self) -> Hour:
        now = _hour_now()
        if not self._hours or self._hours[-1].begins != now:
            self._hours.append(Hour(now))
        return self._hours[-1]


def _hour_now() -> int:
    return int(time.time() // 3600)


metrics = Metrics()
"""The figures of this process."""


def exposition(gauges: Mapping[str, float]) -> tuple[bytes, str]:
    """The figures in Prometheus' text format, and its content type.

    Args:
        gauges: what is so at this moment, by name and in words: `{"active_runs": 3}`.

    Raises:
        ConfigurationError: the package prometheus-client is missing.
    """
    if find_spec("prometheus_client") is None:
        raise ConfigurationError(
            "The figures need the package prometheus-client, which is not installed here.",
            hint="Run `pip install prometheus-client` for the server's Python and restart.",
            code="no_prometheus",
            status=503,
        )
    # Only here: most servers are never asked.
    from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415
    from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4  # noqa: PLC0415

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(metrics, gauges))
    return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4


class _Collector:
    def __init__(self, told: Metrics, gauges: Mapping[str, float]) -> None:
        self._told = told
        self._gauges = gauges

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import (  # noqa: PLC0415
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        told = self._told
        counters = (
            ("switches", "Switches to another persona or agent", told.switches, ["strategy"]),
            ("turns", "Turns, and runs over the API, that have ended", told.turns, ["outcome"]),
            ("agent_runs", "Runs of agents that have ended or wait", told.runs, ["agent_type", "outcome"]),
            ("errors", "Turns, and runs over the API, that failed", told.errors, ["code"]),
            ("switch_fallbacks", "Hard resets that did without something", told.fallbacks, ["category"]),
        )
        for name, words, counts, labels in counters:
            family = CounterMetricFamily(f"agent_mode_{name}", words, labels=labels)
            for values, count in counts.counts.items():
                family.add_metric(list(values), count)
            yield family
        buckets: list[tuple[str, float]] = []
        below = 0
        for bound, count in zip((*map(str, BUCKETS), "+Inf"), told.latencies, strict=True):
            below += count
            buckets.append((bound, below))
        yield HistogramMetricFamily(
            "agent_mode_switch_seconds",
            "From the request to the switched messages",
            buckets=buckets,
            sum_value=told.latency_sum,
        )
        for name, value in self._gauges.items():
            yield GaugeMetricFamily(f"agent_mode_{name}", name.replace("_", " ").capitalize(), value=value)
