"""The engine of personas: the provider's own stream, passed on."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from agent_mode.agents.engine import Chunks, Completion, Event, Job
from agent_mode.llm.client import LlmClient
from agent_mode.observe.logs import get_logger
from agent_mode.prompts.reset import Identity
from agent_mode.store.personas import Persona

log = get_logger(__name__)


def identity(persona: Persona) -> Identity:
    """The persona as prompts see it."""
    return Identity(persona.key, persona.name, persona.prompt)


class PersonaEngine:
    """Sends the prepared messages to the LLM and passes its answer on."""

    def __init__(self, llm: LlmClient) -> None:
        self._llm = llm

    async def run(self, job: Job) -> AsyncGenerator[Event, None]:
        """Yields `Chunks`, or one `Completion` without streaming.

        Raises:
            ProviderError: readable; what was yielded before stays valid.
        """
        payload = {**job.params, "model": job.model, "messages": job.messages}
        if not job.stream:
            yield Completion(await self._llm.complete(job.connection, payload))
            return
        async with aclosing(self._llm.stream(job.connection, payload, job.facts)) as blocks:
            async for block in blocks:
                yield Chunks(block)
