"""Imports into the store: the plan says what happens, and just that happens."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent_mode.store.db import Database
from agent_mode.store.extras import SIZE_LIMIT as EXTRAS_LIMIT
from agent_mode.store.formats import Entry, read, write
from agent_mode.store.imports import apply_import, plan_import
from agent_mode.store.personas import PersonaForm, PersonaStore

pytest_plugins = ["tests.databases"]


@pytest.fixture
def store(database: Database) -> PersonaStore:
    return PersonaStore(database)


def form(key: str, prompt: str = "Be.", **more: Any) -> PersonaForm:
    return PersonaForm.model_validate({"key": key, "name": key.title(), "prompt": prompt} | more)


def entries(*forms: PersonaForm) -> list[Entry]:
    return [Entry(form.key, form) for form in forms]


async def test_each_entry_is_told_what_happens(store: PersonaStore) -> None:
    await store.seed([form("shipped"), form("edited"), form("gone")])
    await store.save(form("edited", "Mine."), author="me")
    await store.save(form("custom"), author="me")
    await store.save(form("same"), author="me")
    await store.delete("gone")
    revision = await store.revision()
    found = [
        *entries(*(form(key, "New.") for key in ("fresh", "shipped", "edited", "custom"))),
        *entries(form("same"), form("gone"), form("fresh", "Again.")),
        Entry("broken", problem="prompt: is missing.", field="prompt"),
    ]
    plan = await plan_import(store, found)
    assert await store.revision() == revision
    assert [(step.name_in_file, step.key, step.outcome) for step in plan.steps] == [
        ("fresh", "fresh", "created"),
        ("shipped", "shipped", "updated"),
        ("edited", "edited", "refused"),
        ("custom", "custom", "refused"),
        ("same", "same", "unchanged"),
        ("gone", "gone", "updated"),
        ("fresh", "fresh", "refused"),
        ("broken", None, "refused"),
    ]
    reasons = [step.reason or "" for step in plan.steps]
    assert "You have edited" in reasons[2]
    assert "of your own" in reasons[3]
    assert "Another entry" in reasons[6]
    assert (reasons[7], plan.steps[7].field) == ("prompt: is missing.", "prompt")
    assert (plan.keys("created"), plan.keys("updated"), plan.count("refused")) == (
        ("fresh",),
        ("shipped", "gone"),
        4,
    )

    report = await apply_import(store, plan, "me", message="from personas.json")
    assert report.steps == plan.steps
    prompts = {persona.key: persona.prompt for persona in await store.all()}
    assert prompts == {
        "fresh": "New.",
        "shipped": "New.",
        "edited": "Mine.",
        "custom": "Be.",
        "same": "Be.",
        "gone": "Be.",
    }
    assert await store.revision() == revision + 1
    [version, *_] = await store.history("fresh")
    assert (version.author, version.message) == ("me", "from personas.json")


async def test_overwriting_replaces_the_users_own(store: PersonaStore) -> None:
    await store.save(form("custom", extras={"markdown": {"head": ""}}), author="me")
    new = form("custom", "New.", extras={"agent-hotswap": {"version": "2"}})
    plan = await plan_import(store, entries(new), overwrite=True)
    assert plan.keys("updated") == ("custom",)
    await apply_import(store, plan, "me")
    persona = await store.get("custom")
    assert persona is not None
    assert persona.prompt == "New."
    assert persona.extras == {"markdown": {"head": ""}, "agent-hotswap": {"version": "2"}}
    again = await plan_import(store, entries(new), overwrite=True)
    assert again.keys("unchanged") == ("custom",)
    revision = await store.revision()
    await apply_import(store, again, "me")
    assert await store.revision() == revision


async def test_what_changed_since_the_plan_is_left_alone(store: PersonaStore) -> None:
    await store.seed([form("shipped"), form("kept")])
    plan = await plan_import(store, entries(form("shipped", "New."), form("fresh"), form("kept", "New.")))
    await store.save(form("shipped", "Mine."), author="me")
    await store.save(form("fresh", "Mine."), author="me")
    report = await apply_import(store, plan, "me")
    assert [step.outcome for step in report.steps] == ["refused", "refused", "updated"]
    assert "meanwhile" in (report.steps[0].reason or "")
    assert {persona.prompt for persona in await store.all()} == {"Mine.", "New."}


async def test_extras_that_grow_too_large_together(store: PersonaStore) -> None:
    half = "x" * (EXTRAS_LIMIT * 2 // 3)
    await store.save(form("custom", extras={"a": half}), author="me")
    plan = await plan_import(store, entries(form("custom", extras={"b": half})), overwrite=True)
    assert plan.steps[0].outcome == "refused"
    assert "extras" in (plan.steps[0].reason or "")


async def test_a_card_comes_out_of_the_store_as_it_went_in(store: PersonaStore) -> None:
    card = {
        "spec": "chara_card_v3",
        "spec_version": "3.0",
        "data": {
            "name": "🦊 Fox",
            "description": "{{char}} is sly.",
            "personality": "",
            "extensions": {"world": {"depth": 4.5, "x": None}},
            "character_book": {"entries": [{"keys": ["a"], "content": "b", "extensions": {}}]},
        },
        "outside": [1, {"b": "ü"}],
    }
    data = json.dumps(card).encode()
    await apply_import(store, await plan_import(store, read(data, "fox.json")), "me")
    persona = await store.get("fox")
    assert persona is not None
    assert (persona.emoji, persona.name) == ("🦊", "Fox")
    assert json.loads(write("character-card", [persona])) == card
    again = await plan_import(store, read(data, "fox.json"))
    assert again.keys("unchanged") == ("fox",)


async def test_many(store: PersonaStore) -> None:
    document = {f"expert{number}": {"name": f"🧪 E{number}", "prompt": "Be."} for number in range(110)}
    plan = await plan_import(store, read(json.dumps(document).encode(), "personas.json"))
    report = await apply_import(store, plan, "me")
    assert report.count("created") == len(await store.all()) == 110
