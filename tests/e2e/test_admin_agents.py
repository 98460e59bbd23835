"""Making, trying, breaking and repairing agents on the Agents page, in a real browser."""

# Playwright is in the environment of the end-to-end tests alone.
# pyright: reportMissingImports=false
from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from tests.e2e.admin import AdminPage
from tests.e2e.conftest import Open, OpenAdmin
from tests.e2e.stand import Stand
from tests.e2e.webui import EVERYBODY, PASSWORD
from tests.server.servers import eventually

if TYPE_CHECKING:
    from playwright.sync_api import Locator

KIT = "bench"
TOOLS = '''
class Tools:
    def roll_dice(self, sides: int = 6) -> str:
        """
        Rolls a die.
        :param sides: how many sides it has
        """
        return f"a {sides}-sided die showed 3"
'''
EVIL = "<script>document.title = 'owned'</script>"
SECONDS = 60_000
"""How long, in milliseconds, a busy machine may take; a first run loads LlamaIndex."""
MOST = 50
"""So many personas are offered at once."""
CODE = """async def run(turn):
    yield f"{len(turn.text.split())} words"
"""


@pytest.fixture(scope="module", autouse=True)
def kit(stand: Stand) -> Iterator[None]:
    """A toolkit for everybody."""
    stand.admin.add_tool(KIT, TOOLS, EVERYBODY)
    yield
    stand.admin.request("DELETE", f"/api/v1/tools/id/{KIT}/delete").raise_for_status()


@pytest.fixture
def leftovers(stand: Stand) -> Iterator[list[str]]:
    """Ids of agents that go when the test ends."""
    ids: list[str] = []
    yield ids
    for agent_id in ids:
        stand.ours.request("DELETE", f"/api/v1/agents/{agent_id}")


@contextlib.contextmanager
def stored(stand: Stand, agent_id: str, **more: Any) -> Iterator[None]:
    """An agent, made over the REST API."""
    body = {
        "id": agent_id,
        "name": agent_id,
        "agent_type": "persona",
        "definition": {"instructions": "You help."},
        "valves": {"llm_api_key": "sk-test"},
        **more,
    }
    reply = stand.ours.post("/api/v1/agents/", body)
    assert reply.status_code == 201, reply.text
    try:
        yield
    finally:
        stand.ours.request("DELETE", f"/api/v1/agents/{agent_id}")


def begin(window: AdminPage, template: str, name: str) -> Locator:
    """The editor of a new agent, reached as a person reaches it."""
    main = window.open("/agents")
    main.get_by_role("button", name="New agent").click()
    main.get_by_role("link", name=template).click()
    window.alive()
    fill(main.get_by_label("Name").first, name)
    return main


def fill(field: Locator, text: str) -> None:
    """Types a text and leaves the field, as a person does who goes on."""
    field.fill(text)
    field.blur()


def save(window: AdminPage) -> None:
    window.main.get_by_role("button", name="Save", exact=True).click()
    expect(window.page.get_by_text(re.compile(r"^Saved ")).last).to_be_visible(timeout=SECONDS)


def try_it(window: AdminPage, text: str) -> Locator:
    """What Try it shows after a message."""
    pane = window.main.get_by_label("Try it")
    pane.get_by_label("Message").fill(text)
    pane.get_by_role("button", name="Send").click()
    return pane.get_by_role("log")


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("Persona", "Made persona"),
        ("Function agent", "Made function"),
        ("ReAct agent", "Made react"),
        ("Multi-agent", "Made team"),
        ("Custom Python", "Made python"),
    ],
)
def test_each_type_is_made_and_answers(
    stand: Stand, agents_page: OpenAdmin, leftovers: list[str], template: str, name: str
) -> None:
    window = agents_page().sign_in()
    main = begin(window, template, name)
    leftovers.append(name.lower().replace(" ", "-"))
    log = try_it(window, "say: Good morning.")  # before it is saved
    expect(log.get_by_text(re.compile(r"^Good morning\."))).to_be_visible(timeout=SECONDS)
    expect(log.get_by_text(re.compile("LLM call"))).to_be_visible()
    log.get_by_text(re.compile("Prompt 1")).click()
    expect(log.get_by_text('"messages"')).to_be_visible()
    save(window)
    expect(main.get_by_text("version 1.0.0")).to_be_visible()
    log = try_it(window, "say: Good evening.")  # the earlier words stand above it
    expect(log.get_by_text(re.compile(r"^Good evening\."))).to_be_visible(timeout=SECONDS)
    assert stand.ours.get(f"/api/v1/agents/{leftovers[0]}").json()["offered"]
    runs = stand.ours.get(f"/api/v1/runs/?agent={leftovers[0]}").json()
    assert runs["total"] == 0  # a try is no run
    records = window.open(f"/records?q={leftovers[0]}")
    expect(records.get_by_text("tried agent").first).to_be_visible()
    assert window.console == []


