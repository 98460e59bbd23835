"""The steps of the set-up: what each check finds, against servers that answer as they like; and `doctor`."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from agent_mode.admin import findings, offers, setup
from agent_mode.admin.setup import Facts
from agent_mode.chat.runtime import Runtime
from agent_mode.errors import ConfigurationError
from agent_mode.llm.connection import Connection
from agent_mode.server import doctor
from agent_mode.settings import Settings
from agent_mode.store import migrate
from agent_mode.store.db import Database
from agent_mode.tools import probe
from tests.patience import PATIENCE
from tests.runtimes import settings as a_catalogue

pytest_plugins = ["tests.databases"]

KEY = "sk-admins-key-of-open-webui"
OWN = "am-connection-key-of-this-server"
USER: Any = (401, {"detail": "You do not have permission to access this resource."})


class Elsewhere:
    """A server: by path, status and JSON, or what makes them."""

    def __init__(self) -> None:
        self.replies: dict[str, Any] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.by_model: Any = None
        """The answer to whatever has a body with `model`: connections are chosen by it."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append((self.path, self.headers.get("Authorization")))
                sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, data = outer.replies.get(self.path, (404, {"detail": "Not Found"}))
                if outer.by_model and b'"model": "personas.coder"' in sent:
                    status, data = outer.by_model
                raw = data if isinstance(data, bytes) else json.dumps(data).encode()
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def there() -> Iterator[Elsewhere]:
    server = Elsewhere()
    yield server
    server.close()


Ask = Callable[..., findings.Finding]


@pytest.fixture
def check(there: Elsewhere) -> Ask:
    """Runs one check, with facts that fit the server."""

    def run(step: str, **facts: Any) -> findings.Finding:
        llm = Connection("openai", f"{there.url}/v1", KEY)
        given = {"llm": llm, "openwebui_url": there.url, "openwebui_key": KEY, "connection_key": OWN}
        finding = setup.STEPS[step](Facts(**{**given, "server_url": there.url, **facts}))
        assert finding.step == step
        assert (finding.state == "done") == (finding.cure == "")
        assert KEY not in repr(finding)
        assert OWN not in repr(finding)
        return finding

    return run


CONFIG: dict[str, Any] = {
    "ENABLE_OPENAI_API": True,
    "OPENAI_API_BASE_URLS": ["http://a/v1", "http://user:pass@b:9099"],
    "OPENAI_API_KEYS": ["other", OWN],
    "OPENAI_API_CONFIGS": {"0": {"enable": False}, "1": {"enable": True, "prefix_id": "", "model_ids": []}},
}
FAULTY = {"prefix_id": "Prefix ID", "model_ids": "Model IDs"}
MODELS: Any = {"data": [{"id": "gpt"}, {"id": "personas.coder"}]}
CLOSED: Any = (403, {"detail": "Direct API passthrough is disabled."})
SHARED = [{"id": "personas.coder", "access_grants": [{"permission": "read", "principal_type": "group"}]}]


