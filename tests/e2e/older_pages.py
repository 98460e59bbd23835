"""The core journeys in the page of an older Open WebUI, for `tests.e2e.compatibility`.

The window is that of the other tests; elements with other names than in 0.12 stand in `NAMES`.
"""

# Playwright is in the environment of the end-to-end tests alone.
# pyright: reportMissingImports=false
from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tests.e2e.driver import CHROMIUM_FLAGS, Answer, Window
from tests.e2e.personas import CATALOGUE, check, prompts_in
from tests.e2e.rest_chat import version_of
from tests.e2e.stand import PLAIN, TITLE, ScriptedProvider
from tests.e2e.webui import Account, Connection
from tests.server.servers import Server, eventually

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator

NAMES: dict[str, dict[tuple[int, ...], str]] = {
    "model button": {(0, 6): "#model-selector-0-button", (0, 12): "#model-selector-model-button"},
    "model option": {(0, 6): "[data-value='{id}']", (0, 12): "[id^=model-option-][data-value='{id}']"},
    "description": {(0, 6): ".tippy-content", (0, 12): "[id^=model-description-]"},
    "stop": {
        (0, 6): "#message-input-container button:has(path[d^='M2.25 12c0-5.385'])",
        (0, 12): "[aria-label=Stop]",
    },
    "edit": {(0, 6): ".edit-user-message-button"},
    "send edit": {(0, 6): "#confirm-edit-message-button"},
    "add connection": {(0, 6): "div:has(> div:text-is('Manage OpenAI API Connections')) button"},
}
"""By what they are and by the version from which on they are called so."""
STOP_SECONDS = 1.0


class Pages(Protocol):
    """What the journeys need of `compatibility.Lab`."""

    server: Server
    provider: ScriptedProvider
    admin: Account
    ann: Account
    notes: list[str]


class AnyWindow(Window):
    """A window on the page of any version."""

    def __init__(self, browser: Browser, account: Account) -> None:
        super().__init__(browser, account)
        self._version = version_of(account)

    def name(self, of: str) -> str:
        """The selector of an element in this version."""
        return max((since, found) for since, found in NAMES[of].items() if since <= self._version)[1]

    def new_chat(self, *models: str, tools: str = "", temporary: bool = False) -> None:
        assert not temporary, "not tried"
        query = f"?models={','.join(models)}&tools={tools}" if models else ""
        self.page.goto(f"{self.account.webui.url}/{query}")
        self.page.wait_for_selector("#chat-input")
        self.page.wait_for_selector(self.name("model button"))
        self.page.wait_for_timeout(1000)  # older pages lose what is answered before their socket is open

    @contextlib.contextmanager
    def option(self, persona: str) -> Iterator[Locator]:
        """A persona's entry in the open model list."""
        self.page.click(self.name("model button"))
        self.page.fill("#model-search-input", CATALOGUE[persona]["name"])
        option = self.page.locator(self.name("model option").format(id=f"personas.{persona}")).first
        option.wait_for()
        self.page.wait_for_timeout(500)  # the list follows the words with a delay
        yield option

    def take(self, persona: str) -> None:
        """Picks a persona in the model list."""
        with self.option(persona) as option:
            option.click()
        self.page.wait_for_selector("#model-search-input", state="hidden")
        self.page.locator(self.name("model button")).get_by_text(CATALOGUE[persona]["name"]).wait_for()

    def send(self, text: str) -> None:
        """Line by line: the box of 0.6 does not take several at once; a list that closes takes its focus."""
        box = self.page.locator("#chat-input")
        for place, line in enumerate(text.split("\n")):
            if place:
                self.page.keyboard.press("Shift+Enter")
            while line not in box.inner_text():
                box.click()
                self.page.keyboard.press("Control+End")
                self.page.keyboard.insert_text(line)
                self.page.wait_for_timeout(300)
        self.page.keyboard.press("Enter")

    @property
    def busy(self) -> bool:
        return self.page.locator(self.name("stop")).count() > 0

    def stop(self) -> None:
        self.page.locator(self.name("stop")).first.click()

    def edit(self, place: int, text: str) -> Answer:
        known = self.ids()
        question = self.question(place)
        question.hover()
        question.locator(self.name("edit")).click()
        question.locator("textarea").fill(text)
        question.locator(self.name("send edit")).click()
        return self.wait(known)[-1]


