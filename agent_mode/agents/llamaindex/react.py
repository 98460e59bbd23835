"""Tells thought from answer in what a ReAct agent writes, while it writes."""

from __future__ import annotations

from typing import Literal

THOUGHT, ACTION, ANSWER = "Thought:", "Action:", "Answer:"

Kind = Literal["thought", "answer"]
_Part = Literal["unknown", "thought", "action", "answer"]
_PARTS: dict[str, _Part] = {THOUGHT: "thought", ACTION: "action", ANSWER: "answer"}


class ReActText:
    """The text of one step.

    A model may answer without any of the words that begin a part; that shows only at the end.
    """

    def __init__(self) -> None:
        self._part: _Part = "unknown"
        self._rest = ""
        """What no one has been told yet."""
        self._begun = False
        """Whether anything of this part was told; white space before it is left out."""

    def feed(self, text: str) -> list[tuple[Kind, str]]:
        """What can be told after this piece."""
        self._rest += text
        told: list[tuple[Kind, str]] = []
        while self._step(told):
            pass
        return told

    def close(self, *, is_answer: bool) -> list[tuple[Kind, str]]:
        """What is left at the end; `is_answer`: no tool was called, so what has no mark is the answer."""
        rest, self._rest = self._rest.strip(), ""
        if not rest or self._part == "action" or (self._part == "unknown" and not is_answer):
            return []
        return [("thought" if self._part == "thought" else "answer", rest)]

    def _step(self, told: list[tuple[Kind, str]]) -> bool:
        """Goes as far as the next mark; returns whether there was one."""
        if self._part == "unknown":
            return self._begin((THOUGHT, ACTION, ANSWER), told)
        if self._part == "thought":
            if self._begin((ACTION, ANSWER), told):
                return True
            kept = _may_begin(self._rest, (ACTION, ANSWER))
            self._tell("thought", self._rest[: len(self._rest) - kept], told)
            self._rest = self._rest[len(self._rest) - kept :]
        elif self._part == "answer":
            self._tell("answer", self._rest, told)
            self._rest = ""
        return False

    def _begin(self, marks: tuple[str, ...], told: list[tuple[Kind, str]]) -> bool:
        places = [(place, mark) for mark in marks if (place := self._rest.find(mark)) >= 0]
        if not places:
            return False
        place, mark = min(places)
        if self._part == "thought":
            self._tell("thought", self._rest[:place].rstrip(), told)
        self._rest = self._rest[place + len(mark) :]
        self._part, self._begun = _PARTS[mark], False
        return True

    def _tell(self, kind: Kind, text: str, told: list[tuple[Kind, str]]) -> None:
        text = text if self._begun else text.lstrip()
        if text:
            self._begun = True
            told.append((kind, text))


def _may_begin(text: str, marks: tuple[str, ...]) -> int:
    """How many characters at the end may be the beginning of a mark, the white space before it included."""
    cut = len(text)
    for mark in marks:
        for length in range(len(mark) - 1, 0, -1):
            if text.endswith(mark[:length]):
                cut = min(cut, len(text) - length)
                break
    return len(text) - len(text[:cut].rstrip())
