"""Bodies to begin with, for the API's documentation. A test sends each of them."""

from __future__ import annotations

from typing import Any

AGENT: dict[str, Any] = {
    "id": "release-notes",
    "name": "Release notes",
    "description": "Turns a list of commits into release notes",
    "agent_type": "persona",
    "definition": {
        "persona": "technical_writer",
        "instructions": "Write release notes for users from a list of commits, grouped by what users gain.",
    },
    "valves": {"temperature": 0.2, "max_steps": 5},
    "tags": ["Writing"],
}

LLAMAINDEX: dict[str, Any] = {
    "id": "fact-finder",
    "name": "Fact finder",
    "description": "Searches, and says where each fact comes from",
    "agent_type": "llamaindex_workflow",
    "definition": {
        "style": "function",
        "instructions": "You find facts. Use the tools; say where each fact comes from.",
        "tools": ["search_*"],
        "max_iterations": 12,
    },
}

AGENTS = {"persona": AGENT, "llamaindex_workflow": LLAMAINDEX}

REPLACED_AGENT = {**AGENT, "name": "Release notes, short", "version": 1}

VALVES = {"temperature": 0.2, "allowed_tools": "search_*", "access": "everyone"}

PERSONA: dict[str, Any] = {
    "key": "sommelier",
    "name": "Sommelier",
    "emoji": "🍷",
    "category": "lifestyle",
    "prompt": "You are a sommelier. Ask what is on the table before you recommend a wine.",
    "description": "Recommends wines for a meal",
    "tags": ["food"],
}

REPLACED_PERSONA = {**PERSONA, "name": "Wine waiter", "version": "1.0.0"}

TEMPLATE = """You are {{agentName}} from now on.

{{agentInstructions}}

{{baseInstructions}}
"""

STRATEGIES = """{
  "provider": "acme",
  "match": ["acme-*"],
  "default": "acme-standard",
  "strategies": {
    "acme-standard": {
      "type": "simple",
      "agentSwitchTemplate": "simple",
      "assertiveness": "medium",
      "contextualMemory": "high",
      "specialHandling": [],
      "placement": "replace_first",
      "pivot": "user",
      "history": "full",
      "why": "Obeys the newest system message.",
      "source": ""
    }
  }
}
"""

RUN = {"input": "Which of these commits matter to users? fix: crash on start; chore: bump ruff"}
