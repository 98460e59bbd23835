"""/api/v1/agents on the real servers: what is accepted, what is refused and how, and that nothing is lost."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from agent_mode.admin.api import examples
from tests.provider import KEY as PROVIDER_KEY
from tests.provider import Provider, Reply
from tests.server.openwebui import OpenWebUI
from tests.server.rest import Rest, agent, events, fields, good, refusal
from tests.server.servers import OURS, eventually, make, running

LONG_KEY = "sk-0123456789-abcdefgh-WXYZ"
KEPT = "********WXYZ"


def test_an_agent_from_its_first_version_to_its_last(api: Rest) -> None:
    reply = api.call(
        "POST", "agents/", agent("weather", tags=["daily"]), headers={"X-Agent-Mode-Author": "Zoë"}
    )
    made = good(reply)
    assert (reply.status_code, reply.headers["location"]) == (201, "/api/v1/agents/weather")
    assert (made["version"], made["label"], made["usable"], made["offered"]) == (1, "1.0.0", True, True)
    assert api.get("agents/weather") == made

    changed = api.put("agents/weather", {**made, "name": "Skies"})
    assert (changed["name"], changed["version"], changed["definition"]) == ("Skies", 2, made["definition"])
    assert api.put("agents/weather", {**changed}) == changed
    assert api.patch("agents/weather", {"description": "Tells the weather"})["version"] == 3
    assert api.patch("agents/weather", {"enabled": False})["offered"] is False
    assert [author for _, author in api.versions("agents/weather")] == ["api", "api", "api", "Zoë"]

    diff = api.get("agents/weather/versions/diff?from=1&to=1.0.2")
    assert (diff["from"], diff["to"]) == (1, 3)
    assert "-name: Weather\n+name: Skies" in diff["diff"]
    assert api.get("agents/weather/versions/1")["content"]["name"] == "Weather"

    api.delete("agents/weather")
    refusal(api.call("GET", "agents/weather"), 404, "agent_not_found")
    assert api.get("agents/weather/versions")["items"][0]["deleted"]
    back = api.post("agents/weather/rollback", {"version": "1.0.0"})
    assert (back["name"], back["enabled"], back["tags"]) == ("Weather", True, ["daily"])
    assert "weather" in OpenWebUI(api.server).models()


def test_lists_are_filtered_and_come_in_pages(api: Rest) -> None:
    for number in range(7):
        tags = ["even"] if number % 2 == 0 else []
        api.create(
            f"agent-{number}", tags=tags, enabled=number < 5, description="Österreich" if number == 3 else ""
        )

    page = api.get("agents/?limit=3&offset=3")
    assert [item["id"] for item in page["items"]] == ["agent-3", "agent-4", "agent-5"]
    assert (page["total"], page["offset"], page["limit"]) == (7, 3, 3)
    assert "definition" not in page["items"][0]
    assert [item["offered"] for item in page["items"]] == [True, True, False]
    for query, total in {
        "enabled=true": 5,
        "tag=even": 4,
        "tag=EVEN": 0,
        "agent_type=persona": 7,
        "agent_type=nix": 0,
        "q=ÖSTER": 1,
        "q=agent-6": 1,
        "q=%25": 0,
        "q=%00": 7,
        "enabled=false&tag=even": 1,
        "offset=99": 7,
    }.items():
        assert api.get(f"agents/?{query}")["total"] == total, query
    assert api.get("agents")["total"] == 7
    told = refusal(api.call("GET", "agents/?limit=201&offset=-1&enabled=maybe"), 422, "invalid_request")
    assert fields(told) == {"limit", "offset", "enabled"}


WRONG: dict[str, tuple[dict[str, Any], set[str]]] = {
    "no fields": ({"id": None, "name": None}, {"id", "name"}),
    "id of capitals": ({"id": "Weather"}, {"id"}),
    "id of a command": ({"id": "reset"}, {"id"}),
    "id too long": ({"id": "x" * 65}, {"id"}),
    "name empty": ({"name": "  "}, {"name"}),
    "name of two lines": ({"name": "a\nb"}, {"name"}),
    "half a character": ({"description": "a\0b"}, {"description"}),
    "type unknown": ({"agent_type": "crewai"}, {"agent_type"}),
    "type of odd letters": ({"agent_type": "Persona!"}, {"agent_type"}),
    "type no text": ({"agent_type": ["persona"]}, {"agent_type"}),
    "definition no object": ({"definition": "x"}, {"definition"}),
    "definition of another type": (
        {"definition": {"code": "x"}},
        {"definition.code", "definition.instructions"},
    ),
    "definition empty": ({"definition": {}}, {"definition.instructions"}),
    "definition deep": (
        {"definition": json.loads('{"a":' * 40 + "1" + "}" * 40)},
        {"definition", "definition.a", "definition.instructions"},
    ),
    "valve unknown": ({"valves": {"colour": "red"}}, {"valves.colour"}),
    "valves of wrong kinds": (
        {"valves": {"max_steps": "many", "temperature": "hot", "show_progress": 7, "llm_model": []}},
        {"valves.max_steps", "valves.temperature", "valves.show_progress", "valves.llm_model"},
    ),
    "valve out of bounds": ({"valves": {"max_steps": 0}}, {"valves.max_steps"}),
    "secret no text": ({"valves": {"llm_api_key": {"a": 1}}}, {"valves.llm_api_key"}),
    "valves no object": ({"valves": [1]}, {"valves"}),
    "access unknown": ({"access": "nobody"}, {"access"}),
    "enabled no switch": ({"enabled": "perhaps"}, {"enabled"}),
    "enabled in words": ({"enabled": "yes"}, {"enabled"}),
    "enabled in numbers": ({"enabled": 1}, {"enabled"}),
    "tags no list": ({"tags": "a"}, {"tags"}),
    "tag empty": ({"tags": [""]}, {"tags.0"}),
    "field unknown": ({"colour": "red"}, {"colour"}),
    "all at once": (
        {
            "id": "X",
            "name": "",
            "definition": {"model": 7, "foo": 1},
            "valves": {"max_steps": -1},
            "tags": [1],
        },
        {
            "id",
            "name",
            "definition.model",
            "definition.foo",
            "definition.instructions",
            "valves.max_steps",
            "tags.0",
        },
    ),
    "hand-offs that lead nowhere": (
        {
            "agent_type": "llamaindex_workflow",
            "definition": {
                "style": "multi_agent",
                "agents": [
                    {"name": "a", "description": "A", "instructions": "A", "can_hand_over_to": ["nobody"]},
                    {"name": "9", "description": "", "instructions": "B", "style": "dance"},
                ],
            },
        },
        {
            "definition.agents.0.can_hand_over_to",
            "definition.agents.1.name",
            "definition.agents.1.description",
            "definition.agents.1.style",
        },
    ),
    "hand-offs and a root that lead nowhere": (
        {
            "agent_type": "llamaindex_workflow",
            "definition": {
                "style": "multi_agent",
                "root": "nobody",
                "agents": [
                    {"name": "a", "description": "A", "instructions": "A", "can_hand_over_to": ["b", "c"]},
                    {"name": "a", "description": "B", "instructions": "B"},
                ],
            },
            "enabled": "yes",
        },
        {"definition.agents.0.can_hand_over_to", "definition.agents.1.name", "definition.root", "enabled"},
    ),
    "what another style has": (
        {
            "agent_type": "llamaindex_workflow",
            "definition": {"style": "react", "root": "a", "agents": [{"name": "a"}], "output": "loud"},
        },
        {
            "definition.agents",
            "definition.agents.0.description",
            "definition.agents.0.instructions",
            "definition.instructions",
            "definition.output",
            "definition.root",
        },
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_everything_wrong_is_told_at_once_by_field(api: Rest, case: str) -> None:
    changes, expected = WRONG[case]
    form = {key: value for key, value in agent("weather", **changes).items() if value is not None}

    verdict = api.post("agents/validate", form)
    assert not verdict["valid"]
    assert fields(verdict) == expected
    assert all(problem["message"] for problem in verdict["problems"])
    told = refusal(api.call("POST", "agents/", form), 422, "invalid_definition")
    assert told["problems"] == verdict["problems"]
    assert told["field"] in expected
    assert api.get("agents/")["total"] == 0


def test_an_unknown_type_names_the_known_ones(api: Rest) -> None:
    told = refusal(api.call("POST", "agents/", agent("x1", agent_type="crewai")), 422, "invalid_definition")
    assert told["hint"] == "Known types: custom_python, llamaindex_workflow, persona."
    listed = api.get("agent-types/")["items"]
    assert [item["name"] for item in listed] == ["custom_python", "llamaindex_workflow", "persona"]
    for item in listed:
        assert item == api.get(f"agent-types/{item['name']}")
        form = agent("x1", agent_type=item["name"], definition=item["example"])
        assert api.post("agents/validate", form)["valid"] is item["allowed"]
        assert set(item["definition_schema"]["properties"]) >= set(item["example"])
        assert "max_steps" in item["valves_schema"]["properties"]
    refusal(api.call("GET", "agent-types/nix"), 404, "unknown_agent_type")


def test_what_is_not_here_now_is_a_warning(api: Rest) -> None:
    form = agent(
        "coder",
        definition={"persona": "nobody", "model": "no-such-model"},
        valves={"allowed_agents": "writer, ghost-*", "llm_model": "stub"},
    )
    verdict = api.post("agents/validate", form)
    assert verdict["valid"]
    odd = {problem["field"]: problem["message"] for problem in verdict["warnings"]}
    assert set(odd) == {"id", "definition.persona", "definition.model", "valves.allowed_agents"}
    assert "ghost-*" in odd["valves.allowed_agents"]
    assert api.get("agents/")["total"] == 0

    api.create("weather")
    assert fields(api.post("agents/validate", agent("weather"))) == {"id"}
    assert fields(api.post("agents/validate", agent("personas-2", id="bystander"))) == {"id"}
    assert api.post("agents/weather/validate")["valid"]
    assert fields(api.post("agents/weather/validate", {"id": "other", "name": "N"})) == {"id"}
    wrong = {"definition": {}, "valves": {"x": 1}}
    told = {"definition.instructions", "valves.x"}
    assert fields(api.post("agents/weather/validate", wrong)) == told
    assert fields(api.post("agents/weather/validate", {"id": "other", **wrong})) == {"id", *told}
    assert fields(api.post("agents/validate", agent("weather", **wrong))) == {"id", *told}


def test_ids_that_are_taken(api: Rest) -> None:
    api.create("weather")
    told = refusal(api.call("POST", "agents/", agent("weather")), 409, "agent_exists")
    assert told["field"] == "id"
    refusal(api.call("POST", "agents/", agent("bystander")), 409, "agent_exists")
    assert "bystander" not in {item["id"] for item in api.get("agents/")["items"]}


def test_of_two_updates_one_is_told_that_it_came_late(api: Rest) -> None:
    made = api.create("raced")

    def save(name: str) -> Any:
        header = {"X-Agent-Mode-Author": name}
        return api.call("PUT", "agents/raced", {**made, "name": name}, headers=header)

    names = [f"Author {number}" for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        replies = dict(zip(names, pool.map(save, names), strict=True))
    [winner] = [name for name, reply in replies.items() if reply.status_code == 200]
    for name in set(names) - {winner}:
        told = refusal(replies[name], 409, "stale_version")
        assert (told["field"], told["current"]["version"], told["current"]["author"]) == (
            "version",
            2,
            winner,
        )
        assert winner in told["message"]
        assert told["current"]["changed_at"][:10] in told["message"]
    assert api.get("agents/raced")["name"] == winner
    assert api.versions("agents/raced") == [(2, winner), (1, "api")]


def test_changes_of_different_fields_at_once_are_all_kept(api: Rest) -> None:
    api.create("patched")
    changes = [{"name": "Skies"}, {"description": "Looks up"}, {"tags": ["a"]}, {"access": "everyone"}]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda change: api.patch("agents/patched", change), changes))
    now = api.get("agents/patched")
    assert (now["name"], now["description"], now["tags"], now["access"]) == (
        "Skies",
        "Looks up",
        ["a"],
        "everyone",
    )
    assert now["version"] == 5


def test_what_an_agent_names_and_is_not_here_is_told_when_it_is_saved(api: Rest) -> None:
    odd = {
        "definition": {"persona": "nobody-here"},
        "valves": {"allowed_agents": "ghost", "allowed_tools": "[bad(, good_*"},
    }
    told = {"definition.persona", "valves.allowed_agents", "valves.allowed_tools"}
    checked = api.post("agents/validate", agent("dreamer", **odd))
    made = api.create("dreamer", **odd)
    for answer in (checked, made, api.get("agents/dreamer"), api.put("agents/dreamer", made)):
        assert {warning["field"] for warning in answer["warnings"]} == told
        assert all(warning["message"] and warning["hint"] for warning in answer["warnings"])
    assert api.create("down-to-earth")["warnings"] == []


def test_versions_that_cannot_be(api: Rest) -> None:
    made = api.create("versioned")
    del made["version"]
    told = refusal(api.call("PUT", "agents/versioned", made), 422, "invalid_request")
    assert told["field"] == "version"
    for version in (0, -1, "x", "2.0.0", 1.5, True, [1], "9" * 30):
        told = refusal(
            api.call("PUT", "agents/versioned", {**made, "version": version}), 422, "invalid_request"
        )
        assert told["field"] == "version"
        told = refusal(
            api.call("POST", "agents/versioned/rollback", {"version": version}), 422, "invalid_request"
        )
    told = refusal(api.call("PUT", "agents/versioned", {**made, "version": "9.9.9"}), 422, "invalid_request")
    assert "“9.9.9” is no version." in told["message"]
    refusal(api.call("PUT", "agents/versioned", {**made, "version": 7}), 422, "unknown_version")
    refusal(api.call("POST", "agents/versioned/rollback", {"version": 9}), 404, "unknown_version")
    refusal(api.call("POST", "agents/nobody/rollback", {"version": 1}), 404, "unknown_version")
    told = refusal(api.call("GET", "agents/versioned/versions/diff?from=x"), 422, "invalid_request")
    assert told["field"] == "to"
    told = refusal(
        api.call("PUT", "agents/versioned", {**made, "id": "other", "version": 1}), 422, "invalid_definition"
    )
    assert told["field"] == "id"
    for method, path in (
        ("GET", "agents/nobody"),
        ("DELETE", "agents/nobody"),
        ("GET", "agents/nobody/valves"),
        ("GET", "agents/nobody/valves/spec"),
        ("GET", "agents/nobody/versions"),
    ):
        refusal(api.call(method, path), 404, "agent_not_found")
    refusal(api.call("PUT", "agents/nobody", agent("nobody", version=1)), 404, "agent_not_found")
    refusal(api.call("PATCH", "agents/nobody", {"name": "x"}), 404, "agent_not_found")


def test_secrets_are_masked_wherever_they_could_show(api: Rest) -> None:
    made = api.create("masked", valves={"llm_api_key": LONG_KEY, "llm_model": "stub"})
    assert made["valves"]["llm_api_key"] == KEPT
    api.patch(
        "agents/masked", {"valves": {"llm_api_key": "sk-another-one-abcdefgh-1234", "llm_model": "stub"}}
    )
    shown = [
        api.call("GET", path).text
        for path in (
            "agents/",
            "agents/masked",
            "agents/masked/valves",
            "agents/masked/versions",
            "agents/masked/versions/1",
            "agents/masked/versions/2",
            "agents/masked/versions/diff?from=1&to=2",
        )
    ]
    shown += [api.server.get("/masked/valves").text, api.server.log()]
    assert not [text for text in shown if LONG_KEY in text or "sk-another" in text]
    assert KEPT in shown[6]


def test_a_mask_stands_for_what_this_very_agent_has(api: Rest, provider: Provider) -> None:
    """Short keys all look alike when masked; none may become another agent's."""
    api.create("mine", valves={"llm_api_key": PROVIDER_KEY, "llm_model": "stub"})
    other = api.create("other", valves={"llm_api_key": "sk-bad", "llm_model": "stub"})
    assert other["valves"]["llm_api_key"] == "********"

    api.put("agents/other", {**other, "name": "Renamed"})
    api.put("agents/other/valves", {"llm_api_key": "********", "llm_model": "stub"})
    api.server.post("/other/valves/update", {"llm_api_key": "********", "llm_model": "stub"})
    api.create("third", valves={"llm_api_key": "********", "llm_model": "stub"})

    for name, sent in (("other", "sk-bad"), ("third", PROVIDER_KEY), ("mine", PROVIDER_KEY)):
        # An agent without a key of its own uses the server's.
        api.call("POST", f"agents/{name}/run", {"input": "Hi"})
        assert provider.last().headers["authorization"] == f"Bearer {sent}", name
    assert api.get("agents/third")["valves"] == {"llm_model": "stub"}


