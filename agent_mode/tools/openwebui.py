"""Open WebUI's REST interface, as far as we ask it something."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import aiohttp

from agent_mode.observe.logs import get_logger

log = get_logger(__name__)

BELIEVED_SECONDS = 60.0
"""For how long an answer about access is believed."""
SILENT_SECONDS = 30.0
"""For how long nobody is asked after Open WebUI did not answer, or refused the service key."""
TIMEOUT_SECONDS = 3.0
_MEMORY = 10_000


class Access:
    """May a user use a model? Asked with a service key, believed for a minute.

    Open WebUI has no single call for it. Its rule: admins; the model's owner; a read grant for the user, for
    everyone, or for one of the user's groups; and the same for the model it is built on.

    Args:
        url: Open WebUI's address; None: nobody to ask.
        api_key: an admin's API key.
    """

    def __init__(self, url: str | None, api_key: str | None) -> None:
        self._url = url.rstrip("/") if url else None
        self._api_key = api_key
        self._session: aiohttp.ClientSession | None = None
        self._silent_until = 0.0
        self._known: dict[tuple[str, str], tuple[float, bool]] = {}

    async def may_use(self, user_id: str, model: str) -> bool | None:
        """Whether the user may use the model; None when there is nobody to ask or no answer.

        Args:
            user_id: Open WebUI's id of a user who is no admin.
            model: the model's id.
        """
        if self._url is None or self._api_key is None:
            return None
        known = self._known.get((user_id, model))
        if known and time.monotonic() - known[0] < BELIEVED_SECONDS:
            return known[1]
        if time.monotonic() < self._silent_until:
            return None
        try:
            allowed = await self._ask(user_id, model)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            self._silent_until = time.monotonic() + SILENT_SECONDS
            log.warning("Open WebUI did not say who may use what", reason=type(error).__name__, model=model)
            return None
        if len(self._known) >= _MEMORY:
            self._known.clear()
        self._known[user_id, model] = (time.monotonic(), allowed)
        return allowed

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _ask(self, user_id: str, model: str, above: frozenset[str] = frozenset()) -> bool:
        record = await self._get("/api/v1/models/model", {"id": model})
        if not isinstance(record, dict) or record.get("is_active") is False:
            return False  # without a record a model is the admins' alone
        groups = await self._get(f"/api/v1/users/{user_id}/groups", {"include_inherited": "true"})
        known = (
            [group.get("id") for group in groups if isinstance(group, dict)]
            if isinstance(groups, list)
            else []
        )
        ids = {group_id for group_id in known if isinstance(group_id, str)}
        if record.get("user_id") != user_id and not _granted(record.get("access_grants"), user_id, ids):
            return False
        base = record.get("base_model_id")
        if not isinstance(base, str) or not base:
            return True
        above |= {model}  # nothing keeps an admin from building two models on one another
        return base not in above and await self._ask(user_id, base, above)

    async def _get(self, path: str, query: dict[str, str]) -> Any:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers={"Authorization": f"Bearer {self._api_key}"},
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS),
            )
        async with self._session.get(f"{self._url}{path}", params=query) as response:
            if response.status == 404:
                return None  # no record
            response.raise_for_status()
            return await response.json()


def _granted(grants: Any, user_id: str, groups: Iterable[Any]) -> bool:
    known = set(groups)
    for grant in grants if isinstance(grants, list) else ():
        if not isinstance(grant, dict) or grant.get("permission") != "read":
            continue
        kind, principal = grant.get("principal_type"), grant.get("principal_id")
        if not isinstance(principal, str):
            continue
        if kind == "user" and principal in (user_id, "*"):
            return True
        if kind == "group" and principal in known:
            return True
    return False
