"""The provider double does what its table says."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest

from tests.patience import until
from tests.provider import CRLF_TEXT, EVIL_TEXT, EXTRA, MODELS, RETRY_AFTER, USAGE, Provider, Reply
from tests.scripted import IMAGES_NOTE, Step, play, seen

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "days": {"type": "integer"},
                "note": {"type": "string"},
            },
            "required": ["city", "days"],
        },
    },
}


@pytest.fixture(scope="module")
def running() -> Iterator[Provider]:
    with Provider(aliases={"gpt-4o": "stub"}) as provider:
        yield provider


@pytest.fixture
def provider(running: Provider) -> Provider:
    running.clear()
    return running


@pytest.fixture
async def session(provider: Provider) -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"Authorization": f"Bearer {provider.key}"}
    async with aiohttp.ClientSession(f"{provider.base_url}/", headers=headers) as session:
        yield session


def ask(model: str, text: str = "Hi", *, stream: bool = True, **fields: Any) -> dict[str, Any]:
    return {"model": model, "stream": stream, "messages": [{"role": "user", "content": text}], **fields}


async def lines(session: aiohttp.ClientSession, body: dict[str, Any]) -> list[str]:
    """The data lines of a stream."""
    async with session.post("chat/completions", json=body) as response:
        assert response.status == 200
        text = await response.text()
    return [line[5:].strip() for line in text.splitlines() if line.startswith("data:")]


async def deltas(session: aiohttp.ClientSession, body: dict[str, Any]) -> list[dict[str, Any]]:
    chunks = [json.loads(line) for line in await lines(session, body) if line != "[DONE]"]
    return [choice["delta"] for chunk in chunks for choice in chunk.get("choices", [])]


def words(of: list[dict[str, Any]], key: str = "content") -> str:
    return "".join(delta.get(key) or "" for delta in of)


def names_of_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


async def test_answers_in_several_deltas(provider: Provider, session: aiohttp.ClientSession) -> None:
    received = await deltas(session, ask("stub", "How are you?"))
    assert words(received) == "Hello from stub: How are you?"
    assert len([delta for delta in received if delta.get("content")]) > 2
    assert received[0]["role"] == "assistant"
    recorded = provider.last()
    assert recorded.finished
    assert recorded.closed_at is None
    assert recorded.path == "/v1/chat/completions"
    assert recorded.headers["authorization"] == "Bearer sk-test"
    assert recorded.body["messages"][0]["content"] == "How are you?"


async def test_lists_models_and_knows_aliases(session: aiohttp.ClientSession) -> None:
    async with session.get("models") as response:
        listed = [model["id"] for model in (await response.json())["data"]]
    assert listed == [*MODELS, "gpt-4o"]
    assert words(await deltas(session, ask("gpt-4o"))) == "Hello from stub: Hi"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("model", "status", "code"),
    [
        ("stub-401", 401, "invalid_api_key"),
        ("stub-404", 404, "model_not_found"),
        ("nobody", 404, "model_not_found"),
        ("stub-429", 429, "rate_limit_exceeded"),
        ("stub-503", 503, None),
    ],
)
async def test_errors(
    session: aiohttp.ClientSession, model: str, status: int, code: str | None, stream: bool
) -> None:
    async with session.post("chat/completions", json=ask(model, stream=stream)) as response:
        assert response.status == status
        assert (await response.json())["error"]["code"] == code
        assert response.headers.get("retry-after") == (str(RETRY_AFTER) if status == 429 else None)


async def test_needs_the_key(provider: Provider, session: aiohttp.ClientSession) -> None:
    wrong = {"Authorization": "Bearer sk-wrong"}
    async with session.post("chat/completions", json=ask("stub"), headers=wrong) as response:
        assert response.status == 401
    async with session.get("models", headers=wrong) as response:
        assert response.status == 401
    assert len(provider.requests) == 2
    assert len(provider.chats) == 1


async def test_bodies_that_are_not_what_they_should_be(session: aiohttp.ClientSession) -> None:
    async with session.post("chat/completions", data=b"{") as response:
        assert response.status == 400
    async with session.post("chat/completions", json=ask("stub-500")) as response:
        assert (response.status, response.content_type) == (500, "text/plain")
    async with session.post("chat/completions", json=ask("stub-html")) as response:
        assert (response.status, response.content_type) == (200, "text/html")
    broken = await lines(session, ask("stub-badjson"))
    assert broken[2].endswith("brok")
    with pytest.raises(json.JSONDecodeError):
        json.loads(broken[2])


@pytest.mark.parametrize("model", ["stub-hang", "stub-stall", "stub-slow"])
async def test_sees_the_client_go(provider: Provider, session: aiohttp.ClientSession, model: str) -> None:
    call = asyncio.create_task(lines(session, ask(model)))
    await until(lambda: provider.active == 1)
    await asyncio.sleep(0.05)
    call.cancel()
    await asyncio.wait([call])
    await until(lambda: provider.last().closed_at)
    assert not provider.last().finished
    await until(lambda: provider.active == 0)


async def test_slow_takes_its_time(session: aiohttp.ClientSession) -> None:
    started = time.monotonic()
    assert len(await deltas(session, ask("stub-slow"))) == 22
    assert time.monotonic() - started > 1.2


@pytest.mark.parametrize("stream", [True, False])
async def test_cut(provider: Provider, session: aiohttp.ClientSession, stream: bool) -> None:
    received: list[bytes] = []

    async def read(response: aiohttp.ClientResponse) -> None:
        async for data in response.content.iter_any():
            received.append(data)

    async with session.post("chat/completions", json=ask("stub-cut", stream=stream)) as response:
        with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ClientOSError)):
            await read(response)
    assert b"".join(received).count(b'"content": "') == (4 if stream else 0)
    await until(lambda: provider.active == 0)
    assert (provider.last().finished, provider.last().closed_at) == (False, None)


async def test_cut_first_answers_the_third_try(provider: Provider, session: aiohttp.ClientSession) -> None:
    for _ in range(2):
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await lines(session, ask("stub-cut-first"))
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await lines(session, ask("stub-cut-first", "Something else"))
    assert words(await deltas(session, ask("stub-cut-first"))) == "Hello from stub: Hi"
    assert [recorded.finished for recorded in provider.chats] == [False] * 4 + [True]


async def test_streams_that_end_badly(session: aiohttp.ClientSession) -> None:
    noend = await lines(session, ask("stub-noend"))
    assert all('"finish_reason": null' in line for line in noend)
    errchunk = await lines(session, ask("stub-errchunk"))
    assert len(errchunk) == 4
    assert json.loads(errchunk[-1]) == {"error": {"message": "overloaded"}}


async def test_evil_is_as_evil_as_promised(session: aiohttp.ClientSession) -> None:
    async with session.post("chat/completions", json=ask("stub-evil")) as response:
        stream = await response.text()
    messages = [block.split("\n") for block in stream.split("\n\n") if block]
    data = ["\n".join(line[6:] for line in block if line.startswith("data: ")) for block in messages]
    chunks = [json.loads(text) for text in data if text != "[DONE]"]
    assert len([chunk for chunk in chunks if "event" in chunk]) == 4
    assert "\\u0065vent" in stream
    assert "\nevent: execute\n" in stream
    assert words([choice["delta"] for chunk in chunks for choice in chunk.get("choices", [])]) == EVIL_TEXT


async def test_crlf_splits_characters(session: aiohttp.ClientSession) -> None:
    received = []
    async with session.post("chat/completions", json=ask("stub-crlf")) as response:
        async for data, _ in response.content.iter_chunks():
            received.append(data)
    whole = b"".join(received)
    assert any(data[-1:] == b"\xc3" for data in received)
    assert any(data[-1:] == b"\r" for data in received)
    assert whole.replace(b"\r\n", b"").count(b"\n") == 0
    assert words(await deltas(session, ask("stub-crlf"))) == CRLF_TEXT


async def test_reasoning_usage_and_extra(session: aiohttp.ClientSession) -> None:
    reasoned = await deltas(session, ask("stub-reasoning"))
    assert words(reasoned, "reasoning_content") == "Two and two. That makes four."
    assert words(reasoned) == "The answer is 4."
    assert json.loads((await lines(session, ask("stub-usage")))[-2])["choices"] == []
    asked = await lines(session, ask("stub", stream_options={"include_usage": True}))
    assert json.loads(asked[-2])["usage"]["total_tokens"] == 18
    extra = json.loads((await lines(session, ask("stub-extra")))[1])
    assert extra.items() >= EXTRA.items()
    assert extra["choices"][0]["logprobs"]["content"][0]["token"] == "Hello "


async def test_tools_are_called_once(session: aiohttp.ClientSession) -> None:
    body = ask("stub-tools", tools=[TOOL])
    calls = [call for delta in await deltas(session, body) for call in delta.get("tool_calls", [])]
    assert calls[0]["function"]["name"] == "weather"
    arguments = "".join(call["function"]["arguments"] for call in calls)
    assert json.loads(arguments) == {"city": "stub", "days": 1}
    body["messages"] += [
        {"role": "assistant", "content": None, "tool_calls": calls[:1]},
        {"role": "tool", "tool_call_id": calls[0]["id"], "content": "sunny"},
    ]
    assert words(await deltas(session, body)) == "The tool said: sunny"


async def test_copycat_believes_the_latest(session: aiohttp.ClientSession) -> None:
    body = ask("stub-copycat")
    body["messages"] = [
        {"role": "system", "content": "You are the Coder. Write code."},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": [{"type": "text", "text": "You are now Poet, and nothing else."}]},
    ]
    assert words(await deltas(session, body)) == "I am Poet"
    assert words(await deltas(session, ask("stub-copycat"))) == "I am nobody"


async def test_script_comes_first(provider: Provider, session: aiohttp.ClientSession) -> None:
    provider.script(
        "Scripted", Reply(tool_calls=[("add", {"a": 1})]), Reply(like="stub-503"), Reply(raw=b"data: x\n\n")
    )
    assert words(await deltas(session, ask("stub"))) == "Scripted"
    assert "tool_calls" in (await deltas(session, ask("stub")))[1]
    async with session.post("chat/completions", json=ask("stub")) as response:
        assert response.status == 503
    assert await lines(session, ask("whatever")) == ["x"]
    assert words(await deltas(session, ask("stub"))) == "Hello from stub: Hi"


async def test_a_script_for_one_model(provider: Provider, session: aiohttp.ClientSession) -> None:
    provider.script("Anybody")
    provider.script("First", "Second", model="stub-slow")
    assert [words(await deltas(session, ask("stub-slow"))) for _ in range(2)] == ["First", "Second"]
    assert words(await deltas(session, ask("stub"))) == "Anybody"
    provider.script("Never said", model="stub")
    provider.clear()
    assert words(await deltas(session, ask("stub"))) == "Hello from stub: Hi"


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("Hello", []),
        ("please call: me", []),
        ("call: a", [Step((("a", "{}"),))]),
        ('call: a {"x": {"y": "}"}} & b', [Step((("a", '{"x": {"y": "}"}}'), ("b", "{}")))]),
        ('Do it:\n  call: a `{"x":` then say: Ok', [Step((("a", '{"x":'),)), Step(say="Ok")]),
        ("then say: Well then, good", [Step(say="Well then, good")]),
        ("think: Hm\ntell: So\ncall: a\nthen like: stub-503",
         [Step((("a", "{}"),), reasoning="Hm", tell="So"), Step(like="stub-503")]),
        ('call: ask {"task": "call: b\\nthen say: deep"} then say: ok',
         [Step((("ask", '{"task": "call: b\\nthen say: deep"}'),)), Step(say="ok")]),
    ],
)  # fmt: skip
def test_what_a_play_says(text: str, steps: list[Step]) -> None:
    assert play(text) == steps


def called(received: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The calls out of their deltas: id and name come first and once, arguments in pieces."""
    calls: list[dict[str, Any]] = []
    for delta in received:
        for piece in delta.get("tool_calls") or []:
            if "id" in piece:
                assert piece["index"] == len(calls)
                assert piece["function"]["arguments"] == ""
                calls.append({"id": piece["id"], "name": piece["function"]["name"], "arguments": ""})
            else:
                calls[piece["index"]]["arguments"] += piece["function"]["arguments"]
    return calls


