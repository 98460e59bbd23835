"""What an agent is while it runs, and what it is asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from agent_mode.valves import AgentValves


@dataclass(frozen=True, slots=True)
class AgentSpec:
    """An agent that can be run, wherever it is defined.

    Args:
        id: what it is called by: `!id`, `call_agent`.
        name: as people see it.
        description: what it can do, for people and for the agents that may call it.
        agent_type: which engine runs it.
        definition: an instance of the type's definition model.
        valves: limits, model, tools, access.
        instructions: its system prompt; empty if it has none of its own.
        model_id: the model of Open WebUI that it is; whoever may use that may reach it.
        code: the object of a pipeline file whose `build()` or `run()` is called; None for the others.
    """

    id: str
    name: str
    description: str
    agent_type: str
    definition: Any
    valves: AgentValves
    instructions: str = ""
    model_id: str = ""
    code: Any = field(default=None, repr=False)

    @property
    def model(self) -> str | None:
        """The provider's model that it wants: the valve's, else the definition's; None: the connection's."""
        return self.valves.llm_model or getattr(self.definition, "model", None)


@dataclass(frozen=True, slots=True)
class Caller:
    """The user on whose behalf an agent works.

    Args:
        id: Open WebUI's id; None for callers without a user.
        name: as Open WebUI says.
        admin: whether Open WebUI calls the user an admin.
        credential: the user's own session token or API key, if it came with the request.
        stranger: whether nobody vouches for who it is; a script that uses our API is no stranger.
    """

    id: str | None = None
    name: str = ""
    admin: bool = False
    credential: str | None = field(default=None, repr=False)
    stranger: bool = False


@dataclass(frozen=True, slots=True)
class Task:
    """What an agent is asked.

    Args:
        messages: OpenAI messages, ready to send: system prompt, history, the request, and what tools that the
            caller executed gave since then.
        text: the user's words.
        caller: on whose behalf.
        chat_id, message_id: where in Open WebUI.
        tools: OpenAI tool specs that came with the request, which the caller executes.
        params: further fields of the request (`temperature`, …).
        interactive: whether a person looks on.
        run_id: of the run; None: by chat and message.
        relay: whether the caller can execute tools; else those of the request are called by loopback.
    """

    messages: list[dict[str, Any]]
    text: str
    caller: Caller = Caller()
    chat_id: str | None = None
    message_id: str | None = None
    tools: tuple[dict[str, Any], ...] = ()
    params: dict[str, Any] = field(default_factory=dict)
    interactive: bool = False
    run_id: str | None = None
    relay: bool = True
