"""Every error that Agent Mode raises, in one tree.

AgentModeError
├── ConfigurationError      the server cannot start or a setting cannot work
├── AuthenticationError     the caller did not show who is calling (HTTP 401)
├── RequestError            the request is malformed (HTTP 400, 404, 413); names the field
├── StoreError              the database or a file of the store
├── CatalogueError          a persona file that cannot be used
├── StrategyError           a strategy file that cannot be used
├── TemplateError           a hard-reset template that cannot be used
├── RunCancelled            the run was stopped: by the user, or because nobody reads it any more
└── ProviderError           the LLM provider; retryable tells whether the same request may work later

Each carries what a person needs (`message`, and the cure in `hint`) and what a program needs (`code`,
`retryable`, and the HTTP `status` to answer with).
"""

from __future__ import annotations

from typing import Any, Self


class AgentModeError(Exception):
    """Base of all errors.

    Args:
        message: one readable sentence; never holds a secret.
        hint: the cure, as an instruction to the person who can apply it.
        code: stable machine name; defaults to the class's own.
        field: the field of the input that is wrong, as a dotted path.
    """

    code = "agent_mode_error"
    status = 500
    retryable = False

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        code: str | None = None,
        status: int | None = None,
        retryable: bool | None = None,
        field: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.field = field
        self.detail = ""
        if code is not None:
            self.code = code
        if status is not None:
            self.status = status
        if retryable is not None:
            self.retryable = retryable

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()

    def with_detail(self, detail: str) -> Self:
        """Adds what only the log shall see."""
        self.detail = detail
        return self

    def report(self) -> dict[str, Any]:
        """The error as JSON: `{message, code, hint, retryable, field?}`."""
        report: dict[str, Any] = {
            "message": str(self),
            "code": self.code,
            "hint": self.hint,
            "retryable": self.retryable,
        }
        if self.field is not None:
            report["field"] = self.field
        return report


class ConfigurationError(AgentModeError):
    code = "configuration"


class AuthenticationError(AgentModeError):
    code = "unauthorized"
    status = 401


class RequestError(AgentModeError):
    code = "bad_request"
    status = 400


class StoreError(AgentModeError):
    code = "store"


class CatalogueError(AgentModeError):
    code = "catalogue"


class StrategyError(AgentModeError):
    code = "strategy"


class TemplateError(AgentModeError):
    code = "template"


class RunCancelled(AgentModeError):
    code = "run_cancelled"
    status = 499


class ProviderError(AgentModeError):
    code = "provider"
    status = 502
