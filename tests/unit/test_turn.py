"""What a request must be, and where in Open WebUI it belongs."""

from __future__ import annotations

import copy
import hashlib
import hmac
import json
import sys
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_mode.chat.context import MAX_ID, TurnContext, User, context_of
from agent_mode.chat.signed import CONTEXT_KEY, CONTEXT_SECONDS, pack, unpack
from agent_mode.chat.turn import MAX_MESSAGES, Turn
from agent_mode.errors import RequestError

KEY = "connection-key"
HI = [{"role": "user", "content": "hi"}]
METADATA = {
    "chat_id": "c1",
    "message_id": "m2",
    "session_id": "s1",
    "user_message_id": "u2",
    "user_message": {"id": "u2", "parentId": "m1", "childrenIds": ["m2"], "models": ["personas.coder"]},
    "tool_ids": ["dice"],
    "variables": {"{{USER_NAME}}": "Bob"},
}


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "personas.coder", "messages": HI, **fields}


def inlet(model: str = "personas.coder", **metadata: Any) -> dict[str, Any]:
    """What Open WebUI posts to an inlet."""
    return {"model": model, "messages": HI, "metadata": {**METADATA, **metadata}}


# ---------------------------------------------------------------- the body


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (None, "body"),
        ([], "body"),
        ("text", "body"),
        ({}, "model"),
        (body(model=None), "model"),
        (body(model=""), "model"),
        (body(model=5), "model"),
        (body(model="x" * (MAX_ID + 1)), "model"),
        (body(stream="yes"), "stream"),
        (body(stream=1), "stream"),
        (body(messages=None), "messages"),
        (body(messages=[]), "messages"),
        (body(messages={}), "messages"),
        (body(messages="hi"), "messages"),
        (body(messages=HI * (MAX_MESSAGES + 1)), "messages"),
        (body(messages=[*HI, "hi"]), "messages.1"),
        (body(messages=[None]), "messages.0"),
        (body(messages=[{"content": "hi"}]), "messages.0.role"),
        (body(messages=[{"role": "wizard", "content": "hi"}]), "messages.0.role"),
        (body(messages=[{"role": ["user"], "content": "hi"}]), "messages.0.role"),
        (body(messages=[{"role": "user"}]), "messages.0.content"),
        (body(messages=[*HI, {"role": "user", "content": None}]), "messages.1.content"),
        (body(messages=[{"role": "user", "content": 5}]), "messages.0.content"),
        (body(messages=[{"role": "user", "content": {"type": "text"}}]), "messages.0.content"),
        (body(messages=[{"role": "user", "content": ["hi"]}]), "messages.0.content"),
        (body(messages=[{"role": "tool", "tool_call_id": "1", "content": None}]), "messages.0.content"),
    ],
)
def test_errors_name_the_field(bad: Any, field: str) -> None:
    with pytest.raises(RequestError) as caught:
        Turn.parse(bad)
    error = caught.value
    assert error.field == field
    assert error.status == 400
    assert error.message
    assert error.hint


def test_a_plain_request() -> None:
    turn = Turn.parse(body(stream=True, temperature=0.3, user={"id": "u-7", "name": "Bob"}))
    assert (turn.model, turn.messages, turn.stream) == ("personas.coder", HI, True)
    assert turn.params == {"temperature": 0.3}
    assert turn.context == TurnContext()
    assert turn.user == User(claimed="u-7")
    assert not turn.context.interactive


@pytest.mark.parametrize("fields", [{}, {"stream": None}, {"stream": False}])
def test_stream_is_off_unless_asked_for(fields: dict[str, Any]) -> None:
    assert Turn.parse(body(**fields)).stream is False


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "assistant"},
        {"role": "developer", "content": "x"},
        {"role": "function", "name": "f", "content": "x"},
        {"role": "tool", "tool_call_id": "1", "content": "42"},
        {"role": "user", "content": []},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
        {"role": "user", "content": "\ud800\x00", "name": 5},
    ],
)
def test_messages_that_are_fine(message: dict[str, Any]) -> None:
    assert Turn.parse(body(messages=[message])).messages == [message]


