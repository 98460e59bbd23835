"""What publishing writes into a record of Open WebUI, and what withdrawing takes back."""

from __future__ import annotations

import base64
import copy
import zlib
from pathlib import Path
from typing import Any

import pytest

from agent_mode.admin import pictures
from agent_mode.admin.backend import OfferedModel
from agent_mode.admin.published_records import (
    Readers,
    Wish,
    facets,
    publish_form,
    readers_of,
    withdraw_form,
)
from agent_mode.errors import RequestError
from agent_mode.store.db import Database
from agent_mode.store.publications import PublicationStore

Json = dict[str, Any]
POET = OfferedModel("personas.poet", "Poet", "Writes verse", "persona")
HELPER = OfferedModel("personas.console", "Console", "Answers commands", "helper")
STAFF = Wish(groups=("staff",))
READ: Json = {"permission": "read"}
EVERYONE: Json = {"principal_type": "user", "principal_id": "*", **READ}
ANN: Json = {"principal_type": "user", "principal_id": "ann", **READ}
EDITORS: Json = {"principal_type": "group", "principal_id": "editors", "permission": "write"}


def group(name: str) -> Json:
    return {"principal_type": "group", "principal_id": name, **READ}


def by_hand(**meta: Any) -> Json:
    return {
        "id": POET.id,
        "user_id": "ada",
        "base_model_id": None,
        "name": "My poet",
        "meta": {
            "description": "By hand",
            "tags": [{"name": "Verse"}],
            "capabilities": {"vision": True},
            **meta,
        },
        "params": {"temperature": 0.3},
        "access_grants": [EVERYONE, ANN, EDITORS],
        "is_active": True,
    }


def grants(form: Json | None) -> set[tuple[str, ...]]:
    assert form is not None
    return {tuple(grant.values()) for grant in form["access_grants"]}


def test_a_new_record_has_all_that_open_webui_shows() -> None:
    form, ours = publish_form(POET, None, None, STAFF)

    assert (form["id"], form["base_model_id"], form["name"]) == ("personas.poet", None, "Poet")
    assert form["meta"]["tags"] == [{"name": "Agent"}]
    assert form["meta"]["description"] == "Writes verse"
    assert form["meta"]["profile_image_url"] == pictures.made(POET.id)
    assert form["access_grants"] == [
        {"principal_type": "group", "principal_id": "staff", "permission": "read"}
    ]
    assert withdraw_form(form, None, ours, POET.name).form is None, "nothing is left of it"


def test_what_open_webui_adds_to_a_record_is_not_foreign() -> None:
    form, ours = publish_form(POET, None, None, STAFF)
    form["meta"] |= {"capabilities": None, "knowledge": None, "i18n": None, "chat_variables_schema": {"a": 1}}

    assert withdraw_form(form, None, ours, POET.name).form is None


def test_what_was_there_stays_and_comes_back() -> None:
    record = by_hand()
    before = facets(record)
    form, ours = publish_form(POET, copy.deepcopy(record), None, STAFF)

    assert form["name"] == "My poet"
    assert form["params"] == {"temperature": 0.3}
    assert form["meta"]["description"] == "By hand"
    assert form["meta"]["capabilities"] == {"vision": True}
    assert [tag["name"] for tag in form["meta"]["tags"]] == ["Verse", "Agent"]
    assert ("user", "*", "read") not in grants(form)
    assert {("user", "ann", "read"), ("group", "editors", "write"), ("group", "staff", "read")} <= grants(
        form
    )

    found = withdraw_form(form, before, ours, POET.name)
    assert found.form is not None
    assert grants(found.form) == grants(record)
    assert found.form["meta"] == {**record["meta"], "profile_image_url": ""}
    assert found.form["params"] == record["params"]
    assert found.kept == ()


def test_what_others_changed_since_is_kept_and_told() -> None:
    form, ours = publish_form(POET, None, None, STAFF)
    now = {**copy.deepcopy(form), "params": {"temperature": 1}}
    now["meta"]["description"] = "Better words"
    now["access_grants"] = [*form["access_grants"], ANN]

    found = withdraw_form(now, None, ours, POET.name)

    assert found.form is not None
    assert found.form["meta"]["description"] == "Better words"
    assert found.form["params"] == {"temperature": 1}
    assert found.form["meta"]["tags"] == []
    assert grants(found.form) == {("user", "ann", "read")}, "the group is out again"
    assert set(found.kept) == {"description", "access that others gave"}


