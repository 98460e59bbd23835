"""Every agent that can be run here, by id: pipelines of their own, and the personas."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase

from agent_mode.agents.definitions import PersonaDefinition
from agent_mode.agents.spec import AgentSpec
from agent_mode.llm.client import OWN_PREFIX
from agent_mode.store.book import PersonaBook
from agent_mode.store.personas import Persona
from agent_mode.valves import AgentValves

Provide = Callable[[], AgentSpec]
"""The agent as it is now; valves may change at any time."""


class Directory:
    """Knows the agents of this server.

    A persona goes before a pipeline of its own that is called as it is: whoever may use the persona's model
    must not reach another agent by it. New ones are refused where they are saved; a file can be put there.

    Args:
        personas: each is an agent too.

    Attributes:
        version: grows whenever an agent comes, goes or changes.
    """

    def __init__(self, personas: PersonaBook) -> None:
        self._personas = personas
        self._agents: dict[str, Provide] = {}
        self.version = 0

    def add(self, agent_id: str, provide: Provide) -> None:
        self._agents[agent_id] = provide
        self.version += 1

    def remove(self, agent_id: str) -> None:
        self._agents.pop(agent_id, None)
        self.version += 1

    def changed(self) -> None:
        self.version += 1

    def has(self, agent_id: str) -> bool:
        """Whether a pipeline of its own has this id, a persona of the same name or not."""
        return agent_id in self._agents

    def get(self, agent_id: str) -> AgentSpec | None:
        """The agent with this id."""
        found = self.pipeline(agent_id)
        if found is not None:
            return found
        persona = self._personas.get(agent_id)
        return as_agent(persona) if persona is not None and persona.enabled else None

    def pipeline(self, agent_id: str) -> AgentSpec | None:
        """The agent with this id that is a pipeline of its own."""
        provide = self._agents.get(agent_id) if self._personas.get(agent_id) is None else None
        return provide() if provide is not None else None

    def pipelines(self) -> list[AgentSpec]:
        """The agents that are pipelines of their own, in order of their ids."""
        return [spec for agent_id in sorted(self._agents) if (spec := self.pipeline(agent_id)) is not None]

    def matching(self, patterns: str | None) -> Iterator[AgentSpec]:
        """The agents whose id fits a valve: ids or patterns, comma separated."""
        wanted = [word.strip().lower() for word in (patterns or "").split(",") if word.strip()]
        if not wanted:
            return
        everyone = {*self._agents, *(persona.key for persona in self._personas.all() if persona.enabled)}
        for agent_id in sorted(everyone):
            if any(fnmatchcase(agent_id, pattern) for pattern in wanted):
                found = self.get(agent_id)
                if found is not None:
                    yield found


def as_agent(persona: Persona) -> AgentSpec:
    """A persona as the agent that it is."""
    return AgentSpec(
        id=persona.key,
        name=persona.display_name,
        description=persona.description,
        agent_type="persona",
        definition=PersonaDefinition(persona=persona.key, instructions=None, model=persona.model),
        valves=AgentValves.model_validate({}),
        instructions=persona.prompt,
        model_id=f"{OWN_PREFIX}{persona.key}",
    )
