"""The emulation of Open WebUI's tool loop does what Open WebUI 0.12.4 does.

What is expected here was recorded from the running app, or stands in its `utils/middleware.py`.
"""

from __future__ import annotations

import enum
import json
import threading
import time
from collections.abc import Iterator
from typing import Any, Literal
from urllib.parse import urlsplit

import pytest

from tests.patience import PATIENCE
from tests.provider import Provider, Reply
from tests.scripted import seen
from tests.server import outputs, wire
from tests.server.openwebui import Answer
from tests.server.toolkit import NOT_APPROVED, REJECTED, Call, Toolkit, as_text, parsed, spec_of
from tests.server.toolloop import ToolLoop
from tests.server.wire import Stop, Stopped

Json = dict[str, Any]

PNG = "data:image/png;base64,iVBORw0KGgo="
ME, HER = "user-1", "user-2"
UNREADABLE = (
    "Error: Tool call arguments could not be parsed. The model generated malformed or incomplete JSON for "
    "`roll_dice`. Please try again."
)
NO_OBJECT = "Error: Tool call arguments for `roll_dice` must be a JSON object. Please try again."


def roll_dice(sides: int = 6, note: str = "") -> str:
    """Rolls a die."""
    return f"rolled {sides}{note}"


def number() -> int:
    return 0


def boom(x: str) -> str:
    raise ValueError(f"it broke: {x}")


def picture() -> str:
    return PNG


def nothing() -> None:
    return None


def tools(**options: Any) -> Toolkit:
    return Toolkit(roll_dice, number, boom, picture, nothing, **options)


@pytest.fixture(scope="module")
def running() -> Iterator[Provider]:
    with Provider() as provider:
        yield provider


@pytest.fixture
def provider(running: Provider) -> Provider:
    running.clear()
    return running


class Desk:
    """The loop straight against the provider, which stands for a Pipelines server."""

    def __init__(
        self, provider: Provider, kit: Toolkit | None, *, saved: bool = True, stop: Stop | None = None
    ) -> None:
        self.provider = provider
        self.inlets: list[list[Json]] = []
        """The messages that each inlet call saw after an approval."""
        self.rounds: list[Answer] = []
        self.stop = stop or Stop()
        self.loop = ToolLoop(kit, ME, saved, self.stop, self._send)

    def _send(self, form: Json) -> Answer:
        answer = Answer(0, form)
        self.rounds.append(answer)
        at = urlsplit(self.provider.base_url)
        key = {"Authorization": f"Bearer {self.provider.key}"}
        try:
            with wire.post(
                str(at.hostname), at.port or 80, "/v1/chat/completions", form, key, self.stop
            ) as reply:
                answer.status = reply.status
                if reply.status != 200 or not form["stream"]:
                    answer.body = json.loads(reply.read())
                    return answer
                for line in wire.lines(reply):
                    answer.take(line.decode().strip())
        except (Stopped, OSError):
            if not self.stop.pressed.is_set():
                raise
        return answer

    def form(self, text: str, model: str = "stub-agent", **extra: Any) -> Json:
        kit = self.loop.tools
        specs = kit.specs(ME) if kit else []
        messages = [{"role": "user", "content": text}]
        return {"model": model, "stream": True, "messages": messages, "tools": specs, **extra}

    def ask(self, text: str, model: str = "stub-agent", **extra: Any) -> Desk:
        form = self.form(text, model, **extra)

        def prepare(told: list[Json]) -> Json:
            messages = [*form["messages"], *told]
            self.inlets.append(messages)
            return {**form, "messages": messages}

        self.loop.run(form)
        while self.loop.paused:
            self.loop.decide(prepare)
        return self

    @property
    def text(self) -> str:
        return outputs.text_of(self.loop.output)

    @property
    def results(self) -> list[str]:
        return [call.result for call in self.loop.calls]

    @property
    def items(self) -> list[tuple[str, str]]:
        return [(item["type"], item["status"]) for item in self.loop.output]

    def told(self, number: int = -1) -> list[Json]:
        """What a request told of the answer so far, ids by their number."""
        (user, *messages) = json.loads(json.dumps(self.rounds[number].sent["messages"]))
        assert user["role"] == "user"
        return numbered(messages)


