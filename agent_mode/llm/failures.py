"""A provider's failure as one readable sentence with the cure."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

from agent_mode.counting import counted
from agent_mode.errors import ProviderError
from agent_mode.llm.connection import Connection
from agent_mode.llm.sse import cut_off, readable
from agent_mode.observe.redaction import without_secrets

SHORTEST_KEY = 8
"""A dummy key such as `x` is no secret, and taking it out of a text would spoil the text."""


def from_status(
    status: int, body: bytes, connection: Connection, model: str, retry_after: str | None
) -> ProviderError:
    """The error for an HTTP answer that is not 200.

    Args:
        status: HTTP status of the provider.
        body: the start of the answer's body; its message is quoted, secrets taken out.
        connection: where the request went.
        model: the provider model that was asked for.
        retry_after: the provider's Retry-After header.
    """
    said = _message(body, connection)
    quoted = f" It says: {said}" if said else ""
    if status in (401, 403):
        return ProviderError(
            f"The model provider refused the key ({status}).{quoted}",
            hint="Check the key: valve `llm_api_key` of the personas pipeline, or OPENAI_API_KEY.",
            code="provider_auth",
        )
    if status == 404:
        return ProviderError(
            f"The model provider does not know the model “{readable(model, 80)}” (404).{quoted}",
            hint="Set a model that the provider offers: valve `llm_model`, or AGENT_MODE_MODEL.",
            code="provider_model",
        )
    if status == 429:
        seconds = (retry_after or "").strip()  # a provider may also send a date
        wait = (
            f"Try again in {counted(int(seconds), 'second')}."
            if seconds.isdecimal() and len(seconds) < 8
            else ""
        )
        return ProviderError(
            f"The model provider is limiting requests (429).{quoted}",
            hint=wait or "Wait a moment and try again, or raise the limit at the provider.",
            code="provider_rate_limit",
            status=429,
            retryable=True,
        )
    if status >= 500:
        return ProviderError(
            f"The model provider has trouble ({status}).{quoted}",
            hint="Try again in a moment; if it stays so, look at the provider's status page or log.",
            code="provider_unavailable",
            retryable=True,
        )
    return ProviderError(
        f"The model provider refused the request ({status}).{quoted}",
        hint="The message above says what it does not accept; a different model may.",
        code="provider_refused",
        status=400,
    )


def unreachable(connection: Connection, reason: str) -> ProviderError:
    """The provider did not accept a connection."""
    why = readable(without_secrets(reason), 120)
    return ProviderError(
        f"The model provider at {_shown(connection.base_url)} cannot be reached ({why}).",
        hint="Check the base URL, and that the provider is running and reachable from this server.",
        code="provider_unreachable",
        retryable=True,
    )


def timed_out(connection: Connection, error: TimeoutError) -> ProviderError:
    """No connection, or no byte, within the time that the valves allow."""
    if "onnection timeout" in str(error):  # aiohttp has no class of its own for it before 3.10
        return unreachable(connection, f"no answer within {counted(connection.connect_timeout, 'second')}")
    return ProviderError(
        f"The model provider sent nothing for {counted(connection.read_timeout, 'second')}.",
        hint="Try again, choose a faster model, or raise the valve `read_timeout`.",
        code="provider_timeout",
        status=504,
        retryable=True,
    )


def broken_stream(reason: str) -> ProviderError:
    return cut_off().with_detail(reason)


def leads_back(model: str) -> ProviderError:
    return ProviderError(
        f"The model “{readable(model, 80)}” leads back to Agent Mode itself.",
        hint="Choose a model of a real provider: valve `llm_model`, or AGENT_MODE_MODEL.",
        code="provider_recursion",
        status=400,
    )


def without_key(error: ProviderError, connection: Connection) -> ProviderError:
    """The same error, the connection's key taken out of what the provider said."""
    if connection.api_key and len(connection.api_key) >= SHORTEST_KEY:
        error.message = error.message.replace(connection.api_key, "[key]")
        error.detail = error.detail.replace(connection.api_key, "[key]")
    return error


def _message(body: bytes, connection: Connection) -> str:
    text = body.decode("utf-8", "replace").strip()
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return "" if text.startswith("<") else _quoted(text, connection, 200)
    error = data.get("error", data.get("detail", data.get("message"))) if isinstance(data, dict) else None
    if isinstance(error, dict):
        error = error.get("message")
    return _quoted(error, connection, 300)


def _quoted(said: object, connection: Connection, limit: int) -> str:
    text = str(said or "")
    if connection.api_key and len(connection.api_key) >= SHORTEST_KEY:
        text = text.replace(connection.api_key, "[key]")
    return readable(without_secrets(text), limit) if text else ""


def _shown(url: str) -> str:
    """The address without user, password and query: those may hold a key."""
    parts = urlsplit(url)
    return readable(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}", 120)
