"""Commands on models that are not ours: what the filter's inlet makes of a request, over HTTP."""

from __future__ import annotations

import asyncio
import copy
import http.server
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from agent_mode.chat.signed import CONTEXT_KEY, unpack
from agent_mode.store.db import Database
from agent_mode.store.personas import PersonaForm, PersonaStore
from tests.provider import Provider
from tests.server.anymodel import ANSWER, AnyModel, user
from tests.server.conftest import FAMILIES
from tests.server.openwebui import Answer, Chat, Json
from tests.server.servers import KEY, OURS, PIPE, ROOT, Kind, Server, eventually, make, params, running

ours_alone = pytest.mark.parametrize("server", params(OURS), indirect=True)

CATALOGUE = {path.stem: json.loads(path.read_text()) for path in (ROOT / "personas").glob("*.json")}
CONSOLE = "personas.console"
MARKS = {
    "gpt-4o": "=== PRIORITY OVERRIDE ===",
    "claude-3-5-sonnet-20241022": "<system_reset>",
    "gemini-1.5-pro": "SYSTEM COMMAND: ROLE CHANGE",
    "mystery-7b": "Any role you had earlier in this conversation has ended.",
}
"""What each family's hard reset can be told by."""
PIVOTS = {"gpt-4o": "system", **dict.fromkeys(FAMILIES[1:], "user")}
"""In whose role each family hears the line beside the last message."""


@pytest.fixture(params=params(OURS, PIPE))
def server(request: pytest.FixtureRequest, fleet: dict[Kind, Server], provider: Provider) -> Server:
    """A running server, ours or a stock one without our layer, with the valves as they are by default."""
    server = fleet[request.param]
    server.mark = server.log_file.stat().st_size
    server.set_valves()
    set_valves(server)
    return server


def set_valves(server: Server, **valves: Any) -> None:
    """What an admin's Save does in the form of the filter."""
    assert server.post("/hotswap/valves/update", valves).status_code == 200


@pytest.fixture
def admin(server: Server) -> AnyModel:
    return AnyModel(server, user("admin"))


@pytest.fixture
def plain(server: Server) -> AnyModel:
    """A user who is no admin; there is nobody to ask what that user may use."""
    return AnyModel(server, user())


def text_of(messages: list[Json]) -> str:
    return "\n\n".join(m["content"] if isinstance(m["content"], str) else str(m["content"]) for m in messages)


def check(answer: Answer, persona: str, *, reset: bool = False, after: str | None = None) -> None:
    """The provider is told to be this persona alone; with a hard reset, or without."""
    text, model = text_of(answer.sent["messages"]), answer.sent["model"]
    assert re.findall(r'<agent_mode agent="([^"]*)">', text) == [persona]
    assert (CATALOGUE[persona]["prompt"] if persona else "as you are without any persona") in text
    assert [key for key in CATALOGUE if key != persona and CATALOGUE[key]["prompt"][:60] in text] == []
    assert text.count(MARKS.get(model, MARKS["mystery-7b"])) == reset
    assert text.count("<agent_mode_pivot>") == reset
    told = [
        name for name in ("Coder", "Writer", "Teacher") if re.search(rf"(by|from|CONTINUE:) {name}\b", text)
    ]
    assert set(told) == ({CATALOGUE[after]["name"]} if after else set())
    users = [m["content"] for m in answer.sent["messages"] if m["role"] == "user"]
    assert not any(word.startswith("!") for content in users for word in content.split())


def check_left_alone(client: AnyModel) -> None:
    """Nothing was added to the last request; at most commands, and our own answers, were taken out."""
    given, reply = client.given[-1], client.replies[-1]
    kept = list(given["messages"])
    while kept and "!" not in text_of(kept[:1]):  # up to the first command nothing differs
        assert reply["messages"][len(given["messages"]) - len(kept)] == kept.pop(0)
    assert {**reply, "messages": None} == {**given, "messages": None}
    text = text_of(reply["messages"])
    assert "agent_mode" not in text
    assert not any(word.startswith("!") for word in text.split())
    assert reply["messages"][-1] == given["messages"][-1]
    allowed = {re.sub(r"^!\w+ ", "", message["content"]) for message in given["messages"]}
    assert {message["content"] for message in reply["messages"]} <= allowed


def mark(client: AnyModel) -> Json:
    """What the filter tells other filters."""
    return client.replies[-1]["metadata"]["agent_hotswap"]


# A persona on a model


@pytest.mark.parametrize("model", FAMILIES)
def test_a_persona_is_placed_as_the_models_strategy_says(admin: AnyModel, model: str) -> None:
    chat = admin.chat(system="House rule: no emoji.")

    chat.ask("Hello", model)
    assert admin.untouched
    answer = chat.ask("!coder Write a loop")

    check(answer, "coder", reset=True)
    first, *_, last = answer.sent["messages"]
    assert (first["role"], first["content"].startswith('<agent_mode agent="coder">')) == ("system", True)
    assert "House rule: no emoji." in first["content"]
    assert last["content"].endswith("Write a loop")
    (pivot,) = [m for m in answer.sent["messages"] if "<agent_mode_pivot>" in m["content"]]
    assert pivot["role"] == PIVOTS[model]
    assert [m["content"] for m in answer.sent["messages"] if m["role"] == "assistant"] == [ANSWER]


def test_a_persona_stays_until_another_or_none_is_called(admin: AnyModel) -> None:
    chat = admin.chat()

    check(chat.ask("!coder Write a loop", "gpt-4o"), "coder")  # nobody to take over from
    check(chat.ask("And now?"), "coder")
    check(chat.ask("!teacher Explain it"), "teacher", reset=True, after="coder")
    check(chat.ask("Again"), "teacher")
    check(chat.ask("And again"), "teacher")
    check(chat.ask("!reset Thanks"), "", reset=True, after="teacher")
    assert mark(admin)["agent_hotswap_active"] is False
    for text in ("Go on", "And now?"):
        chat.ask(text)
        check_left_alone(admin)
    check(chat.ask("!coder Once more"), "coder", reset=True)


@pytest.mark.parametrize("word", ["reset", "default", "normal"])
def test_a_lone_reset_puts_the_persona_aside(admin: AnyModel, word: str) -> None:
    chat = admin.chat()
    chat.ask("!coder Write a loop", "gpt-4o")

    assert chat.ask(f"!{word}").good().text == "Back to **gpt-4o**."
    check(chat.ask("Thanks"), "", reset=True, after="coder")
    chat.ask("Go on")

    check_left_alone(admin)
    assert "Back to" not in text_of(admin.replies[-1]["messages"])


def test_a_lone_command_holds_from_the_next_message(admin: AnyModel, provider: Provider) -> None:
    chat = admin.chat()
    chat.ask("Hello", "gpt-4o")

    assert chat.ask("!coder").good().text.startswith("**💻 Coder** answers from now on.")
    assert provider.chats == []
    answer = chat.ask("Write a loop")

    check(answer, "coder", reset=True)
    assert "answers from now on" not in text_of(answer.sent["messages"])
    check(chat.ask("And now?"), "coder")


def test_every_branch_has_its_own_persona(admin: AnyModel) -> None:
    chat = admin.chat()
    root = chat.ask("Hello", "gpt-4o")
    coded = chat.ask("!coder Write a loop")
    check(chat.regenerate(), "coder", reset=True)
    check(chat.regenerate(), "coder", reset=True)
    chat.go_to(root)
    taught = chat.ask("!teacher Explain it")

    chat.go_to(coded)
    check(chat.ask("Go on"), "coder")
    chat.go_to(taught)
    check(chat.ask("Go on"), "teacher")
    chat.go_to(root)
    chat.ask("Go on")
    assert admin.untouched
    chat.edit("!writer Tell it")
    check(chat.ask("Go on"), "writer")


def test_temporary_chats_are_known_too(admin: AnyModel) -> None:
    chat = admin.chat(temporary=True)

    check(chat.ask("!coder Write a loop", "gpt-4o"), "coder")
    check(chat.ask("And now?"), "coder")


def test_two_models_have_the_personas_assigned_to_them(admin: AnyModel) -> None:
    models = ["gpt-4o", "claude-3-5-sonnet-20241022"]
    chat = admin.chat()

    first, second = chat.ask_all("!persona1 teacher !persona2 scientist Explain light", models)
    check(first, "teacher")
    check(second, "scientist")
    assert mark(admin)["per_model_active"] is True
    first, second = chat.ask_all("More", models)
    check(first, "teacher")
    check(second, "scientist")  # each has its own history

    check(chat.regenerate(models[1]), "scientist")


# Side by side, each with its own history


PAIR = ["gpt-4o", "claude-3-5-sonnet-20241022"]


def talking(client: AnyModel) -> AnyModel:
    """Each answer says who gave it, to what."""
    client.speak = lambda sent: f"{sent['model']} on {sent['messages'][-1]['content'].splitlines()[-1]}"
    return client


