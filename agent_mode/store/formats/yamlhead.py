"""YAML front matter that nobody vouches for."""

from __future__ import annotations

import re
from typing import Any

import yaml

from agent_mode.errors import CatalogueError

SIZE_LIMIT = 16 * 1024
DEPTH_LIMIT = 16

_LINE = re.compile(r"([A-Za-z][\w-]*):[ \t]*(.*)")
_HINT = "Write plain fields as 'name: value', texts with a colon in quotation marks."


def load(text: str) -> dict[str, Any]:
    """The fields of a front matter; {} for an empty one.

    Aliases, which let a small file grow without end, and tags, which name types, are refused.
    """
    if len(text) > SIZE_LIMIT:
        raise _complaint(f"is larger than {SIZE_LIMIT // 1024} KiB")
    try:
        _check(text)
        value = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        if fields := _plain_fields(text):
            return fields
        raise _complaint(f"is not valid YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # 2024-13-45 is a date to YAML
        raise _complaint(f"is not valid YAML: {str(error)[:200]}") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _complaint("holds no fields")
    return value


def dump(fields: dict[str, Any]) -> str:
    """The fields as YAML, in their order."""
    return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=1_000)


def _check(text: str) -> None:
    depth = 0
    # Events come one at a time, before anything is built from them.
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _complaint("uses anchors and aliases (& and *)")
        if getattr(event, "tag", None):
            raise _complaint("uses tags (!)")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEPTH_LIMIT:
            raise _complaint(f"is nested more than {DEPTH_LIMIT} levels deep")


def _plain_fields(text: str) -> dict[str, Any]:
    # Many agents in the wild have unquoted colons in a description, and their own program takes them.
    found = {match[1]: match[2].strip() for match in map(_LINE.fullmatch, text.splitlines()) if match}
    return found if {"name", "description"} & found.keys() else {}


def _complaint(what: str) -> CatalogueError:
    return CatalogueError(f"The front matter {what}.", hint=_HINT, field="front matter")
