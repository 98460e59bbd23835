"""Publishing: agents and personas get a record in Open WebUI, so that its own permissions govern them.

The record stands under the model's own id; a workspace model on top of it would cut it off from what Agent
Mode needs. What was there before is remembered, and comes back when a model is withdrawn; what others changed
in the meantime stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agent_mode.admin import pictures
from agent_mode.admin.backend import Backend, OfferedModel
from agent_mode.errors import RequestError
from agent_mode.tools.model_records import ModelRecords

Json = dict[str, Any]
Grant = tuple[str, str, str]
"""`user` or `group`, whose id (`*`: everyone's), `read` or `write`."""

TAG = "Agent"
EVERYONE: Grant = ("user", "*", "read")
_DEFAULT_PICTURES = ("", "/static/favicon.png", "/favicon.png")


@dataclass(frozen=True, slots=True)
class Readers:
    """Who may use a model, besides admins."""

    everyone: bool = False
    groups: tuple[str, ...] = ()
    """Their ids."""
    users: int = 0
    """How many have it by name."""

    @property
    def nobody(self) -> bool:
        return not (self.everyone or self.groups or self.users)


@dataclass(frozen=True, slots=True)
class Wish:
    """How a model is to be published.

    Attributes:
        everyone: whether every user may use it.
        groups: ids of the groups that may.
        give_pictures: whether those without a picture get one.
        picture: one for all of them, as a data URL.
    """

    everyone: bool = False
    groups: tuple[str, ...] = ()
    give_pictures: bool = True
    picture: str | None = None


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


# What is written and taken back: pure


def grants_of(record: Mapping[str, Any] | None) -> set[Grant]:
    """The grants of a record."""
    given = record.get("access_grants") if record else None
    return {
        (str(grant.get("principal_type")), str(grant.get("principal_id")), str(grant.get("permission")))
        for grant in (given if isinstance(given, list) else ())
        if isinstance(grant, dict)
    }


def as_json(grants: Iterable[Grant]) -> list[Json]:
    """Grants as Open WebUI takes them."""
    return [
        {"principal_type": kind, "principal_id": principal, "permission": permission}
        for kind, principal, permission in sorted(grants)
    ]


def readers_of(record: Mapping[str, Any] | None) -> Readers:
    """Who may use the model of a record."""
    if record is None or record.get("is_active") is False:
        return Readers()
    reading = [(kind, principal) for kind, principal, permission in grants_of(record) if permission == "read"]
    groups = tuple(sorted(principal for kind, principal in reading if kind == "group"))
    users = sum(1 for kind, principal in reading if kind == "user" and principal != "*")
    return Readers(("user", "*") in reading, groups, users)


def facets(record: Mapping[str, Any]) -> Json:
    """What publishing may change of a record; of what is not there, nothing."""
    meta = _meta(record)
    named = {"description": meta.get("description"), "picture": meta.get("profile_image_url")}
    found = {name: value for name, value in named.items() if value not in (None, *_DEFAULT_PICTURES)}
    if meta.get("hidden") is not None:
        found["hidden"] = meta["hidden"]
    return {
        **found,
        "tags": tag_names(meta),
        "active": record.get("is_active") is not False,
        "grants": sorted(map(list, grants_of(record))),
    }


def publish_form(
    model: OfferedModel, record: Mapping[str, Any] | None, ours: Mapping[str, Any] | None, wish: Wish
) -> tuple[Json, Json]:
    """The record to write, with all of what others set in it, and what of it is ours.

    Args:
        model: what is published.
        record: what there is.
        ours: what we wrote the last time, if we did.
        wish: who may use it, and its picture.
    """
    meta = _meta(record)
    now = facets(record) if record is not None else {"tags": [], "grants": []}
    mine: Json = {"active": True}
    described = now.get("description")
    if model.description and (not described or described == (ours or {}).get("description")):
        meta["description"] = mine["description"] = model.description
    if model.kind == "helper":
        meta["hidden"] = mine["hidden"] = True
    else:
        tags = now["tags"]
        if TAG not in tags or TAG in (ours or {}).get("tags", ()):
            mine["tags"] = [TAG]
        meta["tags"] = [{"name": name} for name in dict.fromkeys([*tags, TAG])]
        picture = wish.picture or (
            pictures.made(model.id) if wish.give_pictures and "picture" not in now else None
        )
        if picture:
            meta["profile_image_url"] = mine["picture"] = picture
        elif ours and now.get("picture") == ours.get("picture") and "picture" in ours:
            mine["picture"] = ours["picture"]
    wanted = {("group", group, "read") for group in wish.groups} | ({EVERYONE} if wish.everyone else set())
    kept = {grant for grant in grants_of(record) if not _is_for_many(grant)}
    mine["grants"] = sorted(map(list, wanted))
    form = {
        "id": model.id,
        "base_model_id": None,
        "name": str((record or {}).get("name") or model.name),
        "meta": meta,
        "params": dict((record or {}).get("params") or {}),
        "access_grants": as_json(wanted | kept),
        "is_active": True,
    }
    return form, mine


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """What is left of a record.

    Attributes:
        form: to write; None: nothing is left, the record goes.
        kept: what others changed since, and what therefore stays.
    """

    form: Json | None
    kept: tuple[str, ...] = ()


def withdraw_form(
    record: Mapping[str, Any], before: Mapping[str, Any] | None, ours: Mapping[str, Any], name: str
) -> Withdrawal:
    """A record as it was before, but for what others changed since.

    Args:
        record: as it is now.
        before: its facets before it was published; None: there was no record.
        ours: what was written.
        name: of the model, as this server offers it.
    """
    meta, now, was = _meta(record), facets(record), before or {}
    kept: list[str] = []
    for facet, key in (
        ("description", "description"),
        ("picture", "profile_image_url"),
        ("hidden", "hidden"),
    ):
        if facet not in ours:
            continue
        if now.get(facet) != ours[facet]:
            kept.append(facet)
        elif facet in was:
            meta[key] = was[facet]
        else:
            # Not taken out: Open WebUI keeps a picture that is not named.
            meta[key] = "" if facet == "picture" else None
    taken = set(ours.get("tags", ())) - set(was.get("tags", ()))
    tags = [tag for tag in now["tags"] if tag not in taken]
    meta["tags"] = [{"name": tag} for tag in tags]
    wrote, had, has = (_grants(source) for source in (ours, was, now))
    gone = {grant for grant in had if _is_for_many(grant)} - wrote  # what publishing has taken away
    grants = gone | (has - (wrote - had))
    if grants - had:
        kept.append("access that others gave")
    params = dict(record.get("params") or {})
    foreign = {key for key, value in meta.items() if value not in (None, "", [], {}) and key != _COMPUTED}
    renamed = str(record.get("name") or name) != name
    if before is None and not (foreign or params or grants or renamed):
        return Withdrawal(None)
    active = was.get("active", True) if now["active"] else False
    form = {
        "id": record["id"],
        "base_model_id": record.get("base_model_id"),
        "name": str(record.get("name") or name),
        "meta": meta,
        "params": params,
        "access_grants": as_json(grants),
        "is_active": active,
    }
    if before is None:
        kept += sorted({_WORDS.get(key, key) for key in foreign} - set(kept))
    return Withdrawal(form, tuple(kept))


_COMPUTED = "chat_variables_schema"
_WORDS = {"profile_image_url": "picture"}


def tag_names(meta: Mapping[str, Any]) -> list[str]:
    """The tags of a record's meta."""
    tags = meta.get("tags")
    names = [
        tag.get("name") if isinstance(tag, dict) else tag for tag in (tags if isinstance(tags, list) else ())
    ]
    return [name for name in names if isinstance(name, str)]


def _meta(record: Mapping[str, Any] | None) -> Json:
    meta = record.get("meta") if record else None
    found = dict(meta) if isinstance(meta, dict) else {}
    found.pop(_COMPUTED, None)
    return found


def _is_for_many(grant: Grant) -> bool:
    """Whether publishing decides about it: what single users have, and who may write, is others' business."""
    kind, principal, permission = grant
    return permission == "read" and (kind == "group" or principal == "*")


def _grants(source: Mapping[str, Any]) -> set[Grant]:
    return {(grant[0], grant[1], grant[2]) for grant in source.get("grants", ())}


# Doing it


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
