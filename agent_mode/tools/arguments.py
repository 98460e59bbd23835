"""Are a call's arguments what the tool's schema asks for? Said so that a model can put them right."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import cache, lru_cache
from importlib.util import find_spec
from typing import Any

from agent_mode.counting import counted

SECONDS = 0.25
"""How long a check may take. Callers of our API bring schemas along; none may stall the server."""
MOST = 10
"""So many problems are said."""
_SHOWN = 120
_LARGE_LIST = 1000
_KEPT_SCHEMA = 20_000
"""Characters of the longest schema of which it is remembered whether it is sound."""

_deadline: ContextVar[float] = ContextVar("deadline", default=0.0)
_FORMS = {
    "minimum": "must be at least {value}",
    "maximum": "must be at most {value}",
    "exclusiveMinimum": "must be more than {value}",
    "exclusiveMaximum": "must be less than {value}",
    "multipleOf": "must be a multiple of {value}",
    "minLength": "must have at least {value}",
    "maxLength": "must have at most {value}",
    "minItems": "must have at least {value}",
    "maxItems": "must have at most {value}",
    "minProperties": "must have at least {value}",
    "maxProperties": "must have at most {value}",
    "const": "must be {value}",
    "enum": "must be one of {value}",
    "anyOf": "fits none of the allowed forms",
    "oneOf": "must fit exactly one of the allowed forms",
    "not": "has a form that is not allowed",
    "uniqueItems": "must not hold the same item twice",
    "contains": "lacks an item that must be in it",
}
_NOUNS = {"Length": ("character", ""), "Items": ("item", ""), "Properties": ("property", "properties")}
"""What `minLength` and its like count."""


class _TooLong(Exception):
    pass


def argument_problems(schema: dict[str, Any], arguments: Any) -> list[str]:
    """What is wrong with a call's arguments; nothing if they fit.

    The tool itself checks them as well. So a schema that is broken, that refers to another document, or
    that takes too long to check, finds no problem, and patterns of texts are not looked at: a regular
    expression can take forever.

    Args:
        schema: the tool's parameters.
        arguments: what the model gave; an object, if it is right.
    """
    if not isinstance(arguments, dict):
        return [f"the arguments must be an object, not {_kind(arguments)}"]
    if not _can_check():
        return []
    checker = _checker()  # first: its imports are not to count
    before = _deadline.set(time.monotonic() + SECONDS)
    found: dict[str, None] = {}
    try:
        for error in _errors(checker, schema, arguments):
            found[_said(error)] = None
            if len(found) == MOST:
                break
    except (_TooLong, RecursionError):
        pass
    except (TypeError, ValueError, AttributeError, LookupError):
        pass  # a keyword with a value that its check does not expect
    finally:
        _deadline.reset(before)
    return list(found)


def _errors(checker: Any, schema: Any, arguments: Any) -> Iterator[Any]:
    """jsonschema's errors; none where the schema itself is broken."""
    from jsonschema.exceptions import UnknownType  # noqa: PLC0415  lazily: it takes a tenth of a second
    from referencing import Registry  # noqa: PLC0415
    from referencing.exceptions import CannotDetermineSpecification, Unresolvable  # noqa: PLC0415
    from referencing.jsonschema import UnknownDialect  # noqa: PLC0415

    try:
        text = json.dumps(schema)
        if not (_is_sound(text) if len(text) <= _KEPT_SCHEMA else _is_sound.__wrapped__(text)):
            return
        # With a registry of its own it fetches nothing: a `$ref` must not make this server call an address.
        yield from checker(schema, registry=Registry()).iter_errors(arguments)
    except (UnknownType, UnknownDialect, CannotDetermineSpecification, Unresolvable):
        return


@lru_cache(maxsize=512)
def _is_sound(schema: str) -> bool:
    """Whether a schema is one. To find out takes a millisecond, so it is remembered."""
    from jsonschema_specifications import REGISTRY  # noqa: PLC0415

    checker = _checker()
    found = checker(checker.META_SCHEMA, registry=REGISTRY).iter_errors(json.loads(schema))
    return not any(True for _ in found)


@cache
def _can_check() -> bool:
    return find_spec("jsonschema") is not None  # a stock server may lack it


@cache
def _checker() -> Any:
    """JSON schema's 2020 draft, each step of a check within the deadline."""
    from attrs import evolve  # noqa: PLC0415  jsonschema's validators are attrs classes
    from jsonschema import Draft202012Validator  # noqa: PLC0415
    from jsonschema.validators import extend  # noqa: PLC0415

    steps: dict[str, Any] = {key: _within(step) for key, step in Draft202012Validator.VALIDATORS.items()}
    for key in ("pattern", "patternProperties", "unevaluatedProperties", "unevaluatedItems"):
        steps[key] = _nothing
    unique, additional = steps["uniqueItems"], steps["additionalProperties"]
    steps["uniqueItems"] = lambda v, value, instance, schema: (
        ()
        if isinstance(instance, list) and len(instance) > _LARGE_LIST
        else unique(v, value, instance, schema)
    )
    steps["additionalProperties"] = lambda v, value, instance, schema: (
        () if "patternProperties" in schema else additional(v, value, instance, schema)
    )
    checker = extend(Draft202012Validator, steps)
    # Else a schema inside that names its draft would be checked by jsonschema's own steps, without limits.
    checker.evolve = evolve
    return checker


def _within(step: Callable[..., Any]) -> Callable[..., Iterator[Any]]:
    def checked(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        if time.monotonic() > _deadline.get():
            raise _TooLong
        return step(validator, value, instance, schema)

    return checked


def _nothing(*_: Any) -> tuple[()]:
    return ()


def _said(error: Any) -> str:
    """One problem: where, and what must be otherwise."""
    where = ".".join(str(step) for step in error.absolute_path)
    at = f"`{where}` " if where else ""
    value = error.validator_value
    match error.validator:
        case "required":
            gone = [f"`{f'{where}.' if where else ''}{name}`" for name in value if name not in error.instance]
            return f"{_shown(', '.join(gone))} {'is' if len(gone) == 1 else 'are'} missing"
        case "additionalProperties":
            known = error.schema.get("properties") or {}
            extra = sorted(name for name in error.instance if name not in known)
            if value is False and extra:
                names = ", ".join(f"`{f'{where}.' if where else ''}{name}`" for name in extra[:5])
                return f"there is no {_shown(names)}"
        case "type":
            wanted = " or ".join(value) if isinstance(value, list) else value
            return f"{at}must be {wanted}, not {_kind(error.instance)}".strip()
        case str(keyword) if keyword in _FORMS:
            noun = _NOUNS.get(keyword[3:])
            shown = _shown(_text(value)) if noun is None else counted(value, *noun)
            return f"{at}{_FORMS[keyword].format(value=shown)}".strip()
    return f"{at}{_shown(str(error.message))}".strip()


def _kind(value: Any) -> str:
    """A value's type in JSON."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    kinds = ((int, "integer"), (float, "number"), (str, "string"), (list, "array"), (dict, "object"))
    return next((name for kind, name in kinds if isinstance(value, kind)), type(value).__name__)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(json.dumps(item, ensure_ascii=False, default=str) for item in value)
    return json.dumps(value, ensure_ascii=False, default=str)


def _shown(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