@pytest.mark.parametrize(
    ("step", "replies", "state", "words"),
    [
        ("server", {"/readyz": (200, {"status": True})}, "done", "answers at"),
        ("server", {"/readyz": (503, {"status": False})}, "wrong", "could not start"),
        ("server", {}, "wrong", "Something else"),
        ("llm", {"/v1/models": (200, {"data": [{"id": "gpt"}]})}, "done", "1 model"),
        ("llm", {"/v1/models": (401, {"error": f"no {KEY}"})}, "wrong", "refused the key"),
        ("llm", {"/v1/models": (500, b"oops")}, "wrong", "500"),
        ("llm", {"/v1/models": (200, b"<html>")}, "wrong", "no list of models"),
        ("llm", {}, "open", "lists no models"),
        ("openwebui", {"/api/version": (200, {"version": "0.12.4"})}, "done", "0.12.4"),
        ("openwebui", {"/api/version": (200, b"<html>")}, "wrong", "not Open WebUI"),
        ("openwebui", {"/api/version": (302, b"")}, "wrong", "somewhere else"),
        ("key", {"/api/v1/models/base": (200, [])}, "done", "accepted"),
        ("key", {"/api/v1/models/base": (403, {"detail": "Not enabled"})}, "wrong", "Not enabled"),
        ("key", {"/api/v1/models/base": USER}, "wrong", "does not know"),
        (
            "key",
            {"/api/v1/models/base": USER, "/api/v1/users/user/info": (200, None)},
            "wrong",
            "not an admin's",
        ),
        ("key", {"/api/v1/models/base": (500, {})}, "wrong", "500"),
        ("connection", {"/openai/config": (200, CONFIG)}, "done", "http://b:9099"),
        ("connection", {"/openai/config": (200, {**CONFIG, "OPENAI_API_KEYS": ["x"]})}, "open", "None of"),
        ("connection", {"/openai/config": (200, {**CONFIG, "ENABLE_OPENAI_API": False})}, "wrong", "off"),
        ("connection", {"/openai/config": USER}, "open", "may not ask"),
        ("passthrough", {"/openai/reached": (200, {"reached": "agent_mode"})}, "wrong", "any request of any"),
        (
            "passthrough",
            {"/openai/reached": CLOSED, "/openai/config": (200, CONFIG)},
            "done",
            "do not get past",
        ),
        ("passthrough", {"/openai/reached": (403, {}), "/openai/config": (403, {})}, "open", "may not ask"),
        (
            "passthrough",
            {"/openai/reached": (404, {}), "/api/models": (200, MODELS)},
            "done",
            "do not get past",
        ),
        ("passthrough", {"/openai/reached": (200, {"status": True})}, "done", "do not get past"),
        ("passthrough", {"/openai/reached": (500, {"detail": "Server Connection Error"})}, "wrong", "500"),
        ("models", {"/api/models": (200, MODELS)}, "done", "1 are listed"),
        ("models", {"/api/models": (200, {"data": []})}, "wrong", "None"),
        ("access", {"/api/v1/models/base": (200, SHARED)}, "done", "1 model shared"),
        ("access", {"/api/v1/models/base": (200, [{"id": "personas.x"}])}, "open", "admins alone"),
        ("access", {"/api/v1/models/base": (200, [{**SHARED[0], "id": "gpt"}])}, "open", "admins alone"),
        ("tools", {"/api/v1/tools/": (200, [{"id": "dice"}])}, "done", "1 toolkit"),
        ("tools", {"/api/v1/tools/": (200, [])}, "open", "none"),
    ],
)
def test_what_each_check_finds(
    there: Elsewhere, check: Ask, step: str, replies: dict[str, Any], state: str, words: str
) -> None:
    there.replies = replies
    found = check(step)
    assert (found.state, words in found.text) == (state, True), found


@pytest.mark.parametrize("offered", [None, frozenset({"personas.writer", "personas.coder"})])
def test_the_passthrough_to_a_connection_that_is_not_the_first(
    there: Elsewhere, check: Ask, offered: frozenset[str] | None
) -> None:
    there.replies = {"/api/models": (200, MODELS)}
    there.by_model = (200, {"reached": "agent_mode"})
    assert check("passthrough", offered=offered).state == "wrong"


@pytest.mark.parametrize("name", FAULTY)
def test_a_connection_that_cannot_work(there: Elsewhere, check: Ask, name: str) -> None:
    configs = {"1": {"enable": True, name: "x"}}
    there.replies = {"/openai/config": (200, {**CONFIG, "OPENAI_API_CONFIGS": configs})}
    found = check("connection")
    assert found.state == "wrong"
    assert FAULTY[name] in found.text


@pytest.mark.parametrize("step", setup.STEPS)
@pytest.mark.parametrize(
    "answer", [b"null", b"[[], 7, null]", b'{"data": 7}', b'{"data": {"a": 1}}', b"[" * 5000]
)
def test_odd_answers_do_no_harm(there: Elsewhere, check: Ask, step: str, answer: bytes) -> None:
    paths = ("/readyz", "/v1/models", "/api/version", "/api/v1/models/base", "/openai/config", "/api/models")
    there.replies = dict.fromkeys((*paths, "/api/v1/tools/", "/api/v1/users/user/info"), (200, answer))
    check(step)


@pytest.mark.parametrize("step", setup.STEPS)
def test_nobody_there(check: Ask, step: str) -> None:
    nobody = "http://127.0.0.1:9"
    llm = Connection("openai", nobody, KEY)
    wanted = "open" if step == "server" else "wrong"  # `doctor` needs no running server
    assert check(step, llm=llm, openwebui_url=nobody, server_url=nobody).state == wanted


@pytest.mark.parametrize("step", [step for step in setup.STEPS if step != "server"])
def test_what_is_not_set_is_no_fault(check: Ask, step: str) -> None:
    facts = {"openwebui_url": None, "openwebui_key": None, "connection_key": None}
    assert check(step, llm=Connection("demo"), **facts).state == "open"


def test_a_model_that_the_provider_does_not_list(there: Elsewhere, check: Ask) -> None:
    there.replies = {"/v1/models": (200, {"data": [{"id": "gpt"}]})}
    found = check("llm", llm=Connection("openai", f"{there.url}/v1", KEY, "gone"))
    assert (found.state, "gone" in found.text) == ("wrong", True)
    assert check("llm", llm=ConfigurationError("Odd.", hint="Set it.")).cure == "Set it."


