"""A plain bar chart as a PNG, for agents that have numbers to show."""

from __future__ import annotations

import io
from collections.abc import Sequence

from agent_mode.errors import AgentError

_WIDTH, _HEIGHT, _MARGIN, _TOP = 960, 540, 70, 60
_MOST = 40
_BAR, _INK, _LINE, _PAPER = "#4f7cff", "#1f2430", "#d5d9e2", "#ffffff"


def bar_chart(labels: Sequence[str], values: Sequence[float], *, title: str = "") -> bytes:
    """Draws one bar for each value.

    Args:
        labels: one for each value, shortened where space is short.
        values: finite numbers, negative ones too; only the first 40 are drawn.
        title: stands above.

    Returns:
        a PNG of 960 by 540 pixels.

    Raises:
        AgentError: Pillow is not installed, as on a stock server.
        ValueError: there are no values.
    """
    try:
        from PIL import Image, ImageDraw, ImageFont  # noqa: PLC0415  lazily: most agents draw nothing
    except ImportError as error:
        raise AgentError(
            "A chart needs the package Pillow, which this server does not have.",
            hint="Run `pip install pillow` for the server's Python and restart.",
        ) from error
    if not values:
        raise ValueError("A chart needs at least one value.")
    labels, values = list(labels)[:_MOST], list(values)[:_MOST]
    canvas = Image.new("RGB", (_WIDTH, _HEIGHT), _PAPER)
    draw = ImageDraw.Draw(canvas)
    large, small = ImageFont.load_default(24), ImageFont.load_default(14)
    low, high = min(0.0, *values), max(0.0, *values)
    span = (high - low) or 1.0

    def y_of(value: float) -> float:
        return _TOP + (high - value) / span * (_HEIGHT - _TOP - _MARGIN)

    draw.text((_MARGIN, 16), title, font=large, fill=_INK)
    for part in range(5):
        value = low + span * part / 4
        draw.line((_MARGIN, y_of(value), _WIDTH - 20, y_of(value)), fill=_LINE)
        draw.text((_MARGIN - 8, y_of(value)), f"{value:g}", font=small, fill=_INK, anchor="rm")
    step = (_WIDTH - 20 - _MARGIN) / len(values)
    letters = max(1, int(step / 8))
    for place, (label, value) in enumerate(zip(labels, values, strict=False)):
        left = _MARGIN + place * step
        top, bottom = sorted((y_of(value), y_of(0.0)))
        draw.rectangle((left + step * 0.15, top, left + step * 0.85, bottom), fill=_BAR)
        draw.text(
            (left + step / 2, _HEIGHT - _MARGIN + 14), label[:letters], font=small, fill=_INK, anchor="ma"
        )
    draw.line((_MARGIN, y_of(0.0), _WIDTH - 20, y_of(0.0)), fill=_INK)
    out = io.BytesIO()
    canvas.save(out, "PNG")
    return out.getvalue()
