"""Agents of the store as pipelines of their own, which come and go without any reload."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from agent_mode.agents import stored
from agent_mode.agents.spec import AgentSpec
from agent_mode.agents.stored import Parts
from agent_mode.agents.types import all_types
from agent_mode.chat.runtime import Runtime
from agent_mode.errors import Problem
from agent_mode.observe.logs import get_logger
from agent_mode.server import upstream
from agent_mode.server.agent_pipeline import AgentPipeline
from agent_mode.server.host import host
from agent_mode.server.native import TAB_AUTHOR, KeptPipeline
from agent_mode.store.agents import Agent, content

log = get_logger(__name__)


class StoredAgentPipeline(AgentPipeline, KeptPipeline):
    """One version of an agent of the store. Another version is another object: running chats keep theirs."""

    def __init__(self, record: Agent, parts: Parts) -> None:
        self.record = record
        self.parts = parts
        self.Valves = type(parts.valves)
        self.name = record.name
        self.description = record.description
        super().__init__()
        self.valves = parts.valves

    def _own_id(self) -> str:
        return self.record.id

    async def on_startup(self) -> None:
        """Called by the server after each reload, which may have taken away a file of the same id."""
        if host.ready:
            host.runtime.directory.add(self.id, self.spec)

    async def on_shutdown(self) -> None:
        """Called by the server before each reload, which is no reason for an agent without a file to go."""

    def spec(self) -> AgentSpec:
        return self.parts.spec(self.record, host.runtime.personas)

    def model_extras(self, model: str) -> dict[str, Any]:
        extras = super().model_extras(model)
        tags = [{"name": tag} for tag in self.record.tags]
        return {**extras, "tags": [*extras["tags"], *tags]}

    async def save_valves(self, values: Mapping[str, Any], author: str | None = None) -> dict[str, Any]:
        runtime = host.runtime
        saved = await stored.save_valves(runtime.agent_store, self.id, values, author or TAB_AUTHOR)
        await host.sync_agents()
        parts, _ = stored.read(content(saved), allow_code=True, strict=False)
        return (parts.valves if parts else self.valves).model_dump(mode="json")

    async def disable(self) -> None:
        await host.runtime.agent_store.set_enabled(self.id, False, TAB_AUTHOR)
        await host.sync_agents()


class StoredAgents:
    """Which agents of the store are models now. Used on the runtime's event loop only."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._kept: dict[str, StoredAgentPipeline] = {}
        self._left_out: dict[str, tuple[int, Any]] = {}
        """By id, the version that cannot be used, and the type that said so."""
        self._one_at_a_time = asyncio.Lock()

    async def settle(self) -> None:
        """Makes the models those of the runtime's book; only what changed is touched."""
        async with self._one_at_a_time:
            wanted = {agent.id: agent for agent in self._runtime.agents.all()}
            for gone in self._kept.keys() - wanted.keys():
                self._discard(gone)
            self._left_out = {key: seen for key, seen in self._left_out.items() if key in wanted}
            types = all_types()
            for agent in wanted.values():
                kind = types.get(agent.agent_type)
                if not self._is_settled(agent, kind):
                    await self._put(agent, kind)

    def offers(self, agent_id: str) -> bool:
        """Whether the agent is a model now; one of a file with the same id goes before it."""
        return agent_id in self._kept and not upstream.is_loaded(agent_id)

    def discard_all(self) -> None:
        """Takes all of them out of the list of models."""
        for agent_id in list(self._kept):
            self._discard(agent_id)
        upstream.discard_all()

    def _is_settled(self, agent: Agent, kind: Any) -> bool:
        kept = self._kept.get(agent.id)
        if kept is not None:
            return kept.record.version == agent.version and kept.parts.kind is kind
        return self._left_out.get(agent.id) == (agent.version, kind)

    async def _put(self, agent: Agent, kind: Any) -> None:
        parts, found = await judge(self._runtime, agent)
        if parts is None:
            self._discard(agent.id)
            self._left_out[agent.id] = (agent.version, kind)
            reason = "; ".join(f"{problem.field}: {problem.message}" for problem in found)
            log.warning("agent left out", agent=agent.id, version=agent.version, reason=reason)
            return
        self._left_out.pop(agent.id, None)
        pipeline = self._kept[agent.id] = StoredAgentPipeline(agent, parts)
        upstream.keep(agent.id, pipeline)
        if not upstream.is_loaded(agent.id):
            self._runtime.directory.add(agent.id, pipeline.spec)

    def _discard(self, agent_id: str) -> None:
        if self._kept.pop(agent_id, None) is None:
            return
        if not upstream.is_loaded(agent_id):
            self._runtime.directory.remove(agent_id)
        upstream.discard(agent_id)


async def judge(runtime: Runtime, agent: Agent) -> tuple[Parts | None, list[Problem]]:
    """The parts of a record, or what is wrong with it."""
    allowed = runtime.settings.allow_custom_python
    # In a thread: a type may look closely at what a definition holds, and much code takes its time.
    return await asyncio.to_thread(stored.read, content(agent), allow_code=allowed, strict=False)
