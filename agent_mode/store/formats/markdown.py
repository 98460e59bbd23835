"""Agents and skills as Markdown with YAML front matter: SKILL.md, Claude-style agents, .agent.md."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from agent_mode.errors import CatalogueError
from agent_mode.store.formats.entries import Draft, Entry, entry, original
from agent_mode.store.formats.jsonfile import decode, loads, text_at, texts_at
from agent_mode.store.formats.keys import Keys
from agent_mode.store.formats.yamlhead import dump, load
from agent_mode.store.forms import PersonaForm

NAME = "markdown"

_HEAD = re.compile(r"---[ \t]*\n(.*?)(?<=\n)---[ \t]*(?:\n|\Z)", re.DOTALL)
_SLUG = re.compile(r"[a-z0-9]+(?:[-_][a-z0-9]+)*")
_MODEL_WORDS = frozenset({"inherit", "default", "sonnet", "opus", "haiku"})
_PREFIX = "agent-mode-"
_NOTED = ("name", "emoji", "category", "capabilities", "tags", "model")


def recognises(text: str) -> bool:
    return text.startswith("---\n") or text.startswith("---\r\n")


def read(data: bytes, filename: str) -> list[Entry]:
    """The one agent or skill of a file."""
    text = decode(data).replace("\r\n", "\n").replace("\r", "\n")
    path = PurePath(filename.replace("\\", "/")).name
    stem = path.split(".")[0] or path
    match = _HEAD.match(text)
    if match is not None:
        head, body = match[1], text[match.end() :]
    elif path.lower().endswith(".agent.md"):
        head, body = dump({"name": stem}), f"\n{text}"  # there it may be left out
    else:
        raise CatalogueError(
            "The file has no front matter.",
            hint="Begin it with --- name: … description: … --- and try again.",
        )
    raw = {"head": head, "body": body, "file": stem}
    return [entry(path, Keys(), lambda: _parse(raw))]


def write(forms: Sequence[PersonaForm]) -> bytes:
    """One persona as a skill; one that came as Markdown keeps the front matter that nobody changed."""
    form = forms[0]
    raw, changed = original(form, NAME, _parse)
    if raw is None:
        raw = _blank(form)
    if changed:
        _put(raw, form, changed)
    return f"---\n{raw['head']}---\n{raw['body']}".encode()


def _blank(form: PersonaForm) -> dict[str, Any]:
    name = re.sub("[-_]+", "-", form.key).strip("-")  # as a skill's name must be
    head: dict[str, Any] = {"name": name, "description": form.description}
    if name != form.key:
        head["metadata"] = {f"{_PREFIX}key": form.key}
    return {"head": dump(head), "body": "", "file": form.key}


def _put(raw: dict[str, Any], form: PersonaForm, changed: frozenset[str]) -> None:
    head = load(raw["head"])
    if "description" in changed:
        head["description"] = form.description
    if "model" in changed and form.model is not None:
        head["model"] = form.model
    if "prompt" in changed:
        raw["body"] = f"\n{form.prompt}\n"
    raw["head"] = dump(head)
    found = replace(_parse(raw), extras={}).form(form.key)
    missing = {name for name in _NOTED if getattr(found, name) != getattr(form, name)}
    for pair in ({"name", "emoji"}, {"tags", "category"}):  # one is read out of the other
        missing |= pair if missing & pair else set()
    if missing:
        head["metadata"] = _metadata(head) | {
            f"{_PREFIX}{name}": _note(form, name) for name in sorted(missing)
        }
        raw["head"] = dump(head)


def _parse(raw: Mapping[str, Any]) -> Draft:
    head = load(text_at(raw, "head"))
    prompt = text_at(raw, "body").strip()
    if not prompt:
        raise CatalogueError("There is no text after the front matter.", hint="Write the instructions there.")
    ours = _ours(_metadata(head))
    called = text_at(head, "name") or text_at(raw, "file")
    return Draft(
        key_from=(ours.get("key", ""), called),
        name=ours.get("name") or _readable(called),
        prompt=prompt,
        emoji=ours.get("emoji"),
        category=ours.get("category"),
        description=text_at(head, "description"),
        capabilities=ours.get("capabilities", ()),
        tags=ours.get("tags", _tags(head)),
        model=ours.get("model", _model(head)),
        extras={NAME: dict(raw)},
    )


def _metadata(head: Mapping[str, Any]) -> dict[str, Any]:
    found = head.get("metadata")
    return found if isinstance(found, dict) else {}


def _note(form: PersonaForm, name: str) -> str:
    # A skill's metadata are texts.
    value = getattr(form, name)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, tuple) else value or ""


def _ours(metadata: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in ("key", *_NOTED):
        text = metadata.get(f"{_PREFIX}{name}")
        if isinstance(text, str):
            found[name] = _list(text) if name in ("capabilities", "tags") else text
    return found


def _list(text: str) -> list[str]:
    try:
        return texts_at({"list": loads(text)}, "list")
    except CatalogueError:
        return [part.strip() for part in text.split(",")]  # as a person would write it


def _readable(name: str) -> str:
    return name.replace("-", " ").replace("_", " ").title() if _SLUG.fullmatch(name) else name


def _tags(head: Mapping[str, Any]) -> list[str]:
    found = head.get("tags", _metadata(head).get("tags"))
    return found.split(",") if isinstance(found, str) else texts_at({"tags": found}, "tags")


def _model(head: Mapping[str, Any]) -> str | None:
    # Program-wide nicknames ("sonnet") and display names ("GPT-5 (copilot)") are no ids of a provider.
    found = head.get("model")
    usable = isinstance(found, str) and found not in _MODEL_WORDS and not re.search(r"\s", found)
    return found if usable else None
