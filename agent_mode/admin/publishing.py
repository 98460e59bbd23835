"""Publishing: agents and personas get a record in Open WebUI, so that its own permissions govern them.

The record stands under the model's own id; a workspace model on top of it would cut it off from what Agent
Mode needs. What was there before is remembered, and comes back when a model is withdrawn; what others changed
in the meantime stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from agent_mode.admin.backend import Backend, OfferedModel
from agent_mode.admin.published_records import (
    Json,
    Readers,
    Wish,
    facets,
    publish_form,
    readers_of,
    withdraw_form,
)
from agent_mode.errors import RequestError
from agent_mode.tools.model_records import ModelRecords


@dataclass(frozen=True, slots=True)
class Entry:
    """How one model stands in Open WebUI.

    Attributes:
        model: as this server offers it.
        readers: who may use it.
        published: whether that was done here.
        active: False: an admin has switched it off there.
    """

    model: OfferedModel
    readers: Readers
    published: bool
    active: bool = True


@dataclass(frozen=True, slots=True)
class Overview:
    """All models, and the groups that there are."""

    entries: list[Entry]
    groups: dict[str, str] = field(default_factory=dict)


class Publisher:
    """Publishes this server's models, with the API key of an admin.

    Args:
        backend: the server.

    Raises:
        RequestError: it does not know Open WebUI, or has no key of it.
    """

    def __init__(self, backend: Backend) -> None:
        runtime = backend.runtime
        url, key = runtime.openwebui.rest.url, runtime.settings.openwebui_api_key
        if not url or not key:
            raise RequestError(
                "To publish, this server needs Open WebUI's address and the API key of an admin there.",
                hint="Set OPENWEBUI_URL and OPENWEBUI_API_KEY, and restart.",
                code="no_openwebui",
                status=409,
            )
        self._url = url
        self._backend = backend
        self._store = runtime.publications
        self._access = runtime.access
        self._records = ModelRecords(runtime.openwebui, key)

    async def overview(self) -> Overview:
        """How every model stands there.

        Raises:
            ToolError: Open WebUI does not answer, or refuses the key.
            StoreError: the database failed.
        """
        records, groups, known = await asyncio.gather(
            self._records.all(), self._records.groups(), self._store.all(self._url)
        )
        _check_version(records)
        entries = []
        for model in self._backend.models():
            record = records.get(model.id)
            active = record is None or record.get("is_active") is not False
            published = record is not None and model.id in known
            entries.append(Entry(model, readers_of(record), published, active))
        return Overview(entries, groups)

    async def publish(
        self, ids: Sequence[str], wish: Wish, author: str, told: Callable[[int], object] = lambda _: None
    ) -> list[str]:
        """Publishes models; returns the ids of those that it did.

        Args:
            ids: which models.
            wish: how.
            author: for the history.
            told: called with how many are done.

        Raises:
            ToolError: Open WebUI does not answer, or refuses; those before it are published.
            RequestError: this Open WebUI is too old.
        """
        models = {model.id: model for model in self._backend.models()}
        done: list[str] = []
        try:
            records, known = await asyncio.gather(self._records.all(), self._store.all(self._url))
            _check_version(records)
            for model_id in (chosen for chosen in ids if chosen in models):
                record, publication = records.get(model_id), known.get(model_id)
                if record is None:
                    publication = None  # somebody took it away there: it begins anew
                form, mine = publish_form(
                    models[model_id], record, publication.ours if publication else None, wish
                )
                before = publication.before if publication else facets(record) if record else None
                # First the way back, then the way: what breaks off in between can be withdrawn.
                await self._store.put(self._url, model_id, before, mine, author)
                await self._write(form, new=record is None)
                done.append(model_id)
                told(len(done))
        finally:
            self._access.forget()
        return done

    async def withdraw(
        self, ids: Sequence[str], told: Callable[[int], object] = lambda _: None
    ) -> dict[str, tuple[str, ...]]:
        """Takes back what was published; returns by id what others changed since and therefore stays.

        Raises:
            ToolError: Open WebUI does not answer, or refuses; those before it are withdrawn.
        """
        names = {model.id: model.name for model in self._backend.models()}
        done: dict[str, tuple[str, ...]] = {}
        try:
            records, known = await asyncio.gather(self._records.all(), self._store.all(self._url))
            for model_id in (chosen for chosen in ids if chosen in known):
                record, publication = records.get(model_id), known[model_id]
                kept: tuple[str, ...] = ()
                if record is not None:
                    name = names.get(model_id, str(record.get("name")))
                    found = withdraw_form(record, publication.before, publication.ours, name)
                    kept = found.kept
                    if found.form is None:
                        await self._records.delete(model_id)
                    else:
                        await self._write(found.form, new=False)
                await self._store.remove(self._url, model_id)
                done[model_id] = kept
                told(len(done))
        finally:
            self._access.forget()
        return done

    async def _write(self, form: Json, *, new: bool) -> None:
        if new:
            kept = await self._records.create(form)
            if "access_grants" not in kept:
                await self._records.delete(form["id"])
                raise _too_old()
            return
        # In this order access is closed at the end as it is meant, and never open with an old description.
        await self._records.update(form)
        await self._records.set_grants(form["id"], form["name"], form["access_grants"])


def _check_version(records: Mapping[str, Json]) -> None:
    if any("access_control" in record and "access_grants" not in record for record in records.values()):
        raise _too_old()


def _too_old() -> RequestError:
    return RequestError(
        "This Open WebUI is too old: it keeps access rights in another form.",
        hint="Publishing needs Open WebUI 0.8 or later. Share the models there by hand.",
        code="openwebui_too_old",
        status=409,
    )