def heard(answer: Answer) -> list[str]:
    """The earlier answers that the model was shown as its own."""
    return [m["content"] for m in answer.sent["messages"] if m["role"] == "assistant"]


def test_side_by_side_each_model_sees_its_own_answers(admin: AnyModel) -> None:
    chat = talking(admin).chat(system="House rule.")
    chat.ask_all("One", PAIR)
    for answer, model in zip(chat.ask_all("Two", PAIR), PAIR, strict=True):
        assert heard(answer) == [f"{model} on One"]
        assert [m["content"] for m in answer.sent["messages"] if m["role"] != "assistant"] == [
            "House rule.",
            "One",
            "Two",
        ]
    for answer, model in zip(chat.ask_all("Three", PAIR), PAIR, strict=True):
        assert heard(answer) == [f"{model} on One", f"{model} on Two"]

    assert heard(chat.regenerate(PAIR[1])) == [f"{PAIR[1]} on One", f"{PAIR[1]} on Two"]
    alone = chat.ask("Four", PAIR[0])
    assert admin.untouched  # alone it goes on with what is shown
    assert heard(alone)[-1] == f"{PAIR[1]} on Three"
    for answer, model in zip(chat.ask_all("Five", PAIR), PAIR, strict=True):
        assert heard(answer)[:3] == [f"{model} on {word}" for word in ("One", "Two", "Three")]
        assert heard(answer)[3] == f"{PAIR[0]} on Four"


def test_with_personas_each_sees_its_own_answers(admin: AnyModel) -> None:
    chat = talking(admin).chat()
    chat.ask_all("!persona1 teacher !persona2 scientist Explain light", PAIR)
    for text in ("More", "And more"):
        answers = chat.ask_all(text, PAIR)
        for answer, model, persona in zip(answers, PAIR, ("teacher", "scientist"), strict=True):
            check(answer, persona)
            assert all(said.startswith(model) for said in heard(answer))
    first, second = chat.ask_all("!writer Write it", PAIR)

    check(first, "writer", reset=True, after="teacher")
    assert '<agent_mode agent="writer">' in text_of(second.sent["messages"])
    assert "CONTINUE: Teacher" not in text_of(second.sent["messages"])


def test_the_same_model_twice_is_told_apart(admin: AnyModel) -> None:
    count = iter(range(100))
    admin.speak = lambda sent: f"answer {next(count)}"
    chat = admin.chat()
    twice = ["gpt-4o", "gpt-4o"]
    chat.ask_all("!persona1 teacher !persona2 scientist Explain light", twice)
    first, second = chat.ask_all("More", twice)

    check(first, "teacher")
    check(second, "scientist")
    assert sorted(heard(first) + heard(second)) == ["answer 0", "answer 1"]
    third, fourth = chat.ask_all("!reset More", twice)
    assert len({*heard(third), *heard(fourth)}) == 4


def test_one_may_be_as_it_is_beside_a_persona(admin: AnyModel) -> None:
    chat = talking(admin).chat()
    chat.ask_all("!persona1 teacher Explain light", PAIR)

    for text in ("More", "And more"):
        first, second = chat.ask_all(text, PAIR)
        check(first, "teacher")
        assert "agent_mode" not in text_of(second.sent["messages"])
        assert all(said.startswith(PAIR[1]) for said in heard(second))


def test_a_model_whose_words_nobody_heard_sees_what_is_shown(admin: AnyModel) -> None:
    """Stopped, it tells no outlet."""
    chat = talking(admin).chat()
    outlet = admin.outlet
    admin.outlet = lambda body: None if body["model"] == PAIR[1] else outlet(body)
    chat.ask_all("!persona1 teacher !persona2 scientist One", PAIR)

    first, second = chat.ask_all("Two", PAIR)

    check(first, "teacher")
    check(second, "scientist", reset=True, after="teacher")
    assert heard(first) == heard(second) == [f"{PAIR[0]} on One"]


def test_side_by_side_after_a_restart(tmp_path: Path, provider: Provider) -> None:
    own = make(OURS, tmp_path / "ours", provider.base_url)
    client = talking(AnyModel(own, user("admin")))
    saved, temporary = client.chat(), client.chat(temporary=True)
    with running(own):
        for chat in (saved, temporary):
            chat.ask_all("!persona1 teacher !persona2 scientist One", PAIR)
            assert heard(chat.ask_all("Two", PAIR)[1]) == [f"{PAIR[1]} on One"]
        own.stop()
    with running(own):
        for answer, model, persona in zip(
            saved.ask_all("Three", PAIR), PAIR, ("teacher", "scientist"), strict=True
        ):
            check(answer, persona)
            assert heard(answer) == [f"{model} on One", f"{model} on Two"]
        # Of a temporary chat nothing is kept on disk.
        assert heard(temporary.ask_all("Three", PAIR)[1]) == [f"{PAIR[0]} on One", f"{PAIR[0]} on Two"]


@pytest.mark.parametrize(
    "form",
    [{}, {"body": {}}, {"body": {"id": 1, "messages": "x"}}, {"body": {"messages": [None]}, "user": None}],
    ids=str,
)
def test_odd_outlets_come_back_as_they_are(server: Server, form: Json) -> None:
    reply = server.post("/hotswap/filter/outlet", form)

    if "body" in form:
        assert (reply.status_code, reply.json()) == (200, form["body"])
    assert reply.status_code < 500


def test_images_stay(admin: AnyModel) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    content = [{"type": "text", "text": "!coder What is this?"}, picture]
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": content}]}

    admin.send(
        body, {"chat_id": "c", "message_id": "m", "session_id": "s", "user_message": {"parentId": None}}
    )

    assert admin.replies[-1]["messages"][-1]["content"] == [
        {"type": "text", "text": "What is this?"},
        picture,
    ]


@ours_alone
def test_a_workspace_model_is_treated_as_the_model_it_is_built_on(server: Server) -> None:
    client = AnyModel(server, user("admin"), bases={"support": "claude-3-5-sonnet-20241022"})
    chat = client.chat()
    chat.ask("Hello", "support")

    check(chat.ask("!coder Write a loop"), "coder", reset=True)


# Nothing else changes


def test_only_messages_and_metadata_change(admin: AnyModel) -> None:
    extra = {"temperature": 0.5, "tools": [{"type": "function"}], "stream_options": {"include_usage": True}}
    chat = admin.chat()
    for text in ("Hello", "!coder Write a loop", "And now?", "!reset Thanks", "Bye"):
        answer = chat.ask(text, "gpt-4o", **extra)
        given, reply = admin.given[-1], admin.replies[-1]

        assert list(reply) == list(given)
        changed = {key for key in given if reply[key] != given[key]}
        assert changed <= {"messages", "metadata"}
        added = set(reply["metadata"]) - set(given["metadata"])
        assert added == ({"agent_hotswap"} if "metadata" in changed else set())
        assert {key: reply["metadata"][key] for key in given["metadata"]} == given["metadata"]
        assert "agent_hotswap" not in answer.sent
        assert CONTEXT_KEY not in answer.sent


def test_other_filters_are_told_who_is_active(admin: AnyModel) -> None:
    chat = admin.chat()
    chat.ask("!coder Write a loop", "gpt-4o")

    assert mark(admin) == {
        "agent_hotswap_active": True,
        "active_persona": "coder",
        "active_persona_name": "Coder",
        "per_model_active": False,
        "persona_sequence": [],
        "enhanced_features": mark(admin)["enhanced_features"],
        "message_id": chat.metadata["message_id"],
    }


def test_other_filters_are_told_who_speaks_in_a_sequence(admin: AnyModel) -> None:
    chat = admin.chat()
    chat.ask("!teacher Explain !reset Again !writer A poem", "gpt-4o").good()
    assert mark(admin)["persona_sequence"] == ["teacher", "reset", "writer"]
    assert mark(admin)["agent_hotswap_active"] is True
    chat.ask("!persona1 teacher !persona2 scientist").good()
    chat.ask("!multi Tea or coffee?").good()

    assert mark(admin)["persona_sequence"] == ["teacher", "scientist"]
    assert mark(admin)["per_model_active"] is True


def test_other_filters_are_told_what_there_is(server: Server, admin: AnyModel) -> None:
    def features() -> Json:
        admin.chat().ask("!coder Write a loop", "gpt-4o")
        return mark(admin)["enhanced_features"]

    usual = features()
    assert set(usual.values()) <= {True, False}
    on = {"per_model", "sequences", "multi", "browser", "versioning", "backups"}
    assert {name for name, there in usual.items() if there} - {"auto"} == on
    server.set_valves(enable_stream_switching=True)
    set_valves(server, enable_suggestions=True, persistent_persona=True, enable_automatic_backups=False)

    changed = {name for name, there in features().items() if there is not usual[name]}

    assert changed == {"stream_switching", "suggestions", "persistent_persona", "backups"}