def test_parameters_go_on_without_what_is_open_webuis_own() -> None:
    theirs = {
        "chat_id": "c",
        "session_id": "s",
        "id": "m",
        "message_id": "m",
        "message_ids": [],
        "parent_id": "p",
        "metadata": METADATA,
        "features": {},
        "variables": {},
        "background_tasks": {},
        "tool_ids": [],
        "filter_ids": [],
        "files": [],
        "params": {},
        "title": "x",
        "model_item": {},
        "user": {"id": "u"},
        "task": "x",
        "tool_servers": [],
        "user_message": {},
        "parent_message": {},
        CONTEXT_KEY: {},
    }
    ours = {
        "temperature": 1,
        "tools": [{"type": "function"}],
        "tool_choice": "auto",
        "stream_options": {"include_usage": True},
        "reasoning_effort": "low",
        "vendor_option": {"x": 1},
    }
    assert Turn.parse(body(**theirs, **ours)).params == ours


@pytest.mark.parametrize(
    ("user", "who"),
    [
        ({"id": "u-1", "role": "admin"}, User("u-1", admin=True)),
        ({"id": "u-1", "role": "user"}, User("u-1")),
        ({"id": "u-1"}, User("u-1")),
        ({"id": "u-1", "role": ["admin"]}, User("u-1")),
        ({"role": "admin"}, User()),
        ({"id": 5, "role": "admin"}, User()),
        (None, User()),
        ("bob", User()),
        ([], User()),
        ({"id": ""}, User()),
        ({"id": "a\nb"}, User()),
        ({"id": "x" * (MAX_ID + 1)}, User()),
    ],
)
def test_who_asks(user: Any, who: User) -> None:
    signed = pack(context_of(inlet()), KEY, User.of(user))
    assert Turn.parse(body(**{CONTEXT_KEY: signed}), secret=KEY).user == who
    # What the request merely claims opens nothing.
    claimed = Turn.parse(body(user=user), secret=KEY).user
    assert claimed == User(claimed=who.id)
    assert (claimed.id, claimed.admin) == (None, False)


def test_who_merely_claims_an_id_owns_nothing_of_it() -> None:
    owners = {User("ann").owner, User(claimed="ann").owner, User(claimed="bob").owner, User().owner}
    assert len(owners) == 4
    assert "" not in owners  # what was kept before records had owners
    assert User("ann", admin=True, name="Ann", credential="x").owner == "ann"


@pytest.mark.parametrize("start", ["x-agent-mode-user-", "x-openwebui-user-"])
def test_headers_say_who_asks(start: str) -> None:
    headers = {f"{start}id": "ann", f"{start}role": "admin", f"{start}name": "Ann%20%C3%84"}
    asks = Turn.parse(body(user={"id": "bob"}), headers, secret=KEY).user
    assert asks == User("ann", admin=True, name="Ann Ä")
    headers = {f"{start}id": "ann", f"{start}role": "user"}
    assert Turn.parse(body(), headers, secret=KEY).user == User("ann")
    for nothing in ("{{USER_ID}}", "", "None"):
        assert Turn.parse(body(), {f"{start}id": nothing, f"{start}role": "admin"}).user == User()


def test_a_confirmed_user_is_believed_before_all_else() -> None:
    bob = User("bob", credential="his own")
    headers = {"x-agent-mode-user-id": "ann", "x-agent-mode-user-role": "admin", "cookie": "token=other"}
    forged = pack(context_of(inlet()), KEY, User("ann", admin=True))
    turn = Turn.parse(
        body(user={"id": "ann", "role": "admin"}, **{CONTEXT_KEY: forged}), headers, secret=KEY, user=bob
    )
    assert turn.user == bob
    assert turn.context == TurnContext()  # it was written for ann


