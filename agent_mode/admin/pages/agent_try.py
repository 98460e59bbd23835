"""The Try it pane: a chat with the draft as it stands in the editor, and all that can be seen of a run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

from nicegui import ui

from agent_mode.admin import trying
from agent_mode.admin.drafts import Draft
from agent_mode.admin.pages.components import words
from agent_mode.admin.pages.components.banner import banner, error_banner
from agent_mode.admin.pages.components.buttons import button
from agent_mode.admin.pages.components.run_parts import pretty, tokens
from agent_mode.admin.pages.visit import Visit
from agent_mode.admin.trying import Asked, Ended
from agent_mode.agents import llamaindex
from agent_mode.agents.engine import (
    Chunks,
    Completion,
    Image,
    Reasoning,
    Source,
    Status,
    Text,
    ToolCard,
    Usage,
)
from agent_mode.errors import AgentModeError
from agent_mode.llm.assembly import Assembly, chunks_of
from agent_mode.tools.specs import ToolSpec

_DRAW_SECONDS = 0.15
"""How often the words of an answer are sent to the browser while it comes."""
_LONGEST = 100_000
_LLAMAINDEX = "llamaindex_workflow"


class TryPane:
    """The pane.

    Args:
        visit: who tries.
        read: the draft as it stands, with its problems shown beside the fields; None: it cannot be tried.
        tools: the tools of Open WebUI.
    """

    def __init__(
        self,
        visit: Visit,
        read: Callable[[], Awaitable[Draft | None]],
        tools: Callable[[], list[ToolSpec]],
    ) -> None:
        self._visit = visit
        self._read = read
        self._tools = tools
        self._messages: list[dict[str, Any]] = []
        self._running: asyncio.Task[None] | None = None

    def draw(self) -> None:
        """Draws it where it is called."""
        with ui.element("section").classes("am-card am-try").props('id=try aria-label="Try it"'):
            with ui.element("div").classes("am-row-head"):
                with ui.element("h2"):
                    ui.label("Try it")
                button("Start over", self._start_over, icon="restart_alt")
            ui.label("The draft as it stands here, saved or not. It is no run of the agent.").classes(
                "am-soft"
            )
            self._log = ui.element("div").classes("am-try-log").props("role=log aria-live=off tabindex=0")
            self._input = (
                ui.textarea("Message")
                .props(f"outlined dense autogrow maxlength={_LONGEST}")
                .classes("am-lines")
            )
            self._input.on("keydown.enter.exact.prevent", self._send)
            with ui.row().classes("am-actions"):
                self._go = button("Send", self._send, kind="main", icon="send")
                self._stop = button("Stop", self._halt, kind="danger", icon="stop")
                button("Show the prompt", self._show_prompt, icon="visibility")
            self._with_tools = ui.switch("With the tools of Open WebUI", value=False)
            obstacle = self._no_tools()
            if obstacle:
                self._with_tools.disable()
            ui.label(obstacle or "Called in the name of the admin whose key OPENWEBUI_API_KEY is.").classes(
                "am-field-help"
            )
        self._stop.set_visibility(False)
        ui.context.client.on_delete(self._cancel)

    def _no_tools(self) -> str:
        """Why the tools of Open WebUI cannot be used here; empty: they can.

        They run with an admin's key, so only for somebody who has shown to be one of Open WebUI; holders of
        the connection key have not.
        """
        runtime = self._visit.runtime
        if not (runtime.settings.openwebui_api_key and runtime.openwebui.known):
            return "They need OPENWEBUI_URL and OPENWEBUI_API_KEY."
        if self._visit.person.via != "account":
            return "Sign in with your Open WebUI account to use them; the connection key does not open them."
        return ""

    async def _send(self) -> None:
        text = (self._input.value or "").strip()
        if not text or self._running is not None:
            return
        await self._attempt(text, only_prompt=False)

    async def _show_prompt(self) -> None:
        if self._running is None:
            await self._attempt((self._input.value or "").strip() or "Hello", only_prompt=True)

    async def _attempt(self, text: str, *, only_prompt: bool) -> None:
        draft = await self._read()
        if draft is None:
            self._say_unusable()
            return
        if not only_prompt:
            self._input.value = ""
            self._visit.record("tried", "agent", draft.usable().id, "a draft")
        self._running = asyncio.current_task()
        self._go.set_visibility(False)
        self._stop.set_visibility(True)
        with self._log:
            answer = _Answer(text, only_prompt=only_prompt)
            if draft.usable().agent_type == _LLAMAINDEX and not llamaindex.is_loaded():
                answer.take(Status("Starting LlamaIndex…"))
        self._scroll()
        messages = [*self._messages, {"role": "user", "content": text}]
        tools = self._tools() if self._with_tools.value and not self._no_tools() else []
        try:
            events = trying.attempt(
                self._visit.runtime, draft, messages, tools=tools, only_prompt=only_prompt
            )
            async with aclosing(events):
                async for event in events:
                    answer.take(event)
        except asyncio.CancelledError:
            answer.stopped()
        except AgentModeError as error:
            answer.failed(error)
        finally:
            self._running = None
            if not self._log.is_deleted:
                answer.settle()
                self._go.set_visibility(True)
                self._stop.set_visibility(False)
                self._scroll()
        if not only_prompt and answer.text:
            self._messages = [*messages, {"role": "assistant", "content": answer.text}]

    def _say_unusable(self) -> None:
        with self._log:
            banner(
                "The draft cannot be tried yet.", "What is wrong stands beside the fields.", tone="warning"
            )
        self._scroll()

    def _halt(self) -> None:
        self._cancel()

    def _cancel(self, *_: object) -> None:
        if self._running is not None:
            self._running.cancel()

    def _start_over(self) -> None:
        self._cancel()
        self._messages = []
        self._log.clear()

    def _scroll(self) -> None:
        ui.run_javascript(
            f"const log = getHtmlElement({self._log.id}); if (log) log.scrollTop = log.scrollHeight;"
        )


class _Answer:
    """One request and what came of it, drawn as it comes."""

    def __init__(self, asked: str, *, only_prompt: bool) -> None:
        self.text = ""
        self._drawn_at = 0.0
        self._began = time.monotonic()
        self._calls = 0
        if not only_prompt:
            with ui.element("div").classes("am-said am-said--user"):
                ui.label(asked)
        self._box = ui.element("div").classes("am-said")
        with self._box:
            self._statuses = ui.element("ul").classes("am-plain am-soft").props('aria-label="Events"')
            self._thoughts: ui.label | None = None
            self._extra = ui.element("div").classes("am-fields")
            self._label = ui.label().classes("am-answer")
            self._prompts = ui.element("div")
            self._facts = ui.label().classes("am-soft am-small")

    def take(self, event: trying.Heard) -> None:
        match event:
            case Text(content):
                self._say(content)
            case Chunks(data):
                whole = Assembly()
                for chunk in chunks_of(data):
                    text, thought = whole.add(chunk)
                    self._think(thought)
                    self._say(text)
            case Completion(data):
                self._say(Assembly().add(data)[0])
            case Reasoning(content):
                self._think(content)
            case Status(description, _, error):
                self._status(description, error=error)
            case ToolCard(_, name, arguments, result):
                self._tool(name, arguments, result)
            case Source(name, url, text):
                self._folded(f"Source: {name}", f"{url or ''}\n{text}".strip())
            case Image(url, description):
                self._picture(url, description)
            case Asked():
                self._prompt(event)
            case Ended(records, error):
                self._end(records, error)
            case Usage() | _:
                pass

    def settle(self) -> None:
        """Draws what was held back."""
        self._label.text = self.text

    def stopped(self) -> None:
        with self._box:
            banner("Stopped.", "", tone="note")

    def failed(self, error: AgentModeError) -> None:
        with self._box:
            error_banner(error)

    def _say(self, text: str) -> None:
        self.text += text
        if time.monotonic() - self._drawn_at > _DRAW_SECONDS:
            self._drawn_at = time.monotonic()
            self._label.text = self.text

    def _think(self, text: str) -> None:
        if not text:
            return
        if self._thoughts is None:
            with self._extra, ui.element("details"):
                with ui.element("summary"):
                    ui.label("Thoughts")
                self._thoughts = ui.label().classes("am-answer am-soft")
        self._thoughts.text += text

    def _status(self, text: str, *, error: bool) -> None:
        with self._statuses, ui.element("li").classes("am-bad" if error else ""):
            ui.label(text)

    def _tool(self, name: str, arguments: str, result: str) -> None:
        self._folded(f"Tool: {name}", f"{pretty(arguments)}\n\n→ {pretty(result)}")

    def _folded(self, title: str, text: str) -> None:
        with self._extra, ui.element("details"):
            with ui.element("summary"):
                ui.label(title)
            words.code(text)

    def _picture(self, url: str, description: str) -> None:
        if url.startswith("data:image/"):
            with self._extra, ui.element("img").classes("am-picture") as picture:
                picture._props.update({"src": url, "alt": description})
        else:
            self._folded(f"Picture: {description}", url)

    def _prompt(self, asked: Asked) -> None:
        self._calls += 1
        tools = f", {words.counted(asked.tools, 'tool')}" if asked.tools else ""
        with self._prompts, ui.element("details"):
            with ui.element("summary"):
                messages = words.counted(asked.messages, "message")
                ui.label(f"Prompt {self._calls}: {messages}{tools} to {asked.model}")
            words.code(asked.text)

    def _end(self, records: list[Any], error: AgentModeError | None) -> None:
        self.settle()
        if error is not None:
            self.failed(error)
        if not records:
            return
        whole, *others = records
        told = [words.counted(self._calls, "LLM call"), words.counted(len(whole.tool_calls), "tool call")]
        if tokens(whole):
            told.append(words.counted(tokens(whole), "token"))
        told.append(words.lasted((time.monotonic() - self._began) * 1000))
        if others:
            told.append(f"called {', '.join(record.agent for record in others)}")
        self._facts.text = " · ".join(told)
        relayed = [call for call in whole.tool_calls if call.get("route") == "relay"]
        for call in relayed:
            self._folded(f"Tool: {call.get('name')}", pretty(call.get("arguments", "")))
