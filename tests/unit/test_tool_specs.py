"""Tools as models see them: read from requests, named, filtered, their arguments checked."""

from __future__ import annotations

import copy
import json
import random
import re
import subprocess
import sys
import time
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from llama_index.core.tools import FunctionTool
from llama_index.core.tools.types import ToolMetadata

from agent_mode.settings import ROOT
from agent_mode.tools import arguments as checking
from agent_mode.tools.specs import (
    ToolSpec,
    allowed,
    argument_problems,
    from_functions,
    from_request,
    model_from_schema,
    openai_tool,
    unique_names,
)
from tests.patience import PATIENCE

LEGAL = re.compile(r"[a-zA-Z0-9_-]{1,64}")
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def spec(original: str, source: Any = "request", tool_id: str | None = None) -> ToolSpec:
    return ToolSpec(original, original, "", CITY, source, tool_id)


def function(name: Any, **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "description": "d", "parameters": CITY, **more}}


# Reading


def test_a_request_s_tools_are_read() -> None:
    found = from_request([function("get_weather"), function("roll", description=None, parameters=None)])

    assert found == [
        ToolSpec("get_weather", "get_weather", "d", CITY, "request"),
        ToolSpec("roll", "roll", "", {"type": "object", "properties": {}}, "request"),
    ]
    assert openai_tool(found[0]) == function("get_weather")


@pytest.mark.parametrize("tools", [None, [], {}, "tools", 7, [None], [[]], ["x"], [{}], [{"function": None}]])
def test_what_is_no_tools_gives_none(tools: Any) -> None:
    assert from_request(tools) == []


@pytest.mark.parametrize("name", [None, "", "  ", 7, [], {}])
def test_a_bad_entry_costs_the_others_nothing(name: Any) -> None:
    assert [s.name for s in from_request([function(name), function("good")])] == ["good"]


def test_a_toolkit_is_read_without_what_open_webui_fills_in() -> None:
    parameters = {
        "type": "object",
        "properties": {
            "n": {"type": "int"},
            "tags": {"type": "list", "items": {"type": "str"}},
            "nick": {"type": "string", "nullable": True, "enum": ["a"]},
            "type": {"type": "float"},
            "nullable": {"type": "bool"},
            "__user__": {"type": "object"},
        },
        "required": ["n", "__user__"],
    }
    before = copy.deepcopy(parameters)

    (found,) = from_functions([{"name": "f", "description": "d", "parameters": parameters}, None], "kit")

    assert found.parameters == {
        "type": "object",
        "properties": {
            "n": {"type": "integer"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "nick": {"type": ["string", "null"], "enum": ["a", None]},
            "type": {"type": "number"},
            "nullable": {"type": "boolean"},
        },
        "required": ["n"],
    }
    assert (found.source, found.tool_id) == ("openwebui", "kit")
    assert parameters == before
    assert from_functions(None, "kit") == []


# Names

NAMES = st.one_of(
    st.sampled_from(["search", "search_1", "Suche öffnen", "a" * 64, "a" * 65, "a" * 90, "", "__"]),
    st.text(min_size=1, max_size=80),
)
SPECS = st.lists(
    st.builds(
        spec,
        NAMES.filter(str.strip),
        st.sampled_from(["request", "openwebui", "own"]),
        st.sampled_from([None, "kit", "server:x"]),
    ),
    max_size=12,
)


@given(SPECS, st.randoms(use_true_random=False))
def test_names_are_legal_distinct_and_the_same_in_any_order(
    specs: list[ToolSpec], rng: random.Random
) -> None:
    named = unique_names(specs)
    names = [s.name for s in named]
    assert len(set(names)) == len(names)
    assert all(LEGAL.fullmatch(name) for name in names), names

    shuffled = list(specs)
    rng.shuffle(shuffled)
    by_tool = {(s.source, s.tool_id, s.original): s.name for s in named}
    assert by_tool == {(s.source, s.tool_id, s.original): s.name for s in unique_names(shuffled)}
    assert unique_names(named) == named

    for was, now in zip(
        dict.fromkeys((s.source, s.tool_id or "", s.original) for s in specs), named, strict=True
    ):
        assert was == (now.source, now.tool_id or "", now.original)


def test_a_name_is_left_alone_where_it_can_be() -> None:
    found = unique_names(
        [spec("search", "openwebui", "kit"), spec("search", "request"), spec("search", "own")]
    )

    assert [s.original for s in found] == ["search"] * 3
    assert found[2].name == "search"
    assert re.fullmatch(r"search_[0-9a-f]{8}", found[0].name)
    assert re.fullmatch(r"search_[0-9a-f]{8}", found[1].name)


def test_a_made_up_name_never_takes_a_real_one() -> None:
    made_up = unique_names([spec("söarch")])[0].name
    found = unique_names([spec("söarch"), spec(made_up, "openwebui", "kit")])

    assert [s.name for s in found][1] == made_up
    assert len({s.name for s in found}) == 2


def test_a_tool_that_is_listed_twice_stays_once() -> None:
    assert len(from_request([function("f"), function("f", description="other")])) == 1


# Filtering

KIT = [
    spec("roll_dice", "openwebui", "dice"),
    spec("roll_coin", "openwebui", "dice"),
    spec("search", "openwebui", "server:web"),
    spec("search_web", "request"),
]


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (None, "roll_dice roll_coin search search_web"),
        ("*", "roll_dice roll_coin search search_web"),
        (" , ", "roll_dice roll_coin search search_web"),
        ("search", "search"),
        ("search*", "search search_web"),
        ("dice", "roll_dice roll_coin"),
        ("dice/roll_d*", "roll_dice"),
        ("server:web", "search"),
        (" roll_coin , search_web ", "roll_coin search_web"),
        ("-roll_*", "search search_web"),
        ("!dice", "search search_web"),
        ("roll_*,-roll_coin", "roll_dice"),
        ("-roll_coin,roll_*", "roll_dice"),
        ("-*", ""),
        ("Search", ""),
        ("nothing", ""),
        ("roll_[dx]*", "roll_dice"),
    ],
)
def test_patterns(patterns: str | None, expected: str) -> None:
    assert " ".join(s.original for s in allowed(KIT, patterns)) == expected


