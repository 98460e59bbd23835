"""The hard reset: a pure function from messages, old agent, new agent and strategy to messages and a report.

Its parts stand in the order in which they are applied: take our earlier blocks out (`blocks.py`), treat the
history (`history.py`), write the system text, place it, add the pivot next to the last user message.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from agent_mode.errors import AgentModeError
from agent_mode.prompts import blocks, guard, history
from agent_mode.prompts.strategies import SIMPLE_STRATEGY, Pivot, Strategy
from agent_mode.prompts.templates import MINIMAL, SIMPLE, Templates

Message = dict[str, Any]
"""One message in OpenAI's chat format: `role`, `content` (text or parts), `tool_calls`, …"""

UNKNOWN_NAME = "the previous assistant"
"""How we call whoever answered before when it was none of ours."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who answers, as far as prompts are concerned.

    Args:
        key: slug.
        name: what it is called, without emoji.
        instructions: its system prompt; data, never a template.
    """

    key: str
    name: str
    instructions: str


@dataclass(frozen=True, slots=True)
class SwitchReport:
    """What the reset did: for logs, metrics and the admin page."""

    strategy: str
    template: str | None
    placement: str
    pivot: str
    history: str
    fallbacks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SwitchPlan:
    """The messages to send and the report on how they came about."""

    messages: list[Message]
    report: SwitchReport


@dataclass(slots=True)
class _Fallbacks:
    """Categories of what went wrong on the way; a switch never fails the chat."""

    categories: list[str] = field(default_factory=list)


def get_system_prompt(agent: Identity, base_instructions: str = "") -> str:
    """The agent's system prompt when nothing is switched.

    Args:
        agent: who answers.
        base_instructions: what the chat or the workspace model demands besides; kept after the persona.
    """
    text = guard.clean_instructions(agent.instructions)
    if base_instructions:
        text += "\n\n" + blocks.wrap_base(guard.clean_instructions(base_instructions))
    return text


def build_agent_switch_prompt(
    agent: Identity,
    previous: Identity | None,
    strategy: Strategy,
    templates: Templates,
    base_instructions: str = "",
) -> str:
    """The text of the hard reset, from the template that the strategy names.

    Falls back to `simple` when the template cannot be loaded, to `minimal` when that fails too.
    """
    return _switch_prompt(agent, previous, strategy, templates, base_instructions, _Fallbacks())[0]


def _switch_prompt(
    agent: Identity,
    previous: Identity | None,
    strategy: Strategy,
    templates: Templates,
    base_instructions: str,
    fallbacks: _Fallbacks,
) -> tuple[str, str]:
    values = {
        "agentName": guard.clean_name(agent.name),
        "agentInstructions": guard.clean_instructions(agent.instructions),
        "previousAgentName": guard.clean_name(previous.name) if previous else UNKNOWN_NAME,
        "baseInstructions": blocks.wrap_base(guard.clean_instructions(base_instructions))
        if base_instructions
        else "",
    }
    try:
        template = templates.get(strategy.template)
    except AgentModeError:
        fallbacks.categories.append("template_missing")
        template = SIMPLE
    try:
        text = template.render(values)
    except (KeyError, ValueError, TypeError):
        fallbacks.categories.append("template_failed")
        template, text = MINIMAL, MINIMAL.render(values)
    if base_instructions and values["baseInstructions"] not in text:
        text += "\n\n" + values["baseInstructions"]
    return text, template.name


def hard_reset(
    messages: list[Message],
    agent: Identity,
    previous: Identity | None,
    strategy: Strategy,
    templates: Templates,
    policy: str | None = None,
) -> SwitchPlan:
    """Makes the new agent really take over.

    Args:
        messages: the transcript as it came, oldest first; not changed.
        agent: who answers from now on.
        previous: who answered before; None when it was none of ours.
        strategy: how the model family behind the agent is best told.
        templates: where the strategy's template is found.
        policy: history policy that overrides the strategy's (`full`, `relabel`, `summary`, `last_n`, `none`).
    """
    fallbacks = _Fallbacks()
    clean, base = _prepared(messages, strategy)
    # Where the block is appended, the chat's own instructions stay first, as the model has seen them.
    appended = strategy.placement == "append_system"
    if strategy is SIMPLE_STRATEGY:
        fallbacks.categories.append("strategy_unavailable")
    inside = "" if appended else base
    text, template = _switch_prompt(agent, previous, strategy, templates, inside, fallbacks)
    policy = policy or strategy.history
    old_name = guard.clean_name(previous.name) if previous else UNKNOWN_NAME
    treated = history.apply(clean, policy, old_name)
    placed = _place(treated, blocks.wrap(agent.key, text), strategy, switched=True)
    if appended and base:
        placed = [{"role": _system_role(strategy), "content": base}, *placed]
    placed, pivot = _add_pivot(placed, _pivot_text(agent, old_name, strategy), strategy)
    return SwitchPlan(
        _finish(placed, strategy),
        SwitchReport(
            strategy=strategy.id,
            template=template,
            placement=strategy.placement,
            pivot=pivot,
            history=policy,
            fallbacks=tuple(fallbacks.categories),
        ),
    )


