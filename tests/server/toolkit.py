"""The tools that a user has in Open WebUI 0.12, as plain functions, executed as its middleware does.

    tools = Toolkit()

    @tools.add
    def roll_dice(sides: int = 6) -> str:
        "Rolls a die."
        return f"rolled {sides}"

    tools.add(weather, users={"user-2"})              # others do not even see it
    tools.add(search, delay=0.5)
    chat.ask("Roll!", "personas.coder", tools=tools).calls

A tool fails by raising, returns images as `data:` addresses, and is denied by `Toolkit(approve=…)`.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_type_hints, overload

from pydantic import ConfigDict, create_model

from tests.server.outputs import compact, is_error
from tests.server.wire import Stop

Json = dict[str, Any]
Function = Callable[..., Any]

NOT_APPROVED = "Error: tool call was not approved."
"""What a denied call returns in a chat that is not saved."""
REJECTED = "Error: tool call rejected by user."
"""What it returns in a saved chat."""
CITED = frozenset(
    {"fetch_url", "view_file", "view_knowledge_file", "query_knowledge_files", "query_chat_files"}
)
"""Tools whose results become sources: the user's message is wrapped into a citation prompt after them."""

_IMAGE = re.compile(r"data:image/[a-zA-Z0-9.+-]+;base64,[A-Za-z0-9+/]+={0,2}", re.IGNORECASE)


@dataclass
class Call:
    """One tool call and what came of it.

    Args:
        id: as the pipe sent it, unless Open WebUI had to give another.
        arguments: as they were parsed; None: they could not be.
        raw: their text, as the pipe sent it.
        result: the text that the model is told.
        status: `completed`, `failed`, `rejected`, or `incomplete` when stopped in the middle.
        images: addresses of the images in the result.
        round: number of the reply that called, from 1.
        began, ended: `time.monotonic()` around the execution; 0 when it was not executed.
    """

    id: str
    name: str
    raw: str
    round: int
    arguments: Any = None
    result: str = ""
    status: Literal["pending", "completed", "failed", "rejected", "incomplete"] = "pending"
    images: list[str] = field(default_factory=list)
    began: float = 0.0
    ended: float = 0.0


@dataclass(frozen=True)
class Tool:
    """One tool.

    Args:
        spec: name, description and JSON schema of the parameters.
        users: ids of those who may use it; None: everybody.
        delay: seconds before it runs; Stop ends them.
        mcp: answers with a list of MCP content items, and takes its arguments unfiltered.
    """

    function: Function
    spec: Json
    users: Collection[str] | None = None
    delay: float = 0.0
    mcp: bool = False


class Toolkit:
    """Tools of a chat.

    Args:
        approve: turns the approval mode on: is asked for each call, and says whether it may run.
        rounds: how often a message may call tools (`CHAT_RESPONSE_MAX_TOOL_CALL_ITERATIONS`).
    """

    def __init__(
        self, *functions: Function, approve: Callable[[Call], bool] | None = None, rounds: int | None = 256
    ) -> None:
        self.approve = approve
        self.rounds = rounds
        self._tools: dict[str, Tool] = {}
        for function in functions:
            self.add(function)

    @overload
    def add(self, function: Function) -> Function: ...

    @overload
    def add(
        self,
        function: None = None,
        *,
        spec: Json | None = None,
        users: Collection[str] | None = None,
        delay: float = 0.0,
        mcp: bool = False,
    ) -> Callable[[Function], Function]: ...

    @overload
    def add(
        self,
        function: Function,
        *,
        spec: Json | None = None,
        users: Collection[str] | None = None,
        delay: float = 0.0,
        mcp: bool = False,
    ) -> Function: ...

    def add(self, function: Function | None = None, *, spec: Json | None = None, **options: Any) -> Any:
        """Adds a tool, as a call or as a decorator; without a `spec` the signature tells it."""

        def register(function: Function) -> Function:
            told = spec or spec_of(function)
            self._tools[told["name"]] = Tool(function, told, **options)
            return function

        return register if function is None else register(function)

    @property
    def ids(self) -> list[str]:
        """What stands in `tool_ids`."""
        return ["kit"]

    def of(self, user_id: str) -> dict[str, Tool]:
        """The tools that a user may use; others are left out in silence."""
        return {n: t for n, t in self._tools.items() if t.users is None or user_id in t.users}

    def specs(self, user_id: str) -> list[Json]:
        """What the model is told of them."""
        return [{"type": "function", "function": tool.spec} for tool in self.of(user_id).values()]

    def execute(self, call: Call, user_id: str, stop: Stop, *, ask: bool = False) -> None:
        """Runs a call and writes down what came of it.

        Args:
            ask: ask for approval first, as it is done in chats that are not saved.

        Raises:
            Stopped: the user did not want to wait.
        """
        call.began, call.status = time.monotonic(), "incomplete"
        try:
            answer = self._run(call, user_id, stop, ask=ask)
        finally:
            call.ended = time.monotonic()
        if answer is None:  # also when the tool itself returned None
            call.result = (
                "Error: Tool call arguments could not be parsed. The model generated malformed or incomplete "
                f"JSON for `{call.name}`. Please try again."
            )
        else:
            call.result, call.images = as_text(call.name, answer, mcp=self._is_mcp(call.name))
        call.status = "failed" if is_error(call.result) else "completed"

    def _is_mcp(self, name: str) -> bool:
        return name in self._tools and self._tools[name].mcp

    def _run(self, call: Call, user_id: str, stop: Stop, *, ask: bool) -> Any:
        try:
            call.arguments = parsed(call.raw)
        except ValueError:
            return None
        if not isinstance(call.arguments, dict):
            return f"Error: Tool call arguments for `{call.name}` must be a JSON object. Please try again."
        tool = self.of(user_id).get(call.name)
        if tool is None:
            return f'Error: Tool "{call.name}" not found.'
        if ask and self.approve is not None and not self.approve(call):
            return NOT_APPROVED
        stop.pressed.wait(tool.delay)
        stop.check()
        try:
            answer = tool.function(**_fitting(tool, call.arguments))
        except Exception as error:  # noqa: BLE001 - whatever a tool raises is its answer
            answer = {"error": str(error)}
        stop.check()
        return answer


