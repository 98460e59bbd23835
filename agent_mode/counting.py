"""Numbers with what they count, as people write them: `1 second`, `0.5 seconds`. Pure functions."""

from __future__ import annotations


def counted(number: float, noun: str, plural: str = "") -> str:
    """A number and its noun.

    Args:
        number: how many; of a fraction six digits at most are shown.
        noun: for one of them.
        plural: for several, where an s does not do.
    """
    shown = str(number) if isinstance(number, int) else f"{number:g}"
    return f"{shown} {form(number, noun, plural)}"


def form(number: float, noun: str, plural: str = "") -> str:
    """The noun alone, for where the number is written another way."""
    return noun if number == 1 else plural or f"{noun}s"
