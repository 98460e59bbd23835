"""What the layer needs of a pipeline to answer for it natively."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from agent_mode.agents.engine import Event
from agent_mode.chat.runtime import Runtime
from agent_mode.chat.turn import Turn
from agent_mode.llm.sse import Facts

TAB_AUTHOR = "open-webui"
"""Who changes something in Open WebUI's Pipelines tab; it does not say which admin."""


class NativePipeline(ABC):
    """A pipeline of ours. Pipelines of others are no subclasses and go to upstream untouched."""

    @abstractmethod
    def runtime(self) -> Runtime:
        """The running server's parts.

        Raises:
            ConfigurationError: the server did not start them.
        """

    @abstractmethod
    def answer(self, turn: Turn, model: str, facts: Facts) -> AsyncGenerator[Event, None]:
        """Answers one turn; `model` is the model's id inside the pipeline."""

    @abstractmethod
    async def inlet(self, body: dict[str, Any], user: dict[str, Any] | None = None) -> dict[str, Any]:
        """What Open WebUI calls before a chat request: returns the body to go on with. Never raises."""

    async def outlet(self, body: dict[str, Any], user: dict[str, Any] | None = None) -> dict[str, Any]:
        """What Open WebUI calls when an answer is complete: returns the body to go on with. Never raises."""
        return body

    @abstractmethod
    def model_extras(self, model: str) -> dict[str, Any]:
        """What to add to the model's entry in `/models`."""


class KeptPipeline(NativePipeline):
    """A pipeline without a file: what Open WebUI's Pipelines tab changes of it goes to the store."""

    @abstractmethod
    async def save_valves(self, values: Mapping[str, Any], author: str | None = None) -> dict[str, Any]:
        """Saves the form and returns the valves as the form shows them.

        Args:
            values: what is not named gets its default.
            author: for the history; None: somebody in Open WebUI.

        Raises:
            AgentModeError: they could not be saved.
        """

    @abstractmethod
    async def disable(self) -> None:
        """Does what the tab calls delete: it is no model any more, and nothing of it is lost.

        Raises:
            AgentModeError: it could not be done.
        """
