"""Signing in at Open WebUI with e-mail address and password, to learn whose account it is."""

from __future__ import annotations

from agent_mode.errors import AuthenticationError, ToolError
from agent_mode.tools.openwebui import Account
from agent_mode.tools.rest import Reply, Rest

_SECONDS = 15.0


async def sign_in(rest: Rest, email: str, password: str) -> tuple[Account, str] | None:
    """Whose account it is, and the token of the session that it opens; None if Open WebUI refuses.

    Raises:
        AuthenticationError: a password shows nothing there, or not enough; the hint says what does.
        ToolError: Open WebUI does not answer.
    """
    config = (await rest.get("/api/config", "")).data
    features = config.get("features") if isinstance(config, dict) else None
    if not isinstance(features, dict) or features.get("auth") is False:
        # It takes everybody for its admin then, whatever the password.
        raise AuthenticationError(
            "Open WebUI asks nobody for a password, so an account there shows nothing.",
            hint="Sign in with the connection key.",
        )
    reply = await _post(rest, email, password)
    if reply.status in (400, 401, 403):
        return None
    data = reply.data if isinstance(reply.data, dict) else {}
    if reply.status == 429:
        raise ToolError(
            "Open WebUI has seen too many sign-ins with this address.",
            hint="Wait a few minutes, or sign in with the connection key.",
            code="openwebui_busy",
            status=429,
        )
    if reply.status != 200:
        raise ToolError(
            f"Open WebUI did not do what it was asked ({reply.status}).",
            hint="Try again, or sign in with the connection key; if it stays so, look at Open WebUI's log.",
        )
    if not isinstance(data.get("id"), str) or not isinstance(data.get("token"), str):
        raise AuthenticationError(
            "Open WebUI wants more than a password for this account.",
            hint="Sign in with the connection key, or with an API key of Open WebUI.",
        )
    if str(data.get("email", "")).lower() != email.lower():
        return None  # a proxy before Open WebUI vouches for this server: that is not who sits here
    role = data.get("role")
    account = Account(data["id"], str(data.get("name") or ""), email, role if isinstance(role, str) else "")
    return account, data["token"]


async def _post(rest: Rest, email: str, password: str) -> Reply:
    try:
        body = {"email": email, "password": password}
        return await rest.post("/api/v1/auths/signin", "", body, seconds=_SECONDS)
    except TimeoutError as error:
        raise ToolError(
            "Open WebUI did not answer in time.",
            hint="Try again in a moment, or sign in with the connection key.",
            code="openwebui_unreachable",
            status=503,
            retryable=True,
        ) from error
