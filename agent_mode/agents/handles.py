"""What an agent's own code is given: the turn, the tools, the LLM, the other agents, and a voice.

The same five for a pipeline file's `run()` and for `custom_python` code, which has them in another process.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any

from agent_mode.agents.delegation import call_agent
from agent_mode.agents.engine import Event, Image, Source, Status, Text
from agent_mode.agents.work import Work
from agent_mode.errors import AgentError, ToolError
from agent_mode.llm.assembly import Assembly

_NOT_TAKEN = {
    "model": "Leave it out: an admin sets the model, in the agent's definition or its valve `llm_model`.",
    "messages": "Give them once, as the first argument.",
    "stream": "Leave it out: `llm(…)` answers as a whole, `llm.stream(…)` word by word.",
    "stream_options": "Leave it out: what the call cost is counted in any case.",
    "tools": "Leave it out: `llm` answers with words. Call the user's tools with `tools`.",
    "tool_choice": "Leave it out: `llm` answers with words. Call the user's tools with `tools`.",
}
"""Fields of a request that the agent's code cannot set, and what to do instead."""


@dataclass(frozen=True, slots=True)
class TurnView:
    """The request, as an agent's code sees it.

    Attributes:
        text: the user's words.
        messages: OpenAI messages: system prompt, history, the request.
        user: `{"id", "name", "role"}`.
        chat_id: Open WebUI's; None for other callers.
        images: addresses of the pictures in the request (`data:` or web).
        valves: the agent's valves, secrets left out.
        run_id: the same each time that the run goes on.
    """

    text: str
    messages: list[dict[str, Any]]
    user: dict[str, Any]
    chat_id: str | None
    images: list[str]
    valves: dict[str, Any]
    run_id: str


def turn_view(work: Work) -> TurnView:
    """The request of a piece of work."""
    task = work.task
    return TurnView(
        text=task.text,
        messages=task.messages,
        user={
            "id": task.caller.id,
            "name": task.caller.name,
            "role": "admin" if task.caller.admin else "user",
        },
        chat_id=task.chat_id,
        images=_images(task.messages),
        valves=work.spec.valves.model_dump(mode="json", exclude=_secrets(work)),
        run_id=work.state.run_id,
    )


class Tools:
    """The user's tools: `await tools.call("roll_dice", sides=6)`, or `await tools.roll_dice(sides=6)`."""

    def __init__(self, work: Work) -> None:
        self._work = work

    @property
    def names(self) -> list[str]:
        return self._work.tools.names

    def list(self) -> list[dict[str, Any]]:
        """The tools as OpenAI tool specs."""
        return self._work.tools.openai()

    async def call(self, name: str, /, **arguments: Any) -> str:
        """Calls a tool; returns its result as text.

        Raises:
            ToolError: it failed or was denied; the message says why.
            LimitError: the run has called tools often enough.
        """
        result = await self._work.tools.call(name, arguments)
        if result.is_error:
            raise ToolError(
                result.text.removeprefix("Error: "), hint="The agent's code can go on without it."
            )
        return result.text

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, str]]:
        if name.startswith("_") or name not in self._work.tools.names:
            raise AttributeError(f"There is no tool {name!r} here. Tools: {', '.join(self.names) or 'none'}.")
        return partial(self.call, name)


class Llm:
    """The LLM: `await llm("Summarise: …")`, or `async for word in llm.stream(messages)`."""

    def __init__(self, work: Work) -> None:
        self._work = work

    @property
    def model(self) -> str:
        return self._work.model

    async def __call__(self, messages: str | list[dict[str, Any]], /, **params: Any) -> str:
        """The whole answer.

        Args:
            messages: OpenAI messages, or the words of one user message.
            params: fields of the request (`temperature`, …).

        Raises:
            ProviderError, LimitError: readable.
            AgentError: a field that is not the code's to set.
        """
        _check(params)
        return await self._work.complete(_as_messages(messages), **params)

    async def stream(
        self, messages: str | list[dict[str, Any]], /, **params: Any
    ) -> AsyncGenerator[str, None]:
        """The answer piece by piece; as `__call__` else."""
        _check(params)
        whole = Assembly()
        told = 0
        async with aclosing(self._work.stream(_as_messages(messages), whole, **params)) as events:
            async for _ in events:
                if len(whole.text) > told:
                    yield whole.text[told:]
                    told = len(whole.text)
        self._work.state.memo.inner = True


class Say:
    """Says what is going on: `await status("Reading…")`, and shows pictures and sources."""

    def __init__(self, work: Work) -> None:
        self._work = work

    async def __call__(self, description: str) -> None:
        await self._work.tell(Status(description, done=False))

    async def image(self, data: bytes | str, mime: str = "image/png", description: str = "image") -> None:
        """Shows a picture: its bytes, or its address."""
        await self._work.tell(picture(data, mime, description))

    async def source(self, name: str, url: str | None = None, text: str = "") -> None:
        """Shows where something comes from, as a citation."""
        await self._work.tell(Source(name, url, text))


class CallAgent:
    """`await call_agent("writer", "Make a poem of this", context=…)`."""

    def __init__(self, work: Work) -> None:
        self._work = work

    async def __call__(self, agent: str, task: str, context: str | None = None) -> str:
        """The other agent's answer.

        Raises:
            AgentError: it may not be called, or failed.
            LimitError: the budget of the run is spent.
        """
        return await call_agent(self._work, agent, task, context)


def picture(data: bytes | str, mime: str = "image/png", description: str = "image") -> Image:
    """A picture from its bytes or its address."""
    if isinstance(data, str):
        return Image(data, description)
    return Image(f"data:{mime};base64,{base64.b64encode(data).decode()}", description)


def as_event(item: Any) -> Event | None:
    """What an agent's code yields, as an event: text, a picture's bytes, or an event; None: nothing."""
    if item is None:
        return None
    if isinstance(item, str):
        return Text(item)
    if isinstance(item, bytes):
        return picture(item)
    if isinstance(item, Text | Status | Source | Image):
        return item
    return Text(str(item))


def _check(params: dict[str, Any]) -> None:
    name = next((name for name in params if name in _NOT_TAKEN), None)
    if name is not None:
        raise AgentError(f"llm takes no `{name}`.", hint=_NOT_TAKEN[name], code="llm_argument")


def _as_messages(messages: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": messages}] if isinstance(messages, str) else messages


def _images(messages: list[dict[str, Any]]) -> list[str]:
    """Addresses of the pictures in the last user message."""
    last = next((message for message in reversed(messages) if message["role"] == "user"), {})
    content = last.get("content")
    urls = [
        part["image_url"].get("url")
        for part in (content if isinstance(content, list) else ())
        if part.get("type") == "image_url" and isinstance(part.get("image_url"), dict)
    ]
    return [url for url in urls if isinstance(url, str)]


def _secrets(work: Work) -> set[str]:
    extras = {name: f.json_schema_extra for name, f in type(work.spec.valves).model_fields.items()}
    return {name for name, extra in extras.items() if isinstance(extra, dict) and "secret" in extra}
