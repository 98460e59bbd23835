"""Publishing: which of our models users may use in Open WebUI, and since when by whose decision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nicegui import ui

from agent_mode.admin import pictures
from agent_mode.admin.pages.components import toast
from agent_mode.admin.pages.components.banner import error_banner
from agent_mode.admin.pages.components.buttons import button
from agent_mode.admin.pages.components.confirm import confirm
from agent_mode.admin.pages.components.empty import empty
from agent_mode.admin.pages.components.listing import Choice, Column, Listing, Query
from agent_mode.admin.pages.components.progress import progress
from agent_mode.admin.pages.components.shell import heading
from agent_mode.admin.pages.page import page
from agent_mode.admin.pages.visit import Visit
from agent_mode.admin.published_records import Readers, Wish
from agent_mode.admin.publishing import Entry, Overview, Publisher
from agent_mode.counting import counted
from agent_mode.errors import AgentModeError
from agent_mode.llm.client import OWN_PREFIX

_STATES = {"published": "Published here", "by hand": "Shared by hand", "admins": "Admins only"}
_KINDS = {"agent": "Agents", "persona": "Personas", "helper": "Helpers"}


@page("/setup/publish", title="Publish")
async def publish(visit: Visit) -> None:
    """Our models, and who may use them there."""
    heading(
        "Publish in Open WebUI",
        "Who may use which agent and persona. Open WebUI keeps to it, and so do commands here.",
    )
    publisher = Publisher(visit.backend)
    body = ui.element("div").classes("am-fields")
    with body:
        ui.spinner(size="2rem").props('aria-label="Asking Open WebUI"')

    async def load() -> None:
        try:
            overview = await publisher.overview()
        except AgentModeError as error:
            body.clear()
            with body:
                error_banner(error)
                button("Try again", load, icon="refresh")
            return
        body.clear()
        with body:
            await _Page(visit, publisher, overview).draw()

    ui.timer(0, load, once=True)


class _Page:
    """The list, and what is chosen in it.

    Args:
        visit: who publishes.
        publisher: does it.
        overview: how things stand.
    """

    def __init__(self, visit: Visit, publisher: Publisher, overview: Overview) -> None:
        self._visit = visit
        self._publisher = publisher
        self._overview = overview
        self._chosen: dict[str, None] = {}
        self._shown: list[str] = []

    async def draw(self) -> None:
        with ui.element("div").classes("am-actions"):
            self._publish = button("Publish …", self._ask, kind="main", icon="publish")
            self._withdraw = button("Withdraw", self._take_back, icon="undo")
            self._all = button("Choose all shown", self._choose_shown, icon="select_all")
            self._words = ui.label("").classes("am-soft").props("role=status")
        self._list = Listing(
            self._load,
            [
                Column("Model", self._draw_name),
                Column("Kind", lambda entry: entry.model.kind, minor=True),
                Column("Who may use it", self._readers),
                Column("State", _draw_state),
            ],
            noun="model",
            filters=[Choice("kind", "Kind", _KINDS), Choice("state", "State", _STATES)],
            search="Search name or id",
            empty=lambda: empty("This server offers no model", "Enable personas, or make an agent."),
        )
        await self._list.show()
        self._mark()

    async def _load(self, query: Query) -> tuple[Sequence[Entry], int]:
        wanted, kind, state = query.q.lower(), query.chosen.get("kind"), query.chosen.get("state")
        found = [
            entry
            for entry in self._overview.entries
            if (not kind or entry.model.kind == kind)
            and (not state or _state(entry) == state)
            and (wanted in _words_of(entry) or (OWN_PREFIX in wanted and wanted in entry.model.id))
        ]
        page = found[query.offset : query.offset + query.limit]
        self._shown = [entry.model.id for entry in found]
        return page, len(found)

    def _draw_name(self, entry: Entry) -> ui.element:
        model = entry.model
        with ui.row().classes("am-inline am-tick") as row:
            box = ui.checkbox(
                value=model.id in self._chosen,
                on_change=lambda event: self._choose(model.id, on=event.value is True),
            ).props("dense")
            box._props["aria-label"] = f"Choose {model.name}"
            with ui.element("div"):
                ui.label(model.name).classes("am-strong")
                ui.label(model.id).classes("am-soft am-small")
        return row

    def _readers(self, entry: Entry) -> str:
        if not entry.active:
            return "nobody: it is switched off there"
        return readers_in_words(entry.readers, self._overview.groups)

    def _choose(self, model_id: str, *, on: bool) -> None:
        if on:
            self._chosen[model_id] = None
        else:
            self._chosen.pop(model_id, None)
        self._mark()

    async def _choose_shown(self) -> None:
        if all(model_id in self._chosen for model_id in self._shown):
            self._chosen.clear()
        else:
            self._chosen |= dict.fromkeys(self._shown)
        await self._draw_again()

    def _mark(self) -> None:
        count = len(self._chosen)
        published = [entry for entry in self._entries() if entry.published]
        self._publish.set_enabled(count > 0)
        self._withdraw.set_enabled(bool(published))
        self._words.text = f"{count} chosen" if count else "Choose models in the list."
        whole = bool(self._shown) and all(model_id in self._chosen for model_id in self._shown)
        self._all.text = "Choose none" if whole else "Choose all shown"

    def _entries(self) -> list[Entry]:
        return [entry for entry in self._overview.entries if entry.model.id in self._chosen]

    async def _draw_again(self) -> None:
        self._list._shown = None
        await self._list.refresh()
        self._mark()

    async def _reload(self) -> None:
        self._overview = await self._publisher.overview()
        self._chosen.clear()
        await self._draw_again()

    async def _ask(self) -> None:
        wish = await _Dialog(self._entries(), self._overview.groups).ask()
        if wish is None:
            return
        ids = list(self._chosen)
        done: list[str] = []
        try:
            with progress("Publishing …") as step:
                done = await self._publisher.publish(
                    ids,
                    wish,
                    self._visit.author,
                    lambda count: step(count / len(ids), f"{count} of {len(ids)}"),
                )
        finally:
            readers = Readers(wish.everyone, wish.groups)
            words = readers_in_words(readers, self._overview.groups)
            for model_id in done:
                self._visit.record("published", "model", model_id, words)
            await self._reload()
        toast.done(f"Published {counted(len(done), 'model')} for {words}.")

    async def _take_back(self) -> None:
        ids = [entry.model.id for entry in self._entries() if entry.published]
        text = (
            "In Open WebUI they become as they were before they were published. What others changed there "
            "since stays."
        )
        if not await confirm(f"Withdraw {counted(len(ids), 'model')}?", text, action="Withdraw", danger=True):
            return
        with progress("Withdrawing …") as step:
            kept = await self._publisher.withdraw(
                ids, lambda count: step(count / len(ids), f"{count} of {len(ids)}")
            )
        for model_id, words in kept.items():
            self._visit.record("withdrew", "model", model_id, f"kept: {', '.join(words)}" if words else "")
        await self._reload()
        stayed = [f"{model_id} ({', '.join(words)})" for model_id, words in kept.items() if words]
        more = f" Changed there since, and kept: {'; '.join(stayed)}." if stayed else ""
        toast.done(f"Withdrew {counted(len(kept), 'model')}.{more}")


class _Dialog:
    """Asks for whom to publish."""

    def __init__(self, entries: list[Entry], groups: dict[str, str]) -> None:
        self._entries = entries
        self._groups = groups
        self._picture: str | None = None

    async def ask(self) -> Wish | None:
        """The wish; None if it was cancelled."""
        now = {group for entry in self._entries for group in entry.readers.groups if group in self._groups}
        open_to_all = all(entry.readers.everyone for entry in self._entries)
        title = f"Publish {counted(len(self._entries), 'model')}"
        with ui.dialog().props(f'aria-label="{title}"') as dialog, ui.card().classes("am-dialog"):
            with ui.element("h2"):
                ui.label(title)
            everyone = ui.switch("Everyone may use them", value=open_to_all)
            groups = ui.select(
                dict(sorted(self._groups.items(), key=lambda item: item[1].lower())),
                label="Groups that may use them",
                value=sorted(now),
                multiple=True,
                with_input=True,
            ).props("outlined dense options-dense use-chips")
            groups.bind_enabled_from(everyone, "value", backward=lambda on: not on)
            if not self._groups:
                ui.label("There are no groups yet: Admin Panel → Users → Groups.").classes("am-soft")
            give = ui.switch("Give a picture to those without one", value=True)
            with ui.row().classes("am-actions"):
                upload = ui.upload(
                    label="Own picture",
                    auto_upload=True,
                    max_file_size=pictures.LARGEST,
                    max_files=1,
                    on_upload=self._take,
                    on_rejected=lambda: toast.done(f"At most {pictures.LARGEST // 1000} KB, please."),
                ).props('accept="image/png,image/jpeg,image/gif,image/webp"')
                upload.classes("hidden")
                button("Own picture for all of them …", lambda: upload.run_method("pickFiles"), icon="image")
                self._note = ui.label("").classes("am-soft")
            ui.label(
                "Users who were given access by name keep it. Groups that are not named here lose it."
            ).classes("am-soft am-small")
            with ui.row().classes("am-actions"):
                button("Cancel", lambda: dialog.submit(False))
                button("Publish", lambda: dialog.submit(True), kind="main")
        answer = await dialog
        wish = Wish(
            bool(everyone.value),
            () if everyone.value else tuple(groups.value or ()),
            bool(give.value),
            self._picture,
        )
        if not dialog.is_deleted:  # with the window, it is
            dialog.delete()
        return wish if answer else None

    async def _take(self, event: Any) -> None:
        self._picture = pictures.own(await event.file.read())
        self._note.text = str(event.file.name)[:60]


def readers_in_words(readers: Readers, groups: dict[str, str]) -> str:
    """Who may use a model, for people."""
    if readers.everyone:
        return "everyone"
    named = sorted(groups.get(group) or "a group that is gone" for group in readers.groups)
    if readers.users:
        named.append(f"{counted(readers.users, 'user')} by name")
    return ", ".join(named) or "admins only"


def _words_of(entry: Entry) -> str:
    """What a search looks at: not the beginning that all personas share."""
    return f"{entry.model.name} {entry.model.id.removeprefix(OWN_PREFIX)}".lower()


def _state(entry: Entry) -> str:
    if entry.published:
        return "published"
    return "admins" if entry.readers.nobody else "by hand"


def _draw_state(entry: Entry) -> ui.label:
    tones = {"published": "green", "by hand": "blue", "admins": "grey"}
    state = _state(entry)
    return ui.label(_STATES[state]).classes(f"am-state am-state--{tones[state]}")
