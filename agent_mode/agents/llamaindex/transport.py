"""The LLM calls of one LlamaIndex agent, as the HTTP transport under the OpenAI client.

This is the one place through which all of them go, whatever class of LlamaIndex asks: answers that are known
come from the run's memo, the rest is asked of the provider over the server's own client, which has the
connection pool, the retries and the readable errors.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import httpx

from agent_mode.agents.work import Work
from agent_mode.counting import counted
from agent_mode.errors import AgentError, AgentModeError, LimitError
from agent_mode.llm.assembly import Assembly, chunks_of
from agent_mode.llm.sse import Facts

BASE_URL = "http://agent-mode.invalid/v1"
"""What the OpenAI client believes to call."""
RECALLED = "recalled"
"""Key in a chunk that says that the answer is one which an earlier request of the run had."""
_PIECE = 4
"""Chunks that LlamaIndex is given at once. It takes a fifth of a millisecond for each: without a pause in a
large block all other chats would wait, and the first words would come as late as the last."""
_STREAM = {"content-type": "text/event-stream"}


class RunTransport(httpx.AsyncBaseTransport):
    """Answers `POST /chat/completions`.

    Args:
        work: whose calls they are.
        max_calls: how many the agent may make in a run; None: as many as its budget allows.

    Attributes:
        refusal: what every further call is refused with.
    """

    def __init__(self, work: Work, max_calls: int | None = None) -> None:
        self._work = work
        self._max_calls = max_calls
        self._calls = 0
        self._open: set[_Answer] = set()
        self.refusal: AgentModeError | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """As httpx wants it.

        Raises:
            ProviderError, LimitError: the OpenAI client wraps them; `running.py` takes them out again.
        """
        if not request.url.path.endswith("/chat/completions"):
            raise AgentError(
                f"The agent asked the provider for {request.url.path}, which is not served here.",
                hint="Use the chat methods of the LLM in `context.llm`.",
            )
        size = len(await request.aread())
        payload = {key: value for key, value in json.loads(request.content).items() if value is not None}
        stream = bool(payload.pop("stream", False))
        payload.pop("stream_options", None)
        self._admit()
        work = self._work
        key = work.state.memo.key(work.path, "llm", _question(payload))
        if key in work.state.memo:
            work.share.recalled()
            return recalled(work.state.memo.recall(key), stream=stream)
        work.step()
        payload = {**work.sampling(), **payload}
        if stream:
            answer = _Answer(self._ask(payload, key, size, self._calls), self._open)
            return httpx.Response(200, headers=_STREAM, stream=answer, request=request)
        async with work.asking():
            data = await work.services.llm.complete(work.connection, payload)
        self._note(key, size, {"choices": [_first(data)]}, data.get("usage"))
        return httpx.Response(200, json=data, request=request)

    async def aclose(self) -> None:
        """Closes the provider's connections that are still open."""
        for answer in list(self._open):
            await answer.aclose()

    def _admit(self) -> None:
        """Counts a call.

        Raises:
            AgentModeError: no further call may be made.
        """
        if self.refusal is not None:
            raise self.refusal
        self._calls += 1
        if self._max_calls is not None and self._calls > self._max_calls:
            raise too_many_steps(self._max_calls)

    async def _ask(
        self, payload: dict[str, Any], key: str, size: int, number: int
    ) -> AsyncGenerator[bytes, None]:
        work, whole, facts = self._work, Assembly(), Facts()
        taken = {
            call.get("id") for message in payload["messages"] for call in message.get("tool_calls") or ()
        }
        payload["stream_options"] = {"include_usage": True}
        asked = work.services.llm.stream(work.connection, payload, facts)
        async with work.asking(), aclosing(asked) as blocks:
            async for block in blocks:
                for piece in _pieces(_readable(block, whole, taken, f"call_{number}")):
                    yield piece
                    await asyncio.sleep(0)
        self._note(key, size, {"choices": [{"message": whole.message()}]}, facts.usage)

    def _note(self, key: str, size: int, answer: dict[str, Any], usage: Any) -> None:
        """Keeps an answer for later requests of the run, and what it cost."""
        whole = Assembly()
        whole.add(answer)
        self._work.spend(usage, size + len(whole.text))
        self._work.state.memo.record(key, whole.message(), inner=True)