def test_valves(api: Rest) -> None:
    api.create("valved")
    spec = api.get("agents/valved/valves/spec")
    valves = api.get("agents/valved/valves")
    assert set(spec["properties"]) == set(valves)
    assert (valves["llm_model"], valves["max_steps"], valves["access"]) == ("stub", 20, "openwebui")

    saved = api.put("agents/valved/valves", {**valves, "max_steps": "7", "access": "everyone"})
    assert (saved["max_steps"], saved["access"]) == (7, "everyone")
    now = api.get("agents/valved")
    assert (now["access"], now["valves"], now["version"]) == (
        "everyone",
        {"llm_model": "stub", "max_steps": 7},
        2,
    )
    told = refusal(
        api.call("PUT", "agents/valved/valves", {"max_steps": "x", "foo": 1}), 422, "invalid_definition"
    )
    assert fields(told) == {"valves.max_steps", "valves.foo"}
    refusal(api.call("PUT", "agents/valved/valves?version=1", {}), 409, "stale_version")
    assert api.put("agents/valved/valves?version=1.0.1", {})["llm_model"] is None
    told = refusal(api.call("PUT", "agents/valved/valves", [1]), 422, "invalid_request")
    assert told["field"] == "body"


def test_code_is_refused_while_it_is_switched_off(api: Rest) -> None:
    code = {"code": "async def run(turn, tools, llm, call_agent, status):\n    yield 'x'\n"}
    form = agent("runner", agent_type="custom_python", definition=code)
    api.create("weather")
    for reply in (
        api.call("POST", "agents/", form),
        api.call("POST", "agents/", {**form, "enabled": False}),
        api.call("PUT", "agents/weather", {**form, "id": "weather", "version": 1}),
        api.call("PATCH", "agents/weather", {"agent_type": "custom_python", "definition": code}),
    ):
        told = refusal(reply, 403, "custom_python_off")
        assert "AGENT_MODE_ALLOW_CUSTOM_PYTHON" in told["hint"]
    assert fields(api.post("agents/validate", form)) == {"agent_type"}
    assert api.get("agents/")["total"] == 1


