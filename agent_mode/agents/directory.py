"""Every agent that can be run here, by id: pipelines of their own, and the personas."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from functools import partial

from agent_mode.agents.definitions import PersonaDefinition
from agent_mode.agents.spec import AgentSpec
from agent_mode.llm.client import OWN_PREFIX
from agent_mode.store.book import PersonaBook
from agent_mode.store.personas import Persona
from agent_mode.valves import AgentValves, PersonaValves

Provide = Callable[[], AgentSpec]
"""The agent as it is now; valves may change at any time."""
_LLM = {"llm_base_url", "llm_api_key", "llm_model", "connect_timeout", "read_timeout"}


class Directory:
    """Knows the agents of this server.

    A persona goes before a pipeline of its own that is called as it is: whoever may use the persona's model
    must not reach another agent by it. New ones are refused where they are saved; a file can be put there.

    Args:
        personas: each is an agent too.

    Attributes:
        version: grows whenever an agent comes, goes or changes.
        persona_valves: the valves that the personas have now; their LLM speaks for them here too.
    """

    def __init__(self, personas: PersonaBook) -> None:
        self._personas = personas
        self._agents: dict[str, Provide] = {}
        self.version = 0
        self.persona_valves: Callable[[], PersonaValves] = partial(PersonaValves.model_validate, {})

    def add(self, agent_id: str, provide: Provide) -> None:
        self._agents[agent_id] = provide
        self.version += 1

    def remove(self, agent_id: str) -> None:
        self._agents.pop(agent_id, None)
        self.version += 1

    def changed(self) -> None:
        self.version += 1

    @property
    def ids(self) -> set[str]:
        """Of all of them."""
        return {*self._agents, *(persona.key for persona in self._personas.all() if persona.enabled)}

    def has(self, agent_id: str) -> bool:
        """Whether a pipeline of its own has this id, a persona of the same name or not."""
        return agent_id in self._agents

    def get(self, agent_id: str) -> AgentSpec | None:
        """The agent with this id."""
        found = self.pipeline(agent_id)
        if found is not None:
            return found
        persona = self._personas.get(agent_id)
        return as_agent(persona, self.persona_valves()) if persona is not None and persona.enabled else None

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
        for agent_id in sorted(self.ids):
            if any(fnmatchcase(agent_id, pattern) for pattern in wanted):
                found = self.get(agent_id)
                if found is not None:
                    yield found


def as_agent(persona: Persona, valves: PersonaValves) -> AgentSpec:
    """A persona as the agent that it is; it speaks through the same LLM as in a chat."""
    llm = valves.model_dump(include=_LLM)
    if persona.model:
        llm["llm_model"] = None  # that valve is for personas that name none
    return AgentSpec(
        id=persona.key,
        name=persona.display_name,
        description=persona.description,
        agent_type="persona",
        definition=PersonaDefinition(persona=persona.key, instructions=None, model=persona.model),
        valves=AgentValves.model_validate(llm),
        instructions=persona.prompt,
        model_id=f"{OWN_PREFIX}{persona.key}",
    )
