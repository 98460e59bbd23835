"""Who may use which model: Open WebUI's own rule, asked with a service key."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import Any, TypeVar

import aiohttp

from agent_mode.observe.logs import get_logger

log = get_logger(__name__)

BELIEVED_SECONDS = 60.0
"""For how long an answer is believed without asking again."""
LAST_YES_SECONDS = 3600.0
"""For how long the last "yes" holds while Open WebUI does not answer; the last "no" holds until it does."""
SILENT_SECONDS = 30.0
"""For how long a question is not asked again after there was no answer, or the service key was refused."""
TIMEOUT_SECONDS = 3.0
_MEMORY = 50_000
_EVERY = ""
"""In place of a model: all of them."""
_MANY = 3
"""From how many models on all are asked for at once."""
_Question = tuple[str | None, str]
"""A user's id (None: everyone) and a model."""
_Kept = TypeVar("_Kept")
_WITHHELD = object()
"""In place of a record that Open WebUI does not show."""


class Access:
    """May a user use a model? Asked with a service key, believed for a minute.

    While Open WebUI does not answer, what it said last holds: a slow moment must not open what it keeps shut.
    Each question is silent by itself, so that one user's slow moment is nobody else's.

    Open WebUI has no single call for it. Its rule: admins; the model's owner; a read grant for the user, for
    everyone, or for one of the user's groups; and the same for the model it is built on. Versions before 0.8
    keep the grants in another form, `access_control`, and answer 401 where there is no record.

    Args:
        url: Open WebUI's address; None: nobody to ask.
        api_key: an admin's API key.
    """

    def __init__(self, url: str | None, api_key: str | None) -> None:
        self._url = url.rstrip("/") if url else None
        self._api_key = api_key
        self._session: aiohttp.ClientSession | None = None
        self._known: dict[_Question, tuple[float, bool]] = {}
        self._silent: dict[_Question, float] = {}
        """By question, until when nobody is asked."""

    @property
    def asks(self) -> bool:
        """Whether there is anybody to ask."""
        return self._url is not None and self._api_key is not None

    async def may_use(self, user_id: str | None, model: str) -> bool | None:
        """Whether the user may use the model; None when there is nobody to ask, or never was an answer.

        Args:
            user_id: Open WebUI's id of a user who is no admin; None: may everyone?
            model: the model's id.
        """
        if not self.asks:
            return None
        known = self._recall(user_id, model)
        if known is not None:
            return known
        if self._is_silent(user_id, model):
            return self._last(user_id, model)
        try:
            allowed = await self._ask(user_id, model)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            self._keep_silent(error, user_id, model)
            return self._last(user_id, model)
        self._remember(user_id, model, allowed)
        return allowed

    async def learn(self, user_id: str | None, models: Iterable[str]) -> None:
        """Asks about many models in two calls, so that `may_use` need not ask about each."""
        unknown = [model for model in models if self._recall(user_id, model) is None]
        quiet = not self.asks or self._is_silent(user_id, _EVERY)
        if quiet or len(unknown) < _MANY:
            return
        try:
            listed = await self._get("/api/v1/models/base", {})
            if not isinstance(listed, list):
                return
            groups = await self._groups(user_id)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            self._keep_silent(error, user_id, _EVERY)
            return
        records = {record.get("id"): record for record in listed if isinstance(record, dict)}
        for model in unknown:
            self._remember(user_id, model, _open(records.get(model), user_id, groups))

    def _recall(self, user_id: str | None, model: str) -> bool | None:
        known = self._known.get((user_id, model))
        return known[1] if known and time.monotonic() - known[0] < BELIEVED_SECONDS else None

    def _last(self, user_id: str | None, model: str) -> bool | None:
        """What Open WebUI said last, however long ago; None if it never did, or a "yes" is too old."""
        asked, allowed = self._known.get((user_id, model), (0.0, None))
        return None if allowed and time.monotonic() - asked >= LAST_YES_SECONDS else allowed

    def _remember(self, user_id: str | None, model: str, allowed: bool) -> None:
        _put(self._known, (user_id, model), (time.monotonic(), allowed))
        self._silent.pop((user_id, model), None)

    def _is_silent(self, user_id: str | None, model: str) -> bool:
        now = time.monotonic()
        return any(now < self._silent.get((user_id, which), 0.0) for which in (model, _EVERY))

    def _keep_silent(self, error: Exception, user_id: str | None, model: str) -> None:
        _put(self._silent, (user_id, model), time.monotonic() + SILENT_SECONDS)
        reason = type(error).__name__
        log.warning("Open WebUI did not say who may use what", reason=reason, model=model or "all")

    def forget(self) -> None:
        """Believe nothing any more: access was just changed. A "no" goes on holding against silence."""
        self._known = {key: (-math.inf, False) for key, (_, allowed) in self._known.items() if not allowed}
        self._silent.clear()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _ask(self, user_id: str | None, model: str, above: frozenset[str] = frozenset()) -> bool:
        record = await self._record(model)
        if not isinstance(record, dict) or record.get("is_active") is False:
            return False  # without a record a model is the admins' alone
        if not _open(record, user_id, await self._groups(user_id)):
            return False
        base = record.get("base_model_id")
        if not isinstance(base, str) or not base:
            return True
        above |= {model}  # nothing keeps an admin from building two models on one another
        return base not in above and await self._ask(user_id, base, above)

    async def _record(self, model: str) -> Any:
        """The model's record; None if there is none.

        Raises:
            aiohttp.ClientError: Open WebUI does not say, or the key is not an admin's.
        """
        try:
            record = await self._get("/api/v1/models/model", {"id": model})
        except aiohttp.ClientResponseError as error:
            if error.status not in (401, 403):
                raise
            record = _WITHHELD
        if record is not _WITHHELD:
            return record
        # Old versions say 401 of what is not there, and any may keep a record from admins. The list, which
        # only admins get, holds all models of connections.
        listed = await self._get("/api/v1/models/base", {})
        found = listed if isinstance(listed, list) else []
        return next((entry for entry in found if isinstance(entry, dict) and entry.get("id") == model), None)

    async def _groups(self, user_id: str | None) -> set[str]:
        if user_id is None:
            return set()
        groups = await self._get(f"/api/v1/users/{user_id}/groups", {"include_inherited": "true"})
        known = (
            [group.get("id") for group in groups if isinstance(group, dict)]
            if isinstance(groups, list)
            else []
        )
        return {group_id for group_id in known if isinstance(group_id, str)}

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
            answer = await response.json()
            return _WITHHELD if answer is None else answer


