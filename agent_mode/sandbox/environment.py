"""What agents' code sees of the server's environment: what is listed here, so that no key passes."""

from __future__ import annotations

from collections.abc import Mapping

_ALLOWED = frozenset(
    {
        "CURL_CA_BUNDLE",
        "DYLD_LIBRARY_PATH",
        "HOME",
        "LANG",
        "LANGUAGE",
        "LD_LIBRARY_PATH",
        "LOGNAME",
        "NO_PROXY",
        "NUMEXPR_NUM_THREADS",
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "PATH",
        "REQUESTS_CA_BUNDLE",
        "SSL_CERT_DIR",
        "SSL_CERT_FILE",
        "TZ",
        "TZDIR",
        "USER",
        "VIRTUAL_ENV",
        "no_proxy",
    }
)
_PROXIES = frozenset({"ALL_PROXY", "FTP_PROXY", "HTTPS_PROXY", "HTTP_PROXY"})
_SET = {
    "MALLOC_ARENA_MAX": "2",  # each arena takes 64 MiB of the address space that is limited
    "MPLBACKEND": "Agg",
    "PYTHONHASHSEED": "0",  # a run that is resumed goes through its sets in the same order
    "PYTHONUTF8": "1",
}


def scrubbed(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of code, made of the server's.

    A proxy passes only if its address holds no password.
    """
    kept = {name: value for name, value in environment.items() if _passes(name, value)}
    return {**kept, **_SET}


def _passes(name: str, value: str) -> bool:
    if name.upper() in _PROXIES:
        return "@" not in value
    return name in _ALLOWED or name.startswith("LC_")
