"""Whatever the provider does wrong, the chat says it in one readable sentence with the cure."""

from __future__ import annotations

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest

from tests.provider import RETRY_AFTER, Provider, Reply
from tests.server.openwebui import USER, Answer, OpenWebUI
from tests.server.servers import OLD, OURS, STOCK, Kind, Server, eventually, free_port, params

CODER = "personas.coder"


class Case(NamedTuple):
    says: str
    """What the message begins with."""
    cure: str
    code: str
    partial: str = ""
    """What was streamed before."""


CASES = {
    "stub-401": Case("The model provider refused the key (401).", "llm_api_key", "provider_auth"),
    "stub-404": Case(
        "The model provider does not know the model “stub-404” (404).", "llm_model", "provider_model"
    ),
    "stub-429": Case(
        "The model provider is limiting requests (429).",
        f"Try again in {RETRY_AFTER} seconds",
        "provider_rate_limit",
    ),
    "stub-500": Case("The model provider has trouble (500).", "Try again", "provider_unavailable"),
    "stub-503": Case("The model provider has trouble (503).", "Try again", "provider_unavailable"),
    "stub-html": Case(
        "The model provider sent something that is not a chat answer.", "/v1", "provider_not_json"
    ),
    "stub-badjson": Case(
        "The model provider sent something that is not a chat answer.", "/v1", "provider_not_json", "Good "
    ),
    "stub-cut": Case(
        "The connection to the model provider broke in the middle of the answer.",
        "try again",
        "provider_broken_stream",
        "One two three ",
    ),
    "stub-errchunk": Case(
        "The model provider stopped with an error: overloaded", "Try again", "provider_error", "So far"
    ),
}


def check(answer: Answer, case: Case) -> None:
    """One error, readable, in the shape that Open WebUI shows."""
    (message,) = answer.errors
    assert message.startswith(case.says), message
    assert case.cure in message
    assert len(message) < 500
    assert not re.search(r"[<>{}\n]|Traceback|\w+Error\b|0x[0-9a-f]{6}", message), message


@pytest.mark.parametrize("model", CASES)
def test_an_error_is_readable(server: Server, webui: OpenWebUI, model: str) -> None:
    case = CASES[model]
    server.set_valves(llm_model=model)

    answer = webui.chat().ask("Hi", CODER)

    check(answer, case)
    assert answer.stray == []
    # Not by the status: after that, Open WebUI up to 0.8 waits for more.
    assert answer.status == 200
    assert answer.text == case.partial
    assert answer.done == 1
    assert "error" in answer.objects[-2 if answer.objects[-1].get("choices") else -1]
    (record,) = [line for line in server.records() if "turn failed" in line]
    assert record.startswith("[AGENT_MODE:WARNING]")
    for word in (f"code={case.code}", "model=personas.coder", f"user_id={USER['id']}", "chat_id="):
        assert word in record


@pytest.mark.parametrize("model", CASES)
def test_an_error_without_streaming(server: Server, webui: OpenWebUI, provider: Provider, model: str) -> None:
    server.set_valves(llm_model=model)

    answer = webui.chat().ask("Hi", CODER, stream=False)

    assert answer.payloads == []
    assert len(answer.errors) == 1
    assert not re.search(r"[<>{}\n]|Traceback|\w+Error\b", answer.errors[0])
    if server.kind.layer:
        assert 400 <= answer.status < 600
        assert answer.status not in (401, 403)
        assert answer.body["detail"] == answer.errors[0]
    check(answer, CASES[model])
    if model == "stub-cut":
        assert len(provider.chats) == 1  # it had begun to answer
    assert any("turn failed" in line for line in server.records())


@pytest.mark.parametrize("model", [model for model, case in CASES.items() if not case.partial])
@pytest.mark.parametrize("server", params(OURS, STOCK, OLD), indirect=True)
@pytest.mark.parametrize("stream", [True, False])
def test_a_program_sees_the_failure_by_the_status(server: Server, model: str, stream: bool) -> None:
    server.set_valves(llm_model=model)
    body = {"model": CODER, "stream": stream, "messages": [{"role": "user", "content": "!writer Hi"}]}

    answer = OpenWebUI(server).complete(body)

    assert answer.status == {"stub-429": 429}.get(model, 502)
    assert answer.body["error"]["code"] == CASES[model].code
    assert answer.body["error"]["retryable"] == (model in ("stub-429", "stub-500", "stub-503"))


def test_unreachable(server: Server, webui: OpenWebUI) -> None:
    url = f"http://127.0.0.1:{free_port()}/v1"
    server.set_valves(llm_base_url=url)

    answer = webui.chat().ask("Hi", CODER)

    case = Case(f"The model provider at {url} cannot be reached", "Check the base URL", "")
    check(answer, case)


def test_an_address_that_is_none(server: Server, webui: OpenWebUI) -> None:
    """Open WebUI's tab shows no refusal: the layer keeps the address of before, and else the chat tells."""
    for url in ("localhost:11434", "ftp://x/v1", "http://", "http://[::1", "http://x:99999/v1", "not a url"):
        server.set_valves(llm_base_url=url)

        answer = webui.chat().ask("Hi", CODER)

        if server.kind.layer:
            assert answer.good().text == "Hello from stub: Hi", url
        else:
            check(answer, Case("llm_base_url is not a web address.", "http://host:port/v1", ""))


