"""What pydantic complains about, in our words: nobody ever reads those of a library."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, ValidationError, field_validator

from agent_mode.agents.types import all_types
from agent_mode.complaints import complaints
from agent_mode.errors import DefinitionError
from agent_mode.settings import Settings, variable_of
from agent_mode.store.agent_forms import AgentForm
from agent_mode.store.forms import PersonaForm, problems

JUNK: list[Any] = [None, True, -1, 10**30, 1.5, float("inf"), "", "abc", "\x00", "x" * 200_000, [], [[]], {}]
LIBRARY = ("Input should", "should", "valid dictionary", "instance of", "unable to", "Field required")


class Inner(BaseModel):
    size: int = Field(ge=1)


class Thing(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=5)]
    inner: Inner | None = None
    numbers: tuple[int, ...] = ()
    kind: Literal["a", "b"] = "a"
    word: str = Field("x", pattern="^x+$")
    share: float = Field(0.5, gt=0, lt=1)
    day: date | None = None
    on: bool = False
    version: StrictInt | StrictStr = 1

    @field_validator("word")
    @classmethod
    def _no(cls, text: str) -> str:
        if text == "xx":
            raise ValueError("two of them do not do.")
        return text


def told(values: Any, **more: Any) -> dict[str, tuple[str, str]]:
    with pytest.raises(ValidationError) as caught:
        Thing.model_validate(values)
    return {c.field: (c.message, c.hint) for c in complaints(caught.value.errors(), **more)}


@pytest.mark.parametrize(
    ("values", "field", "message"),
    [
        ({}, "name", "This field is missing"),
        ({"name": ""}, "name", "This must not be empty"),
        ({"name": "abcdef"}, "name", "This may have 5 characters at most"),
        ({"name": 5}, "name", "This must be a text"),
        ({"name": "a", "nme": 1}, "nme", "This field is not known"),
        ({"name": "a", "inner": []}, "inner", "This must be a JSON object"),
        ({"name": "a", "inner": {"size": "x"}}, "inner.size", "This must be a whole number"),
        ({"name": "a", "inner": {"size": 0}}, "inner.size", "This must be at least 1"),
        ({"name": "a", "numbers": "x"}, "numbers", "This must be a list"),
        ({"name": "a", "numbers": [1.5]}, "numbers.0", "This must be a whole number"),
        ({"name": "a", "kind": "c"}, "kind", "This must be a or b"),
        ({"name": "a", "word": "y"}, "word", "This does not have the form that is asked for"),
        ({"name": "a", "word": "xx"}, "word", "Two of them do not do"),
        ({"name": "a", "share": 1}, "share", "This must be less than 1.0"),
        ({"name": "a", "day": "soon"}, "day", "This must be a date"),
        ({"name": "a", "on": "perhaps"}, "on", "This must be true or false"),
        ({"name": "a", "version": {}}, "version", "This must be a whole number or a text"),
        ([], "", "This must be a JSON object"),
    ],
)
def test_each_error_is_a_sentence_of_ours(values: Any, field: str, message: str) -> None:
    assert told(values)[field][0] == message


def test_who_names_an_unknown_field_is_told_the_known_ones() -> None:
    assert told({"name": "a", "nme": 1}, known=["name", "kind"])["nme"][1] == "Known: name, kind."
    assert told({"name": 1}, hints={"name": "Write a name."})["name"][1] == "Write a name."
    assert told({}, meanings={"name": "what it is called"})["name"][1] == "Add it: what it is called."


def _errors_of(values: Any) -> list[str]:
    found: list[str] = []
    try:
        PersonaForm.model_validate(values)
    except ValidationError as error:
        found += [f"{entry.message} {entry.hint}" for entry in problems(error)]
    for model in (AgentForm, *(kind.definition for kind in all_types().values())):
        try:
            model.model_validate(values)
        except ValidationError as error:
            found += [entry.message for entry in complaints(error.errors())]
    try:
        AgentForm.parse(values)
    except DefinitionError as error:
        found += [f"{problem.message} {problem.hint}" for problem in error.problems]
    return found


@pytest.mark.parametrize("junk", JUNK, ids=lambda junk: repr(junk)[:20])
def test_no_form_answers_in_the_words_of_a_library(junk: Any) -> None:
    names = {*PersonaForm.model_fields, *AgentForm.model_fields}
    for kind in all_types().values():
        names |= kind.definition.model_fields.keys()
    for values in (junk, dict.fromkeys(names, junk), dict.fromkeys(PersonaForm.model_fields, junk)):
        for text in _errors_of(values):
            assert not any(word in text for word in LIBRARY), text


def test_a_setting_is_named_as_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "abc")
    monkeypatch.setenv("AGENT_MODE_MAX_BODY_MB", "0")
    monkeypatch.setenv("AGENT_MODE_DEBUG", "perhaps")
    with pytest.raises(ValidationError) as caught:
        Settings()  # pyright: ignore[reportCallIssue]
    found = {variable_of(c.field): c.message for c in complaints(caught.value.errors())}
    assert found == {
        "PORT": "This must be a whole number",
        "AGENT_MODE_MAX_BODY_MB": "This must be at least 1",
        "AGENT_MODE_DEBUG": "This must be true or false",
    }