@pytest.mark.parametrize(
    "text", ["!coder Write a loop", "!teacher Explain it !writer Tell it", "!agent list"]
)
def test_no_provider_sees_what_other_filters_are_told(admin: AnyModel, provider: Provider, text: str) -> None:
    """Open WebUI takes the metadata out, and we pass none of them on."""
    reply = admin.said(text)
    answer = admin.complete({**reply, "model": CONSOLE, "stream": True, "user": admin.user})

    for sent in (admin.chat().ask(text, "gpt-4o").sent, *(recorded.body for recorded in provider.chats)):
        assert not {"metadata", "agent_hotswap"} & set(sent)
        assert "persona_sequence" not in json.dumps(sent)
    assert "persona_sequence" not in json.dumps(answer.payloads)


def test_called_twice_for_a_message_it_says_the_same(admin: AnyModel) -> None:
    chat = admin.chat()
    chat.ask("!coder Write a loop", "gpt-4o")
    chat.ask("!teacher Explain it")
    given, reply = admin.given[-1], admin.replies[-1]

    assert admin.inlet("hotswap", copy.deepcopy(reply)) == reply  # its own answer again
    assert admin.inlet("hotswap", copy.deepcopy(given)) == reply  # and the same request again
    check(chat.ask("Go on"), "teacher")


def test_our_own_models_pass_through(admin: AnyModel) -> None:
    for model in ("personas.coder", "personas.auto", CONSOLE):
        for text in ("Hello", "!writer Hello", "!agent list", "!writer one !coder two"):
            body = {"model": model, "messages": [{"role": "user", "content": text}], "metadata": {}}
            assert admin.inlet("hotswap", body) == body


def test_pipelines_of_others_are_models_as_any(admin: AnyModel) -> None:
    chat = admin.chat()

    check(chat.ask("!coder Write a loop", "bystander"), "coder")


@pytest.mark.parametrize("task", ["title_generation", "tags_generation", "follow_up_generation", "anything"])
def test_background_tasks_pass_through(admin: AnyModel, task: str) -> None:
    chat = admin.chat()
    chat.ask("!coder Write a loop", "gpt-4o")
    for text in ("### Task:\nGenerate a title", "!teacher !writer", "!agent list"):
        body = {"model": "gpt-4o", "messages": [{"role": "user", "content": text}]}
        admin.send(body, {**chat.metadata, "task": task})
        assert admin.untouched

    check(chat.ask("And now?"), "coder")


def test_openwebui_is_told_on_which_models_it_works(server: Server, admin: AnyModel) -> None:
    entry = admin.models()["hotswap"]["pipeline"]
    assert (entry["type"], entry["pipelines"], entry["priority"]) == ("filter", ["*"], 0)

    set_valves(server, pipelines="gpt-4o, claude-3-5-sonnet-20241022")
    assert "hotswap" in admin.filters("gpt-4o")
    assert "hotswap" not in admin.filters("mystery-7b")
    set_valves(server, priority=7)

    assert admin.models()["hotswap"]["pipeline"]["priority"] == 7
    assert "hotswap" in admin.filters("mystery-7b")


# Workspace models on ours


def test_a_workspace_model_on_ours_gets_the_context(server: Server, provider: Provider) -> None:
    """Its own inlet is not called, so the filter leaves what the chat request will lack."""
    client = AnyModel(server, user("admin"), bases={"my-teacher": "personas.teacher"})
    chat = client.chat()

    answer = chat.ask("Explain light", "my-teacher").good()
    signed = unpack(answer.sent[CONTEXT_KEY], KEY)

    assert signed is not None
    context = signed.context
    assert signed.user.id == client.user["id"]
    assert (context.chat_id, context.message_id) == (chat.id, chat.metadata["message_id"])
    assert context.via is None
    assert {**client.replies[-1], CONTEXT_KEY: None} == {**client.given[-1], CONTEXT_KEY: None}
    assert provider.last().body["messages"][0]["content"].startswith('<agent_mode agent="teacher">')
    written = chat.ask("!writer Describe it").good()
    assert '<agent_mode agent="writer">' in text_of(provider.last().body["messages"])
    chat.ask("Go on").good()
    assert '<agent_mode agent="writer">' in text_of(provider.last().body["messages"])
    assert MARKS["mystery-7b"] not in text_of(provider.last().body["messages"])
    chat.go_to(answer)
    chat.ask("Go on").good()
    assert '<agent_mode agent="teacher">' in text_of(provider.last().body["messages"])
    assert written.statuses == ["📝 Writer takes over from 🍎 Teacher"]
    for recorded in provider.chats:
        assert not {CONTEXT_KEY, "metadata", "user", "agent_hotswap"} & set(recorded.body)


# What we answer ourselves


ANSWERED = {
    "!agent": "**Agent Mode** — switch who answers",
    "!agent help": "**Agent Mode** — switch who answers",
    "!codr fix it": "did you mean `!coder`?",
    "!agent list": "| `!teacher` | 🍎 Teacher |",
    "!coder": "**💻 Coder** answers from now on.",
    "!reset": "Back to **gpt-4o**.",
    "!persona1 teacher !persona2 coder": "Assigned: 1 is **🍎 Teacher**, 2 is **💻 Coder**.",
    "!agent settings": "| persistence | as the admin set it |",
    "!agent history coder": "| 1.0.0 |",
    "!agent rollback coder 1.0.99": "There is no version 1.0.99 (number 100) of 'coder'.",
}


@pytest.mark.parametrize(("text", "words"), ANSWERED.items(), ids=ANSWERED)
def test_the_console_answers(admin: AnyModel, provider: Provider, text: str, words: str) -> None:
    chat = admin.chat()

    answer = chat.ask(text, "gpt-4o").good()

    given, reply = admin.given[-1], admin.replies[-1]
    assert reply["model"] == CONSOLE
    metadata = {key: value for key, value in reply["metadata"].items() if key != "agent_hotswap"}
    assert {**reply, "model": "gpt-4o", "metadata": metadata} == {**given, CONTEXT_KEY: reply[CONTEXT_KEY]}
    signed = unpack(reply[CONTEXT_KEY], KEY)
    assert signed is not None
    context = signed.context
    assert (context.via, context.said, context.chat_id) == ("gpt-4o", text, chat.id)
    assert words in answer.text
    assert (answer.done, set(answer.finish_reasons), provider.chats) == (1, {"stop"}, [])
    whole = admin.chat().ask(text, "gpt-4o", stream=False).good()
    assert words in whole.text


def test_a_persona_in_charge_survives_an_answer_of_the_console(admin: AnyModel) -> None:
    chat = admin.chat()
    chat.ask("!coder Write a loop", "gpt-4o")

    for text in ("!agent list", "!codr", "!agent settings"):
        chat.ask(text).good()
        answer = chat.ask("And now?")
        check(answer, "coder")
        assert "Agent Mode" not in text_of(answer.sent["messages"])


def test_the_list_is_a_page_for_people_and_a_table_for_programs(server: Server, admin: AnyModel) -> None:
    (event,) = admin.chat().ask("!agent list", "gpt-4o").good().events
    assert event["type"] == "embeds"

    program = AnyModel(server, user("admin"), session=False).chat().ask("!agent list", "gpt-4o").good()

    assert (program.events, "| `!coder` | 💻 Coder |" in program.text) == ([], True)


def test_a_forged_context_leads_nowhere(admin: AnyModel, provider: Provider) -> None:
    """Only the filter may say through which model the console speaks."""
    reply = admin.said("!teacher Explain it !writer Tell it")
    forged = {**reply[CONTEXT_KEY], "via": "claude-3-5-sonnet-20241022"}

    provider.clear()
    answer = admin.complete({**reply, CONTEXT_KEY: forged, "user": admin.user})

    assert {recorded.body["model"] for recorded in provider.chats} <= {"stub"}
    assert answer.status in (200, 400)


# Sequences


def test_a_sequence_speaks_through_the_chosen_model(admin: AnyModel, provider: Provider) -> None:
    provider.script("Light is a wave.", "O light!", "Both are right.")
    chat = admin.chat()

    answer = chat.ask("!teacher Explain light !writer a poem !scientist compare", "gpt-4o").good()

    assert admin.replies[-1]["model"] == CONSOLE
    assert [recorded.body["model"] for recorded in provider.chats] == ["gpt-4o"] * 3
    for persona, recorded in zip(("teacher", "writer", "scientist"), provider.chats, strict=True):
        assert f'<agent_mode agent="{persona}">' in text_of(recorded.body["messages"])
        assert not {CONTEXT_KEY, "metadata", "user"} & set(recorded.body)
    assert "**🍎 Teacher**\n\nLight is a wave." in answer.text
    check(chat.ask("And now?"), "scientist")


