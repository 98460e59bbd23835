"""One word, one who answers: what keeps an agent from a persona's name, and a persona from an agent's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from functools import partial
from typing import Any

import pytest

from agent_mode.agents.definitions import FileDefinition
from agent_mode.agents.directory import Directory
from agent_mode.agents.spec import AgentSpec
from agent_mode.chat.roster import Rosters
from agent_mode.errors import StoreError
from agent_mode.store.agents import AgentForm, AgentStore
from agent_mode.store.book import PersonaBook
from agent_mode.store.db import Database
from agent_mode.store.formats import Entry
from agent_mode.store.imports import apply_import, plan_import
from agent_mode.store.personas import PersonaStore
from agent_mode.valves import AgentValves
from tests.stored_personas import form as persona

pytest_plugins = ["tests.databases"]


def agent(agent_id: str, **changes: Any) -> AgentForm:
    return AgentForm.parse({"id": agent_id, "name": "A", "agent_type": "persona", **changes})


def spec(key: str) -> AgentSpec:
    """An agent of a file."""
    definition = FileDefinition(instructions=None)
    return AgentSpec(
        id=key,
        name=key,
        description="",
        agent_type="custom_python",
        definition=definition,
        valves=AgentValves.model_validate({}),
        instructions="",
        model_id=key,
    )


@pytest.fixture
def agents(database: Database) -> AgentStore:
    return AgentStore(database)


@pytest.fixture
def personas(database: Database) -> PersonaStore:
    return PersonaStore(database)


async def refused(write: Awaitable[object], code: str, field: str) -> None:
    with pytest.raises(StoreError) as caught:
        await write
    assert (caught.value.code, caught.value.status, caught.value.field) == (code, 409, field)
    assert caught.value.hint


async def test_an_agent_is_not_made_under_a_personas_key(agents: AgentStore, personas: PersonaStore) -> None:
    await personas.save(persona("helper"))

    await refused(agents.create(agent("helper"), "Ada"), "persona_exists", "id")

    assert await agents.get("helper") is None
    assert await agents.history("helper") == []


async def test_nor_enabled(agents: AgentStore, personas: PersonaStore) -> None:
    await personas.save(persona("helper"))
    await agents.create(agent("helper", enabled=False), "Ada")

    await refused(agents.set_enabled("helper", True, "Ada"), "persona_exists", "id")
    await refused(agents.update(agent("helper"), "Ada"), "persona_exists", "id")

    await personas.save(persona("helper", enabled=False))
    assert (await agents.set_enabled("helper", True, "Ada")).enabled


async def test_nor_brought_back(agents: AgentStore, personas: PersonaStore) -> None:
    await agents.create(agent("helper"), "Ada")
    await agents.delete("helper", "Ada")
    await personas.save(persona("helper"))

    await refused(agents.rollback("helper", 1, "Ada"), "persona_exists", "id")


async def test_a_persona_is_not_saved_under_an_agents_id(agents: AgentStore, personas: PersonaStore) -> None:
    await agents.create(agent("helper"), "Ada")
    await agents.create(agent("sleeper", enabled=False), "Ada")

    await refused(personas.save(persona("helper")), "agent_exists", "key")
    await refused(personas.save_all([persona("other"), persona("helper")]), "agent_exists", "key")

    assert await personas.all() == []
    assert (await personas.save(persona("sleeper"))).enabled
    assert not (await personas.save(persona("helper", enabled=False))).enabled
    await refused(personas.save(persona("helper")), "agent_exists", "key")


async def test_nor_under_that_of_a_file(personas: PersonaStore) -> None:
    personas.is_agent = {"researcher"}.__contains__

    await refused(personas.save(persona("researcher")), "agent_exists", "key")


async def test_nor_by_a_rollback(agents: AgentStore, personas: PersonaStore) -> None:
    await personas.save(persona("helper"))
    await personas.delete("helper")
    await agents.create(agent("helper"), "Ada")

    await refused(personas.rollback("helper", "1.0.0"), "agent_exists", "key")


async def test_a_catalogue_leaves_it_out(agents: AgentStore, personas: PersonaStore) -> None:
    await agents.create(agent("helper"), "Ada")
    forms = [persona("helper"), persona("coder")]

    expected = (await personas.preview_seeding(forms), await personas.seed(forms))

    assert [(report.added, report.protected) for report in expected] == [(("coder",), ("helper",))] * 2
    assert [p.key for p in await personas.all()] == ["coder"]


async def test_an_import_says_so_and_brings_the_others(agents: AgentStore, personas: PersonaStore) -> None:
    await agents.create(agent("helper"), "Ada")
    entries = [Entry(key, persona(key)) for key in ("helper", "coder")]

    plan = await plan_import(personas, entries)
    report = await apply_import(personas, plan, "Ada")

    assert (report.keys("refused"), report.keys("created")) == (("helper",), ("coder",))
    assert "agent helper" in (report.steps[0].reason or "")


@pytest.fixture
async def elsewhere(database: Database, database_url: str) -> AsyncIterator[Database]:
    """The same database, as another process has it open."""
    opened = await Database.open(database_url)
    yield opened
    await opened.close()


async def test_of_two_who_take_a_name_at_one_moment_one_gets_it(
    agents: AgentStore, elsewhere: Database
) -> None:
    personas = PersonaStore(elsewhere)
    for number in range(20):
        name = f"helper{number}"
        sleeper = await agents.create(agent(f"sleeper{number}", enabled=False), "Ada")
        pairs = [
            (agents.create(agent(name), "Ada"), personas.save(persona(name))),
            (agents.set_enabled(sleeper.id, True, "Ada"), personas.save_all([persona(sleeper.id)])),
        ]
        for pair in pairs:
            done = await asyncio.gather(*pair, return_exceptions=True)
            failed = [result for result in done if isinstance(result, BaseException)]
            assert [getattr(error, "code", error) for error in failed] in (
                ["persona_exists"],
                ["agent_exists"],
            )
    taken = {found.id for found in await agents.all() if found.enabled}
    assert not taken & {found.key for found in await personas.all()}
    assert len(taken) + len(await personas.all()) == 40


async def test_of_two_agents_one(agents: AgentStore, elsewhere: Database) -> None:
    others = AgentStore(elsewhere)
    for number in range(20):
        both = (store.create(agent(f"helper{number}"), "Ada") for store in (agents, others))
        done = await asyncio.gather(*both, return_exceptions=True)
        assert sorted(getattr(result, "code", "made") for result in done) == ["agent_exists", "made"]


async def test_what_was_there_before_may_still_be_edited(agents: AgentStore, personas: PersonaStore) -> None:
    await personas.save(persona("helper", enabled=False))
    await agents.create(agent("helper"), "Ada")
    async with personas._db.begin() as connection:  # as an older version left it
        await connection.exec_driver_sql("UPDATE persona SET enabled = true")

    assert (await agents.update(agent("helper", name="B"), "Ada")).name == "B"
    assert (await personas.save(persona("helper", name="C"))).name == "C"


async def test_whatever_the_data_hold_the_persona_goes_first(
    personas: PersonaStore,
) -> None:
    book = PersonaBook()
    directory = Directory(book)
    rosters = Rosters(book, directory)
    for key in ("helper", "weather"):
        directory.add(key, partial(spec, key))
    assert rosters.offered(None).agents == {"helper", "weather"}

    await personas.save(persona("helper", name="Persona"))
    await book.load(personas)

    roster = rosters.offered(None)
    assert (roster.agents, roster.by_key["helper"].name) == ({"weather"}, "Persona")
    assert directory.pipeline("helper") is None
    assert [spec.id for spec in directory.pipelines()] == ["weather"]
    found = directory.get("helper")
    assert found is not None
    assert found.model_id == "personas.helper"
    assert directory.has("helper")
