"""What the checks of the set-up find: how far each step is, in which order, and what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from agent_mode.counting import counted

State = Literal["done", "open", "wrong"]
"""`open`: not done yet, which may be as it is meant; `wrong`: done, but it does not work."""

SECONDS = 12.0
"""How long one check may take in all."""
ABOVE = "The steps above come first."

NEEDS = {
    "key": ("openwebui",),
    **dict.fromkeys(("connection", "passthrough", "models", "access", "tools"), ("openwebui", "key")),
}
"""Which steps a step cannot do without."""

TITLES = {
    "server": "Agent Mode runs",
    "llm": "An LLM provider answers",
    "openwebui": "Open WebUI answers",
    "key": "Its API key is an admin's",
    "connection": "Open WebUI is connected to this server",
    "passthrough": "Users reach this server by its chats alone",
    "models": "The models are listed there",
    "access": "Users may use them",
    "tools": "Tools are found",
    "data": "The data directory can be written",
    "database": "The database can be used",
}
"""What is so once a step is done; the last two are asked by `doctor` alone."""


@dataclass(frozen=True, slots=True)
class Finding:
    """How far one step is.

    Attributes:
        step: its name for programs.
        title: what is so once it is done.
        state: how it stands.
        text: what was found; never a secret.
        cure: what to do next; empty if all is well.
    """

    step: str
    title: str
    state: State
    text: str
    cure: str = ""


def finding(step: str, state: State, text: str, cure: str = "") -> Finding:
    return Finding(step, TITLES[step], state, text, cure)


def unseen(step: str) -> Finding:
    """What is found where a step above is not done."""
    return finding(step, "open", "It cannot be seen without the steps above.", ABOVE)


def folded(findings: Sequence[Finding]) -> list[Finding]:
    """The findings, where what fails only because a step above does is left open until that one works."""
    wrong = {found.step for found in findings if found.state == "wrong"}
    return [
        unseen(found.step) if found.step in wrong and wrong & set(NEEDS.get(found.step, ())) else found
        for found in findings
    ]


def late(step: str) -> Finding:
    """What is found of a check that took too long."""
    cure = "Whatever it asks does not answer. Try again."
    return finding(step, "wrong", f"No result within {counted(SECONDS, 'second')}.", cure)


def next_step(findings: Sequence[Finding]) -> Finding | None:
    """What to do next: what is wrong goes before what is not done yet."""
    wrong = [finding for finding in findings if finding.state == "wrong"]
    return next(iter([*wrong, *(finding for finding in findings if finding.state == "open")]), None)
