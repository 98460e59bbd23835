"""What LlamaIndex's agents do too slowly or too narrowly for us, changed where it has no option for it.

Tried with llama-index-core 0.14.25 and llama-index-workflows 2.26.1; imported before an agent is built.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from llama_index.core.agent.workflow import AgentWorkflow, BaseWorkflowAgent
from llama_index.core.workflow import Workflow
from workflows.utils import get_steps_from_class

MAX_PARALLEL = 100
"""How many tools one step may call side by side. LlamaIndex starts four at once and the others when those are
done, so a fifth one would reach the caller only in the next request."""


@cache
def _step_names(kind: type[Workflow]) -> tuple[str, ...]:
    return tuple(get_steps_from_class(kind))


def _get_steps(self: Workflow) -> dict[str, Any]:
    """The steps of an agent. LlamaIndex looks through all its attributes for them, a dozen times in a run:
    10 ms, more than everything else before the first word."""
    kind = type(self)
    return {name: getattr(self, name) for name in _step_names(kind)} | kind._step_functions


for _agent in (BaseWorkflowAgent, AgentWorkflow):
    _agent._get_steps = _get_steps  # pyright: ignore[reportAttributeAccessIssue]
    _agent.call_tool._step_config.num_workers = MAX_PARALLEL  # pyright: ignore[reportFunctionMemberAccess]
