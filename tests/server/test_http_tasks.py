"""Background tasks of Open WebUI go straight to the LLM; commands that we answer never reach it."""

from __future__ import annotations

import re

import pytest

from tests.provider import Provider
from tests.server.openwebui import OpenWebUI
from tests.server.servers import OLD, OURS, ROOT, STOCK, Server, params

CODER, WRITER = "personas.coder", "personas.writer"
TASKS = (
    "title_generation",
    "tags_generation",
    "follow_up_generation",
    "query_generation",
    "autocomplete_generation",
    "function_calling",
    "emoji_generation",
    "image_prompt_generation",
)
PROMPT = "Make a title of:\n<chat_history>\nUSER: !artist Paint a horse\n</chat_history>"
OPENERS = (
    "### Task:\nGenerate a concise, 3-5 word title with an emoji summarizing the chat history.\n!artist x",
    "### Task:\nGenerate 1-3 broad tags categorizing the main themes of the chat history\n!artist x",
    "### Task:\nAnalyze the chat history to determine the necessity of generating search queries\n!artist x",
)


def test_a_task_has_no_persona_and_leaves_the_chat_alone(webui: OpenWebUI, provider: Provider) -> None:
    chat = webui.chat()
    chat.ask("Write a loop", CODER)
    chat.ask("!writer Describe it")
    for task in TASKS:
        answer = webui.task(task, PROMPT, chat, CODER)

        assert answer.text == f"Hello from stub: {PROMPT}", task
        assert provider.last().body == {
            "model": "stub",
            "stream": False,
            "messages": [{"role": "user", "content": PROMPT}],
        }, task

    answer = chat.ask("Go on")
    assert personas(provider) == ["writer"]
    assert "takes over" not in "".join(answer.statuses)


def test_a_task_before_the_first_turn(webui: OpenWebUI, provider: Provider) -> None:
    """Open WebUI may ask for the title before the chat itself."""
    chat = webui.chat()
    chat.metadata = {"chat_id": chat.id, "message_id": "m1", "session_id": chat.session_id}

    webui.task("title_generation", PROMPT, chat, WRITER)
    chat.ask("Write a loop", CODER).good()

    assert personas(provider) == ["coder"]


def test_a_streamed_task(webui: OpenWebUI, provider: Provider) -> None:
    chat = webui.chat()
    body = {"model": CODER, "messages": [{"role": "user", "content": PROMPT}], "stream": True}

    answer = webui.send(body, {"chat_id": chat.id, "task": "title_generation", "session_id": "s"})

    assert answer.good().text == f"Hello from stub: {PROMPT}"
    assert answer.events == []
    assert personas(provider) == []


@pytest.mark.parametrize("server", params(OURS, STOCK, OLD), indirect=True)
def test_a_task_told_by_a_header(server: Server, provider: Provider) -> None:
    """On a workspace model no inlet names the task."""
    client = OpenWebUI(server, templates=True)
    chat = client.chat(workspace=True)
    chat.ask("Write a loop", CODER)
    chat.ask("!writer Describe it")

    client.task("title_generation", PROMPT, chat, CODER, inlet=False)

    assert provider.last().body["messages"] == [{"role": "user", "content": PROMPT}]
    chat.ask("Go on")
    assert personas(provider) == ["writer"]


def test_a_task_told_by_nothing_but_its_prompt(webui: OpenWebUI, provider: Provider) -> None:
    for opener in OPENERS:
        webui.complete({"model": CODER, "stream": False, "messages": [{"role": "user", "content": opener}]})

        assert provider.last().body["messages"] == [{"role": "user", "content": opener}]


def personas(provider: Provider) -> list[str]:
    return re.findall(r'<agent_mode agent="([^"]*)">', str(provider.last().body["messages"]))


@pytest.mark.parametrize("stream", [True, False])
def test_help(webui: OpenWebUI, provider: Provider, stream: bool) -> None:
    for text in ("!agent", "!agent help", "!AGENT", "  !agent"):
        answer = webui.chat().ask(text, CODER, stream=stream)
        assert "| `!reset` |" in answer.text, text
    assert provider.chats == []


@pytest.mark.parametrize("stream", [True, False])
def test_list(webui: OpenWebUI, provider: Provider, stream: bool) -> None:
    text = webui.chat().ask("!agent list", CODER, stream=stream).text

    listed = set(re.findall(r"`!([\w-]+)`", text))
    assert {path.stem for path in (ROOT / "personas").glob("*.json")} <= listed
    # Categories of personas; agents are listed for users who may call them, which nobody vouches for here.
    assert text.count("| Type | Persona | What for |") == 8
    assert provider.chats == []


