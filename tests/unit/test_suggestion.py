"""When another persona is offered: with a clear lead only, and never too slowly."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_mode.chat.commands import Grammar
from agent_mode.chat.suggestion import better_suited, tip, without_tip
from agent_mode.chat.transcript import strip_commands
from agent_mode.settings import ROOT
from agent_mode.store.personas import Persona
from tests.unit.test_console import persona


def shipped() -> list[Persona]:
    found = []
    for path in sorted((ROOT / "personas").glob("*.json")):
        entry = json.loads(path.read_text(encoding="utf-8"))
        values: dict[str, Any] = {name: entry[name] for name in ("name", "description", "category")}
        lists = {name: tuple(entry[name]) for name in ("capabilities", "tags")}
        found.append(replace(persona(entry["key"]), **values, **lists))
    return found


EVERYONE = shipped()


def suggested(question: str, current: str = "coder") -> str | None:
    found = better_suited(question, EVERYONE, current)
    return found.key if found else None


@pytest.mark.parametrize(
    ("question", "key"),
    [
        ("Why does my SQL query with two joins return duplicate rows in the database?", "sql_expert"),
        ("Explain the execution plan of this SQL", "sql_expert"),
        ("Write a haiku, a short verse about autumn", "poet"),
        ("Which vegetables can I plant in my garden in spring?", "gardener"),
        ("Plan a five day travel itinerary for our holidays in Italy", "travel_planner"),
        ("Write me an Excel formula to sum a table of sheets", "spreadsheet"),
        ("I need a recipe for dinner, what food is good to cook?", "chef"),
        ("What contracts and rights do I have under tenancy law?", "legal_explainer"),
        ("Review this pull request for code quality", "reviewer"),
        ("Draft a wedding speech, a toast for my brother", "speechwriter"),
        ("How do I train a machine learning model?", "ml_engineer"),
        ("The stack trace shows errors in the logs; where is the root cause?", "debugger"),
        ("My Kubernetes deployment crashes, how do I configure the containers?", "devops"),
        ("HOW MUCH MONEY SHOULD I SAVE? MAKE A BUDGET!", "budget_planner"),
    ],
)
def test_who_clearly_knows_more_is_offered(question: str, key: str) -> None:
    assert suggested(question) == key


@pytest.mark.parametrize(
    ("question", "current"),
    [
        ("hello", "coder"),
        ("thanks, that works", "coder"),
        ("", "coder"),
        ("!!! ??? 123 \n\t", "coder"),
        ("What is the weather in Paris?", "coder"),  # one word is not enough
        ("How do I parse music files in Python?", "coder"),
        ("Write a function that parses a CSV file", "coder"),
        ("What is the best plan for my project?", "coder"),
        ("Describe the history of Rome", "coder"),
        ("Is there a god?", "coder"),
        # The one who answers knows about it too.
        ("Refactor this code so that the SQL query is built safely", "coder"),
        ("Speed up this SQL query", "sql_expert"),
        ("I need a recipe for dinner with cooking times", "chef"),
        # Two know as much.
        ("Solve this calculus problem and show the algebra", "teacher"),
        ("In this story a physicist and a chef open a restaurant.", "coder"),
        # Personas speak English; of other languages nothing is known.
        ("Warum liefert meine Abfrage doppelte Zeilen?", "coder"),
        ("なぜ重複行が返されるのですか", "coder"),
    ],
)
def test_in_doubt_nobody_is_offered(question: str, current: str) -> None:
    assert suggested(question, current) is None


def test_what_a_question_is_about_stands_at_its_start() -> None:
    pasted = "x " * 400 + "SQL query database"

    assert suggested(f"Look at this: {pasted}") is None


def test_without_anybody_nobody_is_offered() -> None:
    assert better_suited("SQL database query", [], "coder") is None
    alone = next(p for p in EVERYONE if p.key == "coder")
    assert better_suited("SQL database query", [alone], "coder") is None


@given(st.text(max_size=2_000))
def test_any_text_is_a_question(text: str) -> None:
    suggested(text)


# The line


ANSWER = "Use a join.\n\n> A quotation."


def test_the_line_is_one_line() -> None:
    line = tip("sql_expert", "!")

    assert line.strip() == "> 💡 Tip: `!sql_expert` knows more about this."
    assert without_tip(ANSWER + line) == without_tip(ANSWER + line + "\n") == without_tip(ANSWER) == ANSWER


@pytest.mark.parametrize(
    "said",
    [
        "He knows more about this.",
        "Look: > 💡 Tip: `x` knows more about this.",
        "> 💡 Tip: `x` knows more about this. But I do not.",
        "",
        "> 💡 Tip",
        "Hm.\n",
    ],
)
def test_other_words_stay(said: str) -> None:
    assert without_tip(said) == said


def test_it_is_found_in_an_answer_that_went_on_and_in_a_prompt() -> None:
    line = tip("sql_expert", "!")

    assert without_tip(f"One.{line}\nTwo.{line}\n") == "One.\nTwo."
    assert (
        without_tip(f"USER: Hi\nASSISTANT: One.{line}\nUSER: So?") == "USER: Hi\nASSISTANT: One.\nUSER: So?"
    )


def test_the_model_does_not_see_it_later() -> None:
    answer = {"role": "assistant", "content": ANSWER + tip("sql_expert", "!")}
    messages = [{"role": "user", "content": "Hi"}, answer, {"role": "user", "content": "More"}]

    clean = strip_commands(messages, Grammar(frozenset({"coder"})))

    assert [message["content"] for message in clean] == ["Hi", ANSWER, "More"]
    assert answer["content"].endswith("this.")