def connect(ada: AnyWindow, ann: AnyWindow, lab: Pages) -> None:
    """Journey 1: the dialog of the connections, the model list, answers of every kind, a title."""
    plain = Connection(lab.provider.base_url, lab.provider.key, {"model_ids": [PLAIN]})
    assert not [model for model in lab.admin.connect(plain) if model == "personas.chemist"]
    ada.page.goto(f"{ada.account.webui.url}/admin/settings/connections")
    ada.page.locator(ada.name("add connection")).first.click()
    form = ada.page.locator("form:has([placeholder='API Key'])").last
    form.get_by_placeholder("API Base URL").fill(lab.server.url)
    form.get_by_placeholder("API Key").fill(lab.server.key)
    form.get_by_role("button", name="Save", exact=True).click()
    ada.until(lambda: "personas.chemist" in lab.admin.models())

    ada.new_chat(PLAIN)
    with ada.option("chemist") as option:
        assert "🧪 Chemist" in option.inner_text()
        for icon in option.locator("svg").all()[:3]:  # up to 0.10 one of them shows the description
            icon.hover()
            ada.page.wait_for_timeout(700)
            shown = ada.page.locator(ada.name("description")).all_inner_texts()
            if CATALOGUE["chemist"]["description"] in shown:
                break
        else:
            lab.notes.append("page: no description in the model list")
    ada.new_chat(PLAIN)
    ada.take("chemist")
    assert ada.ask("say: at the bench").text == "at the bench"
    check(lab.provider.turns[-1], "chemist")

    ann.new_chat("personas.coder")
    ann.ask("say: in code")
    ann.until(lambda: ann.account.chat(ann.chat_id)["title"] == TITLE)
    ann.until(lambda: TITLE in ann.page.title())
    assert not [task for task in lab.provider.tasks if prompts_in(task)], "a task was given a persona"
    thoughtful = ann.ask("like: stub-reasoning")
    assert "The answer is 4." in thoughtful.text
    if not ann.element(thoughtful).get_by_text("Thought for").count():
        lab.notes.append("page: no thoughts")
    failed = ann.ask("like: stub-401")
    if "refused the key" not in ann.element(failed).inner_text():
        lab.notes.append("page: an error does not show")
    ann.reload()
    if "refused the key" not in ann.element(failed).inner_text():
        lab.notes.append("page: an error is gone after a reload")
    known = ann.ids()
    ann.send("say: on we go")
    refused = ann.page.get_by_text("error in the previous response")
    ann.until(lambda: ann.ids() - known or refused.count())
    if refused.count():
        lab.notes.append("page: after an error without any text the page takes no new message, only edits")
        assert ann.edit(2, "say: on we go").text == "on we go"
    else:
        assert ann.wait(known)[-1].text == "on we go"


def switch(_: AnyWindow, ann: AnyWindow, lab: Pages) -> None:
    """Journey 2: another model in mid chat, a command, regenerate, edit, reload."""
    asked = lab.provider
    ann.new_chat("personas.coder")
    ann.ask("say: in code")
    ann.take("writer")
    picked = ann.ask("say: in words")
    assert (picked.name, picked.statuses) == ("📝 Writer", ["📝 Writer takes over from 💻 Coder"]), picked
    check(asked.turns[-1], "writer", after="coder")

    ann.new_chat("personas.coder")
    ann.ask("say: in code")
    called = ann.ask("!writer say: in words")
    assert (called.text, called.statuses) == ("in words", ["📝 Writer takes over from 💻 Coder"]), called
    again = ann.regenerate()
    assert (again.text, again.statuses) == (called.text, called.statuses), again
    check(asked.turns[-1], "writer", after="coder")
    assert asked.turns[-1].body["messages"] == asked.turns[-2].body["messages"]
    assert ann.ask("say: more words").statuses == ["📝 Writer"]
    ann.reload()
    assert [answer.statuses for answer in ann.answers][1:] == [called.statuses, ["📝 Writer"]]

    edited = ann.edit(1, "say: still in code")
    assert (edited.text, edited.statuses) == ("still in code", []), edited
    check(asked.turns[-1], "coder")