def answered(body: dict[str, Any], calls: list[dict[str, Any]], *results: str) -> dict[str, Any]:
    """The request behind one round of calls."""
    made = [
        {
            "id": call["id"],
            "type": "function",
            "function": {"name": call["name"], "arguments": call["arguments"]},
        }
        for call in calls
    ]
    told = [
        {"role": "tool", "tool_call_id": c["id"], "content": r} for c, r in zip(calls, results, strict=True)
    ]
    # Results may come in any order.
    messages = [*body["messages"], {"role": "assistant", "content": "", "tool_calls": made}, *told[::-1]]
    return {**body, "messages": messages}


async def test_acts_a_play_round_by_round(session: aiohttp.ClientSession) -> None:
    text = (
        'think: Hm\ntell: Let me see.\ncall: weather {"city": "Rome"} & now\n'
        "then call: now\nthen say: {results}!"
    )
    body = ask("stub-agent", text, tools=[TOOL], stream_options={"include_usage": True})
    first = await deltas(session, body)
    assert (words(first, "reasoning_content"), words(first)) == ("Hm", "Let me see.")
    calls = called(first)
    assert [(call["name"], json.loads(call["arguments"])) for call in calls] == [
        ("weather", {"city": "Rome"}),
        ("now", {}),
    ]
    assert json.loads((await lines(session, body))[-3])["choices"][0]["finish_reason"] == "tool_calls"
    assert json.loads((await lines(session, body))[-2])["usage"] == USAGE

    body = answered(body, calls, "sunny", "noon")
    second = called(await deltas(session, body))
    assert [call["name"] for call in second] == ["now"]
    assert not {call["id"] for call in second} & {call["id"] for call in calls}
    assert words(await deltas(session, answered(body, second, "one"))) == "sunny | noon | one!"


