"""The first start on a fresh machine, the second one, and the starts that cannot work."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import sqlite3
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.patience import LONG, START_PATIENCE
from tests.provider import Provider
from tests.server.openwebui import OpenWebUI
from tests.server.rest import Rest, agent, refusal
from tests.server.servers import OURS, ROOT, STOCK, Server, make, running
from tests.server.test_admin_page import signed_in

pytestmark = pytest.mark.long

CODER = "personas.coder"
DEFAULT_KEY = "0p3n-w3bu!"
PASSWORD = "pass-word-4711"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def repository() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (ROOT / "pipelines").iterdir() if path.is_file()}


def own_address() -> str | None:
    """An address of this machine that others could reach."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return None
        address = probe.getsockname()[0]
    return None if address.startswith("127.") else address


def test_a_fresh_machine(tmp_path: Path) -> None:
    """No key, no provider, no data directory: a key is made, the demo model answers, all of it is kept."""
    before = repository()
    server = make(OURS, tmp_path / "ours", None, key=None, foreign=())
    data = tmp_path / "not" / "there" / "yet"
    server.environment["AGENT_MODE_DATA_DIR"] = str(data)
    keys = []
    for start in (1, 2):
        server.spawn()
        try:
            server.key = wait_for_key(server)
            server.session.headers["Authorization"] = f"Bearer {server.key}"
            server.wait()
            keys.append((data / "connection_key").read_text())
            assert mode(data / "connection_key") == 0o600
            if start == 1:
                check_demo(server)
                begin = signed_in(server).get(f"{server.url}/admin/agents/new").text
                assert "AGENT_MODE_ALLOW_CUSTOM_PYTHON=true and restart" in begin
                server.set_valves(llm_api_key="sk-kept-for-the-second-start", enable_debug="yes")
                assert mode(data / "pipelines" / "personas" / "valves.json") & 0o077 == 0
                assert mode(data / "agent_mode.db") & 0o077 == 0
            else:
                assert server.valves_at_start["enable_debug"] is True
                assert server.valves_at_start["llm_api_key"].endswith("tart")
            server.stop()
        finally:
            server.close()

    said = server.log_file.read_text()
    assert keys[0] == keys[1]
    assert re.fullmatch(r"am-[\w-]{40,}", keys[0])
    assert said.count(f"URL   {server.url}") == 2
    assert said.count(f"Key   {keys[0]}") == 2
    assert said.count("Admin Panel → Settings → Connections") == 2
    assert said.count(f"Agent Mode is ready at {server.url}; its key is kept in ") == 2
    assert said.count("Loaded module: personas\n") == 2  # once for each start
    assert "built-in demo model" in said
    assert "Traceback" not in said
    assert repository() == before
    assert {path.name for path in (data / "pipelines").glob("*.py")} == set(before) & {
        name for name in before if name.endswith(".py")
    }


def wait_for_key(server: Server) -> str:
    """The key as the server prints it."""
    for line in tail(server):
        if match := re.match(r" +Key   (\S+)", line):
            return match[1]
    raise AssertionError(server.tail())


def tail(server: Server) -> Iterator[str]:
    """The log, line by line, as long as the server prints."""
    with server.log_file.open() as log:
        log.seek(server.mark)
        while server.process.poll() is None:
            yield from iter(log.readline, "")
        yield from log


def check_demo(server: Server) -> None:
    webui = OpenWebUI(server)
    for stream in (True, False):
        text = webui.chat().ask("What can you do?", CODER, stream=stream).text
        assert "I am the built-in **demo model**. I was told to be **coder**" in text
        assert "> What can you do?" in text
        assert "OPENAI_API_BASE_URL" in text


@dataclass(frozen=True)
class Refusal:
    """An environment in which our server cannot start, and what it says then."""

    environment: dict[str, str]
    says: str
    cure: str


def refusals(folder: Path, taken: int) -> dict[str, Refusal]:
    file = folder / "a file"
    file.touch()
    unreachable = f"postgresql://joe:{PASSWORD}@127.0.0.1:1/agents"
    return {
        "port taken": Refusal({"PORT": str(taken)}, f"Port {taken} on 127.0.0.1 cannot be used", "PORT="),
        "foreign address": Refusal({"HOST": "192.0.2.7"}, "on 192.0.2.7 cannot be used", "PORT="),
        "no number": Refusal({"PORT": "many"}, "PORT", "docs/settings.md"),
        "data directory": Refusal(
            {"AGENT_MODE_DATA_DIR": str(file)}, f"{file} cannot be written", "AGENT_MODE_DATA_DIR"
        ),
        "database away": Refusal(
            {"AGENT_MODE_DATABASE_URL": unreachable}, "database", "AGENT_MODE_DATABASE_URL"
        ),
        "no database": Refusal(
            {"AGENT_MODE_DATABASE_URL": f"oracle://joe:{PASSWORD}@x/y"}, "database", "AGENT_MODE_DATABASE_URL"
        ),
        "no server": Refusal(
            {"PIPELINES_SERVER_DIR": str(folder)}, "There is no Pipelines server in", "PIPELINES_SERVER_DIR"
        ),
        "default key": Refusal(
            {"HOST": "0.0.0.0", "PIPELINES_API_KEY": DEFAULT_KEY}, "well-known default", "PIPELINES_API_KEY"
        ),
        "key for no header": Refusal(
            {"PIPELINES_API_KEY": "schlüssel-zum-glück"}, "characters that no caller can send", "ASCII"
        ),
        "two keys": Refusal(
            {"PIPELINES_API_KEY": "one two"}, "characters that no caller can send", "PIPELINES_API_KEY"
        ),
    }


