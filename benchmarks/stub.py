"""A fast OpenAI-compatible LLM for benchmarks: every stream is encoded beforehand and paced exactly.

    POST /v1/chat/completions · GET /v1/models · GET /stats · POST /stats/reset

The model name holds the behaviour, in fields parted by dashes; missing ones take the defaults of the command
line. Model names must hold "gpt", or the peers will not list them.

    gpt-stub-n50-i20-f20        50 tokens, 20 ms between two, the first after 20 ms
    gpt-stub-n2000-i0-f0-b32    2000 tokens without delay, 32 events per socket write
    gpt-stub-n20-i0-f0-tool     with `tools` and no tool result yet: ONE call of the first tool
    ...-lr                      late role: the role delta comes with the first token (as vLLM and OpenAI do);
                                otherwise it comes at once, and only the content waits

Deadlines are absolute: a stream lasts first + (n - 1) * inter ms, without drift. Each token is " tok<0-9>".
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import re
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, NamedTuple

import uvicorn

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

MODELS = (
    "gpt-stub-n50-i20-f20",
    "gpt-stub-n50-i20-f500",
    "gpt-stub-n50-i20-f500-lr",
    "gpt-stub-n2000-i0-f0-b1",
    "gpt-stub-n2000-i0-f0-b32",
    "gpt-stub-n50-i0-f0",
    "gpt-stub-n50-i0-f0-tool",
    "gpt-stub-n20-i0-f0",
    "gpt-stub-n1-i0-f0",
    "gpt-stub-n1-i0-f5000-lr",
)
FIELD = re.compile(r"-([nifb])(\d+)(?=-|$)")
EVENT = (
    'data: {"id":"chatcmpl-stub","object":"chat.completion.chunk","created":1700000000,"model":%s,'
    '"choices":[{"index":0,"delta":%s,"logprobs":null,"finish_reason":%s}]}\n\n'
)
DONE = b"data: [DONE]\n\n"
STREAM_HEADERS = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]
TOOL_ARGUMENTS = '{"a": 2, "b": 3}'


class Plan(NamedTuple):
    """What a model name asks for; delays in seconds."""

    tokens: int
    inter: float
    first: float
    batch: int
    tool: bool
    late_role: bool


class Frames(NamedTuple):
    """The socket writes of one stream, encoded."""

    role: bytes
    tokens: list[bytes]
    end: bytes


@functools.lru_cache(maxsize=512)
def event(model: str, delta: str, finish_reason: str = "null") -> bytes:
    return (EVENT % (json.dumps(model), delta, finish_reason)).encode()


@functools.lru_cache(maxsize=512)
def frames(model: str, tokens: int, batch: int) -> Frames:
    ten = [event(model, f'{{"content":" tok{digit}"}}') for digit in range(10)]
    sequence = [ten[number % 10] for number in range(tokens)]
    writes = [b"".join(sequence[start : start + batch]) for start in range(0, tokens, batch)]
    role = event(model, '{"role":"assistant","content":""}')
    return Frames(role, writes, event(model, "{}", '"stop"') + DONE)


def tool_call(name: str, arguments: str) -> dict[str, Any]:
    return {
        "index": 0,
        "id": "call_stub1",
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


class Stub:
    """The ASGI app. Chat is routed by hand, so that no router costs anything.

    Args:
        defaults: the fields n, i, f, b (milliseconds, as in model names) for names that lack them.
    """

    def __init__(self, models: tuple[str, ...] = MODELS, defaults: Mapping[str, int] | None = None) -> None:
        self._models = models
        self._defaults = {"n": 50, "i": 20, "f": 20, "b": 1, **(defaults or {})}
        self.stats = {"requests": 0, "active": 0, "peak": 0, "aborted": 0}
        self._plan = functools.lru_cache(maxsize=512)(self._parse)

    def _parse(self, model: str) -> Plan:
        fields = self._defaults | {name: int(value) for name, value in FIELD.findall(model)}
        parts = model.split("-")
        return Plan(
            tokens=fields["n"],
            inter=fields["i"] / 1000,
            first=fields["f"] / 1000,
            batch=fields["b"],
            tool="tool" in parts,
            late_role="lr" in parts,
        )

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path == "/v1/chat/completions":
            await self._chat(receive, send)
        elif path == "/v1/models":
            data = [
                {"id": m, "object": "model", "created": 1700000000, "owned_by": "stub"} for m in self._models
            ]
            await answer(send, {"object": "list", "data": data})
        elif path == "/stats/reset":
            self.stats |= {"requests": 0, "peak": self.stats["active"], "aborted": 0}
            await answer(send, self.stats)
        elif path == "/stats":
            await answer(send, self.stats)
        else:
            await answer(send, {"error": {"message": f"no such path: {path}"}}, status=404)

    async def _chat(self, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        request = json.loads(await read(receive))
        model = request.get("model", "gpt-stub")
        plan = self._plan(model)
        messages = request.get("messages") or [{}]
        tool = ""
        if plan.tool and request.get("tools") and messages[-1].get("role") != "tool":
            tool = request["tools"][0]["function"]["name"]
        stats = self.stats
        stats["requests"] += 1
        stats["active"] += 1
        stats["peak"] = max(stats["peak"], stats["active"])
        try:
            if not request.get("stream"):
                await asyncio.sleep(plan.first + plan.inter * max(0, plan.tokens - 1))
                await answer(send, completion(model, plan, tool))
                return
            await send({"type": "http.response.start", "status": 200, "headers": STREAM_HEADERS})
            if tool:
                await asyncio.sleep(plan.first)
                await send({"type": "http.response.body", "body": tool_frames(model, tool)})
                return
            await stream(send, model, plan, started)
        except asyncio.CancelledError:
            stats["aborted"] += 1
            raise
        finally:
            stats["active"] -= 1


async def stream(send: Send, model: str, plan: Plan, started: float) -> None:
    ready = frames(model, plan.tokens, plan.batch)
    if plan.late_role and plan.first:
        await asyncio.sleep(started + plan.first - time.perf_counter())
    await send({"type": "http.response.body", "body": ready.role, "more_body": True})
    step = plan.inter * plan.batch
    paced = bool(plan.first or step)
    for number, frame in enumerate(ready.tokens):
        if paced:
            delay = started + plan.first + number * step - time.perf_counter()
            if delay > 0:
                await asyncio.sleep(delay)
        elif not number & 15:
            await asyncio.sleep(0)  # let other streams run
        await send({"type": "http.response.body", "body": frame, "more_body": True})
    await send({"type": "http.response.body", "body": ready.end})


def tool_frames(model: str, name: str) -> bytes:
    opening = {"role": "assistant", "content": None, "tool_calls": [tool_call(name, "")]}
    arguments = {"tool_calls": [{"index": 0, "function": {"arguments": TOOL_ARGUMENTS}}]}
    deltas = event(model, json.dumps(opening)) + event(model, json.dumps(arguments))
    return deltas + event(model, "{}", '"tool_calls"') + DONE


def completion(model: str, plan: Plan, tool: str) -> dict[str, Any]:
    text = "".join(f" tok{number % 10}" for number in range(plan.tokens))
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if tool:
        message = {"role": "assistant", "content": None, "tool_calls": [tool_call(tool, TOOL_ARGUMENTS)]}
    return {
        "id": "chatcmpl-stub",
        "object": "chat.completion",
        "created": 1700000000,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls" if tool else "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": plan.tokens, "total_tokens": plan.tokens + 1},
    }


async def read(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


async def answer(send: Send, value: Mapping[str, Any], status: int = 200) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(value).encode()})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9401)
    parser.add_argument("-n", type=int, default=50, help="tokens")
    parser.add_argument("-i", type=int, default=20, help="ms between two tokens")
    parser.add_argument("-f", type=int, default=20, help="ms before the first token")
    parser.add_argument("-b", type=int, default=1, help="events per socket write")
    parser.add_argument("--models", default=",".join(MODELS), help="ids for /v1/models, parted by commas")
    args = parser.parse_args()
    app = Stub(tuple(args.models.split(",")), {"n": args.n, "i": args.i, "f": args.f, "b": args.b})
    uvicorn.run(
        app,
        host=args.host,
        port=args.port,
        lifespan="off",
        interface="asgi3",
        log_level="warning",
        access_log=False,
        backlog=4096,
    )


if __name__ == "__main__":
    main()