def test_in_a_sequence_reset_is_the_model_as_it_is(admin: AnyModel, provider: Provider) -> None:
    provider.script("Light is a wave.", "Indeed.", "O light!")
    chat = admin.chat()

    answer = chat.ask("!teacher Explain light !reset Is that so? !writer a poem", "gpt-4o").good()

    first, plain, last = (text_of(recorded.body["messages"]) for recorded in provider.chats)
    assert CATALOGUE["teacher"]["prompt"] in first
    assert "as you are without any persona" in plain
    assert CATALOGUE["teacher"]["prompt"][:60] not in plain
    assert '<answer by="Teacher">\nLight is a wave.' in plain
    assert "Is that so?" in plain
    assert '<answer by="gpt-4o">\nIndeed.' in last
    assert "**gpt-4o**\n\nIndeed." in answer.text
    check(chat.ask("And now?"), "writer")


def test_a_sequence_may_begin_and_end_with_the_model_as_it_is(admin: AnyModel, provider: Provider) -> None:
    chat = admin.chat()
    chat.ask("!reset Say it !teacher Explain it !reset Sum it up", "gpt-4o").good()

    first, _, last = (recorded.body["messages"] for recorded in provider.chats)
    assert first == [{"role": "user", "content": "Say it"}]  # nobody was there to be put aside
    assert "as you are without any persona" in text_of(last)
    assert "agent_mode" not in text_of(chat.ask("Thanks").sent["messages"])


def test_our_own_answers_have_their_place_in_a_sequence(admin: AnyModel, provider: Provider) -> None:
    provider.script("Light is a wave.", "O light!")

    answer = admin.chat().ask("!teacher Explain\n!agent list\n!writer a poem", "gpt-4o").good()

    assert len(provider.chats) == 2
    assert answer.text.index("a wave.") < answer.text.index("| `!teacher` |") < answer.text.index("O light!")


def test_a_sequence_on_a_model_out_of_reach_says_so(admin: AnyModel, provider: Provider) -> None:
    answer = admin.chat().ask("!teacher Explain light !writer a poem", "llama-of-elsewhere")

    assert provider.chats == []
    assert answer.text.count("Several personas cannot speak through “llama-of-elsewhere” here.") == 2
    assert "Call one persona at a time" in answer.text


def test_a_talk_of_several(admin: AnyModel, provider: Provider) -> None:
    chat = admin.chat()
    alone = chat.ask("!multi debate Tea or coffee?", "gpt-4o")
    assert admin.replies[-1]["model"] == CONSOLE
    assert ["at least two personas" in error for error in alone.errors] == [True]
    assert provider.chats == []

    chat.ask("!coder Write a loop")
    chat.ask("!multi collab")
    check(chat.ask("And now?"), "coder")  # an error puts nobody aside
    chat.ask("!persona1 teacher !persona2 scientist").good()
    answer = chat.ask("!multi debate Tea or coffee?").good()

    assert [recorded.body["model"] for recorded in provider.chats] == ["gpt-4o"] * 4
    assert answer.text.count("**🍎 Teacher**") == answer.text.count("Scientist**") == 2


# Users who may not use the console model


@pytest.mark.parametrize(("text", "words"), ANSWERED.items(), ids=ANSWERED)
def test_without_the_console_the_chosen_model_prints_the_answer(
    plain: AnyModel, text: str, words: str
) -> None:
    plain.chat().ask(text, "gpt-4o", temperature=0.5)

    given, reply = plain.given[-1], plain.replies[-1]
    assert {**reply, "messages": None} == {**given, "messages": None}
    order, words_to_print = reply["messages"]
    assert (order["role"], words_to_print["role"]) == ("system", "user")
    assert order["content"].startswith("Reply with exactly the text of the user's message.")
    if text.startswith(("!agent rollback", "!agent history")):
        words = "Only an admin"
    assert words in words_to_print["content"]


def test_without_the_console_a_command_holds_all_the_same(plain: AnyModel) -> None:
    chat = plain.chat()
    chat.ask("Hello", "gpt-4o")
    chat.ask("!coder")
    check(chat.ask("Write a loop"), "coder", reset=True)
    chat.ask("!agent list")
    check(chat.ask("And now?"), "coder")
    chat.ask("!reset")
    check(chat.ask("Thanks"), "", reset=True, after="coder")
    chat.ask("Bye")

    check_left_alone(plain)


def test_without_the_console_a_sequence_is_refused(plain: AnyModel) -> None:
    chat = plain.chat()
    chat.ask("!coder Write a loop", "gpt-4o")
    refused = chat.ask("!teacher Explain it !writer Tell it")

    assert "Ask an admin to give you access to it" in refused.sent["messages"][-1]["content"]
    assert len(refused.sent["messages"]) == 2
    check(chat.ask("And now?"), "coder")  # nobody else was called in


def test_users_without_an_id_are_nobody_to_trust(server: Server, provider: Provider) -> None:
    for who in ({}, None, {"role": "admin"}, {"id": 5, "role": "admin"}, {"id": "", "role": "user"}):
        body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "!agent list"}], "metadata": {}}
        reply = server.post("/hotswap/filter/inlet", {"user": who, "body": body})
        assert (reply.status_code, reply.json()["model"]) == (200, "gpt-4o"), who


# With a service key: Open WebUI is asked


ELSEWHERE = "llama-of-elsewhere"
"""A model that Open WebUI has and our provider has not."""
SESSION = "a-session-token"


class FakeOpenWebUI(http.server.ThreadingHTTPServer):
    """The calls with which we ask who may use what, as Open WebUI 0.12 answers them; and a model."""

    daemon_threads = True
    key = "sk-service"

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.models: dict[str, Json] = {}
        self.groups: dict[str, list[str]] = {}
        """Of each user, the inherited ones included."""
        self.asked: list[str] = []
        self.broken = False
        self.said: list[tuple[str, Json]] = []
        """Chat requests, each with the credential that came with it."""
        self.lines: list[tuple[str, str]] = []
        """What was to be shown above answers: the message's path, and the words."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def grant(self, model: str, *grants: tuple[str, str], **more: Any) -> None:
        """A record of the model; each grant is a kind of principal and its id."""
        access = [{"principal_type": k, "principal_id": i, "permission": "read"} for k, i in grants]
        record = {"id": model, "user_id": "the-admin", "base_model_id": None, "is_active": True}
        self.models[model] = {**record, "access_grants": access, **more}

    def answer(self, path: str, query: Json) -> tuple[int, Any]:
        self.asked.append(path + (f"?id={query['id'][0]}" if "id" in query else ""))
        if self.broken:
            return 500, {"detail": "Internal Server Error"}
        if path == "/api/v1/models/model":
            record = self.models.get(query["id"][0])
            return (200, record) if record else (404, {"detail": "not found"})
        if path == "/api/v1/models/base":
            return 200, [record for record in self.models.values() if not record["base_model_id"]]
        found = re.fullmatch(r"/api/v1/users/([^/]+)/groups", path)
        if not found or query.get("include_inherited") != ["true"]:
            return 404, {"detail": "Not Found"}
        return 200, [{"id": group, "name": group.upper()} for group in self.groups.get(found[1], [])]


class _Handler(http.server.BaseHTTPRequestHandler):
    server: FakeOpenWebUI  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if (parts.path, self.headers["Authorization"]) == ("/api/models", f"Bearer {SESSION}"):
            self.reply(200, {"data": [{"id": ELSEWHERE}, {"id": CONSOLE, "pipeline": {}}]})
        elif self.headers["Authorization"] != f"Bearer {self.server.key}":
            self.reply(401, {"detail": "401 Unauthorized"})
        else:
            self.reply(*self.server.answer(parts.path, parse_qs(parts.query)))

    def do_POST(self) -> None:
        """A model of Open WebUI; it answers as a whole, as a stream of one piece. Or it takes an event."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.endswith("/event"):
            assert (self.headers["Authorization"], body["type"]) == (f"Bearer {self.server.key}", "status")
            assert (body["data"]["done"], body["data"]["hidden"]) == (True, False)
            self.server.lines.append((self.path, body["data"]["description"]))
            self.reply(200, data=True)
            return
        self.server.said.append((self.headers["Authorization"], body))
        message = {"role": "assistant", "content": f"Answer {len(self.server.said)}."}
        self.reply(200, {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})

    def reply(self, status: int, data: Any) -> None:
        raw = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture(scope="module")
def asking(
    tmp_path_factory: pytest.TempPathFactory, provider_process: Provider
) -> Iterator[tuple[FakeOpenWebUI, Server]]:
    """Open WebUI, and a server of ours that has a service key for it."""
    webui = FakeOpenWebUI()
    thread = threading.Thread(target=webui.serve_forever, args=(0.05,))
    thread.start()
    variables = {"OPENWEBUI_URL": webui.url + "/", "OPENWEBUI_API_KEY": webui.key}
    home = tmp_path_factory.mktemp("asking")
    server = make(OURS, home, provider_process.base_url, environment=variables)
    try:
        with running(server):
            yield webui, server
    finally:
        webui.shutdown()
        thread.join()
        webui.server_close()


