"""Every command in the docs can be typed: programs, options, variables, paths and service names are there.

tests/server/test_documented_servers.py and tests/server/test_api_docs.py run those that a test can run.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from agent_mode.__main__ import main
from agent_mode.settings import ROOT, Settings
from agent_mode.store.agent_forms import AgentForm
from tests.docs import PAGES, Command, blocks, commands, scripts, text_of

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
OTHER_NAMES = {
    *(
        "PYTHON",
        "PYTHONPATH",
        "PIPELINES_DIR",
        "PIPELINES_REQUIREMENTS_PATH",
    ),  # start.sh's, Python's, the stock server's
    *("URL", "KEY", "RUN"),  # of the examples
}
ADDRESS = re.compile(r"(?:\$URL|http://127\.0\.0\.1:9099)(/[^?]*)(?:\?.*)?")


def settings() -> set[str]:
    fields = Settings.model_fields.items()
    return {str(field.validation_alias or f"AGENT_MODE_{name.upper()}") for name, field in fields}


def start(command: Command) -> None:
    assert set(command.words[1:]) <= {"--help"}


def checks(command: Command) -> None:
    kind, *rest = command.words[1:] or [""]
    assert kind in ("", "e2e", "all", "--help") or (ROOT / kind).exists()
    options = {word for word in rest if word.startswith("--")}
    assert options <= {"--screenshots"}


def python(command: Command) -> None:
    assert command.words[0] in (".venv/bin/python", ".venv-test/bin/python", "python", "python3")
    match command.words[1:]:
        case () | ("-m",) | ("-m", "agent_mode") | ("-c", _):
            assert len(command.words) < 4 or compile(command.words[2], "-c", "exec")
        case ("-m", "agent_mode", name, *rest):
            subcommand(name, rest)
        case ("-m", "venv", _) | ("-m", "pip", "install", *_):
            pass
        case ("-m", module, *_):
            assert importlib.util.find_spec(module), module
        case _:
            raise AssertionError("nobody knows what this runs")


def subcommand(name: str, rest: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    for option in [word for word in rest if word.startswith("-")]:
        with pytest.raises(SystemExit):
            main([name, option, "--help"])


def called(command: Command) -> None:
    addresses = [found[1] for word in command.words if (found := ADDRESS.fullmatch(word))]
    if "$@" not in command.words:
        assert len(addresses) == 1
        assert addresses[0].startswith("/api/v1/") or addresses[0] in ("/readyz", "/healthz")
    for word, content in zip(command.words, command.words[1:], strict=False):
        if word == "-d":
            json.loads(content)


def docker(command: Command) -> None:
    match command.words[1:]:
        case ("compose", "up" | "ps" | "logs" | "restart" | "stop" | "exec" | "run" | "down" as what, *rest):
            named = [word.partition(":")[0] for word in rest if not word.startswith("-")]
            assert set(named[: None if what in ("up", "logs", "restart") else 1]) <= set(COMPOSE["services"])
            if what == "exec" and "/opt/venv/bin/python" in rest:
                assert "/opt/venv" in (ROOT / "Dockerfile").read_text(encoding="utf-8")
        case ("build", "--tag", _, ".") | ("run" | "logs" | "exec" | "restart", *_):
            pass
        case _:
            raise AssertionError("nobody knows what this runs")


def nothing(_: Command) -> None:
    """Programs of the system; what they are given, other tests judge."""


KNOWN: dict[str, Callable[[Command], None]] = {
    "./start.sh": start,
    "./test.sh": checks,
    ".venv/bin/python": python,
    ".venv-test/bin/python": python,
    "python": python,
    "python3": python,
    "curl": called,
    "api": called,
    "docker": docker,
    **dict.fromkeys(
        ("api()", "sed", "echo", "export", "umask", "tar", "mv", "cp", "git", "apt", "kubectl"), nothing
    ),
    **dict.fromkeys(("pg_dump", "pg_restore", "uvicorn", "/tmp/open-webui/bin/pip", ""), nothing),
}


@pytest.mark.parametrize("command", commands(), ids=str)
def test_a_command_can_be_typed(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    unknown = set(command.names) - settings() - OTHER_NAMES
    assert not unknown, "such a setting does not exist"
    if command.program.startswith("$URL"):  # inside $(api …)
        return
    assert command.program in KNOWN, "say here what it is, and let a test run it where one can"
    KNOWN[command.program](command)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_shell_in_the_docs_can_be_read(page: Any) -> None:
    for script in scripts(page.read_text(encoding="utf-8")):
        assert shlex.split(script.replace("\\\n", " "))


def test_agents_in_the_docs_are_valid_forms() -> None:
    """Those in blocks; those in commands are sent to a real server by the tests there."""
    for name in ("write-an-agent.md", "api.md"):
        for command in commands():
            if (
                command.page == name
                and command.words[-2:-1] == ("-d",)
                and '"agent_type"' in command.words[-1]
            ):
                form = json.loads(command.words[-1])
                if form.get("definition") and "id" in form:
                    AgentForm.model_validate(form)


def test_the_valve_file_in_the_docs_is_taken_as_it_is() -> None:
    from agent_mode.valves import PersonaValves

    example = next(content for language, content in blocks(text_of("settings.md")) if language == "json")
    given = json.loads(example)
    taken = PersonaValves.model_validate(given).model_dump()
    assert {name: taken[name] for name in given} == given
