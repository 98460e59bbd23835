"""What a browser may do with the Agents page, and which requests come from it. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

Headers = tuple[tuple[bytes, bytes], ...]

_COMMON: Headers = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    # Not `no-referrer`: a form's Origin would be "null" then.
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
)


def page_headers(nonce: str) -> Headers:
    """For everything behind the sign-in.

    What NiceGUI needs, and no more: `unsafe-eval`, since Vue compiles its templates in the browser and the
    server sends JavaScript over the socket; style attributes; pictures in data URLs. Its inline scripts carry
    a nonce, so a script that gets into the page by another way does not run.
    """
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src 'self' 'nonce-{nonce}' 'unsafe-eval'",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data:",
            "font-src 'self' data:",
            "connect-src 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
        )
    )
    return (*_COMMON, (b"content-security-policy", policy.encode()))


def plain_headers(nonce: str) -> Headers:
    """For our own documents, which need no script at all."""
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; form-action 'self'; frame-ancestors 'none'; "
        "base-uri 'none'"
    )
    return (*_COMMON, (b"content-security-policy", policy.encode()), (b"cache-control", b"no-store"))


def is_own(headers: Mapping[str, str]) -> bool:
    """Whether a request that changes something, or a socket, was begun by our own page.

    Browsers say in `Origin` where a request comes from, and no page can change that. Behind a proxy that
    speaks to us under another name the browser's is in `X-Forwarded-Host`, which no foreign page can send
    along either.
    """
    origin = headers.get("origin")
    if not origin:
        return False
    try:
        place = urlsplit(origin)
        place.port  # noqa: B018  raises for what is no port
    except ValueError:
        return False
    if place.scheme not in ("http", "https") or not place.netloc:
        return False
    names = (headers.get("host"), headers.get("x-forwarded-host"))
    default = 443 if place.scheme == "https" else 80
    return _full(place.netloc, default) in {_full(name, default) for name in names if name}


def _full(netloc: str, default: int) -> str:
    netloc = netloc.strip().lower()
    return netloc if netloc.rpartition("]")[2].rpartition(":")[1] else f"{netloc}:{default}"


def is_https(scheme: str, headers: Mapping[str, str]) -> bool:
    """Whether the browser spoke TLS, to us or to a proxy before us."""
    return scheme in ("https", "wss") or headers.get("x-forwarded-proto", "").lower() == "https"


def safe_target(target: str, prefix: str) -> str:
    """Where to go after the sign-in: a page of ours, else the first one."""
    good = (
        target.startswith(f"{prefix}/")
        and target.isascii()
        and target.isprintable()
        and not any(sign in target for sign in ("//", "\\", "..", "/sign-"))
    )
    return target if good and len(target) <= 500 else f"{prefix}/"