class _Answer(httpx.AsyncByteStream):
    """The body of a streamed answer; `among` are those that are open."""

    def __init__(self, blocks: AsyncGenerator[bytes, None], among: set[_Answer]) -> None:
        self._blocks = blocks
        self._among = among
        among.add(self)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._blocks

    async def aclose(self) -> None:
        self._among.discard(self)
        if inspect.isasyncgen(self._blocks) and self._blocks.ag_running:
            return  # a step reads it that is being cancelled, and closes it
        await self._blocks.aclose()


def too_many_steps(limit: int) -> LimitError:
    return LimitError(
        f"The agent stopped at its limit of {counted(limit, 'step')}.",
        hint="Ask for less at once, or raise `max_iterations` in the agent's definition.",
        code="limit_iterations",
    )


def _question(payload: dict[str, Any]) -> list[Any]:
    """What is asked, as the memo's key: how the answer is sent makes no difference."""
    names = [tool["function"]["name"] for tool in payload.get("tools") or () if "function" in tool]
    rest = {key: value for key, value in payload.items() if key not in ("messages", "tools", "model")}
    return [payload.get("messages"), names, rest]


def _first(completion: dict[str, Any]) -> dict[str, Any]:
    choice = completion["choices"][0]
    return choice if isinstance(choice, dict) else {}


def _readable(block: bytes, whole: Assembly, taken: set[Any], id_: str) -> bytes:
    """A block of chunks as LlamaIndex reads it: of several tool calls in one chunk it sees the first alone.
    A call without an id, or with one that an earlier call has, gets a new one."""
    if b'"tool_calls"' not in block:
        for chunk in chunks_of(block):
            whole.add(chunk)
        return block
    out: list[bytes] = []
    for chunk in chunks_of(block):
        for single in _single_calls(chunk, whole, taken, id_):
            whole.add(single)
            out.append(_line(single))
    return b"".join(out)


def _pieces(block: bytes) -> Iterator[bytes]:
    lines = block.split(b"\n\n")
    for start in range(0, len(lines), _PIECE):
        piece = b"\n\n".join(lines[start : start + _PIECE])
        yield piece if start + _PIECE >= len(lines) else piece + b"\n\n"


def _single_calls(chunk: dict[str, Any], whole: Assembly, taken: set[Any], id_: str) -> list[dict[str, Any]]:
    choices = chunk.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    delta = choice.get("delta") if isinstance(choice, dict) else None
    calls = delta.get("tool_calls") if isinstance(delta, dict) else None
    if (
        not isinstance(choice, dict)
        or not isinstance(delta, dict)
        or not isinstance(calls, list)
        or not calls
    ):
        return [chunk]
    singles: list[dict[str, Any]] = []
    for position, call in enumerate(calls):
        if not isinstance(call, dict):
            continue
        index = call.get("index")
        index = index if isinstance(index, int) else position
        told = {**call, "index": index, "function": _function(call.get("function"))}
        if index not in whole.calls and (not call.get("id") or call["id"] in taken):
            told["id"] = f"{id_}_{index}"
        # Words and the reason come once: words with the first call, the reason with the last.
        words = delta if position == 0 else {"role": delta.get("role")}
        reason = choice.get("finish_reason") if position == len(calls) - 1 else None
        single = {**choice, "delta": {**words, "tool_calls": [told]}, "finish_reason": reason}
        singles.append({**chunk, "choices": [single]})
    return singles


def _function(function: Any) -> dict[str, Any]:
    function = dict(function) if isinstance(function, dict) else {}
    if isinstance(function.get("arguments"), dict):  # some providers send an object, whole
        function["arguments"] = json.dumps(function["arguments"])
    return function


def recalled(message: dict[str, Any], *, stream: bool) -> httpx.Response:
    """A known answer, in the form in which it was asked for."""
    base = {"id": "recalled", "created": 0, "model": "recalled", RECALLED: True}
    calls = message.get("tool_calls") or []
    reason = "tool_calls" if calls else "stop"
    if not stream:
        choice = {"index": 0, "message": message, "finish_reason": reason}
        return httpx.Response(200, json={**base, "object": "chat.completion", "choices": [choice]})
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": message.get("content") or ""}]
    deltas += [{"tool_calls": [{**call, "index": index}]} for index, call in enumerate(calls)]
    base["object"] = "chat.completion.chunk"
    lines = [
        _line({**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}) for delta in deltas
    ]
    lines.append(_line({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}))
    return httpx.Response(200, headers=_STREAM, content=b"".join(lines))


def _line(chunk: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % json.dumps(chunk).encode()
