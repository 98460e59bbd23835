"""What to tell the server about an exception of the code. Says facts; the sentences are the server's."""

from __future__ import annotations

import traceback
from types import TracebackType

from agent_mode.sandbox.child import process
from agent_mode.sandbox.child.channel import OUT_OF_MEMORY
from agent_mode.sandbox.child.frames import Message
from agent_mode.sandbox.child.objects import AgentError

FILENAME = "<agent code>"
"""What the code is called in traces."""
_TEXT = 2_000
_TRACE = 20_000


class NoRun(Exception):
    """The code has no `run` that could be called; the text says why."""


def describe(error: BaseException) -> Message:
    """The message that ends the run; never raises."""
    try:
        return _described(error)
    except BaseException:  # noqa: BLE001  an exception of the code's own making may be broken in any way
        return {"t": "error", "code": "code_failed", "type": type(error).__name__[:_TEXT], "text": ""}


def _described(error: BaseException) -> Message:
    if isinstance(error, MemoryError):
        process.relieve()
        return {**OUT_OF_MEMORY, "line": _line(error)}
    if isinstance(error, SystemExit):
        return {"t": "error", "code": "code_exited", "status": _status(error), "line": _line(error)}
    if isinstance(error, NoRun):
        return {"t": "error", "code": "code_no_run", "text": str(error)}
    message: Message = {
        "t": "error",
        "code": "code_failed",
        "type": type(error).__name__[:_TEXT],
        "text": _text(error),
        "line": _line(error),
        "trace": _trace(error),
    }
    if isinstance(error, AgentError):
        message |= {"hint": str(error.hint)[:_TEXT], "retryable": bool(error.retryable)}
        message |= {"question": error.question}
    return message


def describe_syntax(error: SyntaxError | ValueError | RecursionError | MemoryError) -> Message:
    """The message for code that does not compile."""
    message: Message = {"t": "error", "code": "code_syntax", "text": str(error)[:_TEXT]}
    if isinstance(error, SyntaxError):
        message |= {"text": str(error.msg)[:_TEXT], "line": error.lineno, "column": error.offset}
    return message


def _status(error: SystemExit) -> int | str:
    if error.code is None or isinstance(error.code, int):
        return error.code or 0
    return _text(error)


def _text(error: BaseException) -> str:
    try:
        return str(error)[:_TEXT]
    except BaseException as problem:  # noqa: BLE001  the code's own `__str__` may raise anything
        return f"<its text cannot be had: {type(problem).__name__}>"


def _line(error: BaseException) -> int | None:
    """The line of the code that is nearest to where it happened."""
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == FILENAME:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def _trace(error: BaseException) -> str:
    try:
        lines = traceback.format_exception(type(error), error, _own(error.__traceback__))
        text = "".join(lines)
    except BaseException as problem:  # noqa: BLE001  as in `_text`
        return f"{type(error).__name__}, and no trace can be had: {type(problem).__name__}"
    return text if len(text) <= _TRACE else f"{text[: _TRACE // 2]}\n…\n{text[-_TRACE // 2 :]}"


def _own(trace: TracebackType | None) -> TracebackType | None:
    """The trace without the frames that led into the code; all of it if none is the code's."""
    part = trace
    while part is not None and part.tb_frame.f_code.co_filename != FILENAME:
        part = part.tb_next
    return part or trace
