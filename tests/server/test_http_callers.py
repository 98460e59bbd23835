"""Users who call with their own credential of Open WebUI, and the model that calls tools for agents."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from agent_mode.errors import ToolError
from agent_mode.tools.loopback import Loopback
from agent_mode.tools.openwebui import OpenWebUIClient
from agent_mode.tools.runner import NOT_FOR_CHATS
from tests.owui_double import RUNNER, Account, Double
from tests.patience import LONG
from tests.provider import Provider
from tests.server.servers import KEY, OURS, STOCK, Kind, Server, eventually, make, running

CODER = "personas.coder"
ROUTES = ("", "/v1")


@dataclass
class World:
    """Our server beside an Open WebUI with a few users."""

    server: Server
    webui: Double
    bob: Account
    eve: Account
    root: Account

    def chat(self, credential: str, model: str = CODER, prefix: str = "", **more: Any) -> requests.Response:
        body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], **more}
        return self.server.anonymous(
            "POST", f"{prefix}/chat/completions", json=body, headers=bearer(credential)
        )

    def models(self, credential: str, prefix: str = "") -> requests.Response:
        return self.server.anonymous("GET", f"{prefix}/models", headers=bearer(credential))


def bearer(credential: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {credential}"}


def say_who(__user__: Any, word: str = "") -> str:
    return f"{word} {__user__['name']}"


@pytest.fixture(scope="module", params=[OURS, STOCK], ids=str)
def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, provider_process: Provider
) -> Iterator[World]:
    kind: Kind = request.param
    home = tmp_path_factory.mktemp("callers") / kind.name
    with Double(auth_type="session") as webui:
        server = make(kind, home, provider_process.base_url, environment={"OPENWEBUI_URL": webui.url})
        bob, eve, root = webui.user("bob"), webui.user("eve"), webui.user("root", "admin")
        webui.share(CODER, [bob])
        webui.share("bystander", [bob])
        webui.share(RUNNER, [bob, eve])
        webui.toolkit("kit", readers=[bob], say_who=say_who)
        webui.connect(server.url, KEY)
        with running(server):
            server.set_valves()
            yield World(server, webui, bob, eve, root)


def test_a_session_and_an_api_key_open_two_routes(world: World) -> None:
    for credential in (world.bob.token, world.bob.key):
        for prefix in ROUTES:
            listed = world.models(credential, prefix)
            assert listed.status_code == 200, listed.text
            assert {CODER, RUNNER} <= {entry["id"] for entry in listed.json()["data"]}
            assert world.chat(credential, prefix=prefix).status_code == 200
            streamed = world.chat(credential, prefix=prefix, stream=True)
            assert streamed.text.rstrip().endswith("data: [DONE]")


def test_all_other_routes_want_the_connection_key(world: World) -> None:
    paths = world.server.get("/openapi.json").json()["paths"]
    known = [(method.upper(), path) for path, methods in paths.items() for method in methods]
    assert len(known) > 20
    more = [("GET", "/personas"), ("GET", "/metrics"), ("POST", "/models"), ("GET", "/chat/completions")]
    more += [
        ("GET", "/api/v1/agents/"),
        ("POST", "/personas/filter/inlet"),
        ("POST", "/personas/valves/update"),
    ]
    for method, path in known + more:
        path = path.replace("{pipeline_id}", "personas").removesuffix("/")  # noqa: PLW2901
        if (method, path.removeprefix("/v1")) in (
            ("GET", "/models"),
            ("POST", "/chat/completions"),
        ) or not path:
            continue
        if path == "/v1":
            continue
        reply = world.server.anonymous(method, path, headers=bearer(world.root.token), json={})
        assert reply.status_code == 401, (method, path, reply.text)


def test_a_user_is_who_open_webui_says(world: World) -> None:
    forged = {"id": "root", "name": "Mallory", "role": "admin"}

    reply = world.chat(world.bob.token, "bystander", user=forged, stream=False)

    assert reply.status_code == 200
    assert "Good day, Bob: Hi" in reply.text
    assert "Mallory" not in reply.text


def test_commands_follow_the_real_user(world: World) -> None:
    """What only admins may do is refused to one who merely claims to be one."""
    body = [{"role": "user", "content": "!agent history coder"}]

    def asked(credential: str, claimed: str, **headers: str) -> str:
        user = {"id": world.root.id, "role": claimed}
        reply = world.server.anonymous(
            "POST",
            "/chat/completions",
            json={"model": CODER, "messages": body, "user": user, "stream": False},
            headers=bearer(credential) | headers,
        )
        return reply.json()["choices"][0]["message"]["content"]

    told = {"X-Agent-Mode-User-Id": world.root.id, "X-Agent-Mode-User-Role": "admin"}
    as_admin = asked(KEY, "user", **told)  # who has the key says so in headers, not in the body
    assert asked(world.bob.token, "admin", **told) == asked(KEY, "admin") != as_admin
    assert asked(world.root.token, "user") == as_admin


def test_forged_ids_of_a_chat_reach_nothing_of_its_owner(world: World) -> None:
    """A user who calls us directly names another one's chat and message."""
    chat = f"chat-{world.server.port}-{uuid.uuid4().hex}"

    def turn(who: Account, message: str, parent: str, said: list[str]) -> None:
        headers = bearer(who.token) | {
            "X-Agent-Mode-Chat-Id": chat,
            "X-Agent-Mode-Message-Id": f"{chat}-{message}",
            "X-Agent-Mode-Parent-Id": f"{chat}-{parent}" if parent else "",
        }
        messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(said)]
        body = {"model": CODER, "messages": messages, "stream": False}
        reply = world.server.anonymous("POST", "/chat/completions", json=body, headers=headers)
        assert reply.status_code == 200, reply.text

    def runs() -> set[tuple[str, str, str]]:
        items = world.server.get("/api/v1/runs/", params={"chat_id": chat}).json()["items"]
        return {(run["user_id"], run["message_id"].removeprefix(f"{chat}-"), run["agent"]) for run in items}

    root, bob = world.root.id, world.bob.id
    turn(world.root, "m1", "", ["Hi"])
    turn(world.bob, "m1", "", ["!writer Hi"])
    assert eventually(lambda: len(runs()) == 2)
    assert runs() == {(root, "m1", "coder"), (bob, "m1", "writer")}
    turn(world.root, "m2", "m1", ["Hi", "Hello", "And now?"])
    turn(world.bob, "m2", "m1", ["Hi", "Hello", "And now?"])
    assert eventually(lambda: len(runs()) == 4)
    assert {run for run in runs() if run[1] == "m2"} == {(root, "m2", "coder"), (bob, "m2", "writer")}


