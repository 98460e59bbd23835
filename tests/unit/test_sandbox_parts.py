"""The pure parts of the sandbox."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import pytest

from agent_mode.sandbox import endings, environment
from agent_mode.sandbox.budget import Budget
from agent_mode.sandbox.child.frames import LIMIT, Garbled, Inbox, TooLarge, pack
from agent_mode.sandbox.items import Image, Limits, Output, SourceItem, StatusLine, clean, parse, size

# Frames


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_messages_arrive_however_they_are_cut(step: int) -> None:
    messages = [{"a": n, "text": "é\ud800😀" * n} for n in range(50)]
    data = b"".join(pack(message) for message in messages)
    inbox, found = Inbox(), []
    for start in range(0, len(data), step):
        inbox.feed(data[start : start + step])
        while (message := inbox.take()) is not None:
            found.append(message)
    assert found == messages


def frame(body: bytes, mark: int = 0xA75C, length: int | None = None) -> bytes:
    return struct.pack("!HI", mark, len(body) if length is None else length) + body


@pytest.mark.parametrize(
    "data",
    [
        frame(b"{}", mark=0xA75D),
        frame(b"", length=LIMIT + 1),
        frame(b""),
        frame(b"[]"),
        frame(b"{"),
        frame("{'é'}".encode()),
        frame(b"[" * 100_000),
        frame(b'{"a":' + b"9" * 5000 + b"}"),
        b"hello world",
    ],
    ids=range(9),
)
def test_what_is_no_message(data: bytes) -> None:
    inbox = Inbox()
    inbox.feed(data)
    with pytest.raises(Garbled):
        inbox.take()


def test_the_largest_message() -> None:
    room = LIMIT - len('{"a":""}')
    assert len(pack({"a": "x" * room})) == LIMIT + 6
    with pytest.raises(TooLarge):
        pack({"a": "x" * (room + 1)})


# Items


@pytest.mark.parametrize(
    ("message", "item"),
    [
        ({"t": "output", "text": "a"}, Output("a")),
        ({"t": "status", "text": "a", "done": True}, StatusLine("a", done=True)),
        ({"t": "status", "text": "a"}, StatusLine("a")),
        ({"t": "image", "mime": "image/png", "data": "QQ=="}, Image("image/png", "QQ==")),
        ({"t": "image", "mime": "text/html", "data": "https://x"}, Image("", "https://x")),
        ({"t": "source", "name": "a", "url": "", "text": "b"}, SourceItem("a", "", "b")),
        ({"t": "other"}, None),
        ({}, None),
    ],
)
def test_items(message: dict[str, Any], item: Any) -> None:
    assert parse(message) == item


@pytest.mark.parametrize(
    "message",
    [
        {"t": "output"},
        {"t": "output", "text": 5},
        {"t": "image", "mime": "text/html", "data": "QQ=="},
        {"t": "image", "mime": "image/png;x\n", "data": "QQ=="},
        {"t": "image", "mime": "image/png", "data": "é"},
        {"t": "source", "name": "a", "url": None, "text": ""},
    ],
)
def test_items_that_are_none(message: dict[str, Any]) -> None:
    with pytest.raises(Garbled):
        parse(message)


def test_sizes_and_addresses() -> None:
    assert size(Output("é")) == 2
    assert size(Image("image/png", "QQ==", "é")) == 6
    assert size(SourceItem("é", "b", "c")) == 4
    assert Image("image/png", "QQ==").url == "data:image/png;base64,QQ=="
    assert clean("a\ud800é") == "a\ufffdé"


# The environment


def test_only_what_is_allowed_passes() -> None:
    given = {
        "PATH": "/bin",
        "HOME": "/root",
        "LC_ALL": "C",
        "HTTP_PROXY": "http://proxy:80",
        "https_proxy": "http://user:word@proxy:80",
        "OPENAI_API_KEY": "x",
        "AGENT_MODE_DATABASE_URL": "x",
        "PYTHONPATH": "x",
        "LD_PRELOAD": "x",
    }
    passed = environment.scrubbed(given)
    assert (
        passed.items()
        >= {"PATH": "/bin", "HOME": "/root", "LC_ALL": "C", "HTTP_PROXY": "http://proxy:80"}.items()
    )
    assert not passed.keys() & {"https_proxy", "OPENAI_API_KEY", "AGENT_MODE_DATABASE_URL", "PYTHONPATH"}
    assert "LD_PRELOAD" not in passed


# The clock


async def test_the_clock_stands_still_while_it_is_held() -> None:
    fired: list[float] = []
    loop = asyncio.get_running_loop()
    budget = Budget(0.1, lambda: fired.append(loop.time()))
    await asyncio.sleep(0.15)
    assert not fired  # it has not begun
    started = loop.time()
    budget.release()
    for _ in range(3):
        await asyncio.sleep(0.02)
        budget.hold()
        budget.hold()
        await asyncio.sleep(0.1)
        budget.release()
        budget.release()
    await asyncio.sleep(0.1)
    assert len(fired) == 1
    assert 0.38 < fired[0] - started < 0.6
    budget.hold()
    budget.release()
    await asyncio.sleep(0.01)
    assert len(fired) == 1  # once is enough


# Endings

DUMP = """
Thread 0x00007f (most recent call first):
  File "<agent code>", line 9 in helper

Current thread 0x00007e (most recent call first):
  File "/usr/lib/python3.11/ctypes/__init__.py", line 519 in string_at
  File "<agent code>", line 2 in run
  File "<agent code>", line 7 in <module>
"""


@pytest.mark.parametrize(
    ("printed", "line"),
    [
        (DUMP, 2),
        (DUMP.partition("Current")[0], 9),
        ('print: File "<agent code>", line 1' + DUMP, 2),
        ("nothing of the kind", None),
        ("", None),
    ],
)
def test_the_line_in_a_dump(printed: str, line: int | None) -> None:
    assert endings.place(printed) == line


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (9, "code_crashed"),
        (11, "code_crashed"),
        (24, "code_timeout"),
        (3 << 8, "code_exited"),
        (0, "code_exited"),
    ],
)
def test_statuses(status: int, code: str) -> None:
    assert endings.died(status, "", Limits()).code == code
