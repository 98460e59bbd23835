"""What the definition of each built-in agent type holds; the API's JSON schemas come from here."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from agent_mode.errors import Problem
from agent_mode.sandbox.check import check
from agent_mode.store.versions import one_line

NAME = r"^[A-Za-z][A-Za-z0-9_-]{0,63}$"
"""A sub-agent's name: LLMs get it as part of a tool's arguments."""
MAX_INSTRUCTIONS = 200_000
MAX_CODE = 500_000
_MAX_AGENTS = 20
_MAX_HAND_OVERS = 50


class Definition(BaseModel):
    """Base of all definitions: what is not known is refused, so that a typing error is seen."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def misfits(cls, values: Mapping[str, Any]) -> Iterator[Problem]:
        """What does not fit together, by field (`agents.1.name`); what single fields hold, the schema says.

        Reads what came, not an instance: so it tells all it can also where a field is wrong by itself. What
        is of the wrong kind it passes over.
        """
        yield from ()


class PersonaDefinition(Definition):
    """An agent that speaks as a persona and may use tools."""

    persona: str | None = Field(None, description="Key of the persona whose instructions hold", max_length=64)
    instructions: str | None = Field(
        None, description="Its own instructions; they go before the persona's", max_length=MAX_INSTRUCTIONS
    )
    model: str | None = Field(
        None, description="The provider's model; None: as the valves say", max_length=256
    )

    @classmethod
    def misfits(cls, values: Mapping[str, Any]) -> Iterator[Problem]:
        yield from _says_who(values)


class SubAgent(Definition):
    """One of several agents that work together by handing over to one another."""

    name: str = Field(description="What the others hand over to", pattern=NAME)
    description: str = Field(
        description="What it is good for; the others read it", min_length=1, max_length=4000
    )
    instructions: str = Field(description="Its system prompt", min_length=1, max_length=MAX_INSTRUCTIONS)
    style: Literal["function", "react"] = Field(
        "function", description="function: the LLM's own tool calls; react: thought and action as text"
    )
    tools: list[str] | None = Field(
        None, description="Names or patterns of its tools; None: all that the agent has", max_length=200
    )
    can_hand_over_to: list[str] | None = Field(
        None,
        description="Names of the sub-agents that it may hand over to; None: all",
        max_length=_MAX_HAND_OVERS,
    )


class LlamaIndexDefinition(Definition):
    """A LlamaIndex agent: one that calls tools, one that reasons in text, or several that hand over."""

    style: Literal["function", "react", "multi_agent"] = Field(
        "function",
        description="function: the LLM's own tool calls; react: thought and action as text, for models "
        "without tool calls; multi_agent: the sub-agents hand over to one another",
    )
    persona: str | None = Field(None, description="Key of the persona whose instructions hold", max_length=64)
    instructions: str | None = Field(None, description="Its system prompt", max_length=MAX_INSTRUCTIONS)
    model: str | None = Field(
        None, description="The provider's model; None: as the valves say", max_length=256
    )
    tools: list[str] | None = Field(
        None, description="Names or patterns of its tools; None: all that the user has", max_length=200
    )
    agents: list[SubAgent] = Field([], description="multi_agent: who works together", max_length=_MAX_AGENTS)
    root: str | None = Field(None, description="multi_agent: who begins; None: the first")
    max_iterations: int = Field(20, description="Steps of one run", ge=1, le=200)
    memory_tokens: int = Field(
        60_000, description="How much of the chat it remembers, in tokens", ge=500, le=2_000_000
    )
    output: Literal["stream", "final"] = Field(
        "stream", description="stream: words as they come; final: only the last answer"
    )

    @classmethod
    def misfits(cls, values: Mapping[str, Any]) -> Iterator[Problem]:
        agents = values.get("agents", [])
        listed = agents if isinstance(agents, list) else []
        names = [agent.get("name") if isinstance(agent, Mapping) else None for agent in listed]
        known = dict.fromkeys(name for name in names if isinstance(name, str))
        for place, name in enumerate(names[:_MAX_AGENTS]):
            if isinstance(name, str) and name in names[:place]:
                message = f"Another sub-agent is called {_quoted(name)} already."
                yield Problem(f"agents.{place}.name", message, "Give each sub-agent a name of its own.")
            yield from _hand_overs(listed[place], place, known)
        style = values.get("style", "function")
        if style == "multi_agent":
            if agents == [] or (listed and len(listed) < 2):
                message = "The style multi_agent needs at least two sub-agents."
                yield Problem("agents", message, "Add another one, or choose another `style`.")
            root = values.get("root")
            if isinstance(root, str) and root not in known:
                message = f"{_quoted(root)} is no sub-agent here."
                yield Problem("root", message, f"{_one_of(known)}; or leave it out, and the first begins.")
        elif style in ("function", "react"):
            cure = "Leave it out, or set `style` to multi_agent."
            if listed:
                yield Problem("agents", "Sub-agents are for the style multi_agent.", cure)
            if values.get("root") is not None:
                yield Problem("root", "Who begins is for the style multi_agent.", cure)
            yield from _says_who(values)


