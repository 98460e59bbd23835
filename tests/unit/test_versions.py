"""Versions: every change is one, none is lost, none is counted twice; and the extras that became content."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from sqlalchemy import Connection, text, update

from agent_mode.errors import StoreError
from agent_mode.store import extras, migrate, tables
from agent_mode.store.db import Database
from agent_mode.store.forms import content, problems
from agent_mode.store.personas import Keep, PersonaForm, PersonaStore, content_hash
from agent_mode.store.versions import Version, unified_diff
from tests.stored_personas import form

pytest_plugins = ["tests.databases"]

WRITER = """
import asyncio, sys
from agent_mode.store.db import Database
from agent_mode.store.personas import PersonaForm, PersonaStore
async def main():
    database = await Database.open(sys.argv[1])
    for n in range(25):
        form = PersonaForm(key="coder", name="Coder", prompt=f"{sys.argv[2]} {n}")
        await PersonaStore(database).save(form, author=sys.argv[2])
    await database.close()
asyncio.run(main())
"""

HASH_OF_0_1 = "594558bdac13a7fae1483ac6a35bf839a062bc6ff48c944528c99876944439ca"
"""Of `form()`, as the first release computed it."""


async def labels(store: PersonaStore, key: str = "coder") -> list[str]:
    return [version.label for version in await store.history(key)]


# Extras


def test_hashes_of_the_first_release_stay_valid() -> None:
    assert content_hash(form()) == content_hash(form(extras={})) == HASH_OF_0_1


def test_extras_are_content() -> None:
    one, other = form(extras={"a": 1, "b": [None]}), form(extras={"b": [None], "a": 1})
    assert content_hash(one) == content_hash(other)
    hashes = {content_hash(form(extras=value)) for value in ({}, {"a": 1}, {"a": "1"}, {"a": True})}
    assert len(hashes) == 4


def deep(levels: int) -> Any:
    return [] if levels == 1 else [deep(levels - 1)]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([], "JSON object"),
        ("text", "JSON object"),
        ({"a": float("nan")}, "JSON"),
        ({"a": [float("inf")]}, "JSON"),
        ({"a": b"bytes"}, "JSON"),
        ({"a": (1, 2)}, "JSON"),
        ({"a": {1: "number as a name"}}, "JSON"),
        ({"a": 2**63}, "64 bits"),
        ({"a": "NUL \0"}, "NUL"),
        ({"half \ud800": 1}, "NUL"),
        ({"a": "x" * extras.SIZE_LIMIT}, "1024 KiB"),
        ({"a": "ä" * (extras.SIZE_LIMIT // 2)}, "1024 KiB"),
        ({"a": deep(extras.DEPTH_LIMIT)}, "32 levels"),
    ],
)
def test_extras_that_are_refused(value: Any, says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        form(extras=value)
    [found] = problems(caught.value)
    assert found.path[0] == "extras"
    assert says in found.message


def test_extras_at_the_limit() -> None:
    assert form(extras={"a": deep(extras.DEPTH_LIMIT - 1)}).extras
    assert form(extras={"a": "x" * (extras.SIZE_LIMIT - len('{"a":""}'))}).extras
    assert form(extras={"a": [2**63 - 1, -(2**63)]}).extras


def test_extras_are_a_copy() -> None:
    mine = {"list": [1]}
    accepted = form(extras=mine)
    mine["list"].append(2)
    assert accepted.extras == {"list": [1]}
    assert PersonaForm(key="aa", name="A", prompt="Be.").extras == {}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=3))
def test_any_extras_are_either_refused_or_storable(value: dict[str, Any]) -> None:
    try:
        accepted = form(extras=value)
    except ValidationError:
        return
    assert accepted.extras == value
    assert content_hash(PersonaForm.model_validate_json(accepted.model_dump_json())) == content_hash(accepted)


async def test_extras_survive_the_database(store: PersonaStore) -> None:
    value = {"character_book": {"entries": [{"keys": ["ä", "🎭"], "on": True, "at": 1.5, "no": None}]}}
    saved = await store.save(form(extras=value))
    assert saved.extras == value
    assert saved == await store.get("coder")
    assert saved.content_hash == content_hash(form(extras=value)) == content_hash(saved)
    hash(saved)  # caches take personas as keys
    assert (await store.save(form())).extras == {}
    assert (await store.rollback("coder", "1.0.0")).extras == value


# Migration


async def test_personas_of_the_first_schema_get_their_first_version(database: Database) -> None:
    def old_schema(connection: Connection) -> None:
        from alembic import command
        from alembic.config import Config

        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(migrate.MIGRATIONS))
        command.downgrade(config, "0001")
        row = {name: value for name, value in form().model_dump().items() if name != "extras"}
        lists = {"capabilities": '["python", "sql"]', "tags": '["dev"]'}
        connection.execute(
            text(
                "INSERT INTO persona VALUES (:key, :name, :emoji, :category, :prompt, :description,"
                " :capabilities, :tags, :model, :enabled, 'custom', NULL, :hash,"
                " CURRENT_TIMESTAMP, CURRENT_TIMESTAMP)"
            ),
            row | lists | {"hash": HASH_OF_0_1},
        )
        migrate.upgrade(connection)

    async with database.begin() as connection:
        await connection.run_sync(old_schema)
    store = PersonaStore(database)
    [first] = await store.history("coder")
    assert (first.label, first.number, first.content_hash) == ("1.0.0", 1, HASH_OF_0_1)
    assert (first.author, first.message) == ("system", "first seen")
    assert content_hash(first.form()) == HASH_OF_0_1
    persona = await store.get("coder")
    assert persona is not None
    assert persona.extras == {}
    await store.save(form())
    assert await labels(store) == ["1.0.0"]
    await store.save(form(prompt="New."))
    assert await labels(store) == ["1.0.1", "1.0.0"]


# Versions


async def test_every_change_is_a_version_and_nothing_else_is(store: PersonaStore) -> None:
    await store.save(form(), author="Ada", message="from scratch")
    await store.save(form(), author="Bob")
    await store.save(form(enabled=False), author="Bob")
    assert await labels(store) == ["1.0.0"]
    await store.save(form(prompt="Better."), author="Bob", message="better")
    await store.save(form(), author="Ada", message="no, it was good")
    history = await store.history("coder")
    assert [(v.label, v.number, v.author, v.message) for v in history] == [
        ("1.0.2", 3, "Ada", "no, it was good"),
        ("1.0.1", 2, "Bob", "better"),
        ("1.0.0", 1, "Ada", "from scratch"),
    ]
    assert history[0].created_at >= history[1].created_at >= history[2].created_at
    assert history[0].created_at.utcoffset() is not None
    assert [v.form() for v in history] == [form(), form(prompt="Better."), form()]
    assert [v.content_hash for v in history] == [content_hash(v.form()) for v in history]
    assert await store.version("coder", "1.0.1") == history[1]
    assert await store.version("coder", " v1.0.1 ") == history[1]
    assert await store.history("nobody") == []


async def test_seeding_writes_versions(store: PersonaStore) -> None:
    for prompt in ("First.", "First.", "Second."):
        await store.seed([form(prompt=prompt), form("writer")])
    history = await store.history("coder")
    assert [(v.author, v.message, v.content["prompt"]) for v in history] == [
        ("catalogue", "updated", "Second."),
        ("catalogue", "added", "First."),
    ]
    assert await labels(store, "writer") == ["1.0.0"]
    await store.save(form(prompt="Mine."), author="Ada")
    await store.seed([form(prompt="Mine.")])
    await store.seed([form(prompt="Third.")])
    assert [v.author for v in await store.history("coder")] == ["catalogue", "Ada", "catalogue", "catalogue"]


@pytest.mark.parametrize(
    "label", ["1.0.1", "1.0.9", "1.0", "2.0.0", "", "1.0.-1", "1.0.00", "1.0." + "9" * 30]
)
async def test_an_unknown_version(store: PersonaStore, label: str) -> None:
    await store.save(form())
    for call in (store.version("coder", label), store.rollback("coder", label)):
        with pytest.raises(StoreError, match="There is no version") as caught:
            await call
        assert (caught.value.code, caught.value.status) == ("unknown_version", 404)
        assert caught.value.hint == "There is only 1.0.0."
    with pytest.raises(StoreError, match="has no versions"):
        await store.diff("nobody", "1.0.0", "1.0.1")


async def test_rollback_is_a_new_version(store: PersonaStore) -> None:
    await store.seed([form()])
    await store.save(form(prompt="Mine.", enabled=False))
    revision = await store.revision()
    back = await store.rollback("coder", "1.0.0", author="Ada")
    assert (back.prompt, back.enabled, back.origin) == ("You write code.", False, "shipped")
    assert await store.revision() == revision + 1
    newest = (await store.history("coder"))[0]
    assert (newest.label, newest.author, newest.message) == ("1.0.2", "Ada", "rolled back to 1.0.0")
    assert await store.rollback("coder", "1.0.0") == back
    assert await store.rollback("coder", "1.0.2") == back
    assert await labels(store) == ["1.0.2", "1.0.1", "1.0.0"]
    assert await store.revision() == revision + 1


async def test_a_shipped_persona_that_was_rolled_back_stays_so(store: PersonaStore) -> None:
    await store.seed([form(prompt="First.")])
    await store.seed([form(prompt="Second.")])
    assert (await store.rollback("coder", "1.0.0")).edited
    assert (await store.seed([form(prompt="Second.")])).protected == ("coder",)


async def test_the_history_outlives_the_persona(store: PersonaStore) -> None:
    await store.save(form(prompt="One."))
    await store.save(form(prompt="Two."))
    await store.delete("coder")
    assert await labels(store) == ["1.0.1", "1.0.0"]
    back = await store.rollback("coder", "1.0.1", author="Ada")
    assert (back.prompt, back.origin, back.enabled) == ("Two.", "custom", True)
    assert await labels(store) == ["1.0.1", "1.0.0"]  # the content is that of the newest version still
    await store.delete("coder")
    await store.save(form(prompt="Three."))
    assert await labels(store) == ["1.0.2", "1.0.1", "1.0.0"]


async def test_only_so_many_versions_are_kept(store: PersonaStore) -> None:
    store.keep = Keep(history_limit=3)
    for number in range(5):
        await store.save(form(prompt=f"{number}"))
    await store.save(form("writer"))
    assert await labels(store) == ["1.0.4", "1.0.3", "1.0.2"]
    store.keep = Keep(history_limit=1)
    await store.save(form(prompt="last"))
    assert await labels(store) == ["1.0.5"]
    await store.delete("coder")
    await store.save(form(prompt="again"))
    assert await labels(store) == ["1.0.6"]
    assert await labels(store, "writer") == ["1.0.0"]
    with pytest.raises(ValueError, match="at least 1"):
        Keep(history_limit=0)


async def test_versioning_can_be_off_for_a_while(store: PersonaStore) -> None:
    await store.save(form(prompt="One."))
    store.keep = Keep(versioning=False)
    await store.save(form(prompt="Two."))
    await store.save(form("writer"))
    await store.seed([form("shipped")])
    assert await labels(store) == ["1.0.0"]
    assert await labels(store, "writer") == []
    assert (await store.rollback("coder", "1.0.0")).prompt == "One."
    assert await labels(store) == ["1.0.0"]
    await store.save(form(prompt="Two."))
    store.keep = Keep()
    # What was in use meanwhile is recorded before it is replaced or removed.
    await store.save(form(prompt="Three."), author="Ada")
    history = await store.history("coder")
    assert [(v.content["prompt"], v.author, v.message) for v in history] == [
        ("Three.", "Ada", ""),
        ("Two.", "system", "first seen"),
        ("One.", "system", ""),
    ]
    await store.delete("writer")
    assert await labels(store, "writer") == ["1.0.0"]


async def test_what_people_write_into_the_history_is_made_safe(store: PersonaStore) -> None:
    await store.save(form(), author=" A\0d\na\ud800 ", message="\x1b[31m" + "long" * 1000)
    [version] = await store.history("coder")
    assert version.author == "A d a"
    assert version.message.startswith("[31mlong")
    assert len(version.message) <= 1000


async def test_an_old_version_that_the_rules_refuse_by_now(store: PersonaStore) -> None:
    await store.save(form())
    await store.save(form(prompt="Fine."))
    async with store._db.begin() as connection:
        spoilt = form().model_dump(mode="json") | {"name": ""}
        query = update(tables.persona_version).where(tables.persona_version.c.number == 1)
        await connection.execute(query.values(content=spoilt))
    with pytest.raises(StoreError, match=r"1\.0\.0 of coder cannot be used any more: name:") as caught:
        await store.rollback("coder", "1.0.0")
    assert caught.value.code == "version_refused"
    assert "-prompt:" not in await store.diff("coder", "1.0.0", "1.0.1")


# Diff


async def test_diff(store: PersonaStore) -> None:
    await store.save(form(prompt="One.\nTwo.\nThree."))
    await store.save(
        form(prompt="One.\n2.\nThree.", tags=["dev", "new"], model="gpt", extras={"b": {"x": "ü"}, "a": 1})
    )
    assert await store.diff("coder", "1.0.0", "1.0.1") == (
        "--- coder 1.0.0\n"
        "+++ coder 1.0.1\n"
        "@@ -1,9 +1,10 @@\n"
        " name: Coder\n"
        " emoji: 💻\n"
        " category: software\n"
        "-model:\n"
        "+model: gpt\n"
        " tags:\n"
        " - dev\n"
        "+- new\n"
        " capabilities:\n"
        " - python\n"
        " - sql\n"
        "@@ -13,5 +14,13 @@\n"
        " \n"
        " prompt:\n"
        " One.\n"
        "-Two.\n"
        "+2.\n"
        " Three.\n"
        "+\n"
        "+extras:\n"
        "+{\n"
        '+  "a": 1,\n'
        '+  "b": {\n'
        '+    "x": "ü"\n'
        "+  }\n"
        "+}\n"
    )
    assert await store.diff("coder", "1.0.1", "1.0.1") == ""
    backwards = await store.diff("coder", "1.0.1", "1.0.0")
    assert "+Two.\n" in backwards
    assert "-2.\n" in backwards


@given(st.text(min_size=1).filter(str.strip), st.text(min_size=1).filter(str.strip))
def test_a_diff_shows_every_difference(one: str, other: str) -> None:
    try:
        forms = form(prompt=one), form(prompt=other)
    except ValidationError:
        return
    now = datetime.now(UTC)
    old, new = (Version("coder", n, "", content(f), "", "", now) for n, f in enumerate(forms, 1))
    difference = unified_diff(old, new)
    assert bool(difference) == (forms[0].prompt != forms[1].prompt)
    added = [line[1:] for line in difference.split("\n")[2:] if line.startswith("+")]
    assert all(line in forms[1].prompt.split("\n") for line in added)


# Several writers


async def test_a_version_to_come_is_unknown_and_not_stale(store: PersonaStore) -> None:
    await store.save(form(), author="Ada", expected=0)
    with pytest.raises(StoreError, match=r"no version 1\.0\.6 \(number 7\) of 'coder' yet") as caught:
        await store.save(form(prompt="Two."), expected=7)
    assert (caught.value.code, caught.value.status) == ("unknown_version", 422)
    assert "1.0.0 (number 1)" in caught.value.hint


@pytest.mark.parametrize(
    ("expected", "says"),
    [
        (None, None),
        (2, None),
        (1, "newest version is 1.0.1"),
        (0, "already"),
    ],
)
async def test_a_stale_save_is_refused(store: PersonaStore, expected: int | None, says: str | None) -> None:
    await store.save(form(), author="Ada", expected=0)
    await store.save(form(prompt="Two."), author="Bob", expected=1)
    if says is None:
        await store.save(form(prompt="Three."), expected=expected)
        assert await labels(store) == ["1.0.2", "1.0.1", "1.0.0"]
        return
    before = await store.get("coder")
    with pytest.raises(StoreError, match=says) as caught:
        await store.save(form(prompt="Three."), expected=expected)
    assert (caught.value.code, caught.value.status) == ("stale_version", 409)
    assert caught.value.hint
    assert await store.get("coder") == before


async def test_a_save_after_a_delete_is_stale(store: PersonaStore) -> None:
    await store.save(form())
    await store.delete("coder")
    with pytest.raises(StoreError, match="deleted meanwhile"):
        await store.save(form(), expected=1)
    await store.save(form(), expected=0)


async def test_of_two_who_saw_the_same_only_one_saves(database_url: str) -> None:
    databases = [await Database.open(database_url) for _ in range(2)]
    stores = [PersonaStore(database) for database in databases]
    await stores[0].save(form())
    attempts = [stores[n % 2].save(form(prompt=f"{n}"), expected=1) for n in range(6)]
    results = await asyncio.gather(*attempts, return_exceptions=True)
    assert sum(isinstance(result, StoreError) and result.code == "stale_version" for result in results) == 5
    assert await labels(stores[0]) == ["1.0.1", "1.0.0"]
    for database in databases:
        await database.close()


async def test_many_writers_share_one_history(database_url: str) -> None:
    names = ("a", "b", "c")
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-W", "error", "-c", WRITER, database_url, name, stderr=asyncio.subprocess.PIPE
        )
        for name in names
    ]
    for process in processes:
        assert (await process.communicate())[1] == b""
    database = await Database.open(database_url)
    store = PersonaStore(database, Keep(history_limit=1000))
    history = await store.history("coder")
    newest = await store.get("coder")
    await database.close()
    assert newest is not None
    assert newest.content_hash == history[0].content_hash
    assert [version.number for version in history] == list(range(75, 25, -1))


# Before something is lost


async def test_destructive_changes_are_announced(store: PersonaStore) -> None:
    reasons: list[str] = []

    async def note(reason: str) -> None:
        reasons.append(reason)

    store.before_destructive = note
    await store.seed([form("shipped")])
    await store.save(form())
    await store.save(form(prompt="Two."))
    assert reasons == []
    await store.rollback("coder", "1.0.0")
    await store.save_all([form("aa"), form("bb")])
    for _ in range(2):
        for key in ("coder", "shipped", "nobody"):
            await store.delete(key)
    store.keep = Keep(versioning=False)
    await store.save(form("aa", prompt="Lost for ever otherwise."))
    await store.restore({}, author="Ada", message="")
    assert reasons == [
        "before rolling coder back to 1.0.0",
        "before importing 2 personas",
        "before deleting coder",
        "before deleting shipped",
        "before changing aa",
        "before restoring a backup",
    ]


async def test_who_is_told_may_object(store: PersonaStore) -> None:
    async def object_to(reason: str) -> None:
        raise StoreError(f"No backup {reason}.", code="backup_not_written")

    await store.save(form())
    await store.save(form(prompt="Two."))
    store.before_destructive = object_to
    before = await store.all(), await store.history("coder"), await store.revision()
    for call in (
        store.delete("coder"),
        store.rollback("coder", "1.0.0"),
        store.save_all([form()]),
        store.restore({}, author="", message=""),
    ):
        with pytest.raises(StoreError, match="No backup before"):
            await call
    assert (await store.all(), await store.history("coder"), await store.revision()) == before


async def test_save_all_is_one_transaction(store: PersonaStore) -> None:
    await store.save(form("same"))
    await store.save(form("other"))
    revision = await store.revision()
    forms = [form("new"), form("same"), form("other", prompt="First."), form("other", prompt="Last.")]
    report = await store.save_all(forms, author="Ada", message="from a file")
    assert (report.created, report.updated, report.unchanged) == (("new",), ("other",), ("same",))
    assert await store.revision() == revision + 1
    newest = (await store.history("other"))[0]
    assert (newest.author, newest.message, newest.content["prompt"]) == ("Ada", "from a file", "Last.")
    assert (await store.save_all([])).created == ()
    assert await store.revision() == revision + 1
    assert json.dumps(newest.content)