def numbered(messages: list[Json]) -> list[Json]:
    ids: dict[str, int] = {}
    for message in messages:
        for call in message.get("tool_calls") or []:
            call["id"] = ids.setdefault(call["id"], len(ids))
        if "tool_call_id" in message:
            message["tool_call_id"] = ids[message["tool_call_id"]]
    return messages


def asks(content: str, *calls: tuple[str, str], first: int = 0) -> Json:
    made = [
        {"id": first + n, "type": "function", "function": {"name": name, "arguments": arguments}}
        for n, (name, arguments) in enumerate(calls)
    ]
    return {"role": "assistant", "content": content, "tool_calls": made}


def returns(call: int, content: str) -> Json:
    return {"role": "tool", "tool_call_id": call, "content": content}


# The loop


def test_text_parallel_calls_and_two_rounds(provider: Provider) -> None:
    desk = Desk(provider, tools()).ask(
        'tell: Let me see. \ncall: roll_dice {"sides": 6, "bogus": 1} & boom {"x": "y"}\n'
        "then call: number\nthen say: Done {results}",
        agent_mode={"chat_id": "c"},
        temperature=0.5,
    )

    failed = '{\n  "error": "it broke: y"\n}'
    first = [
        asks("Let me see.", ("roll_dice", '{"sides":6,"bogus":1}'), ("boom", '{"x":"y"}')),
        returns(0, "rolled 6"),
        returns(1, failed),
    ]
    assert desk.told(1) == first
    assert desk.told(2) == [*first, asks("", ("number", "{}"), first=2), returns(2, "0")]
    assert desk.text == f"Let me see.\nDone rolled 6 | {failed} | 0"
    assert desk.items == [
        ("message", "completed"),
        ("function_call", "completed"),
        ("function_call", "failed"),
        ("function_call_output", "completed"),
        ("function_call_output", "failed"),
        ("function_call", "completed"),
        ("function_call_output", "completed"),
        ("message", "completed"),
    ]
    for answer in desk.rounds:
        assert answer.sent["agent_mode"] == {"chat_id": "c"}
        assert (answer.sent["temperature"], answer.sent["stream"]) == (0.5, True)
        assert answer.sent["tools"] == tools().specs(ME)
    # A later turn is told the same, in the same messages, and the answer's end.
    later = numbered(json.loads(json.dumps(outputs.to_messages(desk.loop.output))))
    assert later == [*desk.told(2), {"role": "assistant", "content": f"Done rolled 6 | {failed} | 0"}]


def test_the_first_request_stays_as_it_was_sent(provider: Provider) -> None:
    desk = Desk(provider, tools()).ask("call: number then call: number")

    assert [len(answer.sent["messages"]) for answer in desk.rounds] == [1, 3, 5]


@pytest.mark.parametrize(
    ("sent", "kept", "result"),
    [
        ('`{"sides": `', '{"sides": ', UNREADABLE),
        ("`[1]`", "[1]", NO_OBJECT),
        ("`null`", "null", NO_OBJECT),
        ("`{'sides': 3}`", '{"sides":3}', "rolled 3"),
        ('{"sides": "7"}', '{"sides":"7"}', "rolled 7"),
        ('{"note": 5}', '{"note":5}', "rolled 65"),
        ("``", "{}", "rolled 6"),
        ('{"note": "ü\\u00e9"}', '{"note":"üé"}', "rolled 6üé"),
        ('{"sides": "x"}', '{"sides":"x"}',
         '{\n  "error": "invalid literal for int() with base 10: \'x\'"\n}'),
    ],
)  # fmt: skip
def test_arguments(provider: Provider, sent: str, kept: str, result: str) -> None:
    desk = Desk(provider, tools()).ask(f"call: roll_dice {sent} then say: {{results}}")

    assert desk.told(1) == [asks("", ("roll_dice", kept)), returns(0, result)]
    assert desk.loop.calls[0].status == ("completed" if result.startswith("rolled") else "failed")