class CustomPythonDefinition(Definition):
    """Python code with `async def run(turn, tools, llm, call_agent, status)`."""

    code: str = Field(description="The module's text", min_length=1, max_length=MAX_CODE)
    instructions: str | None = Field(
        None,
        description="A system prompt that the code finds in `turn.messages`",
        max_length=MAX_INSTRUCTIONS,
    )
    model: str | None = Field(
        None, description="The provider's model; None: as the valves say", max_length=256
    )

    @classmethod
    def misfits(cls, values: Mapping[str, Any]) -> Iterator[Problem]:
        code = values.get("code")
        if isinstance(code, str) and 0 < len(code) <= MAX_CODE:
            yield from (Problem("code", str(found), found.hint) for found in check(code))


class FileDefinition(Definition):
    """The agent of a pipeline file: everything stands in its code."""

    instructions: str | None = None
    model: str | None = None


def _says_who(values: Mapping[str, Any]) -> Iterator[Problem]:
    persona, own = values.get("persona"), values.get("instructions")
    if persona in (None, "") and (own is None or (isinstance(own, str) and not own.strip())):
        message = "Either `persona` or `instructions` must say who it is."
        yield Problem("instructions", message, "Write its system prompt, or name a persona.")


def _hand_overs(agent: Any, place: int, known: Collection[str]) -> Iterator[Problem]:
    """What is wrong with the hand-overs of one sub-agent; `known` are the names of all."""
    others = agent.get("can_hand_over_to") if isinstance(agent, Mapping) else None
    others = others if isinstance(others, list) else []
    named = {name for name in others[:_MAX_HAND_OVERS] if isinstance(name, str)}
    unknown = sorted(name for name in named if name not in known)
    if unknown:
        is_none = "is no sub-agent" if len(unknown) == 1 else "are no sub-agents"
        message = f"{', '.join(map(_quoted, unknown))} {is_none} here."
        yield Problem(f"agents.{place}.can_hand_over_to", message, f"{_one_of(known)}.")


def _one_of(names: Collection[str]) -> str:
    some = [*names][:_MAX_AGENTS]
    return f"Known: {', '.join(map(_quoted, some))}" if some else "Add it to `agents`"


def _quoted(name: str) -> str:
    return f"“{one_line(name, 64)}”"


def example(definition: type[BaseModel]) -> dict[str, Any]:
    """A definition to begin with, for the API's documentation and for templates."""
    return _EXAMPLES.get(definition, {})


_EXAMPLES: dict[type[BaseModel], dict[str, Any]] = {
    PersonaDefinition: {"persona": "coder", "instructions": "Answer with runnable examples."},
    LlamaIndexDefinition: {
        "style": "function",
        "instructions": "You find facts. Use the tools; say where each fact comes from.",
        "tools": ["search_*"],
        "max_iterations": 12,
    },
    CustomPythonDefinition: {
        "code": "async def run(turn, tools, llm, call_agent, status):\n"
        '    await status("Counting…")\n'
        '    yield f"You wrote {len(turn.text.split())} words."\n'
    },
}
