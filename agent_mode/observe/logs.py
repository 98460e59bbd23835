"""Logging: one handler for everything of ours, as text or as JSON.

    [AGENT_MODE:INFO] persona switched [chat_id=… persona=writer previous=coder strategy=gpt-standard]

Values with white space or brackets are quoted, and what cannot be printed is escaped, so that no value can
pass for another one or for a record. Texts lose what looks like a secret.
Prompts, answers and keys are never logged, unless an admin turns the valve `enable_debug` on for a pipeline.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

from agent_mode.observe.redaction import without_secrets

ROOT_LOGGER = "agent_mode"
_BEGINNING = "[AGENT_MODE:"

get_logger = structlog.stdlib.get_logger

_SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def configure(*, json: bool = False, debug: bool = False) -> None:
    """Sets up the package's logger; the loggers of the host and of other plug-ins stay as they are.

    Only httpx, through which LlamaIndex calls LLMs, is made quieter, unless somebody set its level.
    """
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.processors.format_exc_info,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(json))
    logger = logging.getLogger(ROOT_LOGGER)
    logger.handlers[:] = [handler]
    logger.setLevel(logging.DEBUG if debug else logging.INFO)
    logger.propagate = False
    chatty = logging.getLogger("httpx")
    if chatty.level == logging.NOTSET:  # it says every request at INFO, which the host's root may show
        chatty.setLevel(logging.WARNING)


def use_json(json: bool) -> None:
    """Switches between JSON and text for the records that follow; nothing before `configure`."""
    for handler in logging.getLogger(ROOT_LOGGER).handlers:
        handler.setFormatter(_formatter(json))


def _formatter(json: bool) -> logging.Formatter:
    render: Any = structlog.processors.JSONRenderer() if json else _line
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_SHARED,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _without_secrets, render],
    )


def _without_secrets(_logger: Any, _name: str, event: Any) -> dict[str, Any]:
    """Takes secrets out of the texts: a reason, or a trace, may be what foreign code said."""
    return {key: without_secrets(value) if isinstance(value, str) else value for key, value in event.items()}


def _line(_logger: Any, _name: str, event: dict[str, Any]) -> str:
    level = str(event.pop("level", "info")).upper()
    event.pop("timestamp", None)
    exception = event.pop("exception", None)
    message = _printable(str(event.pop("event", "")))
    pairs = " ".join(f"{key}={_value(value)}" for key, value in event.items() if value is not None)
    text = f"[AGENT_MODE:{level}] {message}" + (f" [{pairs}]" if pairs else "")
    if not exception:
        return text
    # The words of an exception may have lines of their own.
    return "\n".join((text, *(f"  {_printable(line)}" for line in str(exception).split("\n"))))


def _value(value: Any) -> str:
    """A value that nothing can be mistaken in: with white space, quotes or brackets it is quoted."""
    text = str(value)
    if text and not any(char.isspace() or char in '[]"\\' for char in text):
        return _printable(text)
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{_printable(quoted)}"'


def _printable(text: str) -> str:
    """One record is one line and begins but once, whatever a chat put into it."""
    if not text.isprintable():
        text = "".join(char if char.isprintable() else _escaped(char) for char in text)
    return text.replace(_BEGINNING, f"\\x5b{_BEGINNING[1:]}")


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