@pytest.mark.parametrize(
    ("answer", "text", "images"),
    [
        ("words", "words", []),
        ("", "", []),
        (0, "0", []),
        (False, "False", []),
        ({}, "{}", []),
        ([], '{\n  "results": []\n}', []),
        ([1, {"ü": None}], '{\n  "results": [\n    1,\n    {\n      "ü": null\n    }\n  ]\n}', []),
        (PNG, "show: Image file read successfully.", [PNG]),
        ({"a": PNG, "b": 1}, '{\n  "a": "[image]",\n  "b": 1\n}', [PNG]),
        (
            [PNG, "data:text/plain;base64,AA", "x"],
            '{\n  "results": [\n    "[image]",\n    "x"\n  ]\n}',
            [PNG],
        ),
    ],
)
def test_results(answer: Any, text: str, images: list[str]) -> None:
    assert as_text("show", answer) == (text, images)


def test_results_of_mcp_tools() -> None:
    image = {"type": "image", "mimeType": "image/png", "data": "iVBORw0KGgo="}
    assert as_text("show", [{"type": "text", "text": '{"a": 1}'}, image], mcp=True) == (
        '{\n  "a": 1\n}',
        [PNG],
    )
    texts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert as_text("show", texts, mcp=True)[0] == '{\n  "results": [\n    "a",\n    "b"\n  ]\n}'


def test_a_tool_that_returns_none_is_told_its_arguments_were_bad(provider: Provider) -> None:
    desk = Desk(provider, tools()).ask("call: nothing")

    assert desk.results[0].startswith("Error: Tool call arguments could not be parsed.")


def test_unknown_tools_and_those_of_others(provider: Provider) -> None:
    kit = tools()

    @kit.add(users={HER})
    def secret() -> str:
        return "the secret"

    desk = Desk(provider, kit).ask("call: secret & nobody")

    assert desk.results == ['Error: Tool "secret" not found.', 'Error: Tool "nobody" not found.']
    assert "secret" not in json.dumps(kit.specs(ME))
    assert "secret" in json.dumps(kit.specs(HER))


def test_calls_run_one_after_the_other(provider: Provider) -> None:
    kit = tools()
    kit.add(lambda: "slept", spec={"name": "sleep", "parameters": {}}, delay=0.1)

    calls = Desk(provider, kit).ask("call: sleep & number & sleep").loop.calls

    assert [call.name for call in calls] == ["sleep", "number", "sleep"]
    assert calls[0].ended <= calls[1].began
    assert calls[1].ended <= calls[2].began
    assert calls[2].ended - calls[2].began >= 0.1


def test_ids_that_begin_anew_get_new_ones(provider: Provider) -> None:
    desk = Desk(provider, tools()).ask("call: number & roll_dice then call: number", "stub-agent-ids")

    ids = [call.id for call in desk.loop.calls]
    assert ids[:2] == ["call_0", "call_1"]
    assert ids[2].startswith("fc_")
    assert desk.text == "I saw: 0 | rolled 6 | 0"


def test_several_objects_of_arguments_are_several_calls(provider: Provider) -> None:
    desk = Desk(provider, tools()).ask('call: roll_dice `{"sides": 1}{"sides": 2}` then say: {results}')

    assert desk.told(1) == [
        asks("", ("roll_dice", '{"sides":1}'), ("roll_dice", '{"sides":2}')),
        returns(0, "rolled 1"),
        returns(1, "rolled 2"),
    ]
    assert all(call.id.startswith("call_") and len(call.id) == 29 for call in desk.loop.calls)
    assert desk.items[0] == ("function_call", "completed")  # the call as it came; it has no result


def test_the_limit_of_rounds(provider: Provider) -> None:
    desk = Desk(provider, tools(rounds=2)).ask("call: number then call: number then call: number")

    assert len(desk.rounds) == 3
    assert len(desk.loop.calls) == 2
    assert desk.loop.errors == ["Tool-call limit reached (2 iterations)."]
    assert desk.text == ""
    assert [m["role"] for m in outputs.to_messages(desk.loop.output)] == ["assistant", "tool"] * 2


def test_a_follow_up_that_fails_keeps_what_was_there(provider: Provider) -> None:
    desk = Desk(provider, tools()).ask("tell: Hm\ncall: number then like: stub-503")

    (error,) = desk.loop.errors
    assert error == "The engine is currently overloaded, please try again later"
    assert desk.text == "Hm"
    assert desk.items[-1] == ("function_call_output", "completed")


