"""Why another server could not be asked, in words: nobody shall read the names of classes. Pure functions."""

from __future__ import annotations

_WORDS = (
    (("ClientConnectorDNSError",), "its name is not known"),
    (
        ("ClientConnectorCertificateError", "ClientConnectorSSLError", "ClientSSLError", "SSLError"),
        "its certificate is not trusted",
    ),
    (("ClientConnectorError", "ConnectionError"), "no connection"),
    (("TimeoutError", "Timeout"), "no answer in time"),
    (("InvalidURL", "InvalidUrlClientError", "MissingSchema", "InvalidSchema"), "that is no address"),
    (("ServerDisconnectedError", "ClientOSError", "ClientPayloadError"), "the connection broke off"),
)
"""By the name of an exception's class or of one that it descends from: aiohttp's, requests', Python's own."""


def why(error: BaseException | None) -> str:
    """Why there was no answer, as words for brackets."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return next((words for kinds, words in _WORDS if names & set(kinds)), "no usable answer")