async def test_says_what_it_saw(session: aiohttp.ClientSession) -> None:
    big = "x" * 1_000_000
    body = ask("stub-agent", "call: a & b & c", tools=[TOOL])
    body["messages"].insert(0, {"role": "system", "content": "call: nothing\nthen say: wrong"})
    calls = called(await deltas(session, body))
    body = answered(body, calls, "one", big, "three")
    body["messages"].pop()  # the first result: they are in reverse
    assert words(await deltas(session, body)) == f"I saw: (no result) | {seen(big)} | three"
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    body["messages"].append({"role": "user", "content": [{"type": "text", "text": IMAGES_NOTE}, image]})
    assert words(await deltas(session, body)).endswith("| three (and 1 images)")
    body["messages"].append({"role": "user", "content": "Thanks"})
    assert words(await deltas(session, body)) == "Hello from stub: Thanks"
    assert "1000000 characters" in seen(big)
    assert seen(big) != seen(big[1:] + "y")


async def test_a_play_without_streaming(session: aiohttp.ClientSession) -> None:
    body = ask("stub-agent", 'tell: So\ncall: a {"x": 1} & b', tools=[TOOL], stream=False)
    async with session.post("chat/completions", json=body) as response:
        (choice,) = (await response.json())["choices"]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", "So")
    functions = [call["function"] for call in choice["message"]["tool_calls"]]
    assert functions == [{"name": "a", "arguments": '{"x": 1}'}, {"name": "b", "arguments": "{}"}]


