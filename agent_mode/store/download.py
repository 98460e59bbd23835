"""One file from the internet, without trusting who serves it: HTTPS, pinned by hash, public hosts only.

The host's name is resolved once. Every address is checked, and the connection goes to a checked address and
not to the name, so that a name which resolves to something else a moment later (DNS rebinding) gains nothing.
Redirects are followed by hand, each through the same checks.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPSConnection

from agent_mode.errors import CatalogueError, ConfigurationError
from agent_mode.outages import why

SIZE_LIMIT = 5 * 1024 * 1024
REDIRECTS = 3
TIMEOUT = 10.0
"""Seconds to connect, and without a byte."""
TOTAL_TIMEOUT = 60.0
"""Seconds for one connection as a whole: a server that sends a byte now and then holds a thread no longer."""
ADDRESSES = 4
"""How many addresses of a host are tried."""

_CHUNK = 64 * 1024
_REDIRECT_STATUS = (301, 302, 303, 307, 308)
_SHA256 = re.compile(r"sha256=([0-9a-fA-F]{64})")
_NAT64 = IPv6Network("64:ff9b::/96")
_SETTING = "AGENT_MODE_CATALOGUE_URLS"


@dataclass(frozen=True, slots=True)
class Source:
    """A file that is trusted because its content is known."""

    url: str
    sha256: str
    """In hex, lower case."""

    @property
    def host(self) -> str:
        """Where it is, for people to read: the address may hold more than they should see."""
        return _host(self.url)

    @classmethod
    def parse(cls, text: str) -> Source:
        """Reads `https://host/path.json#sha256=<hex>`.

        Raises:
            ConfigurationError: code `catalogue_source`; it is not of that form.
        """
        url, _, fragment = text.strip().partition("#")
        pin = _SHA256.fullmatch(fragment)
        if pin is None:
            raise _bad_source("A catalogue address has no SHA-256 of the file.")
        _target(url, _bad_source)
        return cls(url, pin[1].lower())


def resolve(host: str, port: int) -> list[str]:
    """All addresses of a host, as the system finds them; raises `OSError` or `UnicodeError`."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def is_public(text: str) -> bool:
    """Whether an address is one of the open internet, seen through IPv6 forms that wrap an IPv4 address."""
    try:
        address = ip_address(text)
    except ValueError:  # an unknown zone or family
        return False
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = ip_address(address.packed[-4:])
        if inner is not None:
            return is_public(str(inner))
        if address.is_site_local:
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved)


@dataclass(frozen=True, slots=True)
class Network:
    """What a download depends on outside of it.

    Attributes:
        resolve: host and port to addresses.
        allowed: whether an address may be connected to.
        verify: True for the well-known certificate authorities, or the path of a file with others.
    """

    resolve: Callable[[str, int], list[str]] = resolve
    allowed: Callable[[str], bool] = is_public
    verify: bool | str = True


async def download(source: Source, network: Network | None = None) -> bytes:
    """The content of a source. Works in a thread, which ends by itself if the caller is cancelled.

    Raises:
        CatalogueError: code `catalogue_address` (not HTTPS, or not a public host), `catalogue_unreachable`
            (`retryable`), `catalogue_status`, `catalogue_redirects`, `catalogue_size` or `catalogue_hash`.
    """
    return await asyncio.to_thread(_download, source, network or Network())


def _download(source: Source, network: Network) -> bytes:
    url = source.url
    for _ in range(REDIRECTS + 1):
        location, data = _hop(_target(url, _refused), network)
        if location is None:
            if hashlib.sha256(data).hexdigest() != source.sha256:
                raise CatalogueError(
                    f"The file from {_host(url)} is not the one that was approved: its SHA-256 differs.",
                    hint=f"Look at what changed; if you trust it, put the new hash into {_SETTING}.",
                    code="catalogue_hash",
                )
            return data
        url = urljoin(url, location)
    raise CatalogueError(
        f"{_host(source.url)} redirects more than {REDIRECTS} times.",
        hint="Give the address at the end of the redirects.",
        code="catalogue_redirects",
    )


def _hop(target: SplitResult, network: Network) -> tuple[str | None, bytes]:
    """One request: where it redirects to, or the content."""
    host, port = str(target.hostname), target.port or 443
    trouble: Exception | None = None
    for address in _addresses(host, port, network):
        started = time.monotonic()
        try:
            return _get(target, host, port, address, network.verify)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            trouble = error
            if time.monotonic() - started >= TOTAL_TIMEOUT:
                raise _unreachable(host, f"took longer than {TOTAL_TIMEOUT:g} s") from error
    raise _unreachable(host, why(trouble)).with_detail(str(trouble)) from trouble


