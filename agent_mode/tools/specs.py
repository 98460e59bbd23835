"""Tools as models see them: name, description, JSON schema of the arguments."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Literal

from agent_mode.observe.logs import get_logger
from agent_mode.tools.arguments import argument_problems
from agent_mode.tools.schemas import cleaned, model_from_schema

__all__ = [
    "ToolSpec",
    "allowed",
    "argument_problems",
    "free_name",
    "from_functions",
    "from_request",
    "model_from_schema",
    "openai_tool",
    "unique_names",
]

log = get_logger(__name__)

MAX_NAME = 64
"""Longest name that OpenAI's API takes; others take no longer ones."""

_LEGAL = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_ILLEGAL = re.compile(r"[^a-zA-Z0-9_-]")
_SUFFIX = 8

Source = Literal["request", "openwebui", "own"]
_RANK: dict[Source, int] = {"own": 0, "request": 1, "openwebui": 2}
"""Who keeps the name in a clash. Own names stand in instructions, the request's in the chat's history."""


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """One tool.

    Attributes:
        name: as the model sees it; fits `[a-zA-Z0-9_-]{1,64}`.
        original: what it is called where it is executed.
        description: what it does, for the model.
        parameters: JSON schema of the arguments, an object's.
        source: `request`: the caller executes it; `openwebui`: Open WebUI does, by loopback; `own`: we do.
        tool_id: Open WebUI's toolkit or tool server, for the loopback.
    """

    name: str
    original: str
    description: str
    parameters: dict[str, Any]
    source: Source
    tool_id: str | None = None


def from_request(tools: Any) -> list[ToolSpec]:
    """The tools of a chat request, as OpenAI's API defines `tools`. Entries that are none are left out."""
    if not isinstance(tools, list):
        if tools is not None:
            log.warning("the request's tools are no list and left out", kind=type(tools).__name__)
        return []
    found: list[ToolSpec] = []
    for index, entry in enumerate(tools):
        function = entry.get("function") if isinstance(entry, dict) else None
        spec = _spec(function, "request", None)
        if spec is None:
            log.warning("a tool of the request is left out", index=index, reason="no function with a name")
        else:
            found.append(spec)
    return unique_names(found)


def from_functions(functions: Any, tool_id: str) -> list[ToolSpec]:
    """The tools of one of Open WebUI's toolkits, by its specs `[{name, description, parameters}]`."""
    found = [
        _spec(entry, "openwebui", tool_id) for entry in (functions if isinstance(functions, list) else ())
    ]
    if None in found:
        log.warning("a toolkit's odd entries are left out", tool_id=tool_id)
    return [spec for spec in found if spec is not None]


def openai_tool(spec: ToolSpec) -> dict[str, Any]:
    """The spec as a request to an LLM holds it."""
    function = {"name": spec.name, "description": spec.description, "parameters": spec.parameters}
    return {"type": "function", "function": function}


def unique_names(specs: Iterable[ToolSpec]) -> list[ToolSpec]:
    """The specs in their order, each with a name of its own that every provider takes.

    A name is changed where it must be: too long, with illegal characters, or taken. It then ends with a hash
    of what the tool is, so that it comes out the same in every request with these tools, in whatever order
    they come. Of a tool that is listed twice, the first stays.
    """
    listed: dict[tuple[str, str, str], ToolSpec] = {}
    for spec in specs:
        listed.setdefault(_identity(spec), spec)
    taken: set[str] = set()
    names: dict[tuple[str, str, str], str] = {}
    order = sorted(listed, key=lambda identity: (_RANK[listed[identity].source], *identity))
    legal = [identity for identity in order if _LEGAL.fullmatch(listed[identity].original)]
    for identity in legal:
        # All that need no change first, so that no made-up name takes the place of a real one.
        if listed[identity].original not in taken:
            names[identity] = listed[identity].original
            taken.add(names[identity])
    for identity in order:
        if identity not in names:
            names[identity] = _made_up(listed[identity], identity, taken)
            taken.add(names[identity])
    return [replace(spec, name=names[identity]) for identity, spec in listed.items()]


def free_name(spec: ToolSpec, taken: Iterable[str]) -> str:
    """The name for one more tool: its own, where every provider takes that and no other tool has it."""
    others = set(taken)
    if _LEGAL.fullmatch(spec.original) and spec.original not in others:
        return spec.original
    return _made_up(spec, _identity(spec), others)


def allowed(specs: Sequence[ToolSpec], patterns: str | None) -> list[ToolSpec]:
    """The specs that a list of names or shell patterns lets through.

    Args:
        specs: to choose from.
        patterns: comma separated; each is held against a tool's name, its name in Open WebUI, its toolkit
            (`dice`), and both together (`dice/roll_*`). One that begins with `-` or `!` takes out what it
            fits, wherever it stands. None, nothing, or exclusions alone: all others.
    """
    words = [word.strip() for word in (patterns or "").split(",") if word.strip()]
    unwanted = [word[1:].strip() for word in words if word[0] in "-!"]
    wanted = [word for word in words if word[0] not in "-!"] or ["*"]
    return [spec for spec in specs if _fits(spec, wanted) and not _fits(spec, unwanted)]


def _spec(function: Any, source: Source, tool_id: str | None) -> ToolSpec | None:
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str) or not name.strip():
        return None
    description = function.get("description")
    spec = ToolSpec(
        name=name,
        original=name,
        description=description if isinstance(description, str) else "",
        parameters=cleaned(function.get("parameters")),
        source=source,
        tool_id=tool_id,
    )
    if _LEGAL.fullmatch(name):
        return spec
    return replace(spec, name=_made_up(spec, _identity(spec), set()))


def _identity(spec: ToolSpec) -> tuple[str, str, str]:
    return spec.source, spec.tool_id or "", spec.original


def _made_up(spec: ToolSpec, identity: tuple[str, str, str], taken: set[str]) -> str:
    start = _ILLEGAL.sub("_", spec.original)[: MAX_NAME - _SUFFIX - 1].rstrip("_")
    for number in range(len(taken) + 1):  # one of so many is free
        key = "\0".join((*identity, str(number) if number else ""))
        suffix = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:_SUFFIX]
        if (name := f"{start}_{suffix}") not in taken:
            return name
    raise AssertionError("more hashes than names")


def _fits(spec: ToolSpec, patterns: Sequence[str]) -> bool:
    names = {spec.name, spec.original}
    if spec.tool_id:
        names |= {spec.tool_id, f"{spec.tool_id}/{spec.original}"}
    return any(fnmatchcase(name, pattern) for pattern in patterns for name in names)
