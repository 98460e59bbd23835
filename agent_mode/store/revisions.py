"""Counters of writes: how all processes learn that a table changed, and how its writers take turns."""

from __future__ import annotations

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from agent_mode.store.tables import revision as table


async def lock(connection: AsyncConnection, *names: str) -> None:
    """Be the only writer of what the counters stand for, until the end of the transaction."""
    # All writers pass through these rows, so that of two processes the second sees what the first wrote;
    # in one order, so that neither waits for what the other holds.
    rows = select(table.c.number).where(table.c.name.in_(names)).order_by(table.c.name)
    await connection.execute(rows.with_for_update())


async def bump(connection: AsyncConnection, name: str) -> None:
    """Tell all processes that something changed."""
    await connection.execute(update(table).where(table.c.name == name).values(number=table.c.number + 1))


async def number(connection: AsyncConnection, name: str) -> int:
    """A number that grows with every write, by whichever process."""
    return (await connection.execute(select(table.c.number).where(table.c.name == name))).scalar_one()
