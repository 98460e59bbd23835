"""The synchronous `pipe()` of the Pipelines server over the asynchronous run, for where the layer is off.

The stock server calls `pipe()` in a thread and pulls its generator in threads. When the client is gone it
stops pulling, without closing the generator; so each pull renews the run's lease, and a run that nobody
pulls ends (`agents/runs.py`).
"""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from typing import Any

from agent_mode.agents.engine import Event, Failure
from agent_mode.agents.runs import Run
from agent_mode.chat.events import StreamEncoder, error_body
from agent_mode.chat.runtime import Runtime
from agent_mode.chat.turn import Turn
from agent_mode.errors import AgentModeError
from agent_mode.llm.assembly import Assembly
from agent_mode.llm.sse import Facts
from agent_mode.server.streaming import collect, cut_off

PULL_SECONDS = 1.0
"""The consumer gets something at least so often; an empty delta if there is nothing else."""
_QUEUE_LIMIT = 256
"""Blocks that may wait for a slow consumer before the run waits for it."""

Start = Callable[[Turn, Facts], AsyncGenerator[Event, None]]


def pipe(runtime: Runtime, turn: Turn, start: Start) -> dict[str, Any] | Iterator[str]:
    """What `Pipeline.pipe()` returns: a completion object, or an iterator of encoded `data:` lines."""
    if turn.stream:
        return _stream(runtime, turn, start)
    whole = Assembly()
    work = asyncio.run_coroutine_threadsafe(collect(turn.model, start(turn, Facts()), whole), runtime.loop)
    try:
        return work.result()
    except AgentModeError as error:
        return error_body(error, whole.text)


def failure(turn_model: str, error: AgentModeError, *, stream: bool) -> dict[str, Any] | Iterator[str]:
    """What `pipe()` returns when there is no run at all."""
    if not stream:
        return error_body(error)
    line = StreamEncoder(turn_model, interactive=True).encode(Failure(error))
    return (_item(block) for block in (line,))


def _stream(runtime: Runtime, turn: Turn, start: Start) -> Iterator[str]:
    blocks: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    encoder = StreamEncoder(turn.model, interactive=turn.context.interactive)

    async def pump() -> None:
        try:
            async with aclosing(start(turn, Facts())) as events:
                async for event in events:
                    blocks.put(encoder.encode(event))
                    while blocks.qsize() > _QUEUE_LIMIT:  # noqa: ASYNC110  the consumer is a thread
                        await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            blocks.put(encoder.encode(Failure(cut_off())))  # nobody reads it if it is the reader who left
            raise
        finally:
            blocks.put(None)

    async def launch() -> Run:
        return runtime.runs.add(asyncio.create_task(pump()), leased=True)

    run = asyncio.run_coroutine_threadsafe(launch(), runtime.loop).result()
    try:
        while (block := _pull(blocks, encoder.heartbeat())) is not None:
            run.renew()
            if block:
                yield _item(block)
    finally:
        if not runtime.loop.is_closed():
            runtime.loop.call_soon_threadsafe(run.task.cancel)


def _pull(blocks: queue.SimpleQueue[bytes | None], heartbeat: bytes) -> bytes | None:
    """Everything that waits, in one piece; None at the end."""
    try:
        first = blocks.get(timeout=PULL_SECONDS)
    except queue.Empty:
        return heartbeat
    if first is None:
        return None
    parts = [first]
    while not blocks.empty():
        block = blocks.get()
        if block is None:
            blocks.put(None)
            break
        parts.append(block)
    return b"".join(parts)


def _item(block: bytes) -> str:
    """One yield: the server adds the blank line after it, and passes on as it is what begins with `data:`."""
    return block.decode().removesuffix("\n\n")