def test_the_key_goes_where_it_belongs_and_no_further(there: Elsewhere) -> None:
    there.replies = {"/a": (302, b""), "/elsewhere": (200, {})}
    assert probe.get(f"{there.url}/a", KEY).status == 302
    assert there.asked == [("/a", f"Bearer {KEY}")]
    assert probe.get(f"{there.url}/a", "sk-\nx").status == 0, "a key that no header can hold"


def test_what_is_wrong_comes_before_what_is_not_done() -> None:
    found = [findings.Finding(state, "", state, "") for state in ("done", "open", "wrong", "open")]  # pyright: ignore[reportArgumentType]
    assert [findings.next_step(found[:n]) for n in (1, 2, 4)] == [None, found[1], found[2]]


# doctor


@pytest.fixture
def settings(tmp_path: Any, there: Elsewhere, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    def make(**values: str) -> Settings:
        given = {
            "HOST": "0.0.0.0",
            "PORT": there.url.rpartition(":")[2],
            "OPENAI_API_BASE_URL": f"{there.url}/v1",
            "OPENWEBUI_URL": f"{there.url}/",
            "OPENWEBUI_API_KEY": KEY,
            "AGENT_MODE_DATA_DIR": str(tmp_path),
            **values,
        }
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        return Settings()  # pyright: ignore[reportCallIssue]

    return make


def test_doctor_says_all_at_once(there: Elsewhere, settings: Callable[..., Settings], tmp_path: Any) -> None:
    (tmp_path / "connection_key").write_text(f"{OWN}\n")
    there.replies = {
        "/readyz": (200, {"status": True}),
        "/v1/models": (200, {"data": [{"id": "gpt"}]}),
        "/api/version": (200, {"version": "0.12.4"}),
        "/api/v1/models/base": (200, SHARED),
        "/openai/config": (200, CONFIG),
        "/api/models": (200, MODELS),
        "/api/v1/tools/": (200, []),
    }
    lines, good = doctor.run(settings())
    assert good
    # Nothing has made a database yet; the last one is about tools.
    assert [line[:5].strip() for line in lines if "→" not in line] == [
        "ok",
        "ok",
        "open",
        *["ok"] * 7,
        "open",
    ]
    assert lines[-1].startswith("       → ")

    there.replies["/v1/models"] = (401, {})
    lines, good = doctor.run(settings())
    assert not good
    assert lines[-1] == "1 of 11 checks found something wrong."
    assert KEY not in str(lines)


def test_doctor_needs_no_running_server(settings: Callable[..., Settings]) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        found = setup.check_server(doctor.facts_of(settings(PORT=str(port))))
    assert found.state == "open"
    assert f"127.0.0.1:{port}" in found.text
    assert "PORT=" in found.cure


async def test_where_tools_are_picked_a_dead_key_is_the_servers_own(there: Elsewhere, tmp_path: Path) -> None:
    there.replies = dict.fromkeys(
        ("/api/v1/tools/", "/api/v1/auths/"), (401, {"detail": "Not authenticated"})
    )
    runtime = await Runtime.open(a_catalogue(tmp_path, openwebui_url=there.url, openwebui_api_key=KEY))
    try:
        offered = await offers.tools(runtime)
    finally:
        await runtime.close()
    assert there.asked
    assert offered.tools == []
    assert "OPENWEBUI_API_KEY" in offered.problem
    assert "Setup" in offered.problem
    assert "Sign in again" not in offered.problem


def test_doctor_reads_the_valves_of_the_personas(
    there: Elsewhere, settings: Callable[..., Settings], tmp_path: Any
) -> None:
    folder = tmp_path / "pipelines" / "personas"
    folder.mkdir(parents=True)
    file = folder / "valves.json"
    file.write_text(
        json.dumps({"llm_base_url": f"{there.url}/other", "llm_api_key": "sk-x", "llm_model": "m"})
    )
    facts = doctor.facts_of(settings())
    assert facts.llm == Connection("openai", f"{there.url}/other", "sk-x", "m")
    file.write_text("{")
    assert isinstance(doctor.facts_of(settings()).llm, Connection)


def test_doctor_does_not_wait_for_what_never_answers(
    monkeypatch: pytest.MonkeyPatch, settings: Callable[..., Settings]
) -> None:
    monkeypatch.setattr(findings, "SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        before = time.monotonic()
        found = {f.step: f for f in doctor.examine(Facts(Connection("demo"), url, KEY, OWN), settings())}
        assert time.monotonic() - before < PATIENCE
    assert found["llm"].state == "open"
    assert "No result within" in found["openwebui"].text
    # What needs Open WebUI fails for that reason alone.
    below = [found[step] for step in ("key", "connection", "passthrough", "models", "access", "tools")]
    assert [(f.state, f.cure) for f in below] == [("open", "The steps above come first.")] * 6


def test_doctor_looks_at_the_data_and_the_database(settings: Callable[..., Settings], tmp_path: Any) -> None:
    (tmp_path / "agent_mode.db").write_bytes(b"this is no database, " * 1000)
    found = doctor.check_database(settings())
    assert (found.state, found.title) == ("wrong", "The database can be used")
    assert "agent_mode.db" in found.text
    assert found.cure

    (tmp_path / "file").write_text("")
    found = doctor.check_data(settings(AGENT_MODE_DATA_DIR=str(tmp_path / "file")))
    assert (found.state, found.title) == ("wrong", "The data directory can be written")
    found = doctor.check_data(settings(AGENT_MODE_DATA_DIR=str(tmp_path / "none")))
    assert (found.state, (tmp_path / "none").exists()) == ("open", False)
    assert doctor.check_data(settings(AGENT_MODE_DATA_DIR=str(tmp_path))).state == "done"

    nobody = "postgresql://agent:secret-of-ours@127.0.0.1:9/agent_mode"
    found = doctor.check_database(settings(AGENT_MODE_DATABASE_URL=nobody))
    assert found.state == "wrong"
    assert "secret-of-ours" not in repr(found)


async def test_a_database_that_can_be_used_is_left_as_it_is(tmp_path: Any) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'agent_mode.db'}"
    await (await Database.open(url)).close()
    before = sorted(path.name for path in tmp_path.iterdir())
    given = Settings(data_dir=tmp_path, database_url=None)  # pyright: ignore[reportCallIssue]
    found = await asyncio.to_thread(doctor.check_database, given)
    assert (found.state, sorted(path.name for path in tmp_path.iterdir())) == ("done", before)


async def test_an_older_database_is_told_and_left_as_it_is(database_url: str, tmp_path: Any) -> None:
    def older(connection: sqlalchemy.Connection) -> None:
        from alembic import command
        from alembic.config import Config

        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(migrate.MIGRATIONS))
        command.downgrade(config, "0007")

    def bytes_of_files() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (tmp_path / "new").glob("*")}

    database = await Database.open(database_url)
    async with database.begin() as connection:
        await connection.run_sync(older)
    await database.close()
    before = bytes_of_files()
    given = Settings(data_dir=tmp_path, database_url=database_url)  # pyright: ignore[reportCallIssue]
    for _ in range(2):
        found = await asyncio.to_thread(doctor.check_database, given)
        assert (found.state, f"from version 0007 to {migrate.HEAD}" in found.text) == ("open", True)
        assert "docs/backup.md" in found.cure
    assert bytes_of_files() == before
    await (await Database.open(database_url)).close()
    assert (await asyncio.to_thread(doctor.check_database, given)).state == "done"


