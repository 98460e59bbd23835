"""A list of anything: search, filters and pages on the server, the state in the address.

await Listing(
    load=load,                       # async (Query) -> (items, total)
    columns=[Column("Name", lambda agent: agent.name), Column("State", draw_state)],
    href=lambda agent: f"/agents/{agent.id}",
    noun="agent",
    empty=lambda: empty("No agents yet", "Make the first one."),
).show()
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar
from urllib.parse import urlencode

from nicegui import ui

from agent_mode.admin.pages.components.buttons import button
from agent_mode.admin.pages.components.empty import empty as empty_state
from agent_mode.admin.pages.components.shell import url
from agent_mode.admin.pages.components.words import count, counted

T = TypeVar("T")
SIZE = 50
_SEARCH_MS = 300


@dataclass(frozen=True)
class Column(Generic[T]):
    """One column.

    Attributes:
        title: its heading; on a phone it stands before the value.
        cell: returns the text of an item, or draws what stands in its cell and returns None.
        kind: `number` is set to the right; `actions` has no heading.
        minor: not shown on a phone.
    """

    title: str
    cell: Callable[[T], str | object]
    kind: str = "text"
    minor: bool = False

    @property
    def classes(self) -> str:
        return f"am-cell--{self.kind}{' am-minor' if self.minor else ''}"


@dataclass(frozen=True)
class Choice:
    """A filter: one of several values, or all.

    Attributes:
        name: in the address and in `Query.chosen`.
        label: of the field.
        options: value to text, without the one for all.
    """

    name: str
    label: str
    options: Mapping[str, str]


@dataclass(frozen=True)
class Query:
    """What is asked for."""

    q: str = ""
    chosen: Mapping[str, str] = field(default_factory=dict)
    page: int = 1

    @property
    def offset(self) -> int:
        return (self.page - 1) * SIZE

    @property
    def limit(self) -> int:
        return SIZE


class Listing(Generic[T]):
    """The list.

    Args:
        load: asks the store for one page of what fits, and how many fit in all.
        columns: what is shown of an item; the first one is the link.
        noun: what an item is called, in the singular.
        href: the page of an item.
        filters: besides the search.
        search: label of the search field; empty: there is none.
        empty: draws what stands there when there is nothing at all.
        every: seconds after which it looks again by itself; None: it does not.
        plural: of the noun, where an s does not do.
    """

    def __init__(
        self,
        load: Callable[[Query], Awaitable[tuple[Sequence[T], int]]],
        columns: Sequence[Column[T]],
        *,
        noun: str,
        href: Callable[[T], str] | None = None,
        filters: Sequence[Choice] = (),
        search: str = "Search",
        empty: Callable[[], object] | None = None,
        every: float | None = None,
        plural: str = "",
    ) -> None:
        self._load = load
        self._columns = columns
        self._noun = noun
        self._plural = plural or f"{noun}s"
        self._href = href
        self._filters = filters
        self._search = search
        self._empty = empty
        self._every = every
        self._shown: tuple[Sequence[T], int] | None = None
        self._query = Query()

    async def show(self) -> None:
        """Draws it where it is called."""
        asked = ui.context.client.request
        self._path = asked.url.path
        given = asked.query_params
        chosen = {f.name: given[f.name] for f in self._filters if given.get(f.name) in f.options}
        page = given.get("page", "1")
        self._query = Query(
            given.get("q", "")[:200], chosen, max(1, int(page)) if page.isdecimal() and len(page) < 7 else 1
        )
        self._extra = {
            name: value
            for name, value in given.items()
            if name not in ("q", "page", *(choice.name for choice in self._filters))
        }
        self._controls()
        self._body = ui.element("div").classes("am-list")
        await self.refresh()
        if self._every is not None:
            ui.timer(self._every, self.refresh, immediate=False)

    async def refresh(self) -> None:
        """Asks again, and draws anew if something has changed."""
        items, total = await self._load(self._query)
        if (items, total) == self._shown:
            return
        self._shown = (items, total)
        self._body.clear()
        with self._body:
            self._draw(items, total)

    def _controls(self) -> None:
        if not self._search and not self._filters:
            return
        with ui.element("div").classes("am-controls").props("role=search"):
            if self._search:
                ui.input(self._search, value=self._query.q, on_change=self._searched).props(
                    f"outlined dense clearable debounce={_SEARCH_MS} type=search maxlength=200"
                ).classes("am-search")
            for choice in self._filters:
                ui.select(
                    {"": "All", **choice.options},
                    label=choice.label,
                    value=self._query.chosen.get(choice.name, ""),
                    on_change=lambda event, name=choice.name: self._choose(name, event.value),
                ).props("outlined dense options-dense").classes("am-choice")

    async def _searched(self, event: object) -> None:
        await self._ask(Query(str(getattr(event, "value", "") or ""), self._query.chosen))

    async def _choose(self, name: str, value: str | None) -> None:
        chosen = {key: text for key, text in self._query.chosen.items() if key != name}
        await self._ask(Query(self._query.q, chosen | ({name: value} if value else {})))

    async def _ask(self, query: Query) -> None:
        self._query = query
        state = {"q": query.q, **query.chosen, "page": str(query.page) if query.page > 1 else ""}
        words = urlencode({**self._extra, **{name: value for name, value in state.items() if value}})
        ui.navigate.history.replace(f"{self._path}?{words}" if words else self._path)
        await self.refresh()

    def _draw(self, items: Sequence[T], total: int) -> None:
        if not total:
            self._draw_nothing()
            return
        with ui.element("table").classes("am-table"):
            with ui.element("thead"), ui.element("tr"):
                for column in self._columns:
                    with ui.element("th").classes(column.classes).props("scope=col"):
                        ui.label(column.title)
            with ui.element("tbody"):
                for item in items:
                    self._draw_row(item)
        self._draw_pages(len(items), total)

    def _draw_row(self, item: T) -> None:
        with ui.element("tr"):
            for place, column in enumerate(self._columns):
                cell = ui.element("td").classes(column.classes)
                cell._props["data-label"] = column.title
                with cell:
                    if place == 0 and self._href is not None:
                        with ui.element("a").classes("am-row-link") as link:
                            link._props["href"] = url(self._href(item))
                            _draw_cell(column, item)
                    else:
                        _draw_cell(column, item)

    def _draw_nothing(self) -> None:
        if self._query.q or self._query.chosen or self._extra or self._empty is None:
            empty_state(
                f"No {self._noun} fits", "Search for something else, or choose All.", icon="search_off"
            )
        else:
            self._empty()

    def _draw_pages(self, shown: int, total: int) -> None:
        first = self._query.offset + 1
        with ui.element("nav").classes("am-pages").props('aria-label="Pages of the list"'):
            words = counted(total, self._noun, self._plural)
            if total > shown:
                words = f"{count(first)} to {count(first + shown - 1)} of {words}"
            ui.label(words).classes("am-soft").props("role=status")
            if self._query.page > 1:
                button("Previous", lambda: self._turn(-1), icon="chevron_left")
            if self._query.offset + shown < total:
                button("Next", lambda: self._turn(1), icon="chevron_right")

    async def _turn(self, step: int) -> None:
        await self._ask(Query(self._query.q, self._query.chosen, max(1, self._query.page + step)))


def _draw_cell(column: Column[T], item: T) -> None:
    drawn = column.cell(item)
    if isinstance(drawn, str) and drawn:
        ui.label(drawn)
