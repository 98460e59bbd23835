"""/api/v1/users/{id}/credential: the API key of Open WebUI by which an agent acts for a user."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field

from agent_mode.admin.api import shapes
from agent_mode.admin.api.requests import Body, Running, Writing, read, takes
from agent_mode.chat.runtime import Runtime
from agent_mode.errors import RequestError
from agent_mode.store.credentials import API_KEY_LIMIT

router = APIRouter(prefix="/api/v1/users", tags=["credentials"])
UserId = Annotated[str, Path(max_length=256, description="Open WebUI's id of the user")]


class CredentialForm(BaseModel):
    """A user's own API key."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    api_key: str = Field(description="From Open WebUI: Settings, Account, API keys", max_length=API_KEY_LIMIT)


@router.get("/{user_id}/credential", response_model=shapes.CredentialState, summary="Is there a credential?")
async def has_credential(runtime: Running, user_id: UserId) -> dict[str, Any]:
    """Whether there is an API key of the user that can be used. The key itself is never shown."""
    return {"user_id": user_id, "has_credential": await runtime.credentials.has(user_id)}


@router.put(
    "/{user_id}/credential",
    response_model=shapes.CredentialState,
    summary="Register a credential",
    openapi_extra=takes(CredentialForm.model_json_schema(), key={"api_key": "sk-0123456789abcdef"}),
)
async def put_credential(runtime: Running, writer: Writing, user_id: UserId, body: Body) -> dict[str, Any]:
    """Keeps the user's own API key, encrypted. Where Open WebUI is known, it must say that it is theirs."""
    api_key = read(CredentialForm, body).api_key.strip()
    await _check(runtime, user_id, api_key)
    await runtime.credentials.put(user_id, api_key)
    writer.record("registered", "credential", user_id)
    return {"user_id": user_id, "has_credential": True}


@router.delete("/{user_id}/credential", status_code=204, response_model=None, summary="Forget a credential")
async def delete_credential(runtime: Running, writer: Writing, user_id: UserId) -> None:
    """Forgets the user's API key, if there is one."""
    await runtime.credentials.drop(user_id)
    writer.record("deleted", "credential", user_id)


async def _check(runtime: Runtime, user_id: str, api_key: str) -> None:
    """
    Raises:
        RequestError: Open WebUI does not take the key, or it is somebody else's.
        ToolError: Open WebUI does not answer.
    """
    if not runtime.openwebui.known:
        return
    account = await runtime.openwebui.whoami(api_key)
    if account is None:
        raise RequestError(
            "Open WebUI does not accept this API key.",
            hint="Copy the whole key from Open WebUI: Settings, Account, API keys. An admin must allow them.",
            code="credential_refused",
            status=422,
            field="api_key",
        )
    # Where users' status is switched off, Open WebUI says only that the key is good.
    if account.id is not None and account.id != user_id:
        raise RequestError(
            "This API key is another user's.",
            hint="Register the key under its owner's id; nobody acts with somebody else's.",
            code="credential_refused",
            status=422,
            field="api_key",
        )