def test_a_renamed_tool_is_found_by_both_names() -> None:
    (found,) = unique_names([spec("Suche öffnen")])
    assert allowed([found], "Suche*") == allowed([found], found.name) == [found]


# Arguments

ORDER = {
    "type": "object",
    "properties": {
        "customer": {"$ref": "#/$defs/Person"},
        "items": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {"sku": {"type": "string"}, "count": {"type": "integer", "minimum": 1}},
                "required": ["sku", "count"],
                "additionalProperties": False,
            },
        },
        "speed": {"enum": ["slow", "fast"]},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "rating": {"type": "number", "exclusiveMaximum": 5},
    },
    "required": ["customer", "items"],
    "$defs": {
        "Person": {
            "type": "object",
            "properties": {"name": {"type": "string", "minLength": 1}, "boss": {"$ref": "#/$defs/Person"}},
            "required": ["name"],
        }
    },
}
GOOD = {"customer": {"name": "A", "boss": {"name": "B"}}, "items": [{"sku": "x", "count": 2}], "note": None}


@pytest.mark.parametrize(
    ("change", "problems"),
    [
        ({}, []),
        ({"items": []}, ["`items` must have at least 1 item"]),
        ({"items": "x"}, ["`items` must be array, not string"]),
        ({"items": [{"sku": "x"}]}, ["`items.0.count` is missing"]),
        ({"items": [{}]}, ["`items.0.sku`, `items.0.count` are missing"]),
        (
            {"items": [{"sku": 1, "count": 0}]},
            ["`items.0.sku` must be string, not integer", "`items.0.count` must be at least 1"],
        ),
        ({"items": [{"sku": "x", "count": 1, "colour": "red"}]}, ["there is no `items.0.colour`"]),
        ({"items": [{"sku": "x", "count": True}]}, ["`items.0.count` must be integer, not boolean"]),
        ({"speed": "warp"}, ['`speed` must be one of "slow", "fast"']),
        ({"note": 7}, ["`note` fits none of the allowed forms"]),
        ({"rating": 5}, ["`rating` must be less than 5"]),
        (
            {"customer": {"name": "A", "boss": {"name": ""}}},
            ["`customer.boss.name` must have at least 1 character"],
        ),
        ({"customer": {}}, ["`customer.name` is missing"]),
    ],
)
def test_problems_are_said_by_path(change: dict[str, Any], problems: list[str]) -> None:
    assert sorted(argument_problems(ORDER, GOOD | change)) == sorted(problems)


