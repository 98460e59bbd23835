"""Logging: one handler for everything of ours, as text or as JSON.

    [AGENT_MODE:INFO] persona switched [chat_id=… persona=writer previous=coder strategy=gpt-standard]

Prompts, answers and keys are never logged, unless an admin turns the valve `enable_debug` on for a pipeline.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

ROOT_LOGGER = "agent_mode"

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
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
    )


def _line(_logger: Any, _name: str, event: dict[str, Any]) -> str:
    level = str(event.pop("level", "info")).upper()
    event.pop("timestamp", None)
    exception = event.pop("exception", None)
    message = event.pop("event", "")
    pairs = " ".join(f"{key}={value}" for key, value in event.items() if value is not None)
    text = f"[AGENT_MODE:{level}] {message}" + (f" [{pairs}]" if pairs else "")
    # One record is one line, whatever a chat put into it.
    text = text.replace("\r", " ").replace("\n", " ")
    return f"{text}\n{exception}" if exception else text