class Access:
    """A new user, and what Open WebUI says about that user."""

    def __init__(self, webui: FakeOpenWebUI, server: Server) -> None:
        webui.models, webui.groups, webui.asked, webui.broken = {}, {}, [], False
        webui.lines.clear()
        self.webui = webui
        self.client = AnyModel(server, user())
        self.id = self.client.user["id"]

    @property
    def granted(self) -> bool:
        """Whether a list is answered by the console."""
        reply = self.client.said("!agent list")
        assert (reply["model"] == CONSOLE) == (CONTEXT_KEY in reply)
        return reply["model"] == CONSOLE


@pytest.fixture
def access(asking: tuple[FakeOpenWebUI, Server], provider: Provider) -> Access:
    del provider
    return Access(*asking)


@pytest.mark.parametrize(
    ("grants", "more", "granted"),
    [
        ([("user", "*")], {}, True),
        ([("user", "ME")], {}, True),
        ([("group", "inherited")], {}, True),
        ([("group", "others"), ("group", "mine")], {}, True),
        ([], {"user_id": "ME"}, True),
        ([], {}, False),
        ([("user", "somebody")], {}, False),
        ([("group", "others")], {}, False),
        ([("group", "ME")], {}, False),
        ([("user", "mine")], {}, False),
        ([("user", "*")], {"is_active": False}, False),
        ([("group", "*")], {}, False),
    ],
)
def test_a_grant_opens_the_console(access: Access, grants: Any, more: Json, granted: bool) -> None:
    def mine(value: str) -> str:
        return access.id if value == "ME" else value

    access.webui.groups = {access.id: ["mine", "inherited"], "somebody": ["others"]}
    access.webui.grant(CONSOLE, *((kind, mine(principal)) for kind, principal in grants), **more)
    if "user_id" in more:
        access.webui.models[CONSOLE]["user_id"] = mine(more["user_id"])

    assert access.granted is granted


def test_a_right_to_write_is_none_to_read(access: Access) -> None:
    access.webui.grant(CONSOLE, ("user", "*"))
    access.webui.models[CONSOLE]["access_grants"][0]["permission"] = "write"

    assert not access.granted


def test_a_model_without_a_record_is_the_admins_alone(access: Access) -> None:
    assert not access.granted
    admin = AnyModel(access.client.server, user("admin"))
    access.webui.asked.clear()
    assert admin.said("!agent list")["model"] == CONSOLE
    assert access.webui.asked == []


@pytest.mark.parametrize("base", [True, False])
def test_the_model_below_must_be_open_as_well(access: Access, base: bool) -> None:
    access.webui.grant(CONSOLE, ("user", access.id), base_model_id="below")
    access.webui.grant("below", ("user", "*" if base else "somebody"))

    assert access.granted is base


def test_models_that_are_built_on_one_another_end(access: Access) -> None:
    """Open WebUI does not refuse such records; nobody may wait for ever because of them."""
    access.webui.grant(CONSOLE, ("user", "*"), base_model_id="below")
    access.webui.grant("below", ("user", "*"), base_model_id=CONSOLE)

    assert not access.granted
    assert len([path for path in access.webui.asked if "/models/model" in path]) == 2


def test_an_answer_is_believed_for_a_while(access: Access) -> None:
    access.webui.grant(CONSOLE, ("user", access.id))
    assert access.granted
    asked = list(access.webui.asked)
    assert asked[:2] == [f"/api/v1/models/model?id={CONSOLE}", f"/api/v1/users/{access.id}/groups"]

    access.webui.models.clear()

    assert access.granted
    assert access.webui.asked == asked


def test_the_list_is_the_users_own_without_the_console_too(access: Access) -> None:
    access.webui.grant("personas.writer", ("user", "*"))

    listed = text_of(access.client.said("!agent list")["messages"])

    assert "| `!writer` |" in listed
    assert "| `!coder` |" not in listed
    assert len(access.webui.asked) == 3, "the console's record, then all records, and the groups"


def test_without_an_answer_nobody_is_let_in_and_nobody_waits(
    asking: tuple[FakeOpenWebUI, Server], tmp_path: Path, provider: Provider
) -> None:
    webui, _ = asking
    variables = {"OPENWEBUI_URL": webui.url, "OPENWEBUI_API_KEY": webui.key}
    server = make(OURS, tmp_path / "ours", provider.base_url, environment=variables)
    with running(server):
        access = Access(webui, server)
        access.webui.grant(CONSOLE, ("user", "*"))
        access.webui.broken = True

        assert not access.granted
        asked = len(webui.asked)
        assert not access.granted

        assert len(webui.asked) == asked  # not with every message again
        check(access.client.chat().ask("!coder Write a loop", "gpt-4o"), "coder")
        assert "Open WebUI did not say who may use what" in server.log()
        assert webui.key not in server.log()
        server.stop()


def test_a_granted_user_gets_the_answers_of_the_console(access: Access, provider: Provider) -> None:
    access.webui.grant(CONSOLE, ("user", "*"))
    for persona in ("teacher", "writer"):
        access.webui.grant(f"personas.{persona}", ("user", "*"))
    chat = access.client.chat()

    listed = chat.ask("!agent list", "gpt-4o").good().text
    assert "| `!teacher` |" in listed
    assert "| `!coder` |" not in listed, "Open WebUI keeps it from the user"
    answer = chat.ask("!teacher Explain light !writer a poem").good()

    assert [recorded.body["model"] for recorded in provider.chats] == ["gpt-4o"] * 2
    assert "Writer" in answer.text


@pytest.mark.parametrize("console", [True, False])
@pytest.mark.parametrize(
    "text", ["!coder", "!coder Write a loop", "!writer Hi !coder Write", "!persona1 coder"]
)
def test_a_persona_that_openwebui_keeps_from_the_user_is_out_of_reach(
    access: Access, provider: Provider, console: bool, text: str
) -> None:
    """Neither at once nor by going on afterwards."""
    access.webui.grant("personas.writer", ("user", "*"))
    if console:
        access.webui.grant(CONSOLE, ("user", "*"))
    chat = access.client.chat()
    chat.ask("!writer Hello", "gpt-4o")

    refused = chat.ask(text)
    words = refused.text if console else text_of(refused.sent["messages"])
    followed = chat.ask("Write a loop")

    assert "You may not use 💻 Coder here." in words
    secret = CATALOGUE["coder"]["prompt"][:60]
    assert secret not in text_of(followed.sent["messages"])
    assert not any(secret in text_of(recorded.body["messages"]) for recorded in provider.chats)
    check(followed, "writer")


@pytest.mark.parametrize("console", [True, False])
def test_it_is_not_suggested_either(access: Access, console: bool) -> None:
    access.webui.grant("personas.writer", ("user", "*"))
    if console:
        access.webui.grant(CONSOLE, ("user", "*"))

    def said(text: str) -> str:
        answer = access.client.chat().ask(text, "gpt-4o")
        return answer.text if console else text_of(answer.sent["messages"])

    assert "did you mean `!writer`?" in said("!writr x")
    assert "did you mean" not in said("!codr x")
    assert "did you mean" not in said("! coder x")


def test_it_is_out_of_reach_from_our_own_models_too(
    asking: tuple[FakeOpenWebUI, Server], access: Access, provider: Provider
) -> None:
    class Own(AnyModel):
        """Picks one of our models: their own inlet is called."""

        def send(self, body: Json, metadata: Json, *, inlet: bool = True, filters: bool = False) -> Answer:
            body = self.inlet(body["model"], {**body, "metadata": metadata})
            body.pop("metadata")
            return self.complete({**body, "user": self.user})

    access.webui.grant("personas.writer", ("user", "*"))
    chat = Own(asking[1], access.client.user).chat()
    chat.ask("Hello", "personas.writer").good()

    refused = chat.ask("!coder Write a loop").good()
    chat.ask("Write a loop").good()

    assert "You may not use 💻 Coder here." in refused.text
    for recorded in provider.chats:
        assert CATALOGUE["coder"]["prompt"][:60] not in text_of(recorded.body["messages"])
    assert '<agent_mode agent="writer">' in text_of(provider.last().body["messages"])


def test_who_speaks_is_shown_above_the_answers_of_other_models(access: Access) -> None:
    for model in ("personas.coder", "personas.teacher", CONSOLE):
        access.webui.grant(model, ("user", "*"))
    questions = {
        "Hi": None,
        "!coder A loop": "💻 Coder takes over",
        "And now?": "💻 Coder",
        "!teacher Explain": "🍎 Teacher takes over from 💻 Coder",
        "!coder A !codr and a !techer": "💻 Coder takes over from 🍎 Teacher · "
        "!techer was sent as text: did you mean !teacher?",
        "!agent list": None,
        "!reset Thanks": "gpt-4o takes over from 💻 Coder",
        "Bye": None,
    }
    chat = access.client.chat()
    shown = []
    for text, line in questions.items():
        chat.ask(text, "gpt-4o").good()
        if line is not None:
            path = f"/api/v1/chats/{chat.id}/messages/{chat.metadata['message_id']}/event"
            shown.append((path, line))

    assert eventually(lambda: len(access.webui.lines) >= len(shown))
    assert sorted(access.webui.lines) == sorted(shown)


