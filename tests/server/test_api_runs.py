"""/api/v1/runs and the users' credentials on the real servers."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.provider import Provider
from tests.server.openwebui import OpenWebUI
from tests.server.rest import Rest, fields, good, refusal
from tests.server.servers import OURS, eventually, make, running

CLOCK = [
    {"type": "function", "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}}}
]
PLAY = [{"role": "user", "content": "call: clock\nthen say: It is {results}."}]


def newest(api: Rest, agent: str) -> Any:
    items = api.get(f"runs/?agent={agent}")["items"]
    return items[0] if items else None


def test_runs_are_listed_and_shown(api: Rest) -> None:
    began = datetime.now(UTC) - timedelta(seconds=1)
    api.create("listed")
    chat = OpenWebUI(api.server).chat()
    assert chat.ask("Hi", "listed").good()
    assert eventually(lambda: (newest(api, "listed") or {}).get("state") == "done")
    item = newest(api, "listed")
    assert (item["user_id"], item["chat_id"], item["model"]) == ("user-1", chat.id, "stub")
    assert "trace" not in item
    full = api.get(f"runs/{item['id']}")
    assert (full["children"], full["trace"], full["tool_calls"]) == ([], None, [])

    later = (began + timedelta(hours=1)).isoformat()
    for query, total in (
        (f"chat_id={chat.id}", 1),
        ("agent=listed&state=done", 1),
        ("agent=listed&state=failed", 0),
        ("agent=listed&user_id=nobody", 0),
        ("agent=listed&parent=", 1),
        (f"agent=listed&parent={item['id']}", 0),
        (f"agent=listed&since={began.isoformat().replace('+', '%2B')}", 1),
        (f"agent=listed&since={later.replace('+', '%2B')}", 0),
        (f"agent=listed&since={began.replace(tzinfo=None).isoformat()}", 1),
        ("agent=%00", 0),
    ):
        assert api.get(f"runs/?{query}")["total"] == total, query
    assert api.get("runs/?limit=1&offset=0")["limit"] == 1
    told = refusal(api.call("GET", "runs/?state=odd&since=soon&limit=0"), 422, "invalid_request")
    assert fields(told) == {"state", "since", "limit"}


def test_a_run_that_is_stopped_by_the_api(api: Rest, provider: Provider) -> None:
    api.create("endless", valves={"llm_model": "stub-hang"})
    api.create("plain", valves={"llm_model": "stub-hang"})
    with ThreadPoolExecutor(2) as pool:
        chat = pool.submit(OpenWebUI(api.server).chat().ask, "Hi", "endless")
        script = pool.submit(api.call, "POST", "agents/plain/run", {"input": "x"})
        assert eventually(lambda: provider.active == 2)
        assert eventually(lambda: newest(api, "endless") and newest(api, "plain"))
        runs = [newest(api, name)["id"] for name in ("endless", "plain")]
        for run in runs:
            assert api.post(f"runs/{run}/stop") == {"id": run, "stopped": True}
        answer, reply = chat.result(timeout=60), script.result(timeout=60)
    assert "stopped" in answer.errors[0]
    assert refusal(reply, 409, "run_cancelled")["run_id"] == runs[1]
    assert eventually(lambda: provider.active == 0)
    for run in runs:
        assert eventually(lambda run=run: api.get(f"runs/{run}")["state"] == "stopped")
        refusal(api.call("POST", f"runs/{run}/stop"), 409, "run_ended")
    refusal(api.call("POST", "runs/nobody/stop"), 404, "run_not_found")
    refusal(api.call("GET", "runs/nobody"), 404, "run_not_found")


def test_a_run_that_waits_for_a_tool_is_stopped_too(api: Rest) -> None:
    api.create("patient", valves={"llm_model": "stub-agent"})
    first = api.post("agents/patient/run", {"messages": PLAY, "tools": CLOCK})
    assert eventually(lambda: api.get(f"runs/{first['run_id']}")["state"] == "waiting")
    api.post(f"runs/{first['run_id']}/stop")
    record = api.get(f"runs/{first['run_id']}")
    assert (record["state"], record["error"]["code"]) == ("stopped", "run_cancelled")

    [call] = first["tool_calls"]
    back = [
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call["id"], "content": "noon"},
    ]
    reply = api.call("POST", "agents/patient/run", {"messages": [*PLAY, *back], "tools": CLOCK})
    assert "stopped" in reply.json()["message"]
    assert reply.json()["code"] == "run_cancelled"
    refusal(api.call("POST", f"runs/{first['run_id']}/stop"), 409, "run_ended")


def test_what_an_agent_called_stands_below_its_run(api: Rest) -> None:
    api.create("helper-agent", access="everyone")
    api.create("boss", valves={"llm_model": "stub-agent", "allowed_agents": "helper-agent"})
    arguments = json.dumps({"agent": "helper-agent", "task": "Say hi"})
    told = api.post("agents/boss/run", {"input": f"call: call_agent {arguments}\nthen say: {{results}}"})
    assert "Hello from stub: Say hi" in told["output"]
    assert eventually(lambda: api.get(f"runs/{told['run_id']}")["children"])
    [child] = api.get(f"runs/{told['run_id']}")["children"]
    assert (child["agent"], child["parent_id"], child["state"]) == ("helper-agent", told["run_id"], "done")
    assert api.get(f"runs/?parent={told['run_id']}")["total"] == 1


def test_what_an_agent_called_is_stopped_with_the_run_that_called_it(api: Rest, provider: Provider) -> None:
    api.create("slow-part", access="everyone", valves={"llm_model": "stub-hang"})
    api.create("whole", valves={"llm_model": "stub-agent", "allowed_agents": "slow-part"})
    arguments = json.dumps({"agent": "slow-part", "task": "Say hi"})
    with ThreadPoolExecutor(1) as pool:
        script = pool.submit(api.call, "POST", "agents/whole/run", {"input": f"call: call_agent {arguments}"})
        assert eventually(lambda: newest(api, "slow-part"))
        part, whole = newest(api, "slow-part")["id"], newest(api, "whole")["id"]
        told = refusal(api.call("POST", f"runs/{part}/stop"), 409, "run_is_part")
        assert whole in told["hint"]
        assert api.post(f"runs/{whole}/stop") == {"id": whole, "stopped": True}
        refusal(script.result(timeout=60), 409, "run_cancelled")
    for run in (part, whole):
        assert eventually(lambda run=run: api.get(f"runs/{run}")["state"] == "stopped")


def test_a_run_of_another_replica_is_stopped_there(tmp_path: Path, provider: Provider) -> None:
    environment = {"AGENT_MODE_DATABASE_URL": f"sqlite:///{tmp_path / 'shared.db'}"}
    here, there = (
        make(OURS, tmp_path / name, provider.base_url, environment=environment) for name in ("a", "b")
    )
    with running(here), running(there):
        mine, theirs = Rest(here), Rest(there)
        theirs.create("remote", valves={"llm_model": "stub-hang"})
        with ThreadPoolExecutor(1) as pool:
            script = pool.submit(theirs.call, "POST", "agents/remote/run", {"input": "x"})
            assert eventually(lambda: newest(mine, "remote"))
            run = newest(mine, "remote")["id"]
            reply = mine.call("POST", f"runs/{run}/stop")
            assert (reply.status_code, reply.json()) == (202, {"id": run, "stopped": False})
            refusal(script.result(timeout=60), 409, "run_cancelled")
        assert eventually(lambda: mine.get(f"runs/{run}")["state"] == "stopped")


def test_credentials_are_kept_and_never_shown(api: Rest) -> None:
    key = "sk-credential-0123456789"
    assert api.get("users/ann/credential") == {"user_id": "ann", "has_credential": False}
    assert good(api.call("PUT", "users/ann/credential", {"api_key": f" {key} "}))["has_credential"]
    assert api.get("users/ann/credential")["has_credential"]
    assert not api.get("users/bob/credential")["has_credential"]
    database = b"".join(path.read_bytes() for path in api.server.home.glob("agent_mode.db*"))
    assert key.encode() not in database
    assert key not in api.server.log()
    api.delete("users/ann/credential")
    assert not api.get("users/ann/credential")["has_credential"]

    for body in ({}, {"api_key": 7}, {"api_key": "x" * 5000}, {"api_key": "x", "more": 1}):
        told = refusal(api.call("PUT", "users/ann/credential", body), 422, "invalid_request")
        assert "x" * 100 not in json.dumps(told)
    for odd in ("", "two words", "ü"):
        told = refusal(api.call("PUT", "users/ann/credential", {"api_key": odd}), 400, "bad_request")
        assert told["field"] == "api_key"


class OpenWebUIDouble(BaseHTTPRequestHandler):
    """Open WebUI as far as it is asked whose an API key is."""

    def do_GET(self) -> None:
        key = self.headers.get("authorization", "").removeprefix("Bearer ")
        account = {"id": "ann", "name": "Ann", "email": "ann@example.org", "role": "user"}
        good = key == "sk-key-of-ann-0123456789"
        body = json.dumps(account if good else {"detail": "401 Unauthorized"}).encode()
        self.send_response(200 if good else 401)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_open_webui_must_say_whose_a_key_is(tmp_path: Path, provider: Provider) -> None:
    double = ThreadingHTTPServer(("127.0.0.1", 0), OpenWebUIDouble)
    Thread(target=double.serve_forever, daemon=True).start()
    environment = {"OPENWEBUI_URL": f"http://127.0.0.1:{double.server_port}"}
    server = make(OURS, tmp_path / "x", provider.base_url, environment=environment)
    try:
        with running(server):
            api = Rest(server)
            key = {"api_key": "sk-key-of-ann-0123456789"}
            assert api.put("users/ann/credential", key)["has_credential"]
            told = refusal(api.call("PUT", "users/bob/credential", key), 422, "credential_refused")
            assert told["field"] == "api_key"
            wrong = {"api_key": "sk-nobodys-0123456789"}
            refusal(api.call("PUT", "users/ann/credential", wrong), 422, "credential_refused")
            assert api.get("users/ann/credential")["has_credential"]
            assert not api.get("users/bob/credential")["has_credential"]
            # A user's own credential opens the models and chats at most, never the API.
            reply = server.anonymous(
                "GET", "/api/v1/agents/", headers={"Authorization": f"Bearer {key['api_key']}"}
            )
            refusal(reply, 401, "unauthorized")
            double.shutdown()
            double.server_close()
            reply = api.call("PUT", "users/cem/credential", {"api_key": "sk-new-one-0123456789"})
            assert reply.status_code in (502, 503, 504), reply.text
            assert not api.get("users/cem/credential")["has_credential"]
    finally:
        double.server_close()


def test_a_run_that_fails_counts_as_a_failure_once(api: Rest) -> None:
    if not api.server.kind.own:
        pytest.skip("the image's packages hold no prometheus-client")

    def failures() -> tuple[float, float]:
        text = api.server.get("/metrics").text
        errors = re.search(
            r'^agent_mode_errors_total\{code="provider_unavailable"\} (\S+)', text, re.MULTILINE
        )
        turns = re.search(r'^agent_mode_turns_total\{outcome="failed"\} (\S+)', text, re.MULTILINE)
        return float(errors[1]) if errors else 0.0, float(turns[1]) if turns else 0.0

    api.create("failing", valves={"llm_model": "stub-503"})
    errors, turns = failures()
    refusal(api.call("POST", "agents/failing/run", {"input": "Hi"}), 502, "provider_unavailable")
    assert failures() == (errors + 1, turns + 1)
    OpenWebUI(api.server).chat().ask("Hi", "failing")
    assert failures() == (errors + 2, turns + 2)