@pytest.mark.parametrize("arguments", [None, [], "x", 1, True])
def test_arguments_are_an_object(arguments: Any) -> None:
    (problem,) = argument_problems(ORDER, arguments)
    assert problem.startswith("the arguments must be an object, not ")


def test_missing_arguments_are_said_once_and_long_ones_not_in_full() -> None:
    assert argument_problems(ORDER, {}) == ["`customer`, `items` are missing"]
    assert all(
        len(p) < 200 for p in argument_problems({"properties": {"a": {"enum": ["x" * 9999]}}}, {"a": 1})
    )
    many = {"additionalProperties": {"type": "string"}}
    assert len(argument_problems(many, {str(n): n for n in range(1000)})) == checking.MOST


BROKEN = [
    {"type": 5},
    {"type": "strin"},
    {"type": ["object", 7]},
    {"properties": []},
    {"properties": {"a": 5}},
    {"required": "abc"},
    {"required": [1]},
    {"properties": {"a": {"minimum": "3"}}},
    {"properties": {"a": {"enum": "abc"}}},
    {"properties": {"a": {"$ref": "#/$defs/nowhere"}}},
    {"properties": {"a": {"$ref": "other.json"}}},
    {"properties": {"a": {"$ref": "https://nowhere.invalid/schema.json"}}},
    {"properties": {"a": {"$ref": 7}}},
    {"$ref": "#"},
    {"allOf": [{"$ref": "#"}]},
    {"$schema": "https://nowhere.invalid/draft", "properties": {"a": {"type": "string"}}},
    {"properties": {"a": {"$schema": "urn:nothing", "$id": "urn:x", "type": "integer"}}},
    {"properties": {"a": {"pattern": "("}}},
    {"patternProperties": {"(": {}}},
    {"$defs": {"x": {"$anchor": "a"}, "y": {"$anchor": "a"}}, "properties": {"a": {"$ref": "#a"}}},
    {"$dynamicRef": "#nothing"},
    {"items": [{"type": "string"}]},
    {"properties": {"a": {"exclusiveMinimum": True}}},
    {"if": 1},
    {"anyOf": {}},
    {"properties": {"a": {"multipleOf": 0}}},
    {"properties": {"a": {"uniqueItems": True}}},
]


@pytest.mark.parametrize("schema", BROKEN, ids=json.dumps)
def test_a_broken_schema_says_nothing_and_does_no_harm(schema: dict[str, Any]) -> None:
    for value in (1, "a", None, [1, 1], {}, {"a": {}}):
        problems = argument_problems(schema, {"a": value})
        assert isinstance(problems, list)


def test_a_reference_to_another_server_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr("urllib.request.urlopen", lambda *a, **k: calls.append(a))
    argument_problems({"properties": {"a": {"$ref": "http://127.0.0.1:9/x.json"}}}, {"a": 1})
    assert calls == []


DRAFT = "https://json-schema.org/draft/2020-12/schema"


def doubling(depth: int, **more: Any) -> dict[str, Any]:
    """A schema of which a check takes 2**depth steps."""
    defs: dict[str, Any] = {"d0": {"type": "integer"}}
    for n in range(1, depth):
        defs[f"d{n}"] = {"allOf": [{"$ref": f"#/$defs/d{n - 1}"}] * 2, **more}
    return {"properties": {"a": {"$ref": f"#/$defs/d{depth - 1}"}}, "$defs": defs}


