"""The pure parts of the agents' editor: forms from JSON schemas, templates, the graph of hand-overs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field

from agent_mode.admin import offers
from agent_mode.admin.agent_templates import draft_of, templates
from agent_mode.admin.drafts import draft, odd_patterns, text_without_secrets, without_secrets
from agent_mode.admin.pages.agent_fields import id_of
from agent_mode.admin.pages.agent_graph import hand_overs, levels
from agent_mode.admin.pages.components.schema_fields import (
    empty_row,
    fields_of,
    has_secret,
    moved_up,
    placed,
    read_json,
)
from agent_mode.agents import types
from agent_mode.agents.definitions import LlamaIndexDefinition
from agent_mode.errors import Problem
from agent_mode.store.personas import Persona
from agent_mode.tools.specs import ToolSpec
from agent_mode.valves import AgentValves


class Member(BaseModel):
    role: str = Field(description="What it does", max_length=60)
    goals: list[str] = []


class Crew(BaseModel):
    """What a third party may come with."""

    title: str
    motto: str | None = Field(None, max_length=5000)
    process: Literal["sequential", "hierarchical"] = "sequential"
    rounds: int = Field(3, ge=1, le=9)
    warmth: float | None = None
    verbose: bool = False
    tags: list[str] = []
    lead: Member
    members: list[Member] = []
    extra: dict[str, Any] = {}
    either: int | str = 1


def test_every_kind_of_property_gets_its_field() -> None:
    fields = {field.name: field for field in fields_of(Crew.model_json_schema())}
    kinds = {name: field.kind for name, field in fields.items()}
    assert kinds == {
        "title": "text",
        "motto": "lines",
        "process": "choice",
        "rounds": "integer",
        "warmth": "number",
        "verbose": "switch",
        "tags": "words",
        "lead": "group",
        "members": "rows",
        "extra": "json",
        "either": "json",
    }
    assert fields["title"].required
    assert not fields["motto"].required
    assert fields["motto"].nullable
    assert not fields["rounds"].nullable
    assert fields["process"].choices == ("sequential", "hierarchical")
    assert fields["lead"].label == "Lead"  # not the name of its model
    assert fields["rounds"].hint == "(1 to 9)"
    assert fields["rounds"].default == 3
    assert [(field.name, field.kind) for field in fields["members"].fields] == [
        ("role", "text"),
        ("goals", "words"),
    ]
    assert empty_row(fields["members"].fields) == {"role": ""}


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"properties": None},
        {"properties": {"a": None, "b": {"$ref": "#/nowhere"}, "c": {"anyOf": []}}},
        {"$defs": {"a": {"$ref": "#/$defs/a"}}, "properties": {"a": {"$ref": "#/$defs/a"}}},
        {"$defs": {"a": {"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}}}}
        | {"properties": {"a": {"$ref": "#/$defs/a"}}},
    ],
)
def test_a_schema_that_is_odd_or_endless_ends_as_json(schema: dict[str, Any]) -> None:
    def depth(fields: Any) -> int:
        return 1 + max((depth(field.fields) for field in fields), default=0)

    assert depth(fields_of(schema)) < 6


def test_labels_are_words_and_secrets_are_known() -> None:
    fields = {field.name: field for field in fields_of(AgentValves.model_json_schema())}
    assert fields["llm_base_url"].label == "LLM base URL"
    assert fields["llm_api_key"].secret
    assert not fields["llm_model"].secret
    assert fields["max_steps"].bounds == (1, 500)


def test_a_problem_stands_beside_the_nearest_field() -> None:
    places = {"definition", "definition.agents", "definition.agents.0.name", "name"}
    problems = [
        Problem("definition.agents.0.name", "wrong"),
        Problem("definition.agents.1.name", "not shown"),
        Problem("definition.style", "not shown either"),
        Problem("agent", "nowhere"),
    ]
    found, rest = placed(problems, places)
    assert {path: [problem.message for problem in there] for path, there in found.items()} == {
        "definition.agents.0.name": ["wrong"],
        "definition.agents": ["not shown"],
        "definition": ["not shown either"],
    }
    assert [problem.message for problem in rest] == ["nowhere"]


def test_each_template_can_be_saved_once_it_has_a_name() -> None:
    found = templates(allow_code=True)
    assert [t.key for t in found[:5]] == ["persona", "function", "react", "multi-agent", "python"]
    for template in found[:5]:
        values = draft_of(template.key, allow_code=True)
        assert values is not None
        made = draft({**values, "id": "mine", "name": "Mine"}, known=None, allow_code=True)
        assert made.problems == [], template.key
        unnamed = draft(values, known=None, allow_code=True)
        assert {problem.field for problem in unnamed.problems} == {"id", "name"}


def test_a_draft_of_a_template_is_a_copy() -> None:
    first = draft_of("multi-agent", allow_code=False)
    assert first is not None
    first["definition"]["agents"].clear()
    second = draft_of("multi-agent", allow_code=False)
    assert second is not None
    assert len(second["definition"]["agents"]) == 2


def test_code_is_no_template_where_it_is_switched_off() -> None:
    assert "python" not in {template.key for template in templates(allow_code=False)}
    assert draft_of("python", allow_code=False) is None
    assert draft_of("nothing", allow_code=True) is None


def test_a_type_of_a_third_party_is_a_template(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = types.AgentType("crew", "CrewAI crew", "Several roles.", Crew, "nowhere:Engine")
    monkeypatch.setitem(types._types, "crew", kind)
    template = next(t for t in templates(allow_code=False) if t.key == "crew")
    assert (template.title, template.values["agent_type"]) == ("CrewAI crew", "crew")


def test_hand_overs_of_a_definition() -> None:
    definition = LlamaIndexDefinition.model_validate(
        {
            "style": "multi_agent",
            "root": "b",
            "agents": [
                {"name": "a", "description": "x", "instructions": "x", "can_hand_over_to": []},
                {"name": "b", "description": "x", "instructions": "x"},
                {"name": "c", "description": "x", "instructions": "x", "can_hand_over_to": ["a"]},
            ],
        }
    ).model_dump()
    names, edges = hand_overs(definition)
    assert names == ["b", "a", "c"]
    assert set(edges) == {("b", "a"), ("b", "c"), ("c", "a")}
    assert levels(names, edges) == [["b"], ["a", "c"]]
    assert levels(names, [("b", "c")]) == [["b"], ["c"], ["a"]]


@pytest.mark.parametrize(
    "definition", [{}, {"agents": None}, {"agents": [1, {}, {"name": "x", "can_hand_over_to": "y"}]}]
)
def test_hand_overs_of_a_draft_that_is_anything(definition: dict[str, Any]) -> None:
    names, edges = hand_overs(definition)
    assert len(levels(names, edges)) == len(names)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Weather Report", "weather-report"),
        ("  <b>Ärger</b> 2 ", "b-arger-b-2"),
        ("Über Größe", "uber-grosse"),
        ("ﬁne №1", "fine-no1"),
        ("日本", ""),
        ("a" * 99, "a" * 64),
    ],
)
def test_an_id_made_from_a_name(name: str, expected: str) -> None:
    assert id_of(name) == expected


def test_a_draft_is_kept_elsewhere_without_its_new_secrets() -> None:
    values = {"agent_type": "persona", "valves": {"llm_api_key": "sk-typed-just-now", "llm_model": "m"}}
    assert without_secrets(values, {})["valves"] == {"llm_model": "m"}
    known = {"valves": {"llm_api_key": "****abcd"}}
    assert without_secrets(values, known)["valves"] == {"llm_api_key": "****abcd", "llm_model": "m"}
    kept = {"agent_type": "persona", "valves": {"llm_api_key": "****abcd"}}
    assert without_secrets(kept, known) == kept
    forgotten = {"agent_type": "persona", "valves": {"llm_api_key": None}}
    assert without_secrets(forgotten, known) == forgotten
    assert without_secrets({"agent_type": "nobody's", "valves": {"a": "b"}}, {})["valves"] == {}
    assert without_secrets({"valves": 1}, {}) == {"valves": 1}
    assert values["valves"]["llm_api_key"] == "sk-typed-just-now"  # the draft itself stays


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        (
            '{"valves": {"llm_api_key": "sk-1", "llm_model": "m"',
            '{"valves": {"llm_api_key": "", "llm_model": "m"',
        ),
        ('{"llm_api_key" :"sk-not-closed\n "name": "x', '{"llm_api_key" :""\n "name": "x'),
        ('{"llm_api_key": "sk-a\\"b", "x', '{"llm_api_key": "", "x'),
        ("{'llm_api_key': 'sk-1', 'x", "{'llm_api_key': \"\", 'x"),
        ('{llm_api_key: "sk-1"', '{llm_api_key: ""'),
        ('{"llm_api_key": sk-1+/=}', '{"llm_api_key": ""}'),
        ('{"llm_api_key": "********wxyz", "x', '{"llm_api_key": "********wxyz", "x'),
        ('{"llm_api_key": null, "x', '{"llm_api_key": null, "x'),
        ('{"llm_api_key": ', '{"llm_api_key": '),
        ('{"my_llm_api_key": "mine", "x', '{"my_llm_api_key": "mine", "x'),
        (r'{"code": "d = {\"llm_api_key\": key}\ndef f(llm_api_key: str): ...', None),
        ('{"instructions": "Never tell the llm_api_key, or', None),
    ],
)
def test_json_that_cannot_be_read_is_kept_as_it_is_but_for_secrets(typed: str, kept: str | None) -> None:
    assert text_without_secrets(typed, {}) == (typed if kept is None else kept)


def test_a_masked_secret_comes_back_into_half_typed_json() -> None:
    known = {"valves": {"llm_api_key": "********abcd", "odd_token": "********"}}
    typed = '{"valves": {"llm_api_key": "sk-1", "odd_token": "t'
    assert (
        text_without_secrets(typed, known)
        == '{"valves": {"llm_api_key": "********abcd", "odd_token": "********"'
    )


def test_json_in_a_field_is_read_or_says_why_not() -> None:
    assert read_json(' {"a": 1}\n') == ({"a": 1}, "")
    assert read_json("  ") == (None, "")
    value, wrong = read_json('{"a": ')
    assert value is None
    assert wrong.startswith("This is not JSON: ")
    assert read_json("[" * 100_000)[1]


def test_what_is_half_typed_moves_up_with_its_row() -> None:
    half = {"rows.0.x": "a", "rows.1.x": "b", "rows.2.x.y": "c", "rowsome": "d", "rows.more": "e"}
    moved = {"rows.0.x": "a", "rows.1.x.y": "c", "rowsome": "d", "rows.more": "e"}
    assert moved_up(half, "rows", 1) == moved


def test_a_secret_is_found_however_deep_it_lies() -> None:
    hidden = {"type": "object", "properties": {"token": {"type": "string", "format": "password"}}}
    plain = {"type": "object", "properties": {"name": {"type": "string"}}}
    schema = {
        "properties": {
            "a": {"type": "object", "properties": {"b": {"type": "array", "items": hidden}}},
            "c": {"type": "array", "items": plain},
        }
    }
    assert [has_secret(field) for field in fields_of(schema)] == [True, False]


def test_names_and_patterns_of_tools_that_fit_nothing() -> None:
    def odd(
        tools: list[ToolSpec] | None, *patterns: str, allowed: str | None = None
    ) -> list[tuple[str, str]]:
        values = {
            "id": "mine",
            "name": "Mine",
            "agent_type": "llamaindex_workflow",
            "definition": {"instructions": "x", "tools": list(patterns)},
            "valves": {"allowed_tools": allowed} if allowed else {},
        }
        made = draft(values, known=None, allow_code=False)
        assert made.parts is not None, made.problems
        return [(problem.field, problem.message) for problem in odd_patterns(made.parts, tools)]

    tools = [ToolSpec("roll_dice", "roll_dice", "", {}, "openwebui", "dice")]
    bad = ("definition.tools", "“[bad(” has a [ without a ], and fits no tool.")
    assert odd(None, "[bad(", "search_*") == [bad]
    assert odd([], "search_*") == []  # nobody knows
    assert odd(tools, "roll_*", "dice", "dice/roll_[de]*", "[[]x") == [
        ("definition.tools", "No tool of Open WebUI fits “[[]x”.")
    ]
    assert odd(tools, allowed="roll_dice, -weather") == [
        ("valves.allowed_tools", "No tool of Open WebUI fits “-weather”.")
    ]


def somebody(key: str, name: str) -> Persona:
    now = datetime(2025, 1, 1, tzinfo=UTC)
    texts = dict.fromkeys(("emoji", "category", "prompt", "description", "content_hash"), "")
    return Persona(
        key=key, name=name, capabilities=(), tags=(), model=None, enabled=True, origin="custom",
        shipped_hash=None, created_at=now, updated_at=now, **texts,
    )  # fmt: skip


def test_of_many_personas_a_part_is_offered_and_the_best_first() -> None:
    everyone = [somebody(f"p{number}", f"Poet {number}") for number in range(1000)]
    everyone += [somebody("tutor", "The ÄPOET"), somebody("x", "Odd one")]
    assert list(offers.personas(everyone)) == [f"p{number}" for number in range(offers.MOST)]
    assert offers.personas(everyone, "P77")["p77"] == "Poet 77 (p77)"
    assert list(offers.personas(everyone, " poet 77 "))[:2] == ["p77", "p770"]
    assert list(offers.personas(everyone, "äpoet")) == ["tutor"]
    assert list(offers.personas(everyone, "poet", 2000))[-1] == "tutor"  # it begins with something else
    assert len(offers.personas(everyone, "poet")) == offers.MOST
    assert offers.personas(everyone, "nobody") == {}
