"""A provider's failure: one readable sentence, the cure, and no secret."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_mode.errors import ProviderError
from agent_mode.llm import failures
from agent_mode.llm.connection import Connection

KEY = "very-secret-key-value"
CONNECTION = Connection("openai", "https://llm.example/v1", KEY, connect_timeout=7, read_timeout=42)


def said(message: Any) -> bytes:
    return json.dumps({"error": {"message": message}}).encode()


def from_status(status: int, body: bytes = b"", retry_after: str | None = None) -> ProviderError:
    return failures.from_status(status, body, CONNECTION, "gpt-9", retry_after)


@pytest.mark.parametrize(
    ("status", "code", "answer", "retryable", "cure"),
    [
        (400, "provider_refused", 400, False, "different model"),
        (401, "provider_auth", 502, False, "llm_api_key"),
        (403, "provider_auth", 502, False, "OPENAI_API_KEY"),
        (404, "provider_model", 502, False, "llm_model"),
        (413, "provider_refused", 400, False, "different model"),
        (418, "provider_refused", 400, False, "different model"),
        (429, "provider_rate_limit", 429, True, "Wait a moment"),
        (500, "provider_unavailable", 502, True, "Try again"),
        (503, "provider_unavailable", 502, True, "status page"),
        (529, "provider_unavailable", 502, True, "status page"),
    ],
)
def test_statuses(status: int, code: str, answer: int, retryable: bool, cure: str) -> None:
    error = from_status(status, said("Something is wrong."))
    assert (error.code, error.status, error.retryable) == (code, answer, retryable)
    assert str(status) in error.message
    assert error.message.endswith("It says: Something is wrong.")
    assert cure in error.hint


@pytest.mark.parametrize("words", ["The engine is overloaded", "The engine is overloaded."])
def test_quoted_words_end_before_the_cure(words: str) -> None:
    assert "It says: The engine is overloaded. Try again" in str(from_status(503, said(words)))


def test_the_unknown_model_is_named() -> None:
    assert "“gpt-9”" in from_status(404).message


@pytest.mark.parametrize(
    ("header", "hint"),
    [
        ("20", "Try again in 20 seconds."),
        (" 20 ", "Try again in 20 seconds."),
        ("0", "Try again in 0 seconds."),
    ],
)
def test_retry_after(header: str, hint: str) -> None:
    assert from_status(429, retry_after=header).hint == hint


@pytest.mark.parametrize(
    "header", [None, "", "soon", "Wed, 21 Oct 2026 07:28:00 GMT", "<b>5</b>", "9" * 50, "-5"]
)
def test_retry_after_that_is_no_number(header: str | None) -> None:
    assert from_status(429, retry_after=header).hint.startswith("Wait a moment")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", ""),
        (b"plain words", "plain words"),
        (b'{"error": "words"}', "words"),
        (b'{"detail": "words"}', "words"),
        (b'{"message": "words"}', "words"),
        (b'{"error": {"code": 5}}', ""),
        (b'{"error": null}', ""),
        (b'{"detail": [{"msg": "words"}]}', "words"),
        (b"[1, 2]", ""),
        (b"5", ""),
        (b"<html><body>502 Bad Gateway</body></html>", ""),
        (b"  <!DOCTYPE html>", ""),
        (b'{"error": {"message": "cut o', "cut o"),
        (b"\xff\xfe\x00", ""),
        (b"[" * 5000, "[[["),
        (said("<script>alert(1)</script>"), "‹script›alert(1)‹/script›"),
        (said("two\nlines\x00\x1b[0m"), "two lines[0m"),
        (said("x" * 5000), "x" * 299 + "…"),
    ],
)
def test_what_the_provider_says_is_quoted(body: bytes, words: str) -> None:
    message = from_status(400, body).message
    assert words in message
    assert ("It says" in message) == bool(words) or body.startswith(b"\xff")
    assert "\n" not in message
    assert "<" not in message


@pytest.mark.parametrize(
    "text",
    [
        f"Incorrect API key provided: {KEY}.",
        "Incorrect API key provided: sk-proj-0123456789abcdef.",
        "Incorrect API key provided: sk-proj-***cdef.",
        "Authorization: Bearer abc.123.def was refused",
        # At the border where the message is cut.
        "x" * 290 + f" {KEY}",
        "x" * 290 + " sk-0123456789abcdef",
    ],
)
@pytest.mark.parametrize("as_json", [True, False])
def test_keys_are_taken_out(text: str, as_json: bool) -> None:
    for status in (400, 401, 429, 500):
        error = from_status(status, said(text) if as_json else text.encode())
        shown = json.dumps(error.report())
        for part in ("very-secret", "sk-", "0123456789", "abc.123"):
            assert part not in shown


def test_a_stream_s_error_loses_the_key_too() -> None:
    error = ProviderError(f"It says: bad {KEY}").with_detail(f"log {KEY}")
    clean = failures.without_key(error, CONNECTION)
    assert KEY not in str(clean)
    assert KEY not in clean.detail
    assert "[key]" in str(clean)
    no_key = Connection("openai", "https://llm.example/v1")
    assert failures.without_key(ProviderError("words"), no_key).message == "words"


@given(st.integers(400, 599), st.binary(max_size=300), st.text(max_size=30) | st.none(), st.text(max_size=90))
def test_any_answer_is_one_readable_sentence(
    status: int, body: bytes, retry_after: str | None, model: str
) -> None:
    error = failures.from_status(status, body, CONNECTION, model, retry_after)
    assert error.hint
    for text in (error.message, error.hint):
        assert text.isprintable()
        assert "<" not in text
        assert len(text) < 500


def test_unreachable() -> None:
    error = failures.unreachable(CONNECTION, "[Errno 111] Connect call failed\n<b>")
    assert "https://llm.example/v1" in error.message
    assert "Connect call failed ‹b›" in error.message
    assert (error.code, error.retryable) == ("provider_unreachable", True)
    assert "base URL" in error.hint


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://bob:hunter2@llm.example:8443/v1", "https://llm.example:8443/v1"),
        ("https://llm.example/v1?api-key=hunter2", "https://llm.example/v1"),
        ("https://llm.example/v1#hunter2", "https://llm.example/v1"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1"),
    ],
)
def test_an_address_is_shown_without_what_may_be_a_key(url: str, shown: str) -> None:
    message = failures.unreachable(Connection("openai", url), "refused").message
    assert f"at {shown} cannot" in message
    assert "hunter2" not in message


def test_timeouts_say_how_long() -> None:
    connecting = failures.timed_out(
        CONNECTION, TimeoutError("Connection timeout to host https://llm.example")
    )
    assert connecting.code == "provider_unreachable"
    assert "7 seconds" in connecting.message
    reading = failures.timed_out(CONNECTION, TimeoutError("Timeout on reading data from socket"))
    assert (reading.code, reading.status, reading.retryable) == ("provider_timeout", 504, True)
    assert "42 seconds" in reading.message
    assert "read_timeout" in reading.hint


def test_broken_stream() -> None:
    error = failures.broken_stream("ClientPayloadError('x')")
    assert (error.code, error.retryable) == ("provider_broken_stream", True)
    assert "ClientPayloadError" not in str(error)
    assert error.detail == "ClientPayloadError('x')"


def test_recursion() -> None:
    error = failures.leads_back("personas.<b>coder")
    assert (error.code, error.retryable) == ("provider_recursion", False)
    assert "personas.‹b›coder" in error.message
    assert "llm_model" in error.hint
