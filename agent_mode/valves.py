"""Valves that survive Open WebUI's form: no input can raise, brick a start, or show a secret.

The form (tried on 0.12.4) posts strings for numbers, `null` for cleared fields, refuses to save while a
text field is empty, hides every validation error, and a `valves.json` that does not validate keeps the
stock server from starting. So values are coerced or replaced by their default, each with a log line.
"""

from __future__ import annotations

import logging
import math
import types
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, field_serializer, model_validator

from agent_mode.addresses import is_web_address

log = logging.getLogger(__name__)

MASK = "********"
_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})


def secret(description: str) -> Any:
    """A field that is masked when read back; posting the mask keeps the value."""
    return Field(None, description=description, json_schema_extra={"secret": True})


def address(description: str) -> Any:
    """A web address, or None."""
    return Field(None, description=description, json_schema_extra={"address": True})


def number(default: float, description: str, *, minimum: float, maximum: float) -> Any:
    """A number; a value outside the bounds becomes the nearer bound."""
    return Field(default, description=description, json_schema_extra={"minimum": minimum, "maximum": maximum})


class Valves(BaseModel):
    """Base class of all valves of ours.

    Field types that the form can show: `str` with a non-empty default, `str | None`, `bool`, `int`, `float`
    and `Literal`. Secrets are `str | None` made with `secret()`.
    """

    model_config = ConfigDict(extra="ignore")

    _known_secrets: ClassVar[dict[tuple[str, str], str]] = {}

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        # By field and mask: the form posts back what it was shown, and the model is built from that alone.
        cls._known_secrets = {}

    @model_validator(mode="before")
    @classmethod
    def _lenient(cls, data: Any) -> Any:
        if isinstance(data, cls):
            return data
        if not isinstance(data, dict):
            return {}
        cleaned: dict[str, Any] = {}
        for name, field in cls.model_fields.items():
            if name not in data:
                continue
            value = data[name]
            if cls._is_secret(name):
                cleaned[name] = cls._secret_value(name, value)
                continue
            try:
                cleaned[name] = _coerce(value, field.annotation)
            except (ValueError, TypeError, OverflowError):
                if value not in (None, ""):  # cleared in the form: the default is what is meant
                    log.warning("valve %s: value not usable, the default is used", name)
                continue
            cleaned[name] = _clamped(cleaned[name], field.json_schema_extra)
        return cleaned

    @classmethod
    def misfits(cls, values: Mapping[str, Any]) -> dict[str, str]:
        """What is wrong with values, by name: all that would else be put right in silence."""
        found = {name: cls._misfit(name, value) for name, value in values.items()}
        return {name: reason for name, reason in found.items() if reason}

    @classmethod
    def _misfit(cls, name: str, value: Any) -> str | None:
        field = cls.model_fields.get(name)
        if field is None:
            return "This valve is not known."
        if cls._is_secret(name):
            usable = value is None or (isinstance(value, str) and value.strip().isprintable())
            return None if usable else "This must be a text of one line, or null."
        try:
            kept = _coerce(value, field.annotation)
        except (ValueError, TypeError, OverflowError):
            return f"This must be {_in_words(field.annotation)}."
        extra = field.json_schema_extra
        if _is_no_address(kept, extra):
            return "This must be an address that begins with http:// or https://, or null."
        if _clamped(kept, extra) != kept and isinstance(extra, dict):
            return f"This must be between {extra['minimum']} and {extra['maximum']}."
        return None

    @classmethod
    def with_kept_addresses(cls, values: Mapping[str, Any], now: Self) -> dict[str, Any]:
        """The values, with what holds now in place of addresses that are none.

        For Open WebUI's form, which shows no refusal. The default would not do here: a key that was meant
        for this address would go to another one.
        """
        wrong = {
            name
            for name, value in values.items()
            if isinstance(value, str)
            and (field := cls.model_fields.get(name)) is not None
            and _is_no_address(value.strip(), field.json_schema_extra)
        }
        for name in sorted(wrong):
            log.warning("valve %s: not a web address, what was there is kept", name)
        return {name: getattr(now, name) if name in wrong else value for name, value in values.items()}

    @classmethod
    def hint_for(cls, name: str) -> str:
        """What a valve is for, as the cure for a value that cannot be used."""
        field = cls.model_fields.get(name)
        return f"{field.description}." if field is not None and field.description else ""

    @classmethod
    def secrets(cls) -> frozenset[str]:
        """The names of the fields that are masked when shown."""
        return frozenset(name for name in cls.model_fields if cls._is_secret(name))

    @field_serializer("*", when_used="json")
    def _masked(self, value: Any, info: Any) -> Any:
        # The server persists with model_dump() in Python mode and shows in JSON mode.
        if isinstance(value, str) and type(self)._is_secret(info.field_name):
            return mask(value)
        return value

    @classmethod
    def _is_secret(cls, name: str) -> bool:
        extra = cls.model_fields[name].json_schema_extra
        return isinstance(extra, dict) and extra.get("secret") is True

    @classmethod
    def _secret_value(cls, name: str, value: Any) -> str | None:
        if not isinstance(value, str) or not value.strip() or not value.strip().isprintable():
            return None
        value = value.strip()
        if value.startswith(MASK):
            return cls._known_secrets.get((name, value))
        cls._known_secrets[name, mask(value)] = value
        return value


