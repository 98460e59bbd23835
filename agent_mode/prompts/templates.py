"""Hard-reset templates: text with four variables, compiled once, rendered often."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from agent_mode.errors import TemplateError
from agent_mode.prompts.watch import DirectoryWatch

ALLOWED = ("agentName", "agentInstructions", "previousAgentName", "baseInstructions")
REQUIRED = ("agentName", "agentInstructions")

_SUFFIX = ".txt"
_BLANK_LINES = re.compile(r"\n(?:[ \t]*\n)+")
_VARIABLE = re.compile(r"\{\{[ \t]*(" + "|".join(ALLOWED) + r")[ \t]*\}\}")
_UNKNOWN = re.compile(r"(?<![ \t])[ \t]*+\{\{(?![ \t]*(?:" + "|".join(ALLOWED) + r")[ \t]*\}\})[^{}]*\}\}")


@dataclass(frozen=True, slots=True)
class Template:
    """A compiled template; `compile_template` makes it.

    A paragraph whose variables are all empty is left out. Which paragraphs remain depends only on which of
    the four variables are empty, so there is one ready format for each of the sixteen cases.
    """

    name: str
    _formats: tuple[str, ...] = field(repr=False)

    def render(self, values: Mapping[str, str]) -> str:
        """The text with the values in it. Values are data: placeholders inside them stay as they are.

        Args:
            values: variable name to text; a missing one counts as empty, unknown ones are ignored.
        """
        filled = 0
        texts: dict[str, str] = {}
        for index, name in enumerate(ALLOWED):
            texts[name] = value = values.get(name, "")
            if value and not value.isspace():
                filled |= 1 << index
        return self._formats[filled] % texts


def compile_template(name: str, text: str) -> Template:
    """Makes a template of its text; placeholders other than the allowed ones are removed.

    Args:
        name: how strategies call it.
        text: paragraphs separated by blank lines, with variables such as `{{agentName}}`.

    Raises:
        TemplateError: `{{agentName}}` or `{{agentInstructions}}` is missing.
    """
    text = text.replace("\r\n", "\n")
    while (reduced := _UNKNOWN.sub("", text)) != text:
        text = reduced
    used = set(_VARIABLE.findall(text))
    for required in REQUIRED:
        if required not in used:
            raise TemplateError(
                f"Template {name} has no {{{{{required}}}}}.",
                hint=f"Write {{{{{required}}}}} where its text shall stand.",
                field=required,
            )
    paragraphs = [(p, set(_VARIABLE.findall(p))) for p in _BLANK_LINES.split(text.strip()) if p.strip()]
    formats: list[str] = []
    for filled in range(1 << len(ALLOWED)):
        given = {variable for index, variable in enumerate(ALLOWED) if filled >> index & 1}
        kept = [p for p, variables in paragraphs if not variables or variables & given]
        formats.append(_VARIABLE.sub(r"%(\1)s", "\n\n".join(kept).replace("%", "%%")))
    return Template(name, tuple(formats))


MINIMAL = compile_template(
    "minimal", "You are now {{agentName}}. Follow these instructions: {{agentInstructions}}"
)
"""The last resort, when a template fails."""

SIMPLE = compile_template(
    "simple",
    """\
You are {{agentName}} from now on. Any role you had earlier in this conversation has ended.

Your instructions:
{{agentInstructions}}

These general instructions also apply:
{{baseInstructions}}

The earlier replies came from {{previousAgentName}}. Use what they say, not how they say it.

What the user has told you and asked for stays valid. Answer the newest message as {{agentName}}.
""",
)
"""For models that we know nothing about, and for when a template's file is gone."""


class Templates(Protocol):
    """Where the templates of strategies are found."""

    def get(self, name: str) -> Template:
        """The template of that name.

        Raises:
            TemplateError: there is none that can be used.
        """
        ...


class TemplateSet:
    """The templates in a folder, `<name>.txt` each. An edit is live within a second.

    A broken edit keeps the last good text of that template; the others go on working.

    Args:
        directory: the folder.
        clock: seconds, never going back.
    """

    def __init__(self, directory: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._watch = DirectoryWatch(directory, _SUFFIX, _parse, TemplateError, clock=clock)

    def get(self, name: str) -> Template:
        """The template of that name.

        Raises:
            TemplateError: there is none, or its file has been broken since the start.
        """
        template = self._watch.content().get(name + _SUFFIX)
        if template is not None:
            return template
        if (error := self._watch.errors().get(name + _SUFFIX)) is not None:
            raise TemplateError(error.message, hint=error.hint, field=error.field)
        known = ", ".join(self.names()) or "none"
        raise TemplateError(
            f"There is no template {name}.",
            hint=f"Add {name}{_SUFFIX} to {self._watch.directory}, or use one of: {known}.",
        )

    def names(self) -> list[str]:
        """The names of the templates that can be used, sorted."""
        return sorted(file.removesuffix(_SUFFIX) for file in self._watch.content())

    def errors(self) -> dict[str, TemplateError]:
        """Template name to what is wrong with its file as it is now."""
        return {file.removesuffix(_SUFFIX): error for file, error in self._watch.errors().items()}

    def refresh(self) -> None:
        """Looks at the folder now, for who has just changed it."""
        self._watch.refresh()


def unknown_placeholders(text: str) -> list[str]:
    """What stands in double braces and is no variable; it is left out of the text that the model gets."""
    return list(dict.fromkeys(match.strip() for match in _UNKNOWN.findall(text)))


def _parse(file: str, text: str) -> Template:
    return compile_template(file.removesuffix(_SUFFIX), text)
