"""One run while it goes on: what all agents that take part in it share."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from agent_mode.agents.budget import Budget
from agent_mode.agents.engine import Chunks, Event, Status, Text, ToolCall
from agent_mode.agents.memo import Memo

QUIET_SECONDS = 0.015
"""A run that does nothing but wait for the caller's tools for so long hands over to the caller."""
RECORDED = 2_000
"""Characters that a run's record keeps of arguments, and of results."""
_QUEUE_LIMIT = 256
"""Events that may wait for a slow reader before the agent waits for it."""


class RunState:
    """A run's events on their way out, its budget, what it knows, and the calls that wait for the caller.

    Args:
        run_id: 20 hexadecimal digits.
        budget: shared by all agents in the run.
        memo: what earlier requests of the run found out.
        answers: results of the caller's tools, by call id, as the request brought them.
        told: characters of text that earlier requests of the run sent.
    """

    def __init__(
        self, run_id: str, budget: Budget, memo: Memo, answers: dict[str, Any], told: int = 0
    ) -> None:
        self.run_id = run_id
        self.budget = budget
        self.memo = memo
        self.told = 0
        """Characters of text that the agent has written since its beginning."""
        self.log: list[dict[str, Any]] = []
        """The tool calls of the run, for its record."""
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.pending: dict[str, ToolCall] = {}
        """Calls that wait for the caller, in the order in which they were made."""
        self.line: Status | None = None
        """The last line that was shown above the answer; one that is not done would move for ever."""
        self.resumed = bool(answers)
        """Whether the run goes on from an earlier request."""
        self.handing_over = False
        """Whether the run ends because the caller has tools to execute."""
        self._answers = answers
        # Where the transcript is all there is, no id that stands in it may be given again.
        memo.call_count = max([memo.call_count, *(int(id_[26:]) for id_ in answers if run_of(id_) == run_id)])
        self._skip = told
        self._busy = 0
        self._activity = 0
        self._stirred = asyncio.Event()

    async def emit(self, event: Event) -> None:
        """Sends an event to whoever reads; leaves out the words that an earlier request of the run sent."""
        if isinstance(event, Text):
            event = self._not_told_yet(event)
            if not event.content:
                return
        elif isinstance(event, Chunks):
            self.told += event.length
            self._skip = max(0, self._skip - event.length)
        while self.events.qsize() > _QUEUE_LIMIT:  # noqa: ASYNC110  bounded, and rare
            await asyncio.sleep(0.01)
        if isinstance(event, Status):
            self.line = event
        self.events.put_nowait(event)

    def _not_told_yet(self, event: Text) -> Text:
        self.told += len(event.content)
        if not self._skip:
            return event
        skipped = min(self._skip, len(event.content))
        self._skip -= skipped
        return Text(event.content[skipped:])

    @contextmanager
    def working(self) -> Iterator[None]:
        """While something goes on, the run does not hand over to the caller."""
        self._busy += 1
        self._activity += 1
        try:
            yield
        finally:
            self._busy -= 1
            self._stir()

    async def from_caller(self, key: str, agent: str, record: str, name: str, arguments: str) -> Any:
        """The result of a tool that the caller executes.

        Returns at once if the request brought it; else never: the run hands over to the caller, and goes on
        in a later request.

        Args:
            key: the call's name in the memo.
            agent: whose call it is.
            record: the id of that agent's record.
            name: the tool, as the caller knows it.
            arguments: JSON text.
        """
        known = next((id_ for id_ in self.memo.calls.get(key, ()) if id_ in self._answers), None)
        if known is not None:
            return self._answers[known]
        self.memo.call_count += 1
        call = ToolCall(call_id(self.run_id, self.memo.call_count), name, arguments)
        self.memo.calls.setdefault(key, []).append(call.id)
        self.pending[key] = call
        self.note_call(agent, record, name, "relay", arguments, id=call.id)
        self._stir()
        return await asyncio.get_running_loop().create_future()

    def note_call(self, agent: str, record: str, name: str, route: str, arguments: str, **more: Any) -> None:
        """Notes a tool call for the run's record, and for the record of the agent that made it."""
        call = {"agent": agent, "run_id": record, "name": name, "route": route}
        self.log.append({**call, "arguments": arguments[:RECORDED], **more})

    async def quiet(self) -> None:
        """Returns when nothing goes on but waiting for the caller's tools."""
        while True:
            await self._stirred.wait()
            self._stirred.clear()
            while self.pending and not self._busy:
                before = self._activity
                await asyncio.sleep(QUIET_SECONDS)
                if before == self._activity and not self._busy:
                    return

    def _stir(self) -> None:
        self._activity += 1
        self._stirred.set()


def call_id(run_id: str, number: int) -> str:
    """The id of a tool call, which leads back to the run; at most 40 characters, as OpenAI demands."""
    return f"call_{run_id}_{number}"


def child_id(run_id: str, path: tuple[str, ...]) -> str:
    """The id of a called agent's record: the same each time that the run goes on."""
    return hashlib.sha256(f"{run_id}/{'/'.join(path)}".encode()).hexdigest()[:20]


def run_of(call: Any) -> str | None:
    """The run that a tool call's id leads back to; None if the id is not ours."""
    parts = call.split("_") if isinstance(call, str) else ()
    if len(parts) != 3 or parts[0] != "call" or len(parts[1]) != 20 or not parts[2].isdigit():
        return None
    return parts[1] if all(char in "0123456789abcdef" for char in parts[1]) else None
