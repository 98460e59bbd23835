"""Agents of the store as parts and specs, secrets behind masks, and upstream's tables with ours in them."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_mode.agents import stored
from agent_mode.agents.types import get_type
from agent_mode.server import upstream
from agent_mode.valves import AgentValves, mask

KIND = get_type("persona")


def values(**changes: Any) -> dict[str, Any]:
    return {"agent_type": "persona", "definition": {"instructions": "Be brief."}, "valves": {}} | changes


def test_what_is_stored_is_read_leniently_and_what_is_new_strictly() -> None:
    old = values(valves={"valve_of_an_older_version": 1, "max_steps": "many"})
    parts, found = stored.read(old, allow_code=False, strict=False)
    assert parts is not None
    assert (found, parts.valves.max_steps) == ([], 20)
    parts, found = stored.read(old, allow_code=False)
    assert parts is None
    assert {problem.field for problem in found} == {"valves.valve_of_an_older_version", "valves.max_steps"}


@pytest.mark.parametrize("odd", [None, 7, "x", [], {"a": 1}])
@pytest.mark.parametrize("field", ["agent_type", "definition", "valves"])
def test_nothing_makes_it_raise(field: str, odd: Any) -> None:
    stored.read(values(**{field: odd}), allow_code=False)


def test_kept_valves_are_those_that_differ() -> None:
    valves = AgentValves.model_validate({"max_steps": "20", "llm_model": "m", "access": "everyone"})
    assert stored.kept_valves(valves) == {"llm_model": "m"}


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
def test_a_mask_never_brings_a_strangers_secret(mine: str, theirs: str) -> None:
    AgentValves.model_validate({"llm_api_key": theirs})
    meant = stored.unmasked(KIND, {"llm_api_key": mask(theirs)}, {"llm_api_key": mine})
    assert meant["llm_api_key"] == (mine if mask(mine).strip() == mask(theirs).strip() else None)
    assert stored.unmasked(KIND, {"llm_api_key": mask(theirs)}, {})["llm_api_key"] is None


def test_of_a_type_that_nobody_knows_every_text_may_be_a_secret() -> None:
    shown = stored.masked("gone", {"token": "0123456789abcdef", "number": 7})
    assert shown == {"token": "********cdef", "number": 7}


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Upstream's module with one loaded pipeline."""
    module = ModuleType("main")
    vars(module).update(
        PIPELINE_MODULES={"file": "F"}, PIPELINE_NAMES={"file": "file"}, app=None, API_KEY="k"
    )
    monkeypatch.setitem(sys.modules, "main", module)
    return module


def test_what_is_kept_outlasts_a_reload(main: ModuleType) -> None:
    loop = iter(main.PIPELINE_MODULES.values())
    upstream.keep("kept", "K")
    assert list(loop) == ["F"]  # a loop that went on meanwhile is not disturbed
    loop = iter(main.PIPELINE_MODULES.items())
    main.PIPELINE_MODULES.clear()
    main.PIPELINE_NAMES.clear()
    assert list(loop) == [("file", "F"), ("kept", "K")]
    assert (dict(main.PIPELINE_MODULES.items()), list(main.PIPELINE_NAMES)) == ({"kept": "K"}, ["kept"])
    upstream.discard("kept")
    assert not main.PIPELINE_MODULES
    assert not main.PIPELINE_NAMES


def test_a_file_goes_before_what_is_kept_and_gives_it_back(main: ModuleType) -> None:
    upstream.keep("file", "K")
    assert (main.PIPELINE_MODULES["file"], upstream.is_loaded("file")) == ("F", True)
    upstream.keep("file", "K2")
    main.PIPELINE_MODULES.clear()
    assert (main.PIPELINE_MODULES["file"], upstream.is_loaded("file")) == ("K2", False)
    main.PIPELINE_MODULES["file"] = "F2"
    upstream.discard("file")
    assert main.PIPELINE_MODULES["file"] == "F2"


def test_in_the_end_upstream_has_tables_of_its_own_kind(main: ModuleType) -> None:
    upstream.keep("kept", "K")
    upstream.discard_all()
    assert type(main.PIPELINE_MODULES) is type(main.PIPELINE_NAMES) is dict
    assert main.PIPELINE_MODULES == {"file": "F"}
    assert main.PIPELINE_NAMES == {"file": "file"}


def test_without_upstream_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "main", raising=False)
    upstream.keep("kept", "K")
    upstream.discard("kept")
    upstream.discard_all()
    assert not upstream.is_loaded("kept")
