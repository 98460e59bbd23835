"""Versions of something: who, when, why; two of them side by side; the way back."""

from __future__ import annotations

import difflib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from nicegui import ui

from agent_mode.admin.pages.components.buttons import button
from agent_mode.admin.pages.components.confirm import confirm
from agent_mode.admin.pages.components.words import moment

Side = Literal["same", "gone", "new", "changed"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One version."""

    number: int
    label: str
    author: str
    message: str
    at: datetime


def history(
    entries: Sequence[Entry],
    text_of: Callable[[int], Awaitable[str]],
    roll_back: Callable[[int], Awaitable[None]],
    unsaved: Callable[[], bool],
) -> None:
    """The versions, the newest first.

    Args:
        entries: the versions.
        text_of: a version as text, such as its JSON; called with its number.
        roll_back: makes a version the newest again; called after the person has confirmed.
        unsaved: whether there are changes that are not saved, and that would be replaced.
    """
    area = ui.element("div").classes("am-diff-area")
    newest = entries[0].number if entries else 0

    async def compare(old: int, new: int) -> None:
        before, after = await text_of(old), await text_of(new)
        labels = {entry.number: entry.label for entry in entries}
        area.clear()
        with area:
            side_by_side(before, after, f"Version {labels[old]}", f"Version {labels[new]}")

    async def back_to(entry: Entry) -> None:
        text = "It becomes a new version; the ones after it stay in the history."
        if unsaved():
            text += " What you changed and did not save is replaced; Undo brings it back for ten seconds."
        if await confirm(f"Go back to version {entry.label}?", text, action="Go back"):
            await roll_back(entry.number)

    with ui.element("ol").classes("am-history"):
        for place, entry in enumerate(entries):
            with ui.element("li"):
                with ui.element("div"):
                    ui.label(f"Version {entry.label}").classes("am-strong")
                    ui.label(entry.message or "no message")
                    with ui.row().classes("am-soft am-inline"):
                        ui.label(entry.author)
                        moment(entry.at)
                with ui.row().classes("am-actions"):
                    if place + 1 < len(entries):
                        before = entries[place + 1].number
                        button("What changed", lambda old=before, new=entry.number: compare(old, new))
                    if entry.number != newest:
                        button("Compare with newest", lambda old=entry.number: compare(old, newest))
                        button("Go back to this", lambda entry=entry: back_to(entry))


def differences(before: str, theirs: str, mine: str, *, author: str, label: str) -> None:
    """What somebody else has changed meanwhile, and how the own draft differs from that.

    Args:
        before: the text that the own draft is based on.
        theirs: the newest one.
        mine: the own draft.
        author: who has changed it.
        label: of the newest version.
    """
    with ui.element("div").classes("am-card am-fields"):
        with ui.element("h2"):
            ui.label(f"What {author} has changed")
        side_by_side(before, theirs, "When you opened it", f"Version {label}")
        with ui.element("details"):
            with ui.element("summary"):
                ui.label("How yours differs from that")
            side_by_side(theirs, mine, f"Version {label}", "Yours")


def side_by_side(old: str, new: str, old_title: str, new_title: str) -> None:
    """Two texts beside one another, line by line; on a phone one below the other."""
    with ui.element("table").classes("am-diff").props('aria-label="Comparison"'):
        with ui.element("thead"), ui.element("tr"):
            for title in (old_title, new_title):
                with ui.element("th").props("scope=col"):
                    ui.label(title)
        with ui.element("tbody"):
            for side, left, right in rows(old.splitlines(), new.splitlines()):
                with ui.element("tr").classes(f"am-diff--{side}"):
                    for sign, text in (("−", left), ("+", right)):
                        with ui.element("td"):
                            if text is not None:
                                ui.label(f"{sign} {text}" if side != "same" else f"  {text}")
    if old == new:
        ui.label("They are the same.").classes("am-soft")


def rows(
    old: Sequence[str], new: Sequence[str], around: int = 3
) -> Iterator[tuple[Side, str | None, str | None]]:
    """The lines of two texts in pairs, with so many equal ones around each change. Pure."""
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    for group in matcher.get_grouped_opcodes(around):
        for tag, a, b, c, d in group:
            left, right = old[a:b], new[c:d]
            if tag == "equal":
                for line in left:
                    yield "same", line, line
                continue
            for place in range(max(len(left), len(right))):
                before = left[place] if place < len(left) else None
                after = right[place] if place < len(right) else None
                yield (
                    (
                        "changed"
                        if before is not None and after is not None
                        else "gone"
                        if after is None
                        else "new"
                    ),
                    before,
                    after,
                )
