"""How events look on the wire."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_mode.agents.engine import Chunks, Completion, Embed, Event, Failure, Reasoning, Status, Text
from agent_mode.chat.events import DONE, StreamEncoder, completion, error_body
from agent_mode.errors import ProviderError, RequestError
from agent_mode.llm.sse import BrokenChunk, Facts, SseReader, reported


def decoded(block: bytes) -> list[dict[str, Any]]:
    lines = block.split(b"\n\n")
    assert lines.pop() == b""
    for line in lines:
        assert line.startswith(b"data: ")
        assert b"\n" not in line
        assert b"\r" not in line
    return [json.loads(line[6:]) for line in lines]


@pytest.fixture
def encoder() -> StreamEncoder:
    return StreamEncoder("personas.coder", interactive=True)


@pytest.fixture
def plain() -> StreamEncoder:
    return StreamEncoder("personas.coder", interactive=False)


def test_text_is_a_chunk(plain: StreamEncoder) -> None:
    (chunk,) = decoded(plain.encode(Text("Grüße\n\ndata: x")))
    assert chunk["object"] == "chat.completion.chunk"
    assert chunk["model"] == "personas.coder"
    assert chunk["id"].startswith("chatcmpl-")
    assert isinstance(chunk["created"], int)
    (choice,) = chunk["choices"]
    assert choice["delta"] == {"role": "assistant", "content": "Grüße\n\ndata: x"}
    assert choice["finish_reason"] is None


def test_reasoning_is_no_content(plain: StreamEncoder) -> None:
    delta = decoded(plain.encode(Reasoning("hm")))[0]["choices"][0]["delta"]
    assert delta["reasoning_content"] == "hm"
    assert "content" not in delta


def test_one_run_has_one_id(plain: StreamEncoder, encoder: StreamEncoder) -> None:
    ids = {decoded(plain.encode(Text(word)))[0]["id"] for word in "abc"}
    assert len(ids) == 1
    assert decoded(encoder.encode(Text("a")))[0]["id"] not in ids


def test_chunks_pass_as_they_are(plain: StreamEncoder) -> None:
    data = b'data: {"choices": [],  "n": 1.50}\n\n'
    assert plain.encode(Chunks(data)) is data


def test_status_is_for_people(encoder: StreamEncoder, plain: StreamEncoder) -> None:
    assert decoded(encoder.encode(Status("Coder takes over", done=False))) == [
        {
            "event": {
                "type": "status",
                "data": {"description": "Coder takes over", "done": False, "hidden": False},
            }
        }
    ]
    assert plain.encode(Status("x")) == b""


def test_embeds_are_for_people(encoder: StreamEncoder, plain: StreamEncoder) -> None:
    assert decoded(encoder.encode(Embed("<b>x</b>"))) == [
        {"event": {"type": "embeds", "data": {"embeds": ["<b>x</b>"]}}}
    ]
    assert plain.encode(Embed("<b>x</b>")) == b""


@pytest.mark.parametrize("interactive", [True, False])
def test_a_failure_reaches_everybody(interactive: bool) -> None:
    error = RequestError("No such persona.", hint="Pick another.", code="agent_not_found", field="model")
    block = StreamEncoder("m", interactive=interactive).encode(Failure(error))
    assert decoded(block) == [
        {
            "error": {
                "message": "No such persona. Pick another.",
                "type": "RequestError",
                "code": "agent_not_found",
                "hint": "Pick another.",
                "retryable": False,
                "field": "model",
            }
        }
    ]


def test_the_log_s_detail_stays_in_the_log(encoder: StreamEncoder) -> None:
    error = ProviderError("Broken.", hint="Try again.").with_detail("secret detail")
    assert b"secret detail" not in encoder.encode(Failure(error))
    assert error_body(BrokenChunk(b"secret detail", reported("x")))["error"]["type"] == "BrokenChunk"


def test_what_was_said_before_a_failure_stands_in_its_error() -> None:
    error = ProviderError("Broken.")
    assert error_body(error, "So far")["error"] == {**error_body(error)["error"], "output": "So far"}
    assert "output" not in error_body(error)["error"]


def test_a_completion_is_one_line(plain: StreamEncoder) -> None:
    data = completion("m", "hi")
    assert decoded(plain.encode(Completion(data))) == [data]


def test_heartbeat_says_nothing(plain: StreamEncoder) -> None:
    (chunk,) = decoded(plain.heartbeat())
    assert chunk["choices"][0]["delta"] == {}
    assert chunk["choices"][0]["finish_reason"] is None


def test_finish_only_where_the_provider_sent_none(plain: StreamEncoder) -> None:
    (chunk,) = decoded(plain.finish(Facts()))
    assert chunk["choices"][0]["finish_reason"] == "stop"
    assert plain.finish(Facts(finish_reason="length")) == b""


def test_done() -> None:
    assert DONE == b"data: [DONE]\n\n"


def test_completion() -> None:
    data = completion("personas.coder", "hi")
    assert data["object"] == "chat.completion"
    assert data["model"] == "personas.coder"
    assert data["choices"][0]["message"] == {"role": "assistant", "content": "hi"}
    assert data["choices"][0]["finish_reason"] == "stop"
    assert set(data["usage"]) == {"prompt_tokens", "completion_tokens", "total_tokens"}


WORDS = st.text() | st.sampled_from(
    ['{"event": 1}', "data: {}\n\n", "\r\n", "\u2028\u2029\x85", "\ud800", "[DONE]"]
)


@given(
    st.lists(
        st.one_of(
            st.builds(Text, WORDS),
            st.builds(Reasoning, WORDS),
            st.builds(Status, WORDS, st.booleans()),
            st.builds(Embed, WORDS),
            st.builds(lambda text: Failure(ProviderError(text, hint=text)), WORDS),
        )
    )
)
def test_words_cannot_become_lines_or_events(events: list[Event]) -> None:
    encoder = StreamEncoder("m", interactive=False)
    shown = [event for event in events if not isinstance(event, Status | Embed)]
    items = decoded(b"".join(encoder.encode(event) for event in events))
    assert len(items) == len(shown)
    for event, item in zip(shown, items, strict=True):
        assert "event" not in item
        assert ("error" in item) == isinstance(event, Failure)
    # What we write is what we ourselves take for a chat.
    texts = [event for event in shown if isinstance(event, Text)]
    said = b"".join(encoder.encode(event) for event in texts)
    read = decoded(SseReader().feed(said))
    assert [item["choices"][0]["delta"]["content"] for item in read] == [text.content for text in texts]
