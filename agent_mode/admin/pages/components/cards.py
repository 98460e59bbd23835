"""A list as cards; search, filters and pages as in `listing.py`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from nicegui import ui

from agent_mode.admin.pages.components.listing import Listing, Query

T = TypeVar("T")


class Cards(Listing[T]):
    """The cards.

    Args:
        load: as of `Listing`.
        draw: draws one item inside its card.
        more: further arguments of `Listing`.
    """

    def __init__(
        self,
        load: Callable[[Query], Awaitable[tuple[Sequence[T], int]]],
        draw: Callable[[T], object],
        *,
        noun: str,
        **more: Any,
    ) -> None:
        super().__init__(load, [], noun=noun, **more)
        self._draw_card = draw

    @property
    def query(self) -> Query:
        """What is asked for now."""
        return self._query

    def _draw(self, items: Sequence[T], total: int) -> None:
        if not total:
            self._draw_nothing()
            return
        with ui.element("ul").classes("am-grid am-cards"):
            for item in items:
                with ui.element("li").classes("am-card am-person"):
                    self._draw_card(item)
        self._draw_pages(len(items), total)
