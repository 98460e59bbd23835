"""The frame of an editor: where it belongs, what is edited, what can be done; and what is not saved yet.

with editor_frame("Writer", back=("/agents", "Agents")) as editor:
    with editor.actions:
        button("Save", save, kind="main")
    ui.input("Name", on_change=editor.touched)
editor.keeps(Typed(where, read, bring_back))
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from nicegui import background_tasks, ui

from agent_mode.admin.pages.components import toast
from agent_mode.admin.pages.components.banner import banner, error_banner
from agent_mode.admin.pages.components.buttons import button, link
from agent_mode.admin.pages.components.limits import LARGEST
from agent_mode.admin.pages.components.shell import url
from agent_mode.errors import AgentModeError

_SOON, _LATER = 0.3, 3.0
"""Seconds after which what was typed is sent to the browser's tab: a short text, a long one."""
_SHORT = 50_000
_ASK_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Typed:
    """What an editor holds and has not saved: how it is read, and how it is brought back.

    Args:
        where: the address of what is edited, and the version that the text is based on.
        read: the text or the fields, as JSON has them.
        bring_back: puts what `read` gave into the fields again, based on that version.
        public: what may be kept in the browser: without secrets.
        says_nothing: whether what was kept would change nothing; by default, whether it is what is there.
    """

    where: Callable[[], tuple[str, int | str]]
    read: Callable[[], Any]
    bring_back: Callable[[Any, Any], Awaitable[None]]
    public: Callable[[Any], Any] = lambda values: values
    says_nothing: Callable[[Any], bool] | None = None