def test_the_doubling_schema_works_where_it_is_small() -> None:
    assert argument_problems(doubling(3), {"a": "x"}) == ["`a` must be integer, not string"]


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (doubling(40), 1),
        ({"properties": {"a": {"pattern": "^(a+)+$"}}}, "a" * 40 + "!"),
        ({"properties": {"a": {"$schema": DRAFT, "pattern": "^(a+)+$"}}}, "a" * 40 + "!"),
        (doubling(40, **{"$schema": DRAFT}), 1),
        ({"patternProperties": {"^(a+)+$": {}}, "additionalProperties": False}, "x"),
        ({"properties": {"a": {"uniqueItems": True}}}, [{"n": n} for n in range(20_000)]),
        (
            {"properties": {"a": {"items": {"anyOf": [{"const": n} for n in range(3000)]}}}},
            list(range(3000, 6000)),
        ),
    ],
    ids=[
        "doubling",
        "pattern",
        "pattern of a draft",
        "doubling of a draft",
        "pattern of names",
        "unique",
        "wide",
    ],
)
def test_no_schema_stalls_the_server(schema: dict[str, Any], value: Any) -> None:
    argument_problems({}, {})  # imports
    began = time.monotonic()
    argument_problems(schema, {"a": value, "a" * 40 + "!": 1})
    assert time.monotonic() - began < PATIENCE


