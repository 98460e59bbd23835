"""What we answer ourselves: help, the list, confirmations, suggestions. Pure text."""

from __future__ import annotations

import re
from collections.abc import Iterable

from agent_mode.chat.commands import Grammar
from agent_mode.chat.markdown import escaped
from agent_mode.chat.parsed import Command, Parsed
from agent_mode.chat.roster import Roster
from agent_mode.counting import counted
from agent_mode.store.personas import Persona

GIVEN_BACK = 4_000
"""So many characters of the words that were not sent are repeated; more are in the message above."""

_BACKTICKS = re.compile("`+")

CATEGORY_ORDER = ("software", "data", "science", "business", "writing", "teaching", "creative", "everyday")


def answer(
    said: Parsed, grammar: Grammar, roster: Roster, speaker: Persona | None, back: str, *, attached: bool
) -> str | None:
    """What we answer ourselves, without the LLM; None when the LLM is to answer.

    Args:
        said: the parsed message.
        grammar: which words are commands.
        roster: who can be called.
        speaker: the persona that is in charge after this message; None when none is.
        back: name of what `!reset` returns to.
        attached: whether something beside text came with the message.
    """
    if said.console is not None:
        if said.console.kind == "list":
            words = list_text(roster.by_key.values(), grammar.prefix)
        else:
            words = help_text(grammar.prefix)
        return with_unsent(words, said.console)
    if said.text or attached or said.several:
        return None
    if assigned := [command for command in said.commands if command.kind == "bind"]:
        names = ", ".join(
            f"{command.slot} is **{escaped(persona.display_name)}**"
            for command in assigned
            if (persona := roster.get(command.key or ""))
        )
        # How many models the chat has is not known here.
        beyond = " Where the chat has fewer models, the others speak in a talk only."
        return (
            f"Assigned: {names}. Ask in your next message, or start a talk: `{grammar.prefix}multi …`."
            f"{beyond if any(command.slot > 1 for command in assigned) else ''}"
        )
    if said.switch is not None:
        if said.switch.kind == "reset" or speaker is None:
            return back_to(back)
        return confirmation(speaker)
    return None


def help_text(prefix: str) -> str:
    """The answer to `!agent`."""
    return f"""**Agent Mode** — switch who answers, in the middle of a chat.

| Type | What happens |
| --- | --- |
| `{prefix}coder how do I …` | Coder takes over and answers; it stays until you switch again |
| `{prefix}coder` | Coder takes over; ask in your next message |
| `{prefix}teacher explain it {prefix}writer a poem` | one after the other, in one answer |
| `{prefix}persona1 teacher {prefix}persona2 coder` | assigns personas to models side by side |
| `{prefix}multi debate <topic>` | the assigned personas talk (also `collab`, or neither) |
| `{prefix}reset` | back to the model that you picked |
| `{prefix}agent list` | everyone you can call |
| `{prefix}agent settings` | your own settings |
| `{prefix}agent history coder` | the versions of a persona; for admins |
| `{prefix}agent rollback coder 1.0.2` | back to a version; for admins |
| `{prefix}agent` | this help |

A command counts at the start of a message or line. `\\{prefix}coder` is plain text."""


def list_text(personas: Iterable[Persona], prefix: str) -> str:
    """The answer to `!agent list`: a table for each category."""
    groups: dict[str, list[Persona]] = {}
    for persona in personas:
        groups.setdefault(persona.category, []).append(persona)
    order = {name: index for index, name in enumerate(CATEGORY_ORDER)}
    parts = []
    for category in sorted(groups, key=lambda name: (order.get(name, len(order)), name)):
        rows = [
            f"| `{prefix}{persona.key}` | {escaped(persona.display_name)} | {escaped(persona.description)} |"
            for persona in sorted(groups[category], key=lambda persona: persona.name.lower())
        ]
        head = f"### {escaped(category.capitalize())}\n\n| Type | Persona | What for |\n| --- | --- | --- |"
        parts.append("\n".join([head, *rows]))
    if not parts:
        return (
            "No persona is enabled. "
            "An admin can change that with the valve `models` of the personas pipeline."
        )
    return "\n\n".join(parts)


def folded(answer: str, command: Command, personas: int, agents: int = 0) -> str:
    """The list below the browser, for where the browser is not shown.

    Args:
        answer: to `!agent list`.
        command: what it answers.
        personas: how many of them the browser shows.
        agents: likewise.
    """
    unsent = with_unsent("", command)  # must be seen, so it stands outside
    table = answer.removesuffix(unsent)
    parts = [counted(number, noun) for number, noun in ((personas, "persona"), (agents, "agent")) if number]
    return (
        f"Pick one of {' and '.join(parts) or 'no personas'} above.\n\n"
        f"<details>\n<summary>As a table</summary>\n\n{table}\n\n</details>{unsent}"
    )


def confirmation(persona: Persona) -> str:
    """The answer to a lone `!coder`."""
    return f"**{escaped(persona.display_name)}** answers from now on. {escaped(persona.description)}"


def back_to(name: str) -> str:
    """The answer to a lone `!reset`."""
    return f"Back to **{escaped(name)}**."


def with_unsent(words: str, command: Command) -> str:
    """Our answer; where the message said more than the command, it gives back what nobody read."""
    if not command.unsent:
        return words
    said = f"{words}\n\nThe other words of your message were not sent to the model"
    if len(command.unsent) > GIVEN_BACK:
        return f"{said}; send them again without the command."
    fence = "`" * max([3, *(len(run) + 1 for run in _BACKTICKS.findall(command.unsent))])
    return f"{said}. To send them, copy them:\n\n{fence}text\n{command.unsent}\n{fence}"
