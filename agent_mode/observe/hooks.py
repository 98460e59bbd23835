"""Events for other plug-ins: what happened, where, when and to which agents; never what was said.

    from agent_mode.observe.hooks import PersonaSwitched, on

    @on("persona.switched")
    def count(event: PersonaSwitched) -> None:
        switches[event.persona] += 1

A subscriber is called on the path of the user's turn: it returns at once, or it is `async` and runs beside.
A package is loaded at start if it has an entry point in the group `agent_mode.hooks`. That names a module
which uses `on`, or a function which is called with the `Hooks`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import EntryPoint, entry_points
from inspect import iscoroutine
from typing import Any, ClassVar, Literal, TypeVar

from agent_mode.errors import ConfigurationError
from agent_mode.observe.logs import get_logger

log = get_logger(__name__)

GROUP = "agent_mode.hooks"
ALL = "*"
PENDING_LIMIT = 1000
"""How many calls of one async subscriber may be under way; further events do not reach it."""
CLOSE_SECONDS = 2.0
"""How long a cancelled subscriber is waited for."""


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What all events say. Agents appear as their keys."""

    name: ClassVar[str]
    chat_id: str | None = None
    user_id: str | None = None
    at: datetime = field(default_factory=_now)
    """UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonaSwitched(Event):
    """Another persona answers in a chat than before."""

    name: ClassVar[str] = "persona.switched"
    persona: str
    previous: str | None = None
    reason: Literal["user_switch", "auto_suggestion", "system_default"] = "user_switch"


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonaReset(Event):
    """`!reset`: the persona of the picked model answers again. Comes in place of `persona.switched`."""

    name: ClassVar[str] = "persona.reset"
    persona: str | None
    """None where the picked model is not one of ours."""
    previous: str | None = None
    reason: Literal["user_switch"] = "user_switch"


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceStarted(Event):
    """Several personas are about to answer one message, in this order."""

    name: ClassVar[str] = "sequence.started"
    personas: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceFinished(Event):
    """A sequence is over."""

    name: ClassVar[str] = "sequence.finished"
    personas: tuple[str, ...]
    """Those that came to speak."""
    failed: tuple[str, ...] = ()
    """Those of them whose step failed."""
    reason: Literal["completed", "stopped", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonaChanged(Event):
    """The catalogue is not what it was."""

    name: ClassVar[str] = "persona.changed"
    persona: str
    reason: Literal["created", "updated", "deleted"]


EVENTS: dict[str, type[Event]] = {
    kind.name: kind
    for kind in (PersonaSwitched, PersonaReset, SequenceStarted, SequenceFinished, PersonaChanged)
}
"""The events by name."""

Subscriber = Callable[[Any], object]
"""Takes an event; its result is ignored, unless it is a coroutine."""
_F = TypeVar("_F", bound=Subscriber)


class _Subscription:
    def __init__(self, name: str, function: Subscriber) -> None:
        self.name = name
        self.function = function
        module, title = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
        self.who = f"{module}.{title}" if title else type(function).__qualname__
        self.pending = 0
        self.dropped = 0


class Hooks:
    """The subscribers, and the tasks of the async ones. Only `start` and `close` need an event loop."""

    def __init__(self) -> None:
        self._subscriptions: tuple[_Subscription, ...] = ()
        self._routes: dict[str, tuple[_Subscription, ...]] = {}
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[object]] = set()
        self._loaded = False

    def on(self, name: str) -> Callable[[_F], _F]:
        """Decorator: `subscribe` for good.

        Raises:
            ConfigurationError: there is no event of that name.
        """

        def register(function: _F) -> _F:
            self.subscribe(name, function)
            return function

        return register

    def subscribe(self, name: str, function: Subscriber) -> Callable[[], None]:
        """Has a sync or async function called with every event of that name.

        Args:
            name: a key of `EVENTS`, or `*` for all.
            function: takes the event; what it raises is logged and harms nobody.

        Returns:
            a function that ends the subscription; may be called twice.

        Raises:
            ConfigurationError: there is no event of that name.
        """
        if name != ALL and name not in EVENTS:
            raise ConfigurationError(
                f"There is no event “{name}”.",
                hint=f"Subscribe to one of {', '.join(EVENTS)}, or to {ALL} for all.",
                code="unknown_event",
            )
        subscription = _Subscription(name, function)
        self._change(lambda known: (*known, subscription))
        return lambda: self._change(lambda known: tuple(one for one in known if one is not subscription))

    def _change(self, change: Callable[[tuple[_Subscription, ...]], tuple[_Subscription, ...]]) -> None:
        with self._lock:
            self._subscriptions = change(self._subscriptions)
            self._routes = {
                event: tuple(one for one in self._subscriptions if one.name in (event, ALL))
                for event in EVENTS
            }

    def emit(self, event: Event) -> None:
        """Tells all subscribers, in the order in which they subscribed. Never raises; any thread may call."""
        for subscription in self._routes.get(event.name, ()):
            result = _guarded(subscription.who, subscription.function, event)
            if iscoroutine(result):
                self._hand_over(subscription, result)

    def _hand_over(self, subscription: _Subscription, work: Coroutine[Any, Any, object]) -> None:
        loop = self._loop
        try:
            if loop is not None:
                loop.call_soon_threadsafe(self._spawn, subscription, work)
                return
        except RuntimeError:  # the loop was closed without us
            self._loop = None
        work.close()
        log.warning("async hook not called, the server is not running", hook=subscription.who)

    def _spawn(self, subscription: _Subscription, work: Coroutine[Any, Any, object]) -> None:
        if self._loop is None:
            work.close()
            return
        if subscription.pending >= PENDING_LIMIT:
            work.close()
            subscription.dropped += 1
            if is_power_of_two(subscription.dropped):
                log.warning(
                    "hook too slow, events left out", hook=subscription.who, count=subscription.dropped
                )
            return

        def done(task: asyncio.Task[object]) -> None:
            self._tasks.discard(task)
            subscription.pending -= 1
            if not task.cancelled() and (error := task.exception()) is not None:
                log.error("hook failed", hook=subscription.who, exc_info=error)

        task = self._loop.create_task(work, name=subscription.who)
        self._tasks.add(task)
        subscription.pending += 1
        task.add_done_callback(done)

    async def start(self) -> None:
        """Binds the async subscribers to this event loop and, the first time, loads the entry points."""
        self._loop = asyncio.get_running_loop()
        if not self._loaded:
            self._loaded = True
            for entry in entry_points(group=GROUP):
                _guarded(entry.value, self._load, entry)

    def _load(self, entry: EntryPoint) -> None:
        found = entry.load()
        if callable(found):
            found(self)

    async def close(self) -> None:
        """Cancels what async subscribers still do. The subscriptions stay, for the next start."""
        self._loop = None
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            _, stuck = await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
            for task in stuck:
                log.warning("hook does not end", hook=task.get_name())


def _guarded(who: str, function: Callable[[Any], object], argument: object) -> object:
    try:
        return function(argument)
    # The one place where everything is caught: this is foreign code, it may raise anything, and neither the
    # user's turn nor the other subscribers may suffer from it. A cancellation that it raises by itself,
    # from some future of its own, is no cancellation of ours: nothing is awaited here.
    except (Exception, asyncio.CancelledError):
        log.exception("hook failed", hook=who)
        return None


def is_power_of_two(count: int) -> bool:
    """Thins out a log line about a count that keeps growing: true at 1, 2, 4, 8 …"""
    return count > 0 and count & (count - 1) == 0


hooks = Hooks()
"""The bus of this process."""
on = hooks.on
subscribe = hooks.subscribe
emit = hooks.emit
