"""One run on the server's side: takes what its process says and prints, answers what it asks, and ends it."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections import deque
from collections.abc import AsyncIterable
from functools import partial
from typing import Any

from agent_mode.counting import counted
from agent_mode.errors import AgentModeError
from agent_mode.observe.logs import get_logger
from agent_mode.sandbox import endings
from agent_mode.sandbox.budget import Budget
from agent_mode.sandbox.child.frames import Garbled, Inbox, Message, TooLarge
from agent_mode.sandbox.items import Ask, Item, Limits, Log, parse, size
from agent_mode.sandbox.link import Link
from agent_mode.sandbox.nursery import Nursery
from agent_mode.sandbox.printed import Printed

log = get_logger(__name__)

WINDOW = 256
"""How many items wait to be taken, before the code has to wait."""
WINDOW_BYTES = 2**20
OPEN_QUESTIONS = 64
"""How many questions are answered at once, before the code has to wait."""
REAP_SECONDS = 5.0
"""How long an ended process may take to be gone."""
_KEPT_FAILURES = 1_000
"""How many failures that the code was told of are remembered; the code ends with one of the last."""
_GRACE_SECONDS = 1.0
"""How long a process lives that has closed its connection."""
_LOCATE_SECONDS = 0.1
"""How long a process has to say where it is, before it is ended."""


class Execution:
    """One run. Its process is killed, and all that belongs to it is closed, as soon as its ending is known.

    Args:
        nursery: starts and ends the process.
        limits: what the code may take.
        ask: answers the code.
        patience: seconds until the code has to begin.

    Raises:
        SandboxError: code `sandbox`; the system has no descriptors left.
    """

    def __init__(self, nursery: Nursery, limits: Limits, ask: Ask, patience: float) -> None:
        self._nursery = nursery
        self._limits = limits
        self._ask = ask
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._inbox = Inbox()
        self._items: deque[Item] = deque()
        self._waiting_bytes = self._count = self._bytes = 0
        self._questions: dict[int, asyncio.Task[None]] = {}
        self._told: dict[int, endings.Told] = {}
        self._ending: BaseException | None = None
        self._sent = self._begun = self._halted = self._resuming = self._eof = self._ended = False
        self._status: int | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._wake: asyncio.Future[None] | None = None
        self._born: asyncio.Future[None] = self._loop.create_future()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._budget = Budget(limits.seconds, self._spent)
        ours, self._theirs, reading, self._writing = _descriptors()
        self._link = Link(ours, self._received, self._disconnected)
        self._printed = Printed(reading, self._line, partial(self._link.send, {"mute": True}))
        self._number = nursery.register(self)

    # The caller's side

    async def begin(self, code: str, turn: dict[str, Any]) -> None:
        """Starts the process and sends it the code.

        Raises:
            SandboxError: it cannot be started, or the turn is too large.
            TypeError: the turn is no JSON.
        """
        limits = {"memory_mb": self._limits.memory_mb, "seconds": self._limits.seconds}
        try:
            self._link.send({"code": code, "turn": turn, **limits})
        except TooLarge as error:
            raise endings.input_too_large() from error
        async with self._nursery.slots:
            if self._ended:
                return
            self._timer = self._loop.call_later(self._patience, self._late)
            try:
                self._nursery.start(self._number, [self._theirs.fileno(), self._writing])
            except OSError as error:
                raise endings.not_started(error.strerror or type(error).__name__) from error
            self._sent = True
            self._close_theirs()
            self._link.resume()
            await self._born

    async def next(self) -> Item | None:
        """The next item; None: the code has ended.

        Raises:
            SandboxError: the run failed; after all items that came before.
            Exception: what `ask` raised and was not meant for the code.
        """
        while not self._items:
            if self._over.done():
                if self._ending is not None:
                    raise self._ending
                return None
            self._wake = self._loop.create_future()
            await self._wake
        item = self._items.popleft()
        self._waiting_bytes -= size(item)
        if self._halted and not self._resuming and self._is_low():
            self._resuming = True
            self._loop.call_soon(self._advance)
        return item

    async def end(self) -> None:
        """Kills the process, if there is one; waits until it and the open questions are gone."""
        self._conclude(None)
        self._items.clear()
        waiting = {self._over, *self._questions.values()} - {asyncio.current_task()}
        await asyncio.wait(waiting, timeout=REAP_SECONDS)
        if not self._over.done():
            log.error("a process of an agent's code cannot be ended", run=self._number)
            self._finish()

    # The nursery's side

    def born(self) -> None:
        if not self._born.done():
            self._born.set_result(None)

    def failed(self, error: int) -> None:
        self.born()
        self._conclude(endings.not_started(os.strerror(error)))
        self._exit(0)

    def exited(self, status: int) -> None:
        self.born()
        self._exit(status)

    def lost(self, *, expected: bool) -> None:
        self.born()
        self._conclude(endings.closing() if expected else endings.lost())
        self._exit(0)

    # What comes from the process

    def _received(self, data: bytes) -> None:
        self._inbox.feed(data)
        self._advance()

    def _disconnected(self) -> None:
        self._eof = True
        self._advance()

    def _advance(self) -> None:
        """Takes in what has come, as far as there is room for it."""
        self._resuming = False
        try:
            while not self._ended and self._has_room():
                message = self._inbox.take()
                if message is None:
                    break
                self._handle(message)
        except Garbled:
            self._conclude(endings.cut_off())
        if self._ended:
            return
        self._halt(not self._has_room())
        if self._eof and not self._halted:
            self._judge()

    def _has_room(self) -> bool:
        return (
            len(self._items) < WINDOW
            and self._waiting_bytes < WINDOW_BYTES
            and len(self._questions) < OPEN_QUESTIONS
        )

    def _is_low(self) -> bool:
        # Not at each item that is taken: going on has its price.
        return len(self._items) <= WINDOW // 2 and self._waiting_bytes <= WINDOW_BYTES // 2

    def _halt(self, halted: bool) -> None:
        """While the reader of the items is slow, the code waits, and the clock with it."""
        if halted != self._halted:
            self._halted = halted
            if halted:
                self._budget.hold()
            else:
                self._budget.release()
        if halted or self._eof:
            self._link.pause()
        else:
            self._link.resume()

    def _handle(self, message: Message) -> None:
        match message.get("t"):
            case "started" if not self._begun:
                self._begun = True
                self._cancel_timer()
                self._budget.release()
            case "ask":
                self._question(message)
            case "drop":
                if (task := self._questions.get(message.get("id", 0))) is not None:
                    task.cancel()
            case "end":
                self._conclude(None)
            case "error":
                self._conclude(endings.reported(message, self._limits, self._told))
            case _:
                self._item(message)

    def _item(self, message: Message) -> None:
        item = parse(message)
        if item is None:
            raise Garbled("an unknown message")
        length = size(item)
        self._count += 1
        self._bytes += length
        if self._count > self._limits.max_items:
            self._conclude(endings.too_many(self._limits))
        elif self._bytes > self._limits.max_output_bytes:
            self._conclude(endings.too_large(self._limits))
        else:
            self._put(item, length)

    def _line(self, text: str) -> None:
        self._put(Log(text), len(text))

    def _put(self, item: Item, length: int) -> None:
        self._items.append(item)
        self._waiting_bytes += length
        self._notify()

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    # What the code asks

    def _question(self, message: Message) -> None:
        number, kind, arguments = message.get("id"), message.get("kind"), message.get("arguments")
        if not isinstance(number, int) or not isinstance(kind, str) or not isinstance(arguments, dict):
            raise Garbled("no question")
        self._budget.hold()
        task = self._loop.create_task(self._answer(number, kind, arguments))
        self._questions[number] = task
        task.add_done_callback(partial(self._answered, number))

    async def _answer(self, number: int, kind: str, arguments: dict[str, Any]) -> None:
        try:
            value = await self._ask(kind, arguments)
            if isinstance(value, AsyncIterable):
                async for piece in value:
                    self._link.send({"id": number, "piece": piece})
                value = None
            self._link.send({"id": number, "value": value})
        except AgentModeError as error:
            self._told[number] = endings.Told(error.code, error.status)
            if len(self._told) > _KEPT_FAILURES:
                del self._told[next(iter(self._told))]
            self._link.send({"id": number, "error": _told(error)})
        except TooLarge as error:
            self._link.send(
                {"id": number, "error": {"message": f"The answer: {error}.", "code": "too_large"}}
            )

    def _answered(self, number: int, task: asyncio.Task[None]) -> None:
        self._questions.pop(number, None)
        self._budget.release()
        if self._ended:
            return
        if task.cancelled():
            self._link.send({"id": number, "error": {"message": "It was stopped.", "code": "run_cancelled"}})
        elif (error := task.exception()) is not None:
            self._conclude(error)  # it is not the code's to handle
        self._advance()

    # Endings

    def _late(self) -> None:
        self._conclude(endings.not_started(f"it has not begun within {counted(self._patience, 'second')}"))
        if not self._born.done():
            self._nursery.abandon()

    def _spent(self) -> None:
        self._printed.silence()
        self._nursery.locate(self._number)
        self._cancel_timer()
        self._timer = self._loop.call_later(_LOCATE_SECONDS, self._timed_out)

    def _timed_out(self) -> None:
        self._conclude(endings.out_of_time(self._limits, self._printed.tail))

    def _judge(self) -> None:
        """The process says nothing more, and has not said that it ends."""
        if self._status is None:  # and yet it lives, or its end is not yet known
            self._cancel_timer()
            self._timer = self._loop.call_later(_GRACE_SECONDS, self._conclude, endings.cut_off())
        elif self._begun:
            self._printed.close()
            self._conclude(endings.died(self._status, self._printed.tail, self._limits))
        else:
            self._conclude(endings.not_started("it ended at once"))

    def _conclude(self, ending: BaseException | None) -> None:
        """Decides how the run ends, once, and ends its process.

        Args:
            ending: what went wrong; None: nothing.
        """
        if self._ended:
            return
        self._ended = True
        self._ending = ending
        self._cancel_timer()
        self._budget.hold()
        for task in self._questions.values():
            task.cancel()
        self._link.close()
        self._close_theirs()
        if self._sent and self._status is None:
            self._nursery.kill(self._number)
        else:
            self._finish()

    def _exit(self, status: int) -> None:
        self._status = status
        if self._ended:
            self._finish()
        else:
            self._link.finish()
            if self._eof:
                self._advance()

    def _finish(self) -> None:
        """Nothing of the process is left, and nothing of ours."""
        if not self._over.done():
            self._printed.close()
            self._nursery.forget(self._number)
            self._over.set_result(None)
            self.born()
            self._notify()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _close_theirs(self) -> None:
        if self._theirs.fileno() >= 0:
            self._theirs.close()
            os.close(self._writing)


def _descriptors() -> tuple[socket.socket, socket.socket, int, int]:
    try:
        reading, writing = os.pipe()
    except OSError as error:
        raise endings.not_started(os.strerror(error.errno or errno.EMFILE)) from error
    try:
        return *socket.socketpair(), reading, writing
    except OSError as error:
        os.close(reading)
        os.close(writing)
        raise endings.not_started(os.strerror(error.errno or errno.EMFILE)) from error


def _told(error: AgentModeError) -> dict[str, Any]:
    return {"message": error.message, "code": error.code, "hint": error.hint, "retryable": error.retryable}
