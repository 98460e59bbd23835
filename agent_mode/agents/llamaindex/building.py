"""The agent or workflow of LlamaIndex that a definition describes, or a pipeline file builds."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from llama_index.core.agent.react import ReActChatFormatter, ReActOutputParser
from llama_index.core.agent.react.types import BaseReasoningStep
from llama_index.core.agent.workflow import AgentWorkflow, BaseWorkflowAgent, FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.tools import BaseTool
from llama_index.core.workflow import Workflow

from agent_mode.agents.definitions import LlamaIndexDefinition, SubAgent
from agent_mode.agents.llamaindex.context import BuildContext
from agent_mode.agents.llamaindex.messages import as_words
from agent_mode.agents.llamaindex.own_tools import adopted
from agent_mode.agents.llamaindex.react import ANSWER, THOUGHT
from agent_mode.agents.work import Work
from agent_mode.errors import AgentError


class WordsFormatter(ReActChatFormatter):
    """Writes tool calls in the chat's history as text: a model without tool calls takes no others."""

    def format(
        self,
        tools: Sequence[BaseTool],
        chat_history: list[ChatMessage],
        current_reasoning: list[BaseReasoningStep] | None = None,
    ) -> list[ChatMessage]:
        words = [word for message in chat_history for word in as_words(message)]
        return super().format(tools, words, current_reasoning)


class LenientParser(ReActOutputParser):
    """Takes an answer without a thought before it, which small models often give."""

    def parse(self, output: str, is_streaming: bool = False) -> BaseReasoningStep:
        before, answer, _ = output.partition(ANSWER)
        if answer and THOUGHT not in before:
            output = f"{THOUGHT} (none)\n{output}"
        return super().parse(output, is_streaming)


async def build(work: Work, context: BuildContext) -> Workflow:
    """The workflow of one run.

    Raises:
        AgentError: a pipeline file builds something else.
    """
    if work.spec.code is not None:
        return await _by_code(work, context)
    definition: LlamaIndexDefinition = work.spec.definition
    if definition.style == "multi_agent":
        root = definition.root or definition.agents[0].name
        agents = [_sub_agent(work, context, agent, root) for agent in definition.agents]
        return AgentWorkflow(agents=agents, root_agent=root)
    name = work.spec.name
    if definition.style == "react":
        return _react(work, context, None, name=name, system_prompt=context.system_prompt or None)
    return FunctionAgent(
        name=name, system_prompt=context.system_prompt or None, tools=list(context.tools), llm=context.llm
    )


def agents_of(workflow: Workflow) -> dict[str, BaseWorkflowAgent]:
    """The agents in a workflow by name; none, if it is one of another kind."""
    if isinstance(workflow, BaseWorkflowAgent):
        return {workflow.name: workflow}
    return dict(workflow.agents) if isinstance(workflow, AgentWorkflow) else {}


def _sub_agent(work: Work, context: BuildContext, agent: SubAgent, root: str) -> BaseWorkflowAgent:
    prompt = agent.instructions
    if agent.name == root and context.system_prompt:
        prompt = f"{context.system_prompt}\n\n{prompt}"
    described: dict[str, Any] = {
        "name": agent.name,
        "description": agent.description,
        "system_prompt": prompt,
        "can_handoff_to": agent.can_hand_over_to,
    }
    if agent.style == "react":
        return _react(work, context, agent.tools, **described)
    tools = context.function_tools(work.tools.subset(agent.tools))
    return FunctionAgent(tools=list(tools), llm=context.llm, **described)


def _react(work: Work, context: BuildContext, patterns: Sequence[str] | None, **described: Any) -> ReActAgent:
    tools = context.function_tools(work.tools.subset(patterns), pictures=False)
    return ReActAgent(
        tools=list(tools),
        llm=context.llm,
        formatter=WordsFormatter.from_defaults(context=described.get("system_prompt")),
        output_parser=LenientParser(),
        **described,
    )


async def _by_code(work: Work, context: BuildContext) -> Workflow:
    built = work.spec.code.build(context)
    if inspect.isawaitable(built):
        built = await built
    if not isinstance(built, Workflow):
        raise AgentError(
            f"build() of {work.spec.name} returned {type(built).__name__}.",
            hint="It must return a LlamaIndex agent, an AgentWorkflow or a Workflow, not its result.",
            code="agent_build",
        )
    for agent in agents_of(built).values():
        if agent.tools:
            agent.tools = list(adopted(work, context, agent.tools))
    _without_default_timeout(built)
    return built


def _without_default_timeout(workflow: Workflow) -> None:
    """Lets the valves say how long a run may take; LlamaIndex ends a workflow after 45 seconds by default."""
    default = inspect.signature(Workflow.__init__).parameters["timeout"].default
    if workflow._timeout == default:
        workflow._timeout = None
