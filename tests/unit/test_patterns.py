"""No pattern of the package is quadratic: one message would stop the server for everybody."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

import agent_mode
from agent_mode.chat.tokens import tokens_of
from agent_mode.prompts.guard import _tags

# No public module takes a pattern apart.
codes: Any = importlib.import_module("re._constants")
parser: Any = importlib.import_module("re._parser")

LENGTH = 10_000
REPEATS = 1_500
SECONDS = 0.02
"""A linear pattern takes some milliseconds for such a text, a quadratic one a tenth of a second and more.
What takes longer than this is asked about a longer text too, since a machine may be slow."""
GROWTH = 9.0
"""Of a text four times as long, a linear pattern takes four times as long, a quadratic one sixteen times."""

TRUSTED: dict[str, str] = {
    # name of the pattern: why nobody can send it a long text
    "agent_mode.admin.valves._WORD": "names of valves",
}
IN_FUNCTIONS = {
    "tokens.tokens_of.first": tokens_of("!").first,
    "tokens.tokens_of.of_line": tokens_of("!").of_line,
    "tokens.tokens_of.anywhere": tokens_of("!!").anywhere,
    "tokens.tokens_of.apart": tokens_of("!").apart,
    "guard._tags": _tags(("answer", "others")),
}
MARKS = ("`", "``` ", "~~~\n", "<", "</", "[", "{{", "!", "-", "\\", '"', "'", "(", "😀", "https://", "data:")


def patterns() -> Iterator[tuple[str, re.Pattern[Any]]]:
    """Every compiled pattern at the top of a module."""
    seen: set[tuple[Any, int]] = set()
    for module in pkgutil.walk_packages(agent_mode.__path__, "agent_mode."):
        if module.name.endswith("__main__") or ".migrations" in module.name:
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, re.Pattern) and (value.pattern, value.flags) not in seen:
                seen.add((value.pattern, value.flags))
                yield f"{module.name}.{name}", value
    yield from IN_FUNCTIONS.items()


def beginnings(pattern: re.Pattern[Any]) -> list[str]:
    """Texts that a pattern follows for a while: what it matches at least, up to each of its parts."""
    found: list[str] = []

    def follow(parts: Any, text: str) -> str:
        for code, value in parts:
            if code is codes.LITERAL:
                text += chr(value)
            elif code is codes.NOT_LITERAL:
                text += "y" if value == ord("x") else "x"
            elif code is codes.ANY:
                text += "x"
            elif code is codes.IN:
                text += one_of(value)
            elif code in (codes.SUBPATTERN, codes.ATOMIC_GROUP):
                text = follow(value[-1] if code is codes.SUBPATTERN else value, text)
            elif code in (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT):
                found.append(text)
                text += follow(value[2], "") * max(value[0], 1)
            elif code is codes.BRANCH:
                branches = [follow(branch, text) for branch in value[1]]
                found.extend(branches)
                text = branches[0]
            elif code is codes.ASSERT and value[0] > 0:
                found.append(follow(value[1], text))
            found.append(text)
        return text

    follow(
        parser.parse(pattern.pattern, pattern.flags & ~re.UNICODE if _is_bytes(pattern) else pattern.flags),
        "",
    )
    return [text for text in dict.fromkeys(found) if text]


def one_of(members: Any) -> str:
    """A character of a set."""
    negated = bool(members) and members[0][0] is codes.NEGATE
    if negated:
        listed = {chr(value) for code, value in members if code is codes.LITERAL}
        return next(char for char in "a1 -" if char not in listed)
    code, value = members[0]
    if code is codes.LITERAL:
        return chr(value)
    if code is codes.RANGE:
        return chr(value[0])
    samples = {codes.CATEGORY_DIGIT: "1", codes.CATEGORY_SPACE: " ", codes.CATEGORY_NOT_WORD: "-"}
    return samples.get(value, "a")


def hostile(pattern: re.Pattern[Any], times: int = 1) -> Iterator[str]:
    """Long texts: rows of one character, of each beginning, and of what may stand between."""
    for unit in ("a", " ", "\n", "\t", "1", "\u200b", "a ", " \n", *MARKS):
        yield long(unit, times)
    for text in beginnings(pattern):
        for unit in (text, text + " ", text + "\n"):
            yield long(unit, times)
        for unit in (" ", "\n", "a"):
            yield text + long(unit, times)
            yield long(unit, times) + text


def long(unit: str, times: int = 1) -> str:
    return unit * max(LENGTH // len(unit), REPEATS) * times


def is_anchored(name: str) -> bool:
    """Whether a module asks a pattern only for matches at one place, as its source shows."""
    module, _, constant = name.rpartition(".")
    if module not in sys.modules:
        return name.endswith(("first", "apart"))
    uses = re.findall(rf"\b{constant}\.(\w+)", inspect.getsource(sys.modules[module]))
    return bool(uses) and {"match", "fullmatch"}.issuperset(uses)


def took(pattern: re.Pattern[Any], text: str, *, anchored: bool) -> float:
    """Seconds of the process."""
    subject: Any = text.encode("latin-1", "replace") if _is_bytes(pattern) else text
    started = time.process_time()
    pattern.match(subject)
    pattern.fullmatch(subject)
    for _ in () if anchored else pattern.finditer(subject):
        pass
    return time.process_time() - started


def too_slow(pattern: re.Pattern[Any], *, anchored: bool = False) -> str | None:
    """The text of which a pattern is quadratic, if there is one. A busy machine may spoil an attempt."""
    texts = dict(zip(hostile(pattern), hostile(pattern, 4), strict=True))
    for text, longer in texts.items():
        for _ in range(2):
            seconds = took(pattern, text, anchored=anchored)
            if seconds < SECONDS or took(pattern, longer, anchored=anchored) < GROWTH * seconds:
                break
        else:
            return text
    return None


def _is_bytes(pattern: re.Pattern[Any]) -> bool:
    return isinstance(pattern.pattern, bytes)


def test_no_pattern_is_quadratic() -> None:
    slow: dict[str, str] = {}
    names = dict(patterns())
    for name, pattern in names.items():
        if name in TRUSTED:
            continue
        if (text := too_slow(pattern, anchored=is_anchored(name))) is not None:
            slow[name] = f"{text[:40]!r}…{text[-10:]!r}"

    assert not slow, "\n".join(f"{name}: {what}" for name, what in slow.items())
    assert len(names) > 60, "the walk does not find them"
    assert set(TRUSTED) <= set(names), "a pattern that is gone needs no excuse"


@pytest.mark.long
@pytest.mark.parametrize(
    "pattern",
    [
        r'<details type="(?:reasoning|tool_calls)".*?</details>\s*',
        r'\s*<details type="tool_calls"[^>]*>\n</details>\s*',
        r"\s*> Tip: `[^`\n]{1,80}` knows\.\s*\Z",
        r"<others>.*?</others>",
    ],
)
def test_the_net_is_fine_enough(pattern: str) -> None:
    assert too_slow(re.compile(pattern, re.DOTALL)) is not None
