"""How a run ends badly, as sentences: from what the code's process says, or from what became of it."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass

from agent_mode.counting import counted
from agent_mode.errors import SandboxError
from agent_mode.observe.redaction import without_secrets
from agent_mode.sandbox.child.channel import CUT_OFF
from agent_mode.sandbox.child.failures import FILENAME
from agent_mode.sandbox.child.frames import LIMIT, Garbled, Message
from agent_mode.sandbox.items import Limits, clean

_TEXT = 2_000
_TRACE = 50_000
_FRAME = re.compile(rf'File "{re.escape(FILENAME)}", line (\d+)')
_CURRENT = "\nCurrent thread "
_CORRECT = "Correct the agent's code; the run's record shows the whole trace."


@dataclass(frozen=True, slots=True)
class Told:
    """How a question of the code failed."""

    code: str
    status: int


def reported(message: Message, limits: Limits, told: Mapping[int, Told]) -> SandboxError:
    """The error that the process of the code reports.

    Args:
        message: what it says.
        limits: those of the run.
        told: the failures that it was told of, by number of its question.

    Raises:
        Garbled: it reports none of the known ones.
    """
    line = _number(message.get("line"))
    match message.get("code"):
        case "code_failed":
            return _failed(message, line, told)
        case "code_syntax":
            return _syntax(_text(message, "text"), line, _number(message.get("column")))
        case "code_no_run":
            return no_run(_text(message, "text"))
        case "code_exited":
            return exited(message.get("status"), line)
        case "code_memory":
            return out_of_memory(limits, line)
    raise Garbled("an unknown error")


def died(status: int, printed: str, limits: Limits) -> SandboxError:
    """The error for a process that ended without a word.

    Args:
        status: as from `os.waitpid`.
        printed: the end of what it printed: a crash says there where it was.
        limits: those of the run.
    """
    code = os.waitstatus_to_exitcode(status)
    if code == CUT_OFF:
        return cut_off()
    if code >= 0:
        return exited(code, None)
    if -code == signal.SIGXCPU:
        return out_of_time(limits, printed)
    return _crashed(-code, printed)


def out_of_time(limits: Limits, printed: str) -> SandboxError:
    """The code took more time than it may."""
    return SandboxError(
        f"The agent's code was ended because it took longer than {counted(limits.seconds, 'second')}"
        f"{_where(place(printed), ', in line')}.",
        hint="Make the code faster, or let an admin raise the valve `code_seconds`.",
        code="code_timeout",
    ).with_detail(printed)


def out_of_memory(limits: Limits, line: int | None) -> SandboxError:
    """The code took more memory than it may."""
    return SandboxError(
        f"The agent's code was ended because it needs more than {limits.memory_mb} MiB of memory"
        f"{_where(line, ', in line')}.",
        hint="Have the code work on less at a time, or let an admin raise the valve `code_memory_mb`.",
        code="code_memory",
    )


def too_many(limits: Limits) -> SandboxError:
    """The code yielded more things than it may."""
    return _too_much(f"{limits.max_items} pieces")


def too_large(limits: Limits) -> SandboxError:
    """The code yielded more bytes than it may."""
    return _too_much(f"{limits.max_output_bytes / 2**20:.3g} MiB")


def _too_much(what: str) -> SandboxError:
    return SandboxError(
        f"The agent's code was ended because it put out more than {what}.",
        hint="Have it yield larger pieces, or less in all.",
        code="code_output_limit",
    )


def input_too_large() -> SandboxError:
    """The turn cannot be handed to the code."""
    return SandboxError(
        f"The chat is too large for the agent's code: more than {LIMIT >> 20} MiB.",
        hint="Begin a new chat, or attach smaller files.",
        code="code_input_limit",
    )


def exited(status: object, line: int | None) -> SandboxError:
    """The code ended its process."""
    said = f"“{without_secrets(clean(status)[:_TEXT])}”" if isinstance(status, str) else f"status {status}"
    return SandboxError(
        f"The agent's code ended its own process with {said}{_where(line, ', in line')}.",
        hint="Leave `run` with `return`, not with sys.exit() or os._exit().",
        code="code_exited",
    )


def cut_off() -> SandboxError:
    """The process closed its connection, or wrote something of its own into it."""
    return SandboxError(
        "The agent's code broke its connection to the server.",
        hint="The code closes or writes to file descriptors that it did not open; correct that.",
        code="code_broken_channel",
    )


def no_run(reason: str) -> SandboxError:
    """There is nothing to call."""
    return SandboxError(
        f"The agent's code cannot be run: {reason}.",
        hint="Define `async def run(turn, tools, llm, call_agent, status)` in it.",
        code="code_no_run",
    )


def not_started(reason: str) -> SandboxError:
    """The machinery failed before the code began."""
    return SandboxError(
        f"The process for the agent's code could not be started: {reason}.",
        hint="Try again. If it stays so, look at the server's log, and at its limits of open files.",
        retryable=True,
    )


def lost() -> SandboxError:
    """The process that starts the others has died."""
    return SandboxError(
        "The process that runs agents' code ended unexpectedly, and this run with it.",
        hint="Try again: it is started anew.",
        retryable=True,
    )


def closing() -> SandboxError:
    """The server shuts down."""
    return SandboxError(
        "The server is shutting down, and the agent's code was ended.", hint="Try again.", retryable=True
    )


def place(printed: str) -> int | None:
    """The line of the code in the last traceback that the process printed in a crash or when it was asked."""
    _, _, current = printed.rpartition(_CURRENT)
    found = _FRAME.search(current) or next(iter(reversed([*_FRAME.finditer(printed)])), None)
    return int(found[1]) if found else None


def _failed(message: Message, line: int | None, told: Mapping[int, Told]) -> SandboxError:
    kind, text = _text(message, "type"), _text(message, "text")
    hint = _text(message, "hint") if "hint" in message else ""
    what = without_secrets(f"{kind}: {text}" if text else kind)
    # What was asked for failed, and the code let it pass: then that is what happened. It is looked up, not
    # believed: code could call any fault of its own a limit or a refusal.
    question = _number(message.get("question"))
    ours = told.get(question) if question is not None else None
    return SandboxError(
        f"The agent's code failed{_where(line, ' in line')}: {what}",
        hint=hint or _CORRECT,
        code=ours.code if ours else "code_failed",
        status=ours.status if ours else None,
        retryable=message.get("retryable") is True,
    ).with_detail(clean(str(message.get("trace", "")))[:_TRACE])


def _syntax(text: str, line: int | None, column: int | None) -> SandboxError:
    return SandboxError(
        f"The agent's code is not Python{_where(line, ', line')}{_where(column, ', column')}: {text}.",
        hint="Correct the agent's code at that place.",
        code="code_syntax",
    )


def _crashed(number: int, printed: str) -> SandboxError:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    if number == signal.SIGKILL:
        hint = "Something ended it from outside; most often the machine ran out of memory."
    else:
        hint = "A library that the code uses has a fault, or is used wrongly; the run's record shows where."
    return SandboxError(
        f"The agent's code crashed with {name}{_where(place(printed), ' in line')}.",
        hint=hint,
        code="code_crashed",
    ).with_detail(printed)


def _where(number: int | None, words: str) -> str:
    return f"{words} {number}" if number is not None else ""


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _text(message: Message, name: str) -> str:
    value = message.get(name)
    if not isinstance(value, str):
        raise Garbled(f"{name} is no text")
    return clean(value)[:_TEXT]