def test_a_new_agent_answers_in_open_webui(
    stand: Stand, agents_page: OpenAdmin, open_window: Open, leftovers: list[str]
) -> None:
    window = agents_page().sign_in()
    main = begin(window, "Persona", "Fresh helper")
    leftovers.append("fresh-helper")
    fill(main.get_by_label("Instructions"), "You are the fresh helper.")
    save(window)
    stand.admin.share_model("fresh-helper", EVERYBODY)
    ann = open_window(stand.ann)
    ann.new_chat("fresh-helper")
    assert ann.ask("say: At your service.").text == "At your service."
    assert "You are the fresh helper." in str(stand.provider.turns[-1].body["messages"][0])


def test_a_persona_is_found_by_a_part_of_its_name(
    stand: Stand, agents_page: OpenAdmin, leftovers: list[str]
) -> None:
    window = agents_page().sign_in()
    main = begin(window, "Persona", "Query writer")
    leftovers.append("query-writer")
    page = window.page
    options, field = page.get_by_role("option"), main.get_by_label("Persona", exact=True)
    field.click()
    expect(options).to_have_count(MOST, timeout=SECONDS)  # of more than there are: the rest is looked up
    expect(options.filter(has_text="(writer)")).to_have_count(0)
    page.keyboard.type("writer")
    expect(options.first).to_have_text(re.compile(r"\(writer\)$"), timeout=SECONDS)
    page.keyboard.press("Control+A")
    page.keyboard.type("sql_")
    expect(options).to_have_count(1, timeout=SECONDS)
    options.click()
    expect(field).to_have_value(re.compile(r"\(sql_expert\)$"))
    save(window)
    expect(page.get_by_text("Admins can pick it in Open WebUI.")).to_be_visible()
    assert stand.ours.get("/api/v1/agents/query-writer").json()["definition"]["persona"] == "sql_expert"
    window.page.reload()
    window.alive()
    expect(field).to_have_value(re.compile(r"\(sql_expert\)$"), timeout=SECONDS)
    assert window.console == []


def test_what_is_wrong_is_shown_and_repaired(
    stand: Stand, agents_page: OpenAdmin, leftovers: list[str]
) -> None:
    window = agents_page().sign_in()
    main = begin(window, "Custom Python", "Broken")
    leftovers.append("broken")
    code = main.get_by_label("Code").locator(".cm-content")
    code.click()
    window.page.keyboard.press("Control+A")
    window.page.keyboard.insert_text("async def run(turn):\n    yield 1 +\n")
    main.get_by_role("button", name="Save", exact=True).click()
    wrong = main.get_by_role("alert").filter(has_text="line 2, column")
    expect(wrong.first).to_be_visible()
    assert stand.ours.get("/api/v1/agents/broken").status_code == 404
    code.click()
    window.page.keyboard.press("Control+A")
    window.page.keyboard.insert_text(CODE)
    save(window)
    expect(wrong).to_have_count(0)
    log = try_it(window, "one two three")
    expect(log.get_by_text("3 words")).to_be_visible(timeout=SECONDS)

    # As JSON: what is no JSON stays, what is unknown is named, and the fields follow.
    main.get_by_role("tab", name="JSON").click()
    text = main.get_by_label("Agent as JSON").locator(".cm-content")
    expect(text).to_contain_text('"broken"')
    text.click()
    expect(text).to_be_focused()
    window.page.keyboard.press("Control+Home")
    window.page.keyboard.insert_text("x")
    not_json = re.compile("This is not JSON: .*line 1 column 1")
    expect(main.get_by_text(not_json).first).to_be_visible(timeout=SECONDS)
    main.get_by_role("tab", name="Fields").click()
    expect(text).to_be_visible()  # it stays there until it is JSON
    text.click()
    window.page.keyboard.press("Control+A")
    window.page.keyboard.insert_text(
        '{"id": "broken", "name": "Renamed", "agent_type": "persona", "definition": {"instuctions": "x"}}'
    )
    main.get_by_role("button", name="Save", exact=True).click()
    expect(main.get_by_text("definition.instuctions")).to_be_visible()
    text.click()
    window.page.keyboard.press("Control+A")
    window.page.keyboard.insert_text(
        '{"id": "broken", "name": "Renamed", "agent_type": "persona", "definition": {"instructions": "x"}}'
    )
    save(window)
    main.get_by_role("tab", name="Fields").click()
    expect(main.get_by_label("Name").first).to_have_value("Renamed")
    expect(main.get_by_label("Instructions")).to_have_value("x")

    # Back to the first version.
    main.get_by_role("tab", name="History").click()
    main.get_by_role("button", name="What changed").first.click()
    expect(main.get_by_label("Comparison")).to_contain_text("name: Broken")
    main.get_by_role("button", name="Go back to this").last.click()
    window.page.get_by_role("button", name="Go back", exact=True).click()
    expect(window.page.get_by_text("is as it was in version 1.0.0")).to_be_visible()
    assert stand.ours.get("/api/v1/agents/broken").json()["agent_type"] == "custom_python"
    assert window.console == []


