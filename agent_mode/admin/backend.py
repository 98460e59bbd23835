"""What the API and the admin page need of the server that they are part of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from agent_mode.admin.valves import PipelineInfo, ValveForm
from agent_mode.chat.runtime import Runtime
from agent_mode.valves import PersonaValves


@dataclass(frozen=True, slots=True)
class OfferedModel:
    """A model of this server, as Open WebUI lists it.

    Attributes:
        id, name, description: as it shows them.
        kind: a `helper` answers for the others and is kept out of the selector.
    """

    id: str
    name: str
    description: str
    kind: Literal["persona", "agent", "helper"]


class Backend(Protocol):
    """The running server."""

    @property
    def runtime(self) -> Runtime:
        """Its parts.

        Raises:
            ConfigurationError: it has not started.
        """
        ...

    @property
    def valves(self) -> PersonaValves:
        """The valves of the personas pipeline."""
        ...

    async def sync_agents(self) -> None:
        """Makes the models those of the store; called after each change of agents."""
        ...

    def has_pipeline(self, pipeline_id: str) -> bool:
        """Whether a pipeline of this id was loaded from a file."""
        ...

    def is_offered(self, agent_id: str) -> bool:
        """Whether the agent of the store with this id is a model now."""
        ...

    @property
    def connection_key(self) -> str:
        """The key that Open WebUI's connection to this server needs."""
        ...

    def models(self) -> list[OfferedModel]:
        """The models of ours."""
        ...

    def pipelines(
        self, offset: int, limit: int, word: str = "", kind: str = ""
    ) -> tuple[list[PipelineInfo], int]:
        """Some of the pipelines on this server, those of others as well, and how many fit in all.

        Args:
            offset, limit: which part of them.
            word: part of the id or the name, in whichever case.
            kind: of `PipelineInfo`; empty: any.
        """
        ...

    def valve_form(self, pipeline_id: str) -> ValveForm:
        """The valves of one pipeline.

        Raises:
            RequestError: there is no such pipeline.
            ConfigurationError: it has no valves, or none that a form can show.
        """
        ...

    async def save_valve_form(
        self, pipeline_id: str, entered: Mapping[str, Any], author: str, seen: str | None
    ) -> ValveForm:
        """Saves a form as Open WebUI's Pipelines tab does; returns it as it is then.

        Args:
            pipeline_id: which pipeline.
            entered: by name; what is left out becomes as by default, a mask keeps its secret.
            author: for the history of an agent.
            seen: mark of the form that the author has seen; None: overwrite whatever there is.

        Raises:
            DefinitionError: values are wrong; nothing was changed.
            StoreError: somebody else was faster (`stale_version`), or the store failed.
            ConfigurationError: the pipeline cannot be saved, or failed with its new valves.
        """
        ...