def test_a_start_that_cannot_work_says_why(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        cases = refusals(tmp_path, listener.getsockname()[1])
        started: dict[str, tuple[Server, Refusal]] = {}
        for name, refusal in cases.items():
            server = make(OURS, tmp_path / name, None, environment=refusal.environment)
            server.spawn()
            started[name] = server, refusal
        try:
            for name, (server, refusal) in started.items():
                status = server.process.wait(START_PATIENCE)
                said = server.tail()
                assert status == 2, f"{name}: {said}"
                assert refusal.says in said, name
                assert refusal.cure in said, name
                assert "Traceback" not in said, name
                assert PASSWORD not in said, name
                assert len(said.strip().splitlines()) <= 3, f"{name}: {said}"
        finally:
            for server, _ in started.values():
                server.close()


def test_a_damaged_database_stops_the_start(tmp_path: Path) -> None:
    """Going on without it would look well, and lose all that is saved from then on."""
    server = make(OURS, tmp_path / "ours", None)
    with running(server):
        pass
    [file] = tmp_path.rglob("agent_mode.db")
    with contextlib.closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(file.read_bytes())
    third = len(content) // 3
    content[third : 2 * third] = b"\xa5" * third
    file.write_bytes(content)
    server.spawn()
    try:
        assert server.process.wait(START_PATIENCE) == 2
        said = server.tail()
        assert "agent_mode.db is damaged" in said
        assert "docs/backup.md" in said
        assert "Traceback" not in said
        assert file.read_bytes() == content, "whatever can still be read is left as it is"
    finally:
        server.close()


def test_a_stock_server_starts_whatever_happens(tmp_path: Path, provider: Provider) -> None:
    """Our pipelines never keep it from starting; the default key opens it on loopback alone."""
    away = make(
        STOCK,
        tmp_path / "database away",
        provider.base_url,
        environment={"AGENT_MODE_DATABASE_URL": f"postgresql://joe:{PASSWORD}@127.0.0.1:1/agents"},
    )
    wide = make(STOCK, tmp_path / "default key", provider.base_url, key=DEFAULT_KEY, host="0.0.0.0")
    with running(away, wide):
        away.set_valves()
        assert OpenWebUI(away).chat().ask("Hi", CODER).good().text == "Hello from stub: Hi"
        (complaint,) = [line for line in away.records() if "temporary" in line]
        assert "nothing is kept" in complaint
        assert PASSWORD not in away.tail()
        assert away.anonymous("GET", "/readyz").json() == {"status": True, "temporary_store": True}
        assert wide.anonymous("GET", "/readyz").json() == {"status": True}
        api = Rest(away)
        for method, path, body in (
            ("POST", "agents/", agent("lost")),
            ("POST", "personas/", {"key": "lost", "name": "Lost", "prompt": "You are lost."}),
            ("DELETE", "personas/coder", None),
            ("PUT", "users/ann/credential", {"api_key": "sk-0123456789abcdef"}),
        ):
            refusal(api.call(method, path, body), 503, "store_temporary")
        page = signed_in(away).get(
            f"{away.url}/admin/personas", headers={"Accept": "text/html"}, timeout=LONG
        )
        assert "a temporary one stands in for it" in page.text
        assert PASSWORD not in page.text

        wide.host = "127.0.0.1"
        assert wide.get("/models").status_code == 200
        if (address := own_address()) is not None:
            wide.host = address
            refused = wide.get("/models")
            assert refused.status_code == 401
            assert "Set PIPELINES_API_KEY" in refused.json()["error"]["hint"]
            assert wide.anonymous("GET", "/healthz").status_code == 200


def test_a_key_of_ones_own_opens_the_server_from_elsewhere(tmp_path: Path, provider: Provider) -> None:
    address = own_address()
    if address is None:
        pytest.skip("this machine has no address but loopback")
    server = make(OURS, tmp_path / "ours", provider.base_url, host="0.0.0.0")
    server.spawn()
    try:
        server.host = address
        server.wait()
        assert server.anonymous("GET", "/models").status_code == 401
        assert server.get("/models").status_code == 200
        assert f"URL   http://127.0.0.1:{server.port}" in server.tail()
        assert not (server.home / "connection_key").exists()
        assert server.stop() in (0, -signal.SIGTERM)
    finally:
        server.close()


@pytest.mark.parametrize(("arguments", "status"), [(["--help"], 0), (["-h"], 0), (["serve"], 2)])
def test_start_script_explains_itself(arguments: list[str], status: int) -> None:
    done = subprocess.run(
        ["bash", str(ROOT / "start.sh"), *arguments],
        capture_output=True,
        text=True,
        timeout=LONG,
        env={"PATH": os.environ["PATH"]},
        check=False,
    )

    assert done.returncode == status
    assert ("PIPELINES_API_KEY" in done.stdout) == (status == 0)
    assert ("--help" in done.stderr) == (status == 2)
