"""The servers that all tests here share, started side by side once; each test gets them as good as new."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.provider import Provider
from tests.server.openwebui import OpenWebUI
from tests.server.rest import Rest
from tests.server.servers import KINDS, OLD, OURS, STOCK, Kind, Server, make, params, running

STALE_VALVES = (
    '{"history_policy": "of-an-older-version", "read_timeout": "soon", "enable_debug": null, "gone": 1}'
)

FAMILIES = ("gpt-4o", "claude-3-5-sonnet-20241022", "gemini-1.5-pro", "mystery-7b")
"""Model names of the provider that play copycat: "I am <name>", whoever it was told to be."""


@pytest.fixture(scope="session")
def provider_process() -> Iterator[Provider]:
    with Provider(aliases=dict.fromkeys(FAMILIES, "stub-copycat")) as provider:
        yield provider


@pytest.fixture
def provider(provider_process: Provider) -> Provider:
    """The LLM provider, with nothing recorded yet."""
    provider_process.clear()
    return provider_process


@pytest.fixture(scope="session")
def fleet(
    provider_process: Provider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[Kind, Server]]:
    """One server of each kind that this machine can run. All start with the valves of an older version."""
    home = tmp_path_factory.mktemp("servers")
    servers = {kind: make(kind, home / kind.name, provider_process.base_url) for kind in KINDS if kind.python}
    for server in servers.values():
        folder = server.pipelines_dir / "personas"
        folder.mkdir()
        (folder / "valves.json").write_text(STALE_VALVES)
    with running(*servers.values()):
        yield servers


@pytest.fixture(params=params(*KINDS))
def server(request: pytest.FixtureRequest, fleet: dict[Kind, Server], provider: Provider) -> Server:
    """A running server. `parametrize("server", params(…), indirect=True)` narrows the kinds."""
    return as_new(fleet[request.param])


def as_new(server: Server) -> Server:
    server.mark = server.log_file.stat().st_size
    server.set_valves()
    return server


@pytest.fixture(params=params(OURS, STOCK, OLD))
def api(request: pytest.FixtureRequest, fleet: dict[Kind, Server], provider: Provider) -> Iterator[Rest]:
    """The API of a running server that has it, with no agents and no personas of ours."""
    rest = Rest(as_new(fleet[request.param]))
    rest.clear()
    yield rest
    rest.clear()


@pytest.fixture
def webui(server: Server) -> OpenWebUI:
    return OpenWebUI(server)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    """A failure shows what the server said."""
    report = yield
    if report.failed:
        arguments = getattr(item, "funcargs", {})
        found = [value for value in arguments.values() if isinstance(value, Server)]
        found += list(arguments.get("fleet", {}).values()) if not found else []
        for server in found:
            report.sections.append((f"log of {server.kind}", server.log()[-4000:]))
    return report