def test_the_first_check_is_as_good_as_the_others() -> None:
    """The imports that it needs do not count as its time."""
    code = (
        "from agent_mode.tools import arguments as a; a.SECONDS = 0.02;"
        "print(a.argument_problems({'required': ['city']}, {}))"
    )

    def first_check() -> str:
        line = [sys.executable, "-c", code]
        return subprocess.run(line, capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip()

    # A busy machine may take the time of one; with the imports counted in, none would ever be in time.
    assert "['`city` is missing']" in (first_check() for _ in range(5))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
KEYWORDS = st.sampled_from(
    [
        "type",
        "properties",
        "required",
        "items",
        "enum",
        "const",
        "anyOf",
        "oneOf",
        "allOf",
        "not",
        "$ref",
        "$defs",
        "additionalProperties",
        "minimum",
        "maxLength",
        "minItems",
        "pattern",
        "uniqueItems",
        "if",
        "then",
        "contains",
        "$schema",
        "$id",
        "$anchor",
        "dependentRequired",
    ]
)
WILD = st.recursive(
    st.dictionaries(KEYWORDS, JSON, max_size=4),
    lambda inner: st.dictionaries(KEYWORDS, inner | st.lists(inner, max_size=2) | JSON, max_size=4),
    max_leaves=5,
)


@given(WILD, st.dictionaries(st.text(max_size=3), JSON, max_size=3))
def test_no_schema_raises(schema: Any, arguments: dict[str, Any]) -> None:
    assert isinstance(argument_problems(schema, arguments), list)


# A pydantic model of a schema


def leaves() -> st.SearchStrategy[dict[str, Any]]:
    return st.one_of(
        st.builds(lambda t: {"type": t}, st.sampled_from(["string", "integer", "number", "boolean", "null"])),
        st.builds(
            lambda v: {"enum": v}, st.lists(st.text(max_size=3) | st.integers(), min_size=1, max_size=3)
        ),
        st.builds(lambda v: {"const": v}, st.text(max_size=3)),
        st.builds(lambda a: {"type": "integer", "minimum": a, "default": a}, st.integers(-9, 9)),
        st.just({"type": ["string", "null"], "default": None}),
        st.just({"$ref": "#/$defs/Node"}),
    )


PROPERTY_NAMES = st.sampled_from(
    [
        "city",
        "class",
        "from",
        "a-b",
        "ä",
        "model_config",
        "schema",
        "copy",
        "_private",
        "__x",
        "1st",
        "",
        "self",
        "json",
    ]
)


def objects(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    def build(properties: dict[str, Any], needed: set[str], closed: bool | None) -> dict[str, Any]:
        schema = {"type": "object", "properties": properties, "required": sorted(needed & set(properties))}
        return schema if closed is None else {**schema, "additionalProperties": closed}

    return st.builds(
        build,
        st.dictionaries(PROPERTY_NAMES, inner, max_size=4),
        st.sets(PROPERTY_NAMES, max_size=3),
        st.sampled_from([None, True, False]),
    )


SCHEMAS = objects(
    st.recursive(
        leaves(),
        lambda inner: (
            objects(inner)
            | st.builds(lambda s: {"type": "array", "items": s}, inner)
            | st.builds(lambda s: {"anyOf": s}, st.lists(inner, min_size=1, max_size=3))
            | st.builds(lambda s: {"oneOf": s}, st.lists(inner, min_size=1, max_size=3))
        ),
        max_leaves=6,
    )
).map(
    lambda schema: {
        **schema,
        "$defs": {"Node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}}},
    }
)


@given(SCHEMAS)
def test_a_model_shows_the_very_schema(schema: dict[str, Any]) -> None:
    model = model_from_schema("tool", schema)
    shown = model.model_json_schema()
    assert shown == schema
    shown["properties"]["changed"] = {}
    assert model.model_json_schema() == schema  # each gets its own copy

    passed_on = ToolMetadata("d", "tool", model).get_parameters_dict()
    assert passed_on == {key: value for key, value in schema.items() if key != "additionalProperties"}


@given(st.dictionaries(PROPERTY_NAMES, JSON, max_size=5))
def test_a_model_takes_any_object_and_gives_it_back(arguments: dict[str, Any]) -> None:
    model = model_from_schema("tool", CITY)
    assert model.model_validate(arguments).model_dump() == arguments


@given(SCHEMAS, st.dictionaries(PROPERTY_NAMES, JSON, max_size=4))
def test_schema_and_what_llamaindex_shows_of_it_mean_the_same(
    schema: dict[str, Any], arguments: dict[str, Any]
) -> None:
    assume(
        schema.get("additionalProperties") is not False
    )  # the one keyword that LlamaIndex drops at the top
    shown = ToolMetadata("d", "tool", model_from_schema("tool", schema)).get_parameters_dict()
    assert argument_problems(schema, arguments) == argument_problems(shown, arguments)


def test_what_llamaindex_would_drop_at_the_top_becomes_properties() -> None:
    schema = {
        "type": "object",
        "allOf": [{"$ref": "#/$defs/Base"}, {"properties": {"b": {"type": "integer"}}, "required": ["b"]}],
        "anyOf": [
            {"properties": {"x": {"type": "string"}, "y": {}}, "required": ["x", "y"]},
            {"properties": {"x": {"type": "string"}}, "required": ["x"]},
        ],
        "properties": {"own": {"type": "null"}},
        "$defs": {
            "Base": {
                "properties": {"a": {"type": "string"}},
                "required": ["a"],
                "allOf": [{"$ref": "#/$defs/Base"}],
            }
        },
    }

    shown = model_from_schema("tool", schema).model_json_schema()

    assert shown["type"] == "object"
    assert list(shown["properties"]) == ["own", "a", "b", "x", "y"]
    assert sorted(shown["required"]) == ["a", "b", "x"]
    assert shown["$defs"] == schema["$defs"]


@pytest.mark.parametrize(
    "schema", [{}, {"$ref": "#/$defs/x"}, {"$ref": "#"}, {"$ref": "http://x"}, *BROKEN], ids=json.dumps
)
def test_any_schema_makes_a_model(schema: dict[str, Any]) -> None:
    shown = model_from_schema("tool", schema).model_json_schema()
    assert "type" in shown
    assert "properties" in shown


async def test_llamaindex_calls_a_tool_with_names_that_are_no_python(tmp_path: Any) -> None:
    schema = {"type": "object", "properties": {"a-b": {"type": "string"}, "class": {"type": "integer"}}}

    async def run(**arguments: Any) -> str:
        return json.dumps(arguments)

    tool = FunctionTool.from_defaults(
        async_fn=run, name="odd", description="d", fn_schema=model_from_schema("odd", schema)
    )
    assert tool.metadata.to_openai_tool()["function"]["parameters"] == schema
    output = await tool.acall(**{"a-b": "x", "class": 1})
    assert json.loads(str(output.raw_output)) == {"a-b": "x", "class": 1}
