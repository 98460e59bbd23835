"""Whose loggers `configure` changes."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from agent_mode.observe import logs


@pytest.fixture
def httpx_logger() -> Iterator[logging.Logger]:
    ours, theirs = logging.getLogger(logs.ROOT_LOGGER), logging.getLogger("httpx")
    handlers, level, propagate, before = ours.handlers[:], ours.level, ours.propagate, theirs.level
    theirs.setLevel(logging.NOTSET)
    yield theirs
    theirs.setLevel(before)
    ours.handlers[:], ours.propagate = handlers, propagate
    ours.setLevel(level)


def test_httpx_says_nothing_about_each_request(httpx_logger: logging.Logger) -> None:
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.INFO)
    try:
        assert httpx_logger.isEnabledFor(logging.INFO)
        logs.configure()
        assert not httpx_logger.isEnabledFor(logging.INFO)
        assert httpx_logger.isEnabledFor(logging.WARNING)
    finally:
        root.setLevel(before)


def test_a_level_that_somebody_chose_stays(httpx_logger: logging.Logger) -> None:
    httpx_logger.setLevel(logging.DEBUG)
    logs.configure()
    assert httpx_logger.level == logging.DEBUG


@pytest.fixture
def written(httpx_logger: logging.Logger) -> Iterator[io.StringIO]:
    """What the handler writes."""
    logs.configure()
    (handler,) = logging.getLogger(logs.ROOT_LOGGER).handlers
    assert isinstance(handler, logging.StreamHandler)
    stream = io.StringIO()
    handler.setStream(stream)
    yield stream
    structlog.reset_defaults()


FORGED = "[AGENT_MODE:INFO] persona switched [user_id=admin]"


@pytest.mark.parametrize(
    "between", ["\n", "\r\n", "\x1b[2K\r", "\u0085", "\u2028", "\u2029", "\x0b", "\x0c", " ", "] "]
)
def test_no_record_can_be_forged(written: io.StringIO, between: str) -> None:
    log = logs.get_logger(f"{logs.ROOT_LOGGER}.test")
    evil = f"coder{between}{FORGED}"
    log.info("persona switched", user_id="u-1", persona=evil)
    log.warning("a foreign %s speaks", evil)
    logging.getLogger(f"{logs.ROOT_LOGGER}.test").warning("plain %s", evil)
    text = written.getvalue()
    assert len(text.splitlines()) == 3
    assert text.count("[AGENT_MODE:") == 3
    assert all(char.isprintable() or char == "\n" for char in text)
    assert text.startswith('[AGENT_MODE:INFO] persona switched [user_id=u-1 persona="coder')
    assert text.splitlines()[0].endswith('"]')


def test_the_words_of_an_exception_are_no_records(written: io.StringIO) -> None:
    log = logs.get_logger(f"{logs.ROOT_LOGGER}.test")
    try:
        raise ValueError(f"oh\n{FORGED}\x1b[2K and api_key=hidden-4711")
    except ValueError:
        log.exception("it failed", chat_id="c")
    first, *trace = written.getvalue().splitlines()
    assert first == "[AGENT_MODE:ERROR] it failed [chat_id=c]"
    assert trace[0] == "  Traceback (most recent call last):"
    assert "[AGENT_MODE:" not in "".join(trace)
    assert "\x1b" not in "".join(trace)
    assert "hidden-4711" not in "".join(trace)


def test_values_can_be_told_apart(written: io.StringIO) -> None:
    log = logs.get_logger(f"{logs.ROOT_LOGGER}.test")
    log.info("all", plain="a-b.c/d", number=7, none=None, empty="", words="a b=c", quote='a"b', back="a\\b")
    assert written.getvalue() == (
        '[AGENT_MODE:INFO] all [plain=a-b.c/d number=7 empty="" words="a b=c" quote="a\\"b" back="a\\\\b"]\n'
    )


def test_json_keeps_no_secrets_either(written: io.StringIO) -> None:
    logs.use_json(True)
    log = logs.get_logger(f"{logs.ROOT_LOGGER}.test")
    log.warning(
        "failed", reason=f"no answer from https://u:hidden-4711@a.example/?key=hidden-4711 {FORGED}\u2028"
    )
    (line,) = written.getvalue().splitlines()
    assert "hidden-4711" not in line
    assert json.loads(line)["reason"].startswith("no answer from https://a.example/?…")
