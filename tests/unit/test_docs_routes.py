"""Every route is named in the docs: those of the apps as they are put together, and those of the layers."""

from __future__ import annotations

import ast
import importlib
import json
import os
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from agent_mode import server
from agent_mode.admin import gate
from agent_mode.admin.gate.gate import PREFIX
from agent_mode.settings import ROOT
from tests.docs import PAGES

APPS = """
import json, sys
from pathlib import Path
from agent_mode.admin.api.app import make_app
from agent_mode.admin.pages import app as pages
from agent_mode.server import upstream
from nicegui import app as nicegui_app

pages.make(None)
api = make_app(None, "0").app
theirs = upstream.load(upstream.folder(), pipelines_dir=Path(sys.argv[1]), api_key="key")
found = {
    "upstream": [route.path for route in theirs.routes],
    "pages": [route.path for route in nicegui_app.routes],
    "api": [api.openapi_url, *api.openapi()["paths"]],
}
print(json.dumps(found))
"""
_PATH = re.compile(r"/(?:[\w.-]*\w/?)*")
_NAMED = re.compile(r"`(?:(?:GET|POST|PUT|PATCH|DELETE) )?(/[\w/.{}…-]*)`")
_PARTS = re.compile(r"/(_nicegui_ws|_nicegui|assets)\b.*")
"""Of the pages: files and the socket, whose addresses have versions in them."""


@pytest.fixture(scope="module")
def named() -> set[str]:
    """The addresses in the docs; those in commands begin with the server's."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    return set(_NAMED.findall(text)) | set(re.findall(r"\$URL(/[\w/.$-]*)", text))


@pytest.fixture(scope="module")
def apps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """The paths of each app, made in a process of its own: NiceGUI and upstream know one app a process."""
    home = tmp_path_factory.mktemp("apps")
    done = subprocess.run(
        [sys.executable, "-c", APPS, str(home)],
        cwd=ROOT,
        env={**os.environ, "NICEGUI_STORAGE_PATH": str(home / "nicegui")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {app: set(paths) for app, paths in json.loads(done.stdout.splitlines()[-1]).items()}


def is_named(path: str, named: set[str]) -> bool:
    """Whether a path stands there, or with something in place of its parameters."""
    pattern = re.sub(r"\\\{[^/]+\\\}", "[^/]+", re.escape(path))
    return any(re.fullmatch(pattern, name) for name in named)


def test_the_routes_of_the_api_are_named(apps: dict[str, set[str]], named: set[str]) -> None:
    assert "/api/v1/agents/{agent_id}" in apps["api"]
    assert not sorted(path for path in apps["api"] if not is_named(path, named))


def test_the_pages_are_named(apps: dict[str, set[str]], named: set[str]) -> None:
    assert "/agents/{agent_id}" in apps["pages"]
    paths = {PREFIX + _PARTS.sub(r"/\1/…", path) for path in apps["pages"]}
    assert not sorted(paths - named)


def test_the_routes_of_the_pipelines_server_are_named(apps: dict[str, set[str]], named: set[str]) -> None:
    """Those below `/v1` are the same once more."""
    paths = {path.removeprefix("/v1") or "/v1" for path in apps["upstream"]}
    assert "/{pipeline_id}/valves/update" in paths
    assert paths <= apps["upstream"]
    assert not sorted(paths - named)


def modules(package: ModuleType) -> Iterator[ModuleType]:
    for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        yield importlib.import_module(found.name)


def values_of(module: ModuleType) -> Iterator[str]:
    """The texts in a module's constants, imported ones too, and those within its code."""
    for name, value in vars(module).items():
        if not name.startswith("__"):
            yield from (
                part
                for part in (value if isinstance(value, frozenset | dict) else [value])
                if isinstance(part, str)
            )
    assert module.__file__
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    within = {part for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    for node in ast.walk(tree):
        if node not in within and isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_the_paths_that_the_layer_and_the_gate_know_are_named(named: set[str]) -> None:
    """They have no table of routes; so every path that stands in them counts."""
    known = {
        text
        for package in (server, gate)
        for module in modules(package)
        for text in values_of(module)
        if _PATH.fullmatch(text)
    }
    assert {"/reached", "/metrics", "/readyz", "/admin/sign-in", "/admin/sign-out", "/personas"} <= known
    again = {f"/v1{path}" for path in known}
    assert not sorted(known - again - named)
