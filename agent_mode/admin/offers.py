"""What there is to pick from while an agent is written: models, tools, personas, other agents."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

from agent_mode.chat.runtime import Runtime
from agent_mode.errors import AgentModeError, ConfigurationError
from agent_mode.llm import connection as connections
from agent_mode.store.personas import Persona
from agent_mode.tools.specs import ToolSpec
from agent_mode.valves import AgentValves

MOST = 50
"""So many personas are shown to pick from; who looks for another one types."""
_SECONDS = 5.0
"""How long the provider may take to list its models."""
_TOOL_SECONDS = 25.0
_KEY_REFUSED = (
    "Open WebUI does not accept this server's OPENWEBUI_API_KEY, so its tools cannot be listed. Setup says "
    "how to make another key. Until then, type the tools' names."
)


@dataclass(frozen=True, slots=True)
class Offer:
    """What somebody offers.

    Attributes:
        names: what can be picked.
        problem: why there is nothing, with the cure; empty: all went well.
    """

    names: list[str] = field(default_factory=list)
    problem: str = ""


@dataclass(frozen=True, slots=True)
class ToolOffer:
    """The tools that Open WebUI offers the admin whose key the server has."""

    tools: list[ToolSpec] = field(default_factory=list)
    problem: str = ""

    @property
    def names(self) -> list[str]:
        return sorted({tool.original for tool in self.tools})


async def models(runtime: Runtime, valves: AgentValves) -> Offer:
    """The models of the connection that these valves choose."""
    try:
        connection = connections.resolve(
            runtime.settings, base_url=valves.llm_base_url, api_key=valves.llm_api_key
        )
        async with asyncio.timeout(_SECONDS):
            found = await runtime.llm.models(connection)
    except TimeoutError:
        return Offer(problem="The model provider does not answer. Type the model's name.")
    except ConfigurationError as error:
        return Offer(problem=f"{error.message} {error.hint}")
    except AgentModeError as error:
        return Offer(problem=f"The models cannot be listed: {error.message} {error.hint}")
    return Offer(sorted(entry["id"] for entry in found))


async def tools(runtime: Runtime) -> ToolOffer:
    """The tools of Open WebUI, as the admin sees them whose key is OPENWEBUI_API_KEY."""
    key = runtime.settings.openwebui_api_key
    if not runtime.openwebui.known or not key:
        return ToolOffer(
            problem="Tools are listed once OPENWEBUI_URL and OPENWEBUI_API_KEY are set. Type their names."
        )
    try:
        async with asyncio.timeout(_TOOL_SECONDS):
            return ToolOffer(await runtime.openwebui.tools_of(key))
    except TimeoutError:
        return ToolOffer(problem="Open WebUI does not answer. Type the tools' names.")
    except AgentModeError as error:
        if error.code == "tool_credential":  # not a user's: it is the server's own
            return ToolOffer(problem=_KEY_REFUSED)
        return ToolOffer(problem=f"The tools cannot be listed: {error.message} {error.hint}")


def personas(everyone: Sequence[Persona], word: str = "", most: int = MOST) -> dict[str, str]:
    """The personas that fit a word best, by key: how they are shown in a list. Pure.

    Args:
        everyone: of which.
        word: part of how one is shown, in whichever case; empty: those that come first.
        most: so many at most.
    """
    word = word.strip().casefold()
    if not word:
        return {p.key: persona_in_words(p) for p in everyone[:most]}
    found = ((rank, p) for p in everyone if (rank := _rank(p, word)) is not None)
    best = heapq.nsmallest(most, found, key=lambda entry: entry[0])
    return {p.key: persona_in_words(p) for _, p in best}


def persona_in_words(persona: Persona) -> str:
    """How a persona is shown in a list."""
    return f"{persona.display_name} ({persona.key})"


def _rank(persona: Persona, word: str) -> tuple[bool, int] | None:
    """How well a persona fits, the less the better; None: it does not."""
    shown = persona_in_words(persona).casefold()
    if word not in shown:
        return None
    begins = persona.key.startswith(word) or persona.name.casefold().startswith(word)
    return not begins, len(shown)
