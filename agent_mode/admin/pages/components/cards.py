"""A list as cards; search, filters and pages as in `listing.py`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from itertools import groupby
from typing import Any, TypeVar

from nicegui import ui

from agent_mode.admin.pages.components.listing import Listing, Query

T = TypeVar("T")


class Cards(Listing[T]):
    """The cards.

    Args:
        load: as of `Listing`.
        draw: draws one item inside its card.
        group: what an item belongs to; a heading stands wherever that changes.
        more: further arguments of `Listing`.
    """

    def __init__(
        self,
        load: Callable[[Query], Awaitable[tuple[Sequence[T], int]]],
        draw: Callable[[T], object],
        group: Callable[[T], str],
        *,
        noun: str,
        **more: Any,
    ) -> None:
        super().__init__(load, [], noun=noun, **more)
        self._draw_card = draw
        self._group = group

    @property
    def query(self) -> Query:
        """What is asked for now."""
        return self._query

    def _draw(self, items: Sequence[T], total: int) -> None:
        if not total:
            self._draw_nothing()
            return
        for name, members in groupby(items, self._group):
            with ui.element("h2").classes("am-group"):
                ui.label(name)
            with ui.element("ul").classes("am-grid am-cards"):
                for item in members:
                    with ui.element("li").classes("am-card am-person"):
                        self._draw_card(item)
        self._draw_pages(len(items), total)
