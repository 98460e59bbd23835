"""What `run(turn, tools, llm, call_agent, status)` is given.

Everything can be asked for in two ways: awaited, or without `await` in code that is not async. The second
blocks the thread that asks.
"""

from __future__ import annotations

import asyncio
import json
import queue
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from functools import partial
from typing import Any

from agent_mode.sandbox.child import values
from agent_mode.sandbox.child.channel import Channel, Deliver
from agent_mode.sandbox.child.frames import Message


class Record(dict[str, Any]):
    """A JSON object whose values are attributes too: `turn.user.name`, `turn["user"]["name"]`."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"there is no {name!r}; there are: {', '.join(self) or 'none'}") from None


class AgentError(Exception):
    """What was asked for failed: a tool, the model, another agent.

    Args:
        message: one readable sentence.
        code: stable name of the failure.
        hint: the cure.
        retryable: whether the same may work later.
    """

    question: int | None = None
    """Number of the question that the server answered with it; None: the code made it."""

    def __init__(
        self, message: str, *, code: str = "agent_mode_error", hint: str = "", retryable: bool = False
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.hint = hint
        self.retryable = retryable


def turn(given: Record) -> Record:
    """The turn, with what the server left out."""
    empty = {"text": "", "messages": [], "chat_id": None, "images": [], "run_id": ""}
    return Record({**empty, "user": Record(), "valves": Record(), **given})


class Questions:
    """Asks the server, in either way.

    Args:
        channel: leads to the server.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def _send(self, kind: str, arguments: dict[str, Any], deliver: Deliver) -> int:
        return self._channel.ask({"kind": kind, "arguments": arguments}, values.plain, deliver)

    async def ask(self, kind: str, arguments: dict[str, Any]) -> Any:
        """The answer.

        Raises:
            AgentError: what was asked for failed.
            TypeError, ValueError: the arguments are no JSON.
        """
        value = None
        async for answer in self.stream(kind, arguments):
            value = answer.get("value")
        return value

    def ask_sync(self, kind: str, arguments: dict[str, Any]) -> Any:
        """As `ask`, in the thread that asks."""
        value = None
        for answer in self.stream_sync(kind, arguments):
            value = answer.get("value")
        return value

    async def stream(self, kind: str, arguments: dict[str, Any]) -> AsyncIterator[Message]:
        """The pieces of the answer as they come, then the answer."""
        loop = asyncio.get_running_loop()
        box: asyncio.Queue[Message] = asyncio.Queue()
        number = self._send(kind, arguments, partial(loop.call_soon_threadsafe, box.put_nowait))
        try:
            while True:
                answer = _checked(await box.get())
                yield answer
                if "piece" not in answer:
                    return
        finally:  # cancelled, or no longer listened to
            self._channel.drop(number)

    def stream_sync(self, kind: str, arguments: dict[str, Any]) -> Iterator[Message]:
        """As `stream`, in the thread that asks."""
        box: queue.SimpleQueue[Message] = queue.SimpleQueue()
        number = self._send(kind, arguments, box.put)
        try:
            while True:
                answer = _checked(box.get())
                yield answer
                if "piece" not in answer:
                    return
        finally:
            self._channel.drop(number)


def _checked(answer: Message) -> Message:
    error = answer.get("error")
    if error is None:
        return answer
    failure = AgentError(
        error["message"],
        code=error["code"],
        hint=error.get("hint", ""),
        retryable=bool(error.get("retryable")),
    )
    failure.question = answer["id"]
    raise failure


