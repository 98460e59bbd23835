"""The LLM provider of the tests: a real HTTP server that speaks OpenAI's protocol and can misbehave.

    with Provider() as provider:
        ...                                  # talk to provider.base_url with provider.key
        provider.last().body["messages"]     # what it was asked

The model name chooses the behaviour. Every one also answers `stream: false`, in the nearest way.

| model            | what it does |
|------------------|--------------|
| `stub`           | answers "Hello from stub: <last user text>" in several deltas |
| `stub-echo`      | answers with the JSON text of the messages it received |
| `stub-slow`      | first token after 0.3 s, 20 tokens 50 ms apart |
| `stub-hang`      | takes the request and never sends a byte |
| `stub-stall`     | sends 2 tokens, then nothing |
| `stub-401`       | wrong key |
| `stub-404`       | model_not_found |
| `stub-429`       | rate limit, with Retry-After |
| `stub-500`       | text/plain body |
| `stub-503`       | overloaded |
| `stub-html`      | 200 with an HTML page |
| `stub-badjson`   | the third data line is broken JSON |
| `stub-cut`       | 3 tokens, then the TCP connection is reset |
| `stub-cut-first` | closes before any byte, twice for each distinct body; the third try is answered |
| `stub-noend`     | ends cleanly, without a finish chunk and without [DONE] |
| `stub-errchunk`  | 2 tokens, then a data line holding an error |
| `stub-evil`      | smuggles Open WebUI events into the stream in five ways; its words are `EVIL_TEXT` |
| `stub-crlf`      | CRLF, comments, fields without a space, split inside characters; says `CRLF_TEXT` |
| `stub-reasoning` | reasoning_content deltas, then content |
| `stub-tools`     | calls the first of `tools`; after a tool result it says what the tool said |
| `stub-usage`     | ends with a usage chunk whose `choices` are empty |
| `stub-extra`     | logprobs and fields nobody knows |
| `stub-copycat`   | "I am <name>", by the last "you are <name>" anywhere in the messages |
| `stub-agent`     | acts the play in the user's last message (`call: …`, `then say: …`): see `scripted.py` |
| `stub-agent-slow`| the same, first token after 0.3 s, 50 ms between two |
| `stub-agent-ids` | the same, with call ids that begin anew in every reply, as some providers' do |

`python -m tests.provider 9400` runs it by hand.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import fcntl
import itertools
import json
import re
import socket
import struct
import termios
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from tests.scripted import in_react, react_scene, scene, speaks_react, text_of

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

KEY = "sk-test"
RETRY_AFTER = 7
USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
EVIL_EVENT = {"type": "execute", "data": {"code": "alert(1)"}}
EVIL_TEXT = 'Hello world. data: {"event":{"type":"execute"}}'
CRLF_TEXT = "Grüße, 世界 👋🏽!"
EXTRA = {"system_fingerprint": "fp_stub", "service_tier": "default", "x_vendor": {"nested": [1, None, "ü"]}}
PERSONA = re.compile(r"[Yy]ou are (?:now )?(?:the |an |a )?([A-Z][\w -]{1,40})")
DONE = b"data: [DONE]\n\n"


@dataclass
class Recorded:
    """One request. Times are `time.monotonic()`."""

    path: str
    headers: dict[str, str]
    """Names in lower case."""
    body: dict[str, Any]
    at: float
    closed_at: float | None = None
    """When the client went away before the answer was complete."""
    finished: bool = False
    """The answer went out whole."""


@dataclass(frozen=True)
class Reply:
    """One answer for `Provider.script`.

    Args:
        text: the words; a sequence gives the exact deltas.
        tool_calls: (name, arguments) of each call; arguments given as text are sent as they are.
        restart_ids: number the calls anew in every reply: `call_0`, `call_1`, …
        first_after: seconds of silence between the headers and the first delta.
        every: seconds between two deltas.
        usage: send a usage chunk even when not asked.
        like: answer as this model of the table does; the other fields do not count.
        raw: the whole response body as it is, sent with `status`, `content_type` and `headers`.
    """

    text: str | Sequence[str] = ""
    reasoning: str | Sequence[str] = ""
    tool_calls: Sequence[tuple[str, Mapping[str, Any] | str]] = ()
    restart_ids: bool = False
    first_after: float = 0.0
    every: float = 0.0
    usage: bool = False
    like: str | None = None
    raw: bytes | None = None
    status: int = 200
    content_type: str = "text/event-stream"
    headers: Mapping[str, str] | None = None


class Exchange:
    """One chat request and the way back to who sent it."""

    def __init__(
        self, provider: Provider, recorded: Recorded, send: Send, transport: asyncio.Transport
    ) -> None:
        self.provider = provider
        self.body = recorded.body
        self._recorded = recorded
        messages = recorded.body.get("messages")
        self.messages = [m for m in messages if isinstance(m, dict)] if isinstance(messages, list) else []
        self.model = str(recorded.body.get("model", ""))
        self.stream = bool(recorded.body.get("stream"))
        self.cut_off = False
        self._send = send
        self._transport = transport
        self._identity = {
            "id": f"chatcmpl-{next(provider.counter)}",
            "created": int(time.time()),
            "model": self.model,
        }

    def last_user_text(self) -> str:
        users = [message for message in self.messages if message.get("role") == "user"]
        return text_of(users[-1].get("content")) if users else ""

    async def start(
        self,
        status: int = 200,
        content_type: str = "text/event-stream",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        pairs = {"content-type": content_type, **(headers or {})}
        encoded = [(name.lower().encode(), value.encode()) for name, value in pairs.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": encoded})

    async def write(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def finish(self, data: bytes = b"") -> None:
        """The last write. It counts before it is sent: whoever has read it must find it in the books."""
        if not self._transport.is_closing():
            self._recorded.finished = True
            self.provider.open.discard(self)
        await self._send({"type": "http.response.body", "body": data})

    async def whole(
        self,
        body: bytes | Mapping[str, Any],
        status: int = 200,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        await self.start(status, content_type, {"content-length": str(len(data)), **(headers or {})})
        await self.finish(data)

    def chunk(
        self,
        delta: Mapping[str, Any],
        finish_reason: str | None = None,
        logprobs: object = None,
        **fields: object,
    ) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
        return data_line({**self._identity, "object": "chat.completion.chunk", "choices": [choice], **fields})

    def completion(
        self, reply: Reply, finish_reason: str | None = "stop", **fields: object
    ) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": "".join(reply.text)}
        if reply.reasoning:
            message["reasoning_content"] = "".join(reply.reasoning)
        if reply.tool_calls:
            message |= {"content": "".join(reply.text) or None, "tool_calls": list(self._calls(reply))}
            finish_reason = "tool_calls"
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}
        return {**self._identity, "object": "chat.completion", "choices": [choice], "usage": USAGE, **fields}

    def _calls(self, reply: Reply) -> Iterator[dict[str, Any]]:
        for number, (name, arguments) in enumerate(reply.tool_calls):
            text = arguments if isinstance(arguments, str) else json.dumps(arguments)
            call_id = f"call_{number if reply.restart_ids else next(self.provider.counter)}"
            yield {"id": call_id, "type": "function", "function": {"name": name, "arguments": text}}

    def deltas(self, reply: Reply) -> Iterator[dict[str, Any]]:
        for piece in pieces(reply.reasoning):
            yield {"reasoning_content": piece}
        for piece in pieces(reply.text):
            yield {"content": piece}
        for index, call in enumerate(self._calls(reply)):
            name, arguments = call["function"]["name"], call["function"]["arguments"]
            yield {"tool_calls": [{**call, "index": index, "function": {"name": name, "arguments": ""}}]}
            for piece in pieces(arguments):
                yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}

    async def say(self, reply: Reply) -> None:
        """Answer well."""
        if not self.stream:
            await asyncio.sleep(reply.first_after)
            return await self.whole(self.completion(reply))
        await self.start()
        await asyncio.sleep(reply.first_after)
        await self.write(self.chunk({"role": "assistant", "content": None if reply.tool_calls else ""}))
        for number, delta in enumerate(self.deltas(reply)):
            if number and reply.every:
                await asyncio.sleep(reply.every)
            await self.write(self.chunk(delta))
        last = self.chunk({}, "tool_calls" if reply.tool_calls else "stop")
        asked = self.body.get("stream_options")
        if reply.usage or (isinstance(asked, dict) and asked.get("include_usage")):
            last += data_line(
                {**self._identity, "object": "chat.completion.chunk", "choices": [], "usage": USAGE}
            )
        # One write: a client that leaves at [DONE] has had everything.
        await self.finish(last + DONE)

    async def begin(self, *tokens: str) -> None:
        """Start an answer that will not end well."""
        if not self.stream:
            await self.start(content_type="application/json")
            return await self.write(json.dumps(self.completion(Reply(tokens))).encode()[:60])
        await self.start()
        await self.write(self.chunk({"role": "assistant", "content": ""}))
        for token in tokens:
            await self.write(self.chunk({"content": token}))

    async def cut(self, *, reset: bool) -> None:
        """End the connection here: by TCP reset, or by an ordinary close in the wrong place."""
        self.cut_off = True
        if reset:
            await self._delivered()
            linger = struct.pack("ii", 1, 0)
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._transport.abort()
        await forever()

    async def _delivered(self) -> None:
        """Waits until the other side's kernel has all that was written: a reset throws the rest away."""
        descriptor = self._transport.get_extra_info("socket").fileno()
        for _ in range(500):
            unacknowledged = fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4))
            if not self._transport.get_write_buffer_size() and not any(unacknowledged):
                return
            await asyncio.sleep(0.002)


