"""Every error that Agent Mode raises, in one tree.

AgentModeError
├── ConfigurationError      the server cannot start or a setting cannot work
├── AuthenticationError     the caller did not show who is calling (HTTP 401)
├── RequestError            the request is malformed (HTTP 400, 404, 413); names the field
├── StoreError              the database or a file of the store
├── DefinitionError         the definition of an agent cannot be used (HTTP 422); lists every problem
├── CatalogueError          a persona file that cannot be used
├── StrategyError           a strategy file that cannot be used
├── TemplateError           a hard-reset template that cannot be used
├── LimitError              a run reached a limit that an admin set
├── AgentError              an agent's own code or definition failed while it ran
├── ToolError               a tool of Open WebUI could not be called for the user
├── RunCancelled            the run was stopped: by the user, or because nobody reads it any more
├── SandboxError            an agent's code, or the process that runs it, failed
└── ProviderError           the LLM provider; retryable tells whether the same request may work later

Each carries what a person needs (`message`, and the cure in `hint`) and what a program needs (`code`,
`retryable`, and the HTTP `status` to answer with).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
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
        self.where: dict[str, Any] = {}
        if code is not None:
            self.code = code
        if status is not None:
            self.status = status
        if retryable is not None:
            self.retryable = retryable

    def __str__(self) -> str:
        # What others said, quoted at the end of a message, may lack its full stop.
        stop = "." if self.hint and self.message[-1:].isalnum() else ""
        return f"{self.message}{stop} {self.hint}".strip()

    def with_detail(self, detail: str) -> Self:
        """Adds what only the log shall see."""
        self.detail = detail
        return self

    def within(self, **where: Any) -> Self:
        """Adds where in a run it happened (agent, run_id, step, tool, …); what is known already stays."""
        self.where = {**{key: value for key, value in where.items() if value is not None}, **self.where}
        return self

    def report(self) -> dict[str, Any]:
        """The error as JSON: `{message, code, hint, retryable, field?}`, and where in a run it happened."""
        report: dict[str, Any] = {
            "message": self.message,
            "code": self.code,
            "hint": self.hint,
            "retryable": self.retryable,
        }
        if self.field is not None:
            report["field"] = self.field
        return {**report, **self.where}


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


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a definition."""

    field: str
    """The field as a dotted path."""
    message: str
    """What is wrong, as a sentence; never holds a secret."""
    hint: str = ""
    """The cure."""


class DefinitionError(AgentModeError):
    """A definition has problems, which are reported all at once.

    Args:
        message: what cannot be done, without a full stop; the first problems are added to it.
        problems: at least one.
    """

    code = "invalid_definition"
    status = 422
    _SHOWN = 3

    def __init__(self, message: str, *, problems: Sequence[Problem]) -> None:
        first = problems[0]
        shown = problems[: self._SHOWN]
        listed = "; ".join(f"{problem.field}: {problem.message.rstrip('.')}" for problem in shown)
        more = f" (and {left} more)" if (left := len(problems) - len(shown)) else ""
        super().__init__(f"{message}: {listed}{more}.", hint=first.hint, field=first.field)
        self.problems = tuple(problems)

    @classmethod
    def of(cls, problems: Sequence[Problem], message: str = "The agent cannot be used") -> Self:
        """The error of these problems."""
        return cls(message, problems=problems)

    def report(self) -> dict[str, Any]:
        """As every error's, and `problems: [{field, message, hint}]`."""
        return super().report() | {"problems": [asdict(problem) for problem in self.problems]}


class CatalogueError(AgentModeError):
    code = "catalogue"


class StrategyError(AgentModeError):
    code = "strategy"
    status = 422


class TemplateError(AgentModeError):
    code = "template"
    status = 422


class LimitError(AgentModeError):
    code = "limit"
    status = 429


class AgentError(AgentModeError):
    code = "agent_failed"


class ToolError(AgentModeError):
    code = "tool_failed"
    status = 502


class RunCancelled(AgentModeError):
    code = "run_cancelled"
    status = 499


class SandboxError(AgentModeError):
    code = "sandbox"


class ProviderError(AgentModeError):
    code = "provider"
    status = 502
