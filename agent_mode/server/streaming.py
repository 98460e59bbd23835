"""The native chat route: one async task a chat, no thread, the provider's chunks passed on as they come."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from contextlib import aclosing, suppress
from typing import Any

from agent_mode.agents.engine import Chunks, Completion, Event, Failure, Image, Text, ToolCalls, Usage
from agent_mode.agents.runs import Runs
from agent_mode.chat.events import DONE, StreamEncoder, completion, error_body, picture
from agent_mode.chat.turn import Turn
from agent_mode.errors import AgentModeError, RunCancelled
from agent_mode.llm.assembly import Assembly, chunks_of
from agent_mode.llm.sse import Facts

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

HEARTBEAT_SECONDS = 15.0
"""After so long a silence an empty delta is sent, so that no proxy cuts a model that thinks."""

_LAST_WORDS_SECONDS = 1.0
"""How long a reload waits for a client to take the news that its answer ends here."""

_STREAM_HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)


async def answer(
    turn: Turn,
    events: AsyncGenerator[Event, None],
    facts: Facts,
    runs: Runs,
    receive: Receive,
    send: Send,
) -> None:
    """Sends the events of one turn as the response.

    A client that goes away cancels the run at once; one whose run the server cancels is told so.
    """
    task = asyncio.current_task()
    assert task is not None
    run = runs.add(task, leased=False)
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        task.cancel()

    watcher = asyncio.create_task(watch())
    response = _Response(turn, facts, send)
    try:
        async with aclosing(events):
            await (response.stream(events) if turn.stream else response.whole(events))
    except asyncio.CancelledError:
        task.uncancel()
        if not gone:
            await response.break_off(stopped() if run.stopped else cut_off())
    finally:
        watcher.cancel()


class _Response:
    """The answer to one turn on its way to the client."""

    def __init__(self, turn: Turn, facts: Facts, send: Send) -> None:
        self._turn = turn
        self._facts = facts
        self._send = send
        self._encoder = StreamEncoder(turn.model, interactive=turn.context.interactive)
        self._pulse = _Pulse(send, self._encoder.heartbeat())
        self._whole = Assembly()
        self._ending = False
        """Whether the last words are on their way; nothing may follow them."""

    async def stream(self, events: AsyncGenerator[Event, None]) -> None:
        encode, pulse = self._encoder.encode, self._pulse
        pulse.start()
        try:
            async for event in events:
                if isinstance(event, Failure) and not self._in_the_stream:
                    # Nothing was sent yet: a program sees the failure by the status.
                    pulse.stop()
                    self._ending = True
                    await send_error(self._send, event.error)
                    return
                await pulse.send(encode(event))
        finally:
            pulse.stop()
        await self._finish()

    async def whole(self, events: AsyncGenerator[Event, None]) -> None:
        try:
            data = await collect(self._turn.model, events, self._whole)
            self._ending = True
            await send_json(self._send, 200, data)
        except AgentModeError as error:
            self._ending = True
            await send_error(self._send, error, output=self._whole.text)

    async def break_off(self, error: AgentModeError) -> None:
        """Says what happened, if the client takes it without delay."""
        if self._ending:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_SECONDS):
                if self._in_the_stream:
                    await self._finish(self._encoder.encode(Failure(error)))
                else:
                    await send_error(self._send, error, output=self._whole.text)

    @property
    def _in_the_stream(self) -> bool:
        """Whether a failure is to be a line of the stream; else it is the status of the response.

        Open WebUI shows both, but up to 0.10 a message that a status has ended is never done: in 0.6 and 0.8
        the Stop button stays.
        """
        return self._pulse.begun or (self._turn.stream and self._turn.context.interactive)

    async def _finish(self, last: bytes = b"") -> None:
        self._ending = True
        await self._pulse.send(last + self._encoder.finish(self._facts) + DONE)
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})


def cut_off() -> RunCancelled:
    """What a client is told when the server gives up its run."""
    return RunCancelled(
        "The server was reloaded or stopped in the middle of the answer.",
        hint="Try again in a moment.",
        status=503,
        retryable=True,
    )


def stopped() -> RunCancelled:
    """What a client is told when somebody else stopped its run."""
    return RunCancelled("The run was stopped.", hint="Ask again to start anew.")


class _Pulse:
    """Sends blocks, and a heartbeat when nothing was sent for a while. One timer a stream, none a chunk.

    The response begins with the first block or heartbeat; until then it can still become an error.
    """

    def __init__(self, send: Send, heartbeat: bytes) -> None:
        self.begun = False
        self._send = send
        self._heartbeat = heartbeat
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time()
        self._beating: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._writing = False

    def start(self) -> None:
        self._timer = self._loop.call_later(HEARTBEAT_SECONDS, self._tick)

    async def send(self, block: bytes) -> None:
        if self._beating is not None and not self._beating.done():
            await self._beating  # it may be what begins the response
        if block:
            await self._write(block)

    async def _write(self, block: bytes) -> None:
        self._last = self._loop.time()
        self._writing = True
        try:
            if not self.begun:
                headers = list(_STREAM_HEADERS)
                await self._send({"type": "http.response.start", "status": 200, "headers": headers})
                self.begun = True
            await self._send({"type": "http.response.body", "body": block, "more_body": True})
        finally:
            self._writing = False

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._beating is not None:
            self._beating.cancel()

    def _tick(self) -> None:
        if not self._writing and self._loop.time() - self._last >= HEARTBEAT_SECONDS:
            self._beating = self._loop.create_task(self._write(self._heartbeat))
        self._timer = self._loop.call_later(HEARTBEAT_SECONDS, self._tick)


async def collect(model: str, events: AsyncGenerator[Event, None], whole: Assembly) -> dict[str, Any]:
    """One well-formed chat completion out of a run's events; status lines have no place in it.

    Args:
        model: that answers.
        events: of the run.
        whole: takes the answer in; where the run fails, it holds what was said until then.

    Raises:
        AgentModeError: the run failed.
    """
    usage: dict[str, Any] | None = None
    completed: dict[str, Any] | None = None
    async for event in events:
        match event:
            case Completion(data):
                completed = data  # not returned here: the run is to end by itself, and to be recorded so
            case Text(content):
                whole.text += content
            case Chunks(data):
                for chunk in chunks_of(data):
                    whole.add(chunk)
            case Image():
                whole.text += picture(event)
            case ToolCalls(calls):
                return completion(model, whole.text, calls)
            case Usage(totals):
                usage = totals
            case Failure(error):
                raise error
            case _:
                pass
    return completed or completion(model, whole.text, usage=usage)


async def send_json(
    send: Send, status: int, data: Any, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> None:
    """Sends a JSON response."""
    body = json.dumps(data).encode()
    length = (b"content-length", str(len(body)).encode())
    all_headers = [(b"content-type", b"application/json"), length, *headers]
    await send({"type": "http.response.start", "status": status, "headers": all_headers})
    await send({"type": "http.response.body", "body": body})


async def send_error(
    send: Send, error: AgentModeError, headers: tuple[tuple[bytes, bytes], ...] = (), *, output: str = ""
) -> None:
    """Sends an error in the shape of OpenAI's API, with the `detail` that the stock server's callers read.

    Arguments `error` and `output`: as of `error_body`.
    """
    await send_json(send, error.status, {**error_body(error, output), "detail": str(error)}, headers)
