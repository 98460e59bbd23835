"""The examples of docs/api.md run as they stand there, one after the other, on a real server."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from tests.provider import Provider
from tests.server.rest import Rest
from tests.server.servers import OURS, ROOT, make, running

PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)


def test_the_examples_run(tmp_path: Path, provider: Provider) -> None:
    # The examples write strategies too.
    folder = shutil.copytree(ROOT / "strategies", tmp_path / "strategies")
    environment = {"AGENT_MODE_MODEL": "stub", "AGENT_MODE_STRATEGIES_DIR": str(folder)}
    server = make(OURS, tmp_path / "x", provider.base_url, environment=environment)
    with running(server):
        environment = {**os.environ, "URL": server.url, "KEY": server.key, "NO_PROXY": "*"}
        script = "set -eu\n" + "\n".join(EXAMPLES)
        done = subprocess.run(
            ["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, (done.stdout[-1000:], done.stderr)
        assert '"output": "Hello from stub: fix: crash on start; chore: bump ruff"' in done.stdout
        assert "it has ended" in done.stdout
        assert [item["id"] for item in Rest(server).get("agents/")["items"]] == ["release-notes"]


def test_every_route_has_an_example(tmp_path: Path, provider: Provider) -> None:
    server = make(OURS, tmp_path / "x", provider.base_url)
    with running(server):
        paths = Rest(server).get("openapi.json")["paths"]
    shown = re.findall(r'\$URL(/api/v1/[^"?]*)', PAGE)
    for path in paths:
        pattern = re.sub(r"\\\{\w+\\\}", r"[^/]+", re.escape(path))
        assert any(re.fullmatch(pattern, address) for address in shown), path
