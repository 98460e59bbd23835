"""What a provider sends reaches Open WebUI as it is, and nothing that it writes becomes an event."""

from __future__ import annotations

import itertools
import json

import pytest

from tests.provider import CRLF_TEXT, EVIL_EVENT, EVIL_TEXT, EXTRA, USAGE, Provider, Reply
from tests.server.openwebui import Answer, OpenWebUI
from tests.server.servers import OLD, OURS, PIPE, STOCK, Server, params

CODER = "personas.coder"
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
                "required": ["city", "days"],
            },
        },
    }
]
MODELS = (
    "stub", "stub-reasoning", "stub-usage", "stub-extra", "stub-tools", "stub-crlf", "stub-evil", "stub-noend"
)  # fmt: skip
with_layer = pytest.mark.parametrize("server", params(OURS, STOCK, OLD), indirect=True)


def ask(server: Server, model: str, text: str = "Hi", *, stream: bool = True, **extra: object) -> Answer:
    server.set_valves(llm_model=model)
    return OpenWebUI(server).chat().ask(text, CODER, stream=stream, **extra)


def test_text_streams(server: Server, provider: Provider) -> None:
    answer = ask(server, "stub", "Grüße 👋🏽").good()

    assert answer.text == "Hello from stub: Grüße 👋🏽"
    assert len([choice for choice in answer.choices if choice["delta"].get("content")]) > 3
    assert answer.events == []
    assert provider.last().body["stream"] is True


def test_reasoning_is_passed_on(server: Server) -> None:
    answer = ask(server, "stub-reasoning").good()

    assert (answer.reasoning, answer.text) == ("Two and two. That makes four.", "The answer is 4.")


def test_usage_is_passed_on(server: Server) -> None:
    answer = ask(server, "stub-usage").good()

    assert [chunk["usage"] for chunk in answer.chunks if chunk.get("usage")] == [USAGE]
    assert answer.text == "Counted."


def test_unknown_fields_are_passed_on(server: Server) -> None:
    answer = ask(server, "stub-extra").good()

    from_provider = [chunk for chunk in answer.chunks if "x_vendor" in chunk]
    assert len(from_provider) == 4
    assert all(EXTRA.items() <= chunk.items() for chunk in from_provider)
    words = [choice for chunk in from_provider[1:-1] for choice in chunk["choices"]]
    assert [choice["delta"]["vendor_delta"] for choice in words] == [{"a": 1}, {"a": 1}]
    assert [choice["logprobs"]["content"][0]["token"] for choice in words] == ["Hello ", "there"]


def test_chunks_are_passed_on_byte_for_byte(server: Server, provider: Provider) -> None:
    chunks = [
        '{"id": "x",  "choices":[{"index":0,"delta":{"role":"assistant","content":""}}], "n": 1.50}',
        '{"choices":[{"index":0,"delta":{"content":"\\u00fc\\ud83d\\ude00 ü"}}],"big":12345678901234567890}',
        '{"choices":[{"index":0,"delta":{"content":"a"}},{"index":1,"delta":{"content":"b"}}]}',
        '{"choices":[{"index":0,"delta":{},"finish_reason":"length"}],"usage":null}',
        '{"choices":[],"usage":{"total_tokens":3,"cost":0.1}}',
    ]
    raw = "".join(f"data: {chunk}\n\n" for chunk in [*chunks, "[DONE]"])
    provider.script(Reply(raw=raw.encode()))

    answer = ask(server, "stub").good()

    assert [payload for payload in answer.payloads if payload in chunks] == chunks


def test_tool_calls_are_passed_on(server: Server, provider: Provider) -> None:
    answer = ask(server, "stub-tools", "Weather?", tools=TOOLS, tool_choice="auto").good()

    (call,) = answer.tool_calls
    assert (call["name"], json.loads(call["arguments"])) == ("weather", {"city": "stub", "days": 1})
    assert call["id"].startswith("call_")
    assert answer.finish_reasons[0] == "tool_calls"
    assert provider.last().body["tools"] == TOOLS


def test_tool_results_reach_the_provider(server: Server, webui: OpenWebUI, provider: Provider) -> None:
    server.set_valves(llm_model="stub-tools")
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    first = webui.inlet(
        CODER,
        {
            "model": CODER,
            "stream": True,
            "messages": [{"role": "user", "content": "Weather?"}],
            "metadata": {},
        },
    )
    first.pop("metadata")
    messages = [
        *first["messages"],
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ]

    answer = webui.complete({**first, "messages": messages, "tools": TOOLS})

    assert answer.good().text == "The tool said: sunny"
    sent = provider.last().body["messages"]
    assert [message["role"] for message in sent] == ["system", "user", "assistant", "tool"]
    assert sent[2]["tool_calls"] == [call]


def test_odd_line_ends_and_comments_do_no_harm(server: Server) -> None:
    assert ask(server, "stub-crlf").good().text == CRLF_TEXT


@pytest.mark.parametrize("model", MODELS)
@with_layer
def test_a_stream_ends_once(server: Server, model: str) -> None:
    answer = ask(server, model, tools=TOOLS).good()

    assert answer.finish_reasons == ["tool_calls" if model == "stub-tools" else "stop"]
    assert answer.done == 1
    assert answer.payloads[-1] == "[DONE]"


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("server", params(PIPE), indirect=True)
def test_a_stream_of_the_pipe_ends_once(server: Server, model: str) -> None:
    answer = ask(server, model, tools=TOOLS).good()

    assert answer.done == 1
    assert answer.payloads[-1] == "[DONE]"
    assert answer.finish_reasons[-1] == "stop"  # upstream adds it, whatever was there before


