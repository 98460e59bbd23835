"""Files that are broken, or made to break us: an error, in time, and nothing else."""

from __future__ import annotations

import base64
import json
import struct
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from agent_mode.errors import CatalogueError
from agent_mode.store.formats import SIZE_LIMIT, Entry, detect, read, write
from agent_mode.store.formats.yamlhead import load
from tests.patience import PATIENCE

MIB = 1024 * 1024
CARD = {
    "spec": "chara_card_v2",
    "spec_version": "2.0",
    "data": {
        "name": "Aria",
        "description": "Navigates.",
        "tags": ["a"],
        "extensions": {"agent_mode": {"emoji": "x"}},
    },
}
MODELS = [
    {
        "id": "m",
        "name": "M",
        "params": {"system": "Be."},
        "meta": {"tags": [{"name": "a"}]},
        "base_model_id": "b",
    }
]
DOCUMENTS: list[Any] = [
    CARD,
    CARD["data"] | {"first_mes": ""},
    MODELS,
    [{"id": "m", "info": MODELS[0]}],
    [{"command": "/a", "title": "A", "content": "Be.", "tags": ["a"]}],
    {"a": {"name": "A", "prompt": "Be.", "rules": ["1. x"], "capabilities": ["y"], "tags": ["z"]}},
    {
        "format": "agent-mode-personas",
        "personas": [{"key": "aa", "name": "A", "prompt": "Be.", "extras": {"x": 1}}],
    },
]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*chunks: bytes, width: int = 2, height: int = 2) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + chunk(b"IEND", b"")


def card_png() -> bytes:
    notes = PngImagePlugin.PngInfo()
    notes.add_text("chara", base64.b64encode(json.dumps(CARD).encode()).decode())
    notes.add_text("Comment", "packed " * 50, zip=True)
    notes.add_itxt("Title", "international", "en", "Title", zip=True)
    file = BytesIO()
    Image.new("RGB", (4, 4)).save(file, "PNG", pnginfo=notes)
    return file.getvalue()


PICTURE = card_png()
SKILL = b"---\nname: a-b\ndescription: D\ntags: [x]\nmetadata: {agent-mode-tags: '[1]'}\n---\nBe.\n"
CSV = b'act,prompt,more\n"A, b","Say ""x""",1\nB,"two\nlines",2\n'
FILES = [*(json.dumps(document).encode() for document in DOCUMENTS), PICTURE, SKILL, CSV]
NAMES = ["x.json", "x.png", "x.md", "x.agent.md", "x.csv", "x", ""]


def tried(data: bytes, filename: str) -> list[Entry]:
    """What is read, checked for being a proper answer; nothing but CatalogueError may be raised."""
    try:
        entries = read(data, filename)
    except CatalogueError as error:
        str(error).encode()
        return []
    for entry in entries:
        json.dumps([entry.name_in_file, entry.problem, entry.field], ensure_ascii=False).encode()
        assert (entry.form is None) == (entry.problem is not None)
        for format_name in ("character-card", "openwebui-models", "markdown", "agent-mode"):
            if entry.form is not None:
                assert read(
                    write(format_name, [entry.form]), "x.md" if format_name == "markdown" else "x.json"
                )
    return entries


@contextmanager
def not_stuck() -> Iterator[None]:
    """Much less computing than a file that grows on us would cost; what other processes do does not count."""
    start = time.thread_time()
    yield
    assert time.thread_time() - start < PATIENCE


def grows_evenly(make: Callable[[int], bytes], filename: str, size: int) -> None:
    """Four times the file is about four times the work; growing as the square, it would be sixteen times."""

    def work(size: int) -> float:
        data, start = make(size), time.thread_time()
        tried(data, filename)
        return time.thread_time() - start

    # Several attempts: a busy machine may spoil one, a square spoils all.
    assert any(work(size) < 10 * work(size // 4) + 0.05 for _ in range(6))


def refused(data: bytes, filename: str, words: str) -> None:
    with not_stuck(), pytest.raises(CatalogueError, match=words):
        read(data, filename)


# Random


@settings(max_examples=100)
@given(
    data=st.binary(max_size=300),
    start=st.sampled_from([b"", b"{", b"[{", b"---\n", b"act,prompt\n"]),
    name=st.text(),
)
def test_any_bytes(data: bytes, start: bytes, name: str) -> None:
    for filename in (name, *NAMES):
        tried(start + data, filename)


@settings(max_examples=100)
@given(
    file=st.sampled_from(FILES),
    edits=st.lists(
        st.tuples(st.integers(0, 2000), st.integers(0, 3), st.binary(max_size=6)), min_size=1, max_size=6
    ),
)
def test_damaged_files(file: bytes, edits: list[tuple[int, int, bytes]]) -> None:
    for place, length, new in edits:
        start = place % (len(file) + 1)
        file = file[:start] + new + file[start + length :]
    for filename in NAMES:
        tried(file, filename)


_ANYTHING = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(st.characters(exclude_categories=()), max_size=8),
        st.sampled_from(["", " ", "\0", "\ud800", "{{char}}", "👩🏽‍🔬", "n" * 200, 2**70, 1e308]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text(max_size=4), inner, max_size=3),
        st.fixed_dictionaries(
            {}, optional=dict.fromkeys(("name", "emoji", "key", "agent_mode", "system"), inner)
        ),
    ),
    max_leaves=6,
)


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        yield from paths(inner, (*path, name))


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