def test_all_that_does_not_fit_together_stands_beside_its_field(agents_page: OpenAdmin) -> None:
    window = agents_page().sign_in()
    main = begin(window, "Multi-agent", "Muddled")
    fields = main.locator(".am-field")

    def beside(label: str) -> Locator:
        """The innermost box around a field."""
        return fields.filter(has=window.page.get_by_label(label, exact=True)).last

    fill(main.get_by_label("Who begins"), "nobody")
    fill(main.get_by_label("Name", exact=True).last, "researcher")
    fill(main.get_by_label("Max iterations"), "0")
    main.get_by_role("button", name="Check", exact=True).click()
    expect(beside("Who begins")).to_contain_text("“nobody” is no sub-agent here.")
    expect(beside("Max iterations")).to_contain_text("This must be at least 1.")
    expect(fields.filter(has_text="Another sub-agent is called “researcher” already.").first).to_be_visible()
    expect(main.get_by_text("definition.root")).to_be_visible()  # and in the list above
    assert window.console == []


def test_the_second_of_two_admins_is_told_and_loses_nothing(stand: Stand, agents_page: OpenAdmin) -> None:
    with stored(stand, "shared-one"):
        first, second = agents_page().sign_in(), agents_page().sign_in()
        for window in (first, second):
            window.open("/agents/shared-one")
        fill(first.main.get_by_label("Description").first, "By the first")
        save(first)
        fill(second.main.get_by_label("Name").first, "By the second")
        second.main.get_by_role("button", name="Save", exact=True).click()
        expect(second.main.get_by_text("was changed meanwhile by connection key")).to_be_visible()
        expect(second.main.get_by_label("Comparison").first).to_contain_text("By the first")
        expect(second.main.get_by_label("Name").first).to_have_value("By the second")

        second.main.get_by_role("button", name="Show theirs").click()
        expect(second.main.get_by_label("Description").first).to_have_value("By the first")
        second.page.get_by_role("button", name="Undo").click()  # what was typed is not lost
        expect(second.main.get_by_label("Name").first).to_have_value("By the second")
        second.main.get_by_role("button", name="Save", exact=True).click()
        second.main.get_by_role("button", name="Save mine over it").click()
        expect(second.page.get_by_text("Saved By the second.")).to_be_visible()
        kept = stand.ours.get("/api/v1/agents/shared-one").json()
        assert (kept["name"], kept["description"], kept["version"]) == ("By the second", "", 3)
        # The masked key was kept through all of it.
        assert kept["valves"]["llm_api_key"].startswith("****")
        assert first.console == []
        assert second.console == []