def test_calls_run_although_their_stream_held_an_error(provider: Provider) -> None:
    def chunk(delta: Json) -> bytes:
        return b"data: " + json.dumps({"choices": [{"delta": delta}]}).encode() + b"\n\n"

    call = {"index": 0, "id": "call_a", "function": {"name": "number", "arguments": "{}"}}
    raw = chunk({"content": "So ", "tool_calls": [call]}) + b'data: {"error": {"message": "ouch"}}\n\n'
    provider.script(Reply(raw=raw), Reply("Well"))

    desk = Desk(provider, tools()).ask("Go")

    assert desk.results == ["0"]
    assert desk.rounds[0].errors == ["ouch"]
    assert desk.text == "So\nWell"


def test_images_come_in_a_user_message_behind_the_results(provider: Provider) -> None:
    desk = Desk(provider, tools()).ask("call: picture & number then call: number then say: {results}")

    image = {"type": "image_url", "image_url": {"url": PNG}}
    shown = {"role": "user", "content": [{"type": "text", "text": outputs.IMAGES_NOTE}, image]}
    assert desk.told(1) == [
        asks("", ("picture", "{}"), ("number", "{}")),
        returns(0, "picture: Image file read successfully."),
        returns(1, "0"),
        shown,
    ]
    assert desk.told(2)[3:] == [shown, asks("", ("number", "{}"), first=2), returns(2, "0")]
    assert desk.text == "picture: Image file read successfully. | 0 | 0 (and 1 images)"


def test_a_result_of_a_megabyte(provider: Provider) -> None:
    big = "y" * 1_000_000
    kit = Toolkit()
    kit.add(lambda: big, spec={"name": "big", "parameters": {}})

    desk = Desk(provider, kit).ask("call: big")

    assert desk.told(1)[1]["content"] == big
    assert desk.text == f"I saw: {seen(big)}"


def test_sources_wrap_the_question(provider: Provider) -> None:
    kit = Toolkit()
    kit.add(lambda url: f"page of {url}", spec=spec_of(lambda url: url) | {"name": "fetch_url"})

    desk = Desk(provider, kit).ask('call: fetch_url {"url": "http://a.b"} then call: fetch_url {"url": "c"}')

    questions = [answer.sent["messages"][0]["content"] for answer in desk.rounds]
    assert questions[1].startswith("### Task:\nRespond to the user query")
    assert questions[1].endswith(f"\n{questions[0]}")
    assert '<source id="1" name="http://a.b"></source>' in questions[1]
    assert '<source id="2" name="c"></source>' in questions[2]
    assert questions[2].count(questions[0]) == 1


def test_without_tools_calls_are_left_alone(provider: Provider) -> None:
    desk = Desk(provider, None).ask("call: a", tools=[{"function": {"name": "a"}}])

    assert len(desk.rounds) == 1
    assert desk.loop.calls == []


def test_calls_of_an_answer_that_does_not_stream_are_lost(provider: Provider) -> None:
    desk = Desk(provider, tools()).ask("tell: Hm\ncall: number", stream=False)

    assert len(desk.rounds) == 1
    assert desk.items == [("message", "completed")]
    assert desk.text == "Hm"


# Approvals


def test_approvals_in_a_saved_chat(provider: Provider) -> None:
    words = iter([True, False, False])
    kit = tools(approve=lambda call: next(words))
    desk = Desk(provider, kit).ask(
        "tell: Hm\ncall: roll_dice & number\nthen call: number\nthen say: {results}"
    )

    assert [call.result for call in desk.loop.calls] == ["rolled 6", REJECTED, REJECTED]
    assert [call.status for call in desk.loop.calls] == ["completed", "rejected", "rejected"]
    # The approved call: an inlet and no request, since another one waits. The rejected ones: both.
    assert [[m["role"] for m in messages] for messages in desk.inlets] == [
        ["user"],
        ["user", "assistant", "tool", "tool"],
        ["user", "assistant", "tool", "tool", "assistant", "tool"],
    ]
    assert len(desk.rounds) == 3
    assert desk.told(1) == [
        asks("Hm", ("roll_dice", "{}"), ("number", "{}")),
        returns(0, "rolled 6"),
        returns(1, REJECTED),
    ]
    assert desk.text == f"Hm\nrolled 6 | {REJECTED} | {REJECTED}"


