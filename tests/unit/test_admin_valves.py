"""Valves of any pipeline as a form: what is secret, what changed, and what would be put right in silence."""

from __future__ import annotations

from enum import StrEnum
from types import SimpleNamespace
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field, SecretStr, field_validator

from agent_mode.admin import valves as forms
from agent_mode.errors import ConfigurationError, DefinitionError, RequestError, StoreError
from agent_mode.server import pipeline_valves, upstream
from agent_mode.valves import MASK, PersonaValves

KEY = "sk-of-the-weather-1234567890"


class Unit(StrEnum):
    C = "celsius"
    K = "kelvin"


class Weather(BaseModel):
    """Valves of somebody else."""

    API_KEY: str = KEY
    max_tokens: str = "5"
    days: int = Field(default=3, ge=1, le=7)
    unit: Unit = Unit.C
    mode: Literal["now", "later"] = "now"
    stations: list[str] = Field(default_factory=lambda: ["a"])
    system_prompt: str = "Say it."
    note: str | None = None
    must: float

    @field_validator("note")
    @classmethod
    def _odd(cls, note: str | None) -> str | None:
        if note == "boom":
            raise RuntimeError("a validator of others")
        return note


class Locked(BaseModel):
    key: SecretStr = SecretStr("hidden")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Upstream's table, and its route, which writes whatever it is given."""
    pipelines: dict[str, Any] = {
        "weather": SimpleNamespace(name="Weather", valves=Weather(must=1.5)),
        "locked": SimpleNamespace(valves=Locked()),
        "bare": SimpleNamespace(),
        "ours": SimpleNamespace(name="", type="manifold", valves=PersonaValves.model_validate({})),
    }

    async def save(pipeline_id: str, values: Any) -> None:
        pipelines[pipeline_id].valves = type(pipelines[pipeline_id].valves)(**values)

    monkeypatch.setattr(upstream, "pipelines", lambda: pipelines)
    monkeypatch.setattr(upstream, "save_valves", save)
    return pipelines


@pytest.mark.parametrize(
    ("name", "schema", "secret"),
    [
        ("API_KEY", {"type": "string"}, True),
        ("openaiApiKey", {"type": "string"}, True),
        ("llm_api_key", {"anyOf": [{"type": "string"}, {"type": "null"}]}, True),
        ("password", {"type": "string"}, True),
        ("ACCESS_TOKEN", {"type": "string"}, True),
        ("anything", {"type": "string", "format": "password", "writeOnly": True}, True),
        ("anything", {"type": "string", "input": {"type": "password"}}, True),
        ("anything", {"type": "string", "secret": True}, True),
        ("max_tokens", {"type": "integer"}, False),
        ("max_tokens", {"type": "string"}, False),
        ("token", {"type": "integer"}, False),
        ("keyword_prefix", {"type": "string"}, False),
        ("monkey", {"type": "string"}, False),
        ("key_file", {"type": "string"}, False),
        ("", {}, False),
    ],
)
def test_what_is_secret(name: str, schema: dict[str, Any], secret: bool) -> None:
    assert forms.is_secret(name, schema) is secret


def test_a_form_shows_no_secret_and_what_is_default(server: dict[str, Any]) -> None:
    form = pipeline_valves.form_of("weather")

    assert KEY not in repr(form)
    assert form.values["API_KEY"] == f"{MASK}7890"
    assert form.secrets == {"API_KEY"}
    assert form.changed == []
    assert form.entered() == {"API_KEY": f"{MASK}7890", "must": 1.5}
    assert form.schema["required"] == ["must"]
    properties = form.schema["properties"]
    assert properties["API_KEY"]["secret"] is True
    assert properties["system_prompt"]["format"] == "textarea"
    assert (properties["stations"]["default"], properties["unit"]["default"]) == (["a"], "celsius")


async def test_secrets_are_kept_replaced_and_reset(server: dict[str, Any]) -> None:
    kept = await pipeline_valves.save(
        "weather", {"API_KEY": f"{MASK}7890", "must": "2", "days": 7}, "ada", None
    )
    assert server["weather"].valves == Weather(must=2.0, days=7)
    assert kept.changed == ["days"]

    await pipeline_valves.save("weather", {"API_KEY": "sk-another", "must": 2}, "ada", None)
    assert server["weather"].valves.API_KEY == "sk-another"
    assert server["weather"].valves.days == 3, "what is left out is as by default"
    await pipeline_valves.save("weather", {"API_KEY": MASK, "must": 2}, "ada", None)
    assert server["weather"].valves.API_KEY == "sk-another"

    await pipeline_valves.save("weather", {"must": 2}, "ada", None)
    assert server["weather"].valves.API_KEY == KEY