def mask(value: str) -> str:
    """What is shown instead of a secret: enough to tell two keys apart, too little to use."""
    return MASK + (value[-4:] if len(value) >= 12 else "")


def _coerce(value: Any, annotation: Any) -> Any:
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        inner = [arg for arg in get_args(annotation) if arg is not type(None)]
        if value is None or value == "":
            return None
        return _coerce(value, inner[0])
    if origin is list:
        items = value.split(",") if isinstance(value, str) else value
        words = [item.strip() for item in items if isinstance(item, str) and item.strip()]
        if not words:
            raise ValueError("empty")
        return words
    if origin is Literal:
        if isinstance(value, bool):
            value = "on" if value else "off"  # it was a switch once
        if value in get_args(annotation):
            return value
        raise ValueError("not among the choices")
    if value is None:
        raise ValueError("cleared")
    if annotation is bool:
        return _to_bool(value)
    if annotation is int:
        return int(float(value))
    if annotation is float:
        return _finite(float(value))
    if annotation is str:
        if not isinstance(value, str) or not value.strip():
            raise ValueError("empty")
        if not value.strip().isprintable():  # half a surrogate pair could never be shown again
            raise ValueError("control characters")
        return value.strip()
    return value


def _in_words(annotation: Any) -> str:
    """What a field takes, for people."""
    if get_origin(annotation) in (Union, types.UnionType):
        inner = [arg for arg in get_args(annotation) if arg is not type(None)]
        return f"{_in_words(inner[0])}, or null"
    if get_origin(annotation) is Literal:
        return f"one of {', '.join(map(str, get_args(annotation)))}"
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text of one line"}
    return words.get(annotation, "something else")


def _to_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in _TRUE | _FALSE:
        return word in _TRUE
    raise ValueError("neither true nor false")


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("not a number")
    return value


def _is_no_address(value: Any, extra: Any) -> bool:
    asked = isinstance(extra, dict) and extra.get("address") is True
    return asked and isinstance(value, str) and value != "" and not is_web_address(value)


def _clamped(value: Any, bounds: Any) -> Any:
    if isinstance(bounds, dict) and "minimum" in bounds and not isinstance(value, bool):
        return type(value)(min(max(value, bounds["minimum"]), bounds["maximum"]))
    return value


def usable_prefix(prefix: str) -> bool:
    """Whether commands can begin with it: one to three characters that are no part of a word."""
    return 0 < len(prefix) <= 3 and not any(c.isalnum() or c.isspace() or c in "\\`_" for c in prefix)


class CommandValves(Valves):
    """What the personas and the filter have in common: who can be called, and how."""

    models: str | None = Field(
        None, description="Which personas are offered: keys, tags or categories, comma separated. None: all"
    )
    keyword_prefix: str = Field(
        "!", description="What a command begins with; Open WebUI opens menus of its own at / @ # $"
    )
    case_sensitive: bool = Field(False, description="Whether !Coder differs from !coder")
    history_policy: Literal["strategy", "full", "relabel", "summary", "last_n", "none"] = Field(
        "strategy", description="What becomes of earlier messages at a switch; strategy: as fits the model"
    )
    enable_debug: bool = Field(False, description="Log what is decided in each turn, and the prompts")

    @classmethod
    def _misfit(cls, name: str, value: Any) -> str | None:
        if name == "keyword_prefix" and not (isinstance(value, str) and usable_prefix(value.strip())):
            return "This must be 1 to 3 characters that are no letters, digits, spaces, \\, ` or _."
        return super()._misfit(name, value)

    @model_validator(mode="after")
    def _usable_prefix(self) -> Self:
        if not usable_prefix(self.keyword_prefix):
            log.warning("valve keyword_prefix: %r cannot begin a command, ! is used", self.keyword_prefix)
            self.keyword_prefix = "!"
        return self


