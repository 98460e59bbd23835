"""What several models side by side answered: kept for each, bounded, and there after a restart."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agent_mode.errors import StoreError
from agent_mode.store import replies as module
from agent_mode.store.db import Database
from agent_mode.store.replies import CUT, TEXT_LIMIT, Reply, ReplyStore
from tests.patience import PATIENCE

pytest_plugins = ["tests.databases"]

NOW = datetime.now(UTC)


def reply(message_id: str = "a1", **fields: Any) -> Reply:
    values: dict[str, Any] = {
        "chat_id": "c",
        "user_message_id": "q1",
        "parent_id": None,
        "place": 1,
        "model": "gpt-4o",
        "text": None,
        "at": NOW,
    }
    return Reply(message_id=message_id, **(values | fields))


async def test_nobody_is_shown_or_changes_what_is_anothers(database: Database) -> None:
    store = ReplyStore(database)
    store.begin(reply("a1", owner="ann"))
    await store.said("a1", "Ann's.", "ann")
    await store.said("a1", "Forged.", "bob")  # as an outlet with her id
    assert not store.knows("a1", "bob")
    store.begin(reply("a1", owner="bob"))
    await store.said("a1", "Forged.", "bob")
    await store.flush()
    for known in (store, ReplyStore(database)):
        for owner, text in (("ann", "Ann's."), ("bob", "Forged.")):
            found = (await known.thread("c", owner)).get("a1")
            assert found is not None
            assert found.text == text


async def test_what_was_kept_before_there_were_owners_is_found(database: Database) -> None:
    old = ReplyStore(database)
    old.begin(reply("a1"))
    await old.said("a1", "Hello.")
    await old.flush()
    store = ReplyStore(database)
    found = (await store.thread("c", "ann")).get("a1")
    assert found is not None
    assert (found.text, store.knows("a1", "ann")) == ("Hello.", True)


async def kept(store: ReplyStore, chat_id: str = "c") -> dict[str, str | None]:
    thread = await store.thread(chat_id)
    return {message_id: thread.get(message_id).text for message_id in thread.ids()}  # type: ignore[union-attr]


@pytest.fixture
def away(database: Database, monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Takes the database away, or brings it back."""
    gone = False

    def wrapped(original: Any) -> Any:
        @asynccontextmanager
        async def connection() -> AsyncIterator[Any]:
            if gone:
                raise StoreError("The database is away.")
            async with original() as open_connection:
                yield open_connection

        return connection

    for name in ("read", "begin"):
        monkeypatch.setattr(database, name, wrapped(getattr(database, name)))

    def switch(on: bool) -> None:
        nonlocal gone
        gone = on

    return switch


async def test_a_reply_survives_a_restart(database: Database) -> None:
    store = ReplyStore(database)
    first = reply(parent_id="a0", place=2, model="Modell ü")
    store.begin(first)
    await store.said("a1", "Hello.")
    await store.close()

    thread = await ReplyStore(database).thread("c")

    found = thread.get("a1")
    assert found is not None
    assert (found.parent_id, found.place, found.model, found.text) == ("a0", 2, "Modell ü", "Hello.")
    assert abs(found.at - NOW) < timedelta(milliseconds=1)
    assert thread.answers("q1") == [found]
    assert thread.answers("q2") == []


async def test_a_reply_without_words_is_known_all_the_same(database: Database) -> None:
    store = ReplyStore(database)
    store.begin(reply())
    await store.flush()

    assert await kept(ReplyStore(database)) == {"a1": None}


async def test_the_last_words_count(database: Database) -> None:
    store = ReplyStore(database)
    store.begin(reply())
    for text in ("One", "One, two", " \n"):
        await store.said("a1", text)
    store.begin(reply())  # the same request again, as in a tool loop
    await store.flush()

    assert await kept(store) == await kept(ReplyStore(database)) == {"a1": "One, two"}


async def test_what_did_not_begin_here_is_nobodys(database: Database) -> None:
    store = ReplyStore(database)

    await store.said("unknown", "Hello.")
    await store.flush()

    assert not store.knows("unknown")
    assert await kept(ReplyStore(database)) == {}


async def test_of_a_model_that_was_asked_alone_no_text_is_kept(database: Database) -> None:
    store = ReplyStore(database)
    store.begin(reply(place=0))
    await store.said("a1", "Secret.")
    await store.flush()

    assert await kept(ReplyStore(database)) == {"a1": None}
    assert store.knows("a1")


async def test_a_long_answer_is_cut(database: Database) -> None:
    store = ReplyStore(database)
    store.begin(reply())
    await store.said("a1", "x" * (TEXT_LIMIT + 1))

    assert await kept(store) == {"a1": "x" * TEXT_LIMIT + CUT}


@pytest.mark.parametrize(
    ("odd", "stored"), [("a\x00b", "ab"), ("half \ud800", "half ?"), ("👋🏽 'ü' \\", "👋🏽 'ü' \\")]
)
async def test_odd_words_are_kept(database: Database, odd: str, stored: str) -> None:
    store = ReplyStore(database)
    store.begin(reply())
    await store.said("a1", odd)
    await store.flush()

    assert await kept(ReplyStore(database)) == {"a1": stored}


