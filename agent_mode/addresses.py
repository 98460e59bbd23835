"""What can be asked over HTTP. Pure functions."""

from __future__ import annotations

from urllib.parse import urlsplit


def is_web_address(text: str) -> bool:
    """Whether it is an address with http or https and a host; white space around it does not count."""
    text = text.strip()
    try:
        parts = urlsplit(text)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, half an IPv6 address
        return False
    return whole and text.isprintable() and " " not in text
