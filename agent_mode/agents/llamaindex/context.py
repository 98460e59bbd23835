"""What a LlamaIndex agent is built from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.tools import FunctionTool

from agent_mode.agents.definitions import LlamaIndexDefinition
from agent_mode.agents.engine import Source
from agent_mode.agents.handles import CallAgent, Say, TurnView, turn_view
from agent_mode.agents.llamaindex import messages
from agent_mode.agents.llamaindex.llm import AgentLLM
from agent_mode.agents.llamaindex.memory import TurnMemory
from agent_mode.agents.toolbox import ToolResult
from agent_mode.agents.work import Work
from agent_mode.errors import LimitError
from agent_mode.tools.adapter import OpenWebUIToolAdapter
from agent_mode.tools.specs import ToolSpec

Watcher = Callable[[str, str], Awaitable[str | None]]
"""Is told a tool's name and what it gave; what it returns is added to that, for the LLM to read."""

HANDOFF = "handoff"
"""LlamaIndex's own tool by which agents hand over."""
_SOURCES = "sources"
"""Where the run's memo keeps the numbers of the sources."""


class BuildContext:
    """What `build(context)` of a pipeline file is given, for one run.

    Attributes:
        llm: the LLM of this agent; every class of LlamaIndex takes it.
        tools: the user's tools, and `call_agent` if the admin allows others to be called.
        system_prompt: the agent's instructions, and what a switch of persona in the chat adds.
        user_msg: the request; None when the transcript ends with results of tools.
        chat_history: what came before it.
        memory: for what the agent remembers of the chat.
        turn: the request in plain Python: `text`, `messages`, `user`, `images`, `valves`, …
        status: `await context.status("Reading…")`; also `status.image(…)`.
        call_agent: `await context.call_agent("writer", "Make a poem of this")`.
    """

    def __init__(self, work: Work) -> None:
        definition = work.spec.definition
        limit = getattr(definition, "max_iterations", None)
        self._work = work
        self._watchers: list[Watcher] = []
        self._bridged: list[FunctionTool] = []
        self.llm = AgentLLM(work, limit)
        self.system_prompt, history = messages.split(work.tools.fitted(work.task.messages))
        self.user_msg: ChatMessage | None = None
        if history and history[-1].role is MessageRole.USER:
            self.user_msg = history.pop()
        elif not any(message.role is MessageRole.USER for message in history):
            self.user_msg = ChatMessage(role=MessageRole.USER, content=work.task.text)
        self.chat_history = history
        tokens = getattr(definition, "memory_tokens", None)
        self.memory = TurnMemory(
            token_limit=tokens or LlamaIndexDefinition.model_fields["memory_tokens"].default
        )
        self.status = Say(work)
        self.call_agent = CallAgent(work)
        self.tools = self.function_tools(work.tools.specs)

    @property
    def turn(self) -> TurnView:
        return turn_view(self._work)

    @property
    def valves(self) -> Any:
        return self._work.spec.valves

    def tools_like(self, *patterns: str) -> list[FunctionTool]:
        """The tools that fit names or patterns: `context.tools_like("search_*", "-search_images")`."""
        return self.function_tools(self._work.tools.subset(patterns))

    def function_tools(self, specs: Sequence[ToolSpec], *, pictures: bool = True) -> list[FunctionTool]:
        """Tools of the toolbox as LlamaIndex's; `pictures`: whether the agent can look at them."""
        adapter = OpenWebUIToolAdapter(specs, self._execute)
        tools = adapter.function_tools(reserved=(HANDOFF,), pictures=pictures)
        self._bridged += tools
        return tools

    def is_bridged(self, tool: Any) -> bool:
        """Whether a tool is one of these, and none that the agent brings along."""
        return any(tool is bridged for bridged in self._bridged)

    def watch(self, watcher: Watcher) -> None:
        """Calls an async function with the name and the result's text of each of the user's tools that was
        called; what it returns is added to the result."""
        self._watchers.append(watcher)

    async def source(self, name: str, url: str | None = None, text: str = "") -> int:
        """Shows where something comes from, as a citation; the same address or name once in a run.

        Returns:
            its number: `[2]` in the answer leads to the second source.
        """
        memo, cited = self._work.state.memo, url or name
        numbers: dict[str, int] = memo.recall(_SOURCES) if _SOURCES in memo else {}
        if cited not in numbers:
            numbers = {**numbers, cited: len(numbers) + 1}
            memo.record(_SOURCES, numbers, inner=True)
            await self._work.emit(Source(name, url, text))
        return numbers[cited]

    async def _execute(self, name: str, arguments: dict[str, Any]) -> ToolResult:
        try:
            result = await self._work.tools.call(name, arguments)
        except LimitError as error:
            # LlamaIndex would tell the LLM of it and go on.
            self.llm.transport.refusal = error
            raise
        notes = [await watcher(name, result.text) for watcher in self._watchers]
        return _with_notes(result, [note for note in notes if note])


def _with_notes(result: ToolResult, notes: list[str]) -> ToolResult:
    if not notes:
        return result
    added = "\n\n".join(("", *notes))
    if isinstance(result.content, str):
        return replace(result, content=result.content + added)
    return replace(result, content=[*result.content, {"type": "text", "text": added}])