def test_a_model_that_the_user_may_not_use(world: World) -> None:
    for credential in (world.eve.token, world.eve.key):
        for model in (CODER, "bystander", "personas.unknown", "no.such"):
            reply = world.chat(credential, model)
            assert reply.status_code == 403, (model, reply.text)
            error = reply.json()["error"]
            assert (error["code"], error["field"]) == ("model_access", "model")
    assert world.chat(world.root.token).status_code == 200


def test_what_open_webui_does_not_know_is_refused_and_not_asked_again(world: World) -> None:
    bad = "eyJhbGciOiJIUzI1NiJ9.unknown.c2ln"
    world.webui.requests.clear()
    for _ in range(5):
        for reply in (world.models(bad), world.chat(bad)):
            assert reply.status_code == 401
            assert reply.json()["error"]["code"] == "unauthorized"
            assert reply.headers["www-authenticate"] == "Bearer"
            assert bad not in reply.text
    assert len(world.webui.requests) == 1
    assert world.models("sk-0000000000000000").status_code == 401


def test_what_cannot_be_a_credential_is_not_asked_about(world: World) -> None:
    world.webui.requests.clear()
    for odd in ("wrong", "a.b", "a.b.c.d", "sk-", "sk-1", "sk-" + "x" * 300, "sk-ü", "", KEY[:-1]):
        reply = world.server.anonymous("GET", "/models", headers={"Authorization": f"Bearer {odd}".encode()})
        assert reply.status_code == 401, odd
    for scheme in ("Basic", "Token", ""):
        value = f"{scheme} {world.bob.token}".strip()
        assert world.server.anonymous("GET", "/models", headers={"Authorization": value}).status_code == 401
    assert [r for r in world.webui.requests if r.account is not None] == []