def test_an_approved_last_call_comes_behind_the_inlet(provider: Provider) -> None:
    desk = Desk(provider, tools(approve=lambda call: call.name == "number")).ask("call: roll_dice & number")

    assert [[m["role"] for m in messages] for messages in desk.inlets] == [["user"]]
    assert desk.results == [REJECTED, "0"]
    assert [m["role"] for m in desk.rounds[1].sent["messages"]] == ["user", "assistant", "tool", "tool"]


def test_approvals_in_a_temporary_chat(provider: Provider) -> None:
    asked: list[Call] = []

    def approve(call: Call) -> bool:
        asked.append(call)
        return call.name == "number"

    desk = Desk(provider, tools(approve=approve), saved=False).ask("call: roll_dice & number & nobody")

    assert desk.results == [NOT_APPROVED, "0", 'Error: Tool "nobody" not found.']
    assert [call.name for call in asked] == ["roll_dice", "number"]
    assert desk.inlets == []
    assert len(desk.rounds) == 2


# Stop


def test_stop_while_a_tool_runs(provider: Provider) -> None:
    kit = tools()
    kit.add(lambda: "late", spec={"name": "sleep", "parameters": {}}, delay=600)
    desk = Desk(provider, kit)
    began = time.monotonic()
    threading.Timer(0.3, desk.stop.press).start()

    with pytest.raises(Stopped):
        desk.ask("tell: Hm\ncall: roll_dice then call: number & sleep")

    assert time.monotonic() - began < PATIENCE
    assert [call.status for call in desk.loop.calls] == ["completed", "completed", "incomplete"]
    assert desk.items == [
        ("message", "incomplete"),
        ("function_call", "completed"),
        ("function_call_output", "completed"),
        ("function_call", "incomplete"),
        ("function_call", "incomplete"),
    ]
    later = outputs.to_messages(desk.loop.output)
    assert [message["role"] for message in later] == ["assistant", "tool"]
    assert len(provider.chats) == 2


def test_stop_while_the_second_answer_streams(provider: Provider) -> None:
    desk = Desk(provider, tools())
    threading.Timer(0.9, desk.stop.press).start()
    provider.script(Reply(tool_calls=[("number", {})]), Reply(["tok "] * 200, every=0.05))

    with pytest.raises(Stopped):
        desk.ask("Go")

    left = time.monotonic()
    while provider.last().closed_at is None:
        assert time.monotonic() - left < PATIENCE
        time.sleep(0.01)
    assert desk.text.startswith("tok tok")
    assert len(desk.text) < 200
    assert desk.items[-1] == ("message", "incomplete")


def test_stop_before_the_first_byte(provider: Provider) -> None:
    desk = Desk(provider, tools())
    threading.Timer(0.2, desk.stop.press).start()

    with pytest.raises(Stopped):
        desk.ask("Go", "stub-hang")

    assert desk.items == []


# The stream and its items


def fold(*deltas: Json, before: list[Json] | None = None) -> tuple[outputs.Stream, list[Json]]:
    stream = outputs.Stream(before or [])
    for delta in deltas:
        stream.feed({"choices": [{"delta": delta}]})
    return stream, stream.finish()


def call(
    index: int | None, call_id: str | None = None, name: str | None = None, arguments: Any = None
) -> Json:
    function = {"name": name, "arguments": arguments}
    return {"index": index, "id": call_id, "function": {k: v for k, v in function.items() if v is not None}}


def test_calls_are_put_together_by_index() -> None:
    _, calls = fold(
        {"content": "Hm ", "tool_calls": [call(0, "a", "one", ""), call(1, "b", "two", '{"x"')]},
        {"tool_calls": [call(1, arguments=": 1}"), call(0, arguments="{}")]},
        {"tool_calls": [call(0, "other", name="uno")]},
    )

    assert [(c["id"], c["function"]) for c in calls] == [
        ("a", {"name": "uno", "arguments": "{}"}),
        ("b", {"name": "two", "arguments": '{"x": 1}'}),
    ]


