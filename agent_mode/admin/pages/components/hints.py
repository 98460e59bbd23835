"""What to do about an error, said to people at the page: the errors' own hints may speak to programs."""

from __future__ import annotations

from typing import NamedTuple

from agent_mode.errors import AgentModeError


class WayBack(NamedTuple):
    """A page to go to."""

    text: str
    path: str


_GONE = "It may have been deleted or renamed meanwhile. The list shows what there is."
_AGENTS = WayBack("To the agents", "/agents")
_PERSONAS = WayBack("To the personas", "/personas")
_RUNS = WayBack("To the runs", "/runs")
_STRATEGIES = WayBack("To the strategies", "/strategies")
_VALVES = WayBack("To the valves", "/valves")

_CURES: dict[str, tuple[str, WayBack | None]] = {
    "agent_not_found": (_GONE, _AGENTS),
    "persona_not_found": (_GONE, _PERSONAS),
    "run_not_found": ("It may be older than what is kept. The list shows those that there are.", _RUNS),
    "strategy_file_not_found": (_GONE, _STRATEGIES),
    "strategy_not_found": (_GONE, _STRATEGIES),
    "pipeline_not_found": (_GONE, _VALVES),
    "no_valves": ("", _VALVES),
    "valves_unreadable": ("", _VALVES),
    "agent_disabled": ("Switch it on in the list of agents.", _AGENTS),
    "unknown_agent_type": ("Choose one of the templates.", WayBack("To the templates", "/agents/new")),
}
"""By code: the hint, empty where the error's own does, and where to go on."""


def hint_of(error: AgentModeError) -> str:
    """The cure, as a person at the page can apply it."""
    return _CURES.get(error.code, ("", None))[0] or error.hint


def way_back(error: AgentModeError) -> WayBack | None:
    """Where to go on after this error; None: the page itself is still of use."""
    return _CURES.get(error.code, ("", None))[1]
