"""Concurrent streaming chats against an OpenAI-compatible endpoint on this machine.

C workers run K chats each, one after the other, every chat on a NEW connection (as Open WebUI does). The
starts of the workers are spread over `ramp` seconds. Per chat:

    ttft    from opening the connection to the first delta with content
    total   to the end of the body

A chat counts as an error when its status is not 200, it holds no content, its end is missing, its text has
not the expected number of tokens, or it takes too long. The client is an asyncio.Protocol with the least HTTP
parser that does (about 5 us per read), so that the generator is not what is measured.

    python benchmarks/load.py --url http://127.0.0.1:9401/v1 --model gpt-stub-n50-i20-f20 -c 100 -k 2 --ramp 1
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import time
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import SplitResult, urlsplit

T = TypeVar("T")

CONTENT = re.compile(rb'"content": ?"((?:[^"\\]|\\.)+)"')
TOKEN = re.compile(rb"tok\d")
CONTENT_LENGTH = re.compile(rb"content-length: *(\d+)")
FINISHED = re.compile(rb'data: \[DONE\]|"finish_reason": ?"stop"')
END_OF_CHUNKS = b"\r\n0\r\n\r\n"
PROMPT = (
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "Write a haiku about pipelines."},
)


@dataclass
class LoadResult:
    """What one run measured; of chats that went wrong, only their error."""

    ttft: list[float] = field(default_factory=list)
    """Milliseconds, one per chat."""
    total: list[float] = field(default_factory=list)
    """Milliseconds, one per chat."""
    tokens: int = 0
    chars: int = 0
    """Characters of content."""
    events: int = 0
    """SSE `data:` lines; a server may send several per token, or one for many."""
    errors: list[str] = field(default_factory=list)
    cpu_seconds: float = 0.0
    """User and system time of the process `pid`, all its threads."""
    wall: float = 0.0
    """Seconds."""

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.wall


async def run_load(
    url: str,
    model: str,
    *,
    concurrency: int = 1,
    chats: int = 1,
    ramp: float = 0.0,
    authorization: str = "",
    extra: Mapping[str, Any] | None = None,
    messages: Sequence[Mapping[str, Any]] = PROMPT,
    expect: int = 0,
    pid: int = 0,
    timeout: float = 120.0,  # noqa: ASYNC109 - of each chat, not of this call
) -> LoadResult:
    """Run `concurrency` workers with `chats` chats each and measure them.

    Args:
        url: base URL ending in /v1.
        authorization: value of the Authorization header.
        extra: further fields of the request body.
        expect: tokens that each answer must have; 0: any.
        pid: the process whose CPU time is taken.
    """
    parts = urlsplit(url)
    if parts.hostname not in ("127.0.0.1", "localhost") or parts.port is None:
        raise ValueError("only a server on this machine, with its port, is put under load")
    request = encode(
        parts, {"model": model, "stream": True, "messages": list(messages), **(extra or {})}, authorization
    )
    result = LoadResult()
    answers: list[Chat] = []

    async def work(worker: int) -> None:
        await asyncio.sleep(ramp * worker / concurrency)
        for _ in range(chats):
            try:
                answers.append(await chat(parts, request, timeout))
            except (OSError, TimeoutError, ValueError) as error:
                result.errors.append(f"{type(error).__name__}: {error}"[:120])

    cpu, started = cpu_seconds(pid), time.perf_counter()
    await asyncio.gather(*(work(worker) for worker in range(concurrency)))
    result.wall = time.perf_counter() - started
    result.cpu_seconds = cpu_seconds(pid) - cpu
    for answer in answers:  # after the clock has stopped
        account(answer, expect, result)
    return result


def encode(parts: SplitResult, body: Mapping[str, Any], authorization: str) -> bytes:
    payload = json.dumps(body).encode()
    head = [
        f"POST {parts.path}/chat/completions HTTP/1.1",
        f"Host: {parts.netloc}",
        "Content-Type: application/json",
        f"Content-Length: {len(payload)}",
        "Connection: close",
    ]
    if authorization:
        head.append(f"Authorization: {authorization}")
    return "\r\n".join([*head, "", ""]).encode() + payload


async def chat(parts: SplitResult, request: bytes, seconds: float) -> Chat:
    loop = asyncio.get_running_loop()
    answer = Chat(request, loop.create_future())
    transport, _ = await loop.create_connection(lambda: answer, parts.hostname or "", parts.port or 0)
    try:
        await asyncio.wait_for(answer.done, seconds)
    finally:
        transport.close()
    return answer


class Chat(asyncio.Protocol):
    """One request; the response ends by chunk, by length or by the connection's end."""

    def __init__(self, request: bytes, done: asyncio.Future[None]) -> None:
        self.done = done
        self.head = b""
        self.parts: list[bytes] = []
        self.first: float | None = None
        self.ended = 0.0
        self._request = request
        self._length: int | None = None
        self._received = 0
        self._tail = b""
        self.started = time.perf_counter()

    @property
    def status(self) -> int:
        return int(self.head.split(b" ", 2)[1]) if self.head else 0

    @property
    def body(self) -> bytes:
        raw = b"".join(self.parts)
        return dechunk(raw) if b"\r\ntransfer-encoding: chunked" in self.head else raw

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.WriteTransport, transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self.head:
            data = self._tail + data
            head, blank, data = data.partition(b"\r\n\r\n")
            if not blank:
                self._tail = head
                return
            self.head = head.lower()
            self._tail = b"\r\n"
            length = CONTENT_LENGTH.search(self.head)
            self._length = int(length[1]) if length else None
        self.parts.append(data)
        self._received += len(data)
        if self.first is None and CONTENT.search(b"".join(self.parts)):
            self.first = time.perf_counter()
        if self._length is None:
            enough = len(data) >= len(END_OF_CHUNKS)
            self._tail = (data if enough else self._tail + data)[-len(END_OF_CHUNKS) :]
            if self._tail.endswith(END_OF_CHUNKS):
                self._end()
        elif self._received >= self._length:
            self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is None:
            self._end()
        elif not self.done.done():
            self.done.set_exception(exc)

    def _end(self) -> None:
        if not self.done.done():
            self.ended = time.perf_counter()
            self.done.set_result(None)


