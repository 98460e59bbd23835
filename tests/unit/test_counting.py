"""Numbers with their nouns, in every message that holds one."""

from __future__ import annotations

import re

import pytest

from agent_mode.admin.pages.components import words
from agent_mode.agents.budget import Budget
from agent_mode.counting import counted
from agent_mode.errors import LimitError
from agent_mode.llm import failures
from agent_mode.llm.connection import Connection
from agent_mode.sandbox import endings
from agent_mode.sandbox.items import Limits
from agent_mode.settings import ROOT
from agent_mode.valves import AgentValves

ODD = re.compile(
    r"\{[^{}]+\} (?:seconds|steps|tool calls|LLM calls|characters|personas|messages|models|tools|items|"
    r"entries|agents|strategies|tokens|turns|users)\b"
)
"""A number that is put before several of something, whether it is one or not."""
ALWAYS_MANY = {"ENTRY_LIMIT", "MAX_MESSAGES", "SECRET_LENGTH", "whole:,", "found.personas:>5"}
"""Constants, and a column under a head."""


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 seconds"), (1, "1 second"), (1.0, "1 second"), (0.5, "0.5 seconds"), (2, "2 seconds")],
)
def test_one_is_not_several(number: float, text: str) -> None:
    assert counted(number, "second") == text


def test_nouns_of_their_own_and_large_numbers() -> None:
    assert (counted(1, "entry", "entries"), counted(2, "entry", "entries")) == ("1 entry", "2 entries")
    assert counted(1_000_000, "token") == "1000000 tokens"
    assert (words.counted(1, "turn"), words.counted(1200, "turn")) == ("1 turn", "1\u202f200 turns")


def test_limits_of_one(connection: Connection) -> None:
    valves = AgentValves.model_validate({"max_steps": 1, "max_tool_calls": 1, "max_seconds": 1})
    budget = Budget(valves)
    budget.step()
    budget.tool_call()
    with pytest.raises(LimitError, match=r"limit of 1 LLM call\."):
        budget.step()
    with pytest.raises(LimitError, match=r"limit of 1 tool call\."):
        budget.tool_call()
    assert "limit of 1 second." in budget.out_of_time().message
    assert "for 1 second." in failures.timed_out(connection, TimeoutError()).message
    assert "longer than 1 second." in endings.out_of_time(Limits(seconds=1), "").message


@pytest.fixture
def connection() -> Connection:
    return Connection("openai", "http://127.0.0.1:1", "", "m", connect_timeout=1, read_timeout=1)


def test_no_message_counts_by_itself() -> None:
    found = [
        f"{path.name}: {match[0]}"
        for path in sorted((ROOT / "agent_mode").rglob("*.py"))
        for match in ODD.finditer(path.read_text(encoding="utf-8"))
        if not any(name in match[0] for name in ALWAYS_MANY)
    ]
    assert not found
