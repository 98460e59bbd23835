"""What stands in for our pipelines on a server that lacks packages: every model answers with what to install.

Imported before anything is known to be installed: pydantic, which the server has, is all it needs.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import agent_mode
from agent_mode.errors import ConfigurationError
from agent_mode.server.bundle_head import reason, told
from agent_mode.valves import AgentValves, HotswapValves, PersonaValves, Valves

NEEDED = (
    "pydantic-settings>=2.3",
    "aiofiles>=23.2",
    "sqlalchemy[asyncio]>=2.0.30",
    "greenlet",
    "aiosqlite>=0.20",
    "alembic>=1.13",
    "structlog>=24.1",
)
"""What personas and filter need besides the stock server's packages; requirements-stock.txt has it too."""
NEEDED_FOR_POSTGRESQL = "asyncpg>=0.29"
DOCS = "docs/stock-server.md"

log = logging.getLogger("agent_mode.bundle")
_errors: list[ConfigurationError] = []


def check() -> str:
    """Tries whether the pipelines can be imported; if not, stand-ins take their place in `agent_mode`.

    Returns:
        What is wrong, or "".
    """
    lacking = missing()
    error = missing_error(lacking) if lacking else _import_error()
    if error is None:
        return ""
    _errors[:] = [error]
    face: Any = agent_mode
    face.__problem__ = str(error)
    face.PersonaManifold, face.HotswapFilter, face.AgentPipeline = Personas, Filter, Agent
    return str(error)


def missing() -> list[str]:
    """The requirements of which nothing is installed."""
    url = os.environ.get("AGENT_MODE_DATABASE_URL", "")
    needed = (*NEEDED, NEEDED_FOR_POSTGRESQL) if url.startswith("postgres") else NEEDED
    return [requirement for requirement in needed if find_spec(module_of(requirement)) is None]


def module_of(requirement: str) -> str:
    """The module to import for a requirement of ours: `pydantic-settings>=2.3` is `pydantic_settings`."""
    return requirement.partition(">")[0].partition("[")[0].replace("-", "_")


def missing_error(requirements: list[str]) -> ConfigurationError:
    names = ", ".join(requirement.partition(">")[0].partition("[")[0] for requirement in requirements)
    return ConfigurationError(
        f"Agent Mode needs packages that this Pipelines server does not have: {names}.",
        hint=_hint(requirements),
        code="package_missing",
        status=503,
    )


def _import_error() -> ConfigurationError | None:
    try:
        import_module("agent_mode.server.agent_pipeline")  # brings everything along
    except Exception as error:  # noqa: BLE001  an old version of a package may fail in any way
        return ConfigurationError(
            f"Agent Mode cannot be imported on this Pipelines server ({reason(error)}).",
            hint=_hint(list(NEEDED)),
            code="package_missing",
            status=503,
        )
    return None


def _hint(requirements: list[str]) -> str:
    command = "python -m pip install " + " ".join(f"'{requirement}'" for requirement in requirements)
    return (
        f"An admin installs them in the server's Python: `{command}`. With Docker: "
        f"`docker exec <container> {command}`, and for good by PIPELINES_REQUIREMENTS_PATH ({DOCS}). "
        "Then restart the server."
    )


class StandIn:
    """A pipeline that answers with what is missing, and keeps its valves."""

    Valves: type[Any] = Valves

    def __init__(self) -> None:
        self.valves = self.Valves()

    async def on_startup(self) -> None:
        log.error("%s: %s", type(self).__module__, _errors[0])

    def pipe(self, *, body: dict[str, Any], **_: Any) -> Any:
        return told(str(_errors[0]), stream=bool(body.get("stream")))


class Personas(StandIn):
    """The shipped personas, so that chats with them show the reason and not "Model not found"."""

    Valves: type[Any] = PersonaValves

    def __init__(self) -> None:
        super().__init__()
        self.type = "manifold"
        self.name = ""
        self._models = list(_shipped())  # the server asks on every request

    def pipelines(self) -> list[dict[str, str]]:
        return self._models


def _shipped() -> Iterator[dict[str, str]]:
    folder = Path(__file__).parents[2] / "personas"  # agent_mode.settings needs one of the packages
    for path in sorted(folder.glob("*.json")):
        persona = json.loads(path.read_text(encoding="utf-8"))
        yield {"id": persona["key"], "name": f"{persona.get('emoji', '')} {persona['name']}".strip()}


class Filter(StandIn):
    """Leaves every chat as it is."""

    Valves: type[Any] = HotswapValves

    def __init__(self) -> None:
        super().__init__()
        self.type = "filter"
        self.name = "Agent Mode: commands on any model"

    async def inlet(self, body: dict[str, Any], user: dict[str, Any] | None = None) -> dict[str, Any]:
        return body


class Agent(StandIn):
    """One model."""

    Valves: type[Any] = AgentValves
    name: str = ""

    def __init__(self) -> None:
        super().__init__()
        self.id = type(self).__module__.rpartition(".")[2]
        self.name = self.name or self.id.replace("_", " ").capitalize()
