"""The pages of the docs as tests read them: blocks, shell commands, links."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from agent_mode.settings import ROOT

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.glob("*.md"))]

BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_SHELL = ("", "bash")
_INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_PROGRAM = re.compile(
    r"(?:[A-Z_]+=\S* )*(?:\./\w|\.venv/|python3? |pip |curl |docker |kubectl |apt(?:-get)? |git |pg_\w+ )"
)
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)


def text_of(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """Language and content of each fenced block, without the indentation of the list that it stands in."""
    for match in BLOCK.finditer(text):
        indent, language, content = match.groups()
        yield language, re.sub(rf"^{indent}", "", content, flags=re.MULTILINE) if indent else content


def scripts(text: str) -> list[str]:
    """The shell blocks."""
    return [content for language, content in blocks(text) if language in _SHELL]


@dataclass(frozen=True)
class Command:
    """One simple command.

    Args:
        words: program and arguments.
        names: variables that are set in front of it, or by it.
    """

    page: str
    words: tuple[str, ...]
    names: tuple[str, ...] = ()

    @property
    def program(self) -> str:
        return self.words[0] if self.words else ""

    def __str__(self) -> str:
        return f"{self.page}: {' '.join(self.words or self.names)}"


def commands() -> list[Command]:
    """Every command of every page, from shell blocks and from code within sentences."""
    found: list[Command] = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for script in scripts(text):
            found += parse(page.name, script)
        for code in _INLINE.findall(BLOCK.sub("", text)):
            if _PROGRAM.match(code) and code != "docker run":
                found += parse(page.name, code)
    return found


def parse(page: str, script: str) -> list[Command]:
    """Splits a script at line ends, `;`, `|`, `&&` and `||`; leaves out control words and redirections."""
    lexer = shlex.shlex(script.replace("\\\n", " "), posix=True, punctuation_chars=";|&>\n")
    lexer.whitespace = " \t"
    lexer.whitespace_split = True
    lexer.commenters = ""
    found: list[Command] = []
    words: list[str] = []
    for token in [*lexer, ";"]:
        if token.strip(";|&\n"):
            words.append(token)
            continue
        if command := _simple(page, words):
            found.append(command)
        words = []
    return found


def _simple(page: str, words: list[str]) -> Command | None:
    while words and words[0] in ("do", "done", "for", "{", "}"):
        if words[0] in ("for", "done"):
            return None
        words = words[1:]
    names: list[str] = []
    while words and (found := _ASSIGNMENT.fullmatch(words[0])):
        names.append(found[1])
        words = words[1:]
    if words and words[0] == "export":
        names += [found[1] for word in words[1:] if (found := _ASSIGNMENT.fullmatch(word))]
    redirected = next((place for place, word in enumerate(words) if word.startswith((">", "<"))), len(words))
    words = words[:redirected]
    return Command(page, tuple(words), tuple(names)) if words or names else None
