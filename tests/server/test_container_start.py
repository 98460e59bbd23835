"""What the image would run: its start command and its health check, on a copy of the files that it holds."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_mode.settings import ROOT
from tests.patience import START_PATIENCE
from tests.server.servers import free_port
from tests.unit.test_container import arguments, copied, environment

pytestmark = pytest.mark.long

USER = int(arguments("USER")[-1].split(":")[0])


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user can reach; pytest's own are its user's alone."""
    folder = Path(tempfile.mkdtemp(prefix="agent-mode-image-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def user() -> int | None:
    """The image's user, where we may become it and it can reach this Python; else None."""
    if os.geteuid() != 0:
        return None
    ask = [sys.executable, "-c", "import sqlalchemy, fastapi"]
    try:
        done = subprocess.run(ask, user=USER, group=USER, capture_output=True, check=False)
    except PermissionError:
        return None
    return USER if done.returncode == 0 else None


def test_the_image_s_command_starts_and_is_healthy(place: Path) -> None:
    home, data, scratch = place / "opt", place / "data", place / "tmp"
    for name in copied():
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, home / name, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in (data, scratch):
        folder.mkdir(mode=0o700)
    who = user()
    options = {} if who is None else {"user": who, "group": who, "extra_groups": []}
    if who is not None:
        for folder in (data, scratch):
            os.chown(folder, who, who)
    places = {"/data": str(data), "/tmp": str(scratch)}
    variables = {name: places.get(value, value) for name, value in environment().items()}
    variables |= {"PORT": str(free_port()), "TMPDIR": str(scratch), "PYTHONDONTWRITEBYTECODE": "1"}
    command = json.loads(arguments("CMD")[-1])
    health = json.loads(arguments("HEALTHCHECK")[0].partition("CMD ")[2])
    assert command[0] == health[0]

    with (place / "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, *command[1:]], cwd=home, env=variables, stdout=log, stderr=log, **options
        )
    try:
        deadline = time.monotonic() + START_PATIENCE
        while subprocess.run(
            [sys.executable, *health[1:]], env=variables, capture_output=True, check=False
        ).returncode:
            said = (place / "log").read_text()
            assert server.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.2)
        said = (place / "log").read_text()
        assert f":{variables['PORT']}" in said
        assert "Traceback" not in said
        assert {path.name for path in data.iterdir()} >= {"connection_key", "agent_mode.db", "pipelines"}
        assert not list(home.rglob("__pycache__"))
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(20)
    assert server.returncode in (0, -signal.SIGTERM)
    done = subprocess.run([sys.executable, *health[1:]], env=variables, capture_output=True, check=False)
    assert done.returncode != 0, "a server that is gone is not healthy"