@pytest.mark.parametrize("fields", [{}, {"tools": []}, {"tools": [TOOL], "tool_choice": "none"}])
async def test_a_play_without_tools(session: aiohttp.ClientSession, fields: dict[str, Any]) -> None:
    assert words(await deltas(session, ask("stub-agent", "call: a", **fields))) == "I have no tools."
    assert words(await deltas(session, ask("stub-agent", "say: Fine", **fields))) == "Fine"


async def test_a_play_that_fails_slow_and_with_old_ids(session: aiohttp.ClientSession) -> None:
    async with session.post(
        "chat/completions", json=ask("stub-agent", "like: stub-503", tools=[TOOL])
    ) as response:
        assert response.status == 503
    started = time.monotonic()
    assert called(await deltas(session, ask("stub-agent-slow", "call: a", tools=[TOOL])))
    assert time.monotonic() - started > 0.35
    twice = [
        called(await deltas(session, ask("stub-agent-ids", "call: a & b", tools=[TOOL]))) for _ in range(2)
    ]
    assert [call["id"] for calls in twice for call in calls] == ["call_0", "call_1"] * 2


async def test_a_play_in_the_react_format(session: aiohttp.ClientSession) -> None:
    """As LlamaIndex writes and reads it."""
    react = pytest.importorskip("llama_index.core.agent.react.output_parser").ReActOutputParser()
    formatter = pytest.importorskip("llama_index.core.agent.react.formatter").ReActChatFormatter()
    (system,) = formatter.format([], [], [])
    messages = [
        {"role": "system", "content": system.content},
        {"role": "user", "content": 'call: a {"x": "1"} & b then say: It is {results}'},
    ]
    body = {**ask("stub-agent"), "messages": messages}
    for name, arguments, result in (("a", {"x": "1"}, "one"), ("b", {}, "two")):
        text = words(await deltas(session, body))
        step = react.parse(text)
        assert (step.action, step.action_input) == (name, arguments)
        messages += [
            {"role": "assistant", "content": text},
            {"role": "user", "content": f"Observation: {result}"},
        ]
    assert react.parse(words(await deltas(session, body))).response == "It is one | two"


