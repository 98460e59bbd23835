"""What is changed over the API and in Open WebUI's Pipelines tab stands in the records: who, what, how."""

from __future__ import annotations

import contextlib
import sqlite3

import pytest

from tests.provider import Provider
from tests.server.rest import Rest, agent, good
from tests.server.servers import Server, eventually

Record = tuple[str, str, str, str, str, str]

SECRET = "sk-0123456789abcdef-never-told"


class Records:
    """The records of a server since the test began, the oldest first."""

    def __init__(self, server: Server) -> None:
        self._file = server.home / "agent_mode.db"
        self._before = len(self._all())
        self._settle()

    def since(self, count: int) -> list[Record]:
        """So many new ones, as (who, what, kind, which, more, way)."""
        assert eventually(lambda: len(self._all()) - self._before >= count), self._all()[self._before :]
        return self._all()[self._before :]

    def _settle(self) -> None:
        """What was done before the test may still wait to be written."""
        while eventually(self._grew, within=0.7):
            self._before = len(self._all())

    def _grew(self) -> bool:
        return len(self._all()) > self._before

    def _all(self) -> list[Record]:
        with contextlib.closing(sqlite3.connect(self._file)) as connection:
            return connection.execute(
                "SELECT actor, action, kind, target, text, way FROM audit_record ORDER BY at"
            ).fetchall()


def test_each_write_over_the_api_is_recorded(api: Rest, provider: Provider) -> None:
    records = Records(api.server)
    ann = {"X-Agent-Mode-Author": "Ann"}
    good(api.call("POST", "agents/", agent("noted"), headers=ann))
    api.put("agents/noted", {**agent("noted", name="Other"), "version": 1})
    api.patch("agents/noted", {"enabled": False})
    api.patch("agents/noted", {"tags": ["a"], "enabled": True})
    api.put("agents/noted/valves", {"llm_model": "stub", "llm_api_key": SECRET})
    api.delete("agents/noted")
    api.post("agents/noted/rollback", {"version": 1})
    form = {"key": "noted-one", "name": "Noted", "prompt": "You are noted."}
    made = api.post("personas/", form)
    api.put("personas/noted-one", {**made, "name": "Noted too"})
    api.delete("personas/noted-one")
    api.post("personas/noted-one/rollback", {"version": "1.0.0"})
    api.put("users/u-1/credential", {"api_key": SECRET})
    reply = api.call("DELETE", "users/u-1/credential", headers=ann)
    assert reply.status_code == 204
    assert records.since(13) == [
        ("Ann", "created", "agent", "noted", "", "api"),
        ("api", "saved", "agent", "noted", "", "api"),
        ("api", "disabled", "agent", "noted", "enabled", "api"),
        ("api", "saved", "agent", "noted", "enabled, tags", "api"),
        ("api", "saved", "valves", "noted", "llm_api_key, llm_model", "api"),
        ("api", "deleted", "agent", "noted", "", "api"),
        ("api", "rolled back", "agent", "noted", "to 1.0.0", "api"),
        ("api", "created", "persona", "noted-one", "", "api"),
        ("api", "saved", "persona", "noted-one", "", "api"),
        ("api", "deleted", "persona", "noted-one", "", "api"),
        ("api", "rolled back", "persona", "noted-one", "to 1.0.0", "api"),
        ("api", "registered", "credential", "u-1", "", "api"),
        ("Ann", "deleted", "credential", "u-1", "", "api"),
    ]
    assert SECRET not in str(records.since(0))


def test_what_is_refused_or_only_looked_at_is_no_write(api: Rest) -> None:
    records = Records(api.server)
    api.create("looked-at")
    api.get("agents/looked-at")
    api.post("agents/validate", agent("draft"))
    for method, path, body in (
        ("POST", "agents/", agent("looked-at")),
        ("PUT", "agents/looked-at", {**agent("looked-at"), "version": 7}),
        ("DELETE", "agents/nobody", None),
        ("DELETE", "personas/nobody", None),
        ("POST", "runs/none/stop", None),
    ):
        assert api.call(method, path, body).status_code >= 400
    api.delete("agents/looked-at")
    assert [(record[1], record[3]) for record in records.since(2)] == [
        ("created", "looked-at"),
        ("deleted", "looked-at"),
    ]


def test_what_is_done_in_the_pipelines_tab_is_recorded(api: Rest) -> None:
    server = api.server
    api.create("in-the-tab")
    records = Records(server)
    server.set_valves()
    assert server.post("/nobody/valves/update", {}).status_code == 404
    assert server.post("/in-the-tab/valves/update", {"llm_model": "stub"}).status_code == 200
    assert server.request("DELETE", "/pipelines/delete", json={"id": "in-the-tab"}).status_code == 200
    source = "class Pipeline:\n    name = 'Noted'\n    def pipe(self, **_):\n        return ''\n"
    assert server.upload("noted_file.py", source).status_code == 200
    assert server.request("DELETE", "/pipelines/delete", json={"id": "noted_file"}).status_code == 200
    assert server.request("DELETE", "/pipelines/delete", json={"id": "noted_file"}).status_code >= 400
    tab = "Pipelines tab"
    assert records.since(5) == [
        ("open-webui", "saved", "valves", "personas", "", tab),
        ("open-webui", "saved", "valves", "in-the-tab", "", tab),
        ("open-webui", "disabled", "agent", "in-the-tab", "", tab),
        ("open-webui", "added", "pipeline", "", "", tab),
        ("open-webui", "deleted", "pipeline", "noted_file", "", tab),
    ]


def test_every_route_that_writes_is_one_that_records() -> None:
    pytest.importorskip("fastapi")
    from fastapi.routing import APIRoute

    from agent_mode.admin.api import agents, app, credentials, personas, requests, running, runs, strategies

    assert app.make_app
    looks = {"validate_draft", "validate_agent", "validate_persona", "validate_files", "validate_templates"}
    looks |= {"validate_stored"}
    looks |= {"run", "run_persona"}  # they stand in the runs
    routers = (agents, credentials, personas, running, runs, strategies)
    routes = [route for module in routers for route in module.router.routes if isinstance(route, APIRoute)]
    silent = {
        route.name
        for route in routes
        if (route.methods or set()) - {"GET"}
        and requests._writer not in {dependency.call for dependency in route.dependant.dependencies}
    }
    assert silent == looks
