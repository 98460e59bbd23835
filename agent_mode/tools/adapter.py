"""Tools for agents in the forms in which frameworks and plain Python take them."""

from __future__ import annotations

import inspect
import keyword
import re
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from agent_mode.errors import ToolError
from agent_mode.tools import results
from agent_mode.tools.results import Content
from agent_mode.tools.specs import ToolSpec, model_from_schema

if TYPE_CHECKING:
    from llama_index.core.tools import FunctionTool

_TYPES: dict[str, Any] = {
    "string": str,
    "integer": int,
    "number": float,
    "boolean": bool,
    "array": list,
    "object": dict,
    "null": None,
}
_NO_NAME = re.compile(r"\W")


class Result(Protocol):
    """What a tool gave."""

    @property
    def content(self) -> Content: ...

    @property
    def is_error(self) -> bool: ...


Execute = Callable[[str, dict[str, Any]], Awaitable[Result]]
"""Calls a tool by its name."""


class OpenWebUIToolAdapter:
    """The tools that a user may use, as LlamaIndex's and as plain callables.

    Args:
        specs: the tools.
        execute: calls one of them; what goes wrong with the tool is in the result.
    """

    def __init__(self, specs: Sequence[ToolSpec], execute: Execute) -> None:
        self._specs = tuple(specs)
        self._execute = execute

    def function_tools(self, *, reserved: Collection[str] = (), pictures: bool = True) -> list[FunctionTool]:
        """As tools of LlamaIndex; each has the schema of the tool itself.

        Args:
            reserved: names that the framework keeps for itself; a tool of such a name gets another one.
            pictures: whether the agent can look at pictures; else they are mentioned in the text.
        """
        from llama_index.core.tools import FunctionTool, ToolMetadata  # noqa: PLC0415  it costs seconds

        taken = {spec.name for spec in self._specs} | set(reserved)
        tools: list[FunctionTool] = []
        for spec in self._specs:
            name = spec.name
            while name in reserved or (name != spec.name and name in taken):
                name = f"{name}_"
            taken.add(name)
            metadata = ToolMetadata(
                name=name, description=spec.description, fn_schema=model_from_schema(name, spec.parameters)
            )
            call, shown = self._runner(spec), _shower(name, pictures)
            tools.append(FunctionTool(async_fn=call, metadata=metadata, async_callback=shown))
        return tools

    def callables(self) -> dict[str, Callable[..., Coroutine[Any, Any, str]]]:
        """As async functions by tool name; each returns the result's text, and raises ToolError with what
        the tool says when it failed."""
        return {spec.name: self._callable(spec) for spec in self._specs}

    def _runner(self, spec: ToolSpec) -> Callable[..., Coroutine[Any, Any, Result]]:
        async def call(**arguments: Any) -> Result:
            return await self._execute(spec.name, arguments)

        return call

    def _callable(self, spec: ToolSpec) -> Callable[..., Coroutine[Any, Any, str]]:
        async def call(**arguments: Any) -> str:
            result = await self._execute(spec.name, arguments)
            text = results.text_of(result.content)
            if result.is_error:
                raise ToolError(text.removeprefix("Error: "), hint="Go on without it, or try another one.")
            return text

        call.__name__ = call.__qualname__ = _identifier(spec.name)
        call.__doc__ = spec.description
        signature = _signature(spec.parameters)
        call.__signature__ = signature  # pyright: ignore[reportFunctionMemberAccess]
        call.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()} | {"return": str}
        return call


def _shower(name: str, pictures: bool) -> Callable[[Result], Coroutine[Any, Any, Any]]:
    """Makes LlamaIndex's output of a result."""
    from llama_index.core.base.llms.types import ImageBlock, TextBlock  # noqa: PLC0415
    from llama_index.core.tools import ToolOutput  # noqa: PLC0415

    async def shown(result: Result) -> ToolOutput:
        text = results.text_of(result.content)
        blocks: list[Any] = [TextBlock(text=text)]
        if pictures:
            # Not validated: it would change addresses, and takes 60 ms for a picture of 3 MB.
            blocks += [ImageBlock.model_construct(url=url) for url in results.images_of(result.content)]
        return ToolOutput(
            tool_name=name, blocks=blocks, raw_input={}, raw_output=text, is_error=result.is_error
        )

    return shown


def _signature(parameters: dict[str, Any]) -> inspect.Signature:
    """Keyword arguments by a JSON schema, required ones first."""
    properties = parameters.get("properties")
    required = parameters.get("required") or ()
    found: list[inspect.Parameter] = []
    for name, schema in (properties if isinstance(properties, dict) else {}).items():
        if not name.isidentifier() or keyword.iskeyword(name):
            continue  # it can still be passed, as **{"odd-name": …}
        default = inspect.Parameter.empty
        if name not in required:
            default = schema.get("default") if isinstance(schema, dict) else None
        kind = inspect.Parameter.KEYWORD_ONLY
        found.append(inspect.Parameter(name, kind, default=default, annotation=_annotation(schema)))
    found.sort(key=lambda parameter: parameter.default is not inspect.Parameter.empty)
    return inspect.Signature(found, return_annotation=str)


def _annotation(schema: Any) -> Any:
    kind = schema.get("type") if isinstance(schema, dict) else None
    if isinstance(kind, list):
        kinds = [_TYPES[one] for one in kind if one in _TYPES]
        found: Any = kinds[0] if kinds else Any
        for one in kinds[1:]:
            found = found | one
        return found
    return _TYPES.get(kind, Any) if isinstance(kind, str) else Any


def _identifier(name: str) -> str:
    found = _NO_NAME.sub("_", name)
    return f"_{found}" if not found.isidentifier() or keyword.iskeyword(found) else found
