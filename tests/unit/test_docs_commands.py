"""Every command in the docs can be typed: programs, options, variables, paths and service names are there.

tests/server/test_documented_servers.py and tests/server/test_api_docs.py run those that a test can run.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import yaml

from agent_mode.__main__ import main
from agent_mode.server import upstream
from agent_mode.settings import ROOT, Settings
from agent_mode.store.agent_forms import AgentForm
from tests.docs import PAGES, Command, blocks, commands, scripts, text_of

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
COMPOSE_OPTIONS: dict[str, set[str]] = {
    "up": {"--build", "--detach", "--wait"},
    "logs": {"--follow"},
    "exec": {"-T"},
    "run": {"--rm", "--no-deps", "-T"},
    "down": {"--volumes"},
    "ps": set(),
    "restart": set(),
    "stop": set(),
}
"""Those of Docker Compose that the docs use; no Docker is here that could be asked."""
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
CONTAINERS = ("agent-mode", "pipelines")
"""Names that the docs give: to ours, and to the stock server's."""
PYTHONS = (".venv/bin/python", ".venv-test/bin/python", "/opt/venv/bin/python")
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
    if command.words[0] == "/opt/venv/bin/python":
        assert "RUN python -m venv /opt/venv" in DOCKERFILE
    match command.words[1:]:
        case () | ("-m",) | ("-m", "agent_mode") | ("-c", _):
            assert len(command.words) < 4 or compile(command.words[2], "-c", "exec")
        case ("-m", "agent_mode", name, *rest):
            subcommand(name, rest)
        case ("-m", "pip", "install", *packages) if command.page == "stock-server.md":
            needed = (ROOT / "requirements-stock.txt").read_text(encoding="utf-8")
            assert not [
                name for name in packages if not re.search(rf"^{re.escape(name)}(?![\w-])", needed, re.M)
            ]
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
        case ("compose", what, *rest):
            compose(command, what, rest)
        case ("build", "--tag", tag, "."):
            assert tag == COMPOSE["services"]["agent-mode"]["image"]
        case ("run", "--detach", "--name", _, "--publish", published, "--volume", volume, image):
            assert f"EXPOSE {published.rpartition(':')[2]}" in DOCKERFILE
            assert f"VOLUME {volume.partition(':')[2]}" in DOCKERFILE
            assert image in {tag for (tag, *_) in told("docker", "build", "--tag")}
        case ("exec", name, *inner):
            assert name in CONTAINERS
            inside(command, inner)
        case ("logs" | "restart", name):
            assert name in CONTAINERS
        case _:
            raise AssertionError("nobody knows what this runs")


def compose(command: Command, what: str, rest: list[str]) -> None:
    """Options, services, and the command that runs in one."""
    options = list(itertools.takewhile(lambda word: word.startswith("-"), rest))
    assert set(options) <= COMPOSE_OPTIONS[what]
    names = rest[len(options) :]
    if what in ("exec", "run"):
        names, inner = names[:1], names[1:]
        inside(command, inner)
    assert set(names) <= set(COMPOSE["services"])


def inside(command: Command, words: list[str]) -> None:
    """A command within a container."""
    assert words[0] in KNOWN
    KNOWN[words[0]](Command(command.page, tuple(words)))


def told(*words: str) -> list[tuple[str, ...]]:
    """What stands behind these words, wherever a command of the docs begins with them."""
    size = len(words)
    return [command.words[size:] for command in commands() if command.words[:size] == words]


def kubectl(command: Command) -> None:
    match command.words[1:]:
        case ("create", "secret", "generic", name, *literals):
            keys = [literal.removeprefix("--from-literal=").partition("=")[0] for literal in literals]
            assert all(literal.startswith("--from-literal=") for literal in literals)
            assert set(keys) <= settings()
            pod = manifest("Deployment")["spec"]["template"]["spec"]
            assert {"secretRef": {"name": name}} in pod["containers"][0]["envFrom"]
        case ("port-forward", target, port):
            service = manifest("Service")
            assert target == f"service/{service['metadata']['name']}"
            assert int(port) in [entry["port"] for entry in service["spec"]["ports"]]
        case _:
            raise AssertionError("nobody knows what this runs")