def test_where_nobody_looks_nothing_is_shown(access: Access) -> None:
    """Programs, chats that Open WebUI does not store, and users who do not want it."""
    access.webui.grant("personas.coder", ("user", "*"))
    access.webui.grant(CONSOLE, ("user", "*"))
    program = AnyModel(access.client.server, user(), session=False)
    program.chat().ask("!coder A loop", "gpt-4o").good()
    access.client.chat(temporary=True).ask("!coder A loop", "gpt-4o").good()
    chat = access.client.chat()
    chat.ask("!agent settings info off", "gpt-4o").good()
    chat.ask("!coder A loop").good()
    chat.ask("!agent settings info on").good()
    chat.ask("And now?").good()

    assert eventually(lambda: access.webui.lines)
    assert [line for _, line in access.webui.lines] == ["💻 Coder"]


def test_a_sequence_may_speak_through_openwebui_with_the_users_own_session(
    asking: tuple[FakeOpenWebUI, Server], provider: Provider
) -> None:
    webui, server = asking
    webui.said = []
    client = AnyModel(server, user("admin"), cookie=SESSION)

    answer = client.chat().ask("!teacher Explain light !writer a poem", ELSEWHERE).good()

    assert provider.chats == []
    assert [credential for credential, _ in webui.said] == [f"Bearer {SESSION}"] * 2
    assert [body["model"] for _, body in webui.said] == [ELSEWHERE] * 2
    assert "**🍎 Teacher**\n\nAnswer 1." in answer.text
    assert "Answer 1." in text_of(webui.said[1][1]["messages"])
    assert answer.text.endswith("Answer 2.")

    stranger = AnyModel(server, user("admin"), cookie="an-old-token")
    refused = stranger.chat().ask("!teacher Explain light !writer a poem", ELSEWHERE)

    assert len(webui.said) == 2  # our service key is nobody's to borrow
    assert refused.text.count("⚠️") == 2
    assert SESSION not in refused.text + server.log_file.read_text()


def test_without_an_inlet_a_body_names_nobody(access: Access, provider: Provider) -> None:
    """With Model IDs in the connection Open WebUI calls no inlet and lets the user's own `user` through."""
    access.webui.grant("personas.writer", ("user", "*"))
    access.webui.grant("personas.teacher", ("user", access.id))

    def asked(text: str, user: Any, **headers: str) -> Answer:
        body = {"model": "personas.coder", "messages": [{"role": "user", "content": text}], "user": user}
        return access.client.complete({**body, "stream": False}, headers).good()

    for forged in ({"id": access.id, "role": "user"}, {"id": "root", "role": "admin"}, "root", None):
        assert "Only an admin" in asked("!agent history coder", forged).text
        assert "You may not use 🍎 Teacher here." in asked("!teacher Explain", forged).text
        assert "Settings belong to a user" in asked("!agent settings prefix /", forged).text
        listed = asked("!agent list", forged).text
        assert ("`!writer`" in listed, "`!teacher`" in listed) == (True, False)
    assert provider.chats == []
    asked("!writer A poem", None)  # what everyone may use
    assert len(provider.chats) == 1
    told = {"X-Agent-Mode-User-Id": access.id, "X-Agent-Mode-User-Role": "user"}
    assert "Teacher" not in asked("!teacher Explain", None, **told).text
    assert CATALOGUE["teacher"]["prompt"][:60] in text_of(provider.last().body["messages"])


def test_a_workspace_model_does_not_speak_through_its_namesake(
    server: Server, admin: AnyModel, provider: Provider
) -> None:
    """A workspace model may bear the id of a provider's model that its users were never given."""
    text = "!teacher Explain light !writer a poem"
    admin.chat().ask(text, "stub-echo").good()
    assert {recorded.body["model"] for recorded in provider.chats} == {"stub-echo"}
    provider.clear()

    namesake = AnyModel(server, admin.user, bases={"stub-echo": "gpt-4o"})
    answer = namesake.chat().ask(text, "stub-echo")

    assert provider.chats == []
    assert answer.text.count("Several personas cannot speak through “stub-echo” here.") == 2


def test_it_is_out_of_reach_by_what_a_transcript_says(access: Access, provider: Provider) -> None:
    """A caller without metadata is judged by the commands in the transcript; anybody can write one."""
    access.webui.grant("personas.writer", ("user", "*"))
    roles = ("user", "assistant")
    for said in (
        ["!coder Write a loop", "Here it is.", "Again"],
        ["!persona1 coder", "Assigned.", "Write a loop"],
        ["!persona1 coder !persona2 writer", "Assigned.", "!multi Tea or coffee?"],
    ):
        messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(said)]
        access.client.complete(
            {"model": "personas.writer", "messages": messages, "stream": True, "user": access.client.user}
        )

    assert not any(
        CATALOGUE["coder"]["prompt"][:60] in text_of(recorded.body["messages"]) for recorded in provider.chats
    )


# What each user sets


def test_each_user_may_have_another_prefix(server: Server, admin: AnyModel) -> None:
    other = AnyModel(server, user("admin"))

    answer = admin.chat().ask("!agent settings prefix ;", "gpt-4o").good()
    assert "| prefix | `;` |" in answer.text

    check(admin.chat().ask(";coder Write a loop", "gpt-4o"), "coder")
    admin.chat().ask("!coder Write a loop", "gpt-4o")
    assert admin.untouched
    assert "| `;coder` |" in admin.chat().ask(";agent list", "gpt-4o").good().text
    assert "| `;coder` |" in admin.chat().ask("!agent list", "gpt-4o").good().text
    check(other.chat().ask("!coder Write a loop", "gpt-4o"), "coder")
    other.chat().ask(";coder Write a loop", "gpt-4o")
    assert other.untouched
    reset = admin.chat().ask(";agent settings reset", "gpt-4o").good().text
    assert reset.startswith("Done.")
    assert "`!agent settings persistence on`" in reset
    check(admin.chat().ask("!coder Write a loop", "gpt-4o"), "coder")


def test_turns_before_a_change_of_the_prefix_stay_clean(admin: AnyModel) -> None:
    chat = admin.chat()
    chat.ask("!teacher Explain it", "gpt-4o")
    chat.ask("!agent list")
    chat.ask("!agent settings prefix ;").good()

    answer = chat.ask("And now?")
    check(answer, "teacher")
    assert not re.search(r"![a-z]|Done\.|\| Setting", text_of(answer.sent["messages"]))
    assert "Done." in admin.chat().ask("!agent settings reset", "gpt-4o").good().text


# Files that Open WebUI names in front of the words


FILES = '<attached_files>\n<file type="file" url="f1" name="notes.txt"/>\n</attached_files>\n\n'


def test_files_are_no_part_of_the_command(admin: AnyModel, provider: Provider) -> None:
    for text, words in ANSWERED.items():
        answer = admin.chat().ask(FILES + text, "gpt-4o").good()
        assert words in answer.text
    assert provider.chats == []


def test_the_model_sees_the_files(admin: AnyModel) -> None:
    chat = admin.chat()
    answer = chat.ask(FILES + "!coder Write a loop", "gpt-4o")
    check(answer, "coder")
    assert answer.sent["messages"][-1]["content"].endswith(FILES + "Write a loop")

    assert "answers from now on" in chat.ask(FILES.replace("f1", "f2") + "!teacher").text
    said = chat.ask("What is in it?").sent["messages"]
    assert said[-1]["content"].endswith(FILES.replace("f1", "f2") + "What is in it?")
    assert "answers from now on" not in text_of(said)


def test_a_sequence_about_a_file(admin: AnyModel, provider: Provider) -> None:
    answer = admin.chat().ask(FILES + "!teacher Explain it !writer a poem", "gpt-4o").good()

    assert "Writer" in answer.text
    assert len(provider.chats) == 2
    for recorded, words in zip(provider.chats, ("Explain it", "a poem"), strict=True):
        last = recorded.body["messages"][-1]["content"]
        assert words in last
        assert last.count(FILES.strip()) == 1
        assert "!" not in last


# Slips


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("! coder x", "did you mean `!coder`?"),
        ("!persona1 codr x", "did you mean `!persona1 coder`?"),
        ("!persona12 coder x", "a number from 1 to 9"),
        ("!agent lst", "did you mean `!agent list`?"),
    ],
)
def test_a_slip_is_answered_and_not_sent(admin: AnyModel, provider: Provider, text: str, words: str) -> None:
    chat = admin.chat()
    chat.ask("!teacher Explain it", "gpt-4o")

    assert words in chat.ask(text).good().text
    answer = chat.ask("And now?")

    assert provider.chats == []
    check(answer, "teacher")
    assert "did you mean" not in text_of(answer.sent["messages"])


