"""Commands of the docs, run as they stand there in a copy of the checkout; only the port is another.

docs/api.md has a test of its own (test_api_docs.py). Not run are those that need Docker, a cluster, git or
the web; tests/unit/test_docs_commands.py reads them.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from agent_mode.observe.webhooks import Webhooks
from agent_mode.settings import ROOT
from tests.databases import POSTGRES_URL
from tests.docs import scripts, text_of
from tests.patience import LONG, START_PATIENCE
from tests.provider import KEY as PROVIDER_KEY
from tests.provider import Provider
from tests.server.servers import eventually, free_port

pytestmark = pytest.mark.long

PAGE_URL = "http://127.0.0.1:9099"


class Checkout:
    """A folder that looks like a checkout after `./start.sh`, with a server that this started."""

    def __init__(self, home: Path, provider: Provider) -> None:
        self.home = home
        self.port = free_port()
        kept = ("AGENT_MODE_", "OPENAI_", "OPENWEBUI_", "PIPELINES_", "HOST", "PORT", "PYTHONPATH")
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith(kept)
        } | {
            "PORT": str(self.port),
            "OPENAI_API_BASE_URL": provider.base_url,
            "OPENAI_API_KEY": PROVIDER_KEY,
            "AGENT_MODE_MODEL": "stub",
            "NO_PROXY": "*",
        }
        self._server: subprocess.Popen[bytes] | None = None
        home.mkdir()
        for name in ("agent_mode", "personas", "pipelines", "strategies", "valves"):
            (home / name).symlink_to(ROOT / name)
        shutil.copytree(ROOT / "scripts", home / "scripts")
        for name in ("start.sh", "requirements.lock"):
            shutil.copy(ROOT / name, home)
        self._install()

    def _install(self) -> None:
        """What the first start would do, with the environment of the tests in place of a new one."""
        programs = self.home / ".venv" / "bin"
        programs.mkdir(parents=True)
        (programs / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        (programs / "python").chmod(0o755)
        digest = self.shell("cat requirements.lock | cksum | tr -d ' '").strip()
        (self.home / ".venv" / f".installed-{digest}").touch()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def key(self) -> str:
        return (self.home / "data" / "connection_key").read_text().strip()

    def shell(self, script: str, **variables: str) -> str:
        """Runs a script of the docs.

        Raises:
            AssertionError: it failed; with what it said.
        """
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script.replace(PAGE_URL, f"http://127.0.0.1:{self.port}")],
            cwd=self.home,
            env={**self.environment, **variables},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (script, done.stdout, done.stderr)
        return done.stdout

    def start(self, script: str) -> None:
        with (self.home / "log").open("ab") as log:
            self._server = subprocess.Popen(
                ["bash", "-euc", f"exec {script.strip()}"],
                cwd=self.home,
                env=self.environment,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_PATIENCE
        while True:
            try:
                if requests.get(f"{self.url}/readyz", timeout=5).status_code == 200:
                    return
            except requests.ConnectionError:
                pass
            assert self._server.poll() is None, (self.home / "log").read_text()
            assert time.monotonic() < deadline, (self.home / "log").read_text()
            time.sleep(0.1)

    def stop(self) -> None:
        if self._server is not None:
            self._server.send_signal(signal.SIGTERM)
            self._server.wait(20)
            self._server = None


@pytest.fixture
def checkout(tmp_path: Path, provider: Provider) -> Iterator[Checkout]:
    made = Checkout(tmp_path / "checkout", provider)
    yield made
    made.stop()


def block(page: str, holds: str) -> str:
    """The shell block of a page that holds these words."""
    found = [script for script in scripts(text_of(page)) if holds in script]
    assert len(found) == 1, f"{len(found)} blocks of {page} hold {holds}"
    return found[0]


def personas(checkout: Checkout) -> set[str]:
    with sqlite3.connect(checkout.home / "data" / "agent_mode.db") as database:
        rows = database.execute("SELECT key FROM persona WHERE origin = 'custom'").fetchall()
    database.close()
    return {key for (key,) in rows}


def test_the_first_chat(checkout: Checkout) -> None:
    checkout.start(block("first-chat.md", "./start.sh"))
    said = (checkout.home / "log").read_text()
    assert "Setting up" not in said, "an installed environment is taken as it is"
    assert f"URL   {checkout.url}" in said
    assert f"Key   {checkout.key}" in said
    shown = json.loads(checkout.shell(block("first-chat.md", "readyz")))
    page = text_of("first-chat.md")
    assert shown == json.loads(re.findall(r"```json\n\s*(.*?)\n\s*```", page)[0])
    looked = re.search(r"`(curl [^`]*/readyz)` answers `([^`]*)`", text_of("troubleshooting.md"))
    assert looked
    assert json.loads(checkout.shell(looked[1])) == json.loads(looked[2])


def test_the_agent_of_the_docs_is_made_and_answers(checkout: Checkout) -> None:
    checkout.start("./start.sh")
    made = json.loads(checkout.shell(block("write-an-agent.md", "curl"), KEY=checkout.key))
    assert (made["id"], made["offered"]) == ("fact-finder", True)
    listed = requests.get(
        f"{checkout.url}/models", headers={"Authorization": f"Bearer {checkout.key}"}, timeout=LONG
    )
    assert "fact-finder" in [model["id"] for model in listed.json()["data"]]


def test_backup_and_restore(checkout: Checkout) -> None:
    """All of docs/backup.md that needs no PostgreSQL: what was packed comes back."""
    checkout.start("./start.sh")
    key = checkout.key
    checkout.shell(block("write-an-agent.md", "curl"), KEY=key)
    headers = {"Authorization": f"Bearer {key}"}
    form = {"key": "sommelier", "name": "Sommelier", "prompt": "You are a sommelier."}
    made = requests.post(
        f"{checkout.url}/api/v1/personas/",
        json=form,
        headers=headers,
        timeout=LONG,
    )
    assert made.status_code == 201
    checkout.shell(block("backup.md", "-m agent_mode backup"))
    exported = json.loads((checkout.home / "personas.json").read_text())
    assert "sommelier" in str(exported)
    checkout.shell(block("backup.md", "export agents.json"))
    agent = f"{checkout.url}/api/v1/agents/fact-finder"
    before = requests.get(agent, headers=headers, timeout=LONG).json()
    assert requests.delete(agent, headers=headers, timeout=LONG).status_code == 204
    assert "Done: 1 created" in checkout.shell(block("backup.md", "import agents.json"))
    assert eventually(lambda: requests.get(agent, headers=headers, timeout=LONG).json().get("offered"))
    after = requests.get(agent, headers=headers, timeout=LONG).json()
    assert all(after[name] == before[name] for name in ("name", "agent_type", "definition", "valves"))

    checkout.shell(block("backup.md", "agent_mode.db.copy"))
    with sqlite3.connect(checkout.home / "agent_mode.db.copy") as copy:
        assert copy.execute("SELECT id FROM agent").fetchall() == [("fact-finder",)]
    copy.close()

    checkout.stop()
    checkout.shell(block("backup.md", "tar -czf"))
    (checkout.home / "data" / "agent_mode.db").write_bytes(b"damaged")
    checkout.shell(block("backup.md", "tar -xzf"))
    assert checkout.key == key
    assert personas(checkout) == {"sommelier"}
    assert (checkout.home / "data.damaged").is_dir()


def test_the_commands_on_the_store(checkout: Checkout) -> None:
    checkout.start("./start.sh")
    checkout.stop()
    catalogue = {
        "format": "agent-mode-personas",
        "version": 1,
        "personas": [{"key": "sommelier", "name": "Sommelier", "prompt": "You are a sommelier."}],
    }
    (checkout.home / "personas.json").write_text(json.dumps(catalogue))
    said = checkout.shell(block("command-line.md", "import personas.json"))
    assert "Done: 1 created" in said
    assert personas(checkout) == {"sommelier"}
    assert "coder" in (checkout.home / "coder.md").read_text()

    script = block("command-line.md", "backup --list")
    checkout.shell(".venv/bin/python -m agent_mode backup")
    name = sorted(path.name for path in (checkout.home / "data" / "backups").glob("personas-*.json"))[-1]
    said = checkout.shell(re.sub(r"personas-\S+\.json", name, script))
    assert name in said
    assert "Nothing was changed" in said


def test_bundles_are_written(checkout: Checkout, tmp_path: Path) -> None:
    shutil.copy(ROOT / "pipelines" / "researcher.py", checkout.home / "my_agent.py")
    checkout.shell(block("command-line.md", "--output").replace("/tmp/bundles", str(tmp_path / "bundles")))
    shipped = {path.name for path in (ROOT / "pipelines").glob("*.py")}
    assert {path.name for path in (checkout.home / "dist").glob("*.py")} == shipped
    assert [path.name for path in (tmp_path / "bundles").iterdir()] == ["my_agent.py"]


def test_the_data_of_a_container_come_back(tmp_path: Path) -> None:
    """What docs/backup.md lets `tar` do there, done here."""
    inside = re.compile(r"docker compose (?:exec|run)[^|;\n]* agent-mode (tar [^\n]*)")
    found = "\n".join(script for script in scripts(text_of("backup.md")))
    packing, unpacking = (command.replace("/data", "data") for command in inside.findall(found))
    data = tmp_path / "data"
    data.mkdir()
    (data / "connection_key").write_text("key")
    subprocess.run(["bash", "-euc", packing], cwd=tmp_path, check=True)
    (data / "connection_key").unlink()
    subprocess.run(["bash", "-euc", unpacking], cwd=tmp_path, check=True)
    assert (data / "connection_key").read_text() == "key"


def test_the_secret_of_the_webhooks_is_good() -> None:
    script = block("events.md", "AGENT_MODE_WEBHOOK_SECRET") + '\nprintf "%s" "$AGENT_MODE_WEBHOOK_SECRET"'
    done = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, check=True)
    assert len(base64.b64decode(done.stdout.removeprefix("whsec_"), validate=True)) == 32
    Webhooks(("https://example.com/agent-mode",), done.stdout)


@pytest.mark.skipif(not POSTGRES_URL or not shutil.which("pg_dump"), reason="no PostgreSQL at hand")
def test_a_dump_of_postgresql_comes_back(tmp_path: Path) -> None:
    server = re.sub(r"\+\w+(?=://)", "", POSTGRES_URL or "")
    name = f"agent_mode_dump_{os.getpid()}"
    url = re.sub(r"(?<=[^/:])/[^/?]*(?=\?|$)", f"/{name}", server)
    subprocess.run(["psql", "-qc", f"CREATE DATABASE {name}", server], check=True)
    try:
        words = "CREATE TABLE persona (key text); INSERT INTO persona VALUES ('sommelier')"
        subprocess.run(["psql", "-qc", words, url], check=True)
        dump, restore = block("backup.md", "pg_dump --format=custom --file").splitlines()
        environment = {**os.environ, "AGENT_MODE_DATABASE_URL": url}
        subprocess.run(["bash", "-euc", dump], cwd=tmp_path, env=environment, check=True)
        subprocess.run(["psql", "-qc", "DELETE FROM persona", url], check=True)
        subprocess.run(["bash", "-euc", restore], cwd=tmp_path, env=environment, check=True)
        found = subprocess.run(
            ["psql", "-Atc", "SELECT key FROM persona", url], capture_output=True, text=True, check=True
        )
        assert found.stdout.strip() == "sommelier"
    finally:
        subprocess.run(["psql", "-qc", f"DROP DATABASE {name} WITH (FORCE)", server], check=True)
