"""Journey 6: an agent has another one do a part of the work, and both use the user's tools."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.e2e.agents import agents, in_python
from tests.e2e.driver import Window
from tests.e2e.personas import said
from tests.e2e.stand import ScriptedProvider, Stand
from tests.e2e.webui import EVERYBODY
from tests.server.rest import Rest

KIT = "dice_and_clock"
TOOLS = '''
class Tools:
    def roll_dice(self, sides: int) -> str:
        """Rolls a die."""
        return f"a {sides}-sided die showed 3"

    def clock(self) -> str:
        """Tells the time."""
        return "it is noon"
'''
PILOT = """
async def run(turn, tools, llm, call_agent, status):
    await status("Looking at the sky…")
    rolled = await tools.roll_dice(sides=20)
    heard = await call_agent("clerk", "call: clock\\nthen say: the clerk heard {results}")
    yield f"the pilot saw that {rolled}, and {heard}"
"""


@pytest.fixture(scope="module", autouse=True)
def crew(stand: Stand) -> Iterator[Rest]:
    """Agents of every type. Boss and Chief call Clerk and Pilot; Pilot calls Clerk."""
    stand.admin.add_tool(KIT, TOOLS, EVERYBODY)
    below = {"allowed_agents": "clerk,pilot"}
    chief = {"agent_type": "llamaindex_workflow", "definition": {"instructions": "You are chief."}}
    forms = {
        "clerk": {"name": "Clerk"},
        "pilot": in_python(PILOT, name="Pilot", valves={"allowed_agents": "clerk"}),
        "boss": {"name": "Boss", "valves": below},
        "chief": {"name": "Chief", "valves": below, **chief},
    }
    with agents(stand, forms) as api:
        yield api
    stand.admin.request("DELETE", f"/api/v1/tools/id/{KIT}/delete").raise_for_status()


def call(agent: str, task: str) -> str:
    return f"call_agent {json.dumps({'agent': agent, 'task': task})}"


@pytest.mark.parametrize("agent", ["boss", "chief"])
def test_tools_at_both_levels(ann: Window, provider: ScriptedProvider, crew: Rest, agent: str) -> None:
    clerk = 'call: roll_dice {"sides": 6}\nthen say: the clerk rolled {results}'
    ann.new_chat(agent, tools=KIT)
    answer = ann.ask(
        f"call: clock & {call('clerk', clerk)}\n"
        f'then call: roll_dice {{"sides": 4}} & {call("pilot", "go")}\n'
        "then say: Now {results}."
    )
    assert answer.errors == []
    told = (
        "it is noon | the clerk rolled a 6-sided die showed 3 | a 4-sided die showed 3 | "
        "the pilot saw that a 20-sided die showed 3, and the clerk heard it is noon"
    )
    assert f"Now {told}." in answer.text
    assert answer.statuses == ["Done"]
    lines = [line["description"] for line in ann.stored[-1]["statusHistory"]]
    for line in ("Asking Clerk…", "Clerk: Calling roll_dice…", "Pilot: Looking at the sky…"):
        assert line in lines
    assert "Pilot: Clerk: Calling clock…" in lines

    # What Open WebUI executed, and cards of ours for what it did not.
    executed = [item["name"] for item in ann.stored[-1]["output"] if item["type"] == "function_call"]
    assert sorted(executed) == ["clock", "clock", "roll_dice", "roll_dice", "roll_dice"]
    assert answer.cards.count("View Result from call_agent") == 2
    assert "the clerk rolled a 6-sided die showed 3" in ann.unfold(answer)

    # Each LLM call was made once, however often the work went on after a tool.
    asked = [said(recorded) for recorded in provider.turns]
    assert len(asked) == len(set(asked)), "the same was asked twice"
    assert not any("You are clerk." in text and f"You are {agent}." in text for text in asked)

    runs = crew.get(f"runs/?chat_id={ann.chat_id}")["items"]
    assert sorted((run["agent"], run["state"]) for run in runs) == [
        (agent, "done"),
        ("clerk", "done"),
        ("clerk", "done"),
        ("pilot", "done"),
    ]

    ann.reload()
    assert (ann.answer.text, ann.answer.cards) == (answer.text, answer.cards)
    assert ann.ask("say: and on").text == "and on"
