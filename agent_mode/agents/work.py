"""One agent at work: everything that an engine is given, and the only way out for what it makes."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from itertools import groupby
from operator import itemgetter
from typing import Any

from agent_mode.agents.budget import Share
from agent_mode.agents.engine import Chunks, Event, Reasoning, Status, Text
from agent_mode.agents.services import Services
from agent_mode.agents.spec import AgentSpec, Task
from agent_mode.agents.state import RunState, child_id
from agent_mode.agents.toolbox import Toolbox
from agent_mode.llm.assembly import Assembly, chunks_of
from agent_mode.llm.connection import Connection
from agent_mode.llm.sse import Facts


class Work:
    """What one agent does in a run.

    Args:
        spec: the agent.
        task: what it is asked.
        state: shared with the other agents of the run.
        services: the server's parts.
        connection, model: the LLM.
        parent: the work of the agent that called it.
        path: names this piece of work among all of the run.

    Attributes:
        tools: the tools that it may use here.
        words: what it has said; an agent that called it gets this as its answer.
        share: what it has done itself.
    """

    def __init__(
        self,
        spec: AgentSpec,
        task: Task,
        state: RunState,
        services: Services,
        connection: Connection,
        model: str,
        parent: Work | None = None,
        path: tuple[str, ...] = (),
    ) -> None:
        self.spec = spec
        self.task = task
        self.state = state
        self.services = services
        self.connection = connection
        self.model = model
        self.parent = parent
        self.path = path or (spec.id,)
        self.words: list[str] = []
        self.share = Share()
        self.tools = Toolbox(self)

    @property
    def record_id(self) -> str:
        """The id of its record."""
        run_id = self.state.run_id
        return run_id if self.parent is None else child_id(run_id, self.path)

    def step(self) -> None:
        """One more LLM call.

        Raises:
            LimitError: that is one too many, or the tokens are spent.
        """
        self.state.budget.step()
        self.share.calls += 1

    def spend(self, usage: Any, characters: int) -> None:
        """What that LLM call cost, as `Budget.add_usage` has it."""
        self.share.add(self.state.budget.add_usage(usage, characters=characters))

    @property
    def line(self) -> tuple[str, ...]:
        """Ids of the agents at work from the first one down to this."""
        return (*(self.parent.line if self.parent else ()), self.spec.id)

    async def emit(self, event: Event) -> None:
        """Sends an event out. Of an agent that another one called, words are its answer and stay inside."""
        if self.parent is None:
            await self.state.emit(event)
            return
        match event:
            case Text(content):
                self.words.append(content)
            case Chunks(data):
                whole = Assembly()
                for chunk in chunks_of(data):
                    whole.add(chunk)
                self.words.append(whole.text)
            case Status(description, _, error):
                await self.parent.emit(Status(f"{self.spec.name}: {description}", done=False, error=error))
            case Reasoning():
                pass  # another agent's thoughts are not this one's
            case _:
                await self.parent.emit(event)

    async def tell(self, event: Event) -> None:
        """Sends an event that the agent's own code made.

        When a run goes on, the code runs once more from its beginning: of what it shows, only what was not
        shown before goes out. Words are counted instead (`RunState.emit`).
        """
        if isinstance(event, Status) and not self.spec.valves.show_progress:
            return
        memo = self.state.memo
        if isinstance(event, Text) or memo.first(memo.key(self.path, "event", repr(event))):
            await self.emit(event)

    async def say(self, text: str) -> None:
        if text:
            await self.emit(Text(text))

    async def status(self, description: str) -> None:
        """Says what is being done, where the valves want that."""
        if self.spec.valves.show_progress:
            await self.emit(Status(description, done=False))

    @asynccontextmanager
    async def asking(self, *, silently: bool = False) -> AsyncIterator[None]:
        """While the LLM is asked: says so, and does not hand over to the caller."""
        with self.state.working():
            if not silently:
                await self.status("Thinking…")
            yield

    def sampling(self) -> dict[str, Any]:
        """Fields of an LLM request that the chat and the valves set, without tools."""
        params = {k: v for k, v in self.task.params.items() if k not in ("tools", "tool_choice")}
        if self.spec.valves.temperature is not None:
            params["temperature"] = self.spec.valves.temperature
        return params

    async def stream(
        self,
        messages: list[dict[str, Any]],
        into: Assembly,
        /,
        *,
        tools: list[dict[str, Any]] | None = None,
        **params: Any,
    ) -> AsyncGenerator[Event, None]:
        """One LLM call.

        Args:
            messages: OpenAI messages.
            into: is given the whole answer.
            tools: OpenAI tool specs.
            params: further fields of the request.

        Yields:
            `Text`, `Reasoning` and `Chunks` as they come, ready to be sent out.

        Raises:
            ProviderError, LimitError: readable.
        """
        names = [tool["function"]["name"] for tool in tools or ()]
        key = self.state.memo.key(self.path, "llm", [messages, names, params])
        if key in self.state.memo:
            self.share.recalled()
            into.add({"choices": [{"delta": self.state.memo.recall(key)}]})
            if into.text:
                yield Text(into.text)
            return
        self.step()
        payload = {**self.sampling(), **params, "model": self.model, "messages": messages}
        payload["stream_options"] = {"include_usage": True}
        if tools:
            payload["tools"] = tools
        facts = Facts()
        # A persona without tools speaks at once, as in its own chats.
        silently = self.spec.agent_type == "persona" and not tools
        asked = self.services.llm.stream(self.connection, payload, facts)
        async with self.asking(silently=silently), aclosing(asked) as blocks:
            async for block in blocks:
                for event in _events(block, facts.chunks, into):
                    yield event
        self.spend(into.usage, 0 if into.usage else len(json.dumps(messages)) + len(into.text))
        # What the agent that was asked says stands in the transcript; what others say to it does not.
        self.state.memo.record(key, into.message(), inner=self.parent is not None)

    async def complete(self, messages: list[dict[str, Any]], /, **params: Any) -> str:
        """One LLM call whose words go to the agent's code, not to the chat.

        Raises:
            ProviderError, LimitError: readable.
        """
        whole = Assembly()
        async with aclosing(self.stream(messages, whole, **params)) as events:
            async for _ in events:
                pass
        self.state.memo.inner = True
        return whole.text


def _events(block: bytes, chunks: list[dict[str, Any]], into: Assembly) -> list[Event]:
    """What a block of vetted chunks says; passed on as it is when it holds nothing but words.

    What came at the same moment goes out as one event: each has its price on the way.
    """
    said: list[tuple[type[Text | Reasoning], str]] = []
    length, words_only = 0, True
    for chunk in chunks:
        text, thought = into.add(chunk)
        length += len(text)
        if thought:
            said.append((Reasoning, thought))
        if text:
            said.append((Text, text))
        if chunk.get("usage") or into.calls or into.finish_reason:
            words_only = False
    if words_only and said:
        return [Chunks(block, length)]
    return [
        kind("".join(words for _, words in together)) for kind, together in groupby(said, key=itemgetter(0))
    ]