@pytest.mark.parametrize("field", ["message_id", "chat_id", "user_message_id", "model", "parent_id"])
@pytest.mark.parametrize("odd", ["", "x" * 300, "a\x00b", "\ud800"])
async def test_ids_that_no_database_takes_are_left_out(database: Database, field: str, odd: str) -> None:
    store = ReplyStore(database)
    store.begin(reply(**{field: odd}))
    store.begin(reply("good", chat_id="other"))
    await store.flush()

    assert await kept(ReplyStore(database), "other") == {"good": None}
    assert await kept(store, odd) == {}


async def test_a_temporary_chat_is_kept_in_memory_alone(database: Database) -> None:
    store = ReplyStore(database)
    store.begin(reply(chat_id="temporary:1"))
    await store.said("a1", "Hello.")
    await store.flush()

    assert await kept(store, "temporary:1") == {"a1": "Hello."}
    assert await kept(ReplyStore(database), "temporary:1") == {}


async def test_memory_is_bounded_and_what_it_forgot_is_read_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MEMORY_CHATS", 2)
    store = ReplyStore(database)
    for number in range(4):
        store.begin(reply(f"a{number}", chat_id=f"c{number}"))
        await store.said(f"a{number}", f"Hello {number}.")
    assert [store.knows(f"a{number}") for number in range(4)] == [False, False, True, True]
    await store.flush()

    assert await kept(store, "c0") == {"a0": "Hello 0."}


async def test_memory_is_bounded_by_characters(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MEMORY_CHARACTERS", 100)
    store = ReplyStore(database)
    for number in range(5):
        store.begin(reply(f"a{number}", chat_id=f"c{number}"))
        await store.said(f"a{number}", "x" * 45)

    assert [store.knows(f"a{number}") for number in range(5)] == [False, False, False, True, True]


async def test_of_a_long_chat_the_newest_are_read(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHAT_LIMIT", 2)
    store = ReplyStore(database)
    for number in range(4):
        store.begin(reply(f"a{number}", at=NOW + timedelta(seconds=number)))
    await store.flush()

    assert set(await kept(ReplyStore(database))) == {"a2", "a3"}


async def test_what_another_process_noted_is_seen_where_they_share_a_database(database: Database) -> None:
    one, other = ReplyStore(database), ReplyStore(database)
    one.begin(reply())
    await one.flush()
    assert set(await kept(other)) == {"a1"}

    await other.said("a1", "Said elsewhere.")  # the outlet may come to another replica
    await other.flush()
    one.begin(reply("b1", place=2))
    await one.flush()

    expected = {"a1": "Said elsewhere.", "b1": None} if database.shared else {"a1": "Said elsewhere."}
    assert await kept(other) == expected
    if database.shared:
        assert await kept(one) == expected
        third = ReplyStore(database)
        await third.said("b1", "Never begun there.")
        await third.flush()
        assert (await kept(one))["b1"] == "Never begun there."


async def test_beginning_again_elsewhere_takes_no_words_away(database: Database) -> None:
    one, other = ReplyStore(database), ReplyStore(database)
    one.begin(reply())
    await one.said("a1", "Hello.")
    await one.flush()
    other.begin(reply())
    await other.flush()

    assert await kept(ReplyStore(database)) == {"a1": "Hello."}


async def test_while_the_database_is_away_memory_serves(
    database: Database, away: Callable[[bool], None], caplog: pytest.LogCaptureFixture
) -> None:
    store = ReplyStore(database)
    away(True)
    store.begin(reply())
    await store.said("a1", "Hello.")
    with caplog.at_level(logging.INFO):
        assert await kept(store) == {"a1": "Hello."}
        assert await kept(store) == {"a1": "Hello."}
        await store.flush()
    assert sum("looked up in memory alone" in record.message for record in caplog.records) == 1
    assert "Hello" not in caplog.text

    away(False)
    await store.flush()

    assert await kept(ReplyStore(database)) == {"a1": "Hello."}


async def test_old_words_are_forgotten(database: Database) -> None:
    store = ReplyStore(database)
    store.begin(reply("old", at=NOW - timedelta(days=31)))
    store.begin(reply("new", chat_id="d"))
    for message_id in ("old", "new"):
        await store.said(message_id, "Hello.")

    assert await store.prune(30) == 1

    assert (await kept(store), await kept(store, "d")) == ({}, {"new": "Hello."})
    with pytest.raises(ValueError, match="negative"):
        await store.prune(-1)


async def test_it_is_written_by_itself(database: Database) -> None:
    store = ReplyStore(database, flush_seconds=0.01)
    await store.start()
    store.begin(reply())
    await store.said("a1", "Hello.")
    async with asyncio.timeout(PATIENCE):
        while await kept(ReplyStore(database)) != {"a1": "Hello."}:
            await asyncio.sleep(0.01)
    await store.close()
