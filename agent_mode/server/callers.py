"""Users of Open WebUI who call with their own credential in place of the connection key.

With the connection's authentication at `Session`, Open WebUI sends the session token of the user who asks
(or the API key that a program used) on two routes: the model list and the chat. Everything else carries the
connection key. Whoever has such a token can also send it to us directly, past Open WebUI. So nothing that the
request claims about the user is believed, and what Open WebUI would have checked is checked here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any

from agent_mode.chat.context import User
from agent_mode.errors import AuthenticationError, RequestError
from agent_mode.server import auth
from agent_mode.server.streaming import Scope
from agent_mode.tools.openwebui import Account, OpenWebUIClient
from agent_mode.tools.runner import TOOL_RUNNER

_ROUTES = frozenset(
    {
        ("GET", "/models"),
        ("GET", "/v1/models"),
        ("POST", "/chat/completions"),
        ("POST", "/v1/chat/completions"),
    }
)
_CREDENTIAL = re.compile(r"sk-[\w-]{8,200}|[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)
"""An API key of Open WebUI, or a session token."""


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A user of Open WebUI who called with a credential that Open WebUI confirms.

    Attributes:
        account: who it is, as Open WebUI says.
        credential: the user's session token or API key.
        openwebui: whom to ask further.
    """

    account: Account
    credential: str = field(repr=False)
    openwebui: OpenWebUIClient = field(repr=False)

    @property
    def user(self) -> User:
        """Who asks, whatever the request claims."""
        return replace(User.of(self.account.as_user()), credential=self.credential)

    async def vouched(self, body: Any) -> Any:
        """The body of a chat request with the user that Open WebUI names, whatever it claims.

        Raises:
            AuthenticationError: Open WebUI does not say who it is.
            RequestError: Open WebUI keeps the user from the model.
            ToolError: Open WebUI does not answer.
        """
        if not isinstance(body, dict):
            return body
        model = body.get("model")
        if isinstance(model, str) and model != TOOL_RUNNER:  # that one does nothing on a user's behalf
            if self.account.id is None:
                raise AuthenticationError(
                    "Open WebUI does not say whose API key this is.",
                    hint="An admin switches users' status on in Open WebUI (ENABLE_USER_STATUS), or sets the "
                    "connection's authentication to Bearer.",
                )
            if not await self.openwebui.may_use_with(self.credential, model):
                raise RequestError(
                    "There is no such model here, or you may not use it.",
                    hint="An admin shares a model in Open WebUI: Admin Panel, Settings, Models.",
                    code="model_access",
                    status=403,
                    field="model",
                )
        return {**body, "user": self.account.as_user()}


async def check(
    scope: Scope, headers: dict[str, str], key: str, openwebui: OpenWebUIClient | None, *, page: bool = False
) -> SignedIn | None:
    """Lets a caller in: with the connection key, or as a user whom Open WebUI confirms.

    Args:
        scope: of the request.
        headers: of the request, names in lower case.
        key: the connection key.
        openwebui: whom to ask; None while the server starts.
        page: see `auth.check`.

    Returns:
        The user; None for whoever has the connection key.

    Raises:
        AuthenticationError: neither; with the reason.
        ToolError: Open WebUI does not answer.
    """
    authorization = headers.get("authorization")
    try:
        auth.check(authorization, key, scope.get("server"), page=page)
        return None
    except auth.WrongKey as refusal:
        credential = (authorization or "").partition(" ")[2].strip()
        if (scope["method"], scope["path"]) not in _ROUTES or not _CREDENTIAL.fullmatch(credential):
            raise
        if openwebui is None or not openwebui.known:
            raise AuthenticationError(
                refusal.message,
                hint=f"{refusal.hint} If the connection's authentication is Session, set OPENWEBUI_URL, "
                "so that users' sessions can be checked, and restart.",
            ) from None
        account = await openwebui.whoami(credential)
        if account is None:
            raise AuthenticationError(
                "This is neither the connection key nor a session or API key that Open WebUI accepts.",
                hint="Users sign in again, or make a new API key. Elsewhere send the connection key.",
            ) from None
        return SignedIn(account, credential, openwebui)


def with_key(scope: Scope, key: str) -> Scope:
    """The request as upstream lets it pass: with the connection key."""
    kept = [(name, value) for name, value in scope["headers"] if name.lower() != b"authorization"]
    return {**scope, "headers": [*kept, (b"authorization", f"Bearer {key}".encode())]}
