"""JSON schemas of tools: put right, and as pydantic models for LlamaIndex."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, create_model

EMPTY: dict[str, Any] = {"type": "object", "properties": {}}

_TYPES = {
    "str": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "dict": "object",
    "list": "array",
    "tuple": "array",
}
"""Python's names of types, which some tools write in place of JSON's."""
_MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLE = (
    "items",
    "additionalProperties",
    "contains",
    "not",
    "if",
    "then",
    "else",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
)
_DEPTH = 64
_KEPT = frozenset({"type", "properties", "required", "definitions", "$defs"})
"""What LlamaIndex passes on of a schema's top level (`ToolMetadata.get_parameters_dict`)."""


def cleaned(parameters: Any) -> dict[str, Any]:
    """A tool's schema as providers take it: an object's, with JSON's names of types.

    Parameters that begin with `__` are Open WebUI's own (`__user__`): it fills them in itself. OpenAPI's
    `nullable` becomes JSON's `null`.
    """
    if not isinstance(parameters, dict) or not parameters:
        return copy.deepcopy(EMPTY)
    schema = _put_right(parameters)
    properties = schema.get("properties")
    if isinstance(properties, dict):
        schema["properties"] = {k: v for k, v in properties.items() if not str(k).startswith("__")}
        if isinstance(schema.get("required"), list):
            schema["required"] = [name for name in schema["required"] if not str(name).startswith("__")]
    if not any(key in schema for key in ("$ref", "anyOf", "oneOf", "allOf")):
        schema.setdefault("properties", {})
    schema["type"] = "object"  # OpenAI's and Anthropic's APIs refuse parameters of another type
    return schema


class _ToolArguments(BaseModel):
    """Arguments of a tool: any. They are checked against the schema itself, by `argument_problems`."""

    model_config = ConfigDict(extra="allow")
    shown_schema: ClassVar[dict[str, Any]] = EMPTY

    @classmethod
    def model_json_schema(cls, *_: Any, **__: Any) -> dict[str, Any]:
        return copy.deepcopy(cls.shown_schema)


def model_from_schema(name: str, schema: dict[str, Any]) -> type[BaseModel]:
    """A pydantic model that shows an LLM exactly this schema.

    LlamaIndex asks a tool's `fn_schema` for nothing but its JSON schema, and passes on type, properties,
    required and definitions of its top level. So the model gives back the schema itself, nothing lost by
    a translation into Python's types, and takes any object; `argument_problems` says what is wrong with one.
    What stands at the top in a form that would be dropped (`$ref`, `allOf`, `anyOf`) is put into properties.

    Args:
        name: the model's name.
        schema: the tool's parameters.
    """
    model = create_model(name, __base__=_ToolArguments)
    model.shown_schema = _top_level(schema)
    return model


def _put_right(schema: Any, depth: int = 0) -> Any:
    """A copy of a schema with JSON's types in it and in all inside; names of properties are no keywords."""
    if not isinstance(schema, dict) or depth > _DEPTH:
        return schema
    right: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _MAPS and isinstance(value, dict):
            right[key] = {name: _put_right(part, depth + 1) for name, part in value.items()}
        elif key in _LISTS and isinstance(value, list):
            right[key] = [_put_right(part, depth + 1) for part in value]
        else:
            right[key] = _put_right(value, depth + 1) if key in _SINGLE else value
    kind = right.get("type")
    if isinstance(kind, str):
        right["type"] = kind = _TYPES.get(kind, kind)
        if right.get("nullable") is True and kind != "null":
            del right["nullable"]
            right["type"] = [kind, "null"]
            if isinstance(right.get("enum"), list) and None not in right["enum"]:
                right["enum"] = [*right["enum"], None]
    return right


def _top_level(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with what it says at the top as type, properties and required."""
    shown = copy.deepcopy(schema)
    if not any(key in shown for key in ("$ref", "anyOf", "oneOf", "allOf")):
        return {**EMPTY, **shown}
    properties, required = _object_of(shown, shown, frozenset())
    return {
        **{key: value for key, value in shown.items() if key in _KEPT or key == "description"},
        "type": "object",
        "properties": properties,
        "required": required,
    }


def _object_of(schema: Any, root: dict[str, Any], seen: frozenset[str]) -> tuple[dict[str, Any], list[str]]:
    """Properties and required ones of a schema, `$ref`, `allOf` and alternatives taken together."""
    if not isinstance(schema, dict):
        return {}, []
    properties: dict[str, Any] = {}
    required: list[str] = []

    def add(part: Any, among: frozenset[str]) -> list[str]:
        more, needed = _object_of(part, root, among)
        for key, value in more.items():
            properties.setdefault(key, value)
        return needed

    own = schema.get("properties")
    properties.update(own if isinstance(own, dict) else {})
    required += _names(schema.get("required"))
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference not in seen:
        required += add(_resolved(reference, root), seen | {reference})
    for part in _parts(schema, "allOf"):
        required += add(part, seen)
    for key in ("anyOf", "oneOf"):
        parts = _parts(schema, key)
        needed = [set(add(part, seen)) for part in parts]
        if needed:  # only what every alternative needs
            required += sorted(set.intersection(*needed))
    return properties, list(dict.fromkeys(name for name in required if name in properties))


def _parts(schema: dict[str, Any], key: str) -> list[Any]:
    parts = schema.get(key)
    return parts if isinstance(parts, list) else []


def _names(value: Any) -> list[str]:
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []


def _resolved(reference: str, root: dict[str, Any]) -> Any:
    """What a local reference (`#/$defs/Name`) means; None if there is nothing."""
    if not reference.startswith("#"):
        return None
    found: Any = root
    for step in reference[1:].split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        found = found.get(key) if isinstance(found, dict) else None
    return found
