"""Who speaks in a message that calls several personas, and with which words. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agent_mode.chat.parsed import CONSOLE_KINDS, Command, Parsed
from agent_mode.chat.roster import Roster
from agent_mode.errors import RequestError
from agent_mode.store.personas import Persona

CONTINUE = "Continue from what was said above, as yourself."
"""What a step without words of its own is asked when no later step has any."""


@dataclass(frozen=True, slots=True)
class Step:
    """One part of the answer.

    Attributes:
        key: the persona's key, or the picked model.
        task: what it is asked.
        persona: who speaks; None: the picked model as itself.
        command: what we answer ourselves in this place; nobody speaks then.
    """

    key: str
    task: str
    persona: Persona | None = None
    command: Command | None = None

    @property
    def name(self) -> str:
        """What it is called in a quotation."""
        return self.persona.name if self.persona else self.key

    @property
    def title(self) -> str:
        """What it is called in a heading."""
        return self.persona.display_name if self.persona else self.key


def steps_of(
    said: Parsed, roster: Roster, requested: str, assigned: Sequence[Persona] = (), turns: int = 1
) -> list[Step]:
    """The steps of a message in which several speak; empty for every other message.

    A step without words shares those of the next step that has some (`!coder !writer explain it`); the last
    ones go on from what was said. Words behind a command that lets nobody speak belong to the next step.

    Args:
        said: the parsed message.
        roster: who can be called.
        requested: the picked model, which speaks after `!reset`.
        assigned: who was assigned with `!persona1 …`, in order; they speak in a `!multi`.
        turns: how often each of them speaks.

    Raises:
        RequestError: a `!multi` without anybody to speak, or without anything to speak about.
    """
    if not said.several:
        return []
    steps: list[Step] = []
    for command, task in _calls(said):
        if command.kind in CONSOLE_KINDS:
            steps.append(Step(command.kind, "", command=command))
        elif command.kind == "multi":
            steps += _rounds(command.key or "turns", task, assigned, turns)
        else:
            key = command.key or requested
            steps.append(Step(key, task or CONTINUE, roster.get(key)))
    return steps


def _calls(said: Parsed) -> list[tuple[Command, str]]:
    """The commands that make steps, each with its words and those that stood before it for nobody."""
    calls: list[tuple[Command, str]] = []
    waiting = said.head
    for command in said.commands:
        if command.kind == "bind":
            waiting = _joined(waiting, command.text)
        elif command.kind in CONSOLE_KINDS:
            calls.append((command, ""))
            waiting = _joined(waiting, command.text)
        else:
            calls.append((command, _joined(waiting, command.text)))
            waiting = ""
    next_task = ""
    for index in reversed(range(len(calls))):
        command, task = calls[index]
        if command.kind in CONSOLE_KINDS:
            continue
        task, waiting = _joined(task, waiting), ""  # what stood behind the last one
        next_task = task or next_task
        calls[index] = command, next_task
    return calls


def _joined(*texts: str) -> str:
    return "\n\n".join(text for text in texts if text)


_LEADS = {
    "turns": "Answer this in your own way; react to what the others said, do not repeat it: ",
    "collab": "Work on this together with {others}. Build on what was said, add what is missing: ",
    "debate": "Debate this with {others}. Argue your own position and answer their strongest point: ",
}


def _rounds(mode: str, topic: str, assigned: Sequence[Persona], turns: int) -> list[Step]:
    """The steps of `!multi <topic>`: the assigned personas speak one after the other, several times."""
    if len(assigned) < 2:
        raise RequestError(
            "`!multi` needs at least two personas.",
            hint="Assign them first: `!persona1 teacher !persona2 scientist`.",
            code="too_few_personas",
            field="messages",
        )
    if not topic:
        raise RequestError(
            "`!multi` needs a topic.",
            hint="Write it behind the command: `!multi debate Is tea better than coffee?`",
            code="no_topic",
            field="messages",
        )
    steps = []
    for number in range(turns * len(assigned)):
        persona = assigned[number % len(assigned)]
        others = ", ".join(other.name for other in assigned if other is not persona)
        lead = _LEADS[mode].format(others=others) if number else ""
        steps.append(Step(persona.key, lead + topic, persona))
    return steps
