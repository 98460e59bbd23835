"""Backups: made in time, whole or not at all, never the last good one thrown away, restored as a whole."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import resource
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_mode.errors import StoreError
from agent_mode.store import backup_files
from agent_mode.store.agents import AgentForm, AgentStore
from agent_mode.store.backups import Backup, BackupPolicy, Backups, RestorePlan
from agent_mode.store.db import Database
from agent_mode.store.forms import json_hash
from agent_mode.store.personas import Keep, PersonaForm, PersonaStore
from agent_mode.store.restoring import entry_of
from agent_mode.store.retention import surplus

pytest_plugins = ["tests.databases"]

T0 = datetime(2026, 3, 4, 5, 6, 7, 891, UTC)


class Clock:
    """Moves only when told to."""

    def __init__(self) -> None:
        self.now = T0

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **span: float) -> None:
        self.now += timedelta(**span)


def form(key: str = "coder", **changes: Any) -> PersonaForm:
    values: dict[str, Any] = {"key": key, "name": "Coder", "prompt": "You write code.", "tags": ["ä", "🎭"]}
    return PersonaForm.model_validate(values | changes)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data" / "backups"


@pytest.fixture
def backups(folder: Path, store: PersonaStore, clock: Clock) -> Backups:
    backups = Backups(folder, store, clock=clock)
    store.before_destructive = backups.before_destructive
    return backups


async def made(backups: Backups, reason: str = "by hand") -> Backup:
    backup = await backups.make(reason, force=True)
    assert backup is not None
    return backup


def names(folder: Path) -> list[str]:
    """All that lies in the folder."""
    return sorted(path.name for path in folder.iterdir())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def state(store: PersonaStore) -> list[dict[str, Any]]:
    return [entry_of(persona) for persona in await store.all()]


# Making


async def test_a_backup_holds_everything(backups: Backups, store: PersonaStore, folder: Path) -> None:
    await store.seed([form("shipped")])
    await store.save(form(extras={"card": {"x": [1, None]}}, model="gpt", enabled=False))
    backup = await made(backups, "by hand")
    assert backup == Backup(
        f"personas-20260304T050607.000891Z-{backup.sha256[:8]}.json", T0, "by hand", 2, backup.sha256
    )
    document = json.loads((folder / backup.name).read_bytes())
    body = document.pop("body")
    assert document == {
        "format": "agent-mode-backup",
        "version": 1,
        "created_at": T0.isoformat(),
        "reason": "by hand",
        "sha256": json_hash(body),
    }
    assert body["personas"] == sorted(await state(store), key=lambda entry: entry["key"])
    assert await backups.list() == [backup]
    assert await backups.verify(backup.name) == backup
    assert (mode(folder / backup.name), mode(folder)) == (0o600, 0o700)
    assert names(folder) == [backup.name]


async def test_only_changes_make_a_backup(backups: Backups, store: PersonaStore, clock: Clock) -> None:
    assert await backups.list() == []
    await store.save(form())
    first = await backups.make("one")
    assert first is not None
    clock.forward(seconds=1)
    assert await backups.make("two") is None
    await store.save(form(prompt="Two."))
    await store.save(form())
    assert await backups.make("the same as in the newest") is None
    await store.save(form(enabled=False))
    second = await backups.make("three")
    assert second is not None
    clock.forward(seconds=1)
    third = await made(backups, "four")
    assert third.sha256 == second.sha256 != first.sha256
    assert await backups.list() == [third, second, first]


async def test_a_damaged_backup_does_not_count_as_the_newest(
    backups: Backups, store: PersonaStore, folder: Path, clock: Clock
) -> None:
    await store.save(form())
    first = await made(backups)
    (folder / first.name).write_bytes(b"")
    clock.forward(seconds=1)
    assert await backups.make("again") is not None


async def test_many_at_once(backups: Backups, store: PersonaStore, clock: Clock) -> None:
    await store.save(form())
    results = await asyncio.gather(*(backups.make(f"{n}") for n in range(5)))
    assert sum(backup is not None for backup in results) == 1


async def test_destructive_changes_are_preceded_by_a_backup(
    backups: Backups, store: PersonaStore, clock: Clock
) -> None:
    await store.save(form(prompt="One."))
    await store.save(form(prompt="Two."))
    for change in (
        store.rollback("coder", "1.0.0"),
        store.delete("coder"),
        store.save_all([form("new")]),
    ):
        clock.forward(seconds=1)
        await change
    found = await backups.list()
    assert [backup.reason for backup in found] == [
        "before importing 1 persona",
        "before deleting coder",
        "before rolling coder back to 1.0.0",
    ]
    await backups.restore(found[1].name)
    assert [persona.prompt for persona in await store.all()] == ["One."]


async def test_automatic_backups_can_be_off(backups: Backups, store: PersonaStore) -> None:
    backups.policy = BackupPolicy(automatic=False)
    await store.save(form())
    await store.delete("coder")
    assert await backups.maintain() is None
    assert await backups.list() == []
    assert await made(backups)
    with pytest.raises(ValueError, match="at least 1"):
        BackupPolicy(max_files=0)


# Restoring


async def test_a_restore_brings_everything_back(backups: Backups, store: PersonaStore, clock: Clock) -> None:
    await store.seed([form("shipped"), form("same")])
    await store.save(form("changed", extras={"a": 1}))
    await store.save(form("deleted", enabled=False))
    backup = await made(backups)
    before = await state(store)
    created_at = {persona.key: persona.created_at for persona in await store.all()}

    await store.save(form("changed", prompt="New."))
    await store.save(form("shipped", prompt="New."))
    await store.delete("deleted")
    await store.save(form("newer"))
    await store.seed([form("newer_shipped")])
    clock.forward(seconds=1)
    expected = RestorePlan(
        created=("deleted",),
        updated=("changed", "shipped"),
        unchanged=("same",),
        removed=("newer",),
        kept=("newer_shipped",),
    )
    assert await backups.preview(backup.name) == expected
    present, revision = await state(store), await store.revision()
    assert await backups.restore(backup.name, author="Ada") == expected

    assert [entry for entry in await state(store) if entry["key"] != "newer_shipped"] == before
    assert await store.revision() == revision + 1
    assert created_at["changed"] == {p.key: p.created_at for p in await store.all()}["changed"]
    newest = (await store.history("changed"))[0]
    assert (newest.label, newest.author) == ("1.0.2", "Ada")
    assert newest.message == "restored from the backup of 2026-03-04 05:06:07 UTC"
    assert [version.label for version in await store.history("newer")] == ["1.0.0"]

    assert not (await backups.preview(backup.name)).changes
    assert await backups.restore(backup.name) == RestorePlan(
        unchanged=("changed", "deleted", "same", "shipped"), kept=("newer_shipped",)
    )
    assert await store.revision() == revision + 1

    # And back again: the state before the restore is a backup, too.
    safety = next(b for b in await backups.list() if b.reason == f"before restoring {backup.name}")
    await backups.restore(safety.name)
    assert await state(store) == present


async def test_whose_name_an_agent_has_taken_comes_back_disabled(
    backups: Backups, store: PersonaStore, database: Database
) -> None:
    agents = AgentStore(database)
    for key in ("helper", "sleeper", "known", "weather"):
        await store.save(form(key))
    await store.save(form("off", enabled=False))
    backup, before = await made(backups), await state(store)
    await store.delete("helper")
    await store.save(form("sleeper", prompt="New.", enabled=False))
    await store.delete("weather")
    for agent_id in ("helper", "sleeper", "off"):
        await agents.create(AgentForm.parse({"id": agent_id, "name": "A", "agent_type": "persona"}), "Ada")
    store.is_agent = {"weather"}.__contains__  # one of a file
    expected = RestorePlan(
        created=("helper", "weather"),
        updated=("sleeper",),
        unchanged=("known", "off"),
        disabled=("helper", "sleeper", "weather"),
    )

    assert await backups.preview(backup.name) == expected
    assert await backups.restore(backup.name) == expected

    # All but that is as it was, and stays so.
    here = [entry | {"enabled": entry["key"] != "off"} for entry in await state(store)]
    assert here == [entry | {"enabled": entry["key"] != "off"} for entry in before]
    enabled = {p.key for p in await store.all() if p.enabled}
    assert enabled == {"known"}
    again = await backups.restore(backup.name)
    assert (again.changes, again.disabled) == (False, expected.disabled)

    # Once the agents are out of the way, the same backup brings all of it back.
    for agent_id in ("helper", "sleeper"):
        await agents.set_enabled(agent_id, False, "Ada")
    store.is_agent = lambda _: False
    assert (await backups.restore(backup.name)).disabled == ()
    assert await state(store) == before


async def test_a_restored_persona_follows_the_catalogue_as_before(
    backups: Backups, store: PersonaStore, clock: Clock
) -> None:
    await store.seed([form("edited"), form("untouched")])
    await store.save(form("edited", prompt="Mine."))
    backup = await made(backups)
    clock.forward(seconds=1)
    second = [form("edited", prompt="Second."), form("untouched", prompt="Second.")]
    await store.save(form("edited"))
    await store.seed(second)
    await backups.restore(backup.name)
    report = await store.seed(second)
    assert (report.protected, report.updated) == (("edited",), ("untouched",))


async def test_a_restore_is_all_or_nothing(
    backups: Backups, store: PersonaStore, folder: Path, clock: Clock
) -> None:
    for key in ("aa", "bb", "cc"):
        await store.save(form(key))
    backup = await made(backups)
    document = json.loads((folder / backup.name).read_bytes())
    document["body"]["personas"][1]["name"] = ""
    document["sha256"] = json_hash(document["body"])
    (folder / backup.name).write_text(json.dumps(document))
    clock.forward(seconds=1)
    await store.save_all([form(key, prompt="New.") for key in ("aa", "bb", "cc")])
    before = await store.all(), await store.revision(), await store.history("aa")
    with pytest.raises(StoreError, match="persona bb is not valid: name:") as caught:
        await backups.restore(backup.name)
    assert caught.value.code == "backup_refused"
    assert (await store.all(), await store.revision(), await store.history("aa")) == before


async def test_the_backup_in_use_is_not_cleaned_up(
    backups: Backups, store: PersonaStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.save(form(prompt="One."))
    backup = await made(backups)
    clock.forward(seconds=1)
    await store.save(form(prompt="Two."))
    backups.policy = BackupPolicy(max_files=1)

    async def fail(*_: object, **__: object) -> None:
        raise StoreError("The database is away.", code="database_unreachable", retryable=True)

    with monkeypatch.context() as patch:
        patch.setattr(store, "restore", fail)
        with pytest.raises(StoreError, match="away"):
            await backups.restore(backup.name)
    await backups.restore(backup.name)
    assert (await store.all())[0].prompt == "One."


async def test_a_backup_restores_into_another_database(
    backups: Backups, store: PersonaStore, tmp_path: Path
) -> None:
    await store.seed([form("shipped")])
    await store.save(form(extras={"a": 1.5}))
    backup = await made(backups)
    before = await state(store)
    database = await Database.open(f"sqlite+aiosqlite:///{tmp_path / 'other.db'}")
    other = PersonaStore(database)
    assert (await Backups(backups.folder, other).restore(backup.name)).created == ("coder", "shipped")
    assert await state(other) == before
    await database.close()


KEYS = st.sampled_from(["aa", "bb", "cc"])
STEPS = st.lists(
    st.tuples(st.sampled_from(["save", "delete", "seed", "off"]), KEYS, st.sampled_from("xyz")), max_size=8
)


@settings(max_examples=25)
@given(STEPS, STEPS)
def test_whatever_happened_a_restore_undoes_it(before: Any, after: Any) -> None:
    async def take(steps: Any, store: PersonaStore) -> None:
        for step, key, prompt in steps:
            if step == "save":
                await store.save(form(key, prompt=prompt))
            elif step == "delete":
                await store.delete(key)
            elif step == "seed":
                await store.seed([form(key, prompt=prompt)])
            else:
                store.keep = Keep(versioning=not store.keep.versioning)

    async def scenario(folder: Path) -> None:
        database = await Database.open(f"sqlite+aiosqlite:///{folder / 'a.db'}")
        store = PersonaStore(database)
        backups = Backups(folder / "backups", store)
        await take(before, store)
        backup, then = await made(backups), await state(store)
        await take(after, store)
        expected = await backups.preview(backup.name)
        assert await backups.restore(backup.name) == expected
        assert [entry for entry in await state(store) if entry["key"] not in expected.kept] == then
        await database.close()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(scenario(Path(folder)))


# Damage


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flip(data: bytes) -> bytes:
    return data.replace(b"You write", b"You wrote")


def edited(**changes: Any) -> Callable[[bytes], bytes]:
    return lambda data: json.dumps(json.loads(data) | changes).encode()


def body(*personas: Any) -> Callable[[bytes], bytes]:
    """A backup with a right checksum and a wrong body."""
    inner = {"personas": list(personas)}
    return edited(body=inner, sha256=json_hash(inner))


ENTRY = {"key": "aa", "enabled": True, "origin": "custom", "shipped_hash": None}


@pytest.mark.parametrize(
    ("harm", "code", "says"),
    [
        (cut, "backup_damaged", "cut off"),
        (flip, "backup_damaged", "checksum"),
        (lambda data: b"", "backup_damaged", "empty"),
        (lambda data: data + b"}", "backup_damaged", "cut off"),
        (lambda data: b"\xff" + data, "backup_damaged", "cut off"),
        (lambda data: b"[" * 100_000, "backup_damaged", "cut off"),
        (lambda data: b"\0" * len(data), "backup_damaged", "cut off"),
        (lambda data: b"[]", "backup_damaged", "cut off"),
        (edited(format="other"), "backup_damaged", "no backup"),
        (edited(version="1"), "backup_damaged", "no backup"),
        (edited(version=2), "backup_newer", "newer version"),
        (edited(body=None), "backup_damaged", "no backup"),
        (edited(reason=5), "backup_damaged", "checksum"),
        (body(ENTRY, ENTRY), "backup_damaged", "checksum"),
        (body(ENTRY | {"key": 5}), "backup_damaged", "checksum"),
        (body(ENTRY | {"origin": "elsewhere"}), "backup_damaged", "checksum"),
        (body({"key": "aa"}), "backup_damaged", "no backup"),
        (body("aa"), "backup_damaged", "no backup"),
        (body(None), "backup_damaged", "no backup"),
    ],
)
async def test_a_damaged_backup_is_told(
    backups: Backups, store: PersonaStore, folder: Path, harm: Callable[[bytes], bytes], code: str, says: str
) -> None:
    await store.save(form())
    backup = await made(backups)
    path = folder / backup.name
    path.write_bytes(harm(path.read_bytes()))
    await store.save(form(prompt="New."))
    before = await store.all()
    for call in (backups.verify, backups.preview, backups.restore):
        with pytest.raises(StoreError, match=says) as caught:
            await call(backup.name)
        assert (caught.value.code, caught.value.status) == (code, 409)
        assert "Nothing was changed" in caught.value.hint
    [listed] = await backups.list()
    assert (listed.ok, f"backup_{listed.problem}") == (False, code)
    assert listed.created_at == T0
    assert await store.all() == before


async def test_a_backup_that_cannot_be_read(backups: Backups, folder: Path) -> None:
    name = "personas-20260304T050607.000891Z-00000000.json"
    (folder / name).mkdir(parents=True)
    with pytest.raises(StoreError, match="is unreadable: Is a directory") as caught:
        await backups.verify(name)
    assert caught.value.code == "backup_unreadable"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "personas-20260304T050607.000891Z-00000000.json",
        "../secret.json",
        "/etc/passwd",
        "personas-20269999T050607.000891Z-00000000.json",
        "personas-20260304T050607.000891Z-00000000.json\n",
        "personas-\0.json",
    ],
)
async def test_an_unknown_name(backups: Backups, folder: Path, name: str) -> None:
    (folder / "deeper").mkdir(parents=True)
    (folder.parent / "secret.json").write_text("{}")
    (folder / "notes.json").write_text("{}")
    with pytest.raises(StoreError, match="no such backup") as caught:
        await backups.restore(name)
    assert (caught.value.code, caught.value.status) == ("backup_unknown", 404)
    assert await backups.list() == []


async def test_a_folder_that_is_none(backups: Backups, store: PersonaStore, folder: Path) -> None:
    backups.folder = folder.with_name("file") / "backups"
    (folder / "file").parent.mkdir(parents=True)
    (folder.parent / "file").write_text("a file")
    with pytest.raises(StoreError, match="cannot be listed: Not a directory"):
        await backups.list()
    with pytest.raises(StoreError, match="cannot be written") as caught:
        await backups.make("by hand", force=True)
    assert caught.value.code == "backup_not_written"


# A full disk, a crash


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """The system itself refuses to write on, in the middle of a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def full_disk(_: int) -> None:
    """In place of `os.fsync`, where file systems that allocate late report it."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


async def test_a_disk_that_fills_up_while_writing(
    backups: Backups, store: PersonaStore, folder: Path, clock: Clock
) -> None:
    await store.save(form())
    good = await made(backups)
    await store.save(form("long", prompt="x" * 90_000))
    clock.forward(seconds=1)
    with (
        no_file_larger_than(50_000),
        pytest.raises(StoreError, match=r"cannot be written to .*backups") as caught,
    ):
        await backups.make("too large")
    assert caught.value.code == "backup_not_written"
    assert names(folder) == [good.name]
    assert await backups.list() == [good]


async def test_nothing_is_destroyed_while_no_backup_can_be_made(
    backups: Backups, store: PersonaStore, folder: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.save(form())
    good = await made(backups)
    await store.save(form(prompt="Two."))
    clock.forward(seconds=1)
    before = await store.all(), await store.history("coder")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_disk)
        for call in (
            store.delete("coder"),
            store.rollback("coder", "1.0.0"),
            backups.restore(good.name),
            backups.maintain(),
        ):
            with pytest.raises(StoreError, match="No space left on device") as caught:
                await call
            assert (caught.value.code, caught.value.status) == ("backup_not_written", 507)
            assert "Free some space" in caught.value.hint
    assert (await store.all(), await store.history("coder")) == before
    assert names(folder) == [good.name]
    await store.delete("coder")
    assert len(await backups.list()) == 2


async def test_what_a_crash_left_behind(backups: Backups, store: PersonaStore, folder: Path) -> None:
    await store.save(form())
    backup = await made(backups)
    half = (folder / backup.name).read_bytes()[:100]
    old, young = (folder / f".{backup.name}.{n}.tmp" for n in ("00000000", "11111111"))
    for path in (old, young):
        path.write_bytes(half)
    other = folder / ".personas-notes.txt"
    other.write_text("not ours")
    ago = time.time() - backup_files.LEFTOVER_SECONDS - 1
    for path in (old, other):
        os.utime(path, (ago, ago))
    assert await backups.list() == [backup]
    await backups.maintain()
    # A young one may be that of another process, at work right now.
    assert names(folder) == sorted([young.name, other.name, backup.name])


# From time to time


async def test_maintenance(backups: Backups, store: PersonaStore, clock: Clock) -> None:
    await store.save(form())
    first = await backups.maintain()
    assert first is not None
    assert await backups.maintain() is None
    clock.forward(hours=1)
    await store.save(form(prompt="Two."))
    second = await backups.maintain()
    assert second is not None
    assert (second.reason, await backups.maintain()) == ("personas changed", None)
    clock.forward(days=6, hours=23)
    assert await backups.maintain() is None
    clock.forward(hours=1)
    third = await backups.maintain()
    assert third is not None
    assert (third.reason, third.sha256) == ("weekly", second.sha256)
    assert await backups.maintain() is None
    assert len(await backups.list()) == 3
    # Another process takes over where this one ended.
    clock.forward(days=3)
    again = Backups(backups.folder, store, clock=clock)
    assert await again.maintain() is None
    clock.forward(days=4)
    assert await again.maintain() is not None


async def test_maintenance_is_cheap_when_nothing_is_due(
    backups: Backups, store: PersonaStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.save(form())
    await backups.maintain()
    monkeypatch.setattr(backup_files, "read", None)
    assert await backups.maintain() is None


async def test_maintenance_that_fails_waits_before_it_tries_again(
    backups: Backups, store: PersonaStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.save(form())
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_disk)
        for prompt in ("One.", "Two."):
            await store.save(form(prompt=prompt))
            with pytest.raises(StoreError, match="No space left"):
                await backups.maintain()
            assert await backups.maintain() is None
    clock.forward(minutes=9)
    assert await backups.maintain() is None
    clock.forward(minutes=1)
    assert await backups.maintain() is not None


async def test_a_backup_from_the_future_does_not_stop_the_weekly_one(
    backups: Backups, store: PersonaStore, clock: Clock
) -> None:
    await store.save(form())
    clock.forward(days=300)
    await made(backups)
    clock.forward(days=-300)
    assert await backups.maintain() is not None


# Clean-up


def backup_at(moment: datetime, problem: Any = "") -> Backup:
    return Backup(f"personas-{moment:%Y%m%dT%H%M%S.%f}Z-00000000.json", moment, problem=problem)


def test_the_newest_stay_and_the_rest_is_spread() -> None:
    hourly = [backup_at(T0 - timedelta(hours=n)) for n in range(24 * 40)]
    gone = {backup.name for backup in surplus(hourly, T0, 10)}
    ages = [T0 - backup.created_at for backup in hourly if backup.name not in gone]
    assert [(age.days, age.seconds // 3600) for age in ages] == [
        *((0, 0), (0, 1)),
        *((0, 6), (1, 6), (2, 6), (3, 6), (4, 6), (5, 6)),
        *((7, 0), (9, 6)),
    ]


def test_years_of_weekly_backups() -> None:
    weekly = [backup_at(T0 - timedelta(weeks=n)) for n in range(200)]
    gone = surplus(weekly, T0, 10)
    assert gone == weekly[10:]
    assert surplus(weekly[:10], T0, 10) == []


def test_damaged_ones_go_first_and_unknown_ones_never() -> None:
    good = backup_at(T0 - timedelta(days=900))
    damaged = [backup_at(T0 - timedelta(days=n), "damaged") for n in range(5)]
    unknown = [backup_at(T0 + timedelta(days=n), "newer") for n in range(5)]
    assert surplus([*unknown, *damaged, good], T0, 3) == damaged[2:]
    assert surplus([*unknown, *damaged, good], T0, 1) == damaged
    assert surplus([*damaged, *unknown], T0, 1) == damaged[1:]


MOMENTS = st.datetimes(datetime(2025, 1, 1), datetime(2027, 1, 1))


@given(
    st.lists(st.tuples(MOMENTS, st.sampled_from(["", "", "damaged", "newer"])), unique_by=lambda t: t[0]),
    st.integers(1, 12),
)
def test_a_clean_up_keeps_its_promises(drawn: list[tuple[datetime, str]], limit: int) -> None:
    backups = [backup_at(moment.replace(tzinfo=UTC), problem) for moment, problem in drawn]
    gone = surplus(backups, T0, limit)
    left = [backup for backup in backups if backup not in gone]
    good = sorted((backup for backup in backups if backup.ok), key=lambda backup: backup.name)
    judged = [backup for backup in left if backup.problem != "newer"]
    assert len(judged) == min(limit, sum(backup.problem != "newer" for backup in backups))
    assert good[-2 if limit > 5 else -1 :] == [b for b in good[-2 if limit > 5 else -1 :] if b in left]
    assert all(backup.problem != "newer" for backup in gone)
    assert surplus(left, T0, limit) == []


async def test_making_cleans_up(backups: Backups, store: PersonaStore, clock: Clock, folder: Path) -> None:
    backups.policy = BackupPolicy(max_files=3)
    for number in range(6):
        await store.save(form(prompt=f"{number}"))
        clock.forward(days=1)
        await made(backups, f"{number}")
    assert [backup.reason for backup in await backups.list()] == ["5", "4", "3"]
    backups.policy = BackupPolicy(max_files=1)
    assert await backups.make("unchanged") is None
    await made(backups, "last")
    assert [backup.reason for backup in await backups.list()] == ["last"]
    assert len(names(folder)) == 1


async def test_a_clean_up_that_fails_does_not_undo_the_backup(
    backups: Backups, store: PersonaStore, clock: Clock, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backups.policy = BackupPolicy(max_files=1)
    await made(backups)
    clock.forward(days=1)

    async def refuse(_: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("aiofiles.os.remove", refuse)
    assert await made(backups)
    assert len(await backups.list()) == 2