def test_many_at_once_are_asked_about_once(world: World) -> None:
    zoe = world.webui.user(f"zoe{world.server.port}")
    world.webui.requests.clear()
    with ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(lambda _: world.models(zoe.token).status_code, range(64)))
    assert replies == [200] * 64
    assert len(world.webui.requests) == 1


def test_an_open_webui_that_is_silent(world: World) -> None:
    known = world.webui.user(f"kim{world.server.port}")
    assert world.models(known.token).status_code == 200
    world.webui.down = 502
    try:
        reply = world.models(world.webui.user("new").token)
        assert reply.status_code == 502
        assert reply.json()["error"]["code"] == "tool_failed"
        assert world.models(known.token).status_code == 200  # what is known holds
    finally:
        world.webui.down = None


def test_no_credential_is_logged(world: World) -> None:
    world.chat(world.bob.token)
    world.chat(world.eve.key)
    log = world.server.log_file.read_text(errors="replace")
    for account in (world.bob, world.eve, world.root):
        assert account.token not in log
        assert account.key not in log


def test_an_api_key_whose_owner_open_webui_does_not_tell(world: World) -> None:
    amy = world.webui.user(f"amy{world.server.port}")
    world.webui.share(CODER, [world.bob, amy])
    world.webui.user_status = False
    try:
        assert world.models(amy.key).status_code == 200
        reply = world.chat(amy.key)
        assert reply.status_code == 401
        assert "ENABLE_USER_STATUS" in reply.json()["error"]["hint"]
        assert world.chat(amy.key, RUNNER).status_code == 200
        assert world.chat(amy.token).status_code == 200
    finally:
        world.webui.user_status = True


def test_the_runner_is_listed_hidden_and_not_for_chats(world: World) -> None:
    entries = {entry["id"]: entry for entry in world.server.get("/models").json()["data"]}
    assert entries[RUNNER]["info"]["meta"]["hidden"] is True

    for stream in (False, True):
        reply = world.chat(world.eve.token, RUNNER, stream=stream)
        assert reply.status_code == 200
        assert NOT_FOR_CHATS[:40] in reply.text


@pytest.mark.parametrize("auth_type", ["session", "bearer"])
async def test_a_tool_through_open_webui_and_our_server(world: World, auth_type: Any) -> None:
    world.webui.auth_type = auth_type
    client = OpenWebUIClient(world.webui.url, KEY)
    loopback = Loopback(client, KEY)
    try:
        (spec,) = await client.tools_of(world.bob.token)
        for credential in (world.bob.token, world.bob.key):
            outcome = await loopback.call(credential, spec, {"word": "It is"}, timeout=LONG)
            assert outcome.text == "It is Bob"
        with pytest.raises(ToolError) as denied:
            await loopback.call(world.eve.token, spec, {}, timeout=LONG)
        assert denied.value.code == "tool_denied"
    finally:
        world.webui.auth_type = "session"
        await client.close()


async def test_a_call_that_another_key_signed_is_not_answered(world: World) -> None:
    client = OpenWebUIClient(world.webui.url, "another key")
    world.webui.executed.clear()
    try:
        (spec,) = await client.tools_of(world.bob.token)
        with pytest.raises(ToolError):
            await Loopback(client, "another key").call(world.bob.token, spec, {}, timeout=LONG)
        assert world.webui.executed == []
    finally:
        await client.close()


def test_without_an_open_webui_the_cure_is_said(tmp_path: Path) -> None:
    server = make(OURS, tmp_path / "alone", None)
    with running(server):
        for method, path in (("GET", "/models"), ("POST", "/chat/completions")):
            headers = bearer(Account("bob").token)
            reply = server.anonymous(method, path, headers=headers, json={"model": CODER})
            assert reply.status_code == 401
            assert "OPENWEBUI_URL" in reply.json()["error"]["hint"]
        assert RUNNER not in server.get("/models").text
