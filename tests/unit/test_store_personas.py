"""Personas: what a form accepts, how they are kept, and whose text survives seeding."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from agent_mode.observe.hooks import subscribe
from agent_mode.store.book import PersonaBook
from agent_mode.store.exchange import SIZE_LIMIT, read_catalogue
from agent_mode.store.forms import problems
from agent_mode.store.personas import PersonaForm, PersonaStore, SeedReport, content_hash
from tests.stored_personas import form

pytest_plugins = ["tests.databases"]

SEED = """
import asyncio, sys
from agent_mode.store.db import Database
from agent_mode.store.personas import PersonaForm, PersonaStore
async def main():
    database = await Database.open(sys.argv[1])
    forms = [PersonaForm(key=f"p{n}x", name=f"P {n}", prompt="Be.") for n in range(30)]
    report = await PersonaStore(database).seed(forms)
    await database.close()
    print(len(report.added), len(report.unchanged))
asyncio.run(main())
"""


# Forms


@pytest.mark.parametrize("key", ["ab", "a1", "c-3_po", "a" * 32])
def test_good_keys(key: str) -> None:
    assert form(key).key == key


@pytest.mark.parametrize("key", ["a", "1a", "Coder", "a b", "a" * 33, "ä2", "coder\n!", "", "a/b", 5, None])
def test_bad_keys(key: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        form(key)
    assert problems(caught.value)[0].field == "key"


@pytest.mark.parametrize(
    "key", ["agent", "reset", "console", "tool_runner", "auto", "help", "persona1", "persona9"]
)
def test_reserved_keys(key: str) -> None:
    with pytest.raises(ValidationError, match="is a command already"):
        form(key)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "   "),
        ("name", "n" * 81),
        ("name", "two\nlines"),
        ("name", 7),
        ("emoji", "x" * 17),
        ("category", ""),
        ("prompt", " "),
        ("prompt", "p" * 100_001),
        ("prompt", "a\0b"),
        ("prompt", "a\ud800b"),
        ("name", "a\ud800b"),
        ("description", "d" * 1_001),
        ("capabilities", [""]),
        ("capabilities", ["c"] * 51),
        ("capabilities", "python"),
        ("tags", ["a\tb"]),
        ("model", ""),
        ("colour", "red"),
    ],
)
def test_what_a_form_refuses(field: str, value: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        form(**{field: value})
    [found] = problems(caught.value)
    assert found.path[0] == field
    assert found.message
    assert found.hint


def test_a_form_is_tidied() -> None:
    tidy = form(name="  Coder ", prompt="\r\none\r\ntwo\rthree \n", model=" gpt ")
    assert (tidy.name, tidy.prompt, tidy.model) == ("Coder", "one\ntwo\nthree", "gpt")
    assert PersonaForm(key="aa", name="A", prompt="Be.").category == "custom"


def test_the_hash_is_of_the_content_alone() -> None:
    assert content_hash(form()) == content_hash(form(enabled=False))
    assert content_hash(form()) == content_hash(form(prompt="You write code.\r\n"))
    others = [
        {"name": "X"},
        {"emoji": ""},
        {"category": "x"},
        {"prompt": "x"},
        {"description": "x"},
        {"capabilities": ["sql", "python"]},
        {"tags": []},
        {"model": "gpt"},
    ]
    assert len({content_hash(form(**change)) for change in [{}, *others]}) == len(others) + 1


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_is_either_refused_or_storable(text: str) -> None:
    try:
        accepted = form(name=text, prompt=text, tags=[text])
    except ValidationError:
        return
    (accepted.name + accepted.prompt).encode()
    assert "\0" not in accepted.prompt
    assert form(name=accepted.name, prompt=accepted.prompt, tags=accepted.tags) == accepted


# The store


async def test_save_get_and_order(store: PersonaStore) -> None:
    for key, name, category in [("zed", "zed", "b"), ("anna", "Anna", "b"), ("xeno", "X", "a")]:
        await store.save(form(key, name=name, category=category))
    assert [persona.key for persona in await store.all()] == ["xeno", "anna", "zed"]
    saved = await store.save(form())
    assert saved == await store.get("coder")
    assert await store.get("nobody") is None
    assert saved.display_name == "💻 Coder"
    assert (saved.origin, saved.edited, saved.shipped_hash, saved.enabled) == ("custom", False, None, True)
    assert (saved.capabilities, saved.tags) == (("python", "sql"), ("dev",))
    assert saved.content_hash == content_hash(form())
    assert saved.created_at.tzinfo is UTC
    assert datetime.now(UTC) - saved.created_at < timedelta(minutes=1)
    assert (await store.save(form("plain", emoji=""))).display_name == "Coder"


async def test_saving_the_same_writes_nothing(store: PersonaStore) -> None:
    first = await store.save(form())
    revision = await store.revision()
    assert await store.save(form()) == first
    assert await store.revision() == revision
    changed = await store.save(form(prompt="You write better code."))
    assert changed.prompt == "You write better code."
    assert changed.created_at == first.created_at
    assert changed.updated_at > first.updated_at
    assert (await store.save(form(prompt="You write better code.", enabled=False))).enabled is False
    assert await store.revision() == revision + 2


async def test_delete(store: PersonaStore) -> None:
    await store.seed([form("shipped")])
    await store.save(form("custom"))
    revision = await store.revision()
    for _ in range(2):
        for key in ("shipped", "custom", "nobody"):
            await store.delete(key)
    assert await store.get("custom") is None
    shipped = await store.get("shipped")
    assert shipped is not None
    assert not shipped.enabled
    assert await store.revision() == revision + 2
    assert (await store.seed([form("shipped")])).unchanged == ("shipped",)
    assert (await store.seed([form("shipped", prompt="New.")])).updated == ("shipped",)
    shipped = await store.get("shipped")
    assert shipped is not None
    assert (shipped.enabled, shipped.prompt) == (False, "New.")
    assert (await store.save(form("shipped"))).enabled


async def test_seeding_protects_what_the_user_did(store: PersonaStore) -> None:
    await store.save(form("mine"))
    first = [form(key) for key in ("mine", "left_alone", "edited", "same")]
    report = await store.seed(first)
    assert report == SeedReport(added=("left_alone", "edited", "same"), protected=("mine",))
    edited = await store.save(form("edited", prompt="As I like it."))
    assert edited.edited
    assert edited.origin == "shipped"

    second = [form(key, prompt="Next edition.") for key in ("mine", "left_alone", "edited")] + [
        first[3],
        form("new"),
    ]
    report = await store.seed(second)
    assert report == SeedReport(
        added=("new",), updated=("left_alone",), protected=("mine", "edited"), unchanged=("same",)
    )
    prompts = {persona.key: persona.prompt for persona in await store.all()}
    assert prompts["left_alone"] == "Next edition."
    assert (prompts["mine"], prompts["edited"]) == ("You write code.", "As I like it.")


async def test_seeding_again_writes_nothing(store: PersonaStore) -> None:
    forms = [form("one"), form("two"), form("two", name="Two")]
    assert (await store.seed(forms)).added == ("one", "two")
    before = (await store.revision(), await store.all())
    assert await store.seed(forms) == SeedReport(unchanged=("one", "two"))
    assert (await store.revision(), await store.all()) == before
    assert await store.seed([]) == SeedReport()


async def test_an_edit_ends_when_both_sides_agree(store: PersonaStore) -> None:
    await store.seed([form()])
    await store.save(form(prompt="Better."))
    assert (await store.seed([form(prompt="Better.")])).updated == ("coder",)
    caught_up = await store.get("coder")
    assert caught_up is not None
    assert not caught_up.edited
    # The other way round: the user takes the edit back, and the next edition comes in again.
    await store.save(form(prompt="Mine."))
    assert (await store.seed([form(prompt="Third.")])).protected == ("coder",)
    await store.save(form(prompt="Better."))
    assert (await store.seed([form(prompt="Third.")])).updated == ("coder",)


async def test_many_writers_at_once(store: PersonaStore) -> None:
    forms = [form(f"p{number}x") for number in range(8)]
    await asyncio.gather(*(store.save(each) for each in forms), *(store.save(forms[0]) for _ in range(4)))
    assert len(await store.all()) == 8
    assert await store.revision() == 8


async def test_two_processes_may_seed_at_once(database_url: str) -> None:
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-W", "error", "-c", SEED, database_url, stdout=asyncio.subprocess.PIPE
        )
        for _ in range(2)
    ]
    reports = sorted([(await process.communicate())[0].decode().split() for process in processes])
    assert reports == [["0", "30"], ["30", "0"]]


# The book


async def test_the_book_shows_enabled_personas_and_follows_changes(store: PersonaStore) -> None:
    book = PersonaBook()
    assert (book.get("coder"), book.all(), book.keys, book.version) == (None, (), frozenset(), 0)
    assert not await book.refresh(store)
    await store.seed([form(), form("writer", category="a")])
    assert await book.refresh(store)
    assert not await book.refresh(store)
    assert [persona.key for persona in book.all()] == ["writer", "coder"]
    await store.delete("coder")
    assert book.get("coder") is not None
    assert await book.refresh(store)
    assert (book.get("coder"), book.keys) == (None, {"writer"})
    assert book.version == await store.revision()
    again = PersonaBook()
    await again.load(store)
    assert again.all() == book.all()


async def test_other_plug_ins_are_told_what_changed_in_the_book(store: PersonaStore) -> None:
    """Whichever process changed it: the book only looks at the store."""
    book, told = PersonaBook(), list[tuple[str, str]]()
    await store.seed([form(), form("writer")])
    await book.load(store)
    end = subscribe("persona.changed", lambda event: told.append((event.persona, event.reason)))
    try:
        assert not await book.refresh(store)
        await store.save(form("poet"))
        await store.save(form(prompt="You write better code."))
        await store.delete("writer")
        await book.refresh(store)
    finally:
        end()

    assert sorted(told) == [("coder", "updated"), ("poet", "created"), ("writer", "deleted")]


# Files


def write(folder: Path, key: str, text: str | None = None) -> None:
    (folder / f"{key}.json").write_text(text or form(key).model_dump_json(), encoding="utf-8")


async def test_a_broken_file_does_not_stop_the_others(tmp_path: Path) -> None:
    write(tmp_path, "zoe")
    write(tmp_path, "adam")
    write(tmp_path, "broken", "{'no': json}")
    write(tmp_path, "list", "[]")
    write(tmp_path, "deep", "[" * 100_000)
    write(tmp_path, "field", form("field").model_dump_json().replace('"name":"Coder"', '"name":""'))
    write(tmp_path, "other", form("another").model_dump_json())
    write(tmp_path, "huge", " " * (SIZE_LIMIT + 1))
    write(tmp_path, "surrogate", form("surrogate").model_dump_json().replace("You write", r"\ud800"))
    write(tmp_path, "._adam", "what macOS leaves behind")
    (tmp_path / "latin.json").write_bytes(
        form("latin", emoji="", name="Cödér").model_dump_json().encode("latin-1")
    )
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "README.md").write_text("no persona")

    forms, errors = await read_catalogue(tmp_path)

    assert [each.key for each in forms] == ["adam", "zoe"]
    found = {error.message.split(":")[0]: error for error in errors}
    names = ("broken", "deep", "field", "folder", "huge", "latin", "list", "other", "surrogate")
    assert sorted(found) == [f"{name}.json" for name in names]
    assert found["field.json"].field == "name"
    assert "must not be empty" in found["field.json"].message
    assert (found["other.json"].field, found["huge.json"].field) == ("key", None)
    assert "another" in found["other.json"].message
    assert "1024 KiB" in found["huge.json"].message


async def test_files_of_any_editor(tmp_path: Path) -> None:
    text = form("bom", name="Möwe").model_dump_json()
    (tmp_path / "bom.json").write_bytes(b"\xef\xbb\xbf" + text.encode())
    escaped = json.dumps(form("plain", name="Möwe").model_dump(mode="json"))
    (tmp_path / "plain.json").write_bytes(escaped.encode("ascii"))
    forms, errors = await read_catalogue(tmp_path)
    assert errors == []
    assert [each.name for each in forms] == ["Möwe", "Möwe"]


async def test_no_folder_is_one_error(tmp_path: Path) -> None:
    forms, errors = await read_catalogue(tmp_path / "nowhere")
    assert (forms, len(errors)) == ([], 1)
    assert "nowhere" in errors[0].message