def keep_on(messages: list[Message], agent: Identity, strategy: Strategy) -> SwitchPlan:
    """The messages of a turn in which nothing is switched: the plain system prompt, in its place."""
    clean, base = _prepared(messages, strategy)
    block = blocks.wrap(agent.key, get_system_prompt(agent, base))
    placed = _place(clean, block, strategy, switched=False)
    return SwitchPlan(
        _finish(placed, strategy),
        SwitchReport(strategy.id, None, strategy.placement, "none", "full"),
    )


def instructions_only(messages: list[Message], agent: Identity) -> SwitchPlan:
    """The last fallback: the agent's instructions in front of the last user message, nothing else."""
    text = guard.clean_instructions(agent.instructions)
    system: Message = {"role": "system", "content": blocks.wrap(agent.key, text)}
    last = [message for message in messages if message.get("role") == "user"][-1:]
    report = SwitchReport("none", None, "replace_first", "none", "none", ("context_failed",))
    return SwitchPlan([system, *last], report)


def _prepared(messages: list[Message], strategy: Strategy) -> tuple[list[Message], str]:
    """The messages without our own blocks and without the base instructions, and those instructions."""
    clean, recovered = blocks.remove_all(messages)
    if "strip_reasoning" in strategy.special_handling:
        clean = history.strip_reasoning(clean)
    clean = history.drop_orphans(clean)
    system, rest = blocks.split_system(clean)
    base = "\n\n".join(dict.fromkeys([*recovered, *system]))
    return rest, base


def _system_role(strategy: Strategy) -> str:
    return "developer" if "developer_role" in strategy.special_handling else "system"


def _place(messages: list[Message], block: str, strategy: Strategy, *, switched: bool) -> list[Message]:
    placement = strategy.placement
    if "no_system" in strategy.special_handling and placement not in ("first_user", "first_and_last_user"):
        placement = "first_user"
    if placement in ("first_user", "first_and_last_user"):
        return _into_first_user(messages, block)
    system: Message = {"role": _system_role(strategy), "content": block}
    if placement == "append_system" and switched:
        after = _last_user(messages) + 1
        return [*messages[:after], system, *messages[after:]]
    return [system, *messages]


def _into_first_user(messages: list[Message], block: str) -> list[Message]:
    index = next((i for i, m in enumerate(messages) if m.get("role") == "user"), None)
    if index is None:
        return [{"role": "user", "content": block}, *messages]
    return [*messages[:index], blocks.prepend(messages[index], block), *messages[index + 1 :]]


def _last_user(messages: list[Message]) -> int:
    return max((i for i, m in enumerate(messages) if m.get("role") == "user"), default=len(messages) - 1)


_MEMORY = {
    "high": "Everything the user said and gave you so far stays valid.",
    "medium": "What the user said so far stays valid; take the earlier replies as information only.",
    "low": "Use the earlier conversation only where this message needs it.",
}


def _pivot_text(agent: Identity, old_name: str, strategy: Strategy) -> str:
    """One line for the last user message: recency beats position. Length grows with the assertiveness."""
    if strategy.pivot == "none" and strategy.placement != "first_and_last_user":
        return ""
    name = guard.clean_name(agent.name)
    lines = [f"From this message on, {name} answers."]
    if strategy.assertiveness in ("medium", "high"):
        lines.append(f"The replies above were written by {old_name}. {_MEMORY[strategy.contextual_memory]}")
    if strategy.assertiveness == "high":
        lines.append(f"Do not continue the style, the format or the self-description of {old_name}.")
    return " ".join(lines)


def _add_pivot(messages: list[Message], text: str, strategy: Strategy) -> tuple[list[Message], Pivot]:
    """The messages with the line beside the last user message, and its role."""
    block = blocks.wrap_pivot(text)
    index = next((i for i in range(len(messages) - 1, -1, -1) if messages[i].get("role") == "user"), None)
    if index is None or not text:
        return messages, "none"
    if strategy.pivot == "system" and "no_system" not in strategy.special_handling:
        system: Message = {"role": _system_role(strategy), "content": block}
        return [*messages[:index], system, *messages[index:]], "system"
    return [*messages[:index], blocks.prepend(messages[index], block), *messages[index + 1 :]], "user"


def _finish(messages: list[Message], strategy: Strategy) -> list[Message]:
    return history.merge_neighbours(messages) if "alternate_roles" in strategy.special_handling else messages
