"""The shipped personas: complete, of one shape, and each worth having."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from agent_mode.settings import ROOT
from agent_mode.store.exchange import read_catalogue
from agent_mode.store.personas import PersonaForm

PATHS = sorted((ROOT / "personas").glob("*.json"))
FIELDS = {"key", "name", "emoji", "category", "description", "capabilities", "tags", "model", "prompt"}
CATEGORIES = {"software", "writing", "teaching", "science", "data", "business", "creative", "everyday"}
HEADINGS = ["## How you work", "## How you answer", "## What you ask", "## What you decline"]
WELL_KNOWN = {"coder", "writer", "teacher", "scientist", "analyst", "artist", "reviewer", "desk_researcher"}
WELL_KNOWN |= {"translator", "tutor", "editor", "debugger"}


def load(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def doubles(field: str) -> list[str]:
    return [value for value, times in Counter(load(path)[field] for path in PATHS).items() if times > 1]


def test_there_are_enough() -> None:
    assert len(PATHS) >= 60
    assert {path.stem for path in PATHS} >= WELL_KNOWN
    assert {load(path)["category"] for path in PATHS} == CATEGORIES


@pytest.mark.parametrize("field", ["key", "name", "description", "prompt"])
def test_no_two_are_alike(field: str) -> None:
    assert doubles(field) == []


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_persona(path: Path) -> None:
    data = load(path)
    assert set(data) == FIELDS
    form = PersonaForm.model_validate(data)
    assert form.key == path.stem
    assert form.category in CATEGORIES
    assert form.emoji
    assert form.description
    assert form.capabilities
    assert form.tags
    assert 900 <= len(form.prompt) <= 2200
    assert re.findall(r"^## .*$", form.prompt, flags=re.MULTILINE) == HEADINGS
    # As it is written is as it is kept, or the file would differ from its own export.
    assert form.model_dump(mode="json", exclude={"enabled", "extras"}) == data


async def test_the_reader_takes_them_all() -> None:
    forms, errors = await read_catalogue(ROOT / "personas")
    assert errors == []
    assert [form.key for form in forms] == [path.stem for path in PATHS]
