"""The engine of personas: the provider's own stream, passed on."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Literal

from agent_mode.agents.engine import Chunks, Completion, Event, Job
from agent_mode.errors import CatalogueError
from agent_mode.llm.client import LlmClient
from agent_mode.observe.logs import get_logger
from agent_mode.prompts import guard
from agent_mode.prompts.reset import Identity
from agent_mode.store.personas import Persona, PersonaForm, PersonaStore

log = get_logger(__name__)


def identity(persona: Persona) -> Identity:
    """The persona as prompts see it."""
    return Identity(persona.key, persona.name, persona.prompt)


async def save_persona(
    store: PersonaStore,
    form: PersonaForm,
    policy: Literal["warn", "refuse"] = "warn",
    *,
    author: str = "system",
    message: str = "",
    expected: int | None = None,
) -> tuple[Persona, list[str]]:
    """Saves a persona after a look at its instructions.

    Args:
        store: where to.
        form: the persona.
        policy: what to do when the instructions carry phrases such as "ignore previous": models are
            trained to distrust them, and they hint at a copied attack.
        author: who saves it, for the history.
        message: why, for the history.
        expected: number of the newest version that the author has seen; None: overwrite whatever is there.

    Returns:
        the saved persona, and the phrases found, to be shown to the admin.

    Raises:
        CatalogueError: phrases were found and the policy refuses them; nothing was saved.
        StoreError: the database failed.
    """
    phrases = guard.override_phrases(form.prompt)
    if phrases:
        log.warning("persona carries override phrases", persona=form.key, phrases=", ".join(phrases))
        if policy == "refuse":
            raise CatalogueError(
                f"The instructions of {form.key} carry override phrases: {', '.join(phrases)}.",
                hint="Reword them, or set AGENT_MODE_OVERRIDE_PHRASES=warn.",
                code="override_phrases",
                field="prompt",
            )
    saved = await store.save(form, author=author, message=message, expected=expected)
    return saved, phrases


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