def dechunk(raw: bytes) -> bytes:
    out, place = [], 0
    while (end := raw.find(b"\r\n", place)) >= 0:
        size = int(raw[place:end].partition(b";")[0] or b"0", 16)
        if size == 0:
            break
        out.append(raw[end + 2 : end + 2 + size])
        place = end + 2 + size + 2
    return b"".join(out)


def account(answer: Chat, expect: int, result: LoadResult) -> None:
    """Add a chat to the result: its numbers, or what was wrong with it."""
    body = answer.body
    text = b"".join(CONTENT.findall(body))
    tokens = len(TOKEN.findall(text))
    if answer.status != 200:
        result.errors.append(f"HTTP {answer.status}: {body[:100].decode(errors='replace')}")
    elif answer.first is None:
        result.errors.append(f"no content: {body[:100].decode(errors='replace')}")
    elif not FINISHED.search(body):
        result.errors.append("the stream has no end")
    elif expect and tokens != expect:
        result.errors.append(f"{tokens} tokens instead of {expect}")
    else:
        result.ttft.append((answer.first - answer.started) * 1000)
        result.total.append((answer.ended - answer.started) * 1000)
        result.tokens += tokens
        result.chars += len(text.decode(errors="replace"))
        result.events += body.count(b"data: ")


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far; 0.0 without a pid, or where there is no /proc."""
    stat = Path(f"/proc/{pid}/stat")
    if not pid or not stat.exists():
        return 0.0
    fields = stat.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mb(pid: int) -> float:
    """Resident memory of a process in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run on uvloop where there is one."""
    try:
        import uvloop  # noqa: PLC0415 - optional
    except ImportError:
        return asyncio.run(coroutine)
    return uvloop.run(coroutine)


def percentile(values: Sequence[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]


def spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    return (
        f"{statistics.median(values):.1f} / {percentile(values, 0.95):.1f} / {percentile(values, 0.99):.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", required=True, help="base URL ending in /v1")
    parser.add_argument("--model", required=True)
    parser.add_argument("-c", type=int, default=1, help="workers at once")
    parser.add_argument("-k", type=int, default=1, help="chats per worker")
    parser.add_argument(
        "--ramp", type=float, default=0, help="spread the starts of the workers over S seconds"
    )
    parser.add_argument("--expect", type=int, default=0, help="tokens that each answer must have")
    parser.add_argument("--pid", type=int, default=0, help="server whose CPU time and memory are taken")
    parser.add_argument("--timeout", type=float, default=120, help="seconds per chat")
    parser.add_argument("--prompt", help="what the user says")
    parser.add_argument("--authorization", default="", help='header value, such as "Bearer sk-…"')
    parser.add_argument("--extra", type=json.loads, default={}, help="further fields of the body, as JSON")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    result = run(
        run_load(
            args.url,
            args.model,
            concurrency=args.c,
            chats=args.k,
            ramp=args.ramp,
            authorization=args.authorization,
            extra=args.extra,
            messages=[PROMPT[0], {"role": "user", "content": args.prompt}] if args.prompt else PROMPT,
            expect=args.expect,
            pid=args.pid,
            timeout=args.timeout,
        )
    )
    if args.json:
        print(json.dumps(vars(result)))
        return
    print(f"{args.model}  c={args.c} chats={len(result.ttft)}")
    print(f"  errors: {len(result.errors)} {result.errors[:2] or ''}")
    print(f"  ttft  ms median/p95/p99: {spread(result.ttft)}")
    print(f"  total ms median/p95/p99: {spread(result.total)}")
    events = result.events / max(1, result.tokens)
    print(f"  {result.tokens_per_second:.0f} tokens/s, {events:.2f} events per token")
    if args.pid:
        per_thousand = result.cpu_seconds / max(1, result.tokens) * 1000
        print(f"  server: {per_thousand:.3f} CPU s per 1000 tokens, {rss_mb(args.pid):.0f} MiB")


if __name__ == "__main__":
    main()
