"""What publishing writes into a model's record in Open WebUI, and what it takes back. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from agent_mode.admin import pictures
from agent_mode.admin.backend import OfferedModel

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