def test_a_name_that_does_not_resolve(server: Server, webui: OpenWebUI) -> None:
    server.set_valves(llm_base_url="http://no-such-host.invalid/v1")

    answer = webui.chat().ask("Hi", CODER)

    check(
        answer, Case("The model provider at http://no-such-host.invalid/v1 cannot be reached", "base URL", "")
    )


def test_the_key_is_never_shown(
    server: Server, webui: OpenWebUI, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "Vendor4711.of-no-known-shape"
    monkeypatch.setattr("tests.provider.KEY", key)
    server.set_valves(llm_base_url=provider.base_url, llm_api_key=key)
    leak = {"error": {"message": f"Key {key} (Bearer {key}) is over quota; see sk-abcdefgh123"}}
    errors = []
    for status in (401, 429, 500, 400, 200):
        for stream in (True, False):
            raw = json.dumps(leak).encode()
            provider.script(Reply(raw=raw, status=status, content_type="application/json"))
            errors += webui.chat().ask("Hi", CODER, stream=stream).errors
    provider.script(Reply(raw=f"data: {json.dumps(leak)}\n\n".encode()))
    errors += webui.chat().ask("Hi", CODER).errors

    assert len(errors) == 11
    assert all("[key]" in error for error in errors), errors
    said = "".join(errors) + server.log()
    assert key not in said
    assert "sk-abcdefgh123" not in said


def test_broken_json_in_place_of_a_stream(server: Server, webui: OpenWebUI, provider: Provider) -> None:
    for raw in (
        b'{"choices": [{"mess',
        b"[" * 100_000,
        b"\xff\xfe",
        b"null",
        b"[]",
        b'{"choices": []}',
        b"{}",
    ):
        provider.script(Reply(raw=raw, content_type="application/json"))

        check(webui.chat().ask("Hi", CODER), CASES["stub-html"])


def test_markup_of_a_provider_stays_text(server: Server, webui: OpenWebUI, provider: Provider) -> None:
    nasty = {"error": {"message": "<script>alert(1)</script>\n\n" + "x" * 5000 + "\u202e\x00"}}
    provider.script(Reply(raw=json.dumps(nasty).encode(), status=400, content_type="application/json"))

    (message,) = webui.chat().ask("Hi", CODER).errors

    assert "<" not in message
    assert message.isprintable()
    assert len(message) < 600


def test_a_stale_connection_is_tried_again(server: Server, webui: OpenWebUI, provider: Provider) -> None:
    for stream in (True, False):
        server.set_valves(llm_model="stub-cut-first")
        provider.clear()

        answer = webui.chat().ask("Hi", CODER, stream=stream)

        assert (answer.status, answer.text) == (200, "Hello from stub: Hi")
        assert answer.errors == []
        assert len(provider.chats) == 3


def test_an_answer_that_began_is_not_asked_for_twice(
    server: Server, webui: OpenWebUI, provider: Provider
) -> None:
    server.set_valves(llm_model="stub-cut")

    webui.chat().ask("Hi", CODER)

    assert len(provider.chats) == 1


def test_after_every_error_the_next_turn_works(server: Server, webui: OpenWebUI) -> None:
    chat = webui.chat()
    for model in CASES:
        server.set_valves(llm_model=model)
        assert chat.ask("Hi", CODER).errors
        server.set_valves()
        assert chat.ask("Again", CODER).good().text == "Hello from stub: Again"


def test_a_silent_provider_is_given_up(fleet: dict[Kind, Server], provider: Provider) -> None:
    """All servers at once: the shortest time that the valve allows is 5 seconds."""
    cases = [
        (server, model, stream)
        for server in fleet.values()
        for model, stream in (("stub-hang", True), ("stub-stall", True), ("stub-hang", False))
    ]

    def ask(server: Server, model: str, stream: bool) -> tuple[Answer, float]:
        began = time.monotonic()
        answer = OpenWebUI(server).chat().ask("Hi", CODER, stream=stream)
        return answer, time.monotonic() - began

    pending = []
    with ThreadPoolExecutor(len(cases)) as pool:
        for server, model, stream in cases:
            server.mark = server.log_file.stat().st_size
            server.set_valves(llm_model=model, read_timeout=5)
            already = len(provider.chats)
            pending.append(pool.submit(ask, server, model, stream))
            while len(provider.chats) == already:  # the next case changes the valves
                time.sleep(0.005)
        results = [job.result(timeout=60) for job in pending]

    for (server, model, stream), (answer, seconds) in zip(cases, results, strict=True):
        where = f"{server.kind} {model} stream={stream}"
        assert seconds > 4.5, where
        check(
            answer, Case("The model provider sent nothing for 5 seconds.", "read_timeout", "provider_timeout")
        )
        if model == "stub-stall":
            assert answer.text == "Still here", where
        assert any("code=provider_timeout" in record for record in server.records()), where
    assert eventually(lambda: provider.active == 0)


@pytest.mark.parametrize("server", params(OURS, STOCK, OLD), indirect=True)
def test_a_model_that_leads_back_to_us_is_refused(
    server: Server, webui: OpenWebUI, provider: Provider
) -> None:
    server.set_valves(llm_model="personas.coder")
    check(webui.chat().ask("Hi", CODER), Case("The model “personas.coder” leads back", "llm_model", ""))

    server.set_valves(llm_model="anything", llm_base_url=server.url, llm_api_key=server.key)
    looped = webui.complete(
        {"model": CODER, "messages": [{"role": "user", "content": "Hi"}]}, {"X-Agent-Mode-Hop": "1"}
    )
    assert (looped.status, looped.body["error"]["code"]) == (400, "provider_recursion")
    assert provider.chats == []
