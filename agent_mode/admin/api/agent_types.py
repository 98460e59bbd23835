"""/api/v1/agent-types: what kinds of agents there are, and what a definition of each looks like."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path

from agent_mode.admin.api import shapes
from agent_mode.admin.api.requests import Running
from agent_mode.agents.definitions import example
from agent_mode.agents.stored import CODE_TYPE
from agent_mode.agents.types import AgentType, all_types, get_type
from agent_mode.chat.runtime import Runtime
from agent_mode.errors import DefinitionError, RequestError

router = APIRouter(prefix="/api/v1/agent-types", tags=["agent types"])


@router.get("/", response_model=shapes.TypeList, summary="List agent types")
async def list_types(runtime: Running) -> dict[str, Any]:
    """The JSON schema of each is what validates."""
    items = [_shown(runtime, kind) for _, kind in sorted(all_types().items())]
    return {"items": items, "total": len(items)}


@router.get("/{name}", response_model=shapes.TypeItem, summary="Read an agent type")
async def read_type(runtime: Running, name: Annotated[str, Path(max_length=64)]) -> dict[str, Any]:
    """One agent type."""
    try:
        return _shown(runtime, get_type(name))
    except DefinitionError as error:
        [problem] = error.problems
        raise RequestError(
            problem.message, hint=problem.hint, code="unknown_agent_type", status=404, field="name"
        ) from error


def _shown(runtime: Runtime, kind: AgentType) -> dict[str, Any]:
    allowed = kind.name != CODE_TYPE or runtime.settings.allow_custom_python
    return shapes.kind(kind, example(kind.definition), allowed=allowed)
