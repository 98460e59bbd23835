"""Bundles uploaded to a real stock server that has nothing of ours."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent_mode import __version__
from tests.bundles import MISSING, build, checkout, install, site
from tests.provider import Provider
from tests.server.anymodel import AnyModel, user
from tests.server.openwebui import OpenWebUI
from tests.server.servers import OLD, OURS, PIPE, Kind, Server, make, needs_stock_python, params, running

pytestmark = pytest.mark.long

CODER = "personas.coder"
WITNESS = '''"""
title: Tells which package there is.
"""

import json
import sys


class Pipeline:
    def __init__(self):
        self.name = "Witness"

    def pipe(self, user_message, model_id, messages, body):
        package = sys.modules.get("agent_mode")
        return json.dumps([getattr(package, "__version__", None), getattr(package, "__file__", None)])
'''


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return build(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="session")
def newer(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("newer")
    return build(home / "dist", root=checkout(home / "checkout", "99.1.0"))


@contextmanager
def bare(kind: Kind, home: Path, provider: Provider, **variables: str) -> Iterator[Server]:
    server = make(
        kind, home, provider.base_url, foreign=("bystander.py", "probe.py"), environment=variables, bare=True
    )
    server.environment["AGENT_MODE_MODEL"] = "stub"
    with running(server):
        yield server


@pytest.fixture(params=params(OLD, PIPE))
def server(request: pytest.FixtureRequest, provider: Provider, tmp_path: Path) -> Iterator[Server]:
    with bare(request.param, tmp_path / "server", provider) as server:
        yield server


def upload(server: Server, *files: Path) -> None:
    for file in files:
        assert server.upload(file.name, file.read_bytes()).status_code == 200
    assert not (server.pipelines_dir / "failed").exists(), server.log()


def delete(server: Server, pipeline: str) -> None:
    assert server.request("DELETE", "/pipelines/delete", json={"id": pipeline}).status_code == 200


def works(server: Server) -> None:
    for stream in (True, False):
        answer = OpenWebUI(server).chat().ask("!writer Hi", CODER, stream=stream)
        assert (answer.status, answer.text, answer.errors) == (200, "Hello from stub: Hi", [])


def bystander_works(server: Server) -> None:
    body = {"model": "bystander", "messages": [{"role": "user", "content": "x"}], "user": {"name": "Bob"}}
    assert "Bob" in server.post("/chat/completions", body).text


def package_of(server: Server) -> list[Any]:
    """Version and place of the package in the process."""
    body = {"model": "witness", "stream": False, "messages": [{"role": "user", "content": "x"}]}
    return json.loads(server.post("/chat/completions", body).json()["choices"][0]["message"]["content"])


def alive(server: Server) -> dict[str, int]:
    tasks: list[str] | None = None
    while tasks != (tasks := server.probe()["tasks"]):
        time.sleep(0.05)
    return server.probe(thorough=True)["instances"]


def test_uploaded_chatted_reloaded_deleted(server: Server, bundles: dict[str, Path]) -> None:
    layers = 1 if server.kind is OLD else 0
    assert "bystander" in OpenWebUI(server).models()
    upload(server, bundles["personas"])
    assert OpenWebUI(server).models()[CODER]["name"].endswith("Coder")
    works(server)

    upload(server, bundles["hotswap"], bundles["personas"])
    works(server)
    answer = AnyModel(server, user()).chat().ask("!coder Hi", "gpt-4o")
    assert '<agent_mode agent="coder">' in answer.sent["messages"][0]["content"]
    server.set_valves(keyword_prefix="/")

    for _ in range(2):
        upload(server, bundles["hotswap"])
    one = {"Runtime": 1, "Layer": layers, "LlmClient": 1, "Database": 1, "SessionStore": 1}
    assert alive(server) == one
    assert server.get("/personas/valves").json()["keyword_prefix"] == "/", "valves outlive uploads"
    server.set_valves()

    delete(server, "hotswap")
    works(server)
    assert alive(server) == one
    delete(server, "personas")
    assert set(OpenWebUI(server).models()) == {"bystander", "probe"}
    assert set(alive(server).values()) == {0}
    bystander_works(server)
    upload(server, bundles["personas"])
    works(server)
    assert "Traceback" not in server.log()
    assert "Installing requirement" not in server.log()


def test_what_was_said_is_still_known_after_a_restart(
    server: Server, bundles: dict[str, Path], provider: Provider
) -> None:
    """The data lie beside the bundles, where an image keeps its volume."""
    upload(server, bundles["personas"])
    chat = OpenWebUI(server).chat()
    chat.ask("!writer Hi", CODER)
    server.stop()
    data = server.pipelines_dir / ".agent_mode" / "data"
    assert (data / "agent_mode.db").is_file()
    assert data.stat().st_mode & 0o077 == 0
    server.spawn()
    server.wait()
    chat.ask("And now?")
    assert '<agent_mode agent="writer">' in provider.chats[-1].body["messages"][0]["content"]


@pytest.mark.parametrize("server", params(OLD), indirect=True)
def test_a_newer_bundle_beside_an_older_one(
    server: Server, bundles: dict[str, Path], newer: dict[str, Path]
) -> None:
    server.upload("witness.py", WITNESS)
    upload(server, bundles["personas"], bundles["hotswap"])
    assert package_of(server)[0] == __version__
    upload(server, newer["hotswap"])
    assert package_of(server)[0] == "99.1.0"
    works(server)
    one = {"Runtime": 1, "Layer": 1, "LlmClient": 1, "Database": 1, "SessionStore": 1}
    assert alive(server) == one

    upload(server, bundles["data_analyst"])  # older, and the last upload
    assert package_of(server)[0] == "99.1.0"
    delete(server, "hotswap")
    assert package_of(server)[0] == __version__
    works(server)
    assert alive(server) == one
    assert "Traceback" not in server.log()


@pytest.mark.parametrize("server", params(OLD), indirect=True)
def test_example_agents_on_the_stock_pins(server: Server, bundles: dict[str, Path]) -> None:
    upload(server, *bundles.values())
    webui = OpenWebUI(server)
    answer = webui.chat().ask("What is new?", "researcher")
    assert len(answer.errors) == 1
    assert "needs LlamaIndex" in answer.errors[0]
    assert "./start.sh" in answer.errors[0]

    answer = webui.chat().ask("```\ncity,people\nA,1\nB,3\n```", "data_analyst")
    assert answer.errors == []
    assert "| people | 2 | 4 | 2 |" in answer.text
    assert "No chart: A chart needs the package Pillow" in answer.text
    works(server)


@pytest.mark.parametrize("server", params(OLD), indirect=True)
def test_a_damaged_upload_leaves_the_others_alone(server: Server, bundles: dict[str, Path]) -> None:
    upload(server, bundles["personas"])
    half = {name: path.read_bytes()[:200_000] for name, path in bundles.items()}
    assert server.upload("hotswap.py", half["hotswap"]).status_code == 200
    works(server)  # the whole one's package serves both
    assert "hotswap.py is damaged" in server.log()
    assert server.upload("personas.py", half["personas"]).status_code == 200
    answer = OpenWebUI(server).chat().ask("Hi", "personas")
    assert "is damaged. Upload it again." in answer.errors[0]
    bystander_works(server)
    upload(server, bundles["personas"])
    works(server)


@needs_stock_python
@pytest.mark.parametrize("kind", [OLD, PIPE], ids=str)
def test_packages_are_missing_and_then_installed(
    kind: Kind, bundles: dict[str, Path], provider: Provider, tmp_path: Path
) -> None:
    assert kind.python
    without = (*MISSING, "greenlet", "mako")
    packages = site(tmp_path / "site", kind.python, without)
    start = tmp_path / "start"
    start.mkdir()
    (start / "sitecustomize.py").write_text(
        "import sys\n"
        f"sys.path[:] = [p for p in sys.path if not p.endswith('site-packages')] + [{str(packages)!r}]\n"
    )
    with bare(kind, tmp_path / "server", provider, PYTHONPATH=str(start)) as server:
        upload(server, bundles["personas"], bundles["hotswap"])
        webui = OpenWebUI(server)
        assert {CODER, "personas.writer"} <= set(webui.models())
        for stream in (True, False):
            answer = webui.chat().ask("Hi", CODER, stream=stream)
            assert "python -m pip install 'pydantic-settings>=2.3'" in answer.errors[0]
        assert not provider.chats

        body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "!coder Hi"}]}
        sent = server.post("/hotswap/filter/inlet", {"body": body, "user": {"id": "1"}}).json()
        assert sent == body
        assert server.get("/hotswap/valves").json()["pipelines"] == ["*"]
        assert server.set_valves(keyword_prefix="/")["keyword_prefix"] == "/"
        assert "Agent Mode needs packages" in server.log()
        bystander_works(server)

        install(packages, *without, python=kind.python)
        assert server.post("/pipelines/reload").status_code == 200
        assert server.get("/personas/valves").json()["keyword_prefix"] == "/"
        server.set_valves()
        works(server)
        assert "failed" not in {path.name for path in server.pipelines_dir.iterdir()}


def test_on_our_own_server_a_bundle_brings_no_second_package(
    bundles: dict[str, Path], newer: dict[str, Path], provider: Provider, tmp_path: Path
) -> None:
    server = make(OURS, tmp_path / "server", provider.base_url)
    with running(server):
        server.set_valves()
        server.upload("witness.py", WITNESS)
        before = package_of(server)
        upload(server, newer["hotswap"], bundles["personas"])
        works(server)
        assert package_of(server) == before
        assert not (server.pipelines_dir / ".agent_mode").exists()
