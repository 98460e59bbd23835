"""The table that came with a request: in the user's words, or in a file that Open WebUI put before them."""

from __future__ import annotations

import csv
import json
import math
import re
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from agent_mode.tools.results import text_of

if TYPE_CHECKING:  # a server that lacks packages has to be able to load the files that import this
    from agent_mode.agents.handles import TurnView

Rows = list[dict[str, Any]]

_BLOCK = re.compile(r"```\w*\n(.*?)```", re.DOTALL)
_FIRST = re.compile(r"\[\s*\{")
_LAST = re.compile(r"\}\s*\]")
# The template around it speaks of `<source id="1">` too; that one is not closed.
_SOURCE = re.compile(r'<source id="\d+"[^<>\n]*>((?:(?!<source ).)*?)</source>', re.DOTALL)


def table_of(turn: TurnView) -> Rows:
    """The rows of a request's table, in which a column of nothing but numbers holds `float`s.

    It is looked for in the user's words, as CSV or as a JSON list of objects, in a code block or not; else in
    an attached file that Open WebUI hands on whole. Empty: there is none that has a column of numbers.
    """
    for rows in (_in_words(turn.text), _attached(turn.messages)):
        columns = {name: numbers for name in rows[0] if (numbers := _numbers(rows, name))} if rows else {}
        if columns:
            return [
                {**row, **{name: numbers[index] for name, numbers in columns.items()}}
                for index, row in enumerate(rows)
            ]
    return []


def _in_words(text: str) -> Rows:
    if block := _BLOCK.search(text):
        text = block[1]
    if found := _list_in(text):
        return _objects(found)
    lines = [line for line in text.splitlines() if "," in line or ";" in line]
    return list(csv.DictReader(lines, delimiter=";" if lines and ";" in lines[0] else ","))


def _list_in(text: str) -> str:
    """From the first `[{` to the last `}]`; empty without them."""
    first, last = _FIRST.search(text), deque(_LAST.finditer(text), maxlen=1)
    return text[first.start() : last[0].end()] if first and last else ""


def _objects(text: str) -> Rows:
    try:
        return [row for row in json.loads(text) if isinstance(row, dict)]
    except (ValueError, RecursionError):
        return []


def _attached(messages: Iterable[dict[str, Any]]) -> Rows:
    """The rows of the one file before the last words.

    Several parts are passages that Open WebUI looked up: a table of them would lack rows.
    """
    asked = [message for message in messages if message["role"] == "user"]
    parts = _SOURCE.findall(text_of(asked[-1].get("content"))) if asked else []
    if len(parts) != 1:
        return []
    whole = parts[0].strip()
    return _objects(whole) if _list_in(whole) == whole else _records(parts[0])


def _records(text: str) -> Rows:
    """The rows of a CSV file as Open WebUI writes them: `city: A\\npeople: 1 city: B\\npeople: 3`.

    A single one may be a passage of a longer table, and is none.
    """
    key = text.partition(": ")[0]
    rows: Rows = [{}]
    for line in text.split("\n"):
        name, _, value = line.partition(": ")
        rows[-1][name], *others = value.split(f" {key}: ")
        rows += ({key: other} for other in others)
    alike = all(row.keys() == rows[0].keys() for row in rows)
    return rows if alike and len(rows) > 1 else []


def _numbers(rows: Rows, name: str) -> list[float] | None:
    """The column as numbers; None if it holds anything else."""
    try:
        numbers = [float(row[name]) for row in rows]
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return numbers if all(map(math.isfinite, numbers)) else None