@settings(max_examples=200)
@given(data=st.data(), document=st.sampled_from(DOCUMENTS), new=_ANYTHING)
def test_anything_in_any_field(data: st.DataObject, document: Any, new: Any) -> None:
    path = data.draw(st.sampled_from(list(paths(document))))
    tried(json.dumps(replaced(document, path, new)).encode(), "x.json")


@settings(max_examples=100)
@given(text=st.text(st.sampled_from("ab:- \n\t[]{}&*!|>'\"#?,%@`=0x_.~<")))
def test_any_front_matter(text: str) -> None:
    with suppress(CatalogueError):
        load(text)
    tried(f"---\n{text}\n---\nBe.".encode(), "x.md")


@pytest.mark.parametrize(
    "text",
    [
        "a: 0b_",
        "a: 0x_",
        "a: 08",
        "a: 1:99",
        "a: -.inf",
        "a: .nan",
        "a: 2024-02-30",
        "a: 2001-01-01 00:00:00 +99:99",
        "=: =",
        "<<: [1]",
        "<<: {a: 1}",
        "? [a]\n: b",
        "{}: 1",
        "a: " + "9" * 5_000,
        "%YAML 9.9\n---\na: 1",
        "--- a\n--- b",
        "1: 2\nname: x",
        "name: 2024-01-01",
        "name: 5",
        "metadata: 5",
        "metadata: {agent-mode-emoji: 5}",
        "tags: {a: b}",
    ],
)
def test_odd_yaml(text: str) -> None:
    tried(f"---\n{text}\n---\nBe.".encode(), "x.md")


# Size and depth


def test_a_file_that_is_too_large() -> None:
    for data, filename in (
        (b"a" * (SIZE_LIMIT + 1), "x.csv"),
        (b'"' + b"a" * 100 * MIB + b'",prompt\na,b', "x.csv"),
    ):
        refused(data, filename, "larger than 20 MiB")
        with pytest.raises(CatalogueError):
            detect(data, filename)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"[" * 10_000_000, "too many values"),
        (b"[" * 100_000, "levels deep"),
        (b"[" * 900 + b"]" * 900, "levels deep"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "levels deep"),
        (b"[" + b"[]," * 1_000_000 + b"[]]", "too many values"),
        (b"[" + b"0," * 9_000_000 + b"0]", "too many values"),
        (b'{"prompt": "a", "name": ' + b"9" * 10_000 + b"}", "not valid JSON"),
        (b'{"prompt": "a", "name": NaN}', "NaN"),
        (b'{"prompt": "a", "name": 1e999}', "too large"),
        (b'{"prompt": "' + b"a" * (SIZE_LIMIT - 100), "not valid JSON"),
        (b"{" + b" " * (SIZE_LIMIT - 100), "not valid JSON"),
    ],
    ids=range(11),
)
def test_json_that_is_too_much(data: bytes, words: str) -> None:
    refused(data, "x.json", words)


def test_a_deep_place_in_the_stack_changes_nothing() -> None:
    def deeper(levels: int) -> None:
        if levels:
            deeper(levels - 1)
        else:
            refused(b"[" * 5_000, "x.json", "levels deep")

    deeper(sys.getrecursionlimit() // 2)


def test_one_field_that_is_too_much() -> None:
    huge = "n" * 5 * MIB
    with not_stuck():
        [entry] = tried(json.dumps({**CARD, "data": {**CARD["data"], "name": huge}}).encode(), "x.json")
        assert entry.field == "extras"
        assert len(entry.name_in_file) == 80
        [entry] = tried(
            json.dumps({**CARD, "data": {**CARD["data"], "description": huge}}).encode(), "x.json"
        )
        assert entry.form is None
        [entry] = tried(
            json.dumps({**CARD, "data": {**CARD["data"], "description": "{{" + " " * 5 * MIB}}).encode(),
            "x.json",
        )
        assert entry.form is None
        [entry] = tried(b"---\nname: a\n---\n" + b"a" * 10 * MIB, "x.md")
        assert "100000" in (entry.problem or "")
    [entry] = tried(json.dumps({**CARD, "data": {**CARD["data"], "x": "\ud800"}}).encode(), "x.json")
    assert entry.field == "extras"


def test_yaml_bombs() -> None:
    laughs = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(9)
    )
    texts = {
        laughs: "anchors",
        "a: *b": "anchors",
        "a: !!binary x": "tags",
        "a: !<tag:yaml.org,2002:python/object/apply:os.system> x": "tags",
        "a: " + "[" * 10_000: "levels deep",
        "a: " + "{a: " * 3_000: "levels deep",
        "\n".join(" " * n + "a:" for n in range(100)): "levels deep",
        "a: " + "x" * 70_000: "larger than 16 KiB",
    }
    for text, words in texts.items():
        with not_stuck():
            [entry] = tried(f"---\n{text}\n---\nBe.".encode(), "x.md")
            assert words in (entry.problem or "")


