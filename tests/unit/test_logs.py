"""Whose loggers `configure` changes."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

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
