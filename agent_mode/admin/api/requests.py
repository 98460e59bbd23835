"""What every route reads from a request: the server behind it, who writes, which page, the body.

A route that writes takes `writer: Writing`, and has it record what it did once that is done.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, ValidationError

from agent_mode.admin.api.errors import FormError
from agent_mode.admin.backend import Backend
from agent_mode.chat.runtime import Runtime
from agent_mode.complaints import complaints
from agent_mode.errors import Problem, RequestError
from agent_mode.store.versions import one_line

AUTHOR_HEADER = "X-Agent-Mode-Author"
AUTHOR = "api"
"""Who writes, for the history, where the caller does not say."""
AUTHOR_LIMIT = 80
PAGE_LIMIT = 200
_PAGE = 50
_FAR = 1_000_000_000

Model = TypeVar("Model", bound=BaseModel)


def _backend(request: Request) -> Backend:
    return request.app.state.backend


def _runtime(request: Request) -> Runtime:
    return request.app.state.backend.runtime


@dataclass(frozen=True, slots=True)
class Writer:
    """Who writes over the API.

    Attributes:
        author: the name for the history of what is written, as the caller says it.
    """

    author: str
    runtime: Runtime

    def record(self, action: str, kind: str, target: str, text: str = "") -> None:
        """Have a write recorded, once it is done. Arguments: as of `AuditStore.put`."""
        self.runtime.audit.put(self.author, action, kind, target, text, way="api")


def _writer(request: Request) -> Writer:
    return Writer(_author(request), _runtime(request))


def _author(request: Request) -> str:
    raw = request.headers.get(AUTHOR_HEADER)
    if raw is None:
        return AUTHOR
    try:
        text = raw.encode("latin-1").decode().strip()
    except UnicodeError:
        text = raw.strip()
    if not text or len(text) > AUTHOR_LIMIT or not text.isprintable():
        raise RequestError(
            f"{AUTHOR_HEADER} is no name.",
            hint=f"Send who writes in 1 to {AUTHOR_LIMIT} printable characters, or leave it out.",
            field=AUTHOR_HEADER,
        )
    return text


async def _body(request: Request) -> Any:
    raw = await request.body()
    if not raw.strip():
        return None
    try:
        return json.loads(raw.decode())
    except (ValueError, RecursionError) as error:
        raise RequestError(
            f"The request body is not JSON: {error}.", hint="Send a JSON object in UTF-8.", field="body"
        ) from error


Server = Annotated[Backend, Depends(_backend)]
Running = Annotated[Runtime, Depends(_runtime)]
Writing = Annotated[Writer, Depends(_writer)]
Body = Annotated[Any, Depends(_body)]
"""The JSON of the body; None if there is none. What it must hold, each route says in `takes`."""
Offset = Annotated[int, Query(ge=0, le=_FAR, description="How many to leave out")]
Limit = Annotated[int, Query(ge=1, le=PAGE_LIMIT, description="How many to return at most")]
LIMIT = _PAGE


class RollbackForm(BaseModel):
    """Which version becomes the newest again."""

    model_config = ConfigDict(extra="forbid")

    version: StrictInt | StrictStr = Field(description="Its number (3) or label (1.0.2)")


def read(model: type[Model], body: Any) -> Model:
    """The body as an instance of a model.

    Raises:
        FormError: all that is wrong with it, by field.
    """
    try:
        return model.model_validate(as_object(body))
    except ValidationError as error:
        # Not chained: the input may hold a secret.
        found = error.errors(include_url=False, include_input=False)
    meanings = {name: field.description for name, field in model.model_fields.items() if field.description}
    told = complaints(found, known=model.model_fields, meanings=meanings)
    problems = [Problem(entry.field or "body", f"{entry.message}.", entry.hint) for entry in told]
    raise FormError("The request cannot be used", problems=problems)


def as_object(body: Any) -> dict[str, Any]:
    """The body, which must be a JSON object.

    Raises:
        FormError: it is not.
    """
    if not isinstance(body, dict):
        found = "missing" if body is None else "not a JSON object"
        raise FormError(
            "The request cannot be used",
            problems=[Problem("body", f"The body is {found}.", "Send a JSON object.")],
        )
    return body


def writable(body: Any, read_only: Collection[str]) -> dict[str, Any]:
    """The body without what an answer tells and no input changes, so that what was read can be sent back.

    Raises:
        FormError: it is no JSON object.
    """
    return {name: value for name, value in as_object(body).items() if name not in read_only}


def number_of(sent: Any, field: str = "version") -> int:
    """The number of a version that is given as its number (3) or as its label ("1.0.2").

    Raises:
        FormError: it is neither.
    """
    version = sent
    if isinstance(sent, str):
        text = sent.strip().removeprefix("v")
        base, _, last = text.rpartition(".")
        if last.isascii() and last.isdecimal() and len(last) < 10 and base in ("", "1.0"):
            version = int(last) + (1 if base else 0)
    if isinstance(version, bool) or not isinstance(version, int) or not 1 <= version <= 2**31 - 1:
        hint = "Send the number or the label of a version, as the list of versions shows them."
        shown = sent if isinstance(sent, str) else json.dumps(sent)
        problem = Problem(field, f"“{one_line(shown, 40)}” is no version.", hint)
        raise FormError("The request cannot be used", problems=[problem])
    return version


def seen_version(form: dict[str, Any]) -> int:
    """Takes `version` out of a form: the version that its author has seen.

    Raises:
        FormError: it is missing, or no version.
    """
    version = form.pop("version", None)
    if version is None:
        hint = "Send the `version` that you have read, so that nobody's change is lost."
        problem = Problem("version", "This field is missing.", hint)
        raise FormError("The request cannot be used", problems=[problem])
    return number_of(version)


def takes(schema: dict[str, Any], **examples: Any) -> dict[str, Any]:
    """The OpenAPI of a route's body, which the route reads itself, so that it can say all that is wrong.

    Args:
        schema: JSON schema of the body.
        examples: bodies by name.
    """
    named = {name: {"value": value} for name, value in examples.items()}
    content = {"schema": schema} | ({"examples": named} if named else {})
    return {"requestBody": {"required": True, "content": {"application/json": content}}}