def test_calls_that_are_not_as_openai_sends_them() -> None:
    _, calls = fold(
        {"tool_calls": [call(None, "lost", "lost", "{}")]},
        {"tool_calls": [call(3, None, "nameless", {"x": "ü"})]},
    )

    (only,) = calls
    assert only["id"].startswith("fc_")
    assert only["function"] == {"name": "nameless", "arguments": '{"x":"ü"}'}


def test_an_id_used_twice_in_one_message() -> None:
    before = [{"type": "function_call", "id": "a", "call_id": "a"}]
    stream, calls = fold({"tool_calls": [call(0, "a", "x", "{}")]}, before=before)
    assert calls[0]["id"] != "a"
    assert [item["call_id"] for item in stream.output] == [calls[0]["id"]]

    _, calls = fold({"tool_calls": [call(0, "b", "x", "{}")]}, {"tool_calls": [call(1, "b", "y", "{}")]})
    assert calls[0]["id"] == "b"
    assert calls[1]["id"].startswith("fc_")


def test_only_the_first_choice_counts_and_events_pass_by() -> None:
    stream = outputs.Stream()
    for item in (
        {"event": {"type": "status", "data": {}}},
        {"choices": [], "usage": {"total_tokens": 3}},
        {"choices": [{"delta": {"content": "a"}}, {"delta": {"content": "b"}}]},
        {"choices": [{"delta": None}]},
        {"choices": [{}]},
        {"error": "x"},
        [1],
        {"choices": [{"delta": {"content": "c "}, "finish_reason": "stop"}]},
    ):
        stream.feed(item)
    stream.finish()

    assert outputs.text_of(stream.output) == "ac"


@pytest.mark.parametrize(
    "deltas",
    [
        [{"reasoning_content": "deep"}, {"content": "Words"}],
        [{"content": "Wor"}, {"reasoning_content": "deep"}, {"content": "ds"}],
        [{"content": "<think>de"}, {"content": "ep</think>\nWords"}],
    ],
)
def test_reasoning_is_not_told_again(deltas: list[Json]) -> None:
    stream, _ = fold(*deltas)

    assert [item["type"] for item in stream.output] == ["reasoning", "message"]
    assert outputs.to_messages(stream.output) == [{"role": "assistant", "content": "Words"}]


def test_words_behind_a_call_belong_to_its_message() -> None:
    stream, calls = fold({"tool_calls": [call(0, "a", "x", "{}")]}, {"content": " So."})
    output = [*stream.output, outputs.result_item(calls[0]["id"], "1", "completed")]

    assert numbered(outputs.to_messages(output)) == [asks("So.", ("x", "{}")), returns(0, "1")]


def test_an_empty_answer_leaves_no_message() -> None:
    stream, _ = fold({"content": " \n"})

    assert stream.output == []
    assert outputs.to_messages([]) == []


@pytest.mark.parametrize(
    ("text", "bad"),
    [
        ("Error: no", True),
        (" traceback (most recent", True),
        ('{"error": "x"}', True),
        ('{"error": ""}', False),
        ('{"status": "Failed"}', True),
        ('{"ok": false, "message": "m"}', True),
        ('{"ok": false}', False),
        ("an error", False),
        ("[1]", False),
    ],
)
def test_what_counts_as_failed(text: str, bad: bool) -> None:
    assert outputs.is_error(text) is bad


# Specs


class Colour(enum.Enum):
    RED = "red"


def test_a_spec_by_signature() -> None:
    def paint(what: str, colour: Colour, size: Literal[1, 2] = 1, tags: list[str] | None = None) -> str:
        """Paints."""
        return f"{what} {colour} {size} {tags}"

    spec = spec_of(paint)

    assert (spec["name"], spec["description"]) == ("paint", "Paints.")
    properties = spec["parameters"]["properties"]
    assert properties["colour"] == {"enum": ["red"], "type": "string"}
    assert properties["size"] == {"default": 1, "enum": [1, 2], "type": "integer"}
    assert properties["tags"]["anyOf"][0] == {"items": {"type": "string"}, "type": "array"}
    assert spec["parameters"]["required"] == ["what", "colour"]
    assert "$" not in json.dumps(spec)


@pytest.mark.parametrize("text", ["{", "nonsense", "(" * 10_000])
def test_arguments_beyond_reading(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parsed(text)
