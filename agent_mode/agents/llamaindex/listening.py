"""The events of a running workflow, as ours."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import ExitStack

from llama_index.core.agent.workflow import (
    AgentInput,
    AgentOutput,
    AgentStream,
    ReActAgent,
    ToolCall,
    ToolCallResult,
)
from llama_index.core.workflow import Event, InputRequiredEvent, StopEvent, Workflow
from pydantic import BaseModel

from agent_mode.agents.engine import Reasoning, Status
from agent_mode.agents.llamaindex.building import agents_of
from agent_mode.agents.llamaindex.context import BuildContext
from agent_mode.agents.llamaindex.patches import MAX_PARALLEL
from agent_mode.agents.llamaindex.react import ReActText
from agent_mode.agents.llamaindex.transport import RECALLED
from agent_mode.agents.work import Work
from agent_mode.errors import AgentError


class Listener:
    """Passes on what a workflow tells.

    Args:
        work: whose run it is.
        workflow: the agent or workflow that runs.
        context: what it was built from.

    Attributes:
        result: what the workflow ended with.
        failed_step: the step in which it failed.
    """

    def __init__(self, work: Work, workflow: Workflow, context: BuildContext) -> None:
        self.result: StopEvent | None = None
        self.failed_step: str | None = None
        self._work = work
        self._transport = context.llm.transport
        self._agents = agents_of(workflow)
        self._pace = _Pace(work) if self._agents else None
        self._final_only = getattr(work.spec.definition, "output", "stream") == "final"
        self._speaker: str | None = None
        self._answer: list[str] = []
        """The words of this step, when only the last one's are shown."""
        self._react = ReActText()
        self._streamed = False
        """Whether words or thoughts of this step came."""
        self._said = False
        self._new_step = False
        self._answered = False
        """Whether the agent has given an answer, not only called tools."""
        self._known = False
        """Whether the last answer of the LLM is one that an earlier request had."""

    @property
    def is_agent(self) -> bool:
        """Whether it is one of LlamaIndex's own agents, whose steps are nobody's code."""
        return bool(self._agents)

    async def listen(self, events: AsyncGenerator[Event, None]) -> None:
        """Reads a workflow's events to their end.

        Raises:
            AgentModeError: the run has reached a limit, or waits for what it cannot get.
        """
        with ExitStack() as stack:
            if self._pace is not None:
                stack.enter_context(self._pace)
            async for event in events:
                await self._hear(event)
                if self._transport.refusal is not None:
                    raise self._transport.refusal

    async def tell_result(self) -> None:
        """Says what the workflow returned, unless it has been said already."""
        if self.result is None or self._answered or (self._said and not self._agents):
            return
        await self._say(_words(self.result))

    async def _hear(self, event: Event) -> None:
        match event:
            case AgentStream():
                await self._on_stream(event)
            case AgentOutput():
                await self._on_output(event)
            case AgentInput(current_agent_name=name):
                await self._on_speaker(name)
            case ToolCall() | ToolCallResult():
                if self._pace is not None:
                    self._pace.on_tool(ended=isinstance(event, ToolCallResult))
            case StopEvent():
                self.result = event
                self.failed_step = getattr(event, "step_name", None)
            case InputRequiredEvent():
                raise AgentError(
                    f"{self._work.spec.name} waits for a person's input in mid-answer.",
                    hint="Let its workflow end with the question; the user's reply begins the next run.",
                    code="agent_input_required",
                )
            case _ if isinstance(getattr(event, "msg", None), str):
                await self._work.tell(Status(event.msg, done=False))

    async def _on_stream(self, event: AgentStream) -> None:
        self._known = isinstance(event.raw, dict) and bool(event.raw.get(RECALLED))
        if event.thinking_delta and not self._known:
            await self._work.emit(Reasoning(event.thinking_delta))
        if event.delta:
            self._streamed = True
            await self._on_words(event.delta, event.current_agent_name)

    async def _on_words(self, words: str, speaker: str) -> None:
        if not isinstance(self._agents.get(speaker), ReActAgent):
            await self._on_answer(words)
            return
        for kind, text in self._react.feed(words):
            await self._on_part(kind, text)

    async def _on_part(self, kind: str, text: str) -> None:
        if kind == "answer":
            await self._on_answer(text)
        elif not self._known:
            await self._work.emit(Reasoning(text))

    async def _on_answer(self, text: str) -> None:
        if self._final_only:
            self._answer.append(text)
        else:
            await self._say(text)

    async def _on_output(self, event: AgentOutput) -> None:
        """A step's end."""
        is_answer = not event.tool_calls and not event.retry_messages
        if not self._streamed and event.response.content:
            await self._on_words(event.response.content, event.current_agent_name)
        for kind, text in self._react.close(is_answer=is_answer):
            await self._on_part(kind, text)
        if is_answer:
            await self._say("".join(self._answer))
            self._answered = True
        self._answer, self._react, self._streamed, self._new_step = [], ReActText(), False, True
        if self._pace is not None:
            self._pace.on_output(len(event.tool_calls))

    async def _on_speaker(self, name: str) -> None:
        if self._speaker not in (None, name) and not self._known:
            await self._work.status(f"{name} takes over")
        self._speaker = name

    async def _say(self, text: str) -> None:
        if not text:
            return
        if self._new_step and self._said:
            text = f"\n\n{text}"
        self._new_step, self._said = False, True
        await self._work.say(text)


class _Pace:
    """Keeps the run from handing over to the caller while the agent is not done with making its calls.

    It may hand over when all calls of a step have begun, and until the last one has ended.
    """

    def __init__(self, work: Work) -> None:
        self._state = work.state
        self._held = ExitStack()
        self._is_held = False
        self._to_begin = 0
        self._to_end = 0

    def __enter__(self) -> _Pace:
        self._hold()
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def on_output(self, calls: int) -> None:
        self._to_begin = min(calls, MAX_PARALLEL)
        self._to_end = calls

    def on_tool(self, *, ended: bool) -> None:
        if ended:
            self._to_end -= 1
            if self._to_end == 0:
                self._hold()
            return
        self._to_begin -= 1
        if self._to_begin == 0:
            self._held.close()
            self._is_held = False

    def _hold(self) -> None:
        if not self._is_held:
            self._held.enter_context(self._state.working())
            self._is_held = True


def _words(result: StopEvent) -> str:
    """What a workflow returned, as text."""
    value = result if type(result) is not StopEvent else result.result
    if isinstance(value, AgentOutput):
        return value.response.content or ""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    if isinstance(value, dict | list):
        return f"```json\n{json.dumps(value, indent=2, ensure_ascii=False, default=str)}\n```"
    return str(value)
