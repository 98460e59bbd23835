"""Journey 5: an agent calls tools of every kind, with the rights of the user who asks."""

# Playwright is in the environment of the end-to-end tests alone.
# pyright: reportMissingImports=false
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.e2e.agents import agents
from tests.e2e.driver import Answer, Window
from tests.e2e.stand import ScriptedProvider, Stand
from tests.e2e.toolservers import MCP_TOOL, OPENAPI_TOOL, ToolServers
from tests.e2e.webui import EVERYBODY, Account, Connection, group_may_read
from tests.provider import Recorded

AGENT = "handyman"
"""Has the tools that are switched on in the chat."""
ROVER = "rover"
"""Has all that the user may use."""
KIT = "kit"
TOOLS = '''
class Tools:
    def roll_dice(self, sides: int = 6) -> str:
        """
        Rolls a die.
        :param sides: how many sides it has
        """
        return f"a {sides}-sided die showed 3"

    def clock(self) -> str:
        """Tells the time."""
        return "it is noon"

    def broken(self) -> str:
        """Does not work."""
        raise RuntimeError("out of order")
'''
SECRET = "die showed 3"
"""What only those may read who may use the toolkit."""
ROLL = 'call: roll_dice {"sides": 6}\nthen say: It is {results}.'
MCP_NAME = f"tests-mcp_{MCP_TOOL}"


@pytest.fixture(scope="module", autouse=True)
def handymen(stand: Stand) -> Iterator[None]:
    """Two agents for everybody, and a toolkit for Ann's group alone."""
    stand.admin.add_tool(KIT, TOOLS, group_may_read(stand.admin.group("staff")))
    with agents(
        stand, {AGENT: {"name": "Handyman"}, ROVER: {"name": "Rover", "valves": {"more_tools": True}}}
    ):
        yield
    stand.admin.request("DELETE", f"/api/v1/tools/id/{KIT}/delete").raise_for_status()


@pytest.fixture(scope="module")
def servers(stand: Stand) -> Iterator[ToolServers]:
    """An OpenAPI server for everybody, and an MCP server for Ann's group alone."""
    staff = group_may_read(stand.admin.group("staff"))
    with ToolServers() as servers:
        stand.admin.set_tool_servers(servers.openapi(EVERYBODY), servers.mcp(staff))
        yield servers
        stand.admin.set_tool_servers()


@pytest.fixture
def sessions(stand: Stand) -> Iterator[None]:
    """Open WebUI sends the users' own sessions, so that agents can call tools without a chat page."""
    session = Connection(stand.ours.url, stand.ours.key, {"auth_type": "session"})
    stand.admin.connect(session, stand.plain_connection)
    stand.admin.share_model("personas.tool_runner", EVERYBODY)
    yield
    stand.admin.connect(stand.connection, stand.plain_connection)


@pytest.fixture
def approvals(stand: Stand) -> Iterator[None]:
    """Ann is asked before a tool is called."""
    config = stand.admin.get("/api/v1/chats/config")
    stand.admin.post("/api/v1/chats/config", {**config, "ENABLE_TOOL_PERMISSIONS": True})
    stand.ann.set_interface(params={"tool_approval_mode": "ask"})
    yield
    stand.ann.set_interface(params={})
    stand.admin.post("/api/v1/chats/config", config)


def calls(account: Account, chat_id: str) -> list[tuple[str, str]]:
    """Name and status of each tool call of the last answer, as Open WebUI keeps them."""
    items = account.messages(chat_id)[-1].get("output") or []
    return [(item["name"], item["status"]) for item in items if item["type"] == "function_call"]


def offered(recorded: Recorded) -> set[str]:
    return {tool["function"]["name"] for tool in recorded.body.get("tools", ())}


def allow(window: Window) -> None:
    window.page.get_by_role("button", name="Allow", exact=True).click()


def deny(window: Window) -> None:
    window.page.get_by_role("button", name="Deny", exact=True).click()


def test_tools_of_the_workspace(ann: Window, provider: ScriptedProvider) -> None:
    ann.new_chat(AGENT, tools=KIT)
    answer = ann.ask(ROLL)
    assert "It is a 6-sided die showed 3." in answer.text
    assert (answer.cards, answer.statuses) == (["View Result from roll_dice"], ["Done"])
    shown = ann.unfold(answer)
    assert "sides" in shown
    assert "a 6-sided die showed 3" in shown

    both = ann.ask('call: roll_dice {"sides": 4} & clock\nthen say: It is {results}.')
    assert "It is a 4-sided die showed 3 | it is noon." in both.text
    assert both.cards == ["Explored roll_dice, clock"]
    assert calls(ann.account, ann.chat_id) == [("roll_dice", "completed"), ("clock", "completed")]
    assert len(provider.turns) == 4, "both calls were of one round"

    failed = ann.ask("call: broken\nthen call: clock\nthen say: It is {results}.")
    assert "out of order" in failed.text
    assert "it is noon" in failed.text
    assert calls(ann.account, ann.chat_id) == [("broken", "failed"), ("clock", "completed")]
    ann.unfold(failed)
    broken = ann.element(failed).get_by_text("View Result from broken")
    red = broken.locator("xpath=ancestor::*[@role='button']//*[contains(@class,'text-red-500')]")
    expect(red.first).to_be_attached()

    ann.reload()
    assert [shown.cards for shown in ann.answers] == [answer.cards, both.cards, failed.cards]


def test_a_tool_that_is_built_in(ann: Window, provider: ScriptedProvider) -> None:
    ann.new_chat(AGENT)
    answer = ann.ask("call: get_current_timestamp\nthen say: It is {results}.")
    assert '"current_iso"' in answer.text
    assert answer.cards == ["View Result from get_current_timestamp"]
    assert {"search_chats", "get_current_timestamp"} <= offered(provider.turns[-1])


