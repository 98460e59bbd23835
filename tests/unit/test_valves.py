"""Valves: nothing that Open WebUI's form posts, and no stale file, can raise or show a secret."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from agent_mode.valves import (
    MASK,
    AgentValves,
    CommandValves,
    HotswapValves,
    PersonaValves,
    Valves,
    mask,
    number,
    secret,
)

ROOT = Path(__file__).parents[2]
SHIPPED: dict[str, Any] = {
    "personas": PersonaValves,
    "hotswap": HotswapValves,
    "researcher": AgentValves,
}
CLASSES: list[Any] = [CommandValves, HotswapValves, PersonaValves]
KEY = "sk-0123456789abcdef"


class FormValves(Valves):
    """One field of every kind that our valves may have."""

    text: str = Field("words", description="t")
    maybe: str | None = Field(None, description="t")
    flag: bool = Field(True, description="t")
    other_flag: bool | None = Field(None, description="t")
    whole: int = number(5, "t", minimum=1, maximum=10)
    real: float = number(0.5, "t", minimum=0, maximum=2)
    maybe_whole: int | None = Field(None, description="t")
    free: float = Field(1.5, description="t")
    choice: Literal["a", "b"] = Field("a", description="t")
    words: list[str] = Field(["*"], description="t")
    key: str | None = secret("t")
    other_key: str | None = secret("t")


# Not typed: what the form posts is what no type checker would allow.
Form: Any = FormValves
Personas: Any = PersonaValves
DEFAULTS = Form().model_dump()


@pytest.mark.parametrize(
    ("field", "posted", "value"),
    [
        # The form posts strings for numbers.
        ("whole", "7", 7),
        ("whole", " 7 ", 7),
        ("whole", 7, 7),
        ("whole", 7.9, 7),
        ("whole", "7.9", 7),
        ("whole", "7e0", 7),
        ("whole", "abc", 5),
        ("whole", "", 5),
        ("whole", None, 5),
        ("whole", [], 5),
        ("whole", [7], 5),
        ("whole", {}, 5),
        ("whole", "nan", 5),
        ("whole", "inf", 5),
        ("whole", "1e999", 5),
        ("whole", 10**400, 5),
        ("whole", 0, 1),
        ("whole", "-3", 1),
        ("whole", 11, 10),
        ("whole", "1e300", 10),
        ("real", "1.25", 1.25),
        ("real", 1, 1.0),
        ("real", "-1", 0.0),
        ("real", 99, 2.0),
        ("real", "nan", 0.5),
        ("real", math.inf, 0.5),
        ("real", "1,5", 0.5),
        ("free", "-1e9", -1e9),
        ("free", "nan", 1.5),
        ("maybe_whole", "7", 7),
        ("maybe_whole", "", None),
        ("maybe_whole", None, None),
        ("maybe_whole", "x", None),
        # Switches.
        ("flag", False, False),
        ("flag", "false", False),
        ("flag", "Off", False),
        ("flag", 0, False),
        ("flag", "0", False),
        ("flag", "no", False),
        ("flag", "maybe", True),
        ("other_flag", "yes", True),
        ("other_flag", "on", True),
        ("other_flag", 1, True),
        ("other_flag", "no", False),
        ("flag", None, True),
        ("flag", [], True),
        ("flag", {}, True),
        ("other_flag", None, None),
        ("other_flag", "true", True),
        # Text.
        ("text", "new", "new"),
        ("text", "  new ", "new"),
        ("text", "\ud800", "words"),
        ("text", "a\x00b", "words"),
        ("text", "", "words"),
        ("text", "   ", "words"),
        ("text", None, "words"),
        ("text", 5, "words"),
        ("text", ["a"], "words"),
        ("text", {"a": 1}, "words"),
        ("maybe", "new", "new"),
        ("maybe", "", None),
        ("maybe", "  ", None),
        ("maybe", None, None),
        ("maybe", [], None),
        ("maybe", 5, None),
        # Choices.
        ("choice", "b", "b"),
        ("choice", "c", "a"),
        ("choice", "B", "a"),
        ("choice", "", "a"),
        ("choice", None, "a"),
        ("choice", [], "a"),
        ("choice", {"a": "b"}, "a"),
        ("choice", 1, "a"),
        # Lists: the form splits at commas, and posts [""] for None.
        ("words", ["a", "b"], ["a", "b"]),
        ("words", "a, b,,", ["a", "b"]),
        ("words", [""], ["*"]),
        ("words", [], ["*"]),
        ("words", None, ["*"]),
        ("words", "", ["*"]),
        ("words", 5, ["*"]),
        ("words", [5, None], ["*"]),
        ("words", {"a": 1}, ["a"]),
        # Keys.
        ("key", KEY, KEY),
        ("key", f" {KEY}\n", KEY),
        ("key", "", None),
        ("key", None, None),
        ("key", 5, None),
        ("key", [KEY], None),
        ("key", {}, None),
    ],
)
def test_what_the_form_posts(field: str, posted: Any, value: Any) -> None:
    # Built as the server does it: all fields, the posted one among them.
    valves = Form(**{**DEFAULTS, field: posted})
    got = getattr(valves, field)
    assert got == value
    assert type(got) is type(value)
    assert {**valves.model_dump(), field: None} == {**DEFAULTS, field: None}
    # The server writes this file; a restart reads it.
    json.dumps(valves.model_dump())
    assert Form(**json.loads(json.dumps(valves.model_dump()))) == valves


POSTED = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=10**300, max_value=10**320)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        ["", "7", "true", "1e999", "-0", "0x10", "٣", "½", MASK, MASK + "cdef", "!", "!!!!", "a"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize("cls", [*CLASSES, FormValves])
@given(data=st.data())
def test_nothing_posted_can_raise(cls: Any, data: st.DataObject) -> None:
    names = st.sampled_from([*cls.model_fields, "unknown"])
    posted = data.draw(st.dictionaries(names, POSTED))
    valves = cls(**posted)
    for name, field in cls.model_fields.items():
        value = getattr(valves, name)
        extra = field.json_schema_extra
        if isinstance(extra, dict) and "minimum" in extra:
            low, high = extra["minimum"], extra["maximum"]
            assert isinstance(low, int | float)
            assert isinstance(high, int | float)
            assert low <= value <= high
        if get_origin(field.annotation) is Literal:
            assert value in get_args(field.annotation)
        if field.annotation is str:
            assert value.strip()
    kept = json.dumps(valves.model_dump(), allow_nan=False)
    assert cls(**json.loads(kept)) == valves
    valves.model_dump_json()


@pytest.mark.parametrize("data", [None, [], "text", 5, [["text", "new"]]])
def test_no_object_at_all_means_the_defaults(data: Any) -> None:
    assert Form.model_validate(data) == Form()


def test_valves_that_are_valves_already() -> None:
    valves = Form(text="new", key=KEY)
    assert Form.model_validate(valves) == valves


def test_unusable_values_are_logged_without_the_value(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "agent_mode"):
        Form(**{"whole": "s3cret", "text": "", "choice": None, "maybe": ""})
    assert [record.getMessage() for record in caplog.records] == [
        "valve whole: value not usable, the default is used"
    ]


# ---------------------------------------------------------------- secrets


def test_a_key_is_masked_for_the_form_and_kept_for_the_file() -> None:
    valves = Form(key=KEY)
    assert valves.key == KEY
    assert valves.model_dump()["key"] == KEY
    shown = valves.model_dump(mode="json")["key"]
    assert shown == f"{MASK}cdef"
    assert KEY not in valves.model_dump_json()
    assert json.loads(valves.model_dump_json())["key"] == shown
    assert Form().model_dump(mode="json")["key"] is None


@pytest.mark.parametrize("key", [KEY, "short", "x", "exactly-12ch", "ünïcödé-long-key"])
def test_the_mask_shows_little(key: str) -> None:
    shown = mask(key)
    assert shown.startswith(MASK)
    assert key not in shown
    assert len(shown) - len(MASK) <= len(key) / 3


def test_the_mask_tells_two_long_keys_apart() -> None:
    assert mask("exactly-12ch") == f"{MASK}12ch"
    assert mask("just-11-long"[1:]) == MASK


@pytest.mark.parametrize("key", [KEY, "short"])
def test_posting_the_mask_keeps_the_key(key: str) -> None:
    shown = Form(key=key).model_dump(mode="json")
    again = Form(**shown)
    assert again.key == key
    assert Form(**again.model_dump(mode="json")).key == key


def test_posting_another_key_replaces_it() -> None:
    shown = Form(key=KEY).model_dump(mode="json")
    shown["key"] = "sk-another-0000"
    valves = Form(**shown)
    assert valves.key == "sk-another-0000"
    assert Form(**valves.model_dump(mode="json")).key == "sk-another-0000"


@pytest.mark.parametrize("nothing", [None, "", "  "])
def test_clearing_a_key(nothing: Any) -> None:
    Form(key=KEY)
    assert Form(key=nothing).key is None


def test_a_mask_that_nobody_was_shown_is_no_key() -> None:
    assert Form(key=f"{MASK}zzzz").key is None


def test_two_keys_are_not_mixed_up() -> None:
    # Short keys have the same mask; each belongs to its field.
    shown = Form(key="one", other_key="two").model_dump(mode="json")
    again = Form(**shown)
    assert (again.key, again.other_key) == ("one", "two")


def test_a_mask_of_another_class_is_not_believed() -> None:
    class Another(Valves):
        key: str | None = secret("t")

    shown = Form(key=KEY).model_dump(mode="json")["key"]
    assert Another(key=shown).key is None


def test_the_pipelines_key() -> None:
    valves = Personas(llm_api_key=KEY)
    assert valves.model_dump()["llm_api_key"] == KEY
    assert KEY not in valves.model_dump_json()
    assert Personas(**valves.model_dump(mode="json")).llm_api_key == KEY


# ---------------------------------------------------------------- what the form can show


@pytest.mark.parametrize("cls", CLASSES)
def test_the_form_can_show_every_field(cls: Any) -> None:
    schema = json.loads(json.dumps(cls.model_json_schema()))
    assert "$defs" not in schema  # a $ref loses its label in the form
    assert set(schema["properties"]) == set(cls.model_fields)
    for name, field in cls.model_fields.items():
        assert field.description, name
        assert not field.is_required(), name
        # An empty text or list blocks the form's Save.
        assert field.default not in ("", []), name
        kind = field.annotation
        assert kind in (str, int, float, bool, str | None, list[str]) or get_origin(kind) is Literal, name


@pytest.mark.parametrize("cls", CLASSES)
def test_an_untouched_save_changes_nothing(cls: Any) -> None:
    assert cls(**json.loads(cls().model_dump_json())) == cls()


@pytest.mark.parametrize("cls", CLASSES)
def test_every_field_set_to_none(cls: Any) -> None:
    assert cls(**dict.fromkeys(cls.model_fields)) == cls()


@pytest.mark.parametrize("file", sorted((ROOT / "valves").glob("*.json")), ids=lambda file: file.stem)
def test_shipped_values(file: Path) -> None:
    values = json.loads(file.read_text("utf-8"))
    kept = SHIPPED[file.stem](**values).model_dump()
    assert {key: kept[key] for key in values} == values


@pytest.mark.parametrize(
    "stale",
    [
        {"a_field_that_is_gone": 1},
        {"history_policy": "a_choice_that_is_gone"},
        {"connect_timeout": {"seconds": 5}},
        {"llm_api_key": 5, "enable_debug": "perhaps", "models": ["coder"], "keyword_prefix": None},
        {"read_timeout": ""},
    ],
)
def test_a_stale_file_starts(stale: dict[str, Any]) -> None:
    # As the server does it at its start.
    assert Personas(**{**Personas().model_dump(), **stale}) == Personas()


@pytest.mark.parametrize(
    ("prefix", "used"),
    [
        ("/", "/"),
        ("!!", "!!"),
        ("→", "→"),
        ("#!", "#!"),
        ("!!!!", "!"),
        ("a", "!"),
        ("7", "!"),
        ("! ", "!"),
        ("/ /", "!"),
        ("\\", "!"),
        ("`", "!"),
        ("_", "!"),
        ("", "!"),
    ],
)
def test_prefixes(prefix: str, used: str) -> None:
    assert Personas(keyword_prefix=prefix).keyword_prefix == used


@pytest.mark.parametrize("wrong", ["not a url", "ftp://host", "http://", "://x", "http://h:x"])
def test_an_address_that_is_none_is_refused_or_what_was_there_is_kept(wrong: str) -> None:
    models: list[Any] = [PersonaValves, AgentValves]
    for model in models:
        found = model.misfits({"llm_base_url": wrong})
        assert found == {
            "llm_base_url": "This must be an address that begins with http:// or https://, or null."
        }
        assert model.hint_for("llm_base_url")
        assert model.misfits({"llm_base_url": " https://host/v1 "}) == {}
        assert model.misfits({"llm_base_url": ""}) == model.misfits({"llm_base_url": None}) == {}
        now = model.model_validate({"llm_base_url": "https://host/v1"})
        kept = model.with_kept_addresses({"llm_base_url": wrong, "llm_model": "m"}, now)
        assert kept == {"llm_base_url": "https://host/v1", "llm_model": "m"}
        for good in ("http://other/v1", None, ""):
            assert model.with_kept_addresses({"llm_base_url": good}, now) == {"llm_base_url": good}


@pytest.mark.parametrize("prefix", ["", " ", "abc", "!!!!", "a", "_", "`", "\\", "1", None, 5])
def test_a_prefix_that_cannot_be_is_told_its_rule(prefix: Any) -> None:
    assert "1 to 3 characters" in PersonaValves.misfits({"keyword_prefix": prefix})["keyword_prefix"]
    for good in ("!", "//", " ~ "):
        assert PersonaValves.misfits({"keyword_prefix": good}) == {}
