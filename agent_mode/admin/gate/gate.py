"""The gate of the Agents page: nobody comes to a page or a socket behind it without a good ticket.

A pure ASGI app for everything below `/admin`. The pages themselves are made with the first visit, since what
they are made of takes its time to load.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any, Protocol
from urllib.parse import parse_qs, quote

from agent_mode.admin.gate import documents, policy
from agent_mode.admin.gate.proof import prove
from agent_mode.admin.gate.slowdown import Slowdown
from agent_mode.admin.gate.standing import Standing, is_admin
from agent_mode.admin.gate.tickets import COOKIE, HOURS, Person, Ticket, Tickets, new_id
from agent_mode.counting import counted
from agent_mode.errors import AgentModeError, AuthenticationError, RequestError
from agent_mode.observe.logs import get_logger
from agent_mode.tools.openwebui import OpenWebUIClient

log = get_logger(__name__)

PREFIX = "/admin"
SIGN_IN = f"{PREFIX}/sign-in"
SIGN_OUT = f"{PREFIX}/sign-out"
TICKET = "agent_mode.ticket"
"""Where the pages find the ticket in their request's scope."""
NONCE = "agent_mode.nonce"

_FORM_LIMIT = 16_384
_ENDED = 4401
"""Close code of a socket whose session has ended."""

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[None]]


class House(Protocol):
    """What the gate stands before."""

    def check_key(self, key: str, scope: Scope) -> None:
        """
        Raises:
            AuthenticationError: this is not the connection key.
        """
        ...

    @property
    def openwebui(self) -> OpenWebUIClient | None:
        """Whom to ask about accounts."""
        ...

    @property
    def service_key(self) -> str | None:
        """The server's own key of Open WebUI."""
        ...

    async def prepare(self) -> None:
        """Asked before anything else; after it the gate knows which sessions were ended.

        Raises:
            ConfigurationError: there are no pages on this server; with the reason.
            StoreError: the database failed.
        """
        ...

    async def pages(self) -> App:
        """What is behind the gate; made for the first who comes through it."""
        ...

    async def note(self, person: Person, action: str, target: str = "", text: str = "") -> None:
        """Have something recorded that a person did."""
        ...


