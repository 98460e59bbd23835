"""What is wrong with an input, in our own words: the one home of what pydantic says. Pure functions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from agent_mode.counting import counted


class Complaint(NamedTuple):
    """One thing that is wrong with an input."""

    path: tuple[str, ...]
    """The field, from the outermost part to the innermost."""
    message: str
    """What is wrong, as a sentence without its full stop."""
    hint: str = ""
    """The cure."""

    @property
    def field(self) -> str:
        """The field as a dotted path."""
        return ".".join(self.path)


_KINDS = {
    "string": ("a text", "Write text, in quotes where it is JSON."),
    "int": ("a whole number", "Write a number without a fraction, such as 3."),
    "float": ("a number", "Write a number, such as 0.5."),
    "finite": ("a number that is not infinite", "Write a number, such as 0.5."),
    "decimal": ("a number", "Write a number, such as 0.5."),
    "bool": ("true or false", "Write true or false."),
    "list": ("a list", "Write a list in square brackets."),
    "tuple": ("a list", "Write a list in square brackets."),
    "set": ("a list", "Write a list in square brackets."),
    "iterable": ("a list", "Write a list in square brackets."),
    "dict": ("a JSON object", "Write fields with their values in braces."),
    "mapping": ("a JSON object", "Write fields with their values in braces."),
    "model": ("a JSON object", "Write fields with their values in braces."),
    "dataclass": ("a JSON object", "Write fields with their values in braces."),
    "none": ("null", "Write null, or leave it out."),
    "date": ("a date", "Write year, month and day, such as 2026-01-31."),
    "datetime": ("a date with a time", "Write it such as 2026-01-31T12:00:00Z."),
    "time": ("a time", "Write hours and minutes, such as 12:30."),
    "url": ("an address", "Write it with its beginning, such as https://host/path."),
    "path": ("a path", "Write the path of a file or a folder."),
    "json": ("JSON", "Write it as JSON."),
}
"""What a value of a kind is, and how one is written; by the first word of an error's type."""
_OTHERWISE = ("_ascii", "_past", "_future", "_digits", "_places", "_scheme", "_hashable")
"""Ends of types that are about more than the kind of a value."""
_BOUNDS = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}
_BRANCHES = frozenset({"int", "str", "float", "bool", "list", "dict", "tuple", "none"})
"""What pydantic puts at the end of a path where a value may be of several kinds: which of them it tried."""


def complaints(
    errors: Iterable[Mapping[str, Any]],
    *,
    known: Collection[str] = (),
    hints: Mapping[str, str] | None = None,
    meanings: Mapping[str, str] | None = None,
) -> list[Complaint]:
    """What a failed validation complains about, each field once.

    Args:
        errors: as pydantic lists them, with their context.
        known: names of the fields that there are, for who names another one.
        hints: cures by the first part of the field; they go before the general ones.
        meanings: what a field is, for who leaves it out.
    """
    told: dict[tuple[str, ...], Complaint] = {}
    for entry in errors:
        path = _path(entry["loc"])
        message, cure = in_words(entry)
        if entry["type"] == "extra_forbidden":
            cure = f"Known: {', '.join(known)}." if known and len(path) == 1 else cure
        elif entry["type"] == "missing" and len(path) == 1 and path[0] in (meanings or {}):
            cure = f"Add it: {(meanings or {})[path[0]]}."
        else:
            cure = (hints or {}).get(path[0] if path else "", cure)
        before = told.get(path)
        if before is not None and before.message != message and entry["loc"][-1:] != path[-1:]:
            told[path] = before._replace(message=_either(before.message, message))
        elif before is None:
            told[path] = Complaint(path, message, cure)
    return list(told.values())


def in_words(error: Mapping[str, Any]) -> tuple[str, str]:
    """One error of pydantic as a sentence without its full stop, and the cure.

    Args:
        error: its `type`, `msg` and `ctx`.
    """
    kind, text = str(error["type"]), str(error["msg"])
    context: Mapping[str, Any] = error.get("ctx") or {}
    if kind == "missing":
        return "This field is missing", "Add it."
    if kind == "extra_forbidden":
        return "This field is not known", "Leave it out."
    if kind in ("literal_error", "enum"):
        choices = str(context.get("expected", "")).replace("'", "")
        return f"This must be {choices}", "Write one of them."
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        return f"This must be {words} {context.get(name)}", "Write a number within the bounds."
    if (sized := _size(kind, context)) is not None:
        return sized
    if kind == "string_pattern_mismatch":
        return "This does not have the form that is asked for", f"It must fit {context.get('pattern')}."
    if kind == "json_invalid":
        return f"This is not JSON: {context.get('error', text)}", "Repair it."
    if kind in ("value_error", "assertion_error"):
        return _sentence(text.partition(", ")[2] if text.startswith(("Value", "Assertion")) else text), ""
    first = kind.removeprefix("frozen_").partition("_")[0]
    if first in _KINDS and not kind.endswith(_OTHERWISE):
        what, cure = _KINDS[first]
        return f"This must be {what}", cure
    # Our own rules speak for themselves; "Input should be" is how pydantic begins.
    return _sentence(text.replace("Input should", "This must").replace("should", "must")), ""


def _size(kind: str, context: Mapping[str, Any]) -> tuple[str, str] | None:
    noun, plural = ("character", "") if kind.startswith("string") else ("entry", "entries")
    if kind in ("string_too_short", "too_short"):
        least = context.get("min_length", 1)
        message = "This must not be empty" if least == 1 else f"This needs {counted(least, noun, plural)}"
        return message if least == 1 else f"{message} at least", "Write something."
    if kind in ("string_too_long", "too_long"):
        most = context.get("max_length", 0)
        return f"This may have {counted(most, noun, plural)} at most", "Shorten it."
    return None


def _sentence(text: str) -> str:
    text = text.strip().rstrip(".")
    if text.startswith("must "):
        return f"This {text}"
    return text[:1].upper() + text[1:]


def _path(location: Sequence[Any]) -> tuple[str, ...]:
    parts = [str(part) for part in location]
    while len(parts) > 1 and (parts[-1] in _BRANCHES or "[" in parts[-1]):
        parts.pop()
    return tuple(parts)


def _either(first: str, second: str) -> str:
    """`This must be a text` and `This must be a whole number` as one sentence."""
    start = "This must be "
    if first.startswith(start) and second.startswith(start):
        return f"{first} or {second.removeprefix(start)}"
    return first