@pytest.mark.parametrize("named", ["body", "header"])
def test_a_context_is_its_users_alone(named: str) -> None:
    signed = {CONTEXT_KEY: pack(context_of(inlet()), KEY, User("ann", admin=True))}

    def parsed(user_id: str) -> Turn:
        if named == "body":
            return Turn.parse(body(user={"id": user_id}, **signed), secret=KEY)
        return Turn.parse(body(**signed), {"x-openwebui-user-id": user_id}, secret=KEY)

    assert (parsed("ann").user, parsed("ann").context.chat_id) == (User("ann", admin=True), "c1")
    assert parsed("bob").context == TurnContext()
    assert not parsed("bob").user.admin


def test_a_context_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    signed = pack(context_of(inlet()), KEY, User("ann"))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + CONTEXT_SECONDS - 5)
    assert unpack(signed, KEY) is not None  # a dialog waited for long
    monkeypatch.setattr(time, "time", lambda: now + CONTEXT_SECONDS + 5)
    assert unpack(signed, KEY) is None
    assert unpack({**signed, "at": int(now + CONTEXT_SECONDS)}, KEY) is None


def test_a_signature_is_for_one_purpose() -> None:
    signed = pack(context_of(inlet()), KEY)
    values = {key: value for key, value in signed.items() if key != "signature"}
    plain = hmac.new(KEY.encode(), json.dumps(values, sort_keys=True).encode(), hashlib.sha256).hexdigest()
    assert unpack({**values, "signature": plain}, KEY) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
ANY_MESSAGE = st.fixed_dictionaries(
    {}, optional={"role": st.sampled_from(["user", "assistant", "tool", "system"]) | JSON, "content": JSON}
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "model": st.just("personas.coder") | JSON,
            "messages": st.lists(ANY_MESSAGE, max_size=3) | JSON,
            "stream": st.booleans() | JSON,
            "user": JSON,
            "metadata": JSON,
            CONTEXT_KEY: JSON,
        },
    )
    | JSON
)
def test_any_body_is_taken_or_refused_by_name(value: Any) -> None:
    before = copy.deepcopy(value)
    refused, turn = None, None
    try:
        turn = Turn.parse(value, secret=KEY)
    except RequestError as error:
        refused = (bool(error.field), error.status)
    if turn is None:
        assert refused == (True, 400)
    else:
        assert turn.messages == value["messages"]
        assert isinstance(turn.said, str)
    assert repr(value) == repr(before)


# ---------------------------------------------------------------- the user's words


def test_said_is_the_last_user_message() -> None:
    messages = [*HI, {"role": "assistant", "content": "x"}, {"role": "user", "content": "!coder go"}]
    loop = [*messages, {"role": "assistant", "content": None}, {"role": "tool", "content": "42"}]
    assert Turn.parse(body(messages=messages)).said == "!coder go"
    assert Turn.parse(body(messages=loop)).said == "!coder go"
    assert Turn.parse(body(messages=[{"role": "system", "content": "x"}])).said == ""


def test_said_is_what_the_inlet_saw() -> None:
    context = pack(context_of(inlet(), "!coder go"), KEY)
    turn = Turn.parse(body(**{CONTEXT_KEY: context}), secret=KEY)
    assert turn.said == "!coder go"


def test_words_that_are_too_long_are_not_copied() -> None:
    assert context_of(inlet(), "x" * 32_768).said is not None
    assert context_of(inlet(), "x" * 32_769).said is None
    assert context_of(inlet(), "").said is None


# ---------------------------------------------------------------- the context


def test_context_of_a_chat() -> None:
    assert context_of(inlet(), "words", "helper", "gpt-4o") == TurnContext(
        chat_id="c1",
        message_id="m2",
        parent_id="m1",
        user_message_id="u2",
        session_id="s1",
        said="words",
        via="helper",
        base="gpt-4o",
        place=1,
        models=1,
        branch_known=True,
        tools=True,
    )


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"tool_ids": ["dice"]}, True),
        ({"tool_ids": [], "tool_servers": [{"url": "http://tools"}]}, True),
        ({"tool_ids": [], "tool_servers": []}, False),
        ({"tool_ids": None}, False),
    ],
)
def test_tools_are_those_that_somebody_switched_on(metadata: dict[str, Any], expected: bool) -> None:
    context = context_of(inlet(**metadata))
    assert context.tools is expected
    signed = unpack(pack(context, KEY), KEY)
    assert signed is not None
    assert signed.context == context


