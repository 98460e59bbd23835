"""Tools that a pipeline file's agent brings along: shown as a card in the chat, and called once in a run."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

from llama_index.core.tools import AsyncBaseTool, BaseTool, FunctionTool, ToolOutput, adapt_to_async_tool

from agent_mode.agents.llamaindex.context import BuildContext
from agent_mode.agents.llamaindex.messages import blocks_of, parts_of
from agent_mode.agents.toolbox import own_tool
from agent_mode.agents.work import Work
from agent_mode.errors import AgentModeError, ToolError
from agent_mode.observe.redaction import said, without_secrets

_context: ContextVar[Any] = ContextVar("workflow_context")


def adopted(work: Work, context: BuildContext, tools: Sequence[Any]) -> list[BaseTool]:
    """The tools with the agent's own put into its toolbox, where the run's limits, record and memo hold.

    Without that, what a tool did would be done again each time that the run goes on in a later request.
    """
    return [tool if context.is_bridged(tool) else _adopt(work, tool) for tool in map(_as_tool, tools)]


def _as_tool(tool: Any) -> BaseTool:
    return tool if isinstance(tool, BaseTool) else FunctionTool.from_defaults(tool)


def _adopt(work: Work, tool: BaseTool) -> FunctionTool:
    inner: AsyncBaseTool = adapt_to_async_tool(tool)
    metadata = tool.metadata
    wants = tool.ctx_param_name if isinstance(tool, FunctionTool) and tool.requires_context else None

    async def run(arguments: dict[str, Any]) -> Any:
        more = {wants: _context.get(None)} if wants else {}
        try:
            output = await inner.acall(**arguments, **more)
        except AgentModeError:
            raise
        except Exception as error:
            raise ToolError(
                f"{metadata.get_name()} failed with {type(error).__name__}: {said(error)}",
                hint="Try it in another way, or answer without it.",
            ) from error
        if output.is_error:
            raise ToolError(without_secrets(output.content) or f"{metadata.get_name()} failed.", hint="")
        return parts_of(output.blocks)

    schema = {"type": "object", "properties": {}, **metadata.get_parameters_dict()}
    key = work.tools.add(own_tool(metadata.get_name(), metadata.description, schema, run))
    if key != metadata.name:  # no model takes its own, or a tool of the user has it
        metadata = replace(metadata, name=key)

    async def call(**arguments: Any) -> Any:
        if wants:
            _context.set(arguments.pop(wants))
        return await work.tools.call(key, arguments)

    async def shown(result: Any) -> ToolOutput:
        return ToolOutput(
            tool_name=key,
            blocks=blocks_of(result.content),
            raw_input={},
            raw_output=result.text,
            is_error=result.is_error,
        )

    adopted_tool = FunctionTool(async_fn=call, metadata=metadata, async_callback=shown)
    adopted_tool.requires_context, adopted_tool.ctx_param_name = wants is not None, wants
    return adopted_tool
