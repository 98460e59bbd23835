"""Valves of the pipelines on this server, for the Agents page: read, checked, and saved as over HTTP."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import to_jsonable_python

from agent_mode.admin import valves as forms
from agent_mode.admin.valves import PipelineInfo, ValveForm
from agent_mode.complaints import complaints
from agent_mode.errors import ConfigurationError, DefinitionError, Problem, RequestError, StoreError
from agent_mode.server import upstream
from agent_mode.server.native import KeptPipeline, NativePipeline
from agent_mode.valves import Valves


def page(offset: int, limit: int, word: str = "", kind: str = "") -> tuple[list[PipelineInfo], int]:
    """Some of the pipelines, and how many fit in all: files first, then agents, each in order of their names.

    Args:
        offset, limit: which part of them.
        word: part of the id or the name, in whichever case.
        kind: of `PipelineInfo`; empty: any.
    """
    word = word.lower()
    found: list[tuple[tuple[bool, bool, str, str], Any]] = []
    for pipeline_id, pipeline in upstream.pipelines().items():
        name, its_kind = _name(pipeline_id, pipeline).lower(), _kind(pipeline)
        if (not kind or its_kind == kind) and (word in pipeline_id.lower() or word in name):
            place = (its_kind == "agent", not isinstance(pipeline, NativePipeline), name, pipeline_id)
            found.append((place, pipeline))
    found.sort(key=lambda entry: entry[0])
    return [_info(place[-1], pipeline) for place, pipeline in found[offset : offset + limit]], len(found)


def form_of(pipeline_id: str) -> ValveForm:
    """The valves of one pipeline.

    Raises:
        RequestError: there is no such pipeline.
        ConfigurationError: it has no valves, or none that a form can show.
    """
    return _read(pipeline_id, _pipeline(pipeline_id)).form


async def save(pipeline_id: str, entered: Mapping[str, Any], author: str, seen: str | None) -> ValveForm:
    """Saves a form; returns it as it is then.

    Args:
        pipeline_id: which pipeline.
        entered: by name; what is left out becomes as by default, a mask keeps its secret.
        author: for the history of an agent.
        seen: mark of the form that the author has seen; None: overwrite whatever there is.

    Raises:
        DefinitionError: values are wrong; nothing was changed.
        StoreError: somebody else was faster (`stale_version`), or the store failed.
        ConfigurationError: the pipeline cannot be saved, or failed with its new valves.
        RequestError: there is no such pipeline.
    """
    pipeline = _pipeline(pipeline_id)
    now = _read(pipeline_id, pipeline)
    if seen is not None and seen != now.form.mark:
        raise StoreError(
            "Somebody else has changed these valves meanwhile.",
            hint="Look at theirs before you save yours over them.",
            code="stale_version",
            status=409,
        )
    values = forms.meant(entered, now.plain, now.defaults, now.form.secrets)
    _check_text(values)
    _check(type(pipeline.valves), values, now.form, pipeline_id)
    if isinstance(pipeline, KeptPipeline):
        await pipeline.save_valves(values, author)
    else:
        await upstream.save_valves(pipeline_id, values)
    return form_of(pipeline_id)


class _Read:
    """What one pipeline's valves hold.

    Attributes:
        form: as it may be shown.
        plain: the values by name as they are, secrets included.
        defaults: likewise.
    """

    def __init__(self, form: ValveForm, plain: dict[str, Any], defaults: dict[str, Any]) -> None:
        self.form = form
        self.plain = plain
        self.defaults = defaults


def _pipeline(pipeline_id: str) -> Any:
    found = upstream.pipelines().get(pipeline_id)
    if found is None:
        raise RequestError(
            f"There is no pipeline {pipeline_id[:64]!r} on this server.",
            hint="It may have been removed meanwhile. Go back to the list.",
            code="pipeline_not_found",
            status=404,
        )
    return found


def _read(pipeline_id: str, pipeline: Any) -> _Read:
    valves = getattr(pipeline, "valves", None)
    if not isinstance(valves, BaseModel):
        raise ConfigurationError(
            f"The pipeline {pipeline_id} has no valves.",
            hint="Whatever can be set is in its file.",
            code="no_valves",
            status=404,
        )
    try:
        schema = type(valves).model_json_schema()
        values = valves.model_dump(mode="json", by_alias=True, warnings=False)
        plain = valves.model_dump(by_alias=True, warnings=False)
    except Exception as error:  # the valves of others may be of kinds that have no JSON
        raise ConfigurationError(
            f"The valves of {pipeline_id} cannot be shown as a form ({type(error).__name__}).",
            hint="Its author uses a type that has no JSON. Change them in its valves.json or its file.",
            code="valves_unreadable",
            status=409,
        ) from error
    defaults = _defaults(type(valves))
    properties = schema.get("properties") or {}
    secrets = frozenset(name for name, entry in properties.items() if forms.is_secret(name, entry))
    masked = forms.shown(values, plain, secrets)
    usual = forms.shown(defaults, defaults, secrets)
    form = ValveForm(
        pipeline=_info(pipeline_id, pipeline),
        schema=forms.form_schema(schema, masked, usual, secrets),
        values=masked,
        defaults=usual,
        secrets=secrets,
        mark=hashlib.sha256(repr(plain).encode("utf-8", "replace")).hexdigest(),
    )
    return _Read(form, plain, defaults)


def _info(pipeline_id: str, pipeline: Any) -> PipelineInfo:
    valves = getattr(pipeline, "valves", None)
    own = isinstance(pipeline, NativePipeline)
    changed = 0
    if isinstance(valves, BaseModel):
        defaults = _defaults(type(valves), plain=True)
        changed = sum(1 for name, usual in defaults.items() if getattr(valves, name) != usual)
    shown, kind = _name(pipeline_id, pipeline), _kind(pipeline)
    return PipelineInfo(pipeline_id, shown, kind, own, changed, isinstance(valves, BaseModel))


def _name(pipeline_id: str, pipeline: Any) -> str:
    name = getattr(pipeline, "name", None)
    return name.strip() if isinstance(name, str) and name.strip() else pipeline_id


def _kind(pipeline: Any) -> str:
    return "agent" if isinstance(pipeline, KeptPipeline) else str(getattr(pipeline, "type", "") or "pipe")


def _defaults(model: type[BaseModel], *, plain: bool = False) -> dict[str, Any]:
    """What holds by default, by the name that forms use, as JSON; or plain, by the name of the field."""
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        if field.is_required():
            continue
        try:
            value = field.get_default(call_default_factory=True)
            found[name if plain else field.alias or name] = value if plain else to_jsonable_python(value)
        except Exception:  # noqa: BLE001  code of others makes it; without a default it has to be set
            continue
    return found


def _check_text(values: Mapping[str, Any]) -> None:
    """What could never be written again must not get into a file."""
    try:
        json.dumps(values, ensure_ascii=False, allow_nan=False, default=str).encode()
    except ValueError as error:
        raise RequestError(
            "The values hold half a character, or a number that is none.",
            hint="Enter whole characters and finite numbers.",
            field="valves",
        ) from error


def _check(model: type[BaseModel], values: dict[str, Any], form: ValveForm, pipeline_id: str) -> None:
    """
    Raises:
        DefinitionError: values are wrong, with all problems by name.
        ConfigurationError: the server could not keep them.
    """
    problems: list[Problem] = []
    if issubclass(model, Valves):
        problems = [
            Problem(name, reason, model.hint_for(name)) for name, reason in model.misfits(values).items()
        ]
    if not problems:
        made, problems = _made(model, values)
        if made is not None and isinstance(made, Valves):
            problems = forms.unlike(values, made.model_dump(mode="json", by_alias=True), form.secrets)
        elif made is not None:
            _check_kept(made, pipeline_id)
    if problems:
        raise DefinitionError("The valves cannot be saved", problems=problems)


def _made(model: type[BaseModel], values: dict[str, Any]) -> tuple[BaseModel | None, list[Problem]]:
    try:
        return model(**values), []
    except ValidationError as error:
        told = complaints(error.errors(include_url=False, include_input=False))
        return None, [Problem(entry.field or "valves", f"{entry.message}.", entry.hint) for entry in told]
    except Exception as error:  # noqa: BLE001  validators of others may raise anything
        return None, [Problem("valves", f"The pipeline's own check failed with {type(error).__name__}.")]


def _check_kept(made: BaseModel, pipeline_id: str) -> None:
    """Upstream writes the file while it finds out that it cannot, and does not start with what is left."""
    try:
        json.dumps(made.model_dump())
    except Exception as error:  # serializers of others may raise anything
        raise ConfigurationError(
            f"The Pipelines server cannot keep the valves of {pipeline_id} ({type(error).__name__}).",
            hint="Its author has to use types of JSON: `str` in place of `SecretStr`. Nothing was changed.",
            code="valves_unstorable",
            status=409,
        ) from error
