"""One persona of a file: how it becomes a form, or why it cannot."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from agent_mode.errors import CatalogueError
from agent_mode.store.formats.emoji import split_emoji
from agent_mode.store.formats.keys import Keys
from agent_mode.store.forms import CONTENT_FIELDS, PersonaForm, problems

ENTRY_LIMIT = 5_000
"""Most personas in one file."""

CATEGORIES = frozenset(
    {"software", "writing", "teaching", "science", "data", "business", "creative", "everyday"}
)
"""The categories of the shipped catalogue."""

DEFAULT_CATEGORY = "imported"
DEFAULT_EMOJI = "🎭"

_LABEL = 80
_LABELS = 50
_UNSEEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_BREAKS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


@dataclass(frozen=True, slots=True)
class Entry:
    """What a file says about one persona: a form, or the problem that makes it unusable."""

    name_in_file: str
    form: PersonaForm | None = None
    problem: str | None = None
    field: str | None = None
    """Where the problem lies, as a dotted path."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A persona as a foreign format describes it, before it is made to fit ours."""

    name: str
    prompt: str
    key_from: tuple[str, ...] = ()
    """What the key is made of, best first; after them the name."""
    emoji: str | None = None
    """None: the one that the name begins with."""
    category: str | None = None
    """None: found among the tags."""
    description: str = ""
    capabilities: Iterable[str] = ()
    tags: Iterable[str] = ()
    model: str | None = None
    enabled: bool = True
    extras: dict[str, Any] = field(default_factory=dict)

    def form(self, key: str) -> PersonaForm:
        """The persona under this key. What is only too long for a label or a summary is shortened."""
        emoji, name = self.emoji, line(self.name, 400)
        if emoji is None:
            found, name = split_emoji(name)
            emoji = found or DEFAULT_EMOJI
        tags = _labels(self.tags)
        category = self.category
        if category is None:
            category = next((tag.lower() for tag in tags if tag.lower() in CATEGORIES), DEFAULT_CATEGORY)
        values = {
            "key": key,
            "name": line(name, _LABEL),
            "emoji": emoji,
            "category": category,
            "prompt": _UNSEEN.sub("", self.prompt),
            "description": shorten(_UNSEEN.sub("", self.description).strip(), 1_000),
            "capabilities": _labels(self.capabilities),
            "tags": tags,
            "model": self.model or None,
            "enabled": self.enabled,
            "extras": self.extras,
        }
        return validated(values)


def validated(values: dict[str, Any]) -> PersonaForm:
    """The form of these values; `CatalogueError` names what is wrong."""
    try:
        return PersonaForm.model_validate(values)
    except ValidationError as error:
        told = problems(error)
        text = "; ".join(f"{found.field}: {found.message}" for found in told[:5])
        cure = "Take embedded pictures and books out" if told[0].field == "extras" else "Correct it"
        raise CatalogueError(f"{text}.", hint=f"{cure} in the file.", field=told[0].field) from error


def entry(name_in_file: str, keys: Keys, parse: Callable[[], Draft]) -> Entry:
    """The entry for one persona of a file; what `parse` complains about becomes its problem."""
    try:
        draft = parse()
        if not draft.name.strip():
            raise CatalogueError("It has no name.", hint="Give it one in the file.", field="name")
        return accepted(name_in_file, draft.form(keys.take(*draft.key_from, draft.name)))
    except CatalogueError as error:
        return refused(name_in_file, error)


def accepted(name_in_file: str, form: PersonaForm) -> Entry:
    return Entry(_shown(name_in_file), form)


def refused(name_in_file: str, error: CatalogueError) -> Entry:
    return Entry(_shown(name_in_file), problem=str(error), field=error.field)


def check_count(number: int) -> None:
    """Raises `CatalogueError` if a file holds more personas than we take at once."""
    if number > ENTRY_LIMIT:
        raise CatalogueError(
            f"The file holds more than {ENTRY_LIMIT} personas.", hint="Split it into several files."
        )


def original(
    form: PersonaForm, format_name: str, parse: Callable[[Any], Draft]
) -> tuple[dict[str, Any] | None, frozenset[str]]:
    """What the persona was in a file of this format, if it came from one, and what was changed since.

    Args:
        form: the persona to be written.
        format_name: the key of its `extras` that holds what the file said.
        parse: reads that again.

    Returns:
        a copy that may be altered, and the names of the fields that differ; (None, all fields) without one.
    """
    every = frozenset(CONTENT_FIELDS) - {"extras"}
    raw = form.extras.get(format_name)
    if not isinstance(raw, dict):
        return None, every
    try:
        before = replace(parse(raw), extras={}).form(form.key)
    except CatalogueError:
        return None, every
    return deepcopy(raw), frozenset(name for name in every if getattr(before, name) != getattr(form, name))


def line(text: str, limit: int) -> str:
    """The text as one line of at most so many characters."""
    # Cut first: a hostile name may be megabytes long.
    return shorten(_BREAKS.sub(" ", text[: 10 * limit]).strip(), limit)


def shorten(text: str, limit: int) -> str:
    """The text, cut with an ellipsis if it is longer than the limit."""
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def _labels(texts: Iterable[str]) -> tuple[str, ...]:
    lines = (line(text, _LABEL) for text in texts)
    return tuple(filter(None, lines))[:_LABELS]


def _shown(name_in_file: str) -> str:
    # Half a surrogate pair would break the report.
    return line(name_in_file, _LABEL).encode(errors="replace").decode() or "(no name)"
