"""Prompt lists as CSV, with the columns `act` and `prompt` (awesome-chatgpt-prompts). Import only."""

from __future__ import annotations

import csv
from io import StringIO

from agent_mode.errors import CatalogueError
from agent_mode.store.formats.entries import ENTRY_LIMIT, Draft, Entry, check_count, entry
from agent_mode.store.formats.jsonfile import decode
from agent_mode.store.formats.keys import Keys

NAME = "prompts-csv"

_ROWS = 10 * ENTRY_LIMIT
_COLUMNS = ("act", "prompt")


def recognises(text: str) -> bool:
    head = text[:10_000].splitlines()[:1]
    return bool(head) and set(_COLUMNS) <= set(_names(head[0]))


def read(data: bytes, filename: str) -> list[Entry]:
    """The rows of a list; further columns are kept."""
    text = decode(data)
    rows = csv.reader(StringIO(text, newline=""), delimiter=_delimiter(text.split("\n", 1)[0]))
    try:
        names = [name.strip() for name in next(rows, [])]
        places = _places(names)
        keys = Keys()
        entries: list[Entry] = []
        for number, row in enumerate(rows):
            if number > _ROWS:  # empty ones count nowhere else
                raise CatalogueError("The file holds too many lines.", hint="Remove the empty ones.")
            if any(cell.strip() for cell in row):
                entries.append(_entry(names, places, row, f"line {rows.line_num}", keys))
                check_count(len(entries))
    except csv.Error as error:
        raise CatalogueError(
            f"Line {rows.line_num} is not valid CSV: {error}.", hint="Check its quotation marks."
        ) from error
    return entries


def _places(names: list[str]) -> dict[str, int]:
    found = {name.lower(): place for place, name in reversed(list(enumerate(names)))}
    for name in _COLUMNS:
        if name not in found:
            raise CatalogueError(
                f"The first line names no column '{name}'.",
                hint="Its columns must be called act and prompt.",
                field=name,
            )
    return found


def _entry(names: list[str], places: dict[str, int], row: list[str], place: str, keys: Keys) -> Entry:
    cells = dict(zip(names, row, strict=False))
    act, prompt = (row[places[name]].strip() if places[name] < len(row) else "" for name in _COLUMNS)

    def parse() -> Draft:
        if not prompt:
            raise CatalogueError("prompt: is empty.", hint="Write one in this row.", field="prompt")
        return Draft(name=act, prompt=prompt, extras={NAME: cells})

    return entry(act or place, keys, parse)


def _names(line: str) -> list[str]:
    return [name.strip().strip('"').lower() for name in line.split(_delimiter(line))]


def _delimiter(line: str) -> str:
    # Excel writes semicolons where the comma is the decimal sign.
    return next((mark for mark in ",;\t" if mark in line), ",")
