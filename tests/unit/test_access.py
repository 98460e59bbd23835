"""Who may use which model: Open WebUI's own rule, asked with a service key and believed for a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from aiohttp import web

from agent_mode.agents.delegation import may_reach
from agent_mode.agents.spec import Caller
from agent_mode.chat.access import caller_of, forbidden
from agent_mode.chat.context import User
from agent_mode.chat.runtime import Runtime
from agent_mode.tools import access as module
from agent_mode.tools.access import Access
from tests.patience import PATIENCE
from tests.runtimes import settings

MODEL = "personas.console"
KEY = "sk-service"


class OpenWebUI:
    """The two calls, as CONTRACT.md tells them; `replies` puts others in their place."""

    def __init__(self) -> None:
        self.models: dict[str, Any] = {}
        self.groups: dict[str, list[Any]] = {}
        self.replies: dict[str, web.Response | float] = {}
        self.asked: list[str] = []
        self.url = ""

    def grant(self, kind: str = "user", principal: str = "*", model: str = MODEL, **record: Any) -> None:
        grant = {"principal_type": kind, "principal_id": principal, "permission": "read"}
        values = {"user_id": "owner", "base_model_id": None, "access_grants": [grant], "is_active": True}
        self.models[model] = values | record

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        assert request.headers["Authorization"] == f"Bearer {KEY}"
        for part, reply in self.replies.items():
            if part in request.path:
                if isinstance(reply, web.Response):
                    return web.Response(status=reply.status, text=reply.text, content_type=reply.content_type)
                await asyncio.sleep(reply)
                return web.json_response({})
        if request.path == "/base/api/v1/models/model":
            record = self.models.get(request.query["id"])
            return web.json_response(record, status=200) if record is not None else web.Response(status=404)
        if request.path == "/base/api/v1/models/base":
            listed = [{**record, "id": model} for model, record in self.models.items() if record]
            return web.json_response([record for record in listed if record["base_model_id"] is None])
        parts = request.path.split("/")
        assert parts[:5] + parts[6:] == ["", "base", "api", "v1", "users", "groups"]
        assert request.query["include_inherited"] == "true"
        return web.json_response(self.groups.get(parts[5], []))


@pytest.fixture
async def webui() -> AsyncIterator[OpenWebUI]:
    webui = OpenWebUI()
    app = web.Application()
    app.router.add_get("/{path:.*}", webui.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    webui.url = f"http://{host}:{port}/base"
    yield webui
    await runner.cleanup()


@pytest.fixture
async def access(webui: OpenWebUI) -> AsyncIterator[Access]:
    access = Access(webui.url + "/", KEY)  # a slash at the end does no harm
    yield access
    await access.close()


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    capture = structlog.testing.LogCapture()
    log = structlog.wrap_logger(None, processors=[capture], wrapper_class=structlog.stdlib.BoundLogger)
    monkeypatch.setattr(module, "log", log)
    return capture.entries


@pytest.mark.parametrize(("url", "key"), [(None, KEY), ("http://127.0.0.1:9", None), (None, None), ("", KEY)])
async def test_without_address_or_key_there_is_nobody_to_ask(url: str | None, key: str | None) -> None:
    access = Access(url, key)

    assert await access.may_use("ann", MODEL) is None
    assert not access.asks
    await access.close()


@pytest.mark.parametrize(
    ("kind", "principal", "allowed"), [("user", "*", True), ("user", "ann", False), ("group", "g1", False)]
)
async def test_whom_nobody_vouches_for_may_use_what_everyone_may(
    webui: OpenWebUI, access: Access, kind: str, principal: str, allowed: bool
) -> None:
    webui.groups["ann"] = [{"id": "g1"}]
    webui.grant(kind, principal, user_id=None)
    for name in ("b", "c", "d"):
        webui.grant(kind, principal, name, user_id=None)

    assert access.asks
    assert await access.may_use(None, MODEL) is allowed
    await access.learn(None, ["b", "c", "d"])
    asked = len(webui.asked)
    assert [await access.may_use(None, name) for name in ("b", "c", "d")] == [allowed] * 3
    assert len(webui.asked) == asked
    assert not any("groups" in path for path in webui.asked)


@pytest.mark.parametrize(
    ("kind", "principal", "allowed"),
    [
        ("user", "*", True),
        ("user", "ann", True),
        ("group", "g1", True),
        ("group", "inherited", True),
        ("user", "bob", False),
        ("user", "g1", False),
        ("group", "g2", False),
        ("group", "*", False),
        ("group", "ann", False),
        ("role", "ann", False),
    ],
)
async def test_the_grants(webui: OpenWebUI, access: Access, kind: str, principal: str, allowed: bool) -> None:
    webui.groups = {"ann": [{"id": "g1", "name": "G"}, {"id": "inherited"}], "bob": [{"id": "g2"}]}
    webui.grant(kind, principal)

    assert await access.may_use("ann", MODEL) is allowed


async def test_the_owner_needs_no_grant(webui: OpenWebUI, access: Access) -> None:
    webui.grant("user", "nobody", user_id="ann")

    assert await access.may_use("ann", MODEL) is True
    assert await access.may_use("bob", MODEL) is False


async def test_the_whole_chain_of_models_must_be_open(webui: OpenWebUI, access: Access) -> None:
    webui.grant(model="top", base_model_id="middle")
    webui.grant("user", "ann", model="middle", base_model_id="bottom")
    webui.grant("group", "g1", model="bottom")
    webui.groups = {"ann": [{"id": "g1"}], "bob": [{"id": "g1"}]}

    assert await access.may_use("ann", "top") is True
    assert await access.may_use("bob", "top") is False
    assert await access.may_use("bob", "bottom") is True


async def test_a_circle_of_models_is_nobodys(webui: OpenWebUI, access: Access) -> None:
    webui.grant(model="a", base_model_id="b")
    webui.grant(model="b", base_model_id="a")
    webui.grant(model="self", base_model_id="self")

    async with asyncio.timeout(PATIENCE):
        assert await access.may_use("ann", "a") is False
        assert await access.may_use("ann", "self") is False


async def test_no_record_and_an_inactive_one_are_the_admins_alone(webui: OpenWebUI, access: Access) -> None:
    webui.grant(model="off", is_active=False)

    assert await access.may_use("ann", "none") is False
    assert await access.may_use("ann", "off") is False


@pytest.mark.parametrize(
    "record",
    [
        {"access_grants": None},
        {"access_grants": "everyone"},
        {"access_grants": {"user": "*"}},
        {"access_grants": [None, 7, "user", [], {}]},
        {"access_grants": [{"principal_type": "user", "principal_id": "*"}]},
        {"access_grants": [{"principal_type": "user", "principal_id": "*", "permission": "write"}]},
        {"access_grants": [{"principal_type": "group", "principal_id": None, "permission": "read"}]},
        {"access_grants": [{"principal_type": "user", "principal_id": ["ann"], "permission": "read"}]},
        {},
        [],
    ],
    ids=str,
)
async def test_odd_records_open_nothing(webui: OpenWebUI, access: Access, record: Any) -> None:
    webui.models[MODEL] = record
    webui.groups = {"ann": [{}, {"name": "nameless"}, {"id": None}, {"id": []}, None, "x"]}

    assert await access.may_use("ann", MODEL) is False


# Versions before 0.8: rights in `access_control`, 401 where there is no record


@pytest.mark.parametrize(
    ("control", "allowed"),
    [
        (None, True),
        ({}, False),
        ({"read": {"user_ids": ["ann"], "group_ids": []}}, True),
        ({"read": {"user_ids": ["bob"], "group_ids": ["g1"]}}, True),
        ({"read": {"group_ids": ["g1"]}}, True),
        ({"read": {"user_ids": ["bob"], "group_ids": ["g2"]}}, False),
        ({"write": {"user_ids": ["ann"], "group_ids": ["g1"]}}, False),
        ({"read": {"user_ids": "ann", "group_ids": {"g1": 1}}}, False),
        ({"read": None}, False),
        ("everyone", False),
        ([], False),
    ],
    ids=str,
)
async def test_the_rights_of_old_versions(
    webui: OpenWebUI, access: Access, control: Any, allowed: bool
) -> None:
    record = {"user_id": "owner", "base_model_id": None, "is_active": True, "access_control": control}
    webui.models = {MODEL: record, "b": {**record, "user_id": "ann"}, "c": {**record, "is_active": False}}
    webui.groups = {"ann": [{"id": "g1"}]}

    assert await access.may_use("ann", MODEL) is allowed
    access.forget()
    await access.learn("ann", (MODEL, "b", "c"))
    asked = len(webui.asked)

    assert [await access.may_use("ann", model) for model in (MODEL, "b", "c")] == [allowed, True, False]
    assert len(webui.asked) == asked


async def test_new_rights_go_before_old_ones(webui: OpenWebUI, access: Access) -> None:
    """A version that knows both judges by the grants alone."""
    webui.grant("user", "bob", access_control=None)

    assert await access.may_use("ann", MODEL) is False


@pytest.mark.parametrize("withheld", [web.Response(status=401), web.json_response(None)], ids=["401", "null"])
async def test_what_is_withheld_is_looked_up_in_the_admins_list(
    webui: OpenWebUI, access: Access, withheld: web.Response
) -> None:
    """Old versions answer 401 of a model without a record, and null of one that they keep from the asker."""
    webui.replies = {"models/model": withheld}
    webui.grant("user", "ann", model="shared")

    assert await access.may_use("ann", "shared") is True
    assert await access.may_use("bob", "shared") is False
    assert await access.may_use("ann", "never shared") is False


# What is believed


async def test_both_answers_are_believed_for_a_minute(
    webui: OpenWebUI, access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.monotonic()
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    webui.grant("user", "ann")
    assert (await access.may_use("ann", MODEL), await access.may_use("bob", MODEL)) == (True, False)
    asked = len(webui.asked)
    webui.grant("user", "bob")

    now += 59
    assert (await access.may_use("ann", MODEL), await access.may_use("bob", MODEL)) == (True, False)
    assert len(webui.asked) == asked
    now += 2

    assert (await access.may_use("ann", MODEL), await access.may_use("bob", MODEL)) == (False, True)


async def test_each_user_and_model_is_asked_for_alone(webui: OpenWebUI, access: Access) -> None:
    webui.grant("user", "ann")
    webui.grant("user", "bob", model="other")

    found = [await access.may_use(user, model) for user in ("ann", "bob") for model in (MODEL, "other")]

    assert found == [True, False, False, True]


async def test_what_is_remembered_is_limited(
    webui: OpenWebUI, access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MEMORY", 3)
    webui.grant()
    for number in range(20):
        assert await access.may_use(f"user{number}", MODEL) is True

    assert len(access._known) <= 3


# No answer


NO_ANSWER = {
    "server error": web.Response(status=500),
    "gateway": web.Response(status=502, text="<html>", content_type="text/html"),
    "no JSON": web.Response(text="<html>Log in</html>", content_type="text/html"),
    "broken JSON": web.Response(text="{", content_type="application/json"),
}


@pytest.mark.parametrize("reply", NO_ANSWER.values(), ids=NO_ANSWER)
@pytest.mark.parametrize("call", ["models/model", "groups"])
async def test_no_answer_is_none_and_asked_for_again(
    webui: OpenWebUI,
    access: Access,
    logged: list[Any],
    call: str,
    reply: web.Response,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("agent_mode.tools.access.SILENT_SECONDS", 0.0)
    webui.grant()
    webui.replies = {call: reply}
    assert await access.may_use("ann", MODEL) is None
    (record,) = logged
    assert (record["event"], record["model"]) == ("Open WebUI did not say who may use what", MODEL)
    assert KEY not in str(record)

    webui.replies = {}

    assert await access.may_use("ann", MODEL) is True


@pytest.mark.parametrize("status", [401, 403])
async def test_a_key_that_may_not_ask_opens_nothing(webui: OpenWebUI, access: Access, status: int) -> None:
    webui.grant()
    webui.replies = {"api/v1/models/": web.Response(status=status)}

    assert await access.may_use("ann", MODEL) is None  # not that the user may not: nobody could be asked


async def test_after_no_answer_nobody_is_asked_for_a_while(webui: OpenWebUI, access: Access) -> None:
    webui.grant()
    webui.replies = {"models/model": web.Response(status=500)}
    assert await access.may_use("ann", MODEL) is None
    webui.replies = {}
    assert await access.may_use("ann", MODEL) is None


async def test_what_is_known_holds_while_there_is_no_answer(webui: OpenWebUI, access: Access) -> None:
    """Else one failed call would open to everybody what was refused."""
    webui.grant("user", "ann")
    assert await access.may_use("bob", MODEL) is False
    webui.replies = {"models/model": web.Response(status=500)}
    assert await access.may_use("cid", MODEL) is None

    assert await access.may_use("bob", MODEL) is False


@pytest.mark.parametrize("listed", [False, True], ids=["asked", "listed"])
async def test_an_old_no_holds_as_long_as_there_is_no_answer(
    webui: OpenWebUI, access: Access, monkeypatch: pytest.MonkeyPatch, listed: bool
) -> None:
    """Else one slow moment, a minute after the refusal, would open it."""
    now = time.monotonic()
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    webui.grant("user", "ann")
    if listed:
        await access.learn("bob", (MODEL, "b", "c"))
    else:
        assert await access.may_use("bob", MODEL) is False
    assert await access.may_use("ann", MODEL) is True
    webui.replies = {"api/v1/": web.Response(status=500)}

    for later in (61, 1, 31, 3000, 90_000):
        now += later
        await access.learn("bob", (MODEL, "b", "c"))
        assert await access.may_use("bob", MODEL) is False
        assert await access.may_use("ann", MODEL) is (True if later < 90_000 else None), "a yes grows old"

    access.forget()
    assert (await access.may_use("ann", MODEL), await access.may_use("bob", MODEL)) == (None, False)
    webui.replies = {}
    webui.grant("user", "bob")
    now += 31
    assert (await access.may_use("ann", MODEL), await access.may_use("bob", MODEL)) == (False, True)


async def test_one_question_without_an_answer_silences_no_other(webui: OpenWebUI, access: Access) -> None:
    """Else whoever makes one of them slow would open what others are asked for the first time."""
    webui.grant("user", "ann")
    webui.replies = {"users/eve": web.Response(status=500)}
    assert await access.may_use("eve", MODEL) is None
    await access.learn("eve", (MODEL, "b", "c"))

    assert await access.may_use("bob", MODEL) is False
    assert await access.may_use("ann", MODEL) is True


async def test_what_was_asked_last_is_remembered_longest(
    webui: OpenWebUI, access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MEMORY", 3)
    for user in ("a", "b", "c", "d"):
        assert await access.may_use(user, MODEL) is False
    asked = len(webui.asked)

    assert [await access.may_use(user, MODEL) for user in ("b", "c", "d")] == [False] * 3
    assert len(webui.asked) == asked


async def test_nobody_waits_for_long(
    webui: OpenWebUI, monkeypatch: pytest.MonkeyPatch, logged: list[Any]
) -> None:
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.1)
    access = Access(webui.url, KEY)
    webui.replies = {"models/model": 600.0}
    before = time.monotonic()

    assert await access.may_use("ann", MODEL) is None

    assert time.monotonic() - before < PATIENCE
    assert logged
    await access.close()


async def test_nobody_there(logged: list[Any]) -> None:
    access = Access("http://127.0.0.1:9", KEY)

    assert await access.may_use("ann", MODEL) is None
    await access.close()
    assert logged[0]["reason"] == "ClientConnectorError"


async def test_it_can_be_closed_at_any_time(webui: OpenWebUI) -> None:
    webui.grant()
    access = Access(webui.url, KEY)
    await access.close()
    await access.may_use("ann", MODEL)
    await access.close()
    await access.close()

    assert await access.may_use("ann", MODEL) is True  # still believed


async def test_many_models_are_asked_for_at_once(webui: OpenWebUI, access: Access) -> None:
    webui.groups = {"ann": [{"id": "g1"}]}
    webui.grant("group", "g1", model="open")
    webui.grant("group", "g2", model="closed")
    webui.grant("user", "*", model="off", is_active=False)
    webui.grant("user", "nobody", model="own", user_id="ann")
    everything = ("open", "closed", "off", "own", "without a record")

    await access.learn("ann", everything)
    answers = {model: await access.may_use("ann", model) for model in everything}

    assert [model for model, allowed in answers.items() if allowed] == ["open", "own"]
    assert len(webui.asked) == 2
    await access.learn("ann", everything)
    assert len(webui.asked) == 2


async def test_without_a_list_each_is_asked_for(webui: OpenWebUI, access: Access) -> None:
    """As of a version of Open WebUI that has no such route."""
    webui.grant()
    webui.replies = {"models/base": web.Response(status=404)}

    await access.learn("ann", (MODEL, "b", "c"))

    assert await access.may_use("ann", MODEL) is True
    assert await access.may_use("ann", "b") is False


async def test_a_list_that_does_not_come_is_waited_for_once(webui: OpenWebUI, access: Access) -> None:
    webui.grant()
    webui.replies = {"models/base": web.Response(status=500)}

    await access.learn("ann", (MODEL, "b", "c"))

    assert await access.may_use("ann", MODEL) is None
    assert len(webui.asked) == 1


# Whom nobody vouches for


@pytest.mark.parametrize("asks", [True, False])
async def test_a_stranger_has_no_benefit_of_the_doubt(tmp_path: Path, asks: bool) -> None:
    """Where Open WebUI could say who may use what, and does not answer."""
    there: dict[str, Any] = {"openwebui_url": "http://127.0.0.1:9", "openwebui_api_key": KEY} if asks else {}
    runtime = await Runtime.open(settings(tmp_path, **there))
    try:
        assert await forbidden(runtime, User("ann"), "coder") is False
        for stranger in (User(), User(claimed="ann")):
            assert await forbidden(runtime, stranger, "coder") is asks
            spec = runtime.directory.get("coder")
            assert spec is not None
            assert await may_reach(runtime.services, caller_of(stranger), spec) is not asks
            assert await runtime.services.credential_of(caller_of(stranger)) is None
        # A script that uses our API has the connection key.
        assert await may_reach(runtime.services, Caller(), spec) is True
        assert await forbidden(runtime, User("ada", admin=True), "coder") is False
    finally:
        await runtime.close()
