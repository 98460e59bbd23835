"""The base class of agents that are pipelines of their own: files in `pipelines/`, and those of the store."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from agent_mode.agents.definitions import FileDefinition
from agent_mode.agents.engine import Event, Failure
from agent_mode.agents.spec import AgentSpec
from agent_mode.chat.conversation import respond
from agent_mode.chat.turn import Turn
from agent_mode.errors import ConfigurationError, RequestError
from agent_mode.llm.sse import Facts
from agent_mode.server import upstream
from agent_mode.server.host import host
from agent_mode.server.pipeline import OwnPipeline
from agent_mode.valves import AgentValves, PersonaValves


class AgentPipeline(OwnPipeline):
    """One agent, one model.

    A file overrides one of two methods:

    * `build(context)` returns a LlamaIndex agent, an `AgentWorkflow` or any `Workflow`;
    * `run(turn, tools, llm, call_agent, status)`, an async generator of text, in plain Python.

    Attributes:
        name: as the model selector shows it.
        description: what it can do, for people and for agents that may call it.
        instructions: its system prompt; None: none.
    """

    Valves: type[Any] = AgentValves
    valves: AgentValves
    name: str = ""
    description: str = ""
    instructions: str | None = None

    def __init__(self) -> None:
        super().__init__()
        self.id = self._own_id()
        self.name = self.name or self.id.replace("_", " ").capitalize()

    def _own_id(self) -> str:
        """The server names a pipeline after its file, and the module as well."""
        return type(self).__module__.rpartition(".")[2]

    async def on_startup(self) -> None:
        await super().on_startup()
        if host.ready:
            host.runtime.directory.add(self.id, self.spec)

    async def on_shutdown(self) -> None:
        if host.ready:
            host.runtime.directory.remove(self.id)
        await super().on_shutdown()

    async def on_valves_updated(self) -> None:
        """Called by the server after a save."""
        if host.ready:
            host.runtime.directory.changed()

    def spec(self) -> AgentSpec:
        """The agent as it is now."""
        overridden = type(self).build is not AgentPipeline.build
        return AgentSpec(
            id=self.id,
            name=self.name,
            description=self.description,
            agent_type="llamaindex_workflow" if overridden else "custom_python",
            definition=FileDefinition(instructions=self.instructions),
            valves=self.valves,
            instructions=self.instructions or "",
            model_id=self.id,
            code=self,
        )

    def build(self, context: Any) -> Any:
        """Makes the LlamaIndex agent or workflow of one run; `context` holds its `llm` and `tools`."""
        raise NotImplementedError

    def run(self, turn: Any, tools: Any, llm: Any, call_agent: Any, status: Any) -> AsyncGenerator[Any, None]:
        """Answers one turn in plain Python."""
        raise ConfigurationError(
            f"The pipeline {self.id} overrides neither build() nor run().",
            hint="Write one of them into its file; docs/write-an-agent.md shows how.",
        )

    def answer(self, turn: Turn, model: str, facts: Facts) -> AsyncGenerator[Event, None]:
        if host.ready and host.runtime.personas.get(self.id) is not None:
            return _refused(self)
        return respond(self.runtime(), turn, self.id, persona_valves(), facts)

    def model_extras(self, model: str) -> dict[str, Any]:
        """Tag and description, as Open WebUI 0.12 reads them."""
        return {"tags": [{"name": "Agent"}], "info": {"meta": {"description": self.description}}}


async def _refused(agent: AgentPipeline) -> AsyncGenerator[Event, None]:
    """The answer of an agent that is called as a persona is."""
    error = RequestError(
        f"The agent {agent.name} cannot run: there is a persona {agent.id} too.",
        hint="An admin has to disable one of the two, or give it another name.",
        code="persona_exists",
        status=409,
        field="model",
    )
    yield Failure(error)


def persona_valves() -> PersonaValves:
    """Valves of the loaded personas pipeline: how commands are read, and who else can be called."""
    found = upstream.pipeline_of("personas")
    valves = getattr(found[0], "valves", None) if found else None
    return valves if isinstance(valves, PersonaValves) else PersonaValves.model_validate({})
