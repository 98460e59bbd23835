"""What a new agent begins with: drafts that can be saved as they are, once they have an id and a name."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from agent_mode.agents.definitions import example
from agent_mode.agents.stored import CODE_TYPE
from agent_mode.agents.types import AgentType, all_types

_CODE = """async def run(turn, tools, llm, call_agent, status):
    async for part in llm.stream(turn.messages):
        yield part
    yield f"\\n\\nYou wrote {len(turn.text.split())} words."
"""


@dataclass(frozen=True, slots=True)
class Template:
    """One way to begin.

    Attributes:
        key: in the address.
        title: as people see it.
        text: what it is for.
        icon: name of a Material icon.
        values: the draft, without id and name.
    """

    key: str
    title: str
    text: str
    icon: str
    values: dict[str, Any] = field(repr=False)


def templates(*, allow_code: bool) -> list[Template]:
    """All templates: ours, and one for each type that a third party has registered.

    Args:
        allow_code: whether agents may bring Python code of their own here.
    """
    kinds = all_types()
    ours = [template for template in _OURS if template.values["agent_type"] in kinds]
    known = {template.values["agent_type"] for template in ours}
    others = [_of_type(kind) for name, kind in sorted(kinds.items()) if name not in known]
    return [
        template for template in (*ours, *others) if allow_code or template.values["agent_type"] != CODE_TYPE
    ]


def draft_of(key: str, *, allow_code: bool) -> dict[str, Any] | None:
    """A draft to edit; None: there is no template of this key."""
    found = next((t for t in templates(allow_code=allow_code) if t.key == key), None)
    return None if found is None else {**EMPTY, **deepcopy(found.values)}


EMPTY: dict[str, Any] = {
    "id": "",
    "name": "",
    "description": "",
    "agent_type": "persona",
    "definition": {},
    "valves": {},
    "enabled": True,
    "access": "openwebui",
    "tags": [],
}
"""All fields of an agent, in the order in which they are shown."""


def _of_type(kind: AgentType) -> Template:
    values = {"agent_type": kind.name, "definition": example(kind.definition)}
    return Template(kind.name, kind.title, kind.description, "extension", values)


_OURS = (
    Template(
        "persona",
        "Persona",
        "Speaks with instructions of yours, or as one of the personas; may use tools. The fastest.",
        "face",
        {
            "agent_type": "persona",
            "definition": {"instructions": "You are a patient expert. Answer briefly, with an example."},
        },
    ),
    Template(
        "function",
        "Function agent",
        "A LlamaIndex agent that calls tools until it knows the answer.",
        "build",
        {
            "agent_type": "llamaindex_workflow",
            "definition": {
                "style": "function",
                "instructions": "You find facts. Use the tools; say where each fact comes from.",
            },
        },
    ),
    Template(
        "react",
        "ReAct agent",
        "Reasons in text, step by step: for models that have no tool calls of their own.",
        "psychology",
        {
            "agent_type": "llamaindex_workflow",
            "definition": {
                "style": "react",
                "instructions": "You solve tasks in small steps. Use a tool where you do not know.",
            },
        },
    ),
    Template(
        "multi-agent",
        "Multi-agent",
        "Several agents that hand over to one another, each with its own instructions and tools.",
        "hub",
        {
            "agent_type": "llamaindex_workflow",
            "definition": {
                "style": "multi_agent",
                "agents": [
                    {
                        "name": "researcher",
                        "description": "Finds facts with the tools.",
                        "instructions": "Find what is needed to answer. Then hand over to the writer.",
                        "can_hand_over_to": ["writer"],
                    },
                    {
                        "name": "writer",
                        "description": "Writes the answer from what was found.",
                        "instructions": "Write a short, clear answer from what the researcher has found.",
                        "tools": [],
                        "can_hand_over_to": ["researcher"],
                    },
                ],
                "root": "researcher",
            },
        },
    ),
    Template(
        "python",
        "Custom Python",
        "Python code of your own, in a process of its own: full control.",
        "code",
        {"agent_type": CODE_TYPE, "definition": {"code": _CODE}},
    ),
)
