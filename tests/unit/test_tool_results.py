"""A tool's result as a model gets it: text, pictures, errors, cut to size."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_mode.tools.results import (
    IMAGES_NOTE,
    content_of,
    images_of,
    is_denied,
    is_error,
    is_images_note,
    shortened,
    text_of,
)

PIXEL = "data:image/png;base64,iVBORw0KGgo="


def image(url: str = PIXEL) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


@pytest.mark.parametrize(
    ("value", "content"),
    [
        ("plain", "plain"),
        ("", ""),
        (None, ""),
        (7, "7"),
        (True, "true"),
        ({"a": "ü"}, '{"a": "ü"}'),
        ([1, 2], "[1, 2]"),
        ([], "[]"),
        (["a", "b"], '["a", "b"]'),
        ([{"a": 1}], '[{"a": 1}]'),
        ([text("a"), text("b")], "a\nb"),
        ([{"type": "input_text", "text": "a"}, {"type": "output_text", "text": "b"}], "a\nb"),
        (PIXEL, [image()]),
        ([text("see"), image("https://x/y.png")], [text("see"), image("https://x/y.png")]),
        (
            [{"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": PIXEL}],
            [text("a"), image()],
        ),
        (
            [text("a"), {"type": "image", "data": "QQ==", "mimeType": "image/gif"}],
            [text("a"), image("data:image/gif;base64,QQ==")],
        ),
        ([text("a"), {"type": "resource", "uri": "x"}], 'a\n{"type": "resource", "uri": "x"}'),
        ([text("a"), "b", 3], "a\nb\n3"),
        ([{"type": "image_url"}, text("a")], '{"type": "image_url"}\na'),
        ([{"type": "text", "text": 7}], '{"type": "text", "text": 7}'),
    ],
)
def test_content(value: Any, content: Any) -> None:
    assert content_of(value) == content
    assert content_of(content_of(value)) == content  # what is ready stays as it is


def test_text_and_pictures() -> None:
    parts = [text("see"), image(), text("and"), image("https://x/y.png")]
    assert text_of(parts) == "see\n[image]\nand\n[image]"
    assert images_of(parts) == [PIXEL, "https://x/y.png"]
    assert images_of("words") == []


def test_the_pictures_that_open_webui_shows_after_tools_are_no_user_s_words() -> None:
    note = {"role": "user", "content": [text(IMAGES_NOTE), image()]}
    assert is_images_note(note)
    assert images_of(note["content"]) == [PIXEL]
    assert not is_images_note({"role": "user", "content": IMAGES_NOTE})
    assert not is_images_note({"role": "user", "content": [text("Look"), image()]})
    assert not is_images_note({"role": "assistant", "content": [text(IMAGES_NOTE)]})
    assert not is_images_note({"role": "user", "content": []})
    assert not is_images_note({"role": "user"})


DENIED = ["Error: tool call rejected by user.", "Error: tool call was not approved."]
ERRORS = [
    *DENIED,
    'Error: Tool "gone" not found.',
    "Error: Tool call arguments could not be parsed. The model generated malformed or incomplete JSON.",
    "Error: Tool call arguments for `roll` must be a JSON object. Please try again.",
    "Error: Browser session is not connected for this direct tool.",
    "Error: tool execution was interrupted; its outcome is unknown.",
    '{\n  "error": "boom"\n}',
    '{"error": {"code": 7}}',
    '{"status": "error", "code": "ui_component", "message": "…"}',
    '{"status": " Failed "}',
    '{"success": false, "message": "no"}',
    '{"ok": false, "message": "no"}',
    json.dumps('{"error": "wrapped twice"}'),
    "  ERROR: loud",
    "Exception: x",
    "Traceback (most recent call last):\n…",
    "HTTP error! Status: 500",
]
FINE = [
    "",
    "rolled 4",
    "No error: all is well",
    '{"error": ""}',
    '{"error": null}',
    '{"error": []}',
    '{"status": "ok"}',
    '{"success": false}',
    '{"results": [{"error": "of an item"}]}',
    '{"error": "cut off',
    '["error"]',
    "errors: 3 were found and put right",
    "7",
    "null",
]


@pytest.mark.parametrize("said", ERRORS)
def test_errors_are_seen(said: str) -> None:
    assert is_error(said)
    assert is_error([{"type": "input_text", "text": said}])
    assert is_denied(said) == (said in DENIED)


@pytest.mark.parametrize("said", FINE)
def test_what_only_looks_like_an_error_is_none(said: str) -> None:
    assert not is_error(said)
    assert not is_denied(said)


def test_a_megabyte_is_looked_at_quickly() -> None:
    large = json.dumps({"results": ["x" * 1000] * 1100, "error": ""})
    assert len(large) > 1_000_000
    assert not is_error(large)
    cut = shortened(large, 5000)
    assert len(cut) <= 5000


@given(st.text(max_size=400), st.integers(0, 450))
def test_a_cut_text_keeps_its_ends_and_says_what_is_gone(words: str, limit: int) -> None:
    cut = shortened(words, limit)
    assert isinstance(cut, str)
    if len(words) <= limit:
        assert cut == words
        return
    head, mark, rest = cut.partition("[… ")
    gone = int(rest.split(" of ", maxsplit=1)[0].replace(",", ""))
    tail = rest.partition("…]")[2]
    assert mark
    if len(cut) <= limit:  # the limit is larger than the mark
        head, tail = head.removesuffix("\n"), tail.removeprefix("\n")
        assert words.startswith(head)
        assert words.endswith(tail)
        assert len(head) + len(tail) + gone == len(words)
    else:
        assert (head, tail) == ("", "")


def test_pictures_stay_when_text_is_cut() -> None:
    parts = [text("a" * 500), image(), text("b" * 500)]
    cut = shortened(parts, 300)
    assert isinstance(cut, list)
    assert [part["type"] for part in cut] == ["text", "image_url"]
    assert cut[1] == image()
    assert len(text_of(cut)) < 320
    assert shortened(parts, 2000) == parts


def test_the_mark_can_be_read() -> None:
    cut = shortened("x" * 10_000, 1000)
    assert "characters are left out here" in str(cut)
    assert "of 10,000" in str(cut)