def test_who_writes_is_told_by_a_header(api: Rest) -> None:
    for number, (author, kept) in enumerate(
        {"Ann": "Ann", "Zoë 💻".encode(): "Zoë 💻", "Andr\xe9": "André"}.items()
    ):
        header = {"X-Agent-Mode-Author": author}
        good(api.call("POST", "agents/", agent(f"written-{number}"), headers=header))
        assert api.versions(f"agents/written-{number}") == [(1, kept)]
    for author in ("", "x" * 81, "a\u200bb".encode()):
        reply = api.call("POST", "agents/", agent("other"), headers={"X-Agent-Mode-Author": author})
        assert refusal(reply, 400, "bad_request")["field"] == "X-Agent-Mode-Author"


def test_every_route_asks_for_the_key(api: Rest) -> None:
    paths = api.get("openapi.json")["paths"]
    assert len(paths) > 20
    for path, methods in paths.items():
        address = re.sub(r"\{\w+\}", "x1", path)
        for method in methods:
            for headers in (
                {},
                {"Authorization": "Bearer sk-wrong"},
                {"Authorization": "Basic eDp4"},
                {"Authorization": "Bearer eyJhbGciOiJIUzI1NiJ9.eyJpZCI6IjEifQ.c2lnbmF0dXJl"},
                {"Cookie": "token=eyJhbGciOiJIUzI1NiJ9.eyJpZCI6IjEifQ.c2lnbmF0dXJl"},
            ):
                reply = api.server.anonymous(method.upper(), address, headers=headers)
                refusal(reply, 401, "unauthorized")
                assert reply.headers["www-authenticate"].startswith("Bearer")


