"""Which processes that share the database are alive: each counts on, and each watches whether the others do.

Nobody compares clocks, and looks are counted, not seconds: where the database was away for all, or the one
who looks stood still, nobody is given up for it.
"""

from __future__ import annotations

import secrets

from sqlalchemy import and_, delete, insert, or_, select, update

from agent_mode.store.db import Database
from agent_mode.store.tables import replica as table

LOOKS = 6
"""After so many looks at the same number a process counts as dead."""


class ReplicaStore:
    """This process among all. All methods raise `StoreError` when the database fails.

    Attributes:
        id: of this process, until its end.
    """

    def __init__(self, db: Database) -> None:
        self.id = secrets.token_hex(10)
        self._db = db
        self._beaten = False
        self._seen: dict[str, tuple[int, int]] = {}
        """The number of each process at the last look, and how many looks have found the same."""

    async def beat(self) -> bool:
        """Say that this process is alive; True if the others had given it up, which was wrong."""
        counted = update(table).where(table.c.id == self.id).values(number=table.c.number + 1)
        async with self._db.begin() as connection:
            missing = (await connection.execute(counted)).rowcount == 0
            if missing:
                await connection.execute(insert(table).values(id=self.id, number=0))
        given_up = missing and self._beaten
        self._beaten = True
        return given_up

    async def look(self) -> int:
        """Look at the others once, and give up those that have died; returns how many."""
        async with self._db.read() as connection:
            found = (await connection.execute(select(table).where(table.c.id != self.id))).all()
        before, self._seen = self._seen, {}
        for name, number in found:
            known, looks = before.get(name, (number, -1))
            self._seen[name] = (number, looks + 1 if known == number else 0)
        silent = [(name, number) for name, (number, looks) in self._seen.items() if looks >= LOOKS]
        if not silent:
            return 0
        # By its number too: one that has just counted on is alive.
        dead = or_(*(and_(table.c.id == name, table.c.number == number) for name, number in silent))
        async with self._db.begin() as connection:
            return (await connection.execute(delete(table).where(dead))).rowcount

    async def leave(self) -> None:
        """Say that this process ends."""
        if not self._beaten:
            return
        async with self._db.begin() as connection:
            await connection.execute(delete(table).where(table.c.id == self.id))
