"""Where the LLM is: valves, else the environment, else Open WebUI's own models, else the demo model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol
from urllib.parse import urlsplit

from agent_mode.addresses import is_web_address
from agent_mode.errors import ConfigurationError
from agent_mode.settings import Settings

Kind = Literal["openai", "openwebui", "demo"]

DEMO_MODEL = "agent-mode-demo"


@dataclass(frozen=True, slots=True)
class Connection:
    """One OpenAI-compatible endpoint.

    Args:
        kind: `openwebui` when it is Open WebUI itself, whose models may lead back to ours.
        base_url: without a trailing slash; `{base_url}/chat/completions` is called.
        api_key: bearer token; never logged.
        model: provider model for agents that name none; None: the first chat model of the provider.
        connect_timeout: seconds.
        read_timeout: seconds without a byte from the provider.
    """

    kind: Kind
    base_url: str = ""
    api_key: str | None = None
    model: str | None = None
    connect_timeout: float = 10.0
    read_timeout: float = 300.0

    def __repr__(self) -> str:
        return f"Connection({self.kind}, {self.base_url!r}, model={self.model!r})"


def resolve(
    settings: Settings,
    *,
    base_url: str | None = None,
    api_key: str | None = None,
    model: str | None = None,
    connect_timeout: float = 10.0,
    read_timeout: float = 300.0,
) -> Connection:
    """The connection that holds, given a pipeline's valves (the keyword arguments) and the settings.

    Raises:
        ConfigurationError: a base URL is not an http(s) URL.
    """
    model = model or settings.model
    timeouts = {"connect_timeout": connect_timeout, "read_timeout": read_timeout}
    if base_url:
        url = _clean_url(base_url, "llm_base_url")
        return Connection(_kind(url), url, api_key, model, **timeouts)
    if settings.openai_api_base_url or settings.openai_api_key or api_key:
        url = settings.openai_api_base_url or "https://api.openai.com/v1"
        key = api_key or settings.openai_api_key
        url = _clean_url(url, "OPENAI_API_BASE_URL")
        return Connection(_kind(url), url, key, model, **timeouts)
    if settings.openwebui_url and settings.openwebui_api_key:
        url = _clean_url(settings.openwebui_url, "OPENWEBUI_URL") + "/api"
        return Connection("openwebui", url, settings.openwebui_api_key, model, **timeouts)
    return Connection("demo", model=DEMO_MODEL)


class Timeouts(Protocol):
    """The valves that say how long to wait, in seconds."""

    connect_timeout: int
    read_timeout: int


def openwebui(url: str, api_key: str, timeouts: Timeouts) -> Connection:
    """Open WebUI's own models, with the rights of whoever the key belongs to.

    Raises:
        ConfigurationError: the address is not an http(s) URL.
    """
    return Connection(
        "openwebui",
        _clean_url(url, "OPENWEBUI_URL") + "/api",
        api_key,
        connect_timeout=timeouts.connect_timeout,
        read_timeout=timeouts.read_timeout,
    )


def _kind(url: str) -> Kind:
    """Open WebUI's own API ends in `/api`, where providers' end in a version; its models may be ours."""
    return "openwebui" if urlsplit(url).path.endswith("/api") else "openai"


def _clean_url(url: str, name: str) -> str:
    url = url.strip().rstrip("/").removesuffix("/chat/completions")
    if not is_web_address(url):
        raise ConfigurationError(
            f"{name} is not a web address.",
            hint="Give it as http://host:port/v1 or https://host/v1.",
            code="llm_url",
            field=name,
        )
    return url
