"""Journey 3: commands on a model that is not ours, by the filter."""

# Playwright is in the environment of the end-to-end tests alone.
# pyright: reportMissingImports=false
from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.e2e.agents import agents, in_python
from tests.e2e.driver import Window
from tests.e2e.personas import check, prompts_in, said
from tests.e2e.stand import PLAIN, ScriptedProvider, Stand
from tests.e2e.webui import EVERYBODY

KIT = "one_die"
TOOLS = '''
class Tools:
    def roll_dice(self, sides: int) -> str:
        """Rolls a die."""
        return f"a {sides}-sided die showed 3"
'''
GAMBLER = """
async def run(turn, tools, llm, call_agent, status):
    if turn.text == "be quiet":
        return
    await status("Shaking the cup…")
    yield f"the gambler saw that {await tools.roll_dice(sides=6)}"
"""


def test_a_persona_on_a_plain_model(ann: Window, stand: Stand, provider: ScriptedProvider) -> None:
    ann.new_chat(PLAIN)
    assert ann.ask("say: as I am").text == "as I am"
    assert "agent_mode" not in said(provider.turns[-1])

    answer = ann.ask("!writer say: in words")
    assert (answer.name, answer.text) == (PLAIN, "in words")
    check(provider.turns[-1], "writer", after="")
    assert provider.turns[-1].headers["authorization"] == f"Bearer {stand.provider.key}"
    assert "!writer" not in said(provider.turns[-1])

    ann.ask("say: more words")
    check(provider.turns[-1], "writer")

    ann.ask("!coder say: in code")
    check(provider.turns[-1], "coder", after="writer")
    # A filter cannot stream: Open WebUI is sent the line, and may show it a moment after the answer.
    ann.until(lambda: ann.answer.statuses == ["💻 Coder takes over from 📝 Writer"])
    ann.reload()
    assert [answer.statuses for answer in ann.answers] == [
        [],
        ["📝 Writer takes over"],
        ["📝 Writer"],
        ["💻 Coder takes over from 📝 Writer"],
    ]

    ann.ask("!reset say: as I was")
    assert prompts_in(provider.turns[-1]) == []
    assert "as you are without any persona" in said(provider.turns[-1])
    assert [answer.text for answer in ann.answers][-1] == "as I was"


@pytest.mark.parametrize("model", ["personas.coder", PLAIN])
def test_the_browser_in_the_chat_switches(ann: Window, provider: ScriptedProvider, model: str) -> None:
    ann.new_chat(model)
    ann.ask("say: here I am")
    listing = ann.ask("!agent list")
    assert len(provider.turns) == 1, "no model was asked"
    browser = ann.embed(listing)
    browser.locator("#search").fill("Writer")
    browser.get_by_role("button", name="Switch to Writer, !writer", exact=True).click()

    dialog = ann.page.get_by_role("dialog")
    dialog.get_by_text("Confirm Prompt from Embed").wait_for()
    ann.page.wait_for_timeout(1500)
    expect(browser.locator("#note")).to_have_text("Open WebUI asks you to confirm !writer.")
    known = {answer.id for answer in ann.answers}
    dialog.get_by_role("button", name="Confirm").click()
    switched = ann.wait(known)[-1]
    assert "Writer answers from now on" in switched.text
    assert len(provider.turns) == 1

    ann.ask("say: in words")
    check(provider.turns[-1], "writer", after="coder" if model == "personas.coder" else "")


def test_a_click_that_open_webui_ignores_copies_the_command(ann: Window) -> None:
    """As 0.10 does with all that a sandboxed frame asks for."""
    ann.context.add_init_script("addEventListener('message', (event) => event.stopImmediatePropagation())")
    ann.new_chat(PLAIN)
    browser = ann.embed(ann.ask("!agent list"))
    browser.get_by_role("button", name="Switch to Writer, !writer", exact=True).click()
    expect(browser.locator("#note")).to_have_text("Copied !writer: paste it into a chat.")
    ann.page.click("#chat-input")
    ann.page.keyboard.press("Control+V")
    expect(ann.page.locator("#chat-input")).to_have_text("!writer")

    browser.get_by_role("button", name="Insert").first.click()
    expect(browser.locator("#note")).to_contain_text("Copied !")


def test_the_browser_is_still_there_after_a_reload(ann: Window) -> None:
    ann.new_chat(PLAIN)
    ann.ask("!agent list")
    ann.reload()
    browser = ann.embed(ann.answer)
    browser.locator("#search").fill("writer")
    expect(browser.locator(".card .name")).to_have_text(["Writer"])
    sandbox = ann.element(ann.answer).locator("iframe").get_attribute("sandbox") or ""
    assert "allow-same-origin" not in sandbox
    assert not [line for line in ann.console if "Content Security Policy" in line]