class Gate:
    """The ASGI app for `/admin`.

    Args:
        house: what is behind it.
        tickets: of the sessions.
        max_body: largest body in bytes that a page takes.
        clock: seconds, never going back.
    """

    def __init__(
        self,
        house: House,
        tickets: Tickets,
        max_body: int,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._house = house
        self.tickets = tickets
        self._max_body = max_body
        self._slowdown = Slowdown()
        self._standing = Standing(self._is_admin, clock=clock)
        self._sockets: defaultdict[str, set[Send]] = defaultdict(set)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if scope["type"] == "websocket":
            await self._socket(scope, headers, receive, send)
            return
        nonce = secrets.token_urlsafe(16)
        try:
            await self._house.prepare()
            await self._http(scope, headers, await self._ticket(headers), nonce, receive, send)
        except AgentModeError as error:
            await _document(
                send, error.status, nonce, documents.notice(nonce, "Not here", error.message, error.hint)
            )

    async def close_sockets(self) -> None:
        """Ends what is open, so that the pages are made anew."""
        for sends in list(self._sockets.values()):
            await _close_all(sends, 1012)

    async def _ticket(self, headers: dict[str, str]) -> Ticket | None:
        ticket = self.tickets.read(_cookie(headers.get("cookie", "")))
        return ticket if ticket is not None and await self._goes_on(ticket) else None

    async def _goes_on(self, ticket: Ticket) -> bool:
        """Whether the session goes on; ends it with its sockets if not."""
        if not self.tickets.holds(ticket):
            return False
        if await self._standing.holds(ticket):
            # It may have been ended while this one was asked about.
            return self.tickets.holds(ticket)
        await self._end(ticket, "no admin of Open WebUI any more, as far as is known")
        return False

    async def _end(self, ticket: Ticket, text: str = "") -> None:
        if not self.tickets.holds(ticket):
            return
        self.tickets.end([ticket.id])
        self._standing.forget(ticket.id)
        await self._house.note(ticket.person, "signed out", ticket.id, text)
        await _close_all(self._sockets.pop(ticket.id, set()), _ENDED)

    async def _is_admin(self, account_id: str, credential: str) -> bool:
        return await is_admin(self._house.openwebui, self._house.service_key, account_id, credential)

    async def _http(
        self,
        scope: Scope,
        headers: dict[str, str],
        ticket: Ticket | None,
        nonce: str,
        receive: Receive,
        send: Send,
    ) -> None:
        method, path = scope["method"], scope["path"]
        if method not in ("GET", "HEAD") and not policy.is_own(headers):
            raise RequestError(
                "This request did not come from the Agents page itself.",
                hint="Open the page and try there. Behind a proxy, let it pass the Host header on, or set "
                "X-Forwarded-Host.",
                code="cross_site",
                status=403,
            )
        if path == SIGN_IN and method == "POST":
            await self._sign_in(scope, headers, nonce, receive, send)
        elif path == SIGN_IN and method in ("GET", "HEAD"):
            await self._ask(send, nonce, _query(scope).get("next", ""), signed_in=ticket is not None)
        elif path == SIGN_OUT and method == "POST":
            await self._sign_out(scope, headers, ticket, send)
        elif ticket is None:
            await self._turn_away(scope, headers, nonce, send)
        elif path == PREFIX:
            await _redirect(send, f"{PREFIX}/")
        else:
            scope = {**scope, "headers": _kept(scope["headers"]), TICKET: ticket, NONCE: nonce}
            pages = await self._house.pages()
            await pages(scope, _limited(receive, self._max_body), _with(send, policy.page_headers(nonce)))

    async def _ask(self, send: Send, nonce: str, target: str, *, signed_in: bool) -> None:
        target = policy.safe_target(target, PREFIX)
        if signed_in:
            await _redirect(send, target)
            return
        html = documents.sign_in(nonce, action=SIGN_IN, target=target, accounts=self._knows_accounts)
        await _document(send, 200, nonce, html)

    async def _sign_in(
        self, scope: Scope, headers: dict[str, str], nonce: str, receive: Receive, send: Send
    ) -> None:
        address = scope["client"][0] if scope.get("client") else ""
        form = _form(await _read(receive, _FORM_LIMIT))
        target = policy.safe_target(form.get("next", ""), PREFIX)
        try:
            person, credential = await self._proved(form, address, scope)
        except AgentModeError as error:
            log.warning("sign-in to the Agents page failed", code=error.code, address=address)
            html = documents.sign_in(
                nonce,
                action=SIGN_IN,
                target=target,
                accounts=self._knows_accounts,
                refusal=error.message,
                hint=error.hint,
                email=form.get("email", "")[:200],
            )
            await _document(send, error.status, nonce, html)
            return
        session_id = new_id()
        value = self.tickets.issue(person, session_id)
        if person.via == "account":
            self._standing.begin(session_id, credential)
        await self._house.note(person, "signed in")
        await _redirect(send, target, _set_cookie(value, HOURS * 3600, scope, headers))

    async def _proved(self, form: dict[str, str], address: str, scope: Scope) -> tuple[Person, str]:
        """As `prove`. A wrong key is slowed down after it was looked at, a password before."""
        account = "" if form.get("key", "").strip() else form.get("email", "")
        if account:
            self._slow_down(address, account)
        try:
            proved = await prove(form, lambda key: self._house.check_key(key, scope), self._house.openwebui)
        except AuthenticationError:
            if not account:
                self._slow_down(address)
            raise
        self._slowdown.succeeded(address, account)
        return proved

    def _slow_down(self, address: str, account: str = "") -> None:
        wait = self._slowdown.begin(address, account)
        if wait > 0:
            raise RequestError(
                "Too many sign-ins from your address have failed.",
                hint=f"Wait {counted(max(1, round(wait)), 'second')}, then try again.",
                code="sign_in_slowed",
                status=429,
            )

    async def _sign_out(
        self, scope: Scope, headers: dict[str, str], ticket: Ticket | None, send: Send
    ) -> None:
        if ticket is not None:
            await self._end(ticket)
        await _redirect(send, SIGN_IN, _set_cookie("", 0, scope, headers))

    async def _turn_away(self, scope: Scope, headers: dict[str, str], nonce: str, send: Send) -> None:
        address = scope["path"]
        query = scope.get("query_string", b"").decode("latin-1")
        target = policy.safe_target(f"{address}?{query}" if query else address, PREFIX)
        if scope["method"] not in ("GET", "HEAD") or "text/html" not in headers.get("accept", ""):
            raise RequestError(
                "You are not signed in.", hint=f"Sign in at {SIGN_IN}.", code="signed_out", status=401
            )
        if headers.get("sec-fetch-site") == "cross-site":
            await _document(send, 200, nonce, documents.once_more(nonce, target))
            return
        await _redirect(send, f"{SIGN_IN}?next={quote(target, safe='/')}")

    async def _socket(self, scope: Scope, headers: dict[str, str], receive: Receive, send: Send) -> None:
        try:
            await self._house.prepare()
        except AgentModeError:
            await refuse_socket(receive, send)
            return
        ticket = await self._ticket(headers)
        if ticket is None or not policy.is_own(headers):
            await refuse_socket(receive, send)
            return
        pages = await self._house.pages()

        async def while_it_holds() -> Message:
            # NiceGUI's client speaks every few seconds, so an ended session does not stay for long.
            message = await receive()
            if message["type"] == "websocket.receive" and not await self._goes_on(ticket):
                await _close_all({send}, _ENDED)
                return {"type": "websocket.disconnect", "code": _ENDED}
            return message

        self._sockets[ticket.id].add(send)
        try:
            scope = {**scope, "headers": _kept(scope["headers"]), TICKET: ticket}
            await pages(scope, while_it_holds, send)
        finally:
            sends = self._sockets.get(ticket.id)
            if sends is not None:
                sends.discard(send)
                if not sends:
                    del self._sockets[ticket.id]

    @property
    def _knows_accounts(self) -> bool:
        openwebui = self._house.openwebui
        return openwebui is not None and openwebui.known


async def refuse_socket(receive: Receive, send: Send) -> None:
    """Ends a socket before it has begun; the browser gets 403."""
    await receive()
    await send({"type": "websocket.close", "code": 1008})


async def _close_all(sends: set[Send], code: int) -> None:
    for send in list(sends):
        # It may have gone in this moment; servers raise different things then.
        with contextlib.suppress(RuntimeError, OSError, asyncio.InvalidStateError):
            await send({"type": "websocket.close", "code": code})


def _cookie(header: str) -> str | None:
    try:
        morsel = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return None
    return morsel.value if morsel is not None else None


def _set_cookie(value: str, seconds: int, scope: Scope, headers: dict[str, str]) -> tuple[bytes, bytes]:
    secure = "; Secure" if policy.is_https(scope.get("scheme", "http"), headers) else ""
    cookie = f"{COOKIE}={value}; Path={PREFIX}; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"
    return b"set-cookie", cookie.encode()


def _kept(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Without what a page would repeat in its addresses, and what no page needs to see."""
    return [(name, value) for name, value in headers if name.lower() != b"x-forwarded-prefix"]


def _query(scope: Scope) -> dict[str, str]:
    return _form(scope.get("query_string", b""))


def _form(raw: bytes) -> dict[str, str]:
    try:
        parsed = parse_qs(raw.decode(), keep_blank_values=True, max_num_fields=20)
    except ValueError as error:
        raise RequestError("The form cannot be read.", hint="Reload the page and try again.") from error
    return {name: values[0] for name, values in parsed.items()}


async def _read(receive: Receive, limit: int) -> bytes:
    taken = _limited(receive, limit)
    parts: list[bytes] = []
    while True:
        message = await taken()
        if message["type"] == "http.disconnect":
            raise RequestError("The request ended before its body was complete.")
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


def _limited(receive: Receive, limit: int) -> Receive:
    left = limit

    async def take() -> Message:
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        if left < 0:
            raise RequestError("That is too much at once.", hint="Send less.", code="too_large", status=413)
        return message

    return take


def _with(send: Send, more: policy.Headers) -> Send:
    names = {name for name, _ in more}

    async def add(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [(name, value) for name, value in message["headers"] if name.lower() not in names]
            message = {**message, "headers": [*kept, *more]}
        await send(message)

    return add


async def _document(send: Send, status: int, nonce: str, html: str) -> None:
    body = html.encode()
    headers = [
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        *policy.plain_headers(nonce),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _redirect(send: Send, target: str, *more: tuple[bytes, bytes]) -> None:
    headers = [
        (b"location", target.encode("ascii")),
        (b"content-length", b"0"),
        *policy.plain_headers("none"),
        *more,
    ]
    await send({"type": "http.response.start", "status": 303, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
