"""Agent types of installed packages: found by their entry points, in a process of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent_mode.settings import ROOT

ENGINE = '''
from pydantic import BaseModel
from agent_mode import agent_type


class MottoDefinition(BaseModel):
    motto: str


@agent_type("motto", definition=MottoDefinition, title="Motto")
class MottoEngine:
    """Says its motto."""

    async def run(self, work):
        await work.say(work.spec.definition.motto)
'''
OBJECT = """
from pydantic import BaseModel
from agent_mode.agents.types import AgentType


class CrewDefinition(BaseModel):
    crew: list[str]


CREW = AgentType("crewai_crew", "CrewAI crew", "A crew.", CrewDefinition, "crew_plugin:Engine")
"""
ASK = """
import json
from agent_mode.agents.types import all_types, get_type, parse_definition
from agent_mode.errors import DefinitionError
types = all_types()
told = {"types": sorted(types), "says": types["motto"].description}
told["schema"] = types["crewai_crew"].schema()["required"]
told["motto"] = parse_definition(types["motto"], {"motto": "Onward"}).motto
wrong = {"unknown": lambda: get_type("nobody"), "wrong": lambda: parse_definition(types["motto"], {})}
for key, ask in wrong.items():
    try:
        ask()
    except DefinitionError as error:
        told[key] = str(error)
print(json.dumps(told))
"""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Where a distribution lies that brings two types along, and an entry that cannot be loaded."""
    (tmp_path / "motto_plugin.py").write_text(ENGINE, encoding="utf-8")
    (tmp_path / "crew_plugin.py").write_text(OBJECT, encoding="utf-8")
    info = tmp_path / "type_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: type-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[agent_mode.agent_types]\nbroken = not_there\ncrewai_crew = crew_plugin:CREW\nmotto = motto_plugin\n"
    )
    return tmp_path


def test_a_package_adds_types_by_entry_points(installed: Path) -> None:
    path = os.pathsep.join((str(installed), str(ROOT)))
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        env={**os.environ, "PYTHONPATH": path},
        cwd=installed,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["types"] == ["crewai_crew", "custom_python", "llamaindex_workflow", "motto", "persona"]
    assert (told["motto"], told["says"], told["schema"]) == ("Onward", "Says its motto.", ["crew"])
    assert "Known types: crewai_crew, custom_python, llamaindex_workflow, motto, persona" in told["unknown"]
    assert "definition.motto" in told["wrong"]
    assert "not_there" in done.stdout + done.stderr