def test_tool_servers(ann: Window, servers: ToolServers) -> None:
    ann.new_chat(AGENT, tools="server:tests-openapi,server:mcp:tests-mcp")
    answer = ann.ask(
        f'call: {OPENAPI_TOOL} {{"city": "Ulm"}} & {MCP_NAME} {{"word": "fog"}}\nthen say: It is {{results}}.'
    )
    assert '"tomorrow": "fog"' in answer.text
    assert "fog is a fine word" in answer.text
    assert servers.asked == [(OPENAPI_TOOL, "Ulm"), (MCP_TOOL, "fog")]
    assert answer.cards == [f"Explored {OPENAPI_TOOL}, {MCP_NAME}"]


@pytest.mark.usefixtures("approvals")
def test_the_user_is_asked_first(ann: Window) -> None:
    ann.new_chat(AGENT, tools=KIT)
    ann.send('call: roll_dice {"sides": 6} & clock\nthen say: It is {results}.')
    ann.until(lambda: ann.page.get_by_role("button", name="Allow", exact=True).count())
    assert calls(ann.account, ann.chat_id) == [("roll_dice", "pending"), ("clock", "queued")]
    assert SECRET not in ann.answer.text
    allow(ann)
    ann.until(lambda: calls(ann.account, ann.chat_id) == [("roll_dice", "completed"), ("clock", "pending")])
    deny(ann)
    [answer] = ann.wait()
    assert "It is a 6-sided die showed 3 | Error: tool call rejected by user" in answer.text
    assert calls(ann.account, ann.chat_id) == [("roll_dice", "completed"), ("clock", "rejected")]
    assert (answer.statuses, answer.errors) == (["Done"], [])

    assert "said hello" in ann.ask("say: said hello").text


@pytest.mark.usefixtures("approvals")
def test_the_user_is_asked_first_in_a_temporary_chat(ann: Window) -> None:
    ann.new_chat(AGENT, tools=KIT, temporary=True)
    ann.send('call: roll_dice {"sides": 6} & clock\nthen say: It is {results}.')
    dialog = ann.page.get_by_role("dialog")
    dialog.get_by_text("roll_dice").wait_for()
    deny(ann)
    dialog.get_by_text("clock").wait_for()
    allow(ann)
    [answer] = ann.wait()
    assert "It is Error: tool call was not approved. | it is noon." in answer.text


@pytest.mark.usefixtures("sessions")
def test_tools_that_are_not_switched_on_in_the_chat(ann: Window, servers: ToolServers) -> None:
    servers.asked.clear()
    ann.new_chat(ROVER)
    answer = ann.ask(
        f'call: roll_dice {{"sides": 6}} & {OPENAPI_TOOL} {{"city": "Ulm"}}\n'
        f'then call: broken\nthen call: {MCP_NAME} {{"word": "fog"}}\nthen say: It is {{results}}.'
    )
    assert SECRET in answer.text
    assert '"tomorrow": "fog"' in answer.text
    assert "out of order" in answer.text
    assert "fog is a fine word" in answer.text
    assert servers.asked == [(OPENAPI_TOOL, "Ulm"), (MCP_TOOL, "fog")]
    names = "roll_dice", OPENAPI_TOOL, "broken", MCP_NAME
    assert sorted(answer.cards) == sorted(f"View Result from {name}" for name in names)
    assert "a 6-sided die showed 3" in ann.unfold(answer)
    ann.reload()
    assert ann.answer.cards == answer.cards


def refused(answer: Answer, provider: ScriptedProvider) -> None:
    """The tool's result is nowhere, and the agent was told that there is no such tool."""
    assert "there is no tool" in answer.text
    assert answer.cards == []
    assert SECRET not in str([recorded.body["messages"] for recorded in provider.chats])
    assert not {"roll_dice", MCP_NAME} & offered(provider.turns[-1])


@pytest.mark.usefixtures("sessions", "servers")
def test_who_may_not_use_a_tool_never_gets_its_result(
    bob: Window, provider: ScriptedProvider, stand: Stand
) -> None:
    for agent, tools in ((AGENT, KIT), (ROVER, ""), (ROVER, KIT)):
        bob.new_chat(agent, tools=tools)
        refused(bob.ask(ROLL), provider)

    # Past the page, which would not let him switch it on.
    body: dict[str, Any] = {"tool_ids": [KIT, "server:mcp:tests-mcp"]}
    for agent in (AGENT, ROVER):
        reply = stand.bob.complete(agent, ROLL, **body)
        assert reply.status_code == 200, reply.text
        assert "tool_calls" not in reply.json()["choices"][0]["message"]
        assert SECRET not in reply.text
        assert not {"roll_dice", MCP_NAME} & offered(provider.turns[-1])
    runner = stand.bob.complete("personas.tool_runner", ROLL, **body)
    assert SECRET not in runner.text


@pytest.mark.usefixtures("sessions")
def test_rights_that_were_taken_away_meanwhile(ann: Window, stand: Stand, provider: ScriptedProvider) -> None:
    ann.new_chat(ROVER)
    assert SECRET in ann.ask('call: roll_dice {"sides": 4}').text
    access = f"/api/v1/tools/id/{KIT}/access/update"
    stand.admin.post(access, {"access_grants": []})
    try:
        provider.clear()
        answer = ann.ask('call: roll_dice {"sides": 20}\nthen say: It is {results}.')
    finally:
        stand.admin.post(access, {"access_grants": [group_may_read(stand.admin.group("staff"))]})
    assert "does not let you use the tool roll_dice" in answer.text
    assert "20-sided" not in str([recorded.body["messages"] for recorded in provider.chats])
