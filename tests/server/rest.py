"""Talks to the REST API of a server as a script does."""

from __future__ import annotations

import json
from typing import Any

import requests

from tests.server.servers import Server

Json = dict[str, Any]
SHAPE = {"code", "message", "field", "hint", "retryable"}
"""What every error of the API holds."""


class Rest:
    """The API of one server."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def call(self, method: str, path: str, body: Any = None, **options: Any) -> requests.Response:
        return self.server.request(method, f"/api/v1/{path}", json=body, **options)

    def get(self, path: str, **options: Any) -> Any:
        return good(self.call("GET", path, **options))

    def post(self, path: str, body: Any = None, **options: Any) -> Any:
        return good(self.call("POST", path, body, **options))

    def put(self, path: str, body: Any, **options: Any) -> Any:
        return good(self.call("PUT", path, body, **options))

    def patch(self, path: str, body: Any, **options: Any) -> Any:
        return good(self.call("PATCH", path, body, **options))

    def delete(self, path: str) -> None:
        reply = self.call("DELETE", path)
        assert (reply.status_code, reply.content) == (204, b""), reply.text

    def create(self, agent_id: str, **changes: Any) -> Json:
        return self.post("agents/", agent(agent_id, **changes))

    def versions(self, path: str) -> list[tuple[int, str]]:
        return [(item["number"], item["author"]) for item in self.get(f"{path}/versions")["items"]]

    def clear(self) -> None:
        """Takes away all agents, and all personas of our own."""
        for item in self.get("agents/?limit=200")["items"]:
            self.delete(f"agents/{item['id']}")
        for item in self.get("personas/?origin=custom&limit=200")["items"]:
            self.delete(f"personas/{item['key']}")


def agent(agent_id: str, **changes: Any) -> Json:
    """An agent that speaks through the provider of the tests."""
    form = {
        "id": agent_id,
        "name": agent_id.capitalize(),
        "agent_type": "persona",
        "definition": {"instructions": f"You are {agent_id}."},
        "valves": {"llm_model": "stub"},
    }
    return {**form, **changes}


def good(reply: requests.Response) -> Any:
    assert reply.status_code in (200, 201), (reply.status_code, reply.text)
    return reply.json()


def refusal(reply: requests.Response, status: int, code: str) -> Json:
    """Checks that it is this error, in the shape of all errors; returns it."""
    assert (reply.status_code, reply.headers["content-type"]) == (status, "application/json"), reply.text
    told = reply.json()
    assert set(told) >= SHAPE, told
    # Whatever a library said about it is said in our words.
    assert not any(words in reply.text for words in ("Input should", "should match", "Field required")), told
    for problem in told.get("problems") or ():
        assert problem["hint"] or not problem["message"].startswith(("This must", "This field")), told
    assert told["code"] == code, told
    assert told["message"], told
    return told


def fields(told: Json) -> set[str]:
    """The fields that an error or a verdict names."""
    return {problem["field"] for problem in told["problems"]}


def events(reply: requests.Response) -> list[Json]:
    """The events of a stream."""
    lines = [line for line in reply.content.decode().split("\n\n") if line and not line.startswith(":")]
    assert all(line.startswith("data: ") for line in lines), lines
    return [json.loads(line[6:]) for line in lines]
