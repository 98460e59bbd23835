"""What people did is kept: in order, bounded, for a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_mode.store.audit import TEXT_LIMIT, AuditStore
from agent_mode.store.db import Database


async def opened(tmp_path: Path) -> tuple[Database, AuditStore]:
    db = await Database.open(f"sqlite+aiosqlite:///{tmp_path / 'agent_mode.db'}")
    return db, AuditStore(db)


async def test_the_newest_stand_first_and_are_found_again(tmp_path: Path) -> None:
    db, audit = await opened(tmp_path)
    for number in range(5):
        audit.put("ada@example.org", "saved", "agent", f"agent-{number}")
    audit.put("connection key", "deleted", "persona", "100%", "it was old")
    found, total = await audit.page(0, 2)
    assert total == 6
    assert [(record.actor, record.target) for record in found] == [
        ("connection key", "100%"),
        ("ada@example.org", "agent-4"),
    ]
    assert (await audit.page(0, 10, "ADA@"))[1] == 5
    assert (await audit.page(0, 10, "%"))[1] == 1
    assert (await audit.page(0, 10, "was old"))[1] == 1
    assert (await audit.page(0, 10, "\0"))[1] == 6
    assert await audit.targets("deleted", hours=1) == ["100%"]
    await db.close()


async def test_each_says_by_which_way_it_was_done(tmp_path: Path) -> None:
    db, audit = await opened(tmp_path)
    audit.put("ada", "saved", "agent", "a")
    audit.put("api", "deleted", "agent", "a", way="api")
    assert [record.way for record in (await audit.page(0, 10))[0]] == ["api", "page"]
    assert (await audit.page(0, 10, "pag"))[1] == 1
    await db.close()


async def test_texts_are_cut_and_always_storable(tmp_path: Path) -> None:
    db, audit = await opened(tmp_path)
    audit.put("a\0b", "x" * 100, "kind", "\ud800", "y" * 10_000)
    [record], _ = await audit.page(0, 10)
    assert (record.actor, len(record.action), len(record.text)) == ("ab", 64, TEXT_LIMIT)
    await db.close()


async def test_old_ones_go(tmp_path: Path) -> None:
    db, audit = await opened(tmp_path)
    audit.put("ada", "saved", "agent", "a")
    assert await audit.prune(1) == 0
    assert await audit.prune(0) == 1
    assert (await audit.page(0, 10))[1] == 0
    with pytest.raises(ValueError, match="negative"):
        await audit.prune(-1)
    await db.close()