def test_addresses_that_are_none(api: Rest) -> None:
    for method, path, status, code in (
        ("GET", "", 404, "no_route"),
        ("GET", "nix", 404, "no_route"),
        ("GET", "agents/x/y/z", 404, "no_route"),
        ("GET", "docs", 404, "no_route"),
        ("PATCH", "agents/", 405, "no_method"),
        ("POST", "agents/weather", 405, "no_method"),
        ("PUT", "runs/x", 405, "no_method"),
        ("GET", "agents/" + "x" * 5000, 422, "invalid_request"),
    ):
        refusal(api.call(method, path), status, code)
    asked = {"Origin": "https://chat.example", "Access-Control-Request-Method": "PUT"}
    preflight = api.server.anonymous("OPTIONS", "/api/v1/agents/x", headers=asked)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-methods"]


def test_bodies_that_are_none(api: Rest) -> None:
    api.create("weather")
    before = api.get("agents/weather")
    for method, path in (
        ("POST", "agents/"),
        ("POST", "agents/validate"),
        ("PUT", "agents/weather"),
        ("PATCH", "agents/weather"),
        ("PUT", "agents/weather/valves"),
        ("POST", "agents/weather/rollback"),
        ("POST", "agents/weather/run"),
        ("POST", "personas/"),
        ("POST", "personas/validate"),
        ("PUT", "personas/coder"),
        ("PUT", "users/u/credential"),
    ):
        for raw, status, code in (
            (b"", 422, "invalid_request"),
            (b"[]", 422, "invalid_request"),
            (b'"x"', 422, "invalid_request"),
            (b"null", 422, "invalid_request"),
            (b"{nix", 400, "bad_request"),
            (b"\xff\xfe", 400, "bad_request"),
            (b'{"a": NaN}', 400, "bad_request"),
            (b'{"a": 1e999}', 400, "bad_request"),
            (b'{"name": "\\ud800"}', 400, "bad_request"),
            (b"[" * 100_000, 400, "bad_request"),
            (b"a=b&c=d", 400, "bad_request"),
        ):
            reply = api.server.request(method, f"/api/v1/{path}", data=raw)
            assert refusal(reply, status, code)["field"] == "body", (path, raw[:20])
    assert api.get("agents/weather") == before


