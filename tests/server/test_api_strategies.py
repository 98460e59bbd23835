"""/api/v1/strategies on a real server."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_mode.admin.api import examples
from tests.provider import Provider
from tests.server.rest import Rest, refusal
from tests.server.servers import OURS, ROOT, make, running


@pytest.fixture(scope="module")
def rest(tmp_path_factory: pytest.TempPathFactory, provider_process: Provider) -> Iterator[Rest]:
    """A server whose strategies may be changed."""
    home = tmp_path_factory.mktemp("strategies")
    folder = shutil.copytree(ROOT / "strategies", home / "files")
    environment = {"AGENT_MODE_STRATEGIES_DIR": str(folder)}
    server = make(OURS, home / "x", provider_process.base_url, foreign=(), environment=environment)
    with running(server):
        yield Rest(server)


def folder(rest: Rest) -> Path:
    return Path(rest.server.environment["AGENT_MODE_STRATEGIES_DIR"])


def test_which_one_a_model_gets_and_why(rest: Rest) -> None:
    found = rest.get("strategies/resolve?model=openrouter/openai/gpt-4o")
    assert (found["strategy"]["provider"], found["strategy"]["file"]) == (
        "openai",
        "openai-prompt-strategies.json",
    )
    assert found["matched_by"] in ("exact", "pattern")
    assert found["matched"] in found["reason"]
    assert found["template"] == found["strategy"]["template"]
    unknown = rest.get("strategies/resolve?model=mystery-7b")
    assert (unknown["matched_by"], unknown["matched"]) == ("global", "")
    refusal(rest.call("GET", "strategies/resolve"), 422, "invalid_request")


def test_lists_and_single_ones(rest: Rest) -> None:
    everything = rest.get("strategies/?limit=200")
    assert everything["total"] == len(everything["items"]) > 20
    assert rest.get("strategies?limit=1")["total"] == everything["total"]
    openai = rest.get("strategies/?provider=openai&limit=200")
    assert {item["provider"] for item in openai["items"]} == {"openai"}
    assert openai["total"] < everything["total"]
    for item in everything["items"]:
        path = f"strategies/{item['id']}"
        assert rest.get(path, params={"provider": item["provider"]}) == item
    refusal(rest.call("GET", "strategies/none/such"), 404, "strategy_not_found")


def test_the_preview_is_what_a_switch_says(rest: Rest) -> None:
    told = rest.get("strategies/preview?from=teacher&to=coder&model=gpt-4o")
    prompt = rest.get("personas/coder")["prompt"]
    assert told["switched"]
    assert prompt.splitlines()[0] in told["text"]
    assert "Teacher" in told["text"]
    assert told["strategy"] == rest.get("strategies/resolve?model=gpt-4o")["strategy"]["id"]
    assert [message["role"] for message in told["messages"]][-1] == "user"
    assert not rest.get("strategies/preview?from=coder&to=coder&model=gpt-4o")["switched"]
    assert "Be brief" in rest.get("strategies/preview?to=coder&model=gpt-4o&base=Be%20brief.")["text"]
    for query in ("from=nobody&to=coder", "to=nobody"):
        refusal(rest.call("GET", f"strategies/preview?model=x&{query}"), 404, "persona_not_found")


def test_a_template_from_its_first_version_to_its_last(rest: Rest) -> None:
    path = "strategies/templates/own"
    made = rest.put(path, {"text": examples.TEMPLATE, "mark": ""})
    assert (folder(rest) / "templates" / "own.txt").read_text() == made["text"]
    refusal(rest.call("PUT", path, {"text": "x", "mark": ""}), 422, "template")
    body = {"text": examples.TEMPLATE + "\nSpeak up.", "mark": ""}
    refusal(rest.call("PUT", path, body), 409, "strategy_file_exists")
    changed = rest.put(path, {**body, "mark": made["mark"], "message": "louder"})
    told = refusal(
        rest.call("PUT", path, {**body, "text": made["text"], "mark": made["mark"]}), 409, "stale_version"
    )
    assert "api" in told["message"]
    assert rest.get(path) == changed
    listed = next(item for item in rest.get("strategies/templates")["items"] if item["name"] == "own")
    assert (listed["strategies"], listed["usable"]) == (0, True)
    assert [v["message"] for v in rest.get(f"{path}/versions")["items"]] == ["louder", ""]
    assert rest.get(f"{path}/versions/1")["text"] == made["text"]
    assert rest.post(f"{path}/rollback", {"version": 1}) == made
    refusal(rest.call("POST", f"{path}/rollback", {"version": 99}), 404, "unknown_version")
    refusal(rest.call("POST", f"{path}/reset"), 404, "unknown_version")
    rest.delete(path)
    refusal(rest.call("GET", path), 404, "strategy_file_not_found")
    assert rest.post(f"{path}/rollback", {"version": 2})["text"].endswith("Speak up.\n")


def test_a_shipped_template_is_changed_and_reset(rest: Rest) -> None:
    path = "strategies/templates/minimal"
    shipped = rest.post(f"{path}/reset")
    assert shipped == rest.get(path)
    text = "You are {{agentName}}. {{agentInstructions}} {{wrong}}"
    warned = rest.put(path, {"text": text, "mark": shipped["mark"]})
    assert "{{wrong}} is no variable" in warned["warnings"][0]["message"]
    assert rest.post(f"{path}/reset") == shipped
    refusal(rest.call("DELETE", path), 409, "strategy_file_in_use")


def test_a_strategy_file_decides_at_once(rest: Rest) -> None:
    path = "strategies/files/acme"
    rest.put(path, {"text": examples.STRATEGIES, "mark": ""})
    assert rest.get("strategies/resolve?model=acme-9")["strategy"]["id"] == "acme-standard"
    assert rest.post(f"{path}/validate", {"text": examples.STRATEGIES})["valid"]
    broken = json.dumps({**json.loads(examples.STRATEGIES), "default": "none"})
    verdict = rest.post(f"{path}/validate", {"text": broken})
    assert not verdict["valid"]
    told = refusal(rest.call("PUT", path, {"text": broken, "mark": rest.get(path)["mark"]}), 422, "strategy")
    assert told["message"] == verdict["problems"][0]["message"]
    (folder(rest) / "acme-prompt-strategies.json").write_text("{")
    assert rest.get(path)["warnings"]
    assert rest.post(f"{path}/rollback", {"version": 1})["warnings"] == []


@pytest.mark.parametrize("name", [".hidden", "a b", "%2e%2e%2fsecret", "x" * 65, "ä"])
@pytest.mark.parametrize("place", ["files", "templates"])
def test_no_other_file_is_reached(rest: Rest, place: str, name: str) -> None:
    for method, body in (("GET", None), ("PUT", {"text": examples.TEMPLATE, "mark": ""})):
        reply = rest.call(method, f"strategies/{place}/{name}", body)
        assert reply.status_code in (404, 405, 422), reply.text
    assert not (folder(rest).parent / "secret.txt").exists()
