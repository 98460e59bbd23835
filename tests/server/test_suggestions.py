"""A line below the answer that offers who knows more, where the valve says so."""

from __future__ import annotations

import json

import pytest

from tests.provider import Provider, Reply
from tests.server.openwebui import Chat, OpenWebUI
from tests.server.servers import OURS, PIPE, Server, params

CODER = "personas.coder"
QUESTION = "Why does my SQL query return duplicate rows of the database?"
TIP = "\n\n> 💡 Tip: `!sql_expert` knows more about this."

pytestmark = pytest.mark.parametrize("server", params(OURS, PIPE), indirect=True)


@pytest.fixture
def chat(server: Server, webui: OpenWebUI) -> Chat:
    server.set_valves(enable_suggestions=True)
    return webui.chat()


def test_off_by_default(server: Server, webui: OpenWebUI) -> None:
    assert "Tip" not in webui.chat().ask(QUESTION, CODER).good().text


def test_it_stands_below_the_answer_and_the_model_never_sees_it(chat: Chat, provider: Provider) -> None:
    answer = chat.ask(QUESTION, CODER).good()

    assert answer.text == f"Hello from stub: {QUESTION}{TIP}"
    assert (answer.done, set(answer.finish_reasons)) == (1, {"stop"})
    again = chat.ask(f"Again: {QUESTION}").good()
    assert again.text == f"Hello from stub: Again: {QUESTION}"  # it was said
    assert "Tip" not in json.dumps([recorded.body for recorded in provider.chats])
    assert chat.ask("!sql_expert And now?").good().text.endswith("And now?")


def test_the_prefix_is_the_users(server: Server, chat: Chat) -> None:
    server.set_valves(enable_suggestions=True, keyword_prefix="#")

    assert chat.ask(QUESTION, CODER).good().text.endswith(TIP.replace("!", "#"))


@pytest.mark.parametrize("text", ["!coder {}", "!coder {} !writer {}", "!agent list", "Hello"])
def test_who_was_called_is_not_put_in_question(chat: Chat, text: str) -> None:
    assert "Tip" not in chat.ask(text.replace("{}", QUESTION), CODER).good().text


def test_the_one_who_knows_offers_nobody(chat: Chat) -> None:
    assert "Tip" not in chat.ask(QUESTION, "personas.sql_expert").good().text


def test_programs_and_tasks_get_none(chat: Chat, webui: OpenWebUI) -> None:
    body = {"model": CODER, "messages": [{"role": "user", "content": QUESTION}]}
    for stream in (True, False):
        assert "Tip" not in webui.complete({**body, "stream": stream}).good().text
    chat.ask("Hello", CODER)
    assert "Tip" not in webui.task("title_generation", QUESTION, chat, CODER).good().text
    assert "Tip" not in chat.ask(QUESTION, stream=False).good().text


def test_a_failed_or_unfinished_answer_gets_none(server: Server, chat: Chat, provider: Provider) -> None:
    provider.script(Reply(like="stub-errchunk"))
    assert "Tip" not in chat.ask(QUESTION, CODER).text
    tool = {"type": "function", "function": {"name": "dice", "parameters": {"type": "object"}}}
    provider.script(Reply(tool_calls=[("dice", {})]))

    assert "Tip" not in chat.ask(QUESTION, CODER, tools=[tool]).text


def test_who_is_not_offered_is_not_suggested(server: Server, chat: Chat) -> None:
    server.set_valves(enable_suggestions=True, models="coder, writer")

    assert "Tip" not in chat.ask(QUESTION, CODER).good().text