def test_large_definitions(api: Rest) -> None:
    large = {"instructions": "x" * 150_000}
    assert api.create("weather", definition=large)["definition"] == large
    over = agent("other", definition={"instructions": "x" * 250_000})
    assert fields(refusal(api.call("POST", "agents/", over), 422, "invalid_definition")) == {
        "definition.instructions"
    }
    huge = agent("other", definition={"instructions": "x" * 3_000_000})
    told = refusal(api.call("POST", "agents/", huge), 422, "invalid_definition")
    assert "definition" in fields(told)
    assert len(json.dumps(told)) < 10_000
    many = agent("other", tags=["x"] * 100_000, **{f"field-{n}": 1 for n in range(5_000)})
    assert len(refusal(api.call("POST", "agents/", many), 422, "invalid_definition")["problems"]) <= 60


def test_the_examples_of_the_documentation_work(api: Rest) -> None:
    for form in examples.AGENTS.values():
        api.post("agents/", form)
        assert api.post(f"agents/{form['id']}/validate")["valid"]
    assert api.put("agents/release-notes", examples.REPLACED_AGENT)["version"] == 2
    assert api.put("agents/release-notes/valves", examples.VALVES)["access"] == "everyone"
    document = api.get("openapi.json")
    for path, methods in document["paths"].items():
        for method, told in methods.items():
            assert told["summary"], path
            assert told["security"], path
            assert (method in ("put", "post", "patch")) == ("requestBody" in told) or path.endswith(
                ("stop", "reset")
            ), path
    assert "agent" in json.dumps(document["paths"]["/api/v1/agents/"]["post"]["requestBody"])


