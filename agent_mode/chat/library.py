"""The switching for other programs: without the server, without the store."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import cache
from typing import Any

from agent_mode.agents.engine import Chunks, Job
from agent_mode.agents.persona import PersonaEngine
from agent_mode.llm.client import LlmClient
from agent_mode.llm.connection import Connection
from agent_mode.prompts.reset import Identity, hard_reset, keep_on
from agent_mode.prompts.strategies import StrategyBook
from agent_mode.prompts.templates import TemplateSet
from agent_mode.settings import get_settings


@cache
def shipped_strategies() -> StrategyBook:
    """The strategies in `strategies/`."""
    return StrategyBook(get_settings().strategies_dir)


@cache
def shipped_templates() -> TemplateSet:
    """The hard-reset templates in `strategies/templates/`."""
    return TemplateSet(get_settings().strategies_dir / "templates")


async def stream_chat_response(
    messages: list[dict[str, Any]],
    agent: Identity,
    connection: Connection,
    *,
    model: str | None = None,
    previous: Identity | None = None,
    switched: bool = False,
    params: dict[str, Any] | None = None,
) -> AsyncGenerator[bytes, None]:
    """Answers as an agent, with a hard reset if it takes over from another.

    Args:
        messages: the transcript, oldest first, OpenAI's format; not changed.
        agent: who answers.
        connection: the LLM.
        model: the provider's model; None: the connection's, or the first that it offers.
        previous: who answered before; None when unknown.
        switched: whether the agent takes over with this turn.
        params: further fields of the request, such as `temperature`.

    Yields:
        `data:` lines of OpenAI's chat completion chunks, as the provider sent them.

    Raises:
        ProviderError: the provider failed.
    """
    client = LlmClient()
    await client.start()
    try:
        chosen = await client.choose_model(connection, model)
        strategy = shipped_strategies().select(chosen).strategy
        if switched:
            plan = hard_reset(messages, agent, previous, strategy, shipped_templates())
        else:
            plan = keep_on(messages, agent, strategy)
        job = Job(connection, chosen, plan.messages, params or {})
        async with aclosing(PersonaEngine(client).run(job)) as events:
            async for event in events:
                if isinstance(event, Chunks):
                    yield event.data
    finally:
        await client.close()