def test_context_at_the_root_knows_its_branch() -> None:
    context = context_of(inlet(user_message={"id": "u2", "parentId": None}))
    assert (context.parent_id, context.branch_known) == (None, True)


@pytest.mark.parametrize(
    "metadata", [None, [], "x", {}, {"user_message": "x"}, {"user_message": {"id": "u"}}]
)
def test_context_of_callers_without_a_branch(metadata: Any) -> None:
    context = context_of({"metadata": metadata})
    assert not context.branch_known
    assert context.parent_id is None


def test_the_context_of_an_older_open_webui() -> None:
    """Up to 0.9 the user's message has another name, and its id stands in it alone."""
    metadata = {key: value for key, value in METADATA.items() if not key.startswith("user_message")}
    metadata["parent_message"] = METADATA["user_message"]
    body = {"model": "personas.coder", "messages": HI, "metadata": metadata}
    assert context_of(body) == context_of(inlet())


def test_user_message_id_is_found_in_either_place() -> None:
    assert context_of(inlet(user_message_id=None, user_message={"id": "u9"})).user_message_id == "u9"
    assert context_of(inlet(user_message_id="u8", user_message={"id": "u9"})).user_message_id == "u8"


@pytest.mark.parametrize(
    ("children", "message_id", "model", "place"),
    [
        (["m1", "m2"], "m1", "a", 1),
        (["m1", "m2"], "m2", "b", 2),
        # The same model twice.
        (["m1", "m2"], "m2", "a", 2),
        # The first answers keep their places.
        (["m1", "m2", "m3"], "m2", "a", 2),
        # A regenerate adds answers: then the model's place in the selection counts.
        (["m1", "m2", "m3"], "m3", "b", 2),
        (["m1", "m2", "m3"], "m3", "c", None),
        # A workspace model is asked by the id of its base.
        (["m1", "m2"], "m2", "base", 2),
        (["m1", "m2"], "m9", "b", 2),
        (["m1"], None, "a", 1),
        (None, "m1", "a", None),
        ("m1m2", "m1", "a", None),
    ],
)
def test_place_among_models_side_by_side(
    children: Any, message_id: str | None, model: str, place: int | None
) -> None:
    user_message = {"models": ["a", "b"], "childrenIds": children}
    assert context_of(inlet(model, user_message=user_message, message_id=message_id)).place == place
    assert context_of(inlet(model, user_message={"childrenIds": children, "models": "ab"})).place is None


@pytest.mark.parametrize("bad", [5, "", "x" * (MAX_ID + 1), "a\nb", "a\x00", ["c"], {"a": 1}, True])
def test_ids_that_are_none(bad: Any) -> None:
    metadata = {"chat_id": bad, "message_id": bad, "task": bad}
    assert context_of({"metadata": metadata}) == TurnContext()


def test_round_trip_through_the_body() -> None:
    context = context_of(inlet(task="title_generation"), "!coder “naïve” \ud800", "gpt-4o")
    sent = json.loads(json.dumps(body(**{CONTEXT_KEY: pack(context, KEY)})))
    turn = Turn.parse(sent, secret=KEY)
    assert turn.context == context
    assert turn.context.interactive
    assert CONTEXT_KEY not in turn.params


IDS = st.none() | st.text(min_size=1, max_size=20).filter(str.isprintable)


