"""Agent Mode: personas and agents for Open WebUI.

The public face: what a pipeline file or another program imports. Everything else may change.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent_mode.agents.charts import bar_chart
    from agent_mode.agents.engine import Image, Source
    from agent_mode.agents.sheets import table_of
    from agent_mode.agents.types import agent_type
    from agent_mode.chat.library import stream_chat_response
    from agent_mode.chat.switching import detect_agent_switch, plan_turn
    from agent_mode.errors import AgentError, ToolError
    from agent_mode.prompts.reset import build_agent_switch_prompt, get_system_prompt
    from agent_mode.server.agent_pipeline import AgentPipeline
    from agent_mode.server.pipeline import HotswapFilter, PersonaManifold
    from agent_mode.valves import AgentValves, HotswapValves, PersonaValves

__version__ = "0.1.0"

__all__ = [
    "AgentError",
    "AgentPipeline",
    "AgentValves",
    "HotswapFilter",
    "HotswapValves",
    "Image",
    "PersonaManifold",
    "PersonaValves",
    "Source",
    "ToolError",
    "agent_type",
    "bar_chart",
    "build_agent_switch_prompt",
    "detect_agent_switch",
    "get_system_prompt",
    "plan_turn",
    "stream_chat_response",
    "table_of",
]

_HOMES = {
    "AgentError": "agent_mode.errors",
    "AgentPipeline": "agent_mode.server.agent_pipeline",
    "AgentValves": "agent_mode.valves",
    "agent_type": "agent_mode.agents.types",
    "HotswapFilter": "agent_mode.server.pipeline",
    "HotswapValves": "agent_mode.valves",
    "Image": "agent_mode.agents.engine",
    "PersonaManifold": "agent_mode.server.pipeline",
    "PersonaValves": "agent_mode.valves",
    "Source": "agent_mode.agents.engine",
    "ToolError": "agent_mode.errors",
    "bar_chart": "agent_mode.agents.charts",
    "build_agent_switch_prompt": "agent_mode.prompts.reset",
    "detect_agent_switch": "agent_mode.chat.switching",
    "get_system_prompt": "agent_mode.prompts.reset",
    "plan_turn": "agent_mode.chat.switching",
    "stream_chat_response": "agent_mode.chat.library",
    "table_of": "agent_mode.agents.sheets",
}


def __getattr__(name: str) -> Any:
    # Lazy: a program that only builds prompts does not pay for the server.
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)
