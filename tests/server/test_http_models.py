"""The model list, and pipelines of others beside ours."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.provider import Provider
from tests.server.openwebui import USER, OpenWebUI
from tests.server.servers import OLD, OURS, PIPE, ROOT, STOCK, Server, params

CATALOGUE = {path.stem: json.loads(path.read_text()) for path in (ROOT / "personas").glob("*.json")}
HELPERS = {"console", "tool_runner", "auto"}
"""Models of the manifold that are no personas."""


def test_every_persona_is_a_model(webui: OpenWebUI) -> None:
    names = {key: entry["name"] for key, entry in webui.models().items() if key.startswith("personas.")}
    for helper in HELPERS:
        names.pop(f"personas.{helper}", None)

    assert names == {f"personas.{key}": f"{p['emoji']} {p['name']}" for key, p in CATALOGUE.items()}
    assert names["personas.coder"] == "💻 Coder"


@pytest.mark.parametrize("path", ["/models", "/v1/models"])
@pytest.mark.parametrize("server", params(OURS, STOCK, OLD), indirect=True)
def test_models_bear_tags_and_descriptions(server: Server, path: str) -> None:
    entries = {entry["id"]: entry for entry in server.get(path).json()["data"]}

    coder = entries["personas.coder"]
    assert coder["tags"] == [{"name": "Persona"}, {"name": "Software"}]
    assert coder["info"]["meta"]["description"] == CATALOGUE["coder"]["description"]
    assert coder["pipeline"] == {"type": "manifold", "valves": True}  # without it no inlet is called
    assert "tags" not in entries["bystander"]


@pytest.mark.parametrize("server", params(PIPE), indirect=True)
def test_without_the_layer_the_list_is_upstreams_own(webui: OpenWebUI) -> None:
    assert set(webui.models()["personas.coder"]) == {
        "id", "name", "object", "created", "owned_by", "pipeline"
    }  # fmt: skip


def test_list_is_narrowed_by_a_valve(server: Server, webui: OpenWebUI) -> None:
    server.set_valves(models="coder, writing")

    offered = {key.removeprefix("personas.") for key in webui.models() if key.startswith("personas.")}

    assert offered - HELPERS == {"coder"} | {
        key for key, p in CATALOGUE.items() if p["category"] == "writing"
    }


@pytest.mark.parametrize("prefix", ["", "/v1"])
def test_a_pipe_of_others_answers(server: Server, prefix: str) -> None:
    body = {"model": "bystander", "messages": [{"role": "user", "content": "hello"}], "user": USER}

    whole = server.post(f"{prefix}/chat/completions", {**body, "stream": False}).json()
    streamed = server.post(f"{prefix}/chat/completions", {**body, "stream": True}).text

    assert whole["choices"][0]["message"]["content"] == "Good day, Bob: hello"
    lines = [line[6:] for line in streamed.splitlines() if line]
    words = [c["delta"].get("content", "") for line in lines[:-1] for c in json.loads(line)["choices"]]
    assert "".join(words) == "Good day, Bob: hello"
    assert lines[-1] == "[DONE]"


def test_valves_of_others_are_saved(server: Server) -> None:
    body = {
        "model": "bystander",
        "messages": [{"role": "user", "content": "x"}],
        "user": USER,
        "stream": False,
    }

    try:
        saved = server.post("/bystander/valves/update", {"greeting": "Moin"})
        said = server.post("/chat/completions", body).json()["choices"][0]["message"]["content"]
    finally:
        server.post("/bystander/valves/update", {"greeting": "Good day"})

    assert (saved.status_code, saved.json()) == (200, {"greeting": "Moin"})
    assert said == "Moin, Bob: x"


def test_a_filter_of_others_works_on_our_models(server: Server, webui: OpenWebUI, provider: Provider) -> None:
    assert "shout" in webui.filters("personas.coder")

    answer = webui.chat().ask("SHOUT hello", "personas.coder", filters=True)

    assert answer.good().text == "Hello from stub: SHOUT HELLO Bob"
    outlet = server.post("/shout/filter/outlet", {"body": {"model": "personas.coder"}, "user": USER})
    assert outlet.json() == {"model": "personas.coder", "shout": "was here"}


def test_our_outlet_changes_nothing(server: Server) -> None:
    body = {"model": "personas.coder", "messages": [{"role": "assistant", "content": "ü"}], "chat_id": "c"}

    reply = server.post("/personas.coder/filter/outlet", {"body": body, "user": USER})

    assert (reply.status_code, reply.json()) == (200, body)


def test_errors_of_upstream_stay_its_own(server: Server) -> None:
    body = {"model": "nobody", "messages": [{"role": "user", "content": "x"}], "stream": False}

    assert server.post("/chat/completions", body).status_code == 404
    assert server.get("/nobody/valves").status_code == 404
    assert server.post("/bystander/valves/update", {"greeting": 7}).status_code == 500


def test_many_chats_at_once(server: Server, webui: OpenWebUI) -> None:
    def ask(number: int) -> str:
        return webui.chat().ask(f"number {number}", "personas.coder").good().text

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(40)))

    assert answers == [f"Hello from stub: number {number}" for number in range(40)]