def _put(memory: dict[_Question, _Kept], key: _Question, value: _Kept) -> None:
    """Remembers the newest; what was asked longest ago is forgotten."""
    memory.pop(key, None)
    memory[key] = value
    if len(memory) > _MEMORY:
        del memory[next(iter(memory))]


def _open(record: Any, user_id: str | None, groups: set[str]) -> bool:
    """Whether a model's record lets the user in; the model below it is another question."""
    if not isinstance(record, dict) or record.get("is_active") is False:
        return False
    if user_id is not None and record.get("user_id") == user_id:
        return True
    if "access_grants" not in record and "access_control" in record:
        return _controlled(record["access_control"], user_id, groups)
    return _granted(record.get("access_grants"), user_id, groups)


def _controlled(control: Any, user_id: str | None, groups: set[str]) -> bool:
    """As versions before 0.8 have it: null is for everyone, an empty object for nobody."""
    if control is None:
        return True
    read = control.get("read") if isinstance(control, dict) else None
    if not isinstance(read, dict):
        return False
    users, members = (read.get(name) for name in ("user_ids", "group_ids"))
    return (isinstance(users, list) and user_id in users) or (
        isinstance(members, list) and any(group in members for group in groups)
    )


def _granted(grants: Any, user_id: str | None, groups: set[str]) -> bool:
    for grant in grants if isinstance(grants, list) else ():
        if not isinstance(grant, dict) or grant.get("permission") != "read":
            continue
        kind, principal = grant.get("principal_type"), grant.get("principal_id")
        if not isinstance(principal, str):
            continue
        if kind == "user" and principal in (user_id, "*"):
            return True
        if kind == "group" and principal in groups:
            return True
    return False
