"""Open WebUI's page as a user sees it, over Playwright.

window.new_chat("personas.coder")
window.ask("Hello").text
window.ask("!writer a haiku").statuses
window.regenerate(); window.edit(0, "Better"); window.stop()

Element names are those of Open WebUI 0.12.4; whoever adapts the tests to another version changes them here.
"""

# Playwright is in the environment of the end-to-end tests alone.
# pyright: reportMissingImports=false
from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.e2e.webui import Account

if TYPE_CHECKING:
    from playwright.sync_api import Browser, FrameLocator, Locator, Page

CHROMIUM_FLAGS = (
    "--no-sandbox",  # CI runs as root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
PATIENCE = 30.0
"""Seconds to wait for what should come at once, on a machine with two busy cores."""
SETTLED_MS = 400
"""For so long a page that has loaded must show the same."""
TOOLS_MS = 5_000
"""For so long the tools of a new chat are waited for."""

_TURN = "#messages-container [role=listitem]"
_TOOLS_ON = "form button"
_ANSWERS = f"{_TURN} [id^=message-]:has(.chat-assistant)"
_QUESTIONS = f"{_TURN} .user-message"
_TOOL_CARD = "[id$=-tool-call] > [role=button], [id$=-tc] > [role=button]"
_FOLDED = "[aria-expanded], [aria-label='Toggle details']"
_BOX = ".chat-assistant div.rounded-2xl > div.break-words"


@dataclass(frozen=True)
class Answer:
    """One assistant message as it is shown.

    Args:
        id: of the message.
        name: the model's, above the answer.
        text: all visible words of the content, those of closed cards left out.
        statuses: the last line of the status, or all of it when it is unfolded.
        errors: what stands in red boxes.
        cards: headings of the folded parts: thoughts, tool calls.
    """

    id: str
    name: str
    text: str
    statuses: list[str]
    errors: list[str]
    cards: list[str]


class Window:
    """One page of a user who is signed in.

    Args:
        size: width and height in pixels.
    """

    def __init__(
        self,
        browser: Browser,
        account: Account,
        *,
        size: tuple[int, int] = (1280, 900),
        scale: float = 1.0,
    ) -> None:
        self.account = account
        self.console: list[str] = []
        self.context = browser.new_context(
            viewport={"width": size[0], "height": size[1]}, locale="en-US", device_scale_factor=scale
        )
        self.context.set_default_timeout(PATIENCE * 1000)
        token = json.dumps(account.token)
        self.context.add_init_script(f"localStorage.token={token}; localStorage.locale='en-US';")
        # The pages load without it, except that embeds know their user by it.
        self.context.add_cookies([{"name": "token", "value": account.token, "url": account.webui.url}])
        self.page: Page = self.context.new_page()
        self.page.on("console", lambda message: self.console.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.console.append(f"uncaught: {error}"))

    def close(self) -> None:
        self.context.close()

    # Chats

    def new_chat(self, *models: str, tools: str = "", temporary: bool = False) -> None:
        """An empty chat.

        Args:
            models: ids; several are asked side by side.
            tools: ids of the tools that are switched on, separated by commas.
        """
        query = [f"models={','.join(models)}"] if models else []
        query += [f"tools={tools}"] if tools else []
        query += ["temporary-chat=true"] if temporary else []
        self.page.goto(f"{self.account.webui.url}/?{'&'.join(query)}")
        self.page.wait_for_selector("#chat-input")
        self.page.wait_for_selector("[aria-label^='Selected model']")
        if tools:
            self._wait_for_tools()

    def _wait_for_tools(self) -> None:
        """Waits until the tools are switched on, which the page does a moment after it is there.

        How many are on stands beside their menu. Nothing does where the user may use none of them.
        """
        from playwright.sync_api import TimeoutError as Late

        with suppress(Late):
            self.page.locator(_TOOLS_ON).filter(has_text=re.compile(r"^\s*\d+\s*$")).first.wait_for(
                timeout=TOOLS_MS
            )

    def open_chat(self, chat_id: str) -> None:
        self.page.goto(f"{self.account.webui.url}/c/{chat_id}")
        self._settle()

    def reload(self) -> None:
        """Loads the page anew: what is there then is what was stored."""
        self.page.reload()
        self._settle()

    def _settle(self) -> None:
        """Waits until a stored chat stands still: its messages come piece by piece, with no end."""
        self.page.wait_for_selector(_ANSWERS)
        before: list[Answer] = []
        while (now := self.answers) != before:
            before = now
            self.page.wait_for_timeout(SETTLED_MS)

    @property
    def chat_id(self) -> str:
        return self.page.url.rpartition("/c/")[2].partition("?")[0]

    @property
    def stored(self) -> list[dict[str, Any]]:
        """The messages of the branch that is shown, as Open WebUI keeps them."""
        return self.account.messages(self.chat_id)

    # Models

    def models(self, search: str) -> dict[str, str]:
        """What the model list offers for these words: names and descriptions."""
        with self._model_list(search) as options:
            names = [option.get_attribute("aria-label") or "" for option in options.all()]
            found = {name.removeprefix("Select ").removesuffix(" model"): "" for name in names}
            for name, option in zip(found, options.all(), strict=True):
                description = option.locator("[id^=model-description-]")
                found[name] = description.inner_text() if description.count() else ""
        return found

    def pick(self, name: str) -> None:
        """Takes a model from the list by its name, such as `📝 Writer`."""
        with self._model_list(name.split(" ", 1)[-1]):
            self.page.get_by_role("option", name=f"Select {name} model", exact=True).click()
        self.page.wait_for_selector(f"[aria-label='Selected model: {name}']")

    @contextmanager
    def _model_list(self, search: str) -> Iterator[Locator]:
        self.page.click("#model-selector-model-button")
        self.page.fill("#model-search-input", search)
        self.page.wait_for_timeout(500)  # the list follows the words with a delay
        yield self.page.locator("[id^=model-option-]")
        if self.page.locator("#model-search-input").is_visible():
            self.page.keyboard.press("Escape")
            self.page.wait_for_selector("#model-search-input", state="hidden")

    # Turns

    def send(self, text: str) -> None:
        """Types a message and sends it; does not wait for the answer."""
        self.page.click("#chat-input")
        self.page.keyboard.insert_text(text)
        self.page.keyboard.press("Enter")

    def ask(self, text: str, *, within: float = PATIENCE) -> Answer:
        """The next turn, until its answer is complete."""
        return self.ask_all(text, within=within)[-1]

    def ask_all(self, text: str, *, within: float = PATIENCE) -> list[Answer]:
        """As `ask`: the answers of all models of the chat."""
        known = self.ids()
        self.send(text)
        return self.wait(known, within=within)

    def wait(self, known: set[str] | None = None, *, within: float = PATIENCE) -> list[Answer]:
        """Waits until all answers besides the known ones are complete."""
        known = known or set()

        def complete() -> bool:
            fresh = self.ids() - known
            return bool(fresh) and not self.busy and all(self._done(key) for key in fresh)

        self.until(complete, within=within)
        return [answer for answer in self.answers if answer.id not in known]

    def until(self, condition: Callable[[], Any], *, within: float = PATIENCE) -> None:
        """Waits until something is true.

        Raises:
            AssertionError: it did not become true in time.
        """
        deadline = time.monotonic() + within
        while not condition():
            assert time.monotonic() < deadline, f"waited {within:g} s in vain; the page shows: {self.words}"
            self.page.wait_for_timeout(50)

    @property
    def busy(self) -> bool:
        """Whether there is a Stop button."""
        return self.page.locator("[aria-label=Stop]").count() > 0

    def stop(self) -> None:
        self.page.click("[aria-label=Stop]")

    @property
    def words(self) -> str:
        return self.page.locator("body").inner_text()[-1500:]

    @property
    def toasts(self) -> list[str]:
        return [toast.inner_text() for toast in self.page.locator("[data-sonner-toast]").all()]

    # Messages

    @property
    def answers(self) -> list[Answer]:
        """The answers that are shown, in order."""
        return [self._read(element) for element in self.page.locator(_ANSWERS).all()]

    @property
    def answer(self) -> Answer:
        """The last one."""
        return self._read(self.page.locator(_ANSWERS).last)

    def element(self, answer: Answer) -> Locator:
        return self.page.locator(f"[id='message-{answer.id}']")

    def unfold(self, answer: Answer) -> str:
        """Opens an answer's folded parts: thoughts, groups of tool calls, and the calls; gives all words."""
        content = self.element(answer).locator("#response-content-container")
        folded = content.locator(f":is({_FOLDED})[aria-expanded=false]")
        while folded.count():
            folded.first.click()
        for card in content.locator(_TOOL_CARD).all():
            card.click()
        return content.inner_text()

    def _read(self, element: Locator) -> Answer:
        content = element.locator("#response-content-container")
        folded = content.locator(f"{_FOLDED}, {_TOOL_CARD}")
        return Answer(
            id=(element.get_attribute("id") or "").removeprefix("message-"),
            name=element.locator("#response-message-model-name").inner_text(),
            text=content.inner_text().strip() if content.count() else "",
            statuses=[line.inner_text() for line in element.locator(".status-description").all()],
            errors=[box.inner_text() for box in element.locator(_BOX).all()],
            cards=[re.sub(r"\s+", " ", card.inner_text()).strip() for card in folded.all()],
        )

    def ids(self) -> set[str]:
        """Of the answers that are shown."""
        return {
            (element.get_attribute("id") or "").removeprefix("message-")
            for element in self.page.locator(_ANSWERS).all()
        }

    def _done(self, key: str) -> bool:
        return self.page.locator(f"[id='message-{key}'] [aria-label=Copy]").count() > 0

    def regenerate(self) -> Answer:
        """Once more the last answer."""
        known = self.ids()
        self.page.locator("[aria-label=Regenerate]").last.click()
        self.page.get_by_text("Try Again", exact=True).click()
        return self.wait(known)[-1]

    def go_on(self) -> Answer:
        """ "Continue Response" on the last answer, until it is complete again."""
        button = self.page.locator("[aria-label='Continue Response']").last
        with self.page.expect_response(lambda reply: reply.url.endswith("/api/chat/completions")):
            button.click()
        self.until(lambda: not self.busy and self._done(self.answer.id))
        self._settle()
        return self.answer

    def edit(self, place: int, text: str) -> Answer:
        """Rewrites a question, counted from 0, and sends it again: a new branch."""
        known = self.ids()
        question = self.page.locator(_QUESTIONS).nth(place)
        question.hover()
        question.locator("[aria-label=Edit]").click()
        box = question.locator("textarea")
        box.fill(text)
        question.get_by_role("button", name="Send").click()
        return self.wait(known)[-1]

    def go_back(self, answer_or_question: Locator) -> None:
        """Shows the sibling before this message."""
        answer_or_question.hover()
        answer_or_question.locator("[aria-label='Previous message']").click()
        self._settle()

    def question(self, place: int) -> Locator:
        return self.page.locator(_QUESTIONS).nth(place)

    def embed(self, answer: Answer) -> FrameLocator:
        """The document that an answer has embedded."""
        return self.element(answer).frame_locator("iframe")

    # The rest

    def settings(self, tab: str) -> Locator:
        """Opens a page of the admin's settings, such as `connections`."""
        self.page.goto(f"{self.account.webui.url}/admin/settings/{tab}")
        return self.page.locator(f"#tab-admin-{tab}")

    @contextmanager
    def adding_a_connection(self) -> Iterator[tuple[Locator, Locator]]:
        """The fields for URL and key in the dialog of a new connection, which is saved at the end."""
        self.settings("connections").get_by_label("Add Connection").click()
        dialog = self.page.get_by_role("dialog").last
        yield dialog.get_by_placeholder("API Base URL"), dialog.get_by_placeholder("API Key")
        dialog.get_by_role("button", name="Save", exact=True).click()
        self.until(lambda: any("updated" in toast.lower() for toast in self.toasts))

    def upload_pipeline(self, file: Path) -> str:
        """Uploads a file in the Pipelines tab, to the first server there; returns what the page said."""
        tab = self.settings("pipelines")
        self.page.locator("#pipelines-upload-input").set_input_files(file)
        tab.get_by_role("button", name="1 pipeline(s) selected").wait_for()
        return self._toast_after(lambda: tab.get_by_role("button", name="Upload", exact=True).click())

    def add_pipeline(self, url: str) -> str:
        """As `upload_pipeline`, from an address."""
        tab = self.settings("pipelines")
        tab.get_by_placeholder("Enter GitHub Raw URL").fill(url)
        return self._toast_after(lambda: tab.get_by_role("button", name="Install", exact=True).click())

    def _toast_after(self, act: Callable[[], None]) -> str:
        act()
        self.until(lambda: self.toasts)
        return self.toasts[-1]

    def save_picture(self, path: Path) -> None:
        self.page.screenshot(path=str(path))
