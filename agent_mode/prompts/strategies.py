"""Which strategy a model gets: how its family is best told that somebody else answers from now on.

A model id is looked up as an exact id, then by the longest pattern, then by provider, then globally. Ids come
in many dresses (`openrouter/anthropic/claude-…`, `us.anthropic.claude-…-v1:0`, `llama3.2:3b`): `_forms` takes
them off.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from agent_mode.complaints import complaints
from agent_mode.errors import StrategyError
from agent_mode.prompts.watch import DirectoryWatch

Type = Literal["xml-tags", "hierarchical", "direct-command", "simple", "calm"]
Level = Literal["low", "medium", "high"]
Placement = Literal["replace_first", "append_system", "first_user", "first_and_last_user"]
Pivot = Literal["system", "user", "none"]
History = Literal["full", "relabel", "summary", "last_n", "none"]
Handling = Literal["developer_role", "no_system", "alternate_roles", "strip_reasoning"]

SUFFIX = "-prompt-strategies.json"
_GLOBAL = f"default{SUFFIX}"
_MAX_ID_CHARS = 200
_MAX_CACHED = 1024


@dataclass(frozen=True, slots=True)
class Strategy:
    """How one model, or a family of models, is told who answers.

    Args:
        id: the key in the strategy file: a model id, a pattern, or the name of a default.
        provider: whose file it comes from.
        type: the kind of template.
        template: name of the template that is used at a switch.
        assertiveness: how firmly the switch is put.
        contextual_memory: how much of the earlier conversation still counts.
        special_handling: `developer_role` role developer instead of system; `no_system` no system role at
            all; `alternate_roles` neighbours of one role are merged; `strip_reasoning` earlier turns lose
            their thinking.
        placement: where the persona block stands.
        pivot: role of the short line next to the last user message.
        history: what becomes of the earlier messages.
        why: the reason, in one sentence.
        source: where that is known from.
        checked_on: when that was looked up, ISO 8601 date, or "".
    """

    id: str
    provider: str
    type: Type
    template: str
    assertiveness: Level
    contextual_memory: Level
    special_handling: frozenset[Handling]
    placement: Placement
    pivot: Pivot
    history: History
    why: str
    source: str
    checked_on: str


@dataclass(frozen=True, slots=True)
class Selection:
    """A strategy, and by which key of which kind it was found; `matched` is "" when none matched."""

    strategy: Strategy
    matched_by: Literal["exact", "pattern", "provider", "global"]
    matched: str


SIMPLE_STRATEGY = Strategy(
    id="simple",
    provider="built-in",
    type="simple",
    template="simple",
    assertiveness="medium",
    contextual_memory="medium",
    special_handling=frozenset(),
    placement="replace_first",
    pivot="user",
    history="full",
    why="Works with any model; it is used when the strategy files cannot be.",
    source="",
    checked_on="",
)


class StrategyBook:
    """The strategy files of a folder, `<provider>-prompt-strategies.json`. An edit is live within a second.

    A broken edit keeps the last good content of that file; the others go on working. Threads may share it.

    Args:
        directory: the folder.
        clock: seconds, never going back.
    """

    def __init__(self, directory: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._watch = DirectoryWatch(directory, SUFFIX, _parse, StrategyError, clock=clock)
        self._index = _Index(self._watch.content())

    def select(self, model_id: str) -> Selection:
        """The strategy for a model: exact id, longest pattern, provider default, global default.

        Never raises: without usable files it is `SIMPLE_STRATEGY`.

        Args:
            model_id: as the provider or a gateway names it.
        """
        index = self._current()
        if not isinstance(model_id, str) or len(model_id) > _MAX_ID_CHARS:
            return index.fallback
        selection = index.cache.get(model_id)
        if selection is None:
            selection = index.find(model_id)
            if len(index.cache) >= _MAX_CACHED:
                index.cache.clear()
            index.cache[model_id] = selection
        return selection

    def all(self) -> list[Strategy]:
        """Every strategy, by provider, in the order of the files."""
        return [strategy for file in self._current().files.values() for _, strategy in file.entries]

    def errors(self) -> dict[str, StrategyError]:
        """File name to what is wrong with the file as it is now."""
        return dict(self._watch.errors())

    def refresh(self) -> None:
        """Looks at the folder now, for who has just changed it."""
        self._watch.refresh()

    def _current(self) -> _Index:
        files = self._watch.content()
        index = self._index
        if index.files is not files:
            index = self._index = _Index(files)
        return index


def check(file: str, text: str) -> list[Strategy]:
    """The strategies that a file with this text would hold.

    Args:
        file: its name.
        text: JSON.

    Raises:
        StrategyError: it cannot be used; names the entry and the field.
    """
    return [strategy for _, strategy in _parse(file, text).entries]


class _Index:
    """Everything `select` needs, made anew whenever a file has changed; so its cache is never stale."""

    def __init__(self, files: Mapping[str, _File]) -> None:
        self.files = files
        self.cache: dict[str, Selection] = {}
        entries = [entry for file in files.values() for entry in file.entries]
        self._exact = {glob.text.lower(): s for glob, s in reversed(entries) if not glob.wild}
        self._exact |= {glob.text: s for glob, s in reversed(entries) if not glob.wild}
        self._patterns = sorted(entries, key=lambda entry: entry[0].rank)
        matches = [(glob, file.default) for file in files.values() for glob in file.match]
        self._providers = sorted(matches, key=lambda match: match[0].rank)
        general = files.get(_GLOBAL)
        self.fallback = Selection(general.default if general else SIMPLE_STRATEGY, "global", "")

    def find(self, model_id: str) -> Selection:
        sure, loose = _forms(model_id)
        for form in sure:
            if form in self._exact:
                strategy = self._exact[form]
                return Selection(strategy, "exact", strategy.id)
        forms = [*sure, *loose]
        for glob, strategy in self._patterns:
            if any(map(glob.fits, forms)):
                return Selection(strategy, "pattern", glob.text)
        for glob, strategy in self._providers:
            if any(map(glob.fits, forms)):
                return Selection(strategy, "provider", glob.text)
        return self.fallback


_VENDOR_DOT = re.compile(r"[a-z][\w-]*\.(?=[a-z])")
_GGUF = re.compile(r"(?:[.-](?:i?q\d\w*|b?f16|fp16))?\.gguf$")
_LABEL = re.compile(r":(?:latest|free|beta|online|nitro|floor|extended|exacto|thinking)$|-v\d+:\d+(?::\w+)?$")
_DATE = re.compile(r"[-@](?:\d{4}-\d{2}-\d{2}|\d{8}|\d{4}|latest)$")


def _forms(model_id: str) -> tuple[list[str], list[str]]:
    """The names that mean this model, without its gateway's dress, fullest first.

    Returns:
        names that mean this very model, and looser ones that have lost its Ollama tag or its date: those find
        an entry only if no longer pattern speaks of the tag or the date.
    """
    name = model_id.strip().lower()
    sure = [model_id, name]
    while "/" in name:
        name = name.partition("/")[2]
        sure.append(name)
    name = _GGUF.sub("", name).removeprefix("ft:")
    sure.append(name)
    while dotted := _VENDOR_DOT.match(name):
        name = name[dotted.end() :]
        sure.append(name)
    sure += [_LABEL.sub("", form) for form in sure]
    loose = [form.partition(":")[0] for form in sure]
    loose += [_DATE.sub("", form) for form in loose]
    return list(dict.fromkeys(sure)), list(dict.fromkeys(loose))


_WILD = re.compile(r"(\*|\[[\w.:-]+\])")


class _Glob:
    """A model id in which `*` stands for any characters but `/`, and `[a-z]` or `[-.]` for one of these."""

    def __init__(self, text: str) -> None:
        self.text = text
        parts = _WILD.split(text.lower())
        self.wild = len(parts) > 1
        # Every second part is a wildcard. A class counts like the one character that it stands for.
        literal = sum(len(part) for part in parts[::2]) + sum(part != "*" for part in parts[1::2])
        self.rank = (-literal, -len(text), text)
        parts[::2] = map(re.escape, parts[::2])
        self._regex = re.compile("".join("[^/]*" if part == "*" else part for part in parts))

    def fits(self, form: str) -> bool:
        return self._regex.fullmatch(form) is not None


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel)


class _EntryModel(_Strict):
    type: Type
    agent_switch_template: str = Field(min_length=1)
    assertiveness: Level = "medium"
    contextual_memory: Level = "medium"
    special_handling: frozenset[Handling] = frozenset()
    placement: Placement = "replace_first"
    pivot: Pivot = "user"
    history: History = "full"
    why: str = ""
    source: str = ""
    checked_on: date | None = None

    @model_validator(mode="after")
    def _without_contradiction(self) -> _EntryModel:
        handling = self.special_handling
        if "no_system" in handling and not self.placement.startswith("first_"):
            raise ValueError("no_system needs placement first_user or first_and_last_user")
        if "no_system" in handling and (self.pivot == "system" or "developer_role" in handling):
            raise ValueError("no_system allows neither pivot system nor developer_role")
        return self


class _FileModel(_Strict):
    provider: str = Field(min_length=1)
    match: tuple[str, ...] = ()
    default: str
    strategies: dict[str, _EntryModel]


@dataclass(frozen=True, slots=True)
class _File:
    default: Strategy
    match: tuple[_Glob, ...]
    entries: tuple[tuple[_Glob, Strategy], ...]


def _parse(file: str, text: str) -> _File:
    try:
        model = _FileModel.model_validate(json.loads(text, object_pairs_hook=_no_twins))
    except ValidationError as exc:
        raise _readable(file, exc) from None
    except (ValueError, RecursionError) as exc:
        raise StrategyError(
            f"{file} is not usable JSON: {exc}.",
            hint="Look at that place for a comma, quote or bracket too many or too few. "
            "The file is read again within a second.",
        ) from None
    if file != f"{model.provider}{SUFFIX}":
        raise StrategyError(
            f"{file} says that its provider is {model.provider}.",
            hint=f"Name the file {model.provider}{SUFFIX}, or correct the provider.",
            field="provider",
        )
    if model.default not in model.strategies:
        raise StrategyError(
            f'{file}: the default "{model.default}" is not among its strategies.',
            hint="Add an entry of that name, or name another default.",
            field="default",
        )
    strategies = {key: _strategy(key, model.provider, entry) for key, entry in model.strategies.items()}
    return _File(
        default=strategies[model.default],
        match=tuple(_glob(file, pattern, "match") for pattern in model.match),
        entries=tuple((_glob(file, key, f"strategies.{key}"), value) for key, value in strategies.items()),
    )


def _strategy(key: str, provider: str, entry: _EntryModel) -> Strategy:
    values = entry.model_dump(exclude={"agent_switch_template", "checked_on"})
    checked_on = entry.checked_on.isoformat() if entry.checked_on else ""
    return Strategy(
        id=key, provider=provider, template=entry.agent_switch_template, checked_on=checked_on, **values
    )


def _glob(file: str, text: str, field: str) -> _Glob:
    try:
        return _Glob(text)
    except re.error as exc:
        raise StrategyError(
            f'{file}: "{text}" is not a pattern: {exc}.',
            hint="Use * for any characters and [0-9] for one of a range.",
            field=field,
        ) from None


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of two entries with one name json would silently drop the first."""
    value = dict(pairs)
    if len(value) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f'"{next(key for key in keys if keys.count(key) > 1)}" stands there twice')
    return value


def _readable(file: str, exc: ValidationError) -> StrategyError:
    """Names file, entry and field of the first mistake, and how many more there are."""
    first, *others = complaints(exc.errors(include_url=False, include_input=False))
    path = list(first.path)
    if path[:1] == ["strategies"] and len(path) > 1:
        place = f'entry "{path[1]}"' + (f", field {'.'.join(path[2:])}" if path[2:] else "")
    else:
        place = f"field {'.'.join(path)}" if path else "the whole file"
    more = f" ({len(others)} more mistakes in it.)" if others else ""
    return StrategyError(
        f"{file}: {place}: {first.message}.{more}",
        hint=f"{first.hint} The file is read again within a second.".strip(),
        field=first.field or None,
    )