class Editor:
    """What a page does with its frame."""

    def __init__(
        self,
        names: tuple[ui.label, ui.label],
        mark: ui.label,
        actions: ui.row,
        offers: ui.element,
        notices: ui.element,
    ) -> None:
        self._names = names
        self._mark = mark
        self._dirty = False
        self._client = ui.context.client
        self._typed: Typed | None = None
        self._place = ""
        self._sending = False
        self._running: object | None = None
        self._again = False
        self._offers = offers
        self.actions = actions
        """Where its buttons go."""
        self.notices = notices
        """Where it says what is wrong."""

    @property
    def dirty(self) -> bool:
        """Whether something was changed and not saved."""
        return self._dirty

    def rename(self, title: str, note: str) -> None:
        """Another title, and another line below it."""
        self._names[0].text, self._names[1].text = title, note

    def keeps(self, typed: Typed) -> None:
        """Keeps what is typed in the browser's tab until it is saved, and offers what an earlier one had."""
        self._typed = typed
        self._place = typed.where()[0]
        ui.timer(0, self._offer, once=True)

    def touched(self, *_: object) -> None:
        """Something was changed: the browser asks before the page is left."""
        if not self._dirty:
            self._dirty = True
            self._mark.text = "Not saved"
            self._tell("agentMode.touched()")
        if self._typed is not None and not self._sending:
            self._sending = True
            background_tasks.create(self._keep(self._typed), name="keep what is typed")

    def saving(self, save: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        """The handler of a button that saves: one save after the other.

        Who clicks twice would be told that somebody else was faster, and it was they themselves.
        """

        async def run() -> None:
            if self._running is not None:
                self._again = True
                return
            self._running = this = object()
            self._again = False
            try:
                await save()
            finally:
                if self._running is this:
                    self._running = None
            if self._again and self._dirty:
                await run()

        return run

    def saved(self, *, go_to: str = "", changed: bool = False) -> None:
        """All is saved; nothing is wrong any more.

        Args:
            go_to: the page to go to then.
            changed: something was changed since, and that is not saved.
        """
        self.notices.clear()
        self._running = None
        place = json.dumps(self._place)
        if changed:
            self._tell(f"agentMode.forget({place})")
            self.touched()
            return
        self._dirty = False
        self._mark.text = ""
        # One script: a page that is opened otherwise is faster than what lets this one go.
        self._tell(f"agentMode.saved({place}, {json.dumps(url(go_to) if go_to else None)})")

    def way_back(self, *, newest: bool = False) -> Callable[[], Awaitable[None]] | None:
        """Brings back what is there now and not saved; ask for it before that is replaced.

        Args:
            newest: it is based on the newest version then, and not on the one that it is based on now.

        Returns:
            the `undo` of a toast; None: everything is saved.
        """
        typed = self._typed
        if typed is None or not self._dirty:
            return None
        values, seen = copy.deepcopy(typed.read()), typed.where()[1]

        async def back() -> None:
            await typed.bring_back(values, typed.where()[1] if newest else seen)
            self.touched()

        return back

    def wrong(self, error: AgentModeError) -> None:
        """Shows what is wrong above the fields, in place of what stood there."""
        self.notices.clear()
        with self.notices:
            error_banner(error)
        self.to_top()

    def to_top(self) -> None:
        """Shows what stands above the fields, however far down somebody is."""
        self._tell("window.scrollTo({top: 0})")

    def conflict(
        self,
        error: AgentModeError,
        *,
        load_theirs: Callable[[], Awaitable[None]],
        keep_mine: Callable[[], Awaitable[None]],
    ) -> None:
        """Somebody else has saved meanwhile (`stale_version`): nothing is lost, the person chooses.

        Args:
            error: says who, and when.
            load_theirs: shows the newest version in place of the own changes.
            keep_mine: saves the own changes as a version after it.
        """
        self.notices.clear()
        hint = "Your changes are still here. Compare before you choose."
        with self.notices, banner(error.message, hint, tone="warning"), ui.row().classes("am-actions"):
            button("Show theirs", load_theirs)
            button("Save mine over it", self.saving(keep_mine), kind="danger")
        self.to_top()

    async def _keep(self, typed: Typed) -> None:
        values = typed.read()
        await asyncio.sleep(_SOON if len(json.dumps(values)) < _SHORT else _LATER)
        self._sending = False
        if not self._dirty or self._client.is_deleted:
            return
        self._place, version = typed.where()
        values = typed.read()
        shown = typed.public(values)
        place, text = json.dumps(self._place), json.dumps(shown)
        if len(text) > LARGEST:
            self._tell(f"agentMode.forget({place})")
            return
        meta = json.dumps({"version": version, "secrets": shown != values})
        self._tell(f"agentMode.keep({place}, {{...{meta}, values: {text}}})")

    async def _offer(self) -> None:
        """Offers what was typed before the page was loaded anew."""
        typed = self._typed
        assert typed is not None
        place, version = typed.where()
        found = None
        with contextlib.suppress(TimeoutError):
            found = await self._client.run_javascript(
                f"agentMode.found({json.dumps(place)})", timeout=_ASK_SECONDS
            )
        if not isinstance(found, dict) or "values" not in found:
            return
        values = found["values"]
        if typed.says_nothing is not None:
            nothing = typed.says_nothing(values)
        else:
            here = typed.public(typed.read())
            nothing = json.dumps(values, sort_keys=True) == json.dumps(here, sort_keys=True)
        if nothing:
            self._tell(f"agentMode.forget({json.dumps(place)})")
            if found.get("secrets"):
                with self._offers:
                    banner(
                        "A secret was typed and not saved.",
                        "Secrets are not kept; type it again.",
                        tone="note",
                    )
            return
        stale = found.get("version") != version

        async def restore() -> None:
            self._offers.clear()
            undo = self.way_back()
            await typed.bring_back(values, found.get("version"))
            self.touched()
            toast.done("What you typed is back. It is not saved yet.", undo=undo)

        def discard() -> None:
            self._offers.clear()
            if not self._dirty:  # else what is typed now stands there
                self._tell(f"agentMode.forget({json.dumps(place)})")

        title = "The server restarted. Your text is kept." if found.get("away") else "Your text is kept."
        hints = ["Bring back what you typed and did not save, or discard it."]
        if stale:
            hints.append("Somebody has saved another version since: once it is back, Save compares the two.")
        if found.get("secrets"):
            hints.append("Secrets were not kept; type them again.")
        with (
            self._offers,
            banner(title, " ".join(hints), tone="warning" if stale else "note"),
            ui.row().classes("am-actions"),
        ):
            button("Restore", restore)
            button("Discard", discard)
        self.to_top()

    def _tell(self, script: str) -> None:
        if not self._client.is_deleted:
            self._client.run_javascript(script)


@contextmanager
def editor_frame(title: str, *, back: tuple[str, str], note: str = "") -> Iterator[Editor]:
    """The frame; fields go inside, buttons into `editor.actions`.

    Args:
        title: of what is edited.
        back: address and name of the list that it stands in.
        note: a line below the title.
    """
    with ui.element("div").classes("am-editor-head"):
        with ui.element("div").classes("am-heading"):
            link(f"← {back[1]}", back[0])
            with ui.element("h1"):
                heading = ui.label(title)
            below = ui.label(note).classes("am-soft")
        tools = ui.row().classes("am-actions")
    with tools:
        mark = ui.label("").classes("am-soft").props("role=status")
        actions = ui.row().classes("am-actions")
    offers, notices = (ui.element("div").classes("am-notices") for _ in range(2))
    editor = Editor((heading, below), mark, actions, offers, notices)
    with ui.element("div").classes("am-fields"):
        yield editor
