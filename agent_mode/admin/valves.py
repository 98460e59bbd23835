"""Valves of any pipeline as a form: what is secret, what is a text of several lines, what was changed. Pure.

Pipelines of others declare their keys as plain texts, so what is secret goes by the name too. No secret ever
leaves the server: a form holds a mask in its place, and what comes back as a mask is kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from agent_mode.errors import Problem
from agent_mode.valves import MASK, mask

_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z0-9]+|[A-Z0-9]+")
_SECRET = frozenset({"key", "apikey", "token", "secret", "password", "passwd", "passphrase", "credentials"})
_SEVERAL = frozenset({"prompt", "template", "instructions"})


@dataclass(frozen=True, slots=True)
class PipelineInfo:
    """One pipeline of this server.

    Attributes:
        id: as in addresses.
        name: as people read it.
        kind: `agent`, `pipe`, `manifold` or `filter`.
        own: whether it is one of ours.
        changed: how many of its valves are not as by default.
        editable: whether it has valves that a form can show.
    """

    id: str
    name: str
    kind: str
    own: bool
    changed: int = 0
    editable: bool = True


@dataclass(frozen=True, slots=True)
class ValveForm:
    """The valves of one pipeline, as a form shows them.

    Attributes:
        pipeline: whose they are.
        schema: JSON schema of them; secrets have `secret`, texts of several lines the format `textarea`.
        values: what holds now; masks in place of secrets.
        defaults: what holds where nobody changed anything; none for valves that must be set.
        secrets: names of the secret ones.
        mark: of what holds now: other values, another mark.
    """

    pipeline: PipelineInfo
    schema: dict[str, Any]
    values: dict[str, Any]
    defaults: dict[str, Any]
    secrets: frozenset[str]
    mark: str

    @property
    def changed(self) -> list[str]:
        """The names of the valves that are not as by default."""
        return changed(self.values, self.defaults)

    def entered(self) -> dict[str, Any]:
        """What a form begins with: all but what is as by default, and a mask for each secret that is set."""
        kept = {*self.changed, *(name for name in self.secrets if self.values.get(name))}
        return {
            name: value for name, value in self.values.items() if name in kept or name not in self.defaults
        }


def changed(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> list[str]:
    """Which values differ from the defaults; what has none and must be set is not among them."""
    return [name for name, value in values.items() if name in defaults and value != defaults[name]]


def is_secret(name: str, schema: Mapping[str, Any]) -> bool:
    """Whether a valve holds a secret: its author says so, or it is a text with a name of one."""
    if schema.get("secret") is True or _texts(schema, "format") & {"password"} or schema.get("writeOnly"):
        return True
    form = schema.get("input")
    if isinstance(form, Mapping) and form.get("type") == "password":
        return True
    words = [word.lower() for word in _WORD.findall(name)]
    return bool(words) and words[-1] in _SECRET and "string" in _texts(schema, "type")


def form_schema(
    schema: Mapping[str, Any], values: Mapping[str, Any], defaults: Mapping[str, Any], secrets: Iterable[str]
) -> dict[str, Any]:
    """A schema as the form takes it: with secrets, texts of several lines, and defaults made at run time.

    Args:
        schema: of all valves.
        values: what holds now.
        defaults: by name.
        secrets: names of the secret ones.
    """
    properties = schema.get("properties")
    found = dict(properties) if isinstance(properties, Mapping) else {}
    for name, given in found.items():
        if not isinstance(given, Mapping):
            continue
        entry = dict(given)
        if name in secrets:
            entry = {key: text for key, text in entry.items() if key not in ("default", "examples")}
            entry["secret"] = True
        elif _is_long(name, entry, values.get(name)):
            entry["format"] = "textarea"
        if name in defaults and name not in secrets:
            entry["default"] = defaults[name]
        found[name] = entry
    required = [name for name in schema.get("required") or () if name not in defaults]
    return {**schema, "properties": found, "required": required}


def _is_long(name: str, schema: Mapping[str, Any], value: Any) -> bool:
    if "string" not in _texts(schema, "type") or schema.get("enum"):
        return False
    form = schema.get("input")
    asked = isinstance(form, Mapping) and form.get("type") == "textarea"
    words = [word.lower() for word in _WORD.findall(name)]
    return asked or (isinstance(value, str) and "\n" in value) or bool(words and words[-1] in _SEVERAL)


def _texts(schema: Mapping[str, Any], name: str) -> set[Any]:
    """What a schema says, here or in one of the kinds that it may be of."""
    kinds = [schema, *(schema.get("anyOf") or ()), *(schema.get("allOf") or ())]
    return {kind[name] for kind in kinds if isinstance(kind, Mapping) and isinstance(kind.get(name), str)}


def shown(values: Mapping[str, Any], plain: Mapping[str, Any], secrets: Iterable[str]) -> dict[str, Any]:
    """Values with masks in place of secrets.

    Args:
        values: all of them.
        plain: the secrets as they are; may hold other values as well.
        secrets: their names.
    """
    return {**values, **{name: _mask(plain.get(name)) for name in secrets if name in values}}


def _mask(secret: Any) -> Any:
    if not secret:
        return secret  # nothing is set; "" and null differ for their pipeline
    return mask(secret) if isinstance(secret, str) else MASK


def meant(
    entered: Mapping[str, Any],
    plain: Mapping[str, Any],
    defaults: Mapping[str, Any],
    secrets: Iterable[str],
) -> dict[str, Any]:
    """All values that are to be saved.

    Args:
        entered: what the form holds; what is left out is to be as by default, a mask keeps its secret.
        plain: what holds now, secrets as they are.
        defaults: by name.
        secrets: names of the secret ones.
    """
    values = {**defaults, **entered}
    for name in secrets:
        now = values.get(name)
        if isinstance(now, str) and now.startswith(MASK):
            values[name] = plain.get(name)
    return values


def unlike(entered: Mapping[str, Any], kept: Mapping[str, Any], secrets: Iterable[str]) -> list[Problem]:
    """What a pipeline of ours would put right in silence: values that it would keep as others."""
    hidden = frozenset(secrets)
    return [
        Problem(name, "This cannot be used.", f"What would hold is {_word(kept[name])}.")
        for name, value in entered.items()
        if name in kept and name not in hidden and _word(value) != _word(kept[name])
    ]


def _word(value: Any) -> str:
    """As two notations of the same value have in common: "7", 7 and 7.0 are one."""
    if isinstance(value, bool) or value is None:
        return str(value).lower() if value is not None else ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, list):
        return ",".join(_word(item) for item in value)
    return str(value).strip()