def ask(api: Rest, body: Any, agent_id: str = "weather") -> Any:
    return api.call("POST", f"agents/{agent_id}/run", body)


def test_a_plain_request(api: Rest, provider: Provider) -> None:
    api.create("weather", definition={"persona": "coder", "instructions": "You know the skies."})
    told = good(ask(api, {"input": "Hi"}))
    assert told["output"] == "Hello from stub: Hi"
    assert told["usage"]["total_tokens"] == 18
    assert (told["sources"], told["images"], told["tool_calls"]) == ([], [], [])
    system, user = provider.last().body["messages"]
    assert system["content"].startswith("You know the skies.\n\n")
    assert len(system["content"]) > 200
    assert user == {"role": "user", "content": "Hi"}
    record = api.get(f"runs/{told['run_id']}")
    assert (record["state"], record["agent"], record["model"]) == ("done", "weather", "stub")

    history = [{"role": "user", "content": "A"}, {"role": "assistant", "content": "B"}]
    again = good(ask(api, {"messages": [*history, {"role": "user", "content": "C"}], "user_id": "ann"}))
    assert again["output"] == "Hello from stub: C"
    assert api.get("runs/?user_id=ann")["items"][0]["id"] == again["run_id"]
    assert [m["role"] for m in provider.last().body["messages"]] == ["system", "user", "assistant", "user"]


