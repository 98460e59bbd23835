"""The persona browser over HTTP: a page behind the key, an embed in the chat, a table for programs."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest

from tests.server.openwebui import Json, OpenWebUI
from tests.server.servers import KEY, OURS, PIPE, ROOT, STOCK, Server, params

CODER = "personas.coder"
CATALOGUE = {path.stem: json.loads(path.read_text()) for path in (ROOT / "personas").glob("*.json")}
BEARER = {"Authorization": f"Bearer {KEY}"}

with_layer = pytest.mark.parametrize("server", params(OURS, STOCK), indirect=True)
with_and_without = pytest.mark.parametrize("server", params(OURS, PIPE), indirect=True)


def basic(text: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}


def island(html: str) -> Any:
    """The data inside the page."""
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", html, re.DOTALL)
    (data,) = [json.loads(script) for script in scripts if script.lstrip().startswith("{")]
    return data


def check_page(html: str, *, embedded: bool) -> None:
    """Everyone is on it, and no word of anyone's instructions."""
    data = island(html)
    assert data["embedded"] is embedded
    personas = [entry for entry in data["personas"] if entry["category"] != "agents"]
    assert {persona["key"] for persona in personas} == set(CATALOGUE)
    for persona in personas:
        shipped = CATALOGUE[persona["key"]]
        assert persona["name"] == shipped["name"]
        assert persona["capabilities"] == shipped["capabilities"]
        assert not {"prompt", "model"} & set(persona)
        assert shipped["prompt"][:60] not in html
    assert KEY not in html
    assert not re.search(r"(?:src|href)\s*=\s*[\"']?(?:https?:)?//", html)


# The page


@with_layer
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Basic"},
        {"Authorization": "Basic !!!"},
        {"Authorization": "Basic " + base64.b64encode(b"\xff\xfe").decode()},
        {"Authorization": f"Basic {KEY}"},
        basic(KEY),
        basic(f"{KEY}:"),
        basic("admin:wrong"),
        basic(f"admin:{KEY}:more"),
        {"Authorization": "Bearer wrong"},
        {"Cookie": f"token={KEY}"},
    ],
    ids=str,
)
def test_without_the_key_a_browser_is_asked_for_it(server: Server, headers: dict[str, str]) -> None:
    reply = server.anonymous("GET", "/personas", headers=headers)

    assert reply.status_code == 401
    scheme, _, realm = reply.headers["www-authenticate"].partition(" ")
    assert (scheme, bool(re.fullmatch(r'realm="[^"]+"', realm))) == ("Basic", True)
    assert reply.json()["error"]["code"] == "unauthorized"
    assert "coder" not in reply.text


