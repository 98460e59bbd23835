"""Agents of the store as pipelines of their own: they come, change and go, and no chat notices."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.patience import LONG
from tests.provider import Provider, Reply
from tests.server.openwebui import OpenWebUI
from tests.server.rest import Rest, agent, fields
from tests.server.servers import OLD, OURS, ROOT, STOCK, Server, eventually, make, params, running

CREW = '''"""
title: A type of agents that somebody else wrote
"""

from pydantic import BaseModel

from agent_mode import agent_type


class CrewDefinition(BaseModel):
    motto: str


@agent_type("crew", definition=CrewDefinition, title="Crew")
class CrewEngine:
    """Says its motto."""

    async def run(self, work):
        from agent_mode.agents.engine import Text

        await work.emit(Text(work.spec.definition.motto))


class Pipeline:
    def __init__(self):
        self.name = "Crew"

    def pipe(self, user_message, model_id, messages, body):
        return "no model"
'''


@pytest.fixture(scope="module", params=params(OURS, STOCK, OLD))
def server(request: Any, tmp_path_factory: Any, provider_process: Provider) -> Iterator[Server]:
    made = make(request.param, tmp_path_factory.mktemp("stored") / "x", provider_process.base_url)
    with running(made):
        made.set_valves()
        yield made


@pytest.fixture
def api(server: Server, provider: Provider) -> Iterator[Rest]:
    server.mark = server.log_file.stat().st_size
    rest = Rest(server)
    rest.clear()
    yield rest
    rest.clear()


def says(server: Server, agent_id: str) -> str:
    return OpenWebUI(server).chat().ask("Hi", agent_id).good().text


def listed(server: Server) -> set[str]:
    """The pipelines as the tab in Open WebUI lists them."""
    return {entry["id"] for entry in server.get("/pipelines").json()["data"]}


def restart(server: Server) -> None:
    server.stop()
    server.spawn()
    server.wait()


def test_an_agent_is_a_model_at_once_and_after_a_restart(api: Rest, provider: Provider) -> None:
    server = api.server
    api.create("weather", name="Weather", description="Tells the weather", tags=["Daily"])

    entry = OpenWebUI(server).models()["weather"]
    assert (entry["name"], entry["pipeline"]) == ("Weather", {"type": "pipe", "valves": True})
    assert entry["tags"] == [{"name": "Agent"}, {"name": "Daily"}]
    assert entry["info"]["meta"]["description"] == "Tells the weather"
    assert "weather" in listed(server)
    assert says(server, "weather") == "Hello from stub: Hi"
    assert "You are weather." in json.dumps(provider.last().body["messages"])
    assert OpenWebUI(server).chat().ask("Hi", "weather", stream=False).text == "Hello from stub: Hi"

    api.patch("agents/weather", {"name": "Skies"})
    assert OpenWebUI(server).models()["weather"]["name"] == "Skies"
    restart(server)
    assert OpenWebUI(server).models()["weather"]["name"] == "Skies"
    assert says(server, "weather") == "Hello from stub: Hi"
    api.delete("agents/weather")
    assert "weather" not in OpenWebUI(server).models()
    assert "weather" not in listed(server)


def test_valves_from_both_sides(api: Rest) -> None:
    server = api.server
    api.create("valves-both")
    form = server.get("/valves-both/valves").json()
    assert server.get("/valves-both/valves/spec").json()["properties"].keys() == form.keys()

    odd = {**form, "max_steps": "7", "temperature": "", "read_timeout": "soon", "access": "everyone"}
    saved = server.post("/valves-both/valves/update", odd)
    assert saved.status_code == 200
    assert saved.json() == server.get("/valves-both/valves").json() == api.get("agents/valves-both/valves")
    assert (saved.json()["max_steps"], saved.json()["read_timeout"]) == (7, 300)
    assert api.get("agents/valves-both")["access"] == "everyone"
    assert api.versions("agents/valves-both")[0] == (2, "open-webui")
    server.post("/v1/valves-both/valves/update", server.get("/v1/valves-both/valves").json())
    assert api.get("agents/valves-both")["version"] == 2

    api.put("agents/valves-both/valves", {"llm_model": "stub", "max_steps": 9})
    assert server.get("/valves-both/valves").json()["max_steps"] == 9
    server.post("/pipelines/reload")
    assert server.get("/valves-both/valves").json()["max_steps"] == 9
    for body in ([1], "x", 7):
        assert 400 <= server.post("/valves-both/valves/update", body).status_code < 500


def test_deleting_it_in_the_tab_disables_it_and_nothing_else(api: Rest) -> None:
    server = api.server
    for agent_id in ("tab-a", "tab-b"):
        api.create(agent_id)
    before = listed(server)

    for address, agent_id in (("/pipelines/delete", "tab-a"), ("/v1/pipelines/delete", "tab-b")):
        reply = server.request("DELETE", address, json={"id": agent_id})
        assert reply.json() == {"status": True, "detail": f"Pipeline {agent_id} deleted successfully"}
    assert listed(server) == before - {"tab-a", "tab-b"}
    assert "Loaded module" not in server.log()

    server.post("/pipelines/reload")
    restart(server)
    assert not {"tab-a", "tab-b"} & listed(server)
    found = api.get("agents/tab-a")
    assert (found["enabled"], found["offered"], found["version"]) == (False, False, 2)
    assert api.versions("agents/tab-a")[0] == (2, "open-webui")
    api.patch("agents/tab-a", {"enabled": True})
    assert says(server, "tab-a") == "Hello from stub: Hi"


def test_running_chats_notice_nothing(api: Rest, provider: Provider) -> None:
    """A slow answer goes on while its agent and others come, change and go."""
    server = api.server
    words = [f"{n} " for n in range(60)]
    for agent_id in ("slow", "slow-two"):
        api.create(agent_id)
    provider.script(Reply(words, every=0.05), Reply(words, every=0.05))
    with ThreadPoolExecutor(2) as pool:
        running_chats = [
            pool.submit(OpenWebUI(server).chat().ask, "Count", agent_id) for agent_id in ("slow", "slow-two")
        ]
        assert eventually(lambda: provider.active == 2)
        api.create("other")
        api.patch("agents/slow", {"name": "Changed"})
        server.post("/other/valves/update", {"llm_model": "stub"})
        server.request("DELETE", "/pipelines/delete", json={"id": "other"})
        api.delete("agents/slow-two")
        if server.kind.own:  # a stock server's reload ends our chats, whosever they are
            assert server.post("/pipelines/reload").status_code == 200
        assert not any(chat.done() for chat in running_chats)
        for chat in running_chats:
            assert chat.result(timeout=LONG).good().text == "".join(words)
    assert "slow" in OpenWebUI(server).models()
    assert "slow-two" not in OpenWebUI(server).models()
    assert "Traceback" not in server.log()


def test_many_reloads_and_many_writes_at_once(api: Rest) -> None:
    server = api.server
    api.create("steady")
    stop = threading.Event()
    failures: list[str] = []

    def watch() -> None:
        client = OpenWebUI(server)
        while not stop.is_set():
            if "steady" not in client.models():
                failures.append("not listed")

    def write(number: int) -> None:
        api.create(f"busy-{number}")
        for step in range(3):
            api.patch(f"agents/busy-{number}", {"description": str(step)})
        if number % 2:
            api.delete(f"agents/busy-{number}")

    reader = threading.Thread(target=watch)
    if server.kind.own:
        reader.start()
    with ThreadPoolExecutor(5) as pool:
        for _ in range(3 if server.kind.own else 0):  # on a stock server we are away while it reloads
            pool.submit(server.post, "/pipelines/reload")
        list(pool.map(write, range(8)))
    stop.set()
    if server.kind.own:
        reader.join()
    assert not failures
    models = OpenWebUI(server).models()
    assert [f"busy-{n}" in models for n in range(8)] == [n % 2 == 0 for n in range(8)]
    assert says(server, "busy-2") == "Hello from stub: Hi"


def test_a_file_of_the_same_id_goes_before_it_and_gives_it_back(api: Rest) -> None:
    server = api.server
    api.create("twin")
    assert server.upload("twin.py", (server.pipelines_dir / "bystander.py").read_bytes()).status_code == 200
    body = {"model": "twin", "messages": [{"role": "user", "content": "x"}], "user": {"name": "Bob"}}
    assert "Bob" in server.post("/chat/completions", body).text
    found = api.get("agents/twin")
    assert (found["usable"], found["offered"], fields(found)) == (False, False, {"id"})
    api.patch("agents/twin", {"enabled": True})

    assert server.request("DELETE", "/pipelines/delete", json={"id": "twin"}).status_code == 200
    assert eventually(lambda: api.get("agents/twin")["usable"])
    assert says(server, "twin") == "Hello from stub: Hi"


def test_a_persona_that_is_gone_is_told(api: Rest) -> None:
    api.post("personas/", {"key": "sommelier", "name": "Sommelier", "prompt": "You know wines."})
    api.create("waiter", definition={"persona": "sommelier"})
    assert says(api.server, "waiter") == "Hello from stub: Hi"
    api.delete("personas/sommelier")
    [message] = OpenWebUI(api.server).chat().ask("Hi", "waiter").errors
    assert "persona sommelier" in message


def test_a_type_that_a_pipeline_brings_along(api: Rest) -> None:
    server = api.server
    assert server.upload("crew_types.py", CREW).status_code == 200
    form = agent("sailors", agent_type="crew", definition={"motto": "Ahoy"}, valves={"llm_model": "stub"})
    api.post("agents/", form)
    assert says(server, "sailors") == "Ahoy"
    assert fields(api.post("agents/validate", {**form, "id": "other", "definition": {}})) == {
        "definition.motto"
    }
    assert "crew" in {item["name"] for item in api.get("agent-types/")["items"]}

    restart(server)
    assert says(server, "sailors") == "Ahoy"
    server.request("DELETE", "/pipelines/delete", json={"id": "crew_types"})
    restart(server)
    found = api.get("agents/sailors")
    assert (found["usable"], fields(found)) == (False, {"agent_type"})
    assert "sailors" not in OpenWebUI(server).models()
    assert api.patch("agents/sailors", {"enabled": False})["enabled"] is False


@pytest.mark.long
def test_the_other_replica_follows(tmp_path: Path, provider: Provider) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    first, second = (
        make(OURS, tmp_path / name, provider.base_url, environment={"AGENT_MODE_DATABASE_URL": url})
        for name in ("first", "second")
    )
    with running(first, second):
        api = Rest(first)
        api.create("shared")
        assert eventually(lambda: "shared" in OpenWebUI(second).models())
        assert says(second, "shared") == "Hello from stub: Hi"
        api.delete("agents/shared")
        assert eventually(lambda: "shared" not in OpenWebUI(second).models())


@pytest.mark.long
def test_our_files_that_were_deleted_stay_deleted(tmp_path: Path, provider: Provider) -> None:
    server = make(OURS, tmp_path / "x", provider.base_url, foreign=())
    ours = {path.stem for path in (ROOT / "pipelines").glob("*.py")}
    assert "data_analyst" in ours
    with running(server):
        assert listed(server) == ours
        server.request("DELETE", "/pipelines/delete", json={"id": "data_analyst"})
        assert server.upload("hotswap.py", "broken").status_code == 200
        assert listed(server) == ours - {"data_analyst", "hotswap"}
        for _ in range(2):
            server.mark = server.log_file.stat().st_size
            restart(server)
            # What failed to load gets a new chance; what was deleted does not come back.
            assert listed(server) == ours - {"data_analyst"}
            assert "pipeline left out, since it was deleted" in server.log()
        assert (server.pipelines_dir / "failed" / "hotswap.py.old").read_text() == "broken"
        (server.home / "own_pipelines.json").unlink()
        restart(server)
        assert listed(server) == ours


@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b"\xff", b'"x"'])
def test_a_broken_list_of_our_files_keeps_nothing_from_starting(content: bytes, tmp_path: Path) -> None:
    from agent_mode.server import prepare
    from tests.runtimes import settings

    (tmp_path / prepare.PUT_FILE).write_bytes(content)
    folder = prepare.pipelines_dir(settings(tmp_path), tmp_path)
    assert {path.name for path in folder.glob("*.py")} == {p.name for p in (ROOT / "pipelines").glob("*.py")}
    assert json.loads((tmp_path / prepare.PUT_FILE).read_text())


def test_a_write_reloads_nothing(api: Rest) -> None:
    for number in range(20):
        api.create(f"crowd-{number}")
    api.patch("agents/crowd-7", {"name": "Seven"})
    assert "Loaded module" not in api.server.log()
