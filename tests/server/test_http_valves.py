"""The valves form of Open WebUI: whatever it posts is saved, takes effect, and bricks nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.provider import Provider
from tests.server.openwebui import OpenWebUI
from tests.server.servers import OURS, Server, make, params, running

CODER = "personas.coder"
LONG_KEY = "sk-0123456789-abcdefgh-WXYZ"


def post(server: Server, body: Any) -> Any:
    reply = server.post("/personas/valves/update", body)
    assert reply.status_code == 200, (body, reply.text)
    assert server.get("/personas/valves").json() == reply.json()
    return reply.json()


@pytest.fixture
def defaults(server: Server) -> dict[str, Any]:
    return post(server, {})


def test_an_untouched_form_changes_nothing(server: Server, defaults: dict[str, Any]) -> None:
    assert post(server, defaults) == defaults
    for name, value in defaults.items():
        # Every text field of the form is required: an empty one would block Save.
        assert value not in ("", []), name


def test_the_form_can_show_every_field(server: Server, defaults: dict[str, Any]) -> None:
    properties = server.get("/personas/valves/spec").json()["properties"]

    assert set(properties) == set(defaults)
    for name, spec in properties.items():
        assert spec.get("title"), name
        assert spec.get("description"), name
        kinds = {spec.get("type"), *(option.get("type") for option in spec.get("anyOf", ()))}
        assert kinds <= {"string", "integer", "number", "boolean", "null", None}, name
        assert "$ref" not in json.dumps(spec), name


def test_strings_become_numbers_and_switches(server: Server, defaults: dict[str, Any]) -> None:
    typed = {"read_timeout": "7", "connect_timeout": " 12 ", "enable_debug": "true", "case_sensitive": "no"}

    saved = post(server, {**defaults, **typed})

    assert saved == {
        **defaults,
        "read_timeout": 7,
        "connect_timeout": 12,
        "enable_debug": True,
        "case_sensitive": False,
    }


@pytest.mark.parametrize(
    "value", [None, "", "   ", "abc", [], {}, [1, "x"], {"a": 1}, -1e300, "1e400", "\x00"]
)
def test_any_value_in_every_field_is_survived(server: Server, defaults: dict[str, Any], value: Any) -> None:
    saved = post(server, dict.fromkeys(defaults, value))

    for name, default in defaults.items():
        assert isinstance(saved[name], type(default)) or default is None, name
    assert saved["keyword_prefix"] == "!"
    assert saved["read_timeout"] in (300, 5)
    assert saved["history_policy"] == "strategy"


@pytest.mark.parametrize("raw", [b'"\\ud800"', b"NaN", b"-1e999", b"[[[[1e999]]]]", b"1" * 5000, b'"\xff"'])
def test_what_cannot_be_shown_again_is_never_kept(
    server: Server, defaults: dict[str, Any], raw: bytes
) -> None:
    """Refused with a reason, or dropped; half a character in the valves would keep the form from opening."""
    for name, default in defaults.items():
        posted = json.dumps({**defaults, name: "HERE"}).encode().replace(b'"HERE"', raw)
        reply = server.request(
            "POST", "/personas/valves/update", data=posted, headers={"Content-Type": "application/json"}
        )

        assert reply.status_code == 200 or 400 <= reply.status_code < 500, (name, reply.text)
        shown = server.get("/personas/valves")
        assert shown.status_code == 200, name
        assert type(shown.json()[name]) is type(default) or default is None, name
        assert server.get("/pipelines").status_code == 200


def test_out_of_range_is_clamped(server: Server, defaults: dict[str, Any]) -> None:
    saved = post(server, {**defaults, "read_timeout": 10**30, "connect_timeout": "-3"})

    assert (saved["read_timeout"], saved["connect_timeout"]) == (3600, 1)


def test_unknown_fields_are_ignored(server: Server, defaults: dict[str, Any]) -> None:
    assert post(server, {**defaults, "gone": 1, "__class__": "x", "model_config": {}}) == defaults


def test_a_form_that_is_none_is_refused(server: Server, defaults: dict[str, Any]) -> None:
    for raw in (b"[]", b"null", b"7", b'"x"', b"{", b""):
        reply = server.request(
            "POST", "/personas/valves/update", data=raw, headers={"Content-Type": "application/json"}
        )
        assert 400 <= reply.status_code < 500, raw
        assert reply.json(), raw
    assert server.get("/personas/valves").json() == defaults


def test_a_change_counts_from_the_next_turn(server: Server, webui: OpenWebUI, provider: Provider) -> None:
    chat = webui.chat()
    chat.ask("Hi", CODER)
    assert provider.last().body["model"] == "stub"

    server.set_valves(llm_model="stub-usage")
    assert chat.ask("Hi").good().text == "Counted."

    server.set_valves(llm_model="mystery-7b", history_policy="none", show_persona_info=False)
    switched = chat.ask("!writer Hi").good()
    assert switched.events == []
    assert "Counted." not in str(provider.last().body["messages"])


def test_the_prompt_is_logged_only_when_asked(server: Server, webui: OpenWebUI) -> None:
    webui.chat().ask("first words", CODER)
    assert "first words" not in server.log()

    server.set_valves(enable_debug=True)
    webui.chat().ask("second words", CODER)

    assert "second words" in server.log()


def test_a_key_is_masked_and_kept(server: Server, webui: OpenWebUI, provider: Provider) -> None:
    def key_used() -> str:
        provider.clear()
        webui.chat().ask("Hi", CODER)
        return provider.last().headers["authorization"]

    own = {"llm_model": "stub", "llm_base_url": provider.base_url, "llm_api_key": LONG_KEY}
    saved = post(server, own)
    assert LONG_KEY not in json.dumps(saved)
    assert saved["llm_api_key"].endswith(LONG_KEY[-4:])
    assert key_used() == f"Bearer {LONG_KEY}"

    assert post(server, {**saved, "read_timeout": "9"})["llm_api_key"] == saved["llm_api_key"]
    assert key_used() == f"Bearer {LONG_KEY}"

    reloaded = server.post("/pipelines/reload")
    assert reloaded.status_code == 200
    assert post(server, saved) == saved
    assert key_used() == f"Bearer {LONG_KEY}"

    other = post(server, {**saved, "llm_api_key": "another-key-of-mine-0001"})
    assert other["llm_api_key"] != saved["llm_api_key"]
    assert key_used() == "Bearer another-key-of-mine-0001"

    # What is no address is not saved; the default would send the key to another provider.
    if server.kind.layer:
        assert post(server, {**saved, "llm_base_url": "not a url"})["llm_base_url"] == provider.base_url

    short = post(server, {**saved, "llm_api_key": "tiny"})
    assert "tiny" not in json.dumps(short)
    assert key_used() == "Bearer tiny"
    assert post(server, short) == short
    assert key_used() == "Bearer tiny"

    for cleared in (None, "", "  "):
        post(server, {**saved, "llm_api_key": "tiny"})
        assert post(server, {**saved, "llm_api_key": cleared})["llm_api_key"] is None
    for secret in (LONG_KEY, "another-key-of-mine-0001"):
        assert secret not in server.log()


def test_a_foreign_mask_is_no_key(server: Server, webui: OpenWebUI, provider: Provider) -> None:
    saved = post(server, {"llm_model": "stub", "llm_api_key": "********zzzz"})

    assert saved["llm_api_key"] is None
    assert webui.chat().ask("Hi", CODER).good()
    assert provider.last().headers["authorization"] == f"Bearer {provider.key}"


def test_the_file_holds_what_was_saved(server: Server) -> None:
    post(server, {"llm_api_key": LONG_KEY, "llm_model": "stub"})

    file = server.pipelines_dir / "personas" / "valves.json"
    assert json.loads(file.read_text())["llm_api_key"] == LONG_KEY


def test_all_servers_started_with_the_valves_of_an_older_version(server: Server) -> None:
    """The servers of these tests are started over `STALE_VALVES`."""
    started = server.valves_at_start

    assert started["history_policy"] == "strategy"
    assert (started["read_timeout"], started["enable_debug"]) == (300, False)
    assert "gone" not in started


BROKEN = {
    "truncated": b'{"key": ',
    "empty": b"",
    "list": b"[1]",
    "deep": b"[" * 100_000,
    "binary": b"\xff\xfe\x00",
    "number": b"7",
}


def test_broken_valves_keep_no_server_from_starting(tmp_path: Path, provider: Provider) -> None:
    """Our own server sets an unreadable file aside, also that of others; a stock server cannot be helped."""
    server = make(OURS, tmp_path / "ours", provider.base_url)
    odd = b'{"llm_model": "\\ud800", "read_timeout": NaN, "enable_debug": {"a": []}}'
    for name, content in {**BROKEN, "personas": odd, "hotswap": BROKEN["truncated"]}.items():
        folder = server.pipelines_dir / name
        folder.mkdir()
        (folder / "valves.json").write_bytes(content)
        if name in BROKEN:
            shutil.copy(server.pipelines_dir / "bystander.py", server.pipelines_dir / f"{name}.py")

    with running(server):
        for name, content in BROKEN.items():
            assert server.get(f"/{name}/valves").json() == {"greeting": "Good day"}, name
            aside = [file for file in (server.pipelines_dir / name).iterdir() if "broken" in file.name]
            assert [file.read_bytes() for file in aside] == [content], name
        assert server.valves_at_start["read_timeout"] == 300
        assert server.valves_at_start["llm_model"] is None
        assert OpenWebUI(server).chat().ask("Hi", CODER).good()


@pytest.mark.parametrize("server", params(OURS), indirect=True)
def test_debug_of_one_pipeline_is_not_debug_of_all(server: Server) -> None:
    server.set_valves(enable_debug=True)

    server.post("/bystander/valves/update", {"greeting": "Good day"})

    assert "Good day" not in server.log()
