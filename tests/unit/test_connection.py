"""Which LLM is asked: valves, else the environment, else Open WebUI, else the demo."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from agent_mode.errors import ConfigurationError
from agent_mode.llm.connection import DEMO_MODEL, Connection, openwebui, resolve
from agent_mode.settings import Settings

NAMES = ("OPENAI_API_BASE_URL", "OPENAI_API_KEY", "OPENWEBUI_URL", "OPENWEBUI_API_KEY", "AGENT_MODE_MODEL")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def connect(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], **valves: Any) -> Connection:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return resolve(Settings(), **valves)  # pyright: ignore[reportCallIssue]


OPENAI = {"OPENAI_API_BASE_URL": "https://env.example/v1", "OPENAI_API_KEY": "env-key"}
OPENWEBUI = {"OPENWEBUI_URL": "http://owui:8080/", "OPENWEBUI_API_KEY": "owui-key"}


@pytest.mark.parametrize(
    ("environment", "valves", "kind", "base_url", "api_key"),
    [
        ({}, {}, "demo", "", None),
        (OPENAI, {}, "openai", "https://env.example/v1", "env-key"),
        ({"OPENAI_API_KEY": "env-key"}, {}, "openai", "https://api.openai.com/v1", "env-key"),
        ({"OPENAI_API_BASE_URL": "http://ollama:11434/v1/"}, {}, "openai", "http://ollama:11434/v1", None),
        (OPENWEBUI, {}, "openwebui", "http://owui:8080/api", "owui-key"),
        ({"OPENWEBUI_URL": "http://owui:8080"}, {}, "demo", "", None),
        ({"OPENWEBUI_API_KEY": "owui-key"}, {}, "demo", "", None),
        # OpenAI's variables come before Open WebUI's.
        ({**OPENAI, **OPENWEBUI}, {}, "openai", "https://env.example/v1", "env-key"),
        # Valves come before both.
        (
            {**OPENAI, **OPENWEBUI},
            {"base_url": "https://valve.example/v1", "api_key": "valve-key"},
            "openai",
            "https://valve.example/v1",
            "valve-key",
        ),
        (OPENAI, {"api_key": "valve-key"}, "openai", "https://env.example/v1", "valve-key"),
        ({}, {"api_key": "valve-key"}, "openai", "https://api.openai.com/v1", "valve-key"),
        # The environment's key does not go to an address from the form.
        (OPENAI, {"base_url": "https://valve.example/v1"}, "openai", "https://valve.example/v1", None),
        # Empty ones are none.
        (
            {"OPENAI_API_BASE_URL": "", "OPENAI_API_KEY": ""},
            {"base_url": "", "api_key": ""},
            "demo",
            "",
            None,
        ),
    ],
)
def test_which_one_holds(
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    valves: dict[str, Any],
    kind: str,
    base_url: str,
    api_key: str | None,
) -> None:
    found = connect(monkeypatch, environment, **valves)
    assert (found.kind, found.base_url, found.api_key) == (kind, base_url, api_key)


def test_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    assert connect(monkeypatch, OPENAI).model is None
    environment = {**OPENAI, "AGENT_MODE_MODEL": "env-model"}
    assert connect(monkeypatch, environment).model == "env-model"
    assert connect(monkeypatch, environment, model="valve-model").model == "valve-model"


def test_the_demo_has_its_own_model(monkeypatch: pytest.MonkeyPatch) -> None:
    found = connect(monkeypatch, {"AGENT_MODE_MODEL": "gpt-4o"}, model="gpt-4o")
    assert (found.kind, found.model) == ("demo", DEMO_MODEL)


def test_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    for environment in (OPENAI, OPENWEBUI):
        found = connect(monkeypatch, environment, connect_timeout=3, read_timeout=77)
        assert (found.connect_timeout, found.read_timeout) == (3, 77)


@pytest.mark.parametrize(
    ("typed", "used"),
    [
        (" https://x.example/v1 ", "https://x.example/v1"),
        ("https://x.example/v1/", "https://x.example/v1"),
        ("https://x.example/v1/chat/completions", "https://x.example/v1"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1"),
        ("http://localhost", "http://localhost"),
    ],
)
def test_addresses_are_cleaned(monkeypatch: pytest.MonkeyPatch, typed: str, used: str) -> None:
    assert connect(monkeypatch, {}, base_url=typed).base_url == used


@pytest.mark.parametrize(
    "typed",
    [
        "x.example/v1",
        "ftp://x.example",
        "http://",
        "http:///v1",
        "localhost:8000",
        "http://x:port",
        "http://x:99999999",
        "http://x:0",
        "http://[::1",
        "javascript:alert(1)",
        "file:///etc/passwd",
        "none",
    ],
)
def test_what_is_no_address(monkeypatch: pytest.MonkeyPatch, typed: str) -> None:
    for environment, valves, field in [
        ({}, {"base_url": typed}, "llm_base_url"),
        ({"OPENAI_API_BASE_URL": typed}, {}, "OPENAI_API_BASE_URL"),
        ({"OPENAI_API_BASE_URL": "", **OPENWEBUI, "OPENWEBUI_URL": typed}, {}, "OPENWEBUI_URL"),
    ]:
        with pytest.raises(ConfigurationError) as caught:
            connect(monkeypatch, environment, **valves)
        assert caught.value.code == "llm_url"
        assert caught.value.field == field
        assert field in caught.value.message
        assert "http" in caught.value.hint


def test_open_webui_with_another_key() -> None:
    timeouts: Any = SimpleNamespace(connect_timeout=4, read_timeout=55)
    found = openwebui("http://owui:8080/", "sk-user", timeouts)
    assert (found.kind, found.base_url, found.api_key) == ("openwebui", "http://owui:8080/api", "sk-user")
    assert (found.connect_timeout, found.read_timeout) == (4, 55)


def test_the_key_is_not_in_the_repr() -> None:
    found = Connection("openai", "https://x.example/v1", "sk-0123456789")
    assert "sk-0123456789" not in repr(found)
    assert "x.example" in repr(found)
