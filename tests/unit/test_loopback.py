"""The loopback: exactly the wanted call runs, as the user, or it is said why not."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_mode.errors import ToolError
from agent_mode.tools import openwebui as client_module
from agent_mode.tools.loopback import Loopback, ToolOutcome
from agent_mode.tools.openwebui import Account, OpenWebUIClient
from agent_mode.tools.runner import (
    DONE,
    LIST_TOOLS,
    NOT_FOR_CHATS,
    read_call,
    runner_reply,
    selected,
    sign_call,
)
from agent_mode.tools.specs import ToolSpec
from tests import owui_double
from tests.owui_double import Double
from tests.patience import PATIENCE

SECRET = "sk-connection-key"
MODEL = "personas.tool_runner"


# The protocol


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
WRAPPED = [
    "{line}",
    "Query: {line}",
    'History:\nUSER: """Hi"""\nASSISTANT: """Query: x"""\nQuery: {line}',
    '### Task:\nAnswer.\n<context>\n<source id="1">rolled 4</source>\n</context>\n\n{line}',
    "Query: {line}\n{line}",
    "[2026-11-21] {line} (from the web)",
]


@given(st.text(min_size=1), st.dictionaries(st.text(), JSON, max_size=4), st.text(), st.sampled_from(WRAPPED))
def test_a_call_survives_its_way(name: str, arguments: dict[str, Any], nonce: str, wrapped: str) -> None:
    line = sign_call(SECRET, name, arguments, nonce)
    assert "\n" not in line
    assert read_call(SECRET, wrapped.replace("{line}", line)) == (
        name,
        json.loads(json.dumps(arguments)),
        nonce,
    )
    assert read_call("another key", line) is None
    assert read_call("", line) is None


@given(st.data())
def test_a_changed_line_is_not_believed(data: st.DataObject) -> None:
    line = sign_call(SECRET, "roll", {"sides": 6}, "n")
    start = line.index(":") + 1
    place = data.draw(st.integers(start, len(line) - 1))
    letter = data.draw(st.sampled_from("abcdef0123456789").filter(lambda c: c != line[place]))
    assert read_call(SECRET, f"{line[:place]}{letter}{line[place + 1 :]}") is None


def test_a_line_of_another_is_passed_over() -> None:
    ours = sign_call(SECRET, "roll", {}, "n")
    theirs = sign_call("their key", "delete", {}, "m")
    assert read_call(SECRET, f"{theirs} {ours} {theirs}") == ("roll", {}, "n")
    assert read_call(SECRET, theirs) is None
    assert read_call(SECRET, "Query: roll a dice") is None


def test_signatures_of_other_things_are_no_calls() -> None:
    from agent_mode.chat.context import TurnContext
    from agent_mode.chat.signed import pack

    signed = pack(TurnContext(chat_id="c"), SECRET)["signature"]
    body = sign_call(SECRET, "roll", {}, "n").split(".")[0]
    assert read_call(SECRET, f"{body}.{signed}") is None


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_no_json_is_not_signed(bad: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        sign_call(SECRET, "roll", {"n": bad}, "n")
    with pytest.raises(ValueError, match="secret"):
        sign_call("", "roll", {}, "n")


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def test_the_runner_names_the_call_when_asked_and_only_then() -> None:
    line = sign_call(SECRET, "roll", {"sides": 3}, "n")
    tools = {"role": "system", "content": 'Available Tools: [{"name": "roll"}]'}
    call = {"tool_calls": [{"name": "roll", "parameters": {"sides": 3}}]}

    assert json.loads(runner_reply(SECRET, [tools, user(f"Query: {line}")])) == call
    assert (
        json.loads(runner_reply(SECRET, [tools, user([{"type": "text", "text": f"Query: {line}"}])])) == call
    )
    assert json.loads(runner_reply(SECRET, [user(f"History:\nUSER: x\nQuery: {line}")])) == call
    assert json.loads(runner_reply(SECRET, [tools, user(f"Query: Today is Monday.\n{line}")])) == call
    assert runner_reply(SECRET, [user(line)]) == DONE
    assert runner_reply(SECRET, [user(f"### Task\n<source>rolled 3</source>\n{line}")]) == DONE
    assert runner_reply(SECRET, [user(f"Answer to the\nQuery: {line}\n{line}")]) == DONE
    assert selected(SECRET, [user(f"Query: {line}")]) == ("roll", {"sides": 3}, "n")
    assert selected(SECRET, [user(line)]) is None


@pytest.mark.parametrize(
    "said", ["Hi", "Query: roll", "", None, [], [{"type": "image_url"}], "agent-mode-call:x.y"]
)
def test_without_a_signature_it_says_that_it_is_not_for_chats(said: Any) -> None:
    assert runner_reply(SECRET, [user(said)]) == NOT_FOR_CHATS
    assert runner_reply("", [user(f"Query: {sign_call(SECRET, 'roll', {}, 'n')}")]) == NOT_FOR_CHATS


def test_the_runner_lists_the_tools_it_was_sent() -> None:
    line = sign_call(SECRET, LIST_TOOLS, {}, "n")
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert json.loads(runner_reply(SECRET, [user(line)], tools)) == tools
    assert runner_reply(SECRET, [user(line)]) == "[]"


def test_a_large_call_is_read_quickly() -> None:
    line = sign_call(SECRET, "write", {"text": "ü" * 1_000_000}, "n")
    forged = "agent-mode-call:AAAA." + "0" * 64
    began = time.monotonic()
    assert read_call(SECRET, f"Query: {line}\n" + forged * 2000) is not None
    assert time.monotonic() - began < PATIENCE


# With an Open WebUI


def roll(sides: int = 6, __user__: Any = None) -> str:
    """Rolls a die."""
    return f"rolled {sides} for {__user__['name']}"


@pytest.fixture
def webui() -> Iterator[Double]:
    with Double() as double:
        yield double


@pytest.fixture
async def client(webui: Double) -> AsyncIterator[OpenWebUIClient]:
    client = OpenWebUIClient(webui.url + "/", SECRET)
    yield client
    await client.close()


@pytest.fixture
def loopback(webui: Double, client: OpenWebUIClient) -> Loopback:
    webui.share(MODEL)
    webui.toolkit("dice", roll=roll)
    loopback = Loopback(client, SECRET)
    webui.model = loopback.reply
    return loopback


ROLL = ToolSpec(
    "roll", "roll", "", {"type": "object", "properties": {"sides": {"type": "integer"}}}, "openwebui", "dice"
)


def tool(name: str, toolkit: str = "dice", **properties: Any) -> ToolSpec:
    return ToolSpec(name, name, "", {"type": "object", "properties": properties}, "openwebui", toolkit)


async def fails(
    loopback: Loopback, credential: str | None, spec: ToolSpec = ROLL, seconds: float = 5, **arguments: Any
) -> ToolError:
    with pytest.raises(ToolError) as caught:
        await loopback.call(credential, spec, arguments, timeout=seconds)
    assert len(caught.value.message) > 10
    assert not credential or credential not in f"{caught.value!r} {caught.value} {caught.value.detail}"
    return caught.value


async def test_the_very_call_runs_as_the_user(webui: Double, loopback: Loopback) -> None:
    bob, eve = webui.user("bob"), webui.user("eve")

    for credential, name in ((bob.token, "Bob"), (bob.key, "Bob"), (eve.token, "Eve")):
        outcome = await loopback.call(credential, ROLL, {"sides": 3}, timeout=5)
        assert (outcome.text, outcome.is_error) == (f"rolled 3 for {name}", False)
        assert outcome.sources[0]["source"] == {"name": "dice/roll"}
    assert webui.executed == [("roll", {"sides": 3}, who) for who in ("bob", "bob", "eve")]


async def test_each_of_many_at_once_gets_its_own_result(webui: Double, loopback: Loopback) -> None:
    users = [webui.user(f"u{n}") for n in range(20)]

    outcomes = await asyncio.gather(
        *(
            loopback.call(who.token, ROLL, {"sides": n}, timeout=20)
            for n, who in enumerate(users)
            for _ in "ab"
        )
    )

    assert [o.text for o in outcomes] == [f"rolled {n} for U{n}" for n in range(20) for _ in "ab"]


async def test_whatever_open_webui_puts_around_the_line(webui: Double, loopback: Loopback) -> None:
    bob = webui.user("bob")
    for wrap in ("<b>{}</b>", "Today is Monday.\n{}\nBe brief.", "Query: {}", "{}"):
        webui.wrap = lambda text, wrap=wrap: wrap.replace("{}", text)
        assert (await loopback.call(bob.token, ROLL, {"sides": 2}, timeout=5)).text == "rolled 2 for Bob"


async def test_an_answer_that_an_admin_made_a_stream(webui: Double, loopback: Loopback) -> None:
    webui.always_stream = True
    outcome = await loopback.call(webui.user("bob").token, ROLL, {"sides": 2}, timeout=5)
    assert outcome.text == "rolled 2 for Bob"


async def test_what_the_tool_has_no_parameter_for_is_left_out(webui: Double, loopback: Loopback) -> None:
    outcome = await loopback.call(webui.user("bob").token, ROLL, {"sides": 2, "colour": "red"}, timeout=5)
    assert outcome.text == "rolled 2 for Bob"


async def test_a_tool_that_fails_is_the_agent_s_to_handle(webui: Double, loopback: Loopback) -> None:
    def broken() -> None:
        raise RuntimeError("no dice")

    webui.toolkit(
        "kit", broken=broken, large=lambda: "x" * 1_000_000, parts=lambda: [{"a": 1}], nothing=lambda: ""
    )
    bob = webui.user("bob")

    outcome = await loopback.call(bob.token, tool("broken", "kit"), {}, timeout=5)
    assert outcome.is_error
    assert json.loads(outcome.text) == {"error": "no dice"}
    assert len((await loopback.call(bob.token, tool("large", "kit"), {}, timeout=5)).text) == 1_000_000
    parts = await loopback.call(bob.token, tool("parts", "kit"), {}, timeout=5)
    assert json.loads(parts.text) == {"results": [{"a": 1}]}
    assert await loopback.call(bob.token, tool("nothing", "kit"), {}, timeout=5) == ToolOutcome("", False)


async def test_a_tool_that_the_user_may_not_use_is_denied(webui: Double, loopback: Loopback) -> None:
    bob, eve = webui.user("bob"), webui.user("eve")
    webui.toolkit("dice", roll=roll, readers=[bob])

    error = await fails(loopback, eve.token, sides=2)

    assert (error.code, error.status) == ("tool_denied", 403)
    assert "roll" in error.message
    assert webui.executed == []
    assert (await fails(loopback, bob.token, tool("rolled"))).code == "tool_denied"
    assert (await fails(loopback, bob.token, tool("roll", "gone"))).code == "tool_denied"
    webui.toolkit("dice", roll=roll, readers=[bob, eve])
    assert (await loopback.call(eve.token, ROLL, {}, timeout=5)).text == "rolled 6 for Eve"


async def test_without_a_credential_the_ways_to_give_one_are_said(webui: Double, loopback: Loopback) -> None:
    for none in (None, ""):
        error = await fails(loopback, none)
        assert error.code == "no_credential"
        assert all(word in error.hint for word in ("Session", "cookies", "API key"))
    assert webui.requests == []


@pytest.mark.parametrize("bad", ["eyJ.wrong.token", "sk-wrong", "with\nnewline", "nön-ascii", "x" * 9000])
async def test_a_bad_credential_is_said(webui: Double, loopback: Loopback, bad: str) -> None:
    error = await fails(loopback, bad)
    assert (error.code, error.status) == ("tool_credential", 401)


async def test_api_keys_that_are_switched_off(webui: Double, loopback: Loopback) -> None:
    webui.keys_enabled = False
    error = await fails(loopback, webui.user("bob").key)
    assert error.code == "tool_credential"
    assert "Use of API key is not enabled" in error.message


async def test_a_runner_that_is_not_shared_is_said(webui: Double, loopback: Loopback) -> None:
    webui.share(MODEL, [webui.user("bob")])
    error = await fails(loopback, webui.user("eve").token)
    assert error.code == "tool_runner_access"
    assert MODEL in error.hint


async def test_another_task_model_is_noticed_before_it_does_harm(webui: Double, loopback: Loopback) -> None:
    bob = webui.user("bob")
    webui.task_model = "llama"  # of local connections: ours is external
    assert (await loopback.call(bob.token, ROLL, {}, timeout=5)).text
    webui.executed.clear()
    webui.task_model_external = "gpt-4o-mini"
    webui.other_model = lambda *_: json.dumps({"name": "roll", "parameters": {"sides": 99}})

    error = await fails(loopback, webui.user("eve").token)

    assert error.code == "tool_task_model"
    assert "gpt-4o-mini" in error.message
    assert "Admin Panel" in error.hint
    assert webui.executed == []


async def test_the_task_model_of_local_connections(webui: Double, loopback: Loopback) -> None:
    webui.connection_type = "local"
    webui.task_model_external = "gpt-4o-mini"
    assert (await loopback.call(webui.user("bob").token, ROLL, {}, timeout=5)).text
    webui.task_model = "llama"
    assert (await fails(loopback, webui.user("eve").token)).code == "tool_task_model"


@pytest.mark.parametrize(
    "chosen",
    [
        {"name": "roll", "parameters": {"sides": 99}},
        {"name": "delete", "parameters": {"sides": 3}},
        {"tool_calls": [{"name": "roll", "parameters": {"sides": 3}}, {"name": "delete", "parameters": {}}]},
        {"tool_calls": []},
    ],
)
async def test_another_call_than_the_wanted_one_is_said(
    webui: Double, loopback: Loopback, chosen: dict[str, Any]
) -> None:
    webui.task_config_open = False  # so that it shows only afterwards
    webui.task_model_external = "gpt-4o-mini"
    webui.other_model = lambda *_: json.dumps(chosen)
    webui.toolkit("dice", roll=roll, delete=lambda sides=0: f"deleted {sides}")

    error = await fails(loopback, webui.user("bob").token, sides=3)

    assert error.code == "tool_task_model"
    assert "Admin Panel" in error.hint


async def test_a_result_that_another_replica_asked_for(webui: Double, loopback: Loopback) -> None:
    other = Loopback(loopback._openwebui, SECRET)
    webui.model = other.reply
    webui.toolkit("kit", nothing=lambda: "")
    bob = webui.user("bob")

    assert (await loopback.call(bob.token, ROLL, {}, timeout=5)).text == "rolled 6 for Bob"
    # An empty result cannot be told from none there; it must not pass as one.
    assert (await fails(loopback, bob.token, tool("nothing", "kit"))).code == "tool_no_result"


async def test_tools_of_servers(webui: Double, loopback: Loopback) -> None:
    webui.toolkit("server:web", search=lambda q: [f"found {q}"])
    webui.toolkit("server:mcp:files", read=lambda path: f"read {path}")
    webui.toolkit("server:closed", readers=[], secret=lambda: "secret")
    bob = webui.user("bob")

    found = {spec.original: spec for spec in await loopback._openwebui.tools_of(bob.token)}

    assert {name: spec.tool_id for name, spec in found.items()} == {
        "roll": "dice",
        "search": "server:web",
        "files_read": "server:mcp:files",
    }
    assert all(spec.source == "openwebui" for spec in found.values())
    outcome = await loopback.call(bob.token, found["search"], {"q": "x"}, timeout=5)
    assert json.loads(outcome.text) == {"results": ["found x"]}
    outcome = await loopback.call(bob.token, found["files_read"], {"path": "/a"}, timeout=5)
    assert outcome.text == "read /a"
    webui.toolkits["server:web"].broken = True
    error = await fails(loopback, bob.token, found["search"], q="x")
    assert (error.code, error.retryable) == ("tool_server", True)


async def test_tools_of_a_user_are_listed_with_their_rights_and_for_a_while(
    webui: Double, client: OpenWebUIClient, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    bob, eve = webui.user("bob"), webui.user("eve")
    webui.toolkit("secret", readers=[bob], open_it=lambda: "x")

    assert [spec.original for spec in await client.tools_of(bob.token)] == ["roll", "open_it"]
    assert [spec.original for spec in await client.tools_of(eve.token)] == ["roll"]
    await asyncio.gather(*(client.tools_of(bob.token) for _ in range(20)))
    assert len(webui.asked("/api/v1/tools/")) == 2
    webui.share(MODEL, [])  # a server's tools are missing then, the others are not
    webui.toolkit("server:web", search=lambda q: q)
    assert [spec.original for spec in await client.tools_of(webui.user("zoe").token)] == ["roll"]
    with pytest.raises(ToolError, match="credential"):
        await client.tools_of("eyJ.wrong.token")


async def test_a_slow_tool_ends_in_time(webui: Double, loopback: Loopback) -> None:
    async def slow() -> str:
        await asyncio.sleep(600)
        return "late"

    webui.toolkit("kit", slow=slow)
    began = time.monotonic()
    error = await fails(loopback, webui.user("bob").token, tool("slow", "kit"), 0.5)
    assert time.monotonic() - began < PATIENCE
    assert (error.code, error.status) == ("tool_timeout", 504)
    assert "0.5 seconds" in error.message


async def test_an_open_webui_that_is_away(webui: Double) -> None:
    client = OpenWebUIClient("http://127.0.0.1:1", SECRET)
    loopback = Loopback(client, SECRET)
    for _ in range(2):
        error = await fails(loopback, "eyJ.a.b")
        assert (error.code, error.retryable, error.status) == ("openwebui_unreachable", True, 503)
    await client.close()


async def test_an_open_webui_that_has_trouble(webui: Double, loopback: Loopback) -> None:
    webui.down = 500
    error = await fails(loopback, webui.user("bob").token)
    assert (error.code, "500" in error.message) == ("tool_failed", True)


async def test_a_server_that_knows_no_open_webui() -> None:
    client = OpenWebUIClient(None, SECRET)
    assert not client.known
    error = await fails(Loopback(client, SECRET), "eyJ.a.b")
    assert error.code == "no_openwebui"
    assert "OPENWEBUI_URL" in error.hint


async def test_what_only_the_page_can_execute(loopback: Loopback, webui: Double) -> None:
    browser = ToolSpec("f", "f", "", {}, "request", None)
    assert (await fails(loopback, webui.user("bob").token, browser)).code == "tool_failed"
    assert (await fails(loopback, webui.user("bob").token, ROLL, sides=float("nan"))).code == "tool_failed"
    assert webui.executed == []


async def test_a_call_is_not_sent_twice(webui: Double, client: OpenWebUIClient) -> None:
    """A connection that breaks after the request was sent: the tool may have run."""
    hits = 0

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal hits
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"POST"):
            hits += 1
            writer.close()
            return
        body = b'{"TASK_MODEL": "", "TASK_MODEL_EXTERNAL": ""}'
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n" % len(body)
        )
        writer.write(b"connection: close\r\n\r\n" + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    broken = OpenWebUIClient(f"http://127.0.0.1:{port}", SECRET)
    error = await fails(Loopback(broken, SECRET), "eyJ.a.b")
    await broken.close()
    server.close()
    await server.wait_closed()

    assert (error.code, error.retryable, hits) == ("openwebui_broken", False, 1)


# Who somebody is


async def test_whose_credential_it_is(webui: Double, client: OpenWebUIClient) -> None:
    bob = webui.user("bob")
    expected = Account("bob", "Bob", "bob@example.org", "user")

    assert await client.whoami(bob.token) == expected
    assert await client.whoami(bob.key) == expected
    assert (await client.whoami(webui.user("root", "admin").key)).role == "admin"  # type: ignore[union-attr]
    assert await client.whoami(webui.user("new", "pending").token) is None
    webui.user_status = False
    assert await client.whoami(webui.user("eve").key) == Account(None)
    webui.keys_enabled = False
    assert await client.whoami(webui.user("zoe").key) is None
    for bad in ("eyJ.wrong.token", "sk-wrong", "", "a\r\nb", "ü", "x" * 10_000):
        assert await client.whoami(bad) is None


async def test_answers_are_believed_and_no_credential_is_kept(webui: Double, client: OpenWebUIClient) -> None:
    bob = webui.user("bob")

    await asyncio.gather(*(client.whoami(bob.token) for _ in range(50)))
    await asyncio.gather(*(client.whoami("eyJ.wrong.token") for _ in range(50)))

    assert len(webui.requests) == 2
    assert bob.token not in repr(vars(client._accounts)) + repr(client) + repr(vars(client))


async def test_refusals_are_believed_shorter(
    webui: Double, client: OpenWebUIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "REFUSED_SECONDS", 0.05)
    assert await client.whoami(owui_double.Account("bob").token) is None
    bob = webui.user("bob")
    await asyncio.sleep(0.1)
    assert (await client.whoami(bob.token)) is not None


async def test_cookies_of_one_user_are_not_sent_for_another(webui: Double) -> None:
    by_name = OpenWebUIClient(
        webui.url.replace("127.0.0.1", "localhost"), SECRET
    )  # no jar keeps an address's
    await by_name.whoami(webui.user("bob").token)
    await by_name.toolkits(webui.user("eve").token)
    await by_name.close()
    assert [request.cookie for request in webui.requests] == ["", ""]


async def test_not_everybody_is_asked_about_at_once(
    webui: Double, client: OpenWebUIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "MOST_WAITING", 20)
    webui.delay = 0.2

    answers = await asyncio.gather(*(client.whoami(f"eyJ.{n}.x") for n in range(60)), return_exceptions=True)

    turned_away = [a for a in answers if isinstance(a, ToolError)]
    assert {error.code for error in turned_away} == {"openwebui_busy"}
    assert len(turned_away) == 40
    assert len(webui.requests) == 20


async def test_one_that_stops_waiting_does_not_end_the_question(
    webui: Double, client: OpenWebUIClient
) -> None:
    webui.delay = 0.2
    bob = webui.user("bob")
    first = asyncio.create_task(client.whoami(bob.token))
    second = asyncio.create_task(client.whoami(bob.token))
    await asyncio.sleep(0.05)
    first.cancel()
    assert (await second) is not None
    assert len(webui.requests) == 1


async def test_silence_is_not_asked_into(monkeypatch: pytest.MonkeyPatch, webui: Double) -> None:
    client = OpenWebUIClient("http://127.0.0.1:1", SECRET)
    with pytest.raises(ToolError):
        await client.whoami("eyJ.a.b")
    client.rest.url = webui.url
    with pytest.raises(ToolError, match="a moment ago"):
        await client.whoami("eyJ.a.c")
    assert webui.requests == []
    client.rest._silent_until = 0
    assert await client.whoami(webui.user("bob").token) is not None
    await client.close()


async def test_which_models_a_user_may_use(webui: Double, client: OpenWebUIClient) -> None:
    bob, eve, root = webui.user("bob"), webui.user("eve"), webui.user("root", "admin")
    webui.share("personas.coder", [bob])
    webui.share("teacher", base="personas.coder")
    webui.share("personas.new", [])

    async def who(model: str) -> list[str]:
        people = {"bob": bob, "eve": eve, "root": root}
        return [name for name, a in people.items() if await client.may_use_with(a.key, model)]

    assert await who("personas.coder") == ["bob", "root"]
    assert await who("teacher") == ["bob", "root"]
    assert await who("personas.new") == ["root"]
    assert await who("personas.unknown") == []
    webui.bypass_model_access = True
    zoe = webui.user("zoe")
    assert await client.may_use_with(zoe.token, "personas.coder")
    assert not await client.may_use_with("ü", "personas.coder")


def test_errors_name_no_credential() -> None:
    assert not re.search(r"sk-|eyJ", NOT_FOR_CHATS)
