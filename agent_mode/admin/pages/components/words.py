"""How times, numbers and states are written. Pure functions, and the label of a state."""

from __future__ import annotations

from datetime import UTC, datetime

from nicegui import ui

from agent_mode.counting import form

_TONES = {
    "running": "blue",
    "waiting": "amber",
    "done": "green",
    "failed": "red",
    "stopped": "grey",
    "abandoned": "grey",
    "enabled": "green",
    "disabled": "grey",
}


def ago(moment: datetime | None, now: datetime | None = None) -> str:
    """How long ago: `12 s ago`, `3 min ago`, `5 h ago`, then the date; all in UTC."""
    if moment is None:
        return "never"
    seconds = ((now or datetime.now(UTC)) - moment).total_seconds()
    if seconds < 60:
        return f"{max(0, int(seconds))} s ago"
    if seconds < 3600:
        return f"{int(seconds // 60)} min ago"
    if seconds < 86_400:
        return f"{int(seconds // 3600)} h ago"
    return moment.astimezone(UTC).strftime("%Y-%m-%d")


def exact(moment: datetime | None) -> str:
    """A moment to the second."""
    return "" if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def lasted(milliseconds: float | None) -> str:
    """A duration: `340 ms`, `2.4 s`, `3 min 5 s`."""
    if milliseconds is None:
        return ""
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms"
    if milliseconds < 60_000:
        return f"{milliseconds / 1000:.1f} s"
    minutes, seconds = divmod(round(milliseconds / 1000), 60)
    return f"{minutes} min {seconds} s"


def count(number: float) -> str:
    """A number with thin spaces between thousands."""
    return f"{number:,.0f}".replace(",", "\u202f")


def counted(number: float, noun: str, plural: str = "") -> str:
    """A number as `count` writes it, with what it counts: `1 persona`, `2 personas`."""
    return f"{count(number)} {form(number, noun, plural)}"


def moment(when: datetime | None) -> ui.label:
    """How long ago, with the exact time as a tooltip."""
    label = ui.label(ago(when))
    if when is not None:
        label._props["title"] = exact(when)
    return label


def state(word: str) -> ui.label:
    """A state as a coloured word; the word alone says it all."""
    return ui.label(word).classes(f"am-state am-state--{_TONES.get(word, 'grey')}")


def code(text: str) -> ui.element:
    """A text with its line breaks, in a fixed width, in a box that scrolls."""
    box = ui.element("pre").classes("am-pre")
    box._props["tabindex"] = "0"
    with box:
        ui.label(text)
    return box
