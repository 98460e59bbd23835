"""A provider's stream: what passes, what is taken out, what is refused; however the bytes are cut."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_mode.errors import ProviderError
from agent_mode.llm import sse
from agent_mode.llm.sse import BrokenChunk, Facts, SseReader, readable, reported


def chunk(content: str = "hi", **fields: Any) -> dict[str, Any]:
    delta = {"index": 0, "delta": {"content": content}, "finish_reason": None}
    return {"id": "c1", "object": "chat.completion.chunk", "choices": [delta], **fields}


def line(data: Any) -> bytes:
    return b"data: " + json.dumps(data, ensure_ascii=False).encode() + b"\n\n"


def read(stream: bytes, *cuts: int) -> tuple[bytes, SseReader, ProviderError | None]:
    """What comes out when the stream arrives cut at these places, and the error that ended it."""
    reader = SseReader()
    out, error = b"", None
    try:
        for start, end in zip((0, *cuts), (*cuts, len(stream)), strict=True):
            out += reader.feed(stream[start:end])
        out += reader.close()
    except BrokenChunk as caught:
        out, error = out + caught.partial, caught
    except ProviderError as caught:
        error = caught
    return out, reader, error


def chunks(out: bytes) -> list[dict[str, Any]]:
    """What a client reads. Each block is one `data:` line and a blank one."""
    assert out == b"" or out.endswith(b"\n\n")
    blocks = out.split(b"\n\n")[:-1]
    for block in blocks:
        assert block.startswith(b"data: ")
        assert not {10, 13} & set(block)
    return [json.loads(block.decode()[6:]) for block in blocks]


STREAM = (
    b": keep-alive\n\n"
    + line(chunk("", role="assistant"))
    + line(chunk("Grüße, 世界 💻\u2028"))
    + b'event: message\nid: 7\ndata:{"choices":[{"delta":{"reasoning_content":"hm"}}],"odd":[1.0,null]}\n\n'
    + line({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    + line({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 5}})
    + b"data: [DONE]\n\n"
)


def test_a_plain_stream_passes() -> None:
    out, reader, error = read(STREAM)
    assert error is None
    got = chunks(out)
    assert [item["choices"][0]["delta"] for item in got[:3]] == [
        {"content": ""},
        {"content": "Grüße, 世界 💻\u2028"},
        {"reasoning_content": "hm"},
    ]
    assert got[2]["odd"] == [1.0, None]
    assert len(got) == 5
    assert reader.facts == Facts(
        started=True, finish_reason="stop", done=True, usage={"prompt_tokens": 3, "completion_tokens": 5}
    )


def test_chunks_are_passed_on_byte_for_byte() -> None:
    # What we do not have to touch keeps its spaces, its numbers and its escapes.
    payload = b'{"choices" : [ {"delta":{"content":"\\u00fc \\/"}}], "n": 1.50, "big": 12345678901234567890}'
    assert read(b"data:   " + payload + b"  \n\n")[0] == b"data: " + payload + b"\n\n"


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
def test_any_line_ending(newline: bytes) -> None:
    out, reader, error = read(STREAM.replace(b"\n", newline))
    assert error is None
    assert out == read(STREAM)[0]
    assert reader.facts.done


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize(
    "stream",
    [
        STREAM,
        line(chunk("a")) + line({"error": {"message": "overloaded"}}) + line(chunk("b")),
        line(chunk("a")) + b"data: {broken\n\n" + line(chunk("b")),
        line(chunk("a", event={"type": "execute"})) + line(chunk("b")),
        line(chunk("a")).rstrip(),
        b'data: {"choices":\ndata: [{"delta":{"content":"two lines"}}]}\n\n',
        b"<html>not found</html>\n",
        b"",
    ],
    ids=["plain", "error", "broken", "event", "no end", "two lines", "html", "nothing"],
)
def test_every_cut_gives_the_same(stream: bytes, newline: bytes) -> None:
    stream = stream.replace(b"\n", newline)
    out, reader, error = read(stream)
    for cut in range(len(stream) + 1):
        again, again_reader, again_error = read(stream, cut)
        assert (again, again_reader.facts, str(again_error)) == (out, reader.facts, str(error)), cut
    again, again_reader, again_error = read(stream, *range(1, len(stream)))
    assert (again, again_reader.facts, str(again_error)) == (out, reader.facts, str(error))


@given(st.lists(st.integers(0, len(STREAM)), max_size=12).map(sorted))
def test_any_cuts_give_the_same(cuts: list[int]) -> None:
    assert read(STREAM, *cuts)[0] == read(STREAM)[0]


def test_complete_chunks_do_not_wait_for_the_next_read() -> None:
    reader = SseReader()
    assert chunks(reader.feed(line(chunk("a")) + b"data: {"))[0]["choices"]
    assert reader.feed(b'"choices"') == b""
    assert chunks(reader.feed(b": []}\n")) == [{"choices": []}]


def test_json_over_several_lines() -> None:
    text = json.dumps(chunk("a", event={"type": "execute"}), indent=2)
    stream = (
        b"".join(b"data: " + part.encode() + b"\n" for part in text.splitlines()) + b"\n" + line(chunk("b"))
    )
    assert chunks(read(stream)[0]) == [chunk("a"), chunk("b")]


# ---------------------------------------------------------------- events


EXECUTE = {"type": "execute", "data": {"code": "steal()"}}


@pytest.mark.parametrize(
    "payload",
    [
        json.dumps(chunk("a", event=EXECUTE)).encode(),
        json.dumps({"event": EXECUTE, **chunk("a")}).encode(),
        json.dumps(chunk("a", event=EXECUTE)).replace('"event"', '"\\u0065vent"').encode(),
        json.dumps(chunk("a", event=EXECUTE))
        .replace('"event"', '"\\u0065\\u0076\\u0065\\u006E\\u0074"')
        .encode(),
        json.dumps(chunk("a", event=None)).encode(),
        # Twice: the last one counts for a parser, none may come through.
        json.dumps(chunk("a", event=EXECUTE)).replace('{"id"', '{"event": 1, "id"').encode(),
    ],
)
def test_events_of_others_are_taken_out(payload: bytes) -> None:
    out = read(b"data: " + payload + b"\n\n")[0]
    assert chunks(out) == [chunk("a")]
    assert b"steal" not in out


def test_the_word_event_elsewhere_is_left_alone() -> None:
    odd = chunk('{"event": 1}', other={"event": EXECUTE}, Event=1)
    assert chunks(read(line(odd))[0]) == [odd]


@pytest.mark.parametrize(
    "payload",
    [
        json.dumps({"event": EXECUTE}).encode(),
        json.dumps({"event": EXECUTE, "choices": None}).encode(),
        json.dumps([{"event": EXECUTE, "choices": []}]).encode(),
        json.dumps({"event": EXECUTE, "choices": "x", "usage": {}}).encode(),
        b'"text"',
        b"5",
        b"null",
        b"",
    ],
)
def test_what_is_no_chunk_is_left_out(payload: bytes) -> None:
    out = read(line(chunk("a")) + b"data: " + payload + b"\n\n" + line(chunk("b")))[0]
    assert chunks(out) == [chunk("a"), chunk("b")]


def test_bare_lines_do_not_come_through() -> None:
    stream = b'{"event": {"type": "execute"}}\n' + b"hello\nevent: x\nretry: 5\n" + line(chunk("a"))
    assert chunks(read(stream)[0]) == [chunk("a")]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig", "latin-1"])
def test_only_utf_8_comes_through(encoding: str) -> None:
    payload = json.dumps(chunk("ü", event=EXECUTE), ensure_ascii=False).encode(encoding)
    out, _, error = read(b"data: " + payload + b"\n\n")
    assert out == b""
    assert isinstance(error, ProviderError)


def test_encoded_surrogates_do_not_come_through() -> None:
    payload = json.dumps(chunk("@")).encode().replace(b"@", b"\xed\xa0\x80")
    out, _, error = read(b"data: " + payload + b"\n\n")
    assert (out, type(error)) == (b"", BrokenChunk)


def test_deep_chunks_are_refused_not_raised() -> None:
    limit = sys.getrecursionlimit()
    for depth in range(limit - 250, limit + 20):
        deep = b'{"choices":[],"event":1,"deep":' + b"[" * depth + b"]" * depth + b"}"
        out, _, error = read(line(chunk("a")) + b"data: " + deep + b"\n\n")
        assert out.startswith(line(chunk("a")))
        assert (out == line(chunk("a"))) == (error is not None)
        assert b"event" not in out


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ({"message": "The model is overloaded", "code": 529}, "The model is overloaded"),
        ({"message": "<b>no</b>\x00\nmore"}, "‹b›no‹/b› more"),
        ({"code": 500}, "no reason given"),
        ("plain words", "plain words"),
        (["a"], "['a']"),
        (True, "True"),
    ],
)
def test_a_reported_error_ends_the_stream(error: Any, words: str) -> None:
    out, reader, caught = read(line(chunk("a")) + line({"error": error}) + line(chunk("b")))
    assert chunks(out) == [chunk("a")]
    assert isinstance(caught, BrokenChunk)
    assert caught.code == "provider_error"
    assert caught.retryable
    assert words in caught.message
    assert caught.hint
    assert reader.facts.started


@pytest.mark.parametrize("nothing", [None, {}, "", [], False])
def test_an_empty_error_is_none(nothing: Any) -> None:
    assert read(line(chunk("a", error=nothing)))[2] is None


@pytest.mark.parametrize("broken", [b"{", b"{'choices': []}", b"not json", b'{"choices": [}', b"\xff\xfe"])
def test_broken_json_ends_the_stream(broken: bytes) -> None:
    out, _, error = read(line(chunk("a")) + b"data: " + broken + b"\n\n" + line(chunk("b")))
    assert chunks(out) == [chunk("a")]
    assert error is not None
    assert error.code == "provider_not_json"
    assert error.detail == broken.decode("utf-8", "replace") + "\n"


def test_broken_json_at_the_very_end() -> None:
    out, _, error = read(line(chunk("a")) + b'data: {"choices": [')
    assert chunks(out) == [chunk("a")]
    assert isinstance(error, BrokenChunk)


def test_broken_json_before_done() -> None:
    out, _, error = read(line(chunk("a")) + b"data: {\ndata: [DONE]\n\n")
    assert chunks(out) == [chunk("a")]
    assert isinstance(error, BrokenChunk)


@pytest.mark.parametrize(
    ("stream", "detail"),
    [
        (b"<html><body>502 Bad Gateway</body></html>\n", "<html><body>502 Bad Gateway</body></html>"),
        (b"x" * 500, "x" * 80),
        (b"\n\n: ping\n\n", "an empty answer"),
        (b"", "an empty answer"),
        (line({"object": "list", "data": []}), "an empty answer"),
        (b'{"detail": "Not Found"}', '{"detail": "Not Found"}'),
    ],
)
def test_no_event_stream_at_all(stream: bytes, detail: str) -> None:
    out, reader, error = read(stream)
    assert (out, reader.facts.started) == (b"", False)
    assert error is not None
    assert error.code == "provider_not_json"
    assert error.detail == detail
    assert "/v1" in error.hint


def test_done_alone_is_an_empty_answer_and_no_error() -> None:
    out, reader, error = read(b"data: [DONE]\n\n")
    assert (out, error, reader.facts.done) == (b"", None, True)


def test_what_follows_done_is_ignored() -> None:
    stream = (
        line(chunk("a"))
        + b"data: [DONE]\n\n"
        + line(chunk("b"))
        + b"data: {broken\n\n"
        + line({"error": "x"})
    )
    out, _, error = read(stream)
    assert (chunks(out), error) == ([chunk("a")], None)


def test_lines_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_LINE", 1000)
    reader = SseReader()
    assert reader.feed(b"data: " + b"x" * 900) == b""
    with pytest.raises(ProviderError) as caught:
        reader.feed(b"x" * 200)
    assert caught.value.code == "provider_not_json"


def test_json_over_endless_lines_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_PARTIAL", 1000)
    with pytest.raises(BrokenChunk) as caught:
        SseReader().feed(line(chunk("a")) + b"data: [\n" * 2000)
    assert chunks(caught.value.partial) == [chunk("a")]


# ---------------------------------------------------------------- facts


def test_the_last_finish_reason_and_usage_count() -> None:
    stream = b"".join(
        line(item)
        for item in [
            {"choices": [{"finish_reason": None}], "usage": None},
            {"choices": [{"finish_reason": "tool_calls"}], "usage": {"total_tokens": 1}},
            {"choices": [{"finish_reason": 5}], "usage": "many"},
            {"choices": ["x"], "usage": {"total_tokens": 2}},
        ]
    )
    facts = read(stream)[1].facts
    assert (facts.finish_reason, facts.usage, facts.done) == ("tool_calls", {"total_tokens": 2}, False)


# ---------------------------------------------------------------- any bytes

FRAGMENTS = st.sampled_from(
    [
        b"data:",
        b"data: ",
        b"event: x",
        b": c",
        b"\n",
        b"\n\n",
        b"\r\n",
        b"\r",
        b"[DONE]",
        b'{"choices":[],"event":{"type":"execute"}}',
        b'{"choices":[],"\\u0065vent":1}',
        b'{"choices":[{"delta":{"content":"\xc3\xbc"},"finish_reason":"stop"}]}',
        b'{"error":{"message":"x"}}',
        b"{",
        b"}",
        b'"',
        b"[",
        b"]",
        b"\xc3",
        b"\x00",
        b"\xef\xbb\xbf",
        b"NaN",
        b"\x0b",
        b"\x85",
        b"\xe2\x80\xa8",
    ]
)
STREAMS = st.binary(max_size=200) | st.lists(FRAGMENTS | st.binary(max_size=3), max_size=25).map(b"".join)


@given(STREAMS, st.data())
def test_any_bytes(stream: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    out, reader, error = read(stream, *cuts)
    for item in chunks(out):
        assert "event" not in item
        assert isinstance(item["choices"], list)
    assert reader.facts.started or reader.facts.done or error is not None
    whole, _, _ = read(stream)
    assert out == whole


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["event", "choices", "error", "usage", "x"]), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(st.lists(JSON, max_size=5), st.booleans())
def test_any_json(items: list[Any], ascii_only: bool) -> None:
    stream = b"".join(
        b"data: " + json.dumps(item, ensure_ascii=ascii_only).encode("utf-8", "replace") + b"\n\n"
        for item in items
    )
    out, _, error = read(stream)
    passed = []
    for item in json.loads(json.dumps(items)):
        if isinstance(item, dict) and item.get("error"):
            break
        if isinstance(item, dict) and isinstance(item.get("choices"), list):
            passed.append({key: value for key, value in item.items() if key != "event"})
    else:
        assert error is None or not passed
    assert len(chunks(out)) == len(passed)
    if ascii_only:
        assert chunks(out) == passed


# ---------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("plain", "plain"),
        (None, "no reason given"),
        ("", "no reason given"),
        ("a\n\n b\tc", "a b c"),
        ("<script>x</script>", "‹script›x‹/script›"),
        ("a\x00\x1b[31mb\u202e", "a[31mb"),
        (5, "5"),
        ({"a": 1}, "{'a': 1}"),
        # Keys are taken out, words are not.
        ("Incorrect API key provided: sk-proj-abc***xyz.", "Incorrect API key provided: [key]"),
        ("bad one: sk-0123456789", "bad one: [key]"),
        ("header Bearer abc123def456 refused", "header [key] refused"),
        ("api key=0123456789 refused", "api [key] refused"),
        ("No API key required, keyboard monkey", "No API key required, keyboard monkey"),
    ],
)
def test_readable(text: Any, words: str) -> None:
    assert readable(text) == words


def test_readable_is_short() -> None:
    assert readable("x" * 300) == "x" * 300
    assert readable("x" * 301) == "x" * 299 + "…"
    assert readable("x" * 50, 10) == "x" * 9 + "…"
    # A key at the border is not left half.
    assert "sk-" not in readable("x" * 290 + " sk-0123456789abcdef")


def test_a_key_in_a_reported_error_is_taken_out() -> None:
    error = reported({"message": "Incorrect API key provided: sk-0123456789abcdef"})
    assert "sk-" not in str(error)
    assert "[key]" in str(error)
