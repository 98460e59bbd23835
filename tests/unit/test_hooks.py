"""Events for other plug-ins: who gets them, and that a bad subscriber harms nobody."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from agent_mode.errors import ConfigurationError
from agent_mode.observe import hooks as module
from agent_mode.observe.hooks import (
    EVENTS,
    Event,
    Hooks,
    PersonaChanged,
    PersonaSwitched,
)

SWITCHED = PersonaSwitched(persona="coder", previous="writer", chat_id="c1", user_id="u1")
CHANGED = PersonaChanged(persona="coder", reason="updated")


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    capture = structlog.testing.LogCapture()
    log = structlog.wrap_logger(None, processors=[capture], wrapper_class=structlog.stdlib.BoundLogger)
    monkeypatch.setattr(module, "log", log)
    return capture.entries


@pytest.fixture
async def hooks() -> AsyncIterator[Hooks]:
    made = Hooks()
    await made.start()
    yield made
    await made.close()


# Events


def test_every_event_is_listed_under_its_name() -> None:
    assert list(EVENTS) == [
        "persona.switched",
        "persona.reset",
        "sequence.started",
        "sequence.finished",
        "persona.changed",
    ]
    assert {kind.__name__ for kind in EVENTS.values()} == {kind.__name__ for kind in Event.__subclasses__()}
    assert [kind.name for kind in EVENTS.values()] == list(EVENTS)


@pytest.mark.parametrize("kind", EVENTS.values(), ids=EVENTS)
def test_events_say_who_and_when_and_nothing_that_was_said(kind: type[Event]) -> None:
    fields = {field.name for field in dataclasses.fields(kind)}
    assert {"at", "chat_id", "user_id"} <= fields
    assert fields <= {"at", "chat_id", "user_id", "persona", "personas", "previous", "failed", "reason"}


def test_events_do_not_change() -> None:
    assert SWITCHED.at.utcoffset() is not None
    with pytest.raises(dataclasses.FrozenInstanceError):
        SWITCHED.persona = "other"  # pyright: ignore[reportAttributeAccessIssue]


# Subscribers


def test_by_name_and_all_in_the_order_of_subscription() -> None:
    hooks, seen = Hooks(), []

    @hooks.on("persona.switched")
    def first(event: PersonaSwitched) -> None:
        seen.append(("first", event))

    hooks.subscribe("*", lambda event: seen.append(("all", event)))
    hooks.subscribe("persona.switched", functools.partial(seen.append))
    hooks.emit(SWITCHED)
    hooks.emit(CHANGED)
    assert seen == [("first", SWITCHED), ("all", SWITCHED), SWITCHED, ("all", CHANGED)]
    first(SWITCHED)  # is still the function that it was


def test_unsubscribe() -> None:
    hooks, seen = Hooks(), []
    stop = hooks.subscribe("*", seen.append)
    hooks.subscribe("*", seen.append)
    stop()
    stop()
    hooks.emit(SWITCHED)
    assert seen == [SWITCHED]


def test_a_subscriber_may_unsubscribe_while_it_is_called() -> None:
    hooks, seen = Hooks(), []

    def once(event: Event) -> None:
        stop()
        seen.append(event)

    stop = hooks.subscribe("*", once)
    hooks.subscribe("*", seen.append)
    hooks.emit(SWITCHED)
    hooks.emit(CHANGED)
    assert seen == [SWITCHED, SWITCHED, CHANGED]


def test_unknown_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Hooks().on("persona.swiched")(print)
    assert caught.value.code == "unknown_event"
    assert "persona.switched" in caught.value.hint


@pytest.mark.parametrize("error", [ValueError("no"), asyncio.CancelledError(), AssertionError()])
def test_one_that_raises_is_logged_by_name_and_the_others_still_run(
    error: BaseException, logged: list[Any]
) -> None:
    hooks, seen = Hooks(), []

    def broken(_event: Event) -> None:
        raise error

    hooks.subscribe("*", broken)
    hooks.subscribe("*", seen.append)
    hooks.emit(SWITCHED)
    assert seen == [SWITCHED]
    assert [entry["event"] for entry in logged] == ["hook failed"]
    assert logged[0]["hook"].endswith(".broken")
    assert logged[0]["hook"].startswith(__name__)


def test_emit_costs_next_to_nothing_without_subscribers() -> None:
    hooks = Hooks()
    hooks.subscribe("persona.changed", print)
    rounds, best = 2000, 1.0
    for _ in range(20):
        started = time.perf_counter()
        for _ in range(rounds):
            hooks.emit(SWITCHED)
        best = min(best, (time.perf_counter() - started) / rounds)
    assert best < 5e-6


# Async subscribers


async def test_async_subscribers_run_beside(hooks: Hooks) -> None:
    seen, go = [], asyncio.Event()

    @hooks.on("*")
    async def slow(event: Event) -> None:
        await go.wait()
        seen.append(event)

    class Callable_:
        async def __call__(self, event: Event) -> None:
            seen.append(event)

    hooks.subscribe("*", Callable_())
    hooks.emit(SWITCHED)
    assert seen == []
    await asyncio.sleep(0.01)
    assert seen == [SWITCHED]
    go.set()
    await asyncio.sleep(0.01)
    assert seen == [SWITCHED, SWITCHED]


async def test_async_failure_is_logged_by_name(hooks: Hooks, logged: list[Any]) -> None:
    async def broken(_event: Event) -> None:
        raise ValueError("no")

    hooks.subscribe("*", broken)
    hooks.emit(SWITCHED)
    await asyncio.sleep(0.01)
    assert [entry["event"] for entry in logged] == ["hook failed"]
    assert logged[0]["hook"].endswith(".broken")


async def test_from_another_thread(hooks: Hooks) -> None:
    threads = []

    async def note(_event: Event) -> None:
        threads.append(threading.get_ident())

    hooks.subscribe("*", note)
    await asyncio.to_thread(hooks.emit, SWITCHED)
    await asyncio.sleep(0.01)
    assert threads == [threading.get_ident()]


async def test_close_leaves_nothing_behind_and_start_goes_on(logged: list[Any]) -> None:
    hooks, seen = Hooks(), []

    async def hang(event: Event) -> None:
        seen.append(event)
        await asyncio.sleep(60)

    hooks.subscribe("*", hang)
    await hooks.start()
    hooks.emit(SWITCHED)
    await asyncio.sleep(0.01)
    hooks.emit(SWITCHED)  # not begun yet
    await hooks.close()
    await hooks.close()
    assert len(asyncio.all_tasks()) == 1
    assert seen == [SWITCHED]
    hooks.emit(SWITCHED)
    assert [entry["event"] for entry in logged] == ["async hook not called, the server is not running"]
    await hooks.start()
    hooks.emit(CHANGED)
    await asyncio.sleep(0.01)
    assert seen == [SWITCHED, CHANGED]
    await hooks.close()


async def test_close_does_not_wait_for_one_that_refuses_to_end(
    monkeypatch: pytest.MonkeyPatch, logged: list[Any]
) -> None:
    monkeypatch.setattr(module, "CLOSE_SECONDS", 0.05)
    hooks, ended = Hooks(), asyncio.Event()

    async def stubborn(_event: Event) -> None:
        for _ in range(10):
            try:
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                continue
        ended.set()

    hooks.subscribe("*", stubborn)
    await hooks.start()
    hooks.emit(SWITCHED)
    await asyncio.sleep(0.01)
    await hooks.close()
    assert [entry["event"] for entry in logged] == ["hook does not end"]
    await ended.wait()


def test_emit_after_its_loop_was_closed_raises_nothing(logged: list[Any]) -> None:
    hooks = Hooks()

    async def note(_event: Event) -> None: ...

    hooks.subscribe("*", note)
    asyncio.run(hooks.start())
    hooks.emit(SWITCHED)
    assert [entry["log_level"] for entry in logged] == ["warning"]


async def test_one_that_does_not_keep_up_does_not_pile_up(
    hooks: Hooks, monkeypatch: pytest.MonkeyPatch, logged: list[Any]
) -> None:
    monkeypatch.setattr(module, "PENDING_LIMIT", 3)
    seen, go = [], asyncio.Event()

    async def slow(event: Event) -> None:
        await go.wait()
        seen.append(event)

    hooks.subscribe("*", slow)
    for _ in range(8):
        hooks.emit(SWITCHED)
    go.set()
    await asyncio.sleep(0.01)
    assert len(seen) == 3
    assert [entry["count"] for entry in logged] == [1, 2, 4]
    hooks.emit(SWITCHED)
    await asyncio.sleep(0.01)
    assert len(seen) == 4


# Entry points


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "hook_plugin.py").write_text(
        "SEEN = []\n"
        "LOADED = []\n"
        "def register(hooks):\n"
        "    LOADED.append(hooks)\n"
        "    hooks.subscribe('*', SEEN.append)\n"
        "def broken(hooks):\n"
        "    raise RuntimeError('no')\n",
        encoding="utf-8",
    )
    (tmp_path / "hook_module.py").write_text(
        "from agent_mode.observe.hooks import on\nREGISTERED = on\n", encoding="utf-8"
    )
    info = tmp_path / "hook_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hook-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[agent_mode.hooks]\n"
        "a = hook_plugin:broken\nb = hook_missing\nc = hook_plugin:register\nd = hook_module\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("plugin")
async def test_entry_points_are_loaded_once_and_a_broken_one_is_logged(logged: list[Any]) -> None:
    import hook_module  # pyright: ignore[reportMissingImports]
    import hook_plugin  # pyright: ignore[reportMissingImports]

    hooks = Hooks()
    await hooks.start()
    await hooks.close()
    await hooks.start()
    hooks.emit(SWITCHED)
    await hooks.close()
    assert [hooks] == hook_plugin.LOADED
    assert [SWITCHED] == hook_plugin.SEEN
    assert module.on == hook_module.REGISTERED
    assert sorted(entry["hook"] for entry in logged) == ["hook_missing", "hook_plugin:broken"]
