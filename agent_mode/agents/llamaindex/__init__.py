"""The engine of LlamaIndex agents. LlamaIndex itself is imported by the modules beside this one alone.

| module         | what it does |
|----------------|--------------|
| `transport.py` | every LLM call of an agent, over our own client |
| `llm.py`       | LlamaIndex's OpenAI client on that transport |
| `messages.py`  | OpenAI messages as LlamaIndex's, and back |
| `memory.py`    | how much of the chat the agent remembers |
| `building.py`  | the agent or workflow of a definition, or of a pipeline file |
| `context.py`   | what a pipeline file's `build()` is given |
| `own_tools.py` | tools that a pipeline file brings along |
| `react.py`     | tells thought from answer in what a ReAct agent writes |
| `listening.py` | the events of a running workflow, as ours |
| `patches.py`   | what LlamaIndex does too slowly or too narrowly |
| `warming.py`   | makes the first run as quick as the others |
| `running.py`   | one run, from its start to its end |
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from importlib import import_module
from typing import Any

from agent_mode.agents.selector import is_available
from agent_mode.errors import ConfigurationError

_RUNNING = "agent_mode.agents.llamaindex.running"
_WARMING = "agent_mode.agents.llamaindex.warming"

Run = Callable[[Any], Coroutine[Any, Any, None]]
_runner: Run | None = None
_importing = threading.Lock()


class LlamaIndexEngine:
    """Runs LlamaIndex agents and workflows."""

    async def run(self, work: Any) -> None:
        """Does the work.

        Raises:
            AgentModeError: readable; what was sent before stays.
        """
        run = _runner or await asyncio.to_thread(_import)
        await run(work)


def is_loaded() -> bool:
    """Whether the next run begins at once; the first one of a process loads LlamaIndex before."""
    return _runner is not None


def _import() -> Run:
    """What needs LlamaIndex; the first import costs one to two seconds, hence in a thread.

    Raises:
        ConfigurationError: it is not installed.
    """
    if not is_available():
        raise ConfigurationError(
            "This agent needs LlamaIndex, which this server does not have.",
            hint="Run it on Agent Mode's own server (./start.sh), which has it. Or install it there: `python "
            "-m pip install llama-index-core llama-index-llms-openai`; it needs pydantic 2.8 or newer.",
            code="no_llamaindex",
            status=503,
        )
    global _runner  # noqa: PLW0603  once it is there, no thread is needed any more
    with _importing:
        if _runner is None:
            runner: Run = import_module(_RUNNING).run
            import_module(_WARMING).warm_up()
            _runner = runner
        return _runner