def _addresses(host: str, port: int, network: Network) -> list[str]:
    try:
        found = network.resolve(host, port)
    except (OSError, UnicodeError) as error:
        raise _unreachable(host, "the name cannot be resolved") from error
    # One private address is enough: a public name has no business to point inside.
    if not found or not all(map(network.allowed, found)):
        raise _refused(f"{host} is not a host of the public internet.")
    return found[:ADDRESSES]


def _get(
    target: SplitResult, host: str, port: int, address: str, verify: bool | str
) -> tuple[str | None, bytes]:
    url = target._replace(netloc=_netloc(address, port), fragment="").geturl()
    headers = {"Host": _netloc(host, port), "Accept-Encoding": "identity", "User-Agent": "agent-mode"}
    with requests.Session() as session:
        session.trust_env = False  # no proxy, no .netrc, no certificates from the environment
        session.mount("https://", _Adapter(host))
        with session.get(
            url, headers=headers, stream=True, timeout=TIMEOUT, allow_redirects=False, verify=verify
        ) as response:
            location = response.headers.get("Location")
            if response.status_code in _REDIRECT_STATUS and location:
                return location, b""
            if response.status_code != 200:
                raise CatalogueError(
                    f"{host} answered {response.status_code}.",
                    hint="Check that the address opens in a browser without signing in.",
                    code="catalogue_status",
                    retryable=response.status_code >= 500 or response.status_code == 429,
                )
            return None, _body(response, host)


def _body(response: requests.Response, host: str) -> bytes:
    # As it was sent: unpacking could make far more of it than was counted.
    received = bytearray()
    announced = response.headers.get("Content-Length", "")
    size = int(announced) if announced.isdecimal() else 0
    chunks = response.raw.stream(_CHUNK, decode_content=False) if size <= SIZE_LIMIT else ()
    for chunk in chunks:
        received += chunk
        size = max(size, len(received))
        if size > SIZE_LIMIT:
            break
    if size > SIZE_LIMIT:
        raise CatalogueError(
            f"The file from {host} is larger than {SIZE_LIMIT // 2**20} MiB.",
            hint="Split it, and list the parts one by one.",
            code="catalogue_size",
        )
    return bytes(received)


class _Connection(HTTPSConnection):
    """Ends after `TOTAL_TIMEOUT`, however slowly the other side goes on sending."""

    _alarm: threading.Timer | None = None

    def connect(self) -> None:
        super().connect()
        self._alarm = threading.Timer(TOTAL_TIMEOUT, self._shut_down)
        self._alarm.daemon = True
        self._alarm.start()

    def _shut_down(self) -> None:
        connected = self.sock
        if connected is not None:
            try:
                socket.socket.shutdown(connected, socket.SHUT_RDWR)  # wakes the thread that reads
            except OSError:
                return  # closed in the meantime

    def close(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        super().close()


class _Pool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _Connection  # pyright: ignore[reportAssignmentType]  the protocol wants mutable lists


class _Adapter(HTTPAdapter):
    """Connects to the address in the URL, and has the certificate be the one of the host."""

    def __init__(self, host: str) -> None:
        self._host = host
        super().__init__()

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, server_hostname=self._host, **options)
        self.poolmanager.pool_classes_by_scheme = {"https": _Pool}


def _target(url: str, complaint: Callable[[str], Exception]) -> SplitResult:
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna").decode()
        netloc = _netloc(host, parts.port or 443)
    except ValueError:  # UnicodeError is one
        raise complaint("The address of a catalogue cannot be read.") from None
    if parts.scheme != "https" or not host:
        raise complaint("The address of a catalogue does not begin with https://host.")
    if "@" in parts.netloc:
        raise complaint("The address of a catalogue holds a name or a password.")
    return parts._replace(netloc=netloc)


def _netloc(host: str, port: int) -> str:
    shown = f"[{host}]" if ":" in host else host
    return shown if port == 443 else f"{shown}:{port}"


def _host(url: str) -> str:
    return urlsplit(url).hostname or "the server"


def _bad_source(message: str) -> ConfigurationError:
    return ConfigurationError(
        message,
        hint="Give it as https://host/path.json#sha256=<64 hex digits>; sha256sum prints them.",
        code="catalogue_source",
        field=_SETTING,
    )


def _refused(message: str) -> CatalogueError:
    return CatalogueError(
        message,
        hint="Catalogues are loaded over HTTPS from public hosts only; put the file into personas/ instead.",
        code="catalogue_address",
    )


def _unreachable(host: str, reason: str) -> CatalogueError:
    return CatalogueError(
        f"{host} cannot be reached ({reason}).",
        hint="Check the address, and that this server may connect to it directly; proxies are not used.",
        code="catalogue_unreachable",
        retryable=True,
    )
