"""How the API tells what went wrong: one shape for every error, whoever found it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from agent_mode.errors import AgentModeError, DefinitionError


class FormError(DefinitionError):
    """A request body or parameter that cannot be used; lists every problem."""

    code = "invalid_request"


def error_json(error: AgentModeError) -> dict[str, Any]:
    """The error as the API sends it.

    `{code, message, field, hint, retryable}`; with several problems all of them as `problems`, and with a run
    that failed where in it that was.
    """
    told: dict[str, Any] = {
        "code": error.code,
        "message": error.message,
        "field": error.field,
        "hint": error.hint,
        "retryable": error.retryable,
    }
    if isinstance(error, DefinitionError):
        told["problems"] = [asdict(problem) for problem in error.problems]
    return {**told, **error.where}
