"""Loaded, reloaded, removed: nothing of ours stays behind, nothing of others suffers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.patience import LONG
from tests.provider import Provider, Reply
from tests.server.openwebui import OpenWebUI
from tests.server.servers import (
    KINDS,
    OLD,
    PIPE,
    ROOT,
    STOCK,
    STOCK_PIPELINES,
    Kind,
    Server,
    eventually,
    make,
    params,
    running,
)

CODER = "personas.coder"
LAYER = "agent_mode.server.layer.Layer"
DEFAULT_THREADS = 40
BROKEN = "this is no Python\n"


@pytest.fixture(scope="module")
def ground(
    provider_process: Provider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[Kind, Server]]:
    """Servers of their own, since these tests take them apart."""
    home = tmp_path_factory.mktemp("life")
    servers = {kind: make(kind, home / kind.name, provider_process.base_url) for kind in KINDS if kind.python}
    with running(*servers.values()):
        yield servers


@pytest.fixture(params=params(*KINDS))
def server(request: pytest.FixtureRequest, ground: dict[Kind, Server], provider: Provider) -> Server:
    server = ground[request.param]
    server.mark = server.log_file.stat().st_size
    for name in STOCK_PIPELINES:
        if not (server.pipelines_dir / name).exists():
            assert upload(server, name) == 200
    server.set_valves()
    return server


def upload(server: Server, name: str) -> int:
    return server.upload(name, (ROOT / "pipelines" / name).read_bytes()).status_code


def works(server: Server) -> None:
    for stream in (True, False):
        answer = OpenWebUI(server).chat().ask("!writer Hi", CODER, stream=stream)
        assert (answer.status, answer.text) == (200, "Hello from stub: Hi")


def bystanders_work(server: Server) -> None:
    body = {"model": "bystander", "messages": [{"role": "user", "content": "x"}], "user": {"name": "Bob"}}
    for stream in (True, False):
        assert "Bob" in server.post("/chat/completions", {**body, "stream": stream}).text


def settled(server: Server) -> dict[str, Any]:
    """What is alive once nothing is on its way any more."""
    tasks: list[str] | None = None
    while tasks != (tasks := server.probe()["tasks"]):
        time.sleep(0.05)
    seen = server.probe(thorough=True)
    return {**seen, "files": sorted(set(seen["files"]))}


def test_reloading_leaves_nothing_behind(server: Server) -> None:
    works(server)
    before = settled(server)
    before.pop("remote_ports")
    assert before["instances"]["Runtime"] == 1
    assert before["layers"].count(LAYER) == (1 if server.kind in (STOCK, OLD) else 0)
    assert before["thread_limit"] > DEFAULT_THREADS

    for _ in range(2):
        assert server.post("/pipelines/reload").status_code == 200
        works(server)
        bystanders_work(server)

    after = settled(server)
    after.pop("remote_ports")
    # One each for a pooled connection to the database, of which there are as many as were needed at once:
    # a chat's lookup, the writer, the housekeeping; the pool keeps five at most.
    before.pop("threads")
    assert len(after.pop("threads")) <= 5
    assert after == before
    assert "Traceback" not in server.log()


def test_uploading_others_leaves_ours_alone(server: Server) -> None:
    before = settled(server)["instances"]

    assert (
        server.upload("another.py", (server.pipelines_dir / "bystander.py").read_bytes()).status_code == 200
    )
    works(server)
    assert "another" in OpenWebUI(server).models()
    assert server.request("DELETE", "/pipelines/delete", json={"id": "another"}).status_code == 200

    works(server)
    assert settled(server)["instances"] == before


def test_a_reload_in_the_middle_of_chats(server: Server, provider: Provider) -> None:
    """Our own server keeps its runtime; on a stock server the chats end, and say so."""
    provider.script(Reply([f"{n} " for n in range(30)], every=0.03), Reply("Late", first_after=0.9))
    with ThreadPoolExecutor(2) as pool:
        talking = pool.submit(OpenWebUI(server).chat().ask, "Count", CODER)
        assert eventually(lambda: provider.active == 1)
        waiting = pool.submit(OpenWebUI(server).chat().ask, "Think", CODER, stream=False)
        assert eventually(lambda: provider.active == 2)
        time.sleep(0.2)
        assert server.post("/pipelines/reload").status_code == 200
        answer, whole = talking.result(timeout=LONG), waiting.result(timeout=LONG)

    if server.kind.own:
        assert answer.good().text == "".join(f"{n} " for n in range(30))
        assert whole.text == "Late"
    else:
        assert answer.text.startswith("0 1 2 ")
        assert (answer.status, answer.done, answer.stray) == (200, 1, [])
        for (message,) in (answer.errors, whole.errors):
            assert message.endswith("Try again in a moment.")
        assert whole.status == (503 if server.kind.layer else 200)
    assert eventually(lambda: provider.active == 0)
    works(server)
    assert server.probe()["runs"] == 0
    assert "Exception in ASGI" not in server.log()


def test_deleting_ours_leaves_nothing_behind(server: Server, provider: Provider) -> None:
    works(server)
    provider_port = urlsplit(provider.base_url).port

    for name in STOCK_PIPELINES:
        reply = server.request("DELETE", "/pipelines/delete", json={"id": name.removesuffix(".py")})
        assert reply.status_code == 200, reply.text

    assert not any(key.startswith("personas.") for key in OpenWebUI(server).models())
    bystanders_work(server)
    left = settled(server)
    if server.kind.own:  # it stays our server: the layer asks for the key, the API needs the store
        assert left["instances"]["Runtime"] == 1
        assert server.anonymous("GET", "/readyz").status_code == 200
        assert server.anonymous("GET", "/bystander/valves").status_code == 401
    else:
        assert left["layers"] == ["starlette.middleware.errors.ServerErrorMiddleware"]
        assert left["tasks"] == []
        assert left["threads"] == []
        assert left["files"] == []
        assert left["thread_limit"] == DEFAULT_THREADS
        assert set(left["instances"].values()) == {0}
        assert provider_port not in left["remote_ports"]

    for name in STOCK_PIPELINES:
        assert upload(server, name) == 200
    works(server)
    again = settled(server)
    assert again["instances"]["Runtime"] == 1
    assert again["layers"].count(LAYER) == (1 if server.kind in (STOCK, OLD) else 0)
    assert server.post("/pipelines/reload").status_code == 200
    works(server)
    assert settled(server)["instances"] == again["instances"]


def test_a_broken_upload_breaks_ours_alone_and_never_the_repository(server: Server) -> None:
    before = {path.name: path.read_bytes() for path in (ROOT / "pipelines").iterdir() if path.is_file()}

    assert server.upload("personas.py", BROKEN).status_code == 200  # upstream says so, whatever happens

    assert "personas" not in {entry["id"] for entry in server.get("/pipelines").json()["data"]}
    assert (server.pipelines_dir / "failed" / "personas.py").read_text() == BROKEN
    bystanders_work(server)
    after = {path.name: path.read_bytes() for path in (ROOT / "pipelines").iterdir() if path.is_file()}
    assert after == before
    assert upload(server, "personas.py") == 200
    works(server)


@pytest.mark.parametrize("server", params(PIPE), indirect=True)
def test_waiting_chats_starve_nobody(server: Server, provider: Provider) -> None:
    """Sixty chats wait in threads; anyio gives a server forty unless told otherwise."""
    server.set_valves(llm_model="stub-hang")
    body = {"model": CODER, "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
    waiting = [server.begin(body) for _ in range(60)]
    try:
        assert eventually(lambda: provider.active == 60)
        server.set_valves()

        assert server.get("/models").status_code == 200
        works(server)
        bystanders_work(server)
    finally:
        for connection in waiting:
            connection.close()
    assert eventually(lambda: provider.active == 0)
    assert server.probe()["runs"] == 0


def test_stopping_a_server_stops_its_chats(ground: dict[Kind, Server], provider: Provider) -> None:
    """The last of these tests: it stops their servers."""
    servers = list(ground.values())
    body = {"model": CODER, "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
    for server in servers:
        server.mark = server.log_file.stat().st_size
        server.set_valves(llm_model="stub-hang")
    waiting = [server.begin(body) for server in servers]
    assert eventually(lambda: provider.active == len(servers))
    for server in servers:
        server.process.terminate()
    for connection in waiting:
        connection.close()  # a stock server would wait for its clients for ever

    for server in servers:
        server.process.wait(15)
        for complaint in ("Task was destroyed", "Unclosed", "Traceback"):
            assert complaint not in server.log(), server.kind
    assert eventually(lambda: provider.active == 0)