def test_a_grant_that_others_took_away_does_not_come_back() -> None:
    record = by_hand()
    form, ours = publish_form(POET, record, None, STAFF)
    form["access_grants"] = [grant for grant in form["access_grants"] if grant["principal_id"] != "ann"]

    found = withdraw_form(form, facets(record), ours, POET.name)

    assert ("user", "ann", "read") not in grants(found.form)
    assert ("user", "*", "read") in grants(found.form)


def test_published_again_for_others_it_still_goes_back_to_the_beginning() -> None:
    first, ours = publish_form(POET, None, None, STAFF)
    first["access_grants"].append(ANN)  # by hand, in between
    second, ours = publish_form(POET, first, ours, Wish(everyone=True))

    assert grants(second) == {("user", "*", "read"), ("user", "ann", "read")}
    assert second["meta"]["tags"] == [{"name": "Agent"}]
    found = withdraw_form(second, None, ours, POET.name)
    assert grants(found.form) == {("user", "ann", "read")}
    assert found.form is not None
    assert not found.form["meta"]["profile_image_url"]
    assert not found.form["meta"]["description"]


def test_a_description_of_ours_follows_the_persona() -> None:
    first, ours = publish_form(POET, None, None, STAFF)
    renewed = OfferedModel(POET.id, POET.name, "Writes better verse", "persona")
    second, _ = publish_form(renewed, first, ours, STAFF)

    assert second["meta"]["description"] == "Writes better verse"


def test_what_was_switched_off_is_so_again() -> None:
    record = {**by_hand(), "is_active": False}
    form, ours = publish_form(POET, record, None, STAFF)
    assert form["is_active"] is True

    assert readers_of(record).nobody
    found = withdraw_form(form, facets(record), ours, POET.name)
    assert found.form is not None
    assert found.form["is_active"] is False


def test_helpers_stay_out_of_the_selector() -> None:
    form, ours = publish_form(HELPER, None, None, Wish(everyone=True))

    assert form["meta"] == {"description": "Answers commands", "hidden": True}
    assert withdraw_form(form, None, ours, HELPER.name).form is None


@pytest.mark.parametrize(
    ("granted", "readers"),
    [
        ([], Readers()),
        ([EVERYONE], Readers(everyone=True)),
        ([group("b"), group("a"), ANN], Readers(groups=("a", "b"), users=1)),
        ([EDITORS], Readers()),
        (None, Readers()),
        (["x", {}], Readers()),
    ],
    ids=str,
)
def test_who_may_use_a_model(granted: Any, readers: Readers) -> None:
    assert readers_of({**by_hand(), "access_grants": granted}) == readers


def test_pictures_are_good_pngs_and_each_name_has_its_own() -> None:
    picture = pictures.made("personas.poet")
    raw = base64.b64decode(picture.partition(",")[2])
    data = raw[raw.index(b"IDAT") + 4 : raw.index(b"IEND") - 8]

    assert len(zlib.decompress(data)) == 128 * (1 + 3 * 128)
    assert len(picture) < 3000
    assert picture == pictures.made("personas.poet") != pictures.made("personas.coder")
    assert pictures.own(raw) == picture


@pytest.mark.parametrize(
    "data", [b"", b"<svg/>", b"\x89PNG\r\n\x1a\n" + bytes(pictures.LARGEST), b"RIFF1234WAVE"]
)
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(RequestError):
        pictures.own(data)


async def test_publications_are_remembered_by_open_webui(tmp_path: Path) -> None:
    db = await Database.open(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}")
    try:
        store = PublicationStore(db)
        await store.put("http://a/", "m", None, {"tags": ["Agent"]}, "ada")
        await store.put("http://b", "m", {"tags": []}, {}, "ada")
        await store.put("http://a", "m", None, {"tags": []}, "bob")
        (found,) = (await store.all("http://a")).values()
        assert (found.before, found.ours, found.author) == (None, {"tags": []}, "bob")
        await store.remove("http://a", "m")
        assert await store.all("http://a") == {}
        assert (await store.all("http://b"))["m"].before == {"tags": []}
    finally:
        await db.close()
