"""Who looks at a page, and the server behind it: what every page is given."""

from __future__ import annotations

from dataclasses import dataclass

from nicegui import ui

from agent_mode.admin.backend import Backend
from agent_mode.admin.gate.gate import TICKET
from agent_mode.admin.gate.tickets import Person, Ticket
from agent_mode.chat.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Visit:
    """One person on one page."""

    backend: Backend
    ticket: Ticket

    @property
    def person(self) -> Person:
        return self.ticket.person

    @property
    def author(self) -> str:
        """The name for the history of what is written."""
        return self.person.name

    @property
    def runtime(self) -> Runtime:
        """
        Raises:
            ConfigurationError: the server has not started.
        """
        return self.backend.runtime

    def record(self, action: str, kind: str, target: str, text: str = "") -> None:
        """Have a write recorded: `visit.record("deleted", "agent", "writer")`. Every write of a page is.

        Arguments: as of `AuditStore.put`.
        """
        self.runtime.audit.put(self.author, action, kind, target, text)


_backend: Backend | None = None


def open_to(backend: Backend) -> None:
    """Names the server whose pages these are; NiceGUI has one set of pages in each process."""
    global _backend  # noqa: PLW0603
    _backend = backend


def current() -> Visit:
    """The visit of the page that is being built, or whose event is being handled."""
    assert _backend is not None
    return Visit(_backend, ui.context.client.request.scope[TICKET])