def data_line(value: object) -> bytes:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n".encode(errors="replace")


def pieces(text: str | Sequence[str]) -> Sequence[str]:
    """A string in about five deltas; a sequence as it is."""
    if not isinstance(text, str):
        return text
    size = max(1, -(-len(text) // 5))
    return [text[start : start + size] for start in range(0, len(text), size)]


def error(message: str, kind: str, code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


async def forever() -> None:
    await asyncio.Event().wait()


Behaviour = Callable[[Exchange], Awaitable[None]]
BEHAVIOURS: dict[str, Behaviour] = {}


def behaviour(model: str) -> Callable[[Behaviour], Behaviour]:
    def register(function: Behaviour) -> Behaviour:
        BEHAVIOURS[model] = function
        return function

    return register


@behaviour("stub")
async def _stub(x: Exchange) -> None:
    await x.say(Reply(f"Hello from stub: {x.last_user_text()}"))


@behaviour("stub-echo")
async def _echo(x: Exchange) -> None:
    await x.say(Reply(json.dumps(x.messages, ensure_ascii=False)))


@behaviour("stub-slow")
async def _slow(x: Exchange) -> None:
    await x.say(Reply([f"tok{number} " for number in range(20)], first_after=0.3, every=0.05))


@behaviour("stub-hang")
async def _hang(_: Exchange) -> None:
    await forever()


@behaviour("stub-stall")
async def _stall(x: Exchange) -> None:
    await x.begin("Still ", "here")
    await forever()


def _fail(model: str, status: int, body: bytes | Mapping[str, Any], **headers: str) -> None:
    content_type = "text/plain; charset=utf-8" if isinstance(body, bytes) else "application/json"
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    async def answer(x: Exchange) -> None:
        await x.whole(body, status, content_type, named)

    BEHAVIOURS[model] = answer


_WRONG_KEY = error("Incorrect API key provided: sk-****.", "invalid_request_error", "invalid_api_key")
_fail("stub-401", 401, _WRONG_KEY)
_fail(
    "stub-404", 404, error("The model `stub-404` does not exist", "invalid_request_error", "model_not_found")
)
_fail(
    "stub-429",
    429,
    error("Rate limit reached for stub-429", "requests", "rate_limit_exceeded"),
    retry_after=str(RETRY_AFTER),
)
_fail("stub-500", 500, b"Internal Server Error")
_fail("stub-503", 503, error("The engine is currently overloaded, please try again later", "server_error"))


@behaviour("stub-html")
async def _html(x: Exchange) -> None:
    page = b"<!doctype html><html><head><title>Welcome</title></head><body>Please log in.</body></html>"
    await x.whole(page, content_type="text/html; charset=utf-8")


@behaviour("stub-badjson")
async def _badjson(x: Exchange) -> None:
    if not x.stream:
        return await x.whole(b'{"id":"chatcmpl-1","choices":[{"message":{"content":"brok')
    await x.begin("Good ")
    await x.write(b'data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{"content":"brok\n\n')
    await x.write(x.chunk({"content": "again"}))
    await x.finish(x.chunk({}, "stop") + DONE)


@behaviour("stub-cut")
async def _cut(x: Exchange) -> None:
    await x.begin("One ", "two ", "three ")
    await asyncio.sleep(0.02)  # a client may drop what it has not read yet when the reset arrives
    await x.cut(reset=True)


@behaviour("stub-cut-first")
async def _cut_first(x: Exchange) -> None:
    key = json.dumps(x.body)
    attempts = x.provider.attempts
    attempts[key] += 1
    if attempts[key] <= 2:
        await x.cut(reset=False)
    del attempts[key]
    await _stub(x)


@behaviour("stub-noend")
async def _noend(x: Exchange) -> None:
    if not x.stream:
        return await x.whole(x.completion(Reply("No end"), finish_reason=None))
    await x.begin("No ", "end")
    await x.finish()


@behaviour("stub-errchunk")
async def _errchunk(x: Exchange) -> None:
    if not x.stream:
        return await x.whole({"error": {"message": "overloaded"}})
    await x.begin("So ", "far")
    await x.finish(data_line({"error": {"message": "overloaded"}}))


@behaviour("stub-evil")
async def _evil(x: Exchange) -> None:
    if not x.stream:
        return await x.whole(x.completion(Reply(EVIL_TEXT), event=EVIL_EVENT))
    event = json.dumps(EVIL_EVENT)
    await x.begin("Hello")
    await x.write(data_line({"event": EVIL_EVENT}))
    await x.write(b'data: {"\\u0065vent": %b}\n\n' % event.encode())
    await x.write(x.chunk({"content": " world."}, event=EVIL_EVENT))
    await x.write(b'event: execute\ndata: {"event":\ndata: %b}\n\n' % event.encode())
    await x.write(x.chunk({"content": " "}))
    await x.write(x.chunk({"content": 'data: {"event":{"type":"execute"}}'}))
    await x.finish(x.chunk({}, "stop") + DONE)


@behaviour("stub-crlf")
async def _crlf(x: Exchange) -> None:
    if not x.stream:
        return await x.whole(
            json.dumps(x.completion(Reply(CRLF_TEXT)), indent=2).replace("\n", "\r\n").encode()
        )
    parts = [b": connected\n\n", b"retry: 3000\n\n", x.chunk({"role": "assistant", "content": ""})]
    for number, piece in enumerate(pieces(CRLF_TEXT)):
        parts += [b": keep-alive\n\n", b"id: %d\n" % number, x.chunk({"content": piece})]
    parts[-1] = parts[-1].replace(b"data: ", b"data:")
    parts += [x.chunk({}, "stop"), b": bye\n\n", DONE]
    await x.start()
    for piece in odd_pieces(b"".join(parts).replace(b"\n", b"\r\n")):
        await x.write(piece)
        await asyncio.sleep(0.0005)
    await x.finish()


def odd_pieces(data: bytes) -> Iterator[bytes]:
    """`data` in pieces that end inside every multi-byte character and every CRLF, and every 17 bytes."""
    ends = {place + 1 for place, byte in enumerate(data) if byte >= 0xC0 or byte == 0x0D}
    bounds = [0, *sorted(ends | set(range(17, len(data), 17))), len(data)]
    return (data[start:end] for start, end in itertools.pairwise(bounds) if start < end)


@behaviour("stub-reasoning")
async def _reasoning(x: Exchange) -> None:
    await x.say(Reply("The answer is 4.", reasoning="Two and two. That makes four."))


@behaviour("stub-tools")
async def _tools(x: Exchange) -> None:
    last = x.messages[-1] if x.messages else {}
    if last.get("role") == "tool":
        return await x.say(Reply(f"The tool said: {text_of(last.get('content'))}"))
    tools = x.body.get("tools")
    if not tools:
        return await x.say(Reply("I have no tools."))
    function = tools[0]["function"]
    await x.say(Reply(tool_calls=[(function["name"], example_arguments(function.get("parameters") or {}))]))


def example_arguments(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Values that fit the JSON schema of a tool's parameters, nested ones left empty."""
    examples = {"string": "stub", "integer": 1, "number": 1.5, "boolean": True, "array": [], "object": {}}
    properties = schema.get("properties") or {}
    return {
        name: spec["enum"][0] if spec.get("enum") else examples.get(spec.get("type", "string"))
        for name, spec in properties.items()
        if name in schema.get("required", properties)
    }


@behaviour("stub-usage")
async def _usage(x: Exchange) -> None:
    await x.say(Reply("Counted.", usage=True))


@behaviour("stub-extra")
async def _extra(x: Exchange) -> None:
    words = ["Hello ", "there"]
    odds = [
        {"token": word, "logprob": -0.5, "bytes": list(word.encode()), "top_logprobs": []} for word in words
    ]
    if not x.stream:
        completion = x.completion(Reply(words), **EXTRA)
        completion["choices"][0] |= {"logprobs": {"content": odds}, "vendor_choice": 1}
        return await x.whole(completion)
    await x.start()
    await x.write(x.chunk({"role": "assistant", "content": "", "refusal": None}, **EXTRA))
    for word, odd in zip(words, odds, strict=True):
        await x.write(
            x.chunk({"content": word, "vendor_delta": {"a": 1}}, logprobs={"content": [odd]}, **EXTRA)
        )
    await x.finish(x.chunk({}, "stop", **EXTRA) + DONE)


@behaviour("stub-copycat")
async def _copycat(x: Exchange) -> None:
    names = PERSONA.findall("\n".join(text_of(message.get("content")) for message in x.messages))
    await x.say(Reply(f"I am {names[-1].strip() if names else 'nobody'}"))


async def _act(x: Exchange, manner: Reply) -> None:
    """The reply that is due in the play, in this manner."""
    offered = bool(x.body.get("tools")) and x.body.get("tool_choice") != "none"
    react = not offered and speaks_react(x.messages)
    step = (react_scene if react else scene)(x.messages).due
    if step.like is not None:
        return await BEHAVIOURS[step.like](x)
    if react:
        return await x.say(replace(manner, text=in_react(step)))
    if step.calls and not offered:
        return await x.say(replace(manner, text="I have no tools."))
    words = step.tell if step.calls else f"{step.tell}{step.say}"
    await x.say(replace(manner, text=words, reasoning=step.reasoning, tool_calls=step.calls))


@behaviour("stub-agent")
async def _agent(x: Exchange) -> None:
    await _act(x, Reply())


@behaviour("stub-agent-slow")
async def _slow_agent(x: Exchange) -> None:
    await _act(x, Reply(first_after=0.3, every=0.05))


@behaviour("stub-agent-ids")
async def _agent_ids(x: Exchange) -> None:
    await _act(x, Reply(restart_ids=True))


MODELS = tuple(BEHAVIOURS)


class Provider:
    """The server, in a thread of its own, for the length of a `with` block.

    Args:
        aliases: further model names, each with the model of the table that it behaves like.
        keep_alive: seconds after which an idle connection is closed.
    """

    key = KEY

    def __init__(self, *, aliases: Mapping[str, str] | None = None, keep_alive: int = 5) -> None:
        self.base_url = ""
        self.requests: list[Recorded] = []
        self.attempts: collections.Counter[str] = collections.Counter()
        self.counter = itertools.count(1)
        self._aliases = dict(aliases or {})
        self._scripts: collections.defaultdict[str | None, collections.deque[Reply]] = (
            collections.defaultdict(collections.deque)
        )
        self.open: set[Exchange] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        config = uvicorn.Config(
            self.app,
            http=_Protocol,
            ws="none",
            loop="asyncio",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            proxy_headers=False,
            timeout_keep_alive=keep_alive,
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread: threading.Thread | None = None

    @property
    def active(self) -> int:
        """Chat requests that are being answered right now."""
        return len(self.open)

    @property
    def chats(self) -> list[Recorded]:
        """The chat requests among `requests`."""
        return [recorded for recorded in self.requests if recorded.path.endswith("/chat/completions")]

    def last(self) -> Recorded:
        """The latest chat request."""
        return self.chats[-1]

    def clear(self) -> None:
        """Forget all requests and all replies not yet used."""
        self.requests.clear()
        self.attempts.clear()
        self._scripts.clear()

    def script(self, *replies: Reply | str, model: str | None = None) -> None:
        """Queue answers for the next chat requests of a model, or of any; a string is what to say."""
        queue = self._scripts[model]
        queue.extend(Reply(reply) if isinstance(reply, str) else reply for reply in replies)

    def __enter__(self) -> Self:
        # Named as TCP, or asyncio does not switch Nagle's algorithm off: 40 ms for each answer.
        listener = socket.socket(proto=socket.IPPROTO_TCP)
        listener.bind(("127.0.0.1", 0))
        self.base_url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        self._thread = threading.Thread(target=asyncio.run, args=(self._run(listener),), name="provider")
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise RuntimeError("the provider did not start")
            time.sleep(0.002)
        return self

    async def _run(self, listener: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        await self._server.serve(sockets=[listener])

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Close all connections and the port; no harm when stopped already."""
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._hang_up)
            self._thread.join()
            self._loop = None

    def _hang_up(self) -> None:
        self._server.should_exit = True
        for connection in self._server.server_state.connections:
            if connection.transport is not None:
                connection.transport.abort()

    async def app(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        recorded = Recorded(scope["path"], headers, {}, at=time.monotonic())
        raw = await _read(receive)
        if raw is None:
            recorded.closed_at = time.monotonic()
            self.requests.append(recorded)
            return
        recorded.body = _json_object(raw)
        self.requests.append(recorded)
        x = Exchange(self, recorded, send, scope["transport"])
        reply = asyncio.create_task(self._answer(scope["method"], recorded, x))
        gone = asyncio.create_task(_disconnect(receive))
        try:
            await asyncio.wait({reply, gone}, return_when=asyncio.FIRST_COMPLETED)
            if reply.done():
                reply.result()
            else:
                recorded.finished = False
            if not (recorded.finished or x.cut_off):
                recorded.closed_at = time.monotonic()
        finally:
            reply.cancel()
            gone.cancel()
            await asyncio.gather(reply, gone, return_exceptions=True)

    async def _answer(self, method: str, recorded: Recorded, x: Exchange) -> None:
        if recorded.headers.get("authorization") != f"Bearer {KEY}":
            await x.whole(_WRONG_KEY, 401)
        elif (method, recorded.path) == ("GET", "/v1/models"):
            names = [*MODELS, *self._aliases]
            data = [
                {"id": name, "object": "model", "created": 1700000000, "owned_by": "stub"} for name in names
            ]
            await x.whole({"object": "list", "data": data})
        elif (method, recorded.path) == ("POST", "/v1/chat/completions"):
            self.open.add(x)
            try:
                await self._chat(x)
            finally:
                self.open.discard(x)
        else:
            await x.whole(
                error(f"Unknown request URL: {method} {recorded.path}", "invalid_request_error"), 404
            )

    async def _chat(self, x: Exchange) -> None:
        if not isinstance(x.body.get("messages"), list):
            return await x.whole(error("'messages' must be a list", "invalid_request_error"), 400)
        queue = self._scripts.get(x.model) or self._scripts.get(None)
        if queue:
            reply = queue.popleft()
            if reply.raw is not None:
                return await x.whole(reply.raw, reply.status, reply.content_type, reply.headers)
            if reply.like is None:
                return await x.say(reply)
            return await BEHAVIOURS[reply.like](x)
        answer = BEHAVIOURS.get(self._aliases.get(x.model, x.model))
        if answer is None:
            message = f"The model `{x.model}` does not exist"
            return await x.whole(error(message, "invalid_request_error", "model_not_found"), 404)
        await answer(x)


class _Protocol(H11Protocol):
    """Puts the transport into the scope, so that a behaviour can cut the connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        # Not every way to make the listener lets asyncio do it.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().connection_made(transport)
        app = self.app

        async def with_transport(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "transport": transport}, receive, send)

        self.app = with_transport


async def _read(receive: Receive) -> bytes | None:
    """The request's body; None when the client left in the middle of it."""
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _json_object(raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def serve(port: int) -> None:
    """Run it by hand, in this thread, until Ctrl+C."""
    uvicorn.run(
        Provider().app,
        port=port,
        http=_Protocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        proxy_headers=False,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("port", type=int, nargs="?", default=9400)
    serve(parser.parse_args().port)