async def test_a_cut_connection_delivers_what_was_written(session: aiohttp.ClientSession) -> None:
    """Also one that was used before, where a kernel may take its time to acknowledge."""
    for _ in range(20):
        await lines(session, ask("stub"))
        received = b""
        async with session.post("chat/completions", json=ask("stub-cut")) as response:
            with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ClientOSError)):
                async for data in response.content.iter_any():
                    received += data
        assert received.count(b'"content": "') == 4


@pytest.mark.parametrize(
    ("model", "content"),
    [
        ("stub", "Hello from stub: Hi"),
        ("stub-noend", "No end"),
        ("stub-evil", EVIL_TEXT),
        ("stub-crlf", CRLF_TEXT),
    ],
)
async def test_without_streaming(session: aiohttp.ClientSession, model: str, content: str) -> None:
    async with session.post("chat/completions", json=ask(model, stream=False)) as response:
        completion = await response.json()
    assert completion["object"] == "chat.completion"
    assert completion["choices"][0]["message"]["content"] == content
    assert completion["usage"]["total_tokens"] == 18


async def test_echo_and_tools_without_streaming(session: aiohttp.ClientSession) -> None:
    async with session.post("chat/completions", json=ask("stub-echo", stream=False)) as response:
        echoed = (await response.json())["choices"][0]["message"]["content"]
    assert json.loads(echoed) == [{"role": "user", "content": "Hi"}]
    async with session.post(
        "chat/completions", json=ask("stub-tools", stream=False, tools=[TOOL])
    ) as response:
        choice = (await response.json())["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert json.loads(choice["message"]["tool_calls"][0]["function"]["arguments"]) == {
        "city": "stub",
        "days": 1,
    }


async def test_leaves_nothing_behind() -> None:
    before = names_of_threads()
    with Provider() as other:
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {other.key}"}) as session:
            call = asyncio.create_task(
                session.post(f"{other.base_url}/chat/completions", json=ask("stub-hang"))
            )
            await until(lambda: other.active == 1)
            await asyncio.to_thread(other.stop)
            with pytest.raises(aiohttp.ClientError):
                await call
    assert other.active == 0
    assert names_of_threads().count("provider") == before.count("provider")
