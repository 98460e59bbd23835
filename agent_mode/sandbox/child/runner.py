"""Runs the code: from its text to the last message. Everything that code can raise ends here."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import inspect
import io
import linecache
import os
import random
import signal
import sys
import types
from collections.abc import Callable
from typing import Any

from agent_mode.sandbox.child import objects, process, values
from agent_mode.sandbox.child.channel import CUT_OFF, Channel
from agent_mode.sandbox.child.failures import FILENAME, NoRun, describe, describe_syntax
from agent_mode.sandbox.child.frames import Garbled, Message

MODULE = "agent_code"
PARAMETERS = ("turn", "tools", "llm", "call_agent", "status")
"""What `run` may ask for, by name."""
_PATIENCE = 5.0
"""Seconds in which the server ends a process that has said its last word."""


def execute(connection: int, output: int) -> None:
    """Runs what the server sends; ends the process in any case.

    Args:
        connection: descriptor of the socket to the server.
        output: descriptor that standard output and error lead to.
    """
    _prepare_output(output)
    channel = Channel(connection, output, objects.Record)
    try:
        start = channel.receive()
    except (OSError, Garbled):
        os._exit(CUT_OFF)
    if start is None:
        os._exit(0)
    channel.listen()
    process.limit(start["memory_mb"], start["seconds"])
    channel.send({"t": "started"})
    try:
        last = _run(start, channel)
    except BaseException as error:  # noqa: BLE001  foreign code may raise anything; the server is told
        last = describe(error)
    if channel.forked:
        os._exit(1)
    with contextlib.suppress(Exception):  # the code may have put anything there
        sys.stdout.flush()
        sys.stderr.flush()
    channel.close(last, _PATIENCE)
    os._exit(0)


def _prepare_output(output: int) -> None:
    sys.stdout = sys.__stdout__ = _writer(1)
    sys.stderr = sys.__stderr__ = _writer(2)
    # A crash prints where it was; so does a hang, before the server ends it.
    faulthandler.enable(file=output)
    faulthandler.register(signal.SIGUSR1, file=output, all_threads=True)


def _writer(descriptor: int) -> io.TextIOWrapper:
    # Line by line, so that the last line before a crash is there.
    return open(descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


def _run(start: Message, channel: Channel) -> Message:
    source = start["code"]
    try:
        code = compile(source, FILENAME, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return describe_syntax(error)
    linecache.cache[FILENAME] = (len(source), None, source.splitlines(keepends=True), FILENAME)
    turn = objects.turn(start["turn"])
    random.seed(str(turn.run_id))
    module = types.ModuleType(MODULE)
    module.__dict__["AgentError"] = objects.AgentError
    sys.modules[MODULE] = module
    questions = objects.Questions(channel)
    offered = {
        "turn": turn,
        "tools": objects.Tools(questions, turn.get("tools")),
        "llm": objects.Llm(questions),
        "call_agent": objects.CallAgent(questions),
        "status": objects.Status(channel),
    }
    exec(code, module.__dict__)
    run = module.__dict__.get("run")
    if not callable(run):
        raise NoRun("there is no function “run” in it")
    _drive(run, _arguments(run, offered), channel)
    return {"t": "end"}


def _arguments(run: Callable[..., Any], offered: dict[str, Any]) -> dict[str, Any]:
    """Those that `run` asks for.

    Raises:
        NoRun: it asks for something else.
    """
    wanted = inspect.signature(run).parameters.values()
    arguments: dict[str, Any] = {}
    for parameter in wanted:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if parameter.name in offered and parameter.kind is not parameter.POSITIONAL_ONLY:
            arguments[parameter.name] = offered[parameter.name]
        elif parameter.default is parameter.empty:
            raise NoRun(f"its “run” asks for “{parameter.name}”")
    return arguments


def _drive(run: Callable[..., Any], arguments: dict[str, Any], channel: Channel) -> None:
    def emit(value: Any) -> None:
        message = values.output(value)
        if message is not None:
            channel.send(message)

    result = run(**arguments)
    if inspect.isawaitable(result) or hasattr(result, "__aiter__"):
        # No `asyncio.run`: it would wait for threads and tasks that the code left behind. They end with
        # the process.
        asyncio.new_event_loop().run_until_complete(_drain(result, emit))
    else:
        _drain_sync(result, emit)


async def _drain(result: Any, emit: Callable[[Any], None]) -> None:
    if inspect.isawaitable(result):
        result = await result
    if hasattr(result, "__aiter__"):
        async for value in result:
            emit(value)
    else:
        _drain_sync(result, emit)


def _drain_sync(result: Any, emit: Callable[[Any], None]) -> None:
    if isinstance(result, (types.GeneratorType, map, filter, zip)):
        for value in result:
            emit(value)
    else:
        emit(result)
