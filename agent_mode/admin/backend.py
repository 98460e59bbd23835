"""What the API and the admin page need of the server that they are part of."""

from __future__ import annotations

from typing import Protocol

from agent_mode.chat.runtime import Runtime
from agent_mode.valves import PersonaValves


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
