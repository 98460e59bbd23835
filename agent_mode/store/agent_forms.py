"""What a person or a program may say about an agent, and the rules for it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StringConstraints,
    ValidationError,
)
from pydantic_core import PydanticCustomError

from agent_mode.complaints import complaints
from agent_mode.errors import DefinitionError, Problem
from agent_mode.store.extras import Extras
from agent_mode.store.forms import RESERVED_KEYS, json_hash
from agent_mode.store.versions import one_line

RESERVED_IDS = RESERVED_KEYS | frozenset(
    {"personas", "hotswap", "persona", "agents", "runs", "models", "model", "pipelines", "valves", "chat"}
    | {"v1", "api", "admin", "metrics", "healthz", "readyz", "docs", "redoc", "openapi", "static", "new"}
)
"""Words that are commands, models, pipelines or paths already."""

CONTENT_FIELDS = (
    "name",
    "description",
    "agent_type",
    "definition",
    "valves",
    "enabled",
    "access",
    "tags",
)
"""What a version of an agent holds: all but its id."""

Access = Literal["openwebui", "everyone"]
"""Who may use an agent: whom Open WebUI lets, or all users."""

_ID = re.compile(r"[a-z0-9][a-z0-9_-]{1,63}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_CONTROL_IN_TEXT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_PROBLEMS_SHOWN = 50

_HINTS = {
    "id": "Write a short word such as weather-report; models and addresses are named after it.",
    "name": "Write what people shall see in the list of models, in 1 to 200 characters.",
    "description": "Say in at most 4000 characters what it is good for.",
    "agent_type": "Write the name of an agent type, such as persona.",
    "definition": "Write a JSON object of at most 1 MiB, with the fields of the agent type.",
    "valves": "Write a JSON object with the valves of the agent type.",
    "enabled": "Write true or false.",
    "access": "Write openwebui (whom Open WebUI lets) or everyone (all users).",
    "tags": "Write a list of at most 20 words of at most 50 characters each.",
}


def _id(text: str) -> str:
    if not _ID.fullmatch(text):
        raise PydanticCustomError(
            "agent_id",
            "must be 2 to 64 characters of a-z, 0-9, '-' and '_', and begin with a letter or digit",
        )
    if text in RESERVED_IDS:
        raise PydanticCustomError("agent_id_reserved", "'{id}' is reserved", {"id": text})
    return text


def _line(text: str) -> str:
    if _CONTROL.search(text):
        raise PydanticCustomError("agent_line", "must be one line without control characters")
    return text


def _text(text: str) -> str:
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if _CONTROL_IN_TEXT.search(text):
        raise PydanticCustomError("agent_text", "must not contain control characters")
    return text


def _once(tags: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(tags))


_Tag = Annotated[str, Field(min_length=1, max_length=50), AfterValidator(_line)]


class AgentForm(BaseModel):
    """An agent as input: from the API, the admin page or a file. White space around texts is cut.

    What its definition and valves mean is for the engine of its type to judge.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, str_strip_whitespace=True, hide_input_in_errors=True
    )

    id: Annotated[str, AfterValidator(_id)]
    """The model's id; does not change."""
    name: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_line)]
    description: Annotated[str, Field(max_length=4_000), AfterValidator(_text)] = ""
    agent_type: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
    definition: Extras = Field(default={}, repr=False)
    valves: Extras = Field(default={}, repr=False)
    enabled: StrictBool = True
    access: Access = "openwebui"
    tags: Annotated[tuple[_Tag, ...], Field(max_length=20), AfterValidator(_once)] = ()

    @classmethod
    def parse(cls, values: object) -> Self:
        """The form of a JSON value.

        Raises:
            DefinitionError: all that is wrong with it, by field.
        """
        if not isinstance(values, Mapping):
            raise DefinitionError.of(
                [
                    Problem(
                        "agent",
                        "This is not a JSON object.",
                        f"The fields are {', '.join(cls.model_fields)}.",
                    )
                ]
            )
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            # Not chained: whatever logs the cause must not show the input, which may hold a secret.
            found = error.errors(include_url=False, include_input=False)
        told = complaints(found[:_PROBLEMS_SHOWN], known=cls.model_fields, hints=_HINTS)
        raise DefinitionError.of(
            [
                Problem(".".join(one_line(part, 80) for part in entry.path), f"{entry.message}.", entry.hint)
                for entry in told
            ]
        )


def content(source: object) -> dict[str, Any]:
    """The content fields of a form or an agent, as JSON has them."""
    values = {field: getattr(source, field) for field in CONTENT_FIELDS}
    return values | {"tags": list(values["tags"])}


def content_hash(source: object) -> str:
    """SHA-256 in hex over the content fields as canonical JSON; equal for equal content."""
    return json_hash(content(source))


def searched(agent_id: str, values: Mapping[str, Any]) -> str:
    """What a search looks through. Folded here, because databases fold only the letters of English."""
    return "\n".join((agent_id, values["name"], values["description"])).casefold()
