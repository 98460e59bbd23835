"""The engine of pipeline files that override `run()`: trusted code, in the server itself."""

from __future__ import annotations

from contextlib import aclosing

from agent_mode.agents.handles import CallAgent, Llm, Say, Tools, as_event, turn_view
from agent_mode.agents.work import Work


class FileCodeEngine:
    """Passes on what the file's async generator yields."""

    async def run(self, work: Work) -> None:
        items = work.spec.code.run(turn_view(work), Tools(work), Llm(work), CallAgent(work), Say(work))
        async with aclosing(items):
            async for item in items:
                event = as_event(item)
                if event is not None:
                    await work.tell(event)
