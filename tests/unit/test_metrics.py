"""The figures of the process: what is counted, within bounds, and cheaply."""

from __future__ import annotations

import time

import pytest

from agent_mode.errors import ProviderError
from agent_mode.observe import metrics as module
from agent_mode.observe.metrics import FAILURES, MOST_LABELS, OTHER, RECENT, Labelled, Metrics, exposition


def test_labels_are_bounded_and_nothing_is_lost() -> None:
    counts = Labelled()
    for number in range(10 * MOST_LABELS):
        counts.add(f"label-{number}", "x")
    assert len(counts.counts) == MOST_LABELS + 1
    assert counts.total == 10 * MOST_LABELS
    assert counts.by()[OTHER] == 9 * MOST_LABELS


def test_switches_have_a_strategy_a_latency_and_an_hour() -> None:
    told = Metrics()
    assert told.quantiles(0.5, 0.99) == [None, None]
    for number in range(100):
        told.switched("calm" if number % 4 else "classic", number / 1000)
    assert told.switches.by() == {"calm": 75, "classic": 25}
    assert told.quantiles(0.5, 0.95, 0.99) == [0.05, 0.095, 0.099]
    assert sum(told.latencies) == 100
    assert told.latency_sum == pytest.approx(4.95)
    hours = told.hours(24)
    assert (len(hours), hours[-1].switches, hours[0].switches) == (24, 100, 0)
    for _ in range(2 * RECENT):
        told.switched("calm", 7.0)
    assert (len(told.recent), told.latencies[-1]) == (RECENT, 2 * RECENT)


def test_turns_that_fail_are_counted_by_code_and_the_last_ones_kept() -> None:
    told = Metrics()
    assert told.success_rate is None
    for _ in range(3):
        told.turn("personas.coder", None)
    told.turn("personas.coder", None, stopped=True)
    error = ProviderError("No answer.", hint="Wait.", code="provider_timeout").within(run_id="r1")
    told.turn("personas.writer", error)
    assert told.success_rate == pytest.approx(0.8)
    assert told.turns.by() == {"done": 3, "stopped": 1, "failed": 1}
    assert told.errors.by() == {"provider_timeout": 1}
    [mishap] = told.mishaps
    assert (mishap.where, mishap.code, mishap.hint, mishap.run_id) == (
        "personas.writer",
        "provider_timeout",
        "Wait.",
        "r1",
    )
    for _ in range(2 * FAILURES):
        told.turn("m", error)
    assert len(told.mishaps) == FAILURES


def test_prometheus_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    told = Metrics()
    monkeypatch.setattr(module, "metrics", told)
    told.switched('odd"\n\\label', 0.003)
    told.switched("calm", 5.0)
    told.run("persona", "done")
    told.fell_back("no_template")
    raw, kind = exposition({"active_runs": 3})
    assert kind.startswith("text/plain")
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(raw.decode())
        for sample in family.samples
    }
    assert found["agent_mode_switches_total", 'odd"\n\\label'] == 1
    assert found["agent_mode_switch_seconds_bucket", "0.005"] == 1
    assert found["agent_mode_switch_seconds_bucket", "+Inf"] == 2
    assert found["agent_mode_switch_seconds_count",] == 2
    assert found["agent_mode_agent_runs_total", "persona", "done"] == 1
    assert found["agent_mode_active_runs",] == 3


def test_recording_costs_microseconds() -> None:
    told = Metrics()
    began = time.perf_counter()
    for _ in range(10_000):
        told.switched("calm", 0.002)
        told.turn("personas.coder", None)
    each = (time.perf_counter() - began) / 10_000
    assert each < 50e-6  # about 2 µs on an idle machine


def test_what_failed_is_a_turn_as_well_so_that_no_figure_contradicts_another() -> None:
    told = Metrics()
    told.turn("t-function", ProviderError("No answer.", code="provider_timeout").within(run_id="r1"))
    assert (told.turns.by(), told.errors.by()) == ({"failed": 1}, {"provider_timeout": 1})
    assert (told.success_rate, told.hours(1)[0].failed) == (0, 1)
    assert [(mishap.where, mishap.run_id) for mishap in told.mishaps] == [("t-function", "r1")]