class Tools:
    """The tools that this user may use.

    Args:
        questions: asks the server.
        known: the tools, as the server or an OpenAI request describes them; None: the server is asked when
            they are needed.
    """

    def __init__(self, questions: Questions, known: Iterable[Record] | None) -> None:
        self._questions = questions
        self._known = None if known is None else _described(known)

    def list(self) -> list[Record]:
        """The tools: `name`, `description`, `parameters` (a JSON schema)."""
        if self._known is None:
            self._known = _described(self._questions.ask_sync("tools", {}) or ())
        return [*self._known]

    @property
    def names(self) -> list[str]:
        return [tool["name"] for tool in self.list()]

    async def call(self, name: str, /, **arguments: Any) -> Any:
        """The result of a tool: text, or what it says in JSON if it is an object or a list.

        Raises:
            AgentError: the tool failed, or this user may not use it.
        """
        return _parsed(await self._questions.ask("tool", {"name": name, "arguments": arguments}))

    def call_sync(self, name: str, /, **arguments: Any) -> Any:
        return _parsed(self._questions.ask_sync("tool", {"name": name, "arguments": arguments}))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        return partial(self.call, name)


def _described(tools: Iterable[Record]) -> list[Record]:
    return [tool.get("function", tool) for tool in tools]


def _parsed(result: Any) -> Any:
    if isinstance(result, str) and result.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(result, object_hook=Record)
        except (ValueError, RecursionError):
            return result
    return result


class Llm:
    """The agent's model.

    Args:
        questions: asks the server.
    """

    def __init__(self, questions: Questions) -> None:
        self._questions = questions

    async def __call__(self, messages: Any, /, **params: Any) -> str:
        """The model's answer.

        Args:
            messages: a text, or a list of messages with `role` and `content`.
            params: `temperature`, `max_tokens`, …

        Raises:
            AgentError: the provider failed.
        """
        return await self._questions.ask("llm", _request(messages, params, stream=False))

    def complete_sync(self, messages: Any, /, **params: Any) -> str:
        return self._questions.ask_sync("llm", _request(messages, params, stream=False))

    async def stream(self, messages: Any, /, **params: Any) -> AsyncIterator[str]:
        """The model's answer as it comes."""
        async for answer in self._questions.stream("llm", _request(messages, params, stream=True)):
            if text := _piece(answer):
                yield text

    def stream_sync(self, messages: Any, /, **params: Any) -> Iterator[str]:
        for answer in self._questions.stream_sync("llm", _request(messages, params, stream=True)):
            if text := _piece(answer):
                yield text


def _request(messages: Any, params: dict[str, Any], *, stream: bool) -> dict[str, Any]:
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    return {"messages": messages, "params": params, "stream": stream}


def _piece(answer: Message) -> str | None:
    return answer.get("piece", answer.get("value"))


class CallAgent:
    """Other agents.

    Args:
        questions: asks the server.
    """

    def __init__(self, questions: Questions) -> None:
        self._questions = questions

    async def __call__(self, name: str, task: str, context: Any = None) -> str:
        """The other agent's answer.

        Raises:
            AgentError: it failed, or may not be called.
        """
        return await self._questions.ask("call_agent", {"name": name, "task": task, "context": context})

    def sync(self, name: str, task: str, context: Any = None) -> str:
        return self._questions.ask_sync("call_agent", {"name": name, "task": task, "context": context})


class _Done:
    """What may be awaited, and need not be."""

    def __await__(self) -> Generator[None, None, None]:
        yield from ()


class Status:
    """What the user sees beside the answer. Each call is done at once, with and without `await`.

    Args:
        channel: leads to the server.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def __call__(self, text: str, *, done: bool = False) -> _Done:
        """A line above the answer.

        Args:
            text: what is going on.
            done: ends its animation.
        """
        return self._say({"t": "status", "text": str(text), "done": bool(done)})

    def image(self, image: Any, mime: str | None = None, description: str = "image") -> _Done:
        """An image in the answer.

        Args:
            image: bytes, a path, a URL, the text of an SVG or a figure of matplotlib.
            mime: its type; None: found out.
            description: for those who cannot see it.

        Raises:
            ValueError, TypeError, OSError: it is no image, or cannot be read.
        """
        return self._say({**values.image(image, mime), "description": str(description)})

    def source(self, name: str, url: str = "", text: str = "") -> _Done:
        """A source, shown as a citation."""
        return self._say({"t": "source", "name": str(name), "url": str(url or ""), "text": str(text or "")})

    def _say(self, message: Message) -> _Done:
        self._channel.send(message)
        return _Done()
