"""Who may come in: whoever has the connection key, and admins of Open WebUI."""

from __future__ import annotations

from collections.abc import Callable

from agent_mode.admin.gate.tickets import Person
from agent_mode.errors import AuthenticationError, RequestError, ToolError
from agent_mode.tools.openwebui import Account, OpenWebUIClient
from agent_mode.tools.sign_in import sign_in

KEY_HOLDER = "connection key"
_LONGEST = 4096


async def prove(
    form: dict[str, str], check_key: Callable[[str], None], openwebui: OpenWebUIClient | None
) -> tuple[Person, str]:
    """Checks what somebody has sent to sign in: who it is, and with what Open WebUI can be asked about them.

    Args:
        form: `key` (the connection key, or an API key or session token of Open WebUI), or `email` and
            `password` of an account there.
        check_key: raises AuthenticationError for what is not the connection key.
        openwebui: whom to ask about accounts.

    Raises:
        RequestError: nothing was sent.
        AuthenticationError: it is not good, or not an admin's.
        ToolError: Open WebUI does not answer.
    """
    key, email, password = (form.get(name, "") for name in ("key", "email", "password"))
    key, email = key.strip(), email.strip()
    if max(map(len, (key, email, password))) > _LONGEST:
        raise RequestError("That is too long.", hint="Enter the key, or your e-mail address and password.")
    if key:
        return await _by_key(key, check_key, openwebui)
    if not email or not password:
        raise RequestError(
            "Nothing to sign in with was entered.",
            hint="Enter the connection key, or e-mail address and password of an admin of Open WebUI.",
        )
    if openwebui is None or not openwebui.known:
        raise AuthenticationError(
            "This server does not know where Open WebUI is, so accounts cannot be checked.",
            hint="Sign in with the connection key, or set OPENWEBUI_URL and restart.",
        )
    found = await sign_in(openwebui.rest, email, password)
    if found is None:
        raise AuthenticationError(
            "Open WebUI does not know this e-mail address with this password.",
            hint="Check both. Whoever signs in there without a password enters an API key above.",
        )
    account, token = found
    return _admin(account), token


async def _by_key(
    key: str, check_key: Callable[[str], None], openwebui: OpenWebUIClient | None
) -> tuple[Person, str]:
    try:
        check_key(key)
    except AuthenticationError as refusal:
        known = openwebui is not None and openwebui.known
        looks_so = key.startswith("sk-") or key.count(".") == 2
        if openwebui is None or not known or not looks_so or refusal.code != AuthenticationError.code:
            raise
        try:
            account = await openwebui.whoami(key)
        except ToolError:
            raise refusal from None
        if account is None:
            raise
        return _admin(account), key
    return Person(KEY_HOLDER, "key"), ""


def _admin(account: Account) -> Person:
    if account.role != "admin":
        raise AuthenticationError(
            "This account is not an admin's.",
            hint="An admin of Open WebUI signs in here; or enter the connection key.",
        )
    name = account.email or account.name or account.id or "admin"
    shown = "".join(char for char in name if char.isprintable())[:80] or "admin"
    return Person(shown, "account", account.id or "")