@pytest.mark.parametrize(
    "unit", ["a: b\n", "[a]: ", "- ", "? ", "'a' ", "|\n ", "a:\n", "#\n", "\n", "%", '"\\x41" ', "[],"]
)
def test_front_matter_made_to_be_slow(unit: str) -> None:
    grows_evenly(lambda size: f"---\n{unit * (size // len(unit))}\n---\nBe.".encode(), "x.md", 16_000)


def test_a_front_matter_without_an_end() -> None:
    for unit in (b"a: b\n", b"\n", b"---x\n", b"--- " + b" " * 1_000 + b"x\n"):
        refused(b"---\n" + unit * (15 * MIB // len(unit)), "x.md", "no front matter")


def test_csv_that_is_too_much() -> None:
    refused(b'"' + b"a" * (SIZE_LIMIT - 100) + b'",prompt\na,b', "x.csv", "not valid CSV")
    refused(b"act,prompt\n" + b'a,"' + b"b" * 10 * MIB, "x.csv", "not valid CSV")
    refused(b"act,prompt\n" + b",\n" * 5 * MIB, "x.csv", "too many lines")
    refused(b"act,prompt\n" + b"a,b\n" * 4 * MIB, "x.csv", "more than 5000")


def test_csv_with_too_many_columns() -> None:
    def table(count: int) -> bytes:
        columns = b",".join(b"c%d" % number for number in range(count))
        return b"act,prompt," + columns + b"\na,b," + columns

    [entry] = tried(table(500_000), "x.csv")
    assert entry.field == "extras"
    assert tried(b"act,prompt\na,b" + b",c" * 1_000_000, "x.csv")[0].form
    grows_evenly(table, "x.csv", 200_000)


# Pictures


def text_chunk(document: Any, keyword: bytes = b"chara") -> bytes:
    return chunk(b"tEXt", keyword + b"\0" + base64.b64encode(json.dumps(document).encode()))


def test_a_good_picture_is_read() -> None:
    assert read(png(text_chunk(CARD)), "x.png")[0].form
    assert read(PICTURE, "x.png")[0].form


def test_a_picture_cut_anywhere() -> None:
    for end in range(8, len(PICTURE) - 4):  # after it only the checksum of nothing
        with pytest.raises(CatalogueError):
            read(PICTURE[:end], "x.png")


BOMB = zlib.compress(b"\0" * 200 * MIB)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (png(), "no character card"),
        (png(chunk(b"zTXt", b"chara\0\0" + BOMB)), "cannot be read"),
        (png(text_chunk(CARD), chunk(b"zTXt", b"Comment\0\0" + BOMB)), "cannot be read"),
        (png(chunk(b"iTXt", b"ccv3\0\1\0\0\0" + BOMB)), "cannot be read"),
        (png(chunk(b"iCCP", b"p\0\0" + BOMB), chunk(b"zTXt", b"chara\0\1x")), "cannot be read"),
        (png(text_chunk(CARD), width=10_001), "too large"),
        (png(text_chunk(CARD), width=9_000, height=9_000), "too large"),
        (png(text_chunk(CARD), width=2**31 - 1, height=2**31 - 1), "too large"),
        (png(text_chunk([1])), "no character card"),
        (png(text_chunk({"a": {"prompt": "b"}})), "no character card"),
        (png(chunk(b"tEXt", b"chara\0" + b"!")), "not valid JSON|base64"),
        (png(chunk(b"tEXt", b"chara\0\xff\xfe")), "base64"),
        (png(chunk(b"tEXt", b"chara\0" + base64.b64encode(b"[" * 1_000_000))), "too many values"),
        (png(chunk(b"tEXt", b"chara\0QQ")), "base64"),
        (png(chunk(b"IHDR", b"")), "cannot be read"),
        (png(chunk(b"\0\0\0\0", b"")), "cannot be read"),
        (png(struct.pack(">I", 2**32 - 1) + b"tEXtchara\0"), "cannot be read"),
        (png(struct.pack(">I", 2**32 - 1) + b"IDAT"), "cannot be read"),
        (png(*[chunk(b"tEXt", b"")] * 30_000), "parts"),
        (png(chunk(b"tEXt", b"chara\0e30=")).replace(b"e30=", b"e31="), "cannot be read"),
        (b"\x89PNG\r\n\x1a\n", "cannot be read"),
    ],
    ids=range(21),
)
def test_pictures_made_to_do_harm(data: bytes, words: str) -> None:
    refused(data, "x.png", words)


def test_without_pillow_pictures_are_refused_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    [entry] = read(json.dumps(CARD).encode(), "x.json")
    for name in [name for name in sys.modules if name == "PIL" or name.startswith("PIL.")]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(CatalogueError, match="pip install pillow"):
        read(PICTURE, "x.png")
    with pytest.raises(CatalogueError, match="pip install pillow"):
        write("character-card-png", [entry.form])
    assert write("character-card", [entry.form])