def any_model(_: AnyWindow, ann: AnyWindow, lab: Pages) -> None:
    """Journey 3: a command, the list and what a click in it does, on a plain model."""
    ann.new_chat(PLAIN)
    assert ann.ask("say: as I am").text == "as I am"
    ann.ask("!coder say: in code")
    check(lab.provider.turns[-1], "coder", after="")
    if not _comes_true(ann, lambda: ann.answer.statuses == ["💻 Coder takes over"]):
        lab.notes.append("page: no status lines above the answers of other models")
    turns = len(lab.provider.turns)
    listing = ann.ask("!agent list")
    assert len(lab.provider.turns) == turns, "a model was asked"
    if not ann.element(listing).locator("iframe").count():
        assert "!writer" in listing.text, "neither the browser nor a table"
        lab.notes.append("page: the list is a table")
        return
    browser = ann.embed(listing)
    browser.locator("#search").fill("Writer")
    known = ann.ids()
    browser.get_by_role("button", name="Switch to Writer, !writer", exact=True).click()
    dialog = ann.page.get_by_text("Confirm Prompt from Embed")
    note = browser.locator("#note")
    ann.until(lambda: dialog.count() or ann.ids() - known or "Copied" in note.inner_text())
    if dialog.count():
        ann.page.wait_for_timeout(1500)
        assert "Copied" not in note.inner_text(), "copied, although it was heard"
        ann.page.get_by_role("button", name="Confirm", exact=True).click()
    elif "Copied" in note.inner_text():
        lab.notes.append("page: a click in the list copies the command, which the user then pastes")
        ann.page.click("#chat-input")
        ann.page.keyboard.press("Control+V")
        ann.page.keyboard.press("Enter")
    else:
        lab.notes.append("page: a click in the list sends at once")
    assert "Writer answers from now on" in ann.wait(known)[-1].text
    ann.ask("say: in words")
    check(lab.provider.turns[-1], "writer", after="coder")


def _comes_true(window: AnyWindow, condition: Callable[[], bool]) -> bool:
    try:
        window.until(condition, within=5)
    except AssertionError:
        return False
    return True


def tools(_: AnyWindow, ann: AnyWindow, lab: Pages) -> None:
    """Journey 5: what a call of a tool looks like. The agent and its tool are there."""
    model = lab.admin.get("/api/v1/models/model?id=handyman")
    model["params"] = {"function_calling": "native"}
    lab.admin.post("/api/v1/models/model/update?id=handyman", model)
    ann.new_chat("handyman", tools="kit")
    answer = ann.ask('call: roll_dice {"sides": 6}\nthen say: It is {results}.')
    assert "It is a 6-sided die showed 3." in answer.text, answer
    assert ann.element(answer).get_by_text("View Result from roll_dice").count(), answer
    assert not [line for line in answer.statuses if line != "Done"], answer


def stop(_: AnyWindow, ann: AnyWindow, lab: Pages) -> None:
    """Journey 8: the button, while half of an answer is there: so it streams."""
    ann.new_chat("personas.coder")
    ann.send("like: stub-stall")
    ann.until(lambda: ann.busy and ann.answers and "Still here" in ann.answer.text)
    ann.stop()
    began = time.monotonic()  # not before: a busy machine takes its time to click
    turn = lab.provider.turns[-1]
    assert eventually(lambda: turn.closed_at is not None, 5), "the provider is still asked"
    took = (turn.closed_at or 0) - began
    assert took < STOP_SECONDS, f"it took {took:.1f} s"
    assert ann.ask("say: still here").text == "still here"


JOURNEYS: dict[str, Callable[[AnyWindow, AnyWindow, Pages], None]] = {
    "page: connect, pick, chat": connect,
    "page: switch": switch,
    "page: any model": any_model,
    "page: tools": tools,
    "page: stop": stop,
}


@contextlib.contextmanager
def journeys(chromium: str, pictures: Path, lab: Pages) -> Iterator[dict[str, Callable[[], None]]]:
    """The journeys by name, to be called; each leaves a picture of its windows.

    Args:
        chromium: the browser.
        pictures: a folder.
    """
    from playwright.sync_api import sync_playwright

    def go(name: str) -> None:
        windows = [AnyWindow(browser, account) for account in (lab.admin, lab.ann)]
        try:
            JOURNEYS[name](windows[0], windows[1], lab)
        finally:
            for window in windows:
                window.save_picture(pictures / f"{name} {window.account.name}.png")
                window.close()

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(CHROMIUM_FLAGS))
        yield {name: partial(go, name) for name in JOURNEYS}
        browser.close()
