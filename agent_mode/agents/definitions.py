"""What the definition of each built-in agent type holds; the API's JSON schemas come from here."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

NAME = r"^[A-Za-z][A-Za-z0-9_-]{0,63}$"
"""A sub-agent's name: LLMs get it as part of a tool's arguments."""
MAX_INSTRUCTIONS = 200_000
MAX_CODE = 500_000


class Definition(BaseModel):
    """Base of all definitions: what is not known is refused, so that a typing error is seen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PersonaDefinition(Definition):
    """An agent that speaks as a persona and may use tools."""

    persona: str | None = Field(None, description="Key of the persona whose instructions hold", max_length=64)
    instructions: str | None = Field(
        None, description="Its own instructions; they go before the persona's", max_length=MAX_INSTRUCTIONS
    )
    model: str | None = Field(
        None, description="The provider's model; None: as the valves say", max_length=256
    )

    @model_validator(mode="after")
    def _says_who(self) -> Self:
        if not self.persona and not (self.instructions or "").strip():
            raise ValueError("either `persona` or `instructions` must say who it is")
        return self


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
        None, description="Names of the sub-agents that it may hand over to; None: all", max_length=50
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
    agents: list[SubAgent] = Field([], description="multi_agent: who works together", max_length=20)
    root: str | None = Field(None, description="multi_agent: who begins; None: the first")
    max_iterations: int = Field(20, description="Steps of one run", ge=1, le=200)
    memory_tokens: int = Field(
        60_000, description="How much of the chat it remembers, in tokens", ge=500, le=2_000_000
    )
    output: Literal["stream", "final"] = Field(
        "stream", description="stream: words as they come; final: only the last answer"
    )

    @field_validator("agents")
    @classmethod
    def _names_once(cls, agents: list[SubAgent]) -> list[SubAgent]:
        names = [agent.name for agent in agents]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two sub-agents are called {', '.join(twice)}")
        for agent in agents:
            unknown = sorted(set(agent.can_hand_over_to or ()) - set(names))
            if unknown:
                raise ValueError(
                    f"{agent.name} hands over to {', '.join(unknown)}, which is no sub-agent here"
                )
        return agents

    @model_validator(mode="after")
    def _fits_its_style(self) -> Self:
        if self.style == "multi_agent":
            if len(self.agents) < 2:
                raise ValueError("multi_agent needs at least two entries in `agents`")
            if self.root is not None and self.root not in {agent.name for agent in self.agents}:
                raise ValueError(f"`root` names {self.root}, which is no sub-agent here")
        elif self.agents:
            raise ValueError("`agents` are for the style multi_agent")
        elif not self.persona and not (self.instructions or "").strip():
            raise ValueError("either `persona` or `instructions` must say who it is")
        return self


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


class FileDefinition(Definition):
    """The agent of a pipeline file: everything stands in its code."""

    instructions: str | None = None
    model: str | None = None


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
