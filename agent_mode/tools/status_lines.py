"""Status lines above answers of other models: a filter cannot stream, but Open WebUI takes events by REST."""

from __future__ import annotations

import time
from urllib.parse import quote

from agent_mode.errors import ToolError
from agent_mode.observe.logs import get_logger
from agent_mode.tools.rest import Rest

log = get_logger(__name__)

SILENT_SECONDS = 60.0
"""For how long nothing is sent after Open WebUI did not answer, or failed."""
TIMEOUT_SECONDS = 5.0
_NOT_STORED = ("temporary:", "local:", "channel:")
"""How ids begin of chats that Open WebUI does not store; it takes no events for them."""


class StatusLines:
    """Shows lines above answers, with a service key. What does not arrive is no failure of the chat.

    Args:
        url: Open WebUI's address; None: nobody to send to.
        api_key: an admin's API key.
    """

    def __init__(self, url: str | None, api_key: str | None) -> None:
        self._rest = Rest(url if api_key else None)
        self._api_key = api_key or ""
        self._silent_until = 0.0

    def can_reach(self, chat_id: str) -> bool:
        """Whether a line for this chat may arrive."""
        known = self._rest.url is not None and time.monotonic() >= self._silent_until
        return known and not chat_id.startswith(_NOT_STORED)

    async def show(self, chat_id: str, message_id: str, text: str) -> None:
        """Shows a line above an answer, and Open WebUI keeps it there. Never raises."""
        path = f"/api/v1/chats/{quote(chat_id, safe='')}/messages/{quote(message_id, safe='')}/event"
        event = {"type": "status", "data": {"description": text, "done": True, "hidden": False}}
        try:
            reply = await self._rest.post(path, self._api_key, event, seconds=TIMEOUT_SECONDS)
        except (ToolError, TimeoutError) as error:
            self._fall_silent(type(error).__name__)
            return
        if reply.status >= 500:
            self._fall_silent(f"status {reply.status}")
        elif reply.status != 200:  # of this chat only: it was deleted, or the key may not see others' chats
            log.debug("Open WebUI did not take a status line", reason=reply.said, chat_id=chat_id)

    async def close(self) -> None:
        await self._rest.close()

    def _fall_silent(self, reason: str) -> None:
        self._silent_until = time.monotonic() + SILENT_SECONDS
        log.info("Open WebUI did not take a status line", reason=reason)