def test_a_word_further_down_stays_text(admin: AnyModel, provider: Provider) -> None:
    sent = admin.chat().ask("!coder why does !code fail", "gpt-4o").sent["messages"]
    assert CATALOGUE["coder"]["prompt"][:60] in text_of(sent)
    assert sent[-1]["content"].endswith("why does !code fail")

    answer = admin.chat().ask("!coder Write !wrter a poem !teacher explain", "gpt-4o").good()
    assert len(provider.chats) == 2
    assert "Write !wrter a poem" in provider.chats[0].body["messages"][-1]["content"]
    assert len(answer.statuses) == 3
    assert answer.statuses[-1] == "!wrter was sent as text: did you mean !writer?"


@pytest.mark.parametrize("text", ["!coder! Write", "！coder Write", "\ufeff!coder: Write", "!coder，Write"])
def test_the_very_start_is_forgiving(admin: AnyModel, text: str) -> None:
    answer = admin.chat().ask(text, "gpt-4o")
    check(answer, "coder")
    assert answer.sent["messages"][-1]["content"].endswith("Write")


def test_words_beside_a_command_of_ours_are_given_back(admin: AnyModel, provider: Provider) -> None:
    chat = admin.chat()
    question = "how do I reverse a list?"
    for text in (
        f"!agent list\n{question}",
        f"{question}\n!agent settings",
        f"{question}\n!agent rollback x",
    ):
        answer = chat.ask(text, "gpt-4o").good().text
        assert "were not sent to the model" in answer
        assert answer.endswith(f"```text\n{question}\n```")
    assert provider.chats == []
    assert [m["content"] for m in chat.ask("So?").sent["messages"]] == ["So?"]


# Suggestions


QUESTION = "Why does my SQL query return duplicate rows of the database?"
TIP = "\n\n> 💡 Tip: `!sql_expert` knows more about this."


class Finished(AnyModel):
    """Keeps what an outlet makes of an answer, as Open WebUI does."""

    reason: str | None = "stop"

    def outlet(self, body: Json) -> None:
        body["messages"][-1] |= {"finish_reason": self.reason} if self.reason else {}
        reply = self.server.post("/hotswap/filter/outlet", {"user": self.user, "body": body})
        assert reply.status_code == 200
        self.kept = reply.json()
        self.changed = self.kept != body


@pytest.fixture
def suggesting(server: Server) -> Finished:
    set_valves(server, enable_suggestions=True)
    return Finished(server, user("admin"))


def keep(client: Finished, chat: Chat) -> str:
    """Stores what the outlet answered; what stands there now."""
    assert chat.shown is not None
    last = client.kept["messages"][-1]
    chat.shown.output = last["output"]
    assert last["content"] == "".join(m["content"] for m in chat.shown.messages), "both say the same"
    return last["content"]


def test_the_tip_stands_below_the_answer_of_another_model(suggesting: Finished) -> None:
    chat = suggesting.chat()
    chat.ask(QUESTION, "gpt-4o")
    assert suggesting.untouched, "the model is asked as ever"
    # It is found beside the request; the outlet never waits for it.
    assert eventually(lambda: suggesting.changed or not chat.regenerate())
    assert keep(suggesting, chat) == f"{ANSWER}{TIP}"

    again = chat.ask(f"Again: {QUESTION}")
    assert [m["content"] for m in again.sent["messages"]][:2] == [QUESTION, ANSWER]
    assert not suggesting.changed, "it was said"
    sent = chat.ask("!writer And now?").sent
    assert "knows more" not in text_of(sent["messages"])
    prompt = f"### Task:\nGenerate a title\nUSER: {QUESTION}\nASSISTANT: {ANSWER}{TIP}\n</chat_history>"
    task = suggesting.task("title_generation", prompt, chat, "gpt-4o").sent
    assert task["messages"][0]["content"] == prompt.replace(TIP, "")


@pytest.mark.parametrize(
    ("text", "options", "reason"),
    [
        (f"!coder {QUESTION}", {}, "stop"),
        ("Hello", {}, "stop"),
        (QUESTION, {"stream": False}, "stop"),
        (QUESTION, {}, "length"),
        (QUESTION, {}, None),
    ],
)
def test_where_there_is_no_tip(
    suggesting: Finished, text: str, options: dict[str, Any], reason: str | None
) -> None:
    suggesting.reason = reason
    chat = suggesting.chat()
    for _ in range(3):
        chat.ask(text, "gpt-4o", **options)
        assert not suggesting.changed


def test_side_by_side_and_for_programs_there_is_no_tip(suggesting: Finished) -> None:
    suggesting.chat().ask_all(QUESTION, ["gpt-4o", "mystery-7b"])
    assert not suggesting.changed
    program = Finished(suggesting.server, suggesting.user, session=False)
    program.chat().ask(QUESTION, "gpt-4o")
    assert not program.changed


@pytest.mark.parametrize("role", ["admin", "user"])
def test_the_last_persona_opens_new_chats(server: Server, role: str) -> None:
    client = AnyModel(server, user(role))
    first = client.chat()
    first.ask("!coder Write a loop", "gpt-4o")
    client.chat().ask("Hello", "gpt-4o")
    assert client.untouched  # nobody asked for it yet

    client.chat().ask("!agent settings persistence on", "gpt-4o")
    opened = client.chat()
    check(opened.ask("Hello", "claude-3-5-sonnet-20241022"), "coder")
    check(opened.ask("And now?"), "coder")
    check(first.ask("!teacher Explain it"), "teacher", reset=True, after="coder")
    check(client.chat().ask("Hello", "gpt-4o"), "teacher")
    other = AnyModel(server, user(role))
    other.chat().ask("Hello", "gpt-4o")
    assert other.untouched

    first.ask("!reset Thanks")
    client.chat().ask("Hello", "gpt-4o")

    assert client.untouched


def test_a_reset_at_the_very_start_ends_it_too(admin: AnyModel) -> None:
    admin.chat().ask("!agent settings persistence on", "gpt-4o")
    admin.chat().ask("!coder", "gpt-4o").good()
    check(admin.chat().ask("Hello", "gpt-4o"), "coder")

    answer = admin.chat().ask("!reset Hello", "gpt-4o")

    assert answer.sent["messages"] == [{"role": "user", "content": "Hello"}]
    admin.chat().ask("Hello", "gpt-4o")
    assert admin.untouched


def test_the_valve_opens_new_chats_for_all_but_those_who_refuse(server: Server, admin: AnyModel) -> None:
    refuses = AnyModel(server, user("admin"))
    refuses.chat().ask("!agent settings persistence off", "gpt-4o")
    set_valves(server, persistent_persona=True)
    for client in (admin, refuses):
        client.chat().ask("!coder Write a loop", "gpt-4o")

    check(admin.chat().ask("Hello", "gpt-4o"), "coder")
    refuses.chat().ask("Hello", "gpt-4o")

    assert refuses.untouched


# Whatever comes


ODD: dict[str, Any] = {
    "no messages": {"model": "gpt-4o"},
    "messages null": {"messages": None},
    "messages text": {"messages": "!coder x"},
    "messages empty": {"messages": []},
    "messages of numbers": {"messages": [1, None, "x"]},
    "message empty": {"messages": [{}]},
    "no content": {"messages": [{"role": "user"}]},
    "content a number": {"messages": [{"role": "user", "content": 7}]},
    "content an object": {"messages": [{"role": "user", "content": {"text": "!coder x"}}]},
    "content odd parts": {
        "messages": [{"role": "user", "content": [1, None, {"type": "text", "text": 5}, []]}]
    },
    "role a list": {"messages": [{"role": ["user"], "content": "!coder x"}]},
    "no model": {"model": None},
    "model a number": {"model": 7},
    "model an object": {"model": {}},
    "model empty": {"model": ""},
    "model long": {"model": "m" * 100_000},
    "metadata a list": {"metadata": [1]},
    "metadata text": {"metadata": "x"},
    "metadata null": {"metadata": None},
    "user message text": {"metadata": {"user_message": "x"}},
    "ids numbers": {"metadata": {"chat_id": 1, "message_id": [], "user_message": {"parentId": {}}}},
    "ids odd": {
        "metadata": {"chat_id": "\x00", "message_id": "\u2028", "user_message": {"parentId": "'; --"}}
    },
    "children odd": {
        "metadata": {"message_id": "m", "user_message": {"models": [[], 1], "childrenIds": [{}, []]}}
    },
    "model info odd": {"metadata": {"model": {"info": [1]}}},
    "base odd": {"metadata": {"model": {"info": {"base_model_id": ["personas.coder"]}}}},
    "mark odd": {"metadata": {"agent_hotswap": 5}},
    "task odd": {"metadata": {"task": {"a": 1}}},
    "large number": {"temperature": 10**300},
}
HALF: Json = {
    "messages": [{"role": "user", "content": "!coder \ud800 hello"}],
    "metadata": {"chat_id": "\ud800", "message_id": "\ud800", "user_message": {"parentId": "\ud800"}},
}
"""A stock server cannot even write it back; with our layer it can."""