def manifest(kind: str) -> dict[str, Any]:
    """The one of this kind in the docs."""
    parts = [content for language, content in blocks(text_of("kubernetes.md")) if language == "yaml"]
    found = [one for part in parts for one in yaml.safe_load_all(part) if one["kind"] == kind]
    assert len(found) == 1
    return found[0]


def postgres(command: Command) -> None:
    """The program knows the options; user and database of the service are those of compose.yaml."""
    parted = [word.partition("=") for word in command.words if word.startswith("-")]
    options = {name: value for name, _, value in parted}
    assert knows(options, command.program)
    environment = COMPOSE["services"]["postgres"]["environment"]
    words = list(command.words)
    if "--username" in words:
        user = words[words.index("--username") + 1]
        base = options.get("--dbname") or words[-1]
        assert (user, base) == (environment["POSTGRES_USER"], environment["POSTGRES_DB"])
    else:
        assert "$AGENT_MODE_DATABASE_URL" in (options.get("--dbname"), words[-1])


def uvicorn(command: Command) -> None:
    """Started where upstream's `main.py` is, on the port of the docs."""
    app, *options = command.words[1:]
    assert app == "main:app"
    assert (upstream.folder() / "main.py").is_file()
    assert knows(options[::2], sys.executable, "-m", "uvicorn")
    assert options[options.index("--port") + 1] == "9099"


def knows(options: Iterable[str], *program: str) -> bool:
    """Whether a program's help names the options; also true where the program is not at hand."""
    if not shutil.which(program[0]):
        return True
    told = _help(*program)
    return all(re.search(rf"(?<!\S){re.escape(option)}(?![\w-])", told) for option in options)


@functools.cache
def _help(*program: str) -> str:
    return subprocess.run([*program, "--help"], capture_output=True, text=True, check=True).stdout


def copied(command: Command) -> None:
    """Of paths in the checkout, there is something."""
    for path in command.words[1:]:
        if path.startswith("/opt/agent-mode/"):
            assert list(ROOT.glob(path.removeprefix("/opt/agent-mode/")))


def tar(command: Command) -> None:
    """tests/server/test_documented_servers.py packs and unpacks; the folders are those of the server."""
    words = command.words
    folder = words[words.index("-C") + 1] if "-C" in words else None
    assert folder is None or f"VOLUME {folder}" in DOCKERFILE
    assert not {word for word in words[1:] if word.startswith("-")} - {
        "-C",
        "-cz",
        "-xz",
        "-f",
        "-",
        "-czf",
        "-xzf",
    }


def git(command: Command) -> None:
    assert command.words[1:] == ("pull",)


def pip(command: Command) -> None:
    """What one may add to a server is what ours has."""
    install, *packages = command.words[1:]
    assert install == "install"
    ours = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    assert not [name for name in packages if not re.search(rf"^{re.escape(name)}\b", ours, re.MULTILINE)]


def another_openwebui(command: Command) -> None:
    """A version that the table of those that were tried has."""
    install, name = command.words[1:]
    assert (install, name.partition("==")[0]) == ("install", "open-webui")
    assert f"| {name.partition('==')[2]} |" in text_of("compatibility.md")


def nothing(_: Command) -> None:
    """Of the shell, or of a system; what they are given, other tests judge."""


KNOWN: dict[str, Callable[[Command], None]] = {
    "./start.sh": start,
    "./test.sh": checks,
    **dict.fromkeys((*PYTHONS, "python", "python3"), python),
    "curl": called,
    "api": called,
    "docker": docker,
    "kubectl": kubectl,
    "tar": tar,
    "git": git,
    "cp": copied,
    "uvicorn": uvicorn,
    "pg_dump": postgres,
    "pg_restore": postgres,
    "pip": pip,
    "/tmp/open-webui/bin/pip": another_openwebui,
    **dict.fromkeys(("api()", "sed", "echo", "export", "umask", "mv", "apt", ""), nothing),
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


def test_the_database_of_compose_is_one_that_was_tried() -> None:
    [tried] = re.findall(r"^\| PostgreSQL \| (\d+)", text_of("compatibility.md"), re.MULTILINE)
    assert COMPOSE["services"]["postgres"]["image"].startswith(f"postgres:{tried}-")


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