def parsed(text: str) -> Any:
    """A call's arguments.

    Raises:
        ValueError: they are no JSON and no Python literal.
    """
    if not text.strip():
        return {}
    try:
        return json.loads(text)
    except ValueError:
        try:
            return ast.literal_eval(text)
        except (SyntaxError, RecursionError, MemoryError) as error:
            raise ValueError(text) from error


def _fitting(tool: Tool, arguments: Mapping[str, Any]) -> Json:
    """The arguments that the tool declares, strings and numbers turned into what it says it takes."""
    if tool.mcp:
        return dict(arguments)
    known = tool.spec.get("parameters", {}).get("properties", {})
    hints = get_type_hints(tool.function)
    return {key: _coerced(value, hints.get(key)) for key, value in arguments.items() if key in known}


def _coerced(value: Any, hint: Any) -> Any:
    def says(kind: type) -> bool:
        return hint is kind or set(get_args(hint)) == {kind, type(None)}

    if isinstance(value, str) and says(int):
        return int(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and says(str):
        return str(value)
    return value


def as_text(name: str, answer: Any, *, mcp: bool = False) -> tuple[str, list[str]]:
    """What a tool returned as text for the model, and the images that were in it."""
    images: list[str] = []
    if isinstance(answer, str) and answer.startswith("data:image/"):
        return f"{name}: Image file read successfully.", [answer]
    if isinstance(answer, list):
        if mcp:
            answer = _from_mcp(answer, images)
        else:
            data = [
                i for i in answer if isinstance(i, str) and i.startswith("data:") and not _IMAGE.fullmatch(i)
            ]
            answer = [item for item in answer if item not in data]
    answer = _without_images(answer, images)
    if isinstance(answer, list):
        answer = {"results": answer}
    if isinstance(answer, dict):
        return json.dumps(answer, indent=2, ensure_ascii=False), images
    return str(answer), images


def _from_mcp(items: Iterable[Json], images: list[str]) -> Any:
    texts: list[Any] = []
    for item in items:
        if item.get("type") == "image":
            images.append(f"data:{item.get('mimeType')};base64,{item.get('data', '')}")
        elif item.get("type") == "text":
            try:
                texts.append(json.loads(item["text"]))
            except ValueError:
                texts.append(item["text"])
    return texts[0] if len(texts) == 1 else texts


def _without_images(value: Any, images: list[str]) -> Any:
    """The value with `[image]` where an image was."""
    if isinstance(value, str) and _IMAGE.fullmatch(value):
        images.append(value)
        return "[image]"
    if isinstance(value, dict):
        return {key: _without_images(item, images) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_images(item, images) for item in value]
    return value


def rewritten(call: Call) -> str:
    """A call's arguments as they stand in the transcript afterwards."""
    return compact(call.arguments) if isinstance(call.arguments, dict) else call.raw


def spec_of(function: Function) -> Json:
    """Name, description and parameters of a function, from its signature."""
    hints = get_type_hints(function)
    parameters = inspect.signature(function).parameters.values()
    fields: Any = {
        p.name: (hints.get(p.name, str), ... if p.default is inspect.Parameter.empty else p.default)
        for p in parameters
    }
    made = create_model(function.__name__, __config__=ConfigDict(title=None), **fields).model_json_schema()
    schema = _flat(made, made.get("$defs", {}))
    return {
        "name": function.__name__,
        "description": inspect.getdoc(function) or function.__name__,
        "parameters": {
            "type": "object",
            "properties": schema.get("properties", {}),
            **({"required": schema["required"]} if "required" in schema else {}),
        },
    }


def _flat(schema: Any, definitions: Json) -> Any:
    """The schema without titles and without references."""
    if isinstance(schema, list):
        return [_flat(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _flat(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    return {
        key: {name: _flat(item, definitions) for name, item in value.items()}
        if key == "properties"
        else _flat(value, definitions)
        for key, value in schema.items()
        if key not in ("title", "$defs")
    }
