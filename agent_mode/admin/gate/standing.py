"""Whether who signed in with an account of Open WebUI is still an admin there.

Asked again at most every five minutes, for as long as the session is used. What somebody signed in with is
kept in memory alone, in case that the server has no key of its own to ask with.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from agent_mode.admin.gate.tickets import HOURS, Ticket
from agent_mode.errors import ToolError
from agent_mode.observe.logs import get_logger
from agent_mode.tools.openwebui import OpenWebUIClient

log = get_logger(__name__)

RECHECK_SECONDS = 300.0
"""How long an answer is believed."""
GRACE_SECONDS = 900.0
"""How long a session goes on without an answer."""
AGAIN_SECONDS = 30.0
"""After so long it is asked again where there was no answer."""

Ask = Callable[[str, str], Awaitable[bool]]


@dataclass(slots=True)
class _Known:
    """What is known of a session."""

    credential: str = field(repr=False)
    good_at: float
    due_at: float
    seen_at: float
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)


class Standing:
    """Knows whose sessions go on.

    Args:
        ask: whether an account is an admin's, by its id and what its owner signed in with ("": not known);
            raises ToolError where that cannot be learned.
        clock: seconds, never going back.
    """

    def __init__(self, ask: Ask, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._ask = ask
        self._clock = clock
        self._known: dict[str, _Known] = {}

    def begin(self, session_id: str, credential: str) -> None:
        """Somebody has signed in: Open WebUI has just said that it is an admin.

        Args:
            session_id: of the ticket.
            credential: with which Open WebUI can be asked about the account; it stays in memory.
        """
        now = self._clock()
        self._known = {k: v for k, v in self._known.items() if now - v.seen_at < HOURS * 3600}
        self._known[session_id] = _Known(credential, now, now + RECHECK_SECONDS, now)

    def forget(self, session_id: str) -> None:
        """The session has ended."""
        self._known.pop(session_id, None)

    async def holds(self, ticket: Ticket) -> bool:
        """Whether the session goes on; asks Open WebUI where that was long ago."""
        if ticket.person.via == "key":
            return True
        now = self._clock()
        # One of before a restart is asked about at once; without an answer its time of grace begins.
        known = self._known.setdefault(ticket.id, _Known("", now, now, now))
        known.seen_at = now
        async with known.asking:
            now = self._clock()
            if now >= known.due_at:
                return await self._check(ticket, known, now)
        return True

    async def _check(self, ticket: Ticket, known: _Known, now: float) -> bool:
        try:
            good = await self._ask(ticket.person.account_id, known.credential)
        except ToolError as error:
            good = now - known.good_at < GRACE_SECONDS
            known.due_at = now + AGAIN_SECONDS
            log.warning(
                "nobody says whether a session's account is an admin's", code=error.code, goes_on=good
            )
        else:
            if good:
                known.good_at, known.due_at = now, now + RECHECK_SECONDS
        if not good:
            self.forget(ticket.id)
        return good


async def is_admin(
    openwebui: OpenWebUIClient | None, service_key: str | None, account_id: str, credential: str
) -> bool:
    """Whether an account is an admin's now.

    Args:
        openwebui: whom to ask; None, or unknown: an account shows nothing any more.
        service_key: the server's own key, with which it is asked first.
        account_id: whose.
        credential: what its owner signed in with; "": not known any more.

    Raises:
        ToolError: Open WebUI does not say.
    """
    if openwebui is None or not openwebui.known or not account_id:
        return False
    if service_key:
        try:
            account = await openwebui.account(account_id, service_key)
        except ToolError:  # the key may be no admin's
            if not credential:
                raise
        else:
            return account is not None and account.role == "admin"
    if not credential:
        return False
    account = await openwebui.whoami(credential, fresh=True)
    return account is not None and (account.id, account.role) == (account_id, "admin")