class HotswapValves(CommandValves):
    """Valves of the filter that brings the commands to every model."""

    pipelines: list[str] = Field(["*"], description="Models that it works on, comma separated; *: all")
    show_persona_info: bool = Field(
        True, description="Say above the answer who is speaking; needs OPENWEBUI_URL and an admin's key"
    )
    enable_suggestions: bool = Field(
        False, description="Say below the answer when a persona clearly knows more about the question"
    )
    persistent_persona: bool = Field(False, description="A user's last persona also opens new chats")
    enable_persona_versioning: bool = Field(True, description="Every change of a persona is a version")
    version_history_limit: int = number(50, "Versions kept of each persona", minimum=1, maximum=1000)
    enable_automatic_backups: bool = Field(
        True, description="Back up the personas on changes, before anything is lost, and every 7 days"
    )
    max_backup_files: int = number(10, "Backups kept", minimum=1, maximum=1000)
    auto_download_personas: bool = Field(
        False, description="Take over the catalogues in AGENT_MODE_CATALOGUE_URLS at start and every day"
    )
    protect_custom_personas: bool = Field(
        True, description="Catalogues leave alone what was edited or made here; off: they replace it"
    )
    enable_structured_logging: Literal["default", "on", "off"] = Field(
        "default", description="JSON log lines; default: as AGENT_MODE_LOG_FORMAT says"
    )
    integration_debug: bool = Field(False, description="Log what other filters are told")
    priority: int = number(0, "Order among filters; smaller runs first", minimum=-1000, maximum=1000)


class PersonaValves(CommandValves):
    """Valves of the personas pipeline."""

    llm_base_url: str | None = address(
        "LLM: base URL of an OpenAI-compatible API. None: environment, else demo model"
    )
    llm_api_key: str | None = secret(
        "LLM: key. None: OPENAI_API_KEY, unless llm_base_url names another provider"
    )
    llm_model: str | None = Field(
        None, description="LLM: model for personas that name none. None: AGENT_MODE_MODEL, else the first"
    )
    show_persona_info: bool = Field(True, description="Say above the answer who is speaking")
    max_steps: int = number(5, "How many personas one message may call in a row", minimum=1, maximum=20)
    multi_turns: int = number(2, "!multi: how often each persona speaks", minimum=1, maximum=5)
    multi_models: int = number(4, "!multi: how many personas may take part", minimum=2, maximum=9)
    enable_stream_switching: bool = Field(
        False, description="Several personas in one message: one flowing text instead of headings"
    )
    enable_suggestions: bool = Field(
        False, description="Say below the answer when another persona clearly knows more about the question"
    )
    connect_timeout: int = number(10, "Seconds to reach the LLM provider", minimum=1, maximum=120)
    read_timeout: int = number(
        300, "Seconds without a sign of life from the LLM provider", minimum=5, maximum=3600
    )


class AgentValves(Valves):
    """Valves that every agent has."""

    llm_base_url: str | None = address(
        "LLM: base URL of an OpenAI-compatible API. None: environment, else demo model"
    )
    llm_api_key: str | None = secret(
        "LLM: key. None: OPENAI_API_KEY, unless llm_base_url names another provider"
    )
    llm_model: str | None = Field(
        None, description="LLM: model. None: the definition's, AGENT_MODE_MODEL, else the first"
    )
    temperature: float | None = Field(None, description="LLM: temperature. None: the provider's default")
    connect_timeout: int = number(10, "Seconds to reach the LLM provider", minimum=1, maximum=120)
    read_timeout: int = number(
        300, "Seconds without a sign of life from the LLM provider", minimum=5, maximum=3600
    )
    max_steps: int = number(20, "LLM calls in one run, called agents included", minimum=1, maximum=500)
    max_tool_calls: int = number(50, "Tool calls in one run, called agents included", minimum=0, maximum=1000)
    max_tokens: int = number(
        500_000, "Tokens in one run, called agents included", minimum=1, maximum=100_000_000
    )
    max_seconds: int = number(
        600, "Seconds of one run; waiting for tools in the chat not counted", minimum=1, maximum=86_400
    )
    tool_timeout: int = number(60, "Seconds that one tool may take", minimum=1, maximum=3600)
    tool_retries: int = number(
        1, "How often Open WebUI is asked again when the connection fails: 1, or 0", minimum=0, maximum=1
    )
    tool_result_limit: int = number(
        100_000, "Characters of a tool's result that the LLM sees", minimum=1000, maximum=10_000_000
    )
    allowed_tools: str | None = Field(
        None,
        description="Tools it may use: names or patterns, comma separated, -name excludes. None: all",
    )
    more_tools: bool = Field(
        False, description="Offer all tools that the user may use, not only those switched on in the chat"
    )
    allowed_agents: str | None = Field(
        None, description="Agents it may call: ids or patterns, comma separated. None: none"
    )
    access: Literal["openwebui", "everyone"] = Field(
        "openwebui", description="Who may reach it: whom Open WebUI lets use its model, or everyone"
    )
    show_progress: bool = Field(True, description="Show what it does above the answer")


class CustomPythonValves(AgentValves):
    """Valves of agents whose code runs in a process of its own."""

    code_seconds: int = number(
        60, "Seconds that the code itself may compute; waiting not counted", minimum=1, maximum=3600
    )
    code_memory_mb: int = number(512, "Memory of the code's process in MiB", minimum=64, maximum=65_536)