def test_a_sequence_on_a_plain_model(ann: Window, provider: ScriptedProvider) -> None:
    ann.new_chat(PLAIN)
    answer = ann.ask("!coder say: in code !writer say: in words")
    assert "in code" in answer.text
    assert "in words" in answer.text
    first, second = provider.turns
    assert (prompts_in(first), prompts_in(second)) == (["coder"], ["writer"])


def test_an_agent_on_a_plain_model(ann: Window, stand: Stand, provider: ScriptedProvider) -> None:
    stand.admin.add_tool(KIT, TOOLS, EVERYBODY)
    try:
        with agents(stand, {"gambler": in_python(GAMBLER, name="Gambler [6] $x$")}):
            # The page can switch on only a tool that it has heard of.
            with ann.page.expect_response(lambda reply: "/api/v1/tools" in reply.url):
                ann.new_chat(PLAIN, tools=KIT)
            answer = ann.ask("!gambler play")
            assert "the gambler saw that a 6-sided die showed 3" in answer.text
            assert answer.errors == []
            lines = [line["description"] for line in ann.stored[-1]["statusHistory"]]
            assert lines[0] == "Gambler [6] $x$"
            assert "Shaking the cup…" in lines
            again = ann.ask("once more")
            assert "the gambler saw that a 6-sided die showed 3" in again.text, "it stays"
            assert ann.ask("be quiet").text == "Gambler [6] $x$ gave no answer."
            assert provider.turns == [], "the picked model has no part in it"
            assert ann.ask("!reset say: as I was").text == "as I was"
            assert "gave no answer" not in said(provider.turns[-1])
    finally:
        stand.admin.request("DELETE", f"/api/v1/tools/id/{KIT}/delete").raise_for_status()


QUESTION = "Can you debug this code and refactor the function?"
TIP = "> 💡 Tip: `!coder` knows more about this."


@pytest.fixture
def suggestions(stand: Stand) -> Iterator[None]:
    """The filter suggests personas."""
    before = stand.ours.get("/hotswap/valves").json()
    stand.ours.post("/hotswap/valves/update", {**before, "enable_suggestions": True})
    yield
    stand.ours.post("/hotswap/valves/update", before)


@pytest.mark.usefixtures("suggestions")
@pytest.mark.parametrize("temporary", [False, True])
def test_who_knows_more_stands_below_the_answer_of_a_plain_model(
    ann: Window, provider: ScriptedProvider, temporary: bool
) -> None:
    ann.new_chat(PLAIN)
    ann.ask("!coder say: in code")  # it is known now that she may; a model that answers at once does not wait
    ann.new_chat(PLAIN, temporary=temporary)
    ann.ask(QUESTION)
    line = "Tip: !coder knows more about this."
    quotation = ann.element(ann.answer).locator("blockquote")
    expect(quotation).to_contain_text(line)
    if not temporary:
        assert ann.stored[-1]["content"].endswith(TIP)
        ann.reload()
        expect(ann.element(ann.answer).locator("blockquote")).to_contain_text(line)

    ann.ask(f"Again: {QUESTION}")
    ann.ask("!writer say: in words")
    check(provider.turns[-1], "writer", after="")
    expect(ann.page.locator("blockquote").filter(has_text="Tip:")).to_have_count(1)
    if not temporary:
        ann.until(lambda: provider.tasks)
    for recorded in provider.chats:
        assert "knows more about this" not in said(recorded), "no model ever sees it"


@pytest.mark.parametrize("model", ["personas.coder", PLAIN])
def test_an_answer_goes_on(ann: Window, provider: ScriptedProvider, model: str) -> None:
    ann.new_chat(model)
    provider.script("```\nin code", "in words", "in words")
    whole = ann.ask("!coder show it !writer tell it")
    assert ann.element(whole).locator("hr").count() == 1, "the heading is none of the code"
    answer = ann.go_on()
    assert answer.text.count("in words") == 2
    assert answer.text.count("Writer") == answer.text.count("Coder") == 1
    assert prompts_in(provider.turns[-1]) == ["writer"]
    assert provider.turns[-1].body["messages"][-1] == {"role": "assistant", "content": "in words"}

    ours = ann.ask("!codr")
    assert ann.go_on().text == ours.text
    assert len(provider.turns) == 3
