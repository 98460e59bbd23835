"""One word, one who answers: an agent and a persona that are both enabled never have the same one.

`!coder` calls whoever is called so, and whom Open WebUI lets use the persona must not reach an agent by it.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from agent_mode.errors import StoreError
from agent_mode.store import revisions
from agent_mode.store.tables import AGENTS_REVISION, PERSONAS_REVISION, agent, persona

_CHUNK = 500
"""How many words a query holds; databases have limits."""


async def lock(connection: AsyncConnection) -> None:
    """Be the only writer of personas and of agents until the end of the transaction.

    Of both, since one of each that take the same name at the same moment would not see one another.
    """
    await revisions.lock(connection, AGENTS_REVISION, PERSONAS_REVISION)


async def agents_among(connection: AsyncConnection, words: Sequence[str]) -> set[str]:
    """Those of the words that are ids of enabled agents."""
    found: set[str] = set()
    for start in range(0, len(words), _CHUNK):
        query = select(agent.c.id).where(agent.c.enabled, agent.c.id.in_(words[start : start + _CHUNK]))
        found |= set((await connection.execute(query)).scalars())
    return found


async def refuse_persona(connection: AsyncConnection, agent_id: str) -> None:
    """Keeps an agent from being enabled under the key of a persona.

    Raises:
        StoreError: code `persona_exists`.
    """
    query = select(persona.c.key).where(persona.c.enabled, persona.c.key == agent_id)
    if (await connection.execute(query)).first() is not None:
        raise StoreError(
            f"There is a persona {agent_id} already; an agent cannot have the same name.",
            code="persona_exists",
            status=409,
            hint="Choose another id, or disable the persona first.",
            field="id",
        )


def taken_by_agent(key: str) -> StoreError:
    """The error for a persona that would be enabled under the id of an agent."""
    return StoreError(
        f"There is an agent {key} already; a persona cannot have the same name.",
        code="agent_exists",
        status=409,
        hint="Choose another key, or disable the agent first.",
        field="key",
    )