def test_a_plain_request_as_a_stream(api: Rest) -> None:
    api.create("weather")
    reply = ask(api, {"input": "Hi", "stream": True})
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    told = events(reply)
    assert [told[0]["type"], told[-1]["type"]] == ["run", "done"]
    words = "".join(event["text"] for event in told if event["type"] == "text")
    assert words == told[-1]["output"] == "Hello from stub: Hi"
    assert told[0]["run_id"] == told[-1]["run_id"]


def test_tools_of_a_plain_request_are_the_scripts_to_run(api: Rest) -> None:
    api.create("weather", valves={"llm_model": "stub-agent"})
    tools = [
        {
            "type": "function",
            "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}},
        }
    ]
    messages: list[Any] = [{"role": "user", "content": "call: clock\nthen say: It is {results}."}]
    first = good(ask(api, {"messages": messages, "tools": tools}))
    [call] = first["tool_calls"]
    assert call["function"]["name"] == "clock"
    assert api.get(f"runs/{first['run_id']}")["state"] == "waiting"

    messages += [
        {"role": "assistant", "content": first["output"], "tool_calls": first["tool_calls"]},
        {"role": "tool", "tool_call_id": call["id"], "content": "noon"},
    ]
    second = good(ask(api, {"messages": messages, "tools": tools}))
    assert (second["output"], second["run_id"]) == ("It is noon.", first["run_id"])
    assert api.get(f"runs/{first['run_id']}")["state"] == "done"


def test_requests_that_cannot_be_answered(api: Rest) -> None:
    api.create("weather")
    user = {"role": "user", "content": "x"}
    for body, field in (
        ({}, "input"),
        ({"input": ""}, "input"),
        ({"input": "x", "messages": [user]}, "input"),
        ({"input": 7}, "input"),
        ({"input": "x", "user_id": ""}, "user_id"),
        ({"input": "x", "stream": "perhaps"}, "stream"),
        ({"input": "x", "tools": [{"name": "f"}]}, "tools.0"),
        ({"input": "x", "colour": "red"}, "colour"),
    ):
        assert refusal(ask(api, body), 422, "invalid_request")["field"] == field, body
    for messages, field in (([], "messages"), ([{"role": "king", "content": "x"}], "messages.0.role")):
        assert refusal(ask(api, {"messages": messages}), 400, "bad_request")["field"] == field
    refusal(ask(api, {"input": "x"}, "nobody"), 404, "agent_not_found")
    api.patch("agents/weather", {"enabled": False})
    refusal(ask(api, {"input": "x"}), 409, "agent_disabled")
    assert good(ask(api, {"input": "!!"}, "writer"))["output"]