@pytest.mark.parametrize("user", [{"id": "u", "role": "user"}, {"id": "a", "role": "admin"}, {}], ids=str)
@pytest.mark.parametrize("changes", ODD.values(), ids=ODD)
def test_odd_requests_come_back_as_they_are(server: Server, changes: Json, user: Json) -> None:
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}], **changes}

    reply = server.post("/hotswap/filter/inlet", {"user": user, "body": body})

    assert (reply.status_code, reply.json()) == (200, body)


@pytest.mark.parametrize("changes", ODD.values(), ids=ODD)
@pytest.mark.parametrize("text", ["!coder x", "!coder", "!agent list", "!teacher a !writer b", "!multi x"])
def test_odd_requests_with_commands_are_no_server_error(server: Server, changes: Json, text: str) -> None:
    for role in ("user", "admin"):
        body = {"model": "gpt-4o", "messages": [{"role": "user", "content": text}], **changes}
        reply = server.post("/hotswap/filter/inlet", {"user": {"id": "u", "role": role}, "body": body})
        assert reply.status_code == 200, (role, reply.text)
        assert isinstance(reply.json(), dict)


@ours_alone
def test_half_a_character_is_no_server_error(server: Server, admin: AnyModel) -> None:
    reply = admin.inlet("hotswap", {"model": "gpt-4o", **HALF})

    assert reply["messages"][-1]["content"] == "\ud800 hello"
    assert reply["messages"][0]["content"].startswith('<agent_mode agent="coder">')


@ours_alone
@pytest.mark.parametrize(
    "form",
    [[], "x", 7, None, {}, {"body": []}, {"body": {}, "user": "x"}, {"body": None, "user": {}}],
    ids=str,
)
def test_what_is_no_inlet_call_is_refused(server: Server, form: Any) -> None:
    reply = server.post("/hotswap/filter/inlet", form)

    assert 400 <= reply.status_code < 500


@ours_alone
@pytest.mark.parametrize("depth", [50, 90, 400, 3_000, 100_000])
def test_deep_requests_are_no_server_error(server: Server, depth: int) -> None:
    deep = "[" * depth + "]" * depth
    messages = f'[{{"role": "user", "content": {deep}}}]'
    raw = f'{{"body": {{"model": "gpt-4o", "messages": {messages}}}, "user": null}}'

    reply = server.request("POST", "/hotswap/filter/inlet", data=raw.encode())

    assert reply.status_code in (200, 400)
    if reply.status_code == 200:
        assert reply.json() == json.loads(raw)["body"]


def test_a_failure_leaves_the_chat_as_it_was_and_is_logged(server: Server, admin: AnyModel) -> None:
    messages = [{"role": "system", "content": 7}, {"role": "user", "content": "!coder Write a secret loop"}]
    body = {"model": "gpt-4o", "messages": messages, "metadata": {"chat_id": "c", "message_id": "m"}}

    assert admin.inlet("hotswap", body) == body

    assert "The filter failed; the chat goes on as it came." in server.log()
    assert "secret" not in server.log()


def test_the_log_changes_its_form_without_a_restart(server: Server, admin: AnyModel) -> None:
    def lines() -> list[str]:
        server.mark = server.log_file.stat().st_size
        chat = admin.chat()
        chat.ask("!coder Write a loop", "gpt-4o")
        chat.ask("!teacher Explain it")
        return [line for line in server.log().splitlines() if "persona switched" in line]

    assert [line.startswith("[AGENT_MODE:INFO] persona switched [") for line in lines()] == [True]
    set_valves(server, enable_structured_logging="on")
    (line,) = lines()
    record = json.loads(line)
    assert (record["event"], record["level"], record["persona"]) == ("persona switched", "info", "teacher")
    assert record["timestamp"]
    set_valves(server)

    assert [line.startswith("[AGENT_MODE:INFO]") for line in lines()] == [True]


def test_debug_says_what_was_decided_and_what_was_sent(server: Server, admin: AnyModel) -> None:
    set_valves(server, enable_debug=True, integration_debug=True)
    chat = admin.chat()
    chat.ask("!coder Write a secret loop", "gpt-4o")

    records = [line.partition("] ")[2] for line in server.records()]
    (decided,) = [line for line in records if line.startswith("turn decided ")]
    for word in (f"chat_id={chat.id}", "model=gpt-4o", "commands=coder", "persona=coder", "refused=False"):
        assert word in decided
    assert "secret" not in decided
    (told,) = [line for line in records if line.startswith("integration context ")]
    assert "active_persona=coder" in told
    (prompt,) = [line for line in records if line.startswith("prompt ")]
    assert "secret" in prompt
    set_valves(server)
    server.mark = server.log_file.stat().st_size

    chat.ask("Another secret")

    assert "secret" not in server.log()
    assert "decided" not in server.log()


def test_a_switch_is_logged_without_words_of_the_chat(server: Server, admin: AnyModel) -> None:
    chat = admin.chat()
    chat.ask("!coder Write a loop", "gpt-4o")
    chat.ask("!teacher A secret text")

    (record,) = [line for line in server.records() if "persona switched" in line]

    for word in (
        f"user_id={admin.user['id']}",
        f"chat_id={chat.id}",
        "persona=teacher",
        "previous=coder",
        "model=gpt-4o",
        "strategy=gpt-4o*",
        "template=hierarchical",
        "duration_ms=",
    ):
        assert word in record
    assert "secret" not in server.log()


def test_personas_that_are_gone_leave_the_model_alone(server: Server, admin: AnyModel) -> None:
    chat: Chat = admin.chat()
    chat.ask("!coder Write a loop", "gpt-4o")
    set_valves(server, models="teacher, writer")

    answer = chat.ask("And now?")

    assert CATALOGUE["coder"]["prompt"][:60] not in text_of(answer.sent["messages"])
    assert "!coder Write a loop" in text_of(answer.sent["messages"])  # nobody's command any more
    answer = chat.ask("!teacher Explain it")
    assert '<agent_mode agent="teacher">' in text_of(answer.sent["messages"])


def test_a_restart_forgets_nothing(tmp_path: Path, provider: Provider) -> None:
    own = make(OURS, tmp_path / "ours", provider.base_url)
    client = AnyModel(own, user("admin"))
    chat = client.chat()
    with running(own):
        chat.ask("!coder Write a loop", "gpt-4o")
        client.chat().ask("!agent settings persistence on", "gpt-4o").good()
        own.stop()
    with running(own):
        check(chat.ask("And now?"), "coder")
        check(client.chat().ask("Hello", "gpt-4o"), "coder")


def test_a_catalogue_that_cannot_be_had_disturbs_nobody(tmp_path: Path, provider: Provider) -> None:
    """Only the valve makes the server look for it, without a restart."""
    url = f"https://localhost/personas.json#sha256={'0' * 64}"
    own = make(OURS, tmp_path / "ours", provider.base_url, environment={"AGENT_MODE_CATALOGUE_URLS": url})
    client = AnyModel(own, user("admin"))
    with running(own):
        check(client.chat().ask("!coder Write a loop", "gpt-4o"), "coder")
        assert "not taken over" not in own.log()

        set_valves(own, auto_download_personas=True)

        assert eventually(lambda: "catalogue not taken over [code=catalogue_address" in own.log())
        check(client.chat().ask("!coder Write a loop", "gpt-4o"), "coder")
        own.stop()
    assert "Traceback" not in own.log()


@pytest.mark.parametrize("protect", [True, False])
def test_where_nothing_is_protected_the_catalogue_wins_at_the_start(
    tmp_path: Path, provider: Provider, protect: bool
) -> None:
    own = make(OURS, tmp_path / "ours", provider.base_url)
    with running(own):
        set_valves(own, protect_custom_personas=protect)
        own.stop()
    asyncio.run(rewrite_coder(own.home / "agent_mode.db", "You are as I like it."))
    shipped = CATALOGUE["coder"]["prompt"][:60]
    with running(own):
        client = AnyModel(own, user("admin"))

        def coder() -> str:
            return text_of(client.chat().ask("!coder Write a loop", "gpt-4o").sent["messages"])

        assert eventually(lambda: ("as I like it" in coder()) == protect)
        assert (shipped in coder()) != protect
        history = client.chat().ask("!agent history coder", "gpt-4o").good().text
        assert ("| replaced |" in history) != protect
        own.stop()


async def rewrite_coder(path: Path, prompt: str) -> None:
    """What an admin does in another process."""
    database = await Database.open(f"sqlite+aiosqlite:///{path}")
    store = PersonaStore(database)
    known = await store.get("coder")
    values = {name: getattr(known, name) for name in PersonaForm.model_fields}
    await store.save(PersonaForm.model_validate({**values, "prompt": prompt}))
    await database.close()