@given(
    st.builds(
        TurnContext,
        chat_id=IDS,
        message_id=IDS,
        parent_id=IDS,
        session_id=IDS,
        task=IDS,
        said=st.none() | st.text(min_size=1),
        place=st.none() | st.integers(1, 9),
        branch_known=st.booleans(),
    ),
    st.builds(User, IDS, st.booleans(), st.text(max_size=20)),
    st.text(max_size=20),
)
def test_any_context_comes_back(context: TurnContext, user: User, key: str) -> None:
    key = key.encode("utf-8", "replace").decode()
    sent = json.loads(json.dumps(pack(context, key, user)))
    assert unpack(sent, key) == ((context, user) if key else None)  # an empty key signs nothing
    assert unpack(sent, key + "x") is None


PACKED = pack(context_of(inlet(), "words"), KEY)


@pytest.mark.parametrize(
    "forged",
    [
        {**PACKED, "chat_id": "another"},
        {**PACKED, "task": "title_generation"},
        {**PACKED, "branch_known": False},
        {**PACKED, "place": 2},
        {**PACKED, "by": "another"},
        {**PACKED, "by_admin": True},
        {**PACKED, "at": PACKED["at"] + 1},
        {key: value for key, value in PACKED.items() if key != "at"},
        {key: value for key, value in PACKED.items() if key != "parent_id"},
        {key: value for key, value in PACKED.items() if key != "signature"},
        {**PACKED, "signature": ""},
        {**PACKED, "signature": None},
        {**PACKED, "signature": 5},
        {**PACKED, "signature": "ü" * 64},
        {**PACKED, "signature": PACKED["signature"].upper()},
        {**PACKED, "signature": PACKED["signature"][:-1]},
        {**PACKED, "unknown_field": "x"},
        {**PACKED, "chat_id": ["c1"]},
        {**PACKED, "chat_id": {"a": float("nan")}},
        pack(context_of(inlet(), "words"), "another-key"),
        pack(context_of(inlet(), "words"), ""),
        {},
        [],
        "text",
        None,
        5,
    ],
)
def test_contexts_that_are_not_ours_are_ignored(forged: Any) -> None:
    assert unpack(PACKED, KEY) is not None
    assert unpack(forged, KEY) is None
    assert Turn.parse(body(**{CONTEXT_KEY: forged}), secret=KEY).context == TurnContext()


def test_deep_contexts_are_ignored() -> None:
    for depth in range(sys.getrecursionlimit() - 200, sys.getrecursionlimit() + 10):
        try:
            value = json.loads("[" * depth + "]" * depth)
        except RecursionError:
            break
        assert unpack({"chat_id": value, "signature": "x"}, KEY) is None


# ---------------------------------------------------------------- headers


HEADERS = {
    "x-agent-mode-chat-id": "c1",
    "x-agent-mode-message-id": "m2",
    "x-agent-mode-parent-id": "m1",
    "x-agent-mode-user-message-id": "u2",
    "x-agent-mode-task": "",
}


def from_headers(**changes: str | None) -> TurnContext:
    values = {
        **HEADERS,
        **{f"x-agent-mode-{name.replace('_', '-')}": value for name, value in changes.items()},
    }
    headers = {name: value for name, value in values.items() if value is not None}
    return Turn.parse(body(), headers, secret=KEY).context


def test_headers() -> None:
    assert from_headers() == TurnContext(
        chat_id="c1",
        message_id="m2",
        parent_id="m1",
        user_message_id="u2",
        session_id="c1",
        branch_known=True,
    )


def test_headers_at_the_root() -> None:
    # Open WebUI fills in nothing.
    context = from_headers(parent_id="")
    assert (context.parent_id, context.branch_known) == (None, True)


@pytest.mark.parametrize("nothing", ["{{USER_MESSAGE_PARENT_ID}}", None])
def test_headers_without_a_parent_do_not_know_the_branch(nothing: str | None) -> None:
    context = from_headers(parent_id=nothing)
    assert (context.chat_id, context.parent_id, context.branch_known) == ("c1", None, False)


@pytest.mark.parametrize("nothing", ["{{MESSAGE_ID}}", "", "None", "null", "x" * (MAX_ID + 1), None])
def test_headers_without_a_message_do_not_know_the_branch(nothing: str | None) -> None:
    context = from_headers(message_id=nothing)
    assert (context.chat_id, context.message_id, context.branch_known) == ("c1", None, False)