def test_a_failure_says_where_it_was(api: Rest) -> None:
    api.create("weather", valves={"llm_model": "stub-401"})
    told = refusal(ask(api, {"input": "x"}), 502, "provider_auth")
    assert told["agent"] == "weather"
    assert api.get(f"runs/{told['run_id']}")["state"] == "failed"
    assert "Traceback" in api.get(f"runs/{told['run_id']}")["trace"]

    api.put("agents/weather/valves", {"llm_model": "stub-cut"})
    told = ask(api, {"input": "x"}).json()
    assert told["code"] == "provider_broken_stream"
    assert told["output"]
    kinds = [event["type"] for event in events(ask(api, {"input": "x", "stream": True}))]
    assert kinds[-2:] == ["error", "done"]
    assert "text" in kinds


def test_a_closed_connection_stops_the_run(api: Rest, provider: Provider) -> None:
    api.create("weather", valves={"llm_model": "stub-hang"})
    for stream in (True, False):
        body = json.dumps({"input": "x", "stream": stream}).encode()
        connection = api.server.connect()
        key = api.server.key
        head = f"POST /api/v1/agents/weather/run HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert eventually(lambda: provider.active == 1)
        connection.close()
        assert eventually(lambda: provider.active == 0)
        assert eventually(lambda: api.get("runs/?agent=weather")["items"][0]["state"] == "stopped")
    assert eventually(lambda: api.server.probe()["runs"] == 0)


def test_many_requests_at_once(api: Rest, provider: Provider) -> None:
    api.create("weather")
    provider.script(*(Reply(f"{n}", first_after=0.2) for n in range(30)))
    with ThreadPoolExecutor(30) as pool:
        replies = list(pool.map(lambda _: good(ask(api, {"input": "x"})), range(30)))
    assert len({reply["run_id"] for reply in replies}) == 30
    assert {reply["output"] for reply in replies} == {str(n) for n in range(30)}


def test_limits_of_bodies_and_code_by_setting(tmp_path: Path, provider: Provider) -> None:
    """A server whose admin allows code, and little of it."""
    environment = {"AGENT_MODE_ALLOW_CUSTOM_PYTHON": "true", "AGENT_MODE_MAX_BODY_MB": "1"}
    made = make(OURS, tmp_path / "x", provider.base_url, environment=environment)
    code = "async def run(turn, tools, llm, call_agent, status):\n    yield f'{len(turn.text)} letters'\n"
    with running(made):
        api = Rest(made)
        form = agent("counter", agent_type="custom_python", definition={"code": code})
        api.post("agents/", form)
        assert good(ask(api, {"input": "four"}, "counter"))["output"] == "4 letters"
        assert OpenWebUI(made).chat().ask("four", "counter").good().text == "4 letters"
        wrong = {**form, "id": "other", "definition": {"code": "def run(:\n"}}
        assert not api.post("agents/validate", wrong)["valid"]
        over = api.call("POST", "agents/", {**form, "id": "other", "description": "x" * 2**20})
        refusal(over, 413, "too_large")
        made.stop()

        made.environment["AGENT_MODE_ALLOW_CUSTOM_PYTHON"] = "false"
        made.spawn()
        made.wait()
        assert "counter" not in OpenWebUI(made).models()
        found = api.get("agents/counter")
        assert (found["usable"], found["offered"]) == (False, False)
        assert fields(found) == {"agent_type"}
        assert "agent left out" in made.log()
        refusal(ask(api, {"input": "four"}, "counter"), 422, "invalid_definition")
        refusal(api.call("POST", "agents/counter/rollback", {"version": 1}), 403, "custom_python_off")
        refusal(api.call("PUT", "agents/counter/valves", {}), 403, "custom_python_off")
        assert api.patch("agents/counter", {"enabled": False})["enabled"] is False
        refusal(api.call("PATCH", "agents/counter", {"enabled": True}), 403, "custom_python_off")
        api.delete("agents/counter")
