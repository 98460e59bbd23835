"""Agents: what a form accepts, versions that are never lost, pages made in SQL, and the book in memory."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, insert, select, text, update

from agent_mode.errors import DefinitionError, Problem, StoreError
from agent_mode.store import agent_rows, tables
from agent_mode.store.agent_forms import RESERVED_IDS, searched
from agent_mode.store.agents import AgentBook, AgentForm, AgentStore, content, content_hash
from agent_mode.store.db import Database

pytest_plugins = ["tests.databases"]

WRITER = """
import asyncio, itertools, sys
from agent_mode.store.agents import AgentForm, AgentStore
from agent_mode.store.db import Database
async def main():
    store = AgentStore(await Database.open(sys.argv[1]), history_limit=10**6)
    form = AgentForm(id="weather", name="Weather", agent_type="persona")
    await store.create(form, "Ada")
    print("go", flush=True)
    for n in itertools.count():
        await store.update(form.model_copy(update={"definition": {"n": n}}), "Ada")
asyncio.run(main())
"""


def form(agent_id: str = "weather", **changes: Any) -> AgentForm:
    values: dict[str, Any] = {
        "id": agent_id,
        "name": "Weather",
        "description": "Tells the weather",
        "agent_type": "custom_python",
        "definition": {"code": "async def run():\n    return 1\n", "model": None},
        "valves": {"max_steps": 5},
        "tags": ["outdoors", "daily"],
    }
    return AgentForm.parse(values | changes)


@pytest.fixture
def store(database: Database) -> AgentStore:
    return AgentStore(database)


async def numbers(store: AgentStore, agent_id: str = "weather") -> list[int]:
    return [version.number for version in await store.history(agent_id)]


def problems_of(call: Callable[[], object]) -> dict[str, Problem]:
    with pytest.raises(DefinitionError) as caught:
        call()
    return {problem.field: problem for problem in caught.value.problems}


# Forms


@pytest.mark.parametrize("agent_id", ["ab", "1a", "c-3_po", "a" * 64])
def test_good_ids(agent_id: str) -> None:
    assert form(agent_id).id == agent_id


@pytest.mark.parametrize(
    "agent_id", ["a", "-ab", "Weather", "a b", "a" * 65, "ä2", "ab\n!", "", "a/b", 5, None, "a.b"]
)
def test_bad_ids(agent_id: Any) -> None:
    assert list(problems_of(lambda: form(agent_id))) == ["id"]


@pytest.mark.parametrize(
    "agent_id", ["personas", "hotswap", "v1", "pipelines", "models", "api", "admin", "metrics"]
)
def test_reserved_ids(agent_id: str) -> None:
    assert agent_id in RESERVED_IDS
    problem = problems_of(lambda: form(agent_id))["id"]
    assert problem.message == f"'{agent_id}' is reserved."


def deep(levels: int) -> Any:
    return [] if levels == 1 else [deep(levels - 1)]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "  "),
        ("name", "n" * 201),
        ("name", "two\nlines"),
        ("name", "a\ud800b"),
        ("name", 7),
        ("description", "d" * 4_001),
        ("description", "a\0b"),
        ("agent_type", ""),
        ("agent_type", "Custom Python"),
        ("agent_type", "a" * 65),
        ("definition", []),
        ("definition", {"a": float("nan")}),
        ("definition", {"a": "NUL \0"}),
        ("definition", {"a": deep(40)}),
        ("definition", {"a": "x" * 1024 * 1024}),
        ("valves", "text"),
        ("valves", {"a": object()}),
        ("enabled", "perhaps"),
        ("access", "admins"),
        ("tags", "outdoors"),
        ("tags", [""]),
        ("tags", ["t" * 51]),
        ("tags", [str(number) for number in range(21)]),
        ("colour", "red"),
    ],
)
def test_what_a_form_refuses(field: str, value: Any) -> None:
    [(path, problem)] = problems_of(lambda: form(**{field: value})).items()
    assert path.split(".")[0] == field
    assert problem.message[0].isupper()
    assert problem.message.endswith(".")
    assert problem.hint


def test_all_faults_are_reported_at_once() -> None:
    found = problems_of(
        lambda: AgentForm.parse({"id": "A", "definition": {"key": object()}, "access": 1, "extra": 1})
    )
    assert set(found) == {"id", "name", "agent_type", "definition", "access", "extra"}
    assert found["name"].message == "This field is missing."
    assert "agent_type" in found["extra"].hint


def test_a_fault_as_json() -> None:
    with pytest.raises(DefinitionError) as caught:
        AgentForm.parse({"id": "A", "name": "N", "agent_type": "persona", "tags": [1, 2, 3], "x": 1})
    report = caught.value.report()
    assert (report["code"], report["field"], caught.value.status) == ("invalid_definition", "id", 422)
    assert [set(problem) for problem in report["problems"]] == [{"field", "message", "hint"}] * 5
    assert report["problems"][1]["field"] == "tags.0"
    assert report["message"].startswith("The agent cannot be used: id: This must be 2 to 64 characters")
    assert "(and 2 more)." in report["message"]


@pytest.mark.parametrize("value", [None, [], "text", 5])
def test_a_form_is_an_object(value: object) -> None:
    assert list(problems_of(lambda: AgentForm.parse(value))) == ["agent"]


def test_what_was_sent_is_not_repeated() -> None:
    with pytest.raises(DefinitionError) as caught:
        form(valves={"api_key": "sk-secret\0"}, name="sk-secret\0")
    shown = [str(caught.value), repr(caught.value), str(caught.value.report()), str(caught.value.__cause__)]
    assert not any("sk-secret" in text for text in shown)
    assert caught.value.__context__ is None
    assert "sk-secret" not in repr(form(valves={"api_key": "sk-secret"}))


def test_a_form_is_tidied() -> None:
    tidy = form(name=" W ", description="one\r\ntwo\rthree ", tags=["a", "b", " a "], definition={"t": " x "})
    assert (tidy.name, tidy.description, tidy.tags) == ("W", "one\ntwo\nthree", ("a", "b"))
    assert tidy.definition == {"t": " x "}
    bare = AgentForm(id="ab", name="👩‍💻 A", agent_type="persona")
    assert (bare.enabled, bare.access, bare.definition, bare.valves, bare.tags) == (
        True,
        "openwebui",
        {},
        {},
        (),
    )


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_is_either_refused_or_storable(value: str) -> None:
    try:
        accepted = form(name=value, description=value, tags=[value], definition={value: value})
    except DefinitionError:
        return
    (accepted.name + accepted.description).encode()
    assert "\0" not in str(content(accepted))


# Writing


async def test_create_get_and_order(store: AgentStore) -> None:
    for agent_id, name in [("zed", "zed"), ("anna", "Anna"), ("xeno", "bert")]:
        await store.create(form(agent_id, name=name, enabled=agent_id != "zed"), "Ada")
    assert [agent.id for agent in await store.all()] == ["anna", "xeno", "zed"]
    created = await store.create(form(), "Ada")
    assert created == await store.get("weather")
    assert content(created) == content(form())
    assert (created.version, created.content_hash) == (1, content_hash(form()))
    assert created.tags == ("outdoors", "daily")
    assert created.created_at.tzinfo is UTC
    assert datetime.now(UTC) - created.created_at < timedelta(minutes=1)
    assert "max_steps" not in repr(created)
    hash(created)
    assert [await store.get(nobody) for nobody in ("nobody", "", "a\0", "\ud800", "a" * 999)] == [None] * 5


async def test_an_id_is_taken_once(store: AgentStore) -> None:
    created = await store.create(form(), "Ada")
    with pytest.raises(StoreError, match="already") as caught:
        await store.create(form(name="Other"), "Bob")
    assert (caught.value.code, caught.value.status, caught.value.field) == ("agent_exists", 409, "id")
    assert await store.all() == [created]
    assert await numbers(store) == [1]


async def test_every_write_is_a_version_and_nothing_else_is(store: AgentStore) -> None:
    first = await store.create(form(), "Ada", "from scratch")
    revision = await store.revision()
    assert await store.update(form(), "Bob") == first
    assert await store.set_enabled("weather", True, "Bob") == first
    assert await store.set_valves("weather", {"max_steps": 5}, "Bob") == first
    assert await store.revision() == revision

    second = await store.update(form(description="Better"), "Bob", "better", expected=1)
    assert (second.description, second.version, second.created_at) == ("Better", 2, first.created_at)
    assert second.updated_at > first.updated_at
    assert not (await store.set_enabled("weather", False, "Ada")).enabled
    valves = await store.set_valves("weather", {"max_steps": 9}, "Ada")
    assert (valves.valves, valves.description, valves.enabled) == ({"max_steps": 9}, "Better", False)
    assert await store.revision() == revision + 3

    history = await store.history("weather")
    assert [(v.number, v.label, v.author, v.message) for v in history] == [
        (4, "1.0.3", "Ada", "valves changed"),
        (3, "1.0.2", "Ada", "disabled"),
        (2, "1.0.1", "Bob", "better"),
        (1, "1.0.0", "Ada", "from scratch"),
    ]
    assert history[0].content == content(valves)
    assert [v.content_hash for v in history] == [content_hash(v.form()) for v in history]
    assert not any(v.deleted for v in history)
    assert await store.history("weather", limit=1) == history[:1]
    assert await store.version("weather", 2) == history[2]
    assert await store.history("nobody") == await store.history("\0") == []


async def test_a_stale_update_names_who_was_faster(store: AgentStore) -> None:
    await store.create(form(), "Ada")
    await store.update(form(description="Bob's"), "Bob", expected=1)
    with pytest.raises(StoreError) as caught:
        await store.update(form(description="Ada's"), "Ada", expected=1)
    assert (caught.value.code, caught.value.status) == ("stale_version", 409)
    assert "changed meanwhile by Bob: its newest version is number 2 (1.0.1)" in caught.value.message
    assert (await store.update(form(description="Ada's"), "Ada", expected=2)).version == 3


async def test_a_version_to_come_is_unknown_and_not_stale(store: AgentStore) -> None:
    await store.create(form(), "Ada")
    with pytest.raises(StoreError, match=r"no version 1\.0\.6 \(number 7\) of 'weather' yet") as caught:
        await store.update(form(description="Ada's"), "Ada", expected=7)
    assert (caught.value.code, caught.value.status) == ("unknown_version", 422)


async def test_of_concurrent_updates_exactly_one_wins(store: AgentStore) -> None:
    await store.create(form(), "Ada")
    calls = [store.update(form(description=f"{n}"), f"user {n}", expected=1) for n in range(8)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    lost = [result for result in results if isinstance(result, StoreError)]
    [won] = [result for result in results if not isinstance(result, BaseException)]
    assert [error.code for error in lost] == ["stale_version"] * 7
    assert await store.get("weather") == won
    assert await numbers(store) == [2, 1]


async def test_of_concurrent_creations_exactly_one_wins(store: AgentStore) -> None:
    calls = [store.create(form(name=f"N {n}"), "Ada") for n in range(6)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["Agent"] + ["StoreError"] * 5
    assert await numbers(store) == [1]


async def test_who_is_unknown(store: AgentStore) -> None:
    for agent_id in ("nobody", "a\0b"):
        for call in (
            store.set_enabled(agent_id, True, "Ada"),
            store.set_valves(agent_id, {}, "Ada"),
            store.delete(agent_id, "Ada"),
        ):
            with pytest.raises(StoreError, match="There is no agent") as caught:
                await call
            assert (caught.value.code, caught.value.status) == ("agent_not_found", 404)
    with pytest.raises(StoreError) as caught:
        await store.update(form(), "Ada", expected=1)
    assert caught.value.code == "agent_not_found"
    assert await store.revision() == 0


async def test_valves_that_cannot_be_kept(store: AgentStore) -> None:
    created = await store.create(form(), "Ada")
    with pytest.raises(DefinitionError) as caught:
        await store.set_valves("weather", {"x": float("inf")}, "Ada")
    assert caught.value.field == "valves"
    assert await store.get("weather") == created


async def test_nothing_is_lost_by_a_deletion(store: AgentStore) -> None:
    first = await store.create(form(), "Ada")
    revision = await store.revision()
    await store.delete("weather", "Bob")
    assert (await store.get("weather"), await store.all()) == (None, [])
    assert await store.revision() == revision + 1
    deletion, creation = await store.history("weather")
    assert (deletion.deleted, deletion.author, deletion.message) == (True, "Bob", "deleted")
    assert deletion.content == creation.content == content(form())
    with pytest.raises(StoreError) as caught:
        await store.delete("weather", "Bob")
    assert caught.value.code == "agent_not_found"

    back = await store.rollback("weather", deletion.number, "Ada")
    assert content(back) == content(first)
    assert (back.version, back.content_hash) == (3, first.content_hash)
    await store.delete("weather", "Bob")
    assert (await store.create(form(name="New"), "Cy")).version == 5
    assert (await store.rollback("weather", 1, "Cy")).name == "Weather"
    assert await numbers(store) == [6, 5, 4, 3, 2, 1]


async def test_rollback_is_a_new_version(store: AgentStore) -> None:
    await store.create(form(), "Ada")
    await store.update(form(name="Other", enabled=False, access="everyone", tags=[]), "Bob")
    back = await store.rollback("weather", 1, "Cy")
    assert content(back) == content(form())
    newest = (await store.history("weather"))[0]
    assert (newest.number, newest.author, newest.message) == (3, "Cy", "rolled back to 1.0.0")
    revision = await store.revision()
    assert await store.rollback("weather", 1, "Cy") == back
    assert await store.revision() == revision


@pytest.mark.parametrize("number", [0, 2, -1, 2**40])
async def test_an_unknown_version(store: AgentStore, number: int) -> None:
    await store.create(form(), "Ada")
    for call in (
        store.version("weather", number),
        store.rollback("weather", number, "Ada"),
        store.diff("weather", 1, number),
    ):
        with pytest.raises(StoreError, match="There is no version") as caught:
            await call
        assert (caught.value.code, caught.value.status) == ("unknown_version", 404)
        assert caught.value.hint == "There is only 1."
    for nobody in ("nobody", "a\0"):
        with pytest.raises(StoreError, match="has no versions"):
            await store.version(nobody, 1)


async def test_an_old_version_that_the_rules_refuse_by_now(store: AgentStore, database: Database) -> None:
    await store.create(form(), "Ada")
    await store.update(form(name="Other"), "Ada")
    async with database.begin() as connection:
        bad = content(form()) | {"access": "admins"}
        change = update(tables.agent_version).where(tables.agent_version.c.number == 1)
        await connection.execute(change.values(content=bad))
    with pytest.raises(StoreError, match=r"cannot be used any more: .*access") as caught:
        await store.rollback("weather", 1, "Ada")
    assert (caught.value.code, caught.value.status) == ("version_refused", 409)


async def test_a_diff_shows_code_line_by_line(store: AgentStore) -> None:
    await store.create(form(), "Ada")
    code = "async def run():\n    return 2\n"
    changes = {"definition": {"code": code, "model": "gpt"}, "enabled": False, "tags": ["daily"]}
    await store.update(form(**changes), "Ada")
    diff = await store.diff("weather", 1, 2)
    assert diff.startswith("--- weather 1.0.0\n+++ weather 1.0.1\n")
    for line in (
        "-enabled: True",
        "+enabled: False",
        "-- outdoors",
        "-    return 1",
        "+    return 2",
        "-definition.model: null",
        '+definition.model: "gpt"',
    ):
        assert f"\n{line}\n" in diff
    assert " async def run():\n" in diff
    assert await store.diff("weather", 2, 2) == ""


async def test_only_so_many_versions_are_kept(database: Database) -> None:
    store = AgentStore(database, history_limit=2)
    await store.create(form(), "Ada")
    for number in range(4):
        await store.update(form(name=f"{number}"), "Ada")
    assert await numbers(store) == [5, 4]
    await store.delete("weather", "Ada")
    assert await numbers(store) == [6, 5]
    assert (await store.create(form(), "Ada")).version == 7
    with pytest.raises(ValueError, match="at least 1"):
        AgentStore(database, history_limit=0)


async def test_what_people_write_into_the_history_is_made_safe(store: AgentStore) -> None:
    await store.create(form(), " A\0d\na\ud800 ", "\x1b[31m" + "long" * 1000)
    [version] = await store.history("weather")
    assert version.author == "A d a"
    assert version.message.startswith("[31mlong")
    assert len(version.message) <= 1000


async def test_a_failure_in_the_middle_leaves_nothing_behind(
    store: AgentStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await store.create(form(), "Ada")

    async def fail(*_: object) -> None:
        raise LookupError

    monkeypatch.setattr("agent_mode.store.revisions.bump", fail)
    for call in (
        store.update(form(name="X"), "Ada"),
        store.delete("weather", "Ada"),
        store.create(form("ab"), "A"),
    ):
        with pytest.raises(LookupError):
            await call
    assert await store.all() == [first]
    assert (await numbers(store), await numbers(store, "ab")) == ([1], [])


async def test_a_killed_process_leaves_nothing_half_done(database_url: str) -> None:
    for _ in range(3):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-W", "error", "-c", WRITER, database_url, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"go\n"
        await asyncio.sleep(0.3)
        process.send_signal(signal.SIGKILL)
        await process.communicate()
        database = await Database.open(database_url)
        store = AgentStore(database, history_limit=10**6)
        # Waits until the database has noticed that the other side is gone.
        agent = await store.set_enabled("weather", False, "Ada")
        history = await store.history("weather")
        assert [version.number for version in history] == list(range(agent.version, 0, -1))
        assert (agent.version, agent.content_hash) == (history[0].number, history[0].content_hash)
        assert await store.revision() == agent.version
        await store.delete("weather", "Ada")
        await database.close()


# Pages


async def fill(database: Database, count: int) -> None:
    """Agents a00000 and so on, in one transaction; every tenth is disabled, every hundredth rare."""
    now = datetime.now(UTC)
    rows = []
    for number in range(count):
        kind = "custom_python" if number % 4 == 0 else "persona"
        tags = ["rare", "all"] if number % 100 == 0 else ["all"]
        each = AgentForm.model_construct(
            id=f"a{number:05}",
            name=f"Ärger {number}",
            description=f"100% of {number}_x",
            agent_type=kind,
            definition={"instructions": "x" * 200},
            valves={},
            enabled=number % 10 != 0,
            access="openwebui",
            tags=tags,
        )
        values = content(each)
        derived = {"search": searched(each.id, values), "version": 1, "content_hash": content_hash(each)}
        rows.append({"id": each.id, "created_at": now, "updated_at": now} | values | derived)
    async with database.begin() as connection:
        await connection.execute(insert(tables.agent), rows)


async def test_pages_of_ten_thousand(store: AgentStore, database: Database) -> None:
    await fill(database, 10_000)
    seen: list[str] = []
    for offset in range(0, 10_000, 2_500):
        found, total = await store.page(offset, 2_500)
        assert total == 10_000
        seen += [agent.id for agent in found]
    assert seen == [f"a{number:05}" for number in range(10_000)]
    assert await store.page(10_000, 50) == ([], 10_000)

    found, total = await store.page(5, 3, agent_type="custom_python")
    assert ([agent.id for agent in found], total) == (["a00020", "a00024", "a00028"], 2_500)
    found, total = await store.page(0, 2, enabled=False, tag="rare")
    assert ([agent.id for agent in found], total) == (["a00000", "a00100"], 100)
    assert (await store.page(0, 1, enabled=True))[1] == 9_000
    found, total = await store.page(0, 50, text="äRGER 4711")
    assert ([agent.id for agent in found], total) == (["a04711"], 1)
    assert found == await store.some(["a04711"])


async def test_what_a_page_looks_for(store: AgentStore) -> None:
    await store.create(form("one", name="Straße", description="50% off_er", tags=["x", 'a"b', "ä"]), "Ada")
    await store.create(form("two", name="Other", description="50x offer", tags=["xx", "X"]), "Ada")

    async def ids(**wanted: Any) -> list[str]:
        found, total = await store.page(0, 10, **wanted)
        assert total == len(found)
        return [agent.id for agent in found]

    assert await ids(text="") == await ids() == ["one", "two"]
    assert await ids(text="STRASSE") == await ids(text="0%") == await ids(text="f_e") == ["one"]
    assert await ids(text="OTHER") == await ids(text="TWO") == await ids(text="50X") == ["two"]
    assert await ids(text="offer") == ["two"]
    assert await ids(text="custom_python") == []
    assert await ids(tag="x") == await ids(tag='a"b') == await ids(tag="ä") == ["one"]
    assert await ids(tag="a") == await ids(tag="b") == await ids(tag="") == []
    assert await ids(tag="X", text="t", enabled=True, agent_type="custom_python") == ["two"]
    assert await ids(tag="a\0") == await ids(agent_type="\ud800") == []
    assert await ids(text="\0o\ud800") == await ids(text="o") == ["one", "two"]
    assert await ids(text="z" * 100_000) == []


async def test_a_page_is_read_in_the_order_of_the_key(database: Database) -> None:
    if database.shared:
        pytest.skip("PostgreSQL decides by the size of the table")
    async with database.read() as connection:
        for wanted in (agent_rows.Filter(), agent_rows.Filter("persona", True, "all", "x")):
            query = agent_rows.query(wanted, connection.dialect).limit(10)
            compiled = query.compile(connection.engine.sync_engine, compile_kwargs={"literal_binds": True})
            plan = [row[3] for row in await connection.execute(text(f"EXPLAIN QUERY PLAN {compiled}"))]
            assert plan[0].startswith("SCAN agent USING INDEX")
            assert not [step for step in plan if "TEMP B-TREE" in step]


# The book


async def test_the_book_shows_enabled_agents_and_follows_changes(store: AgentStore) -> None:
    book = AgentBook()
    assert (book.get("weather"), book.all(), book.version) == (None, (), 0)
    assert not await book.refresh(store)
    await store.create(form(), "Ada")
    await store.create(form("other", name="alpha"), "Ada")
    await store.create(form("hidden", enabled=False), "Ada")
    assert await book.refresh(store)
    assert not await book.refresh(store)
    assert [agent.id for agent in book.all()] == ["other", "weather"]
    assert book.version == await store.revision()
    untouched = book.get("other")

    await store.set_valves("weather", {"max_steps": 1}, "Ada")
    await store.set_enabled("hidden", True, "Ada")
    assert await book.refresh(store)
    assert [agent.id for agent in book.all()] == ["other", "hidden", "weather"]
    known = book.get("weather")
    assert known is not None
    assert known.valves == {"max_steps": 1}
    assert book.get("other") is untouched

    await store.delete("weather", "Ada")
    await store.set_enabled("hidden", False, "Ada")
    assert book.get("weather") is known
    assert await book.refresh(store)
    assert [agent.id for agent in book.all()] == ["other"]
    await store.create(form(description="born again"), "Ada")
    assert await book.refresh(store)
    again = AgentBook()
    await again.load(store)
    assert (again.all(), again.version) == (book.all(), book.version)


async def test_the_book_stays_as_it_was_when_the_database_is_away(
    store: AgentStore, database: Database
) -> None:
    await store.create(form(), "Ada")
    book = AgentBook()
    await book.load(store)
    await database.close()
    with pytest.raises(StoreError):
        await book.refresh(store)
    assert book.get("weather") is not None


async def test_the_book_of_ten_thousand(store: AgentStore, database: Database) -> None:
    await fill(database, 10_000)
    book = AgentBook()
    await book.load(store)
    assert len(book.all()) == 9_000
    assert len({agent.id for agent in book.all()}) == 9_000
    async with database.read() as connection:
        stored = (await connection.execute(select(func.count()).select_from(tables.agent))).scalar_one()
    assert stored == len(await store.all()) == 10_000
