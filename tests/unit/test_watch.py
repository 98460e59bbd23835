"""The folder watch: edits are live, a broken edit keeps the last good content, deletions are noticed."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest

from agent_mode.errors import TemplateError
from agent_mode.prompts.watch import INTERVAL, DirectoryWatch


class Clock:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def tick(self) -> None:
        self.now += INTERVAL


class Parser:
    """Upper-cases a text, refuses one with BROKEN in it, and counts."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def __call__(self, name: str, text: str) -> str:
        self.read.append(name)
        if "BROKEN" in text:
            raise TemplateError(f"{name} is broken.")
        return text.upper()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def parser() -> Parser:
    return Parser()


def watch(folder: Path, parser: Parser, clock: Clock) -> DirectoryWatch[str, TemplateError]:
    return DirectoryWatch(folder, ".txt", parser, TemplateError, clock=clock)


def test_reads_only_what_is_meant(tmp_path: Path, parser: Parser, clock: Clock) -> None:
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / ".a.txt").write_text("an editor's own copy")
    (tmp_path / "a.txt~").write_text("an editor's own copy")
    (tmp_path / "folder.txt").mkdir()
    (tmp_path / "dangling.txt").symlink_to(tmp_path / "nowhere")
    watched = watch(tmp_path, parser, clock)
    assert watched.content() == {"a.txt": "ONE"}
    assert watched.errors() == {}


def test_edit_is_live_after_the_interval(tmp_path: Path, parser: Parser, clock: Clock) -> None:
    file = tmp_path / "a.txt"
    file.write_text("one")
    watched = watch(tmp_path, parser, clock)
    file.write_text("three")
    assert watched.content() == {"a.txt": "ONE"}
    clock.tick()
    assert watched.content() == {"a.txt": "THREE"}


def test_replaced_file_is_live(tmp_path: Path, parser: Parser, clock: Clock) -> None:
    file = tmp_path / "a.txt"
    file.write_text("one")
    watched = watch(tmp_path, parser, clock)
    other = tmp_path / "other"
    other.write_text("two")  # of the same length: told apart by its inode
    other.replace(file)
    clock.tick()
    assert watched.content() == {"a.txt": "TWO"}


def test_unchanged_files_are_not_read_again(tmp_path: Path, parser: Parser, clock: Clock) -> None:
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "b.txt").write_text("BROKEN")
    watched = watch(tmp_path, parser, clock)
    before = watched.content()
    for _ in range(3):
        clock.tick()
        assert watched.content() is before
    assert parser.read == ["a.txt", "b.txt"]


def test_broken_edit_keeps_the_last_good_content(tmp_path: Path, parser: Parser, clock: Clock) -> None:
    file = tmp_path / "a.txt"
    file.write_text("one")
    (tmp_path / "b.txt").write_text("fine")
    watched = watch(tmp_path, parser, clock)
    file.write_text("BROKEN for now")
    clock.tick()
    assert watched.content() == {"a.txt": "ONE", "b.txt": "FINE"}
    assert watched.errors()["a.txt"].message == "a.txt is broken."
    file.write_text("repaired")
    clock.tick()
    assert watched.content()["a.txt"] == "REPAIRED"
    assert watched.errors() == {}


def test_text_that_is_no_utf8_is_an_error(tmp_path: Path, parser: Parser, clock: Clock) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes("ä".encode("latin-1"))
    watched = watch(tmp_path, parser, clock)
    assert watched.content() == {}
    assert "UTF-8" in str(watched.errors()["a.txt"])
    file.write_bytes(b"\xef\xbb\xbffine")
    clock.tick()
    assert watched.content() == {"a.txt": "FINE"}


def test_unreadable_file_is_an_error_and_tried_again(
    tmp_path: Path, parser: Parser, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text("one")

    def denied(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_text", denied)
        watched = watch(tmp_path, parser, clock)
        assert "Permission denied" in str(watched.errors()["a.txt"])
    clock.tick()
    assert watched.content() == {"a.txt": "ONE"}
    assert watched.errors() == {}


def test_deleted_file_is_forgotten_with_its_error(tmp_path: Path, parser: Parser, clock: Clock) -> None:
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "b.txt").write_text("BROKEN")
    watched = watch(tmp_path, parser, clock)
    (tmp_path / "a.txt").unlink()
    (tmp_path / "b.txt").unlink()
    clock.tick()
    assert watched.content() == {}
    assert watched.errors() == {}


def test_missing_folder_is_an_error_until_it_is_there(tmp_path: Path, parser: Parser, clock: Clock) -> None:
    folder = tmp_path / "templates"
    watched = watch(folder, parser, clock)
    assert watched.content() == {}
    assert str(folder) in str(watched.errors()["templates"])
    folder.mkdir()
    (folder / "a.txt").write_text("one")
    clock.tick()
    assert watched.content() == {"a.txt": "ONE"}
    assert watched.errors() == {}


def test_lost_folder_keeps_everything(tmp_path: Path, parser: Parser, clock: Clock) -> None:
    folder = tmp_path / "templates"
    folder.mkdir()
    (folder / "a.txt").write_text("one")
    watched = watch(folder, parser, clock)
    folder.rename(tmp_path / "elsewhere")
    clock.tick()
    assert watched.content() == {"a.txt": "ONE"}
    assert list(watched.errors()) == ["templates"]


def test_a_mistake_is_logged_once(
    tmp_path: Path, parser: Parser, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "a.txt"
    file.write_text("BROKEN")
    with caplog.at_level(logging.WARNING):
        watched = watch(tmp_path, parser, clock)
        file.write_text("still BROKEN")
        clock.tick()
        watched.content()
    assert caplog.messages == ["template: a.txt is broken."]


def test_a_second_thread_does_not_wait_for_a_look(tmp_path: Path, clock: Clock) -> None:
    entered, leave = threading.Event(), threading.Event()
    (tmp_path / "a.txt").write_text("one")

    def slow(_: str, text: str) -> str:
        if text == "slow":
            entered.set()
            assert leave.wait(5)
        return text

    watched = DirectoryWatch(tmp_path, ".txt", slow, TemplateError, clock=clock)
    (tmp_path / "a.txt").write_text("slow")
    clock.tick()
    thread = threading.Thread(target=watched.content)
    thread.start()
    assert entered.wait(5)
    clock.tick()
    assert watched.content() == {"a.txt": "one"}
    leave.set()
    thread.join()
    assert watched.content() == {"a.txt": "slow"}
