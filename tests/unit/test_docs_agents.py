"""The agents of the docs are agents: files load, code runs in the sandbox, definitions validate."""

from __future__ import annotations

import inspect
import json
import re
from contextlib import aclosing
from typing import Any

import pytest

from agent_mode.agents import stored
from agent_mode.agents.definitions import CustomPythonDefinition, LlamaIndexDefinition
from agent_mode.agents.types import get_type, parse_definition
from agent_mode.sandbox.items import Image, Limits, Output, StatusLine
from agent_mode.sandbox.sandbox import Sandbox
from agent_mode.server.agent_pipeline import AgentPipeline
from agent_mode.store.agent_forms import AgentForm
from tests.unit.test_docs import DOCS, blocks, text_of

SENT = re.compile(r"/api/v1/agents/\"? -d '(\{.*?\n?\})'", re.DOTALL)
CSV = "Look:\n```csv\nmonth,sales\nMay,2\nJune,4\n```"


def python_blocks(page: str, word: str) -> list[str]:
    return [code for language, code in blocks(text_of(page)) if language == "python" and word in code]


@pytest.mark.parametrize("code", python_blocks("write-an-agent.md", "(AgentPipeline)"))
def test_files_of_the_docs_are_agents(code: str) -> None:
    module: dict[str, Any] = {"__name__": "example"}
    exec(compile(code, "example", "exec"), module)
    agent: AgentPipeline = module["Pipeline"]()
    spec = agent.spec()
    assert (spec.id, spec.name) == ("example", agent.name)
    assert agent.name != "Example"
    kind = type(agent)
    if spec.agent_type == "llamaindex_workflow":
        assert kind.build is not AgentPipeline.build
    else:
        assert inspect.isasyncgenfunction(kind.run)
        wanted = list(inspect.signature(AgentPipeline.run).parameters)
        assert list(inspect.signature(kind.run).parameters) == wanted
    assert isinstance(agent.valves, kind.Valves)


@pytest.mark.parametrize("code", python_blocks("custom-python.md", "def run("))
def test_code_of_the_docs_is_custom_python(code: str) -> None:
    kind = get_type("custom_python")
    assert isinstance(parse_definition(kind, {"code": code}), CustomPythonDefinition)


async def test_the_whole_code_of_the_docs_runs() -> None:
    [code] = python_blocks("custom-python.md", "import csv")
    asked: list[dict[str, Any]] = []

    async def answer(kind: str, arguments: dict[str, Any]) -> Any:
        assert kind == "call_agent"
        asked.append(arguments)
        return "Sales doubled."

    sandbox = Sandbox()
    turn = {
        "text": CSV,
        "messages": [],
        "user": {},
        "images": [],
        "valves": {},
        "run_id": "0" * 20,
        "tools": [],
    }
    try:
        async with aclosing(sandbox.run(code, turn, Limits(seconds=10, memory_mb=512), answer)) as items:
            told = [item async for item in items]
    finally:
        await sandbox.close()
    assert (
        "".join(item.text for item in told if isinstance(item, Output))
        == "2 rows, **6** in all.\n\nSales doubled."
    )
    assert [item.text for item in told if isinstance(item, StatusLine)][-1] == "Done"
    [picture] = [item for item in told if isinstance(item, Image)]
    assert picture.url.startswith("data:image/svg+xml")
    assert asked[0]["name"] == "analyst"


def definitions() -> list[Any]:
    """Every agent that a page makes: sent by curl, or shown as JSON."""
    found: list[Any] = []
    for page in sorted(DOCS.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        shown = [
            content for language, content in blocks(text) if language == "json" and '"agent_type"' in content
        ]
        for number, example in enumerate([*SENT.findall(text), *shown]):
            found.append(pytest.param(example, id=f"{page.name}-{number}"))
    return found


@pytest.mark.parametrize("example", definitions())
def test_definitions_of_the_docs_can_be_used(example: str) -> None:
    values = json.loads(example)
    form = AgentForm.parse(values)
    parts, problems = stored.read(values, allow_code=True)
    assert (problems, form.id) == ([], values["id"])
    assert parts is not None


def test_there_is_an_example_of_each_page() -> None:
    pages = {param.id.partition("-0")[0] for param in definitions() if param.id.endswith("-0")}
    assert {"api.md", "write-an-agent.md"} <= pages


def test_every_field_of_a_llamaindex_definition_is_documented() -> None:
    page = text_of("write-an-agent.md")
    names = [*LlamaIndexDefinition.model_fields, "can_hand_over_to"]
    assert not [name for name in names if f"`{name}`" not in page]
    rows = dict(re.findall(r"^\| `(\w+)` \| `?(\w+)`? \|", page, re.MULTILINE))
    for name in ("style", "max_iterations", "memory_tokens", "output"):
        assert rows[name] == str(LlamaIndexDefinition.model_fields[name].default)
