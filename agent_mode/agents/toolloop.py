"""The engine of personas with tools: a lean loop over the provider's raw stream.

It costs a tenth of the CPU that an agent framework takes for the same, or less (benchmarks/agents.py).
"""

from __future__ import annotations

from contextlib import aclosing

from agent_mode.agents.work import Work
from agent_mode.llm.assembly import Assembly


class ToolLoop:
    """Asks the LLM, executes what it calls, and asks again, until it calls nothing more."""

    async def run(self, work: Work) -> None:
        messages = list(work.task.messages)
        tools = work.tools.openai()
        while True:
            whole = Assembly()
            async with aclosing(work.stream(messages, whole, tools=tools)) as events:
                async for event in events:
                    await work.emit(event)
            if not whole.calls:
                return
            message = whole.message()
            messages += [message, *await work.tools.call_all(message["tool_calls"])]