async def test_so_is_an_empty_one(tmp_path: Any) -> None:
    file = tmp_path / "agent_mode.db"
    file.touch()
    given = Settings(data_dir=tmp_path, database_url=None)  # pyright: ignore[reportCallIssue]
    found = await asyncio.to_thread(doctor.check_database, given)
    assert (found.state, found.text) == ("open", "It opens, and is empty.")
    assert [path.name for path in tmp_path.iterdir()] == ["agent_mode.db"]
    assert file.read_bytes() == b""


def test_the_running_server_must_take_the_connection_key(there: Elsewhere, check: Ask) -> None:
    there.replies = {"/readyz": (200, {"status": True}), "/v1/pipelines": (401, {"detail": "Wrong key"})}
    found = check("server")
    assert (found.state, "refuses the connection key" in found.text) == ("wrong", True)
    assert "PIPELINES_API_KEY" in found.cure
    assert check("server", connection_key=None).state == "done"


def test_a_temporary_database_is_nothing_that_works(there: Elsewhere, check: Ask) -> None:
    there.replies = {"/readyz": (200, {"status": True, "temporary_store": True})}
    assert "nothing is kept" in check("server").text


@pytest.mark.parametrize("url", ["foo", "://foo", "ftp://host", "http://", "http://a b", "http://h:x"])
def test_an_address_that_is_none_is_refused_before_anything_is_asked(
    settings: Callable[..., Settings], url: str
) -> None:
    [wrong] = settings(OPENWEBUI_URL=url).misfits()
    assert (wrong.field, "http://" in wrong.message) == ("OPENWEBUI_URL", True)
    [wrong] = settings(OPENAI_API_BASE_URL=url).misfits()
    assert wrong.field == "OPENAI_API_BASE_URL"
    assert settings().misfits() == []