def test_the_list_finds_copies_disables_deletes_and_takes_back(
    stand: Stand, agents_page: OpenAdmin, leftovers: list[str]
) -> None:
    with stored(stand, "listed-one", name=EVIL), stored(stand, "listed-two"):
        window = agents_page().sign_in()
        main = window.open("/agents")
        main.get_by_label("Search name, id or description").fill("listed-one")
        expect(main.get_by_text("1 agent", exact=True)).to_be_visible()
        expect(main.get_by_text(EVIL).first).to_be_visible()
        assert "owned" not in window.page.title()

        main.get_by_role("button", name=f"Delete {EVIL}").click()
        expect(main.get_by_text("No agent fits")).to_be_visible()
        assert stand.ours.get("/api/v1/agents/listed-one").status_code == 404
        window.page.get_by_role("button", name="Undo").click()
        expect(main.get_by_text(EVIL).first).to_be_visible()
        assert stand.ours.get("/api/v1/agents/listed-one").json()["offered"]

        main.get_by_role("button", name=f"Disable {EVIL}").click()
        expect(main.get_by_text("disabled", exact=True)).to_be_visible()
        assert not stand.ours.get("/api/v1/agents/listed-one").json()["offered"]

        leftovers.append("listed-one-copy")
        main.get_by_role("button", name=f"Duplicate {EVIL}").click()
        expect(main.get_by_label("Id").first).to_have_value("listed-one-copy")
        window.alive()
        main.get_by_role("button", name="Delete").click()
        expect(main.get_by_text("listed-one-copy was deleted by connection key")).to_be_visible()
        window.alive()
        main.get_by_role("button", name="Bring it back").click()
        expect(main.get_by_label("Id").first).to_have_value("listed-one-copy")
        assert "owned" not in window.page.title()


def test_the_connection_key_opens_no_tools_of_open_webui(agents_page: OpenAdmin) -> None:
    main = begin(agents_page().sign_in(), "Function agent", "Key holder")
    expect(main.get_by_text("Sign in with your Open WebUI account to use them")).to_be_visible()
    expect(main.get_by_role("switch", name="With the tools of Open WebUI")).to_be_disabled()


def test_tools_are_picked_and_called_in_try_it(agents_page: OpenAdmin) -> None:
    window = agents_page().sign_in(email="ada@example.org", password=PASSWORD)
    main = begin(window, "Function agent", "Roller")
    main.get_by_label("Tools", exact=True).first.click()
    window.page.get_by_role("option", name="roll_dice").click()
    window.page.keyboard.press("Escape")
    main.get_by_text("With the tools of Open WebUI").click()
    log = try_it(window, 'call: roll_dice {"sides": 6}\nthen say: It is {results}.')
    expect(log.get_by_text(re.compile("^It is .*die showed 3"))).to_be_visible(timeout=SECONDS)
    log.get_by_text("Tool: roll_dice").click()
    expect(log.get_by_text(re.compile('"sides": 6.*→', re.DOTALL))).to_be_visible()


def test_a_try_is_stopped(stand: Stand, agents_page: OpenAdmin) -> None:
    with stored(stand, "endless", valves={"llm_model": "stub-hang"}):
        window = agents_page().sign_in()
        window.open("/agents/endless")
        log = try_it(window, "Begin")
        expect(log.get_by_text(re.compile("Prompt 1"))).to_be_visible()
        window.main.get_by_label("Try it").get_by_role("button", name="Stop").click()
        expect(log.get_by_text("Stopped.")).to_be_visible()
        assert eventually(lambda: not stand.provider.active)


def test_a_paste_of_20_mb_is_refused_and_does_no_harm(
    stand: Stand, agents_page: OpenAdmin, leftovers: list[str]
) -> None:
    window = agents_page().sign_in()
    main = begin(window, "Custom Python", "Pasted")
    leftovers.append("pasted")
    for target in (main.get_by_label("Code").locator(".cm-content"), main.get_by_label("Description").first):
        target.click()
        window.page.evaluate(
            """() => {
                const data = new DataTransfer();
                data.setData("text/plain", "x".repeat(20 * 2 ** 20));
                document.activeElement.dispatchEvent(
                    new ClipboardEvent("paste", {clipboardData: data, bubbles: true, cancelable: true}));
            }"""
        )
        expect(window.page.get_by_text("That is too much text for a field.").first).to_be_visible()
    fill(main.get_by_label("Description").first, "Unharmed")
    save(window)
    saved = stand.ours.get("/api/v1/agents/pasted").json()
    assert saved["description"] == "Unharmed"
    assert len(saved["definition"]["code"]) < 1000
    assert window.console == []
