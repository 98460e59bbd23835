"""The environment, read once into one frozen `Settings`."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from agent_mode.addresses import is_web_address
from agent_mode.complaints import Complaint

ROOT = Path(__file__).resolve().parent.parent
"""The folder that holds `personas/`, `strategies/`, `valves/` and `pipelines/`."""


_ADDRESSES = {
    "OPENWEBUI_URL": "Write it as http://host:8080, as this server reaches Open WebUI.",
    "OPENAI_API_BASE_URL": "Write it as http://host:port/v1 or https://host/v1.",
}


class Settings(BaseSettings):
    """All settings of the process. Names of the environment variables are the aliases.

    Those without the `AGENT_MODE_` prefix are names that operators of Open WebUI already use.
    """

    model_config = SettingsConfigDict(
        env_prefix="AGENT_MODE_", frozen=True, extra="ignore", env_ignore_empty=True
    )

    host: str = Field("127.0.0.1", validation_alias="HOST")
    port: int = Field(9099, validation_alias="PORT", ge=1, le=65535)
    pipelines_api_key: str | None = Field(None, validation_alias="PIPELINES_API_KEY")
    pipelines_server_dir: Path | None = Field(None, validation_alias="PIPELINES_SERVER_DIR")
    openai_api_base_url: str | None = Field(None, validation_alias="OPENAI_API_BASE_URL")
    openai_api_key: str | None = Field(None, validation_alias="OPENAI_API_KEY")
    openwebui_url: str | None = Field(None, validation_alias="OPENWEBUI_URL")
    openwebui_api_key: str | None = Field(None, validation_alias="OPENWEBUI_API_KEY")

    data_dir: Path = Path("data")
    """Database, connection key and the run-time copy of the pipeline files."""
    database_url: str | None = None
    """SQLAlchemy URL; None: SQLite in `data_dir`."""
    model: str | None = None
    """Provider model for agents that name none; None: the first chat model that the provider lists."""
    personas_dir: Path = ROOT / "personas"
    strategies_dir: Path = ROOT / "strategies"
    valves_dir: Path = ROOT / "valves"
    layer: Literal["on", "off"] = "on"
    """`off`: on a stock server, leave its routes alone and answer through `pipe()`."""
    max_body_mb: int = Field(64, ge=1)
    """Largest request body in MiB that is read."""
    override_phrases: Literal["warn", "refuse"] = "warn"
    """What to do with a persona whose instructions carry phrases such as "ignore previous"."""
    admin_page: Literal["on", "off"] = "on"
    """Whether `/admin` shows the Agents page."""
    trusted_proxies: str | None = None
    """Addresses or networks of reverse proxies, separated by commas, that are believed whom they ask for."""
    secret_key: str | None = Field(None, repr=False)
    """What the users' credentials are encrypted with; None: a key generated in `data_dir`."""
    allow_custom_python: bool = False
    """Whether agents of the store may bring Python code of their own, which this server then runs."""
    webhook_urls: str | None = None
    """Addresses, separated by commas, that every event is posted to."""
    webhook_secret: str | None = Field(None, repr=False)
    """What the posts are signed with: `whsec_` and base64, or another text of at least 24 bytes."""
    catalogue_urls: str | None = None
    """Further persona catalogues, separated by commas: `https://host/path.json#sha256=<hex>`."""
    log_format: Literal["text", "json"] = "text"
    debug: bool = False
    """Log more, prompts included."""

    def misfits(self) -> list[Complaint]:
        """What is wrong with the settings though each is of its kind. A stock server starts all the same."""
        named = {"OPENWEBUI_URL": self.openwebui_url, "OPENAI_API_BASE_URL": self.openai_api_base_url}
        return [
            Complaint(
                (name,), "This must be an address that begins with http:// or https://", _ADDRESSES[name]
            )
            for name, value in named.items()
            if value and not is_web_address(value)
        ]

    def resolved_database_url(self) -> str:
        """The database URL with an async driver in it."""
        if self.database_url is None:
            return f"sqlite+aiosqlite:///{(self.data_dir / 'agent_mode.db').resolve()}"
        scheme, _, rest = self.database_url.partition("://")
        if scheme in ("postgres", "postgresql"):
            return f"postgresql+asyncpg://{rest}"
        if scheme == "sqlite":
            return f"sqlite+aiosqlite://{rest}"
        return self.database_url

    def webhook_targets(self) -> tuple[str, ...]:
        """The addresses of `webhook_urls`."""
        return _listed(self.webhook_urls)

    def proxies(self) -> tuple[str, ...]:
        """The entries of `trusted_proxies`."""
        return _listed(self.trusted_proxies)

    def catalogue_sources(self) -> tuple[str, ...]:
        """The entries of `catalogue_urls`."""
        return _listed(self.catalogue_urls)


def _listed(text: str | None) -> tuple[str, ...]:
    return tuple(entry.strip() for entry in (text or "").split(",") if entry.strip())


@cache
def get_settings() -> Settings:
    """The settings of this process.

    Raises:
        pydantic.ValidationError: a variable does not parse; `serve` turns it into a readable line.
    """
    return Settings()  # pyright: ignore[reportCallIssue]


def variable_of(field: str) -> str:
    """The environment variable of a setting, by the name that pydantic has for it."""
    prefix = str(Settings.model_config.get("env_prefix", ""))
    return f"{prefix}{field.upper()}" if field in Settings.model_fields else field