def test_task_header() -> None:
    assert from_headers(task="title_generation").task == "title_generation"
    assert from_headers(task="{{TASK}}").task is None


def test_chat_id_of_open_webui_itself() -> None:
    headers = {"x-openwebui-chat-id": "c9"}
    assert Turn.parse(body(), headers).context == TurnContext(chat_id="c9", session_id="c9")
    assert from_headers(chat_id="{{CHAT_ID}}").chat_id is None


def test_an_inlet_knows_better_than_headers() -> None:
    turn = Turn.parse(body(**{CONTEXT_KEY: PACKED}), {**HEADERS, "x-agent-mode-chat-id": "c9"}, secret=KEY)
    assert turn.context.chat_id == "c1"
    forged = {**PACKED, "chat_id": "other"}
    turn = Turn.parse(body(**{CONTEXT_KEY: forged}), {**HEADERS, "x-agent-mode-chat-id": "c9"}, secret=KEY)
    assert turn.context.chat_id == "c9"


@pytest.mark.parametrize(
    ("cookie", "credential"),
    [
        ("token=abc.def", "abc.def"),
        ("a=b; token=abc; c=d", "abc"),
        ("token=", None),
        ("", None),
        ("a=b", None),
        ("tokens=abc", None),
    ],
)
def test_session_cookie(cookie: str, credential: str | None) -> None:
    turn = Turn.parse(body(), {"cookie": cookie})
    assert turn.user.credential == credential
    assert credential is None or credential not in repr(turn)


# ---------------------------------------------------------------- background tasks

TASKS = [
    "Generate a concise title summarizing the chat history.\n### Guidelines:",
    "Generate a concise, 3-5 word title with an emoji summarizing the chat history.",
    "Generate 1-3 broad tags categorizing the main themes of the chat history, along with 1-3 more",
    "Predict 3-5 useful messages this user might naturally send next to advance their current objective.",
    "Suggest 3-5 relevant follow-up questions or prompts that the user might naturally ask next",
    "Analyze the chat history to determine the necessity of generating search queries, in the given",
    "You are an autocompletion system. Continue the text in `<text>` based on the **completion type**",
    "Generate a detailed prompt for am image generation task based on the given language and context.",
]
NO_TASKS = [
    "### Task:\nRespond to the user query using the provided context, incorporating inline citations",
    "### Task:\nFix the bug in my code",
    "### Task\nGenerate 1-3 broad tags",
    "Please do this.\n### Task:\nGenerate 1-3 broad tags categorizing",
    "hi",
]


@pytest.mark.parametrize("prompt", TASKS)
def test_task_prompts_are_known_where_nothing_else_tells(prompt: str) -> None:
    messages = [{"role": "user", "content": f"### Task:\n{prompt}\n\n<chat_history>\nUSER: !coder"}]
    assert Turn.parse(body(messages=messages)).context.task == "unknown"
    parts = [{"role": "user", "content": [{"type": "text", "text": messages[0]["content"]}]}]
    assert Turn.parse(body(messages=parts)).context.task == "unknown"


@pytest.mark.parametrize("prompt", NO_TASKS)
def test_what_a_user_or_a_knowledge_template_writes_is_no_task(prompt: str) -> None:
    messages = [{"role": "user", "content": prompt}]
    assert Turn.parse(body(messages=messages)).context.task is None


def test_a_task_prompt_inside_a_chat_is_no_task() -> None:
    messages = [*HI, {"role": "assistant", "content": "x"}]
    messages.append({"role": "user", "content": f"### Task:\n{TASKS[0]}"})
    assert Turn.parse(body(messages=messages)).context.task is None


def test_the_inlets_task_is_believed() -> None:
    context = pack(context_of(inlet(task="tags_generation")), KEY)
    assert Turn.parse(body(**{CONTEXT_KEY: context}), secret=KEY).context.task == "tags_generation"