def test_nothing_becomes_an_event(server: Server) -> None:
    answer = ask(server, "stub-evil").good()

    assert answer.text == EVIL_TEXT
    assert answer.events == []
    assert "alert(1)" not in "".join(answer.payloads)


def test_no_form_of_an_event_passes(webui: OpenWebUI, provider: Provider) -> None:
    chunks = [
        {"event": EVIL_EVENT},
        {"event": EVIL_EVENT, "choices": []},
        {"choices": [], "event": EVIL_EVENT, "error": None},
        {"event": [EVIL_EVENT], "choices": [{"index": 0, "delta": {"content": "x"}}]},
        [{"event": EVIL_EVENT}],
        "event",
    ]
    prefixes = [
        "data: ",
        "data:",
        "\ufeffdata: ",
        "event: status\ndata: ",
        "\rdata: ",
        "data: \u2028",
        "\x0bdata: ",
    ]
    hello = {"choices": [{"index": 0, "delta": {"content": "Hello"}}]}
    request = {"model": CODER, "messages": [{"role": "user", "content": "Hi"}]}
    for prefix, chunk in itertools.product(prefixes, chunks):
        body = f"data: {json.dumps(hello)}\n\n{prefix}{json.dumps(chunk)}\n\ndata: [DONE]\n\n"
        provider.script(Reply(raw=body.encode()))

        answer = webui.complete({**request, "stream": True})

        assert answer.events == [], body
        assert "alert(1)" not in "".join(answer.payloads), body
        assert answer.text.startswith("Hello"), body
        assert answer.stray == [], body


def test_words_that_look_like_the_protocol_stay_words(server: Server, provider: Provider) -> None:
    words = ["data: [DONE]", "\n\n", 'data: {"event":{"type":"execute"}}', "\n", "event: x", "[DONE]"]
    provider.script(Reply(words))

    answer = ask(server, "stub").good()

    assert answer.text == "".join(words)
    assert answer.events == []


@pytest.mark.parametrize("model", MODELS)
def test_without_streaming_one_completion(server: Server, model: str) -> None:
    answer = ask(server, model, stream=False, tools=TOOLS)

    whole = answer.body
    assert answer.status == 200
    assert not answer.payloads
    assert whole["object"] == "chat.completion"
    assert len(whole["choices"]) == 1
    message = whole["choices"][0]["message"]
    assert message["role"] == "assistant"
    assert "event" not in whole
    expected = {
        "stub": "Hello from stub: Hi",
        "stub-reasoning": "The answer is 4.",
        "stub-usage": "Counted.",
        "stub-extra": "Hello there",
        "stub-tools": None,
        "stub-crlf": CRLF_TEXT,
        "stub-evil": EVIL_TEXT,
        "stub-noend": "No end",
    }
    assert message["content"] == expected[model]
    assert bool(message.get("tool_calls")) == (model == "stub-tools")
    assert whole["usage"] == USAGE


@pytest.mark.parametrize("stream", [True, False])
def test_our_own_words_are_well_formed(server: Server, stream: bool, provider: Provider) -> None:
    answer = ask(server, "stub", "!agent", stream=stream)

    assert answer.status == 200
    assert "| `!reset` |" in answer.text
    assert "event" not in (answer.body or {})
    if stream:
        assert answer.done == 1
        assert set(answer.finish_reasons) == {"stop"}
    assert provider.chats == []


def test_a_provider_that_ignores_streaming_is_understood(server: Server, provider: Provider) -> None:
    completion = {
        "id": "c1",
        "object": "chat.completion",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "Whole."}, "finish_reason": "stop"}
        ],
        "event": EVIL_EVENT,
    }
    provider.script(Reply(raw=json.dumps(completion).encode(), content_type="application/json"))

    answer = ask(server, "stub").good()

    assert answer.text == "Whole."
    assert answer.events == []


def test_parameters_go_to_the_provider_and_ours_do_not(server: Server, provider: Provider) -> None:
    extra = {
        "temperature": 0.25,
        "max_tokens": 7,
        "stop": ["\n"],
        "seed": 0,
        "response_format": {"type": "json_object"},
        "stream_options": {"include_usage": True},
        "x_vendor": {"a": [1, None]},
    }
    internal = {
        "features": {"web_search": True},
        "chat_id": "c",
        "session_id": "s",
        "id": "m",
        "tool_ids": [],
    }

    answer = ask(server, "stub", **extra, **internal)

    answer.good()
    assert [chunk["usage"] for chunk in answer.chunks if chunk.get("usage")] == [USAGE]
    sent = dict(provider.last().body)
    assert sent.pop("messages")
    assert sent == {"model": "stub", "stream": True, **extra}


def test_parameters_without_streaming(server: Server, provider: Provider) -> None:
    ask(server, "stub", stream=False, temperature=0, stream_options={"include_usage": True})

    sent = dict(provider.last().body)
    assert sent.pop("messages")
    assert sent == {"model": "stub", "stream": False, "temperature": 0}
    assert provider.last().headers["authorization"] == f"Bearer {provider.key}"


def test_images_and_other_parts_reach_the_provider(server: Server, provider: Provider) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    body = {
        "model": CODER,
        "stream": True,
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "!writer What is it?"}, image]},
            {"role": "assistant", "content": "A dot."},
            {"role": "user", "content": [{"type": "text", "text": "Sure?"}, image]},
        ],
    }

    answer = OpenWebUI(server).complete(body)

    answer.good()
    sent = provider.last().body["messages"]
    assert [m["content"] for m in sent if m["role"] == "user"] == [
        [{"type": "text", "text": "What is it?"}, image],
        [{"type": "text", "text": "Sure?"}, image],
    ]