async def test_wrong_values_are_told_by_name_and_change_nothing(server: dict[str, Any]) -> None:
    before = server["weather"].valves.model_copy()
    with pytest.raises(DefinitionError) as refused:
        await pipeline_valves.save("weather", {"days": 99, "unit": "foot", "must": None}, "ada", None)
    assert {problem.field for problem in refused.value.problems} == {"days", "unit", "must"}
    with pytest.raises(DefinitionError, match="RuntimeError"):
        await pipeline_valves.save("weather", {"note": "boom", "must": 1}, "ada", None)
    with pytest.raises(RequestError):
        await pipeline_valves.save("weather", {"note": "\ud800", "must": 1}, "ada", None)
    assert server["weather"].valves == before


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"max_steps": 99}, "max_steps"),
        ({"max_steps": "many"}, "max_steps"),
        ({"keyword_prefix": "abc"}, "keyword_prefix"),
        ({"history_policy": "never"}, "history_policy"),
        ({"unknown": 1}, "unknown"),
    ],
)
async def test_ours_refuse_what_they_would_put_right_in_silence(
    server: dict[str, Any], values: dict[str, Any], field: str
) -> None:
    with pytest.raises(DefinitionError) as refused:
        await pipeline_valves.save("ours", values, "ada", None)
    assert [problem.field for problem in refused.value.problems] == [field]


async def test_ours_take_all_notations_of_a_value(server: dict[str, Any]) -> None:
    values = {"max_steps": "7", "keyword_prefix": " ~ ", "show_persona_info": False, "models": ""}
    saved = await pipeline_valves.save("ours", values, "ada", None)
    assert sorted(saved.changed) == ["keyword_prefix", "max_steps", "show_persona_info"]


async def test_what_the_server_could_not_keep_never_gets_to_it(server: dict[str, Any]) -> None:
    """It would leave half a file, and not start with it again."""
    assert "hidden" not in repr(pipeline_valves.form_of("locked"))
    with pytest.raises(ConfigurationError) as refused:
        await pipeline_valves.save("locked", {"key": "new"}, "ada", None)
    assert refused.value.code == "valves_unstorable"
    assert server["locked"].valves.key.get_secret_value() == "hidden"


async def test_somebody_else_was_faster(server: dict[str, Any]) -> None:
    seen = pipeline_valves.form_of("weather").mark
    server["weather"].valves = Weather(must=9)
    with pytest.raises(StoreError) as refused:
        await pipeline_valves.save("weather", {"must": 1}, "ada", seen)
    assert refused.value.code == "stale_version"
    await pipeline_valves.save("weather", {"must": 1}, "ada", None)


def test_without_valves(server: dict[str, Any]) -> None:
    for pipeline_id, code in (("bare", "no_valves"), ("nobody", "pipeline_not_found")):
        with pytest.raises((ConfigurationError, RequestError)) as refused:
            pipeline_valves.form_of(pipeline_id)
        assert refused.value.code == code
    infos = {info.id: info for info in pipeline_valves.page(0, 100)[0]}
    assert infos["bare"].editable is False
    assert (infos["ours"].name, infos["ours"].kind) == ("ours", "manifold")


def test_the_list_comes_in_pages(server: dict[str, Any]) -> None:
    server |= {f"p{n:02}": SimpleNamespace(name=f"Pump {n}", type="filter") for n in range(20)}

    def ids(*given: Any) -> tuple[list[str], int]:
        found, total = pipeline_valves.page(*given)
        return [info.id for info in found], total

    everyone, total = ids(0, 100)
    assert total == len(everyone) == len(server)
    assert ids(0, 5)[0] + ids(5, 100)[0] == everyone
    assert ids(0, 2, "PUMP 1", "filter") == (["p01", "p10"], 11)
    assert ids(0, 9, "p07") == (["p07"], 1)
    assert ids(0, 9, "pump", "agent") == ([], 0)