def test_lone_commands(webui: OpenWebUI, provider: Provider) -> None:
    chat = webui.chat()

    assert chat.ask("!writer", CODER).good().text.startswith("**📝 Writer** answers from now on.")
    assert chat.ask("!reset").good().text == "Back to **💻 Coder**."
    assert chat.ask("!Coder:").good().text.startswith("**💻 Coder** answers from now on.")
    assert provider.chats == []


FILES = '<attached_files>\n<file type="file" url="f1" name="notes.txt"/>\n</attached_files>\n\n'


def test_files_in_front_of_a_command(webui: OpenWebUI, provider: Provider) -> None:
    chat = webui.chat()

    assert chat.ask(f"{FILES}!writer", CODER).good().text.startswith("**📝 Writer** answers from now on.")
    assert "did you mean `!coder`?" in chat.ask(f"{FILES}!codr x").good().text
    assert provider.chats == []
    chat.ask(f"{FILES}!teacher Explain it").good()
    assert personas(provider) == ["teacher"]
    assert provider.last().body["messages"][-1]["content"].endswith(f"{FILES}Explain it")
    provider.clear()
    chat.ask(f"{FILES}!coder Fix it !writer a poem").good()
    assert len(provider.chats) == 2
    for recorded in provider.chats:
        assert FILES.strip() in str(recorded.body["messages"][-1]["content"]).replace("\\n", "\n")


def test_a_typing_error_gets_a_suggestion(webui: OpenWebUI, provider: Provider) -> None:
    chat = webui.chat()

    text = chat.ask("!codr fix this", WRITER).good().text

    assert "`!codr`" in text
    assert "did you mean `!coder`?" in text
    assert provider.chats == []
    chat.ask("!coder fix this").good()
    assert personas(provider) == ["coder"]
    assert "did you mean" not in str(provider.last().body["messages"])


TEXTS = (
    "This is !important for me",
    "!important is not applied",
    "p { color: red !important; }",
    "    !writer in indented code",
    "```\n!writer\n```\nWhat does this do?",
    "Run `!writer` for me",
    "Hello !writer, are you there?",
    "https://example.org/!writer",
    "#!/bin/sh\n[ ! -f x ] && echo !$ !! !1",
    "!!writer",
    "!",
    "! zzzzz",
    "wow!writer",
    "!writer's block",
    "¡writer",
    "!writer.py does not start",
    "\u00a1!zzzzz",
)


def test_text_with_an_exclamation_mark_is_text(webui: OpenWebUI, provider: Provider) -> None:
    for text in TEXTS:
        answer = webui.chat().ask(text, CODER).good()

        assert answer.text == f"Hello from stub: {text}"
        assert answer.events == [], text
        assert personas(provider) == ["coder"], text


def test_an_escaped_command_is_text(webui: OpenWebUI, provider: Provider) -> None:
    answer = webui.chat().ask("\\!writer is a command", CODER).good()

    assert answer.text == "Hello from stub: !writer is a command"
    assert personas(provider) == ["coder"]


@pytest.mark.parametrize("words", ["Summarise", "!writer Summarise", "\\!writer Summarise"])
def test_words_inside_a_knowledge_template(webui: OpenWebUI, provider: Provider, words: str) -> None:
    """Open WebUI puts retrieved text around the words after the inlet has seen them."""
    metadata = {"chat_id": "c1", "message_id": "m1", "session_id": "s", "user_message": {"parentId": None}}
    body = {"model": CODER, "stream": True, "messages": [{"role": "user", "content": words}]}
    body = webui.inlet(CODER, {**body, "metadata": metadata})
    body.pop("metadata")
    around = (
        "### Task:\nUse the context.\n<context>\n!artist\nfacts\n</context>\n<query>\n%s\n</query>\nBe brief."
    )
    body["messages"] = [{"role": "user", "content": around % words}]

    webui.complete(body).good()

    called = words.startswith("!writer")
    assert personas(provider) == ["writer" if called else "coder"]
    clean = words.removeprefix("!writer ").removeprefix("\\")
    assert provider.last().body["messages"][-1]["content"] == around % clean


def test_prefix_and_case_are_valves(server: Server, webui: OpenWebUI, provider: Provider) -> None:
    webui.chat().ask("!WRITER Hi", CODER).good()
    assert personas(provider) == ["writer"]

    server.set_valves(keyword_prefix="/", case_sensitive=True)

    assert "| `/reset` |" in webui.chat().ask("/agent", CODER).good().text
    webui.chat().ask("/writer Hi", CODER).good()
    assert personas(provider) == ["writer"]
    assert "did you mean `/writer`" in webui.chat().ask("/WRITER Hi", CODER).good().text
    assert webui.chat().ask("!writer Hi", CODER).good().text == "Hello from stub: !writer Hi"
    assert personas(provider) == ["coder"]
