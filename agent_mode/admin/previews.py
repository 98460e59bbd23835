"""What a model would be sent when one persona takes over from another, and which strategy says so and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent_mode.agents.persona import identity
from agent_mode.chat.commands import Grammar
from agent_mode.chat.runtime import Runtime
from agent_mode.chat.switching import plan_turn
from agent_mode.errors import RequestError, StrategyError, TemplateError
from agent_mode.prompts.reset import Identity, SwitchReport
from agent_mode.prompts.strategies import SUFFIX, Selection, Strategy
from agent_mode.prompts.templates import Template, Templates
from agent_mode.valves import PersonaValves

SAMPLE: tuple[dict[str, Any], ...] = (
    {"role": "user", "content": "I would like to read more. Where do I begin?"},
    {"role": "assistant", "content": "Begin with ten pages each evening, of a book that you want to finish."},
    {"role": "user", "content": "Which book would you take?"},
)
"""A chat in the middle of which somebody else takes over."""


@dataclass(frozen=True, slots=True)
class Preview:
    """The messages that a model would get."""

    model: str
    selection: Selection
    messages: list[dict[str, Any]]
    report: SwitchReport
    switched: bool


def known(runtime: Runtime, key: str) -> Identity:
    """The persona with this key, as who answers.

    Raises:
        RequestError: code `persona_not_found`: there is none, or it is disabled.
    """
    persona = runtime.personas.get(key)
    if persona is None:
        raise RequestError(
            f"There is no enabled persona {key[:64]!r}.",
            hint="Choose one of the list.",
            code="persona_not_found",
            status=404,
        )
    return identity(persona)


def fitting(strategies: Sequence[Strategy], word: str = "", provider: str | None = None) -> list[Strategy]:
    """Those of the strategies that belong into a list. Pure.

    Args:
        strategies: of which.
        word: part of the id, the template, the type or the reason, in whichever case.
        provider: whose; None: anybody's.
    """
    word = word.strip().casefold()
    return [
        s
        for s in strategies
        if (not provider or s.provider == provider)
        and word in f"{s.id}\n{s.template}\n{s.type}\n{s.why}".casefold()
    ]


@dataclass(frozen=True, slots=True)
class Drafted:
    """The templates, of which one is not saved yet."""

    saved: Templates
    draft: Template

    def get(self, name: str) -> Template:
        """As of `Templates`."""
        return self.draft if name == self.draft.name else self.saved.get(name)


def preview(
    runtime: Runtime,
    valves: PersonaValves,
    agent: Identity,
    previous: Identity | None,
    model: str,
    *,
    base: str = "",
    strategy: Strategy | None = None,
    templates: Templates | None = None,
) -> Preview:
    """Does what a turn does, with a sample chat.

    Args:
        runtime: of the server.
        valves: of the personas pipeline.
        agent: who takes over.
        previous: who answered before; the same as `agent`: nobody takes over. None: none of ours.
        model: that speaks as the agent.
        base: what the chat itself demands of the model, such as a workspace model's system prompt.
        strategy: in place of the model's own.
        templates: in place of the saved ones.
    """
    selection = runtime.strategies.select(model)
    system = [{"role": "system", "content": base.strip()}] if base.strip() else []
    switched = previous is None or previous.key != agent.key
    policy = valves.history_policy
    plan = plan_turn(
        [*system, *SAMPLE],
        agent,
        previous,
        strategy or selection.strategy,
        templates or runtime.templates,
        Grammar(runtime.personas.keys, valves.keyword_prefix, valves.case_sensitive),
        switched=switched,
        policy=None if policy == "strategy" else policy,
    )
    return Preview(model, selection, plan.messages, plan.report, switched)


def reason(selection: Selection) -> str:
    """Why a model gets this strategy, as a sentence. Pure."""
    strategy, matched = selection.strategy, selection.matched
    file = f"{strategy.provider}{SUFFIX}"
    match selection.matched_by:
        case "exact":
            return f"{file} has an entry for exactly this model: {matched}."
        case "pattern":
            return f"Of all patterns that fit it, “{matched}” in {file} is the most exact."
        case "provider":
            return f"No entry fits, but “{matched}” says that it is one of {file}, whose default this is."
        case _ if strategy.provider == "built-in":
            return f"Nothing fits, and default{SUFFIX} cannot be used, so it is the built-in strategy."
        case _:
            return f"Nothing fits, so it is the default of {file}."


def text_of(message: Mapping[str, Any]) -> str:
    """A message's text. Pure."""
    content = message.get("content")
    if isinstance(content, list):
        return "\n".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return str(content or "")


def told(found: Selection, templates: Templates) -> Sequence[tuple[str, str]]:
    """What a strategy says, by name, as a person reads it."""
    strategy = found.strategy
    try:
        template = templates.get(strategy.template).name
    except TemplateError as error:
        template = f"{strategy.template} ({error.message})"
    return (
        ("Strategy", strategy.id),
        ("Provider", strategy.provider),
        ("Template", template),
        ("Type", strategy.type),
        ("Assertiveness", strategy.assertiveness),
        ("Contextual memory", strategy.contextual_memory),
        ("Placement", strategy.placement),
        ("Pivot", strategy.pivot),
        ("History", strategy.history),
        ("Special handling", ", ".join(sorted(strategy.special_handling))),
        ("Checked on", strategy.checked_on),
        ("Source", strategy.source),
    )


def missing_templates(strategies: Sequence[Strategy], names: Sequence[str]) -> list[StrategyError]:
    """What strategies name that is not there. Pure."""
    return [
        StrategyError(
            f"{strategy.id} names the template {strategy.template}, which there is not.",
            hint=f"Add it, or name one of: {', '.join(names) or 'none'}. Until then it is `simple`.",
            field=f"strategies.{strategy.id}.agentSwitchTemplate",
        )
        for strategy in strategies
        if strategy.template not in names
    ]