@with_layer
@pytest.mark.parametrize(
    "headers", [BEARER, basic(f":{KEY}"), basic(f"admin:{KEY}"), basic(f"Ann é:{KEY}")], ids=str
)
def test_the_key_opens_the_page(server: Server, headers: dict[str, str]) -> None:
    reply = server.anonymous("GET", "/personas", headers=headers)

    assert (reply.status_code, reply.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert (reply.headers["x-frame-options"], reply.headers["cache-control"]) == ("DENY", "no-store")
    assert int(reply.headers["content-length"]) == len(reply.content)
    check_page(reply.content.decode(), embedded=False)


@with_layer
def test_the_password_opens_nothing_else(server: Server) -> None:
    """A browser sends it along with whatever another site makes it ask for."""
    paths = server.get("/openapi.json").json()["paths"]
    known = [
        (method.upper(), re.sub(r"\{\w+\}", "personas", path))
        for path, methods in paths.items()
        for method in methods
    ]
    others = [
        ("POST", "/personas"),
        ("DELETE", "/personas"),
        ("GET", "/personas/"),
        ("GET", "/personas/valves"),
    ]
    others += [
        ("GET", "/v1/personas"),
        ("GET", "/Personas"),
        ("GET", "/docs"),
        ("GET", "/metrics"),  # /admin has a sign-in of its own: test_admin_page.py
    ]
    before = server.get("/personas/valves").json()

    for method, path in known + others:
        if path in ("/", "/v1"):
            continue  # status routes, open to all
        reply = server.anonymous(method, path, headers=basic(f"admin:{KEY}"), json={"llm_model": "evil"})
        assert reply.status_code == 401, (method, path)
        assert reply.headers["www-authenticate"].startswith("Basic" if path == "/personas" else "Bearer"), (
            path
        )

    assert len(known) > 20
    assert server.get("/personas/valves").json() == before


@with_layer
def test_the_page_says_what_its_scripts_may_do(server: Server) -> None:
    html = server.get("/personas").content.decode()

    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize("server", params(PIPE), indirect=True)
def test_without_our_layer_there_is_no_page(server: Server) -> None:
    assert server.get("/personas").status_code == 404


# The list in the chat


@with_and_without
def test_the_list_is_a_browser_for_people(server: Server, webui: OpenWebUI) -> None:
    answer = webui.chat().ask("!agent list", CODER).good()

    assert "<details>\n<summary>As a table</summary>" in answer.text
    # Agents are left out: this user may not call them, as there is nobody to ask.
    assert f"Pick one of {len(CATALOGUE)} personas above." in answer.text
    assert "| `!coder` | 💻 Coder |" in answer.text
    (event,) = answer.events
    assert (event["type"], list(event["data"])) == ("embeds", ["embeds"])
    (html,) = event["data"]["embeds"]
    check_page(html, embedded=True)
    assert answer.objects[0]["event"] == event  # Open WebUI shows it above the text
    assert (answer.done, set(answer.finish_reasons)) == (1, {"stop"})


@with_and_without
def test_the_list_is_a_table_where_a_browser_has_no_place(server: Server, webui: OpenWebUI) -> None:
    """Without streaming there are no events."""
    answer = webui.chat().ask("!agent list", CODER, stream=False).good()

    assert answer.text.startswith("### Software")
    assert "above" not in answer.text


@with_and_without
@pytest.mark.parametrize("stream", [True, False])
def test_the_list_is_a_table_for_programs(server: Server, webui: OpenWebUI, stream: bool) -> None:
    body: Json = {"model": CODER, "stream": stream, "messages": [{"role": "user", "content": "!agent list"}]}

    answer = webui.complete(body).good()

    assert answer.events == []
    assert "<details>" not in answer.text
    assert answer.text.startswith("### Software\n\n| Type | Persona | What for |\n| --- | --- | --- |\n")
    assert answer.text.count("\n| `!") == len(CATALOGUE)


@with_and_without
def test_list_and_commands_follow_the_valves(server: Server, webui: OpenWebUI) -> None:
    server.set_valves(models="coder, writing", keyword_prefix="#")
    offered = {
        key for key, shipped in CATALOGUE.items() if key == "coder" or shipped["category"] == "writing"
    }
    offered |= {key for key, shipped in CATALOGUE.items() if "writing" in shipped["tags"]}

    answer = webui.chat().ask("#agent list", CODER).good()

    data = island(answer.events[0]["data"]["embeds"][0])
    keys = {persona["key"] for persona in data["personas"] if persona["category"] != "agents"}
    assert (data["prefix"], keys) == ("#", offered)
    assert "| `#coder` |" in answer.text


@with_layer
def test_the_page_follows_the_valves(server: Server) -> None:
    before = island(server.get("/personas").text)
    assert before["prefix"] == "!"
    assert {persona["key"] for persona in before["personas"]} >= set(CATALOGUE)
    server.set_valves(models="coder, writer", keyword_prefix="#")

    data = island(server.get("/personas").text)

    assert data["prefix"] == "#"
    offered = {persona["key"] for persona in data["personas"] if persona["category"] != "agents"}
    assert offered == {"coder", "writer"}
