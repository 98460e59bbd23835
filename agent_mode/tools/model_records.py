"""The records that Open WebUI keeps of models: who may use them, and how they are shown. For admins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from agent_mode.errors import ToolError
from agent_mode.tools.openwebui import OpenWebUIClient, refused
from agent_mode.tools.rest import Reply

Json = dict[str, Any]
_SECONDS = 20.0
_API = "/api/v1/models"


class ModelRecords:
    """Reads and writes records with the API key of an admin.

    A model without a record is the admins' alone. All methods raise ToolError: Open WebUI does not answer, or
    refuses.

    Args:
        client: where Open WebUI is.
        key: an admin's API key.
    """

    def __init__(self, client: OpenWebUIClient, key: str) -> None:
        self._rest = client.rest
        self._key = key

    async def all(self) -> dict[str, Json]:
        """The records of all models of connections, by id."""
        reply = await self._rest.get(f"{_API}/base", self._key)
        return {entry["id"]: entry for entry in _listed(reply) if isinstance(entry.get("id"), str)}

    async def groups(self) -> dict[str, str]:
        """The names of all groups, by id."""
        reply = await self._rest.get("/api/v1/groups/", self._key)
        return {str(entry["id"]): str(entry.get("name") or "") for entry in _listed(reply) if "id" in entry}

    async def create(self, form: Json) -> Json:
        """Makes a record; returns it as Open WebUI keeps it."""
        # Old versions take a record without `access_control` for public.
        return await self._post(f"{_API}/create", {**form, "access_control": {}})

    async def update(self, form: Json) -> Json:
        """Writes a record that there is, but not its grants."""
        return await self._post(f"{_API}/model/update?id={quote(form['id'])}", form)

    async def set_grants(self, model_id: str, name: str, grants: Sequence[Json]) -> Json:
        """Replaces a record's grants."""
        body = {"id": model_id, "name": name, "access_grants": list(grants)}
        return await self._post(f"{_API}/model/access/update", body)

    async def delete(self, model_id: str) -> None:
        """Takes a record away."""
        await self._post(f"{_API}/model/delete?id={quote(model_id)}", {"id": model_id})

    async def _post(self, path: str, body: Json) -> Json:
        try:
            reply = await self._rest.post(path, self._key, body, seconds=_SECONDS)
        except TimeoutError as error:
            raise ToolError(
                "Open WebUI did not answer in time.",
                hint="Whether it did what it was asked is not known. Look before you try again.",
                code="openwebui_broken",
            ) from error
        if reply.status != 200:
            raise _refused(reply)
        return reply.data if isinstance(reply.data, dict) else {}


def _listed(reply: Reply) -> list[Json]:
    if reply.status != 200 or not isinstance(reply.data, list):
        raise _refused(reply)
    return [entry for entry in reply.data if isinstance(entry, dict)]


def _refused(reply: Reply) -> ToolError:
    if reply.status not in (401, 403):
        return refused(reply)
    said = f" It says: {reply.said}" if reply.said else ""
    return ToolError(
        f"Open WebUI does not let OPENWEBUI_API_KEY do this.{said}",
        hint="It has to be the API key of an admin. Setup says what is wrong with it.",
        code="openwebui_key",
        status=409,
    )
