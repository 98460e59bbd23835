"""The parts of the LlamaIndex engine that need no run."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_mode.agents.llamaindex.react import ReActText
from agent_mode.agents.toolbox import ToolResult
from agent_mode.errors import ToolError
from agent_mode.llm.assembly import Assembly, chunks_of
from agent_mode.tools.adapter import OpenWebUIToolAdapter
from agent_mode.tools.results import IMAGES_NOTE
from agent_mode.tools.specs import ToolSpec

PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}


# --- thought and answer


def told(text: str, cuts: list[int], *, is_answer: bool = True) -> dict[str, str]:
    """What is told of a text that comes in pieces."""
    react = ReActText()
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    found = {"thought": "", "answer": ""}
    for start, end in itertools.pairwise(places):
        for kind, words in react.feed(text[start:end]):
            found[kind] += words
    for kind, words in react.close(is_answer=is_answer):
        found[kind] += words
    return found


@pytest.mark.parametrize(
    ("text", "thought", "answer"),
    [
        ("Thought: I know.\nAnswer: Four.", "I know.", "Four."),
        ("Thought: I act.\nAction: add\nAction Input: {}", "I act.", ""),
        ("Thought: A.\nAction: add\nAction Input: {}\nAnswer: no", "A.", ""),
        ("Answer:\n Four.\n", "", "Four.\n"),
        ("It is four.", "", "It is four."),
        ("I add.\nAction: add\nAction Input: {}", "", ""),
        ("<think>x</think>Thought: A.\nAnswer: B. Action: C", "A.", "B. Action: C"),
        ("Thought: An Act and an Ans.", "An Act and an Ans.", ""),
        ("", "", ""),
    ],
)
@pytest.mark.parametrize("step", [1, 2, 3, 1000])
def test_thought_and_answer_are_told_apart(text: str, thought: str, answer: str, step: int) -> None:
    cuts = list(range(0, len(text), step))
    assert told(text, cuts) == {"thought": thought, "answer": answer}


WORDS = st.sampled_from(["Thought:", "Action:", "Answer:", " ", "\n", "A", "Act", "Thou", "x: ", "{}", "ü"])


@given(st.lists(WORDS, max_size=12).map("".join), st.lists(st.integers(0, 60), max_size=8), st.booleans())
def test_how_the_text_comes_in_pieces_makes_no_difference(
    text: str, cuts: list[int], is_answer: bool
) -> None:
    """A run that goes on counts the characters that were told."""
    pieces, whole = told(text, cuts, is_answer=is_answer), told(text, [], is_answer=is_answer)
    assert pieces["answer"] == whole["answer"]
    assert pieces["thought"].strip() == whole["thought"].strip()


# --- messages


MESSAGES: list[dict[str, Any]] = [
    {"role": "user", "content": "Hello"},
    {"role": "user", "content": [{"type": "text", "text": "Look"}, PICTURE]},
    {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}]},
    {"role": "assistant", "content": "Hi"},
    {
        "role": "assistant",
        "content": "I call.",
        "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "a", "arguments": '{"x": 1}'}},
            {"id": "2", "type": "function", "function": {"name": "b", "arguments": "{}"}},
        ],
    },
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "3", "type": "function", "function": {"name": "a", "arguments": "{}"}}],
    },
    {"role": "tool", "tool_call_id": "1", "content": "one"},
    {"role": "system", "content": "Be brief."},
]


@pytest.mark.parametrize("message", MESSAGES)
def test_messages_come_back_as_they_were(message: dict[str, Any]) -> None:
    from llama_index.llms.openai.utils import to_openai_message_dicts

    from agent_mode.agents.llamaindex.messages import chat_message

    [back] = to_openai_message_dicts([chat_message(message)], model="gpt-4o")
    assert back == message


def test_the_system_prompt_is_what_the_messages_begin_with() -> None:
    from agent_mode.agents.llamaindex.messages import split

    first = [{"role": "system", "content": "A"}, {"role": "developer", "content": "B"}]
    prompt, rest = split([*first, {"role": "user", "content": "C"}, {"role": "system", "content": "D"}])
    assert prompt == "A\n\nB"
    assert [(m.role.value, m.content) for m in rest] == [("user", "C"), ("system", "D")]
    assert split([]) == ("", [])


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user"},
        {"role": "user", "content": [{"type": "video_url", "video_url": {}}, "x", None]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {}}]},
        {"role": "alien", "content": "x"},
        {"role": "assistant", "content": "x", "tool_calls": [{"id": "1"}]},
    ],
)
def test_odd_messages_break_nothing(message: dict[str, Any]) -> None:
    from llama_index.llms.openai.utils import to_openai_message_dicts

    from agent_mode.agents.llamaindex.messages import chat_message

    assert to_openai_message_dicts([chat_message(message)], model="gpt-4o")


def test_pictures_of_tools_follow_all_results_of_a_step() -> None:
    from agent_mode.agents.llamaindex.messages import chat_message, with_pictures

    results = [
        {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "one"}, PICTURE]},
        {"role": "tool", "tool_call_id": "2", "content": [PICTURE]},
        {"role": "assistant", "content": "Ah."},
    ]
    shown = with_pictures([chat_message(message) for message in results])
    assert [m.role.value for m in shown] == ["tool", "tool", "user", "assistant"]
    assert [m.content for m in shown] == ["one", "[image]", IMAGES_NOTE, "Ah."]
    assert len(shown[2].blocks) == 3


# --- memory


def remembered(roles: str, limit: int, words: int = 100) -> str:
    """Which messages are kept, by the first letters of their roles."""
    from llama_index.core.base.llms.types import ChatMessage, MessageRole, TextBlock

    from agent_mode.agents.llamaindex.memory import TurnMemory

    kinds = {
        "u": MessageRole.USER,
        "a": MessageRole.ASSISTANT,
        "t": MessageRole.TOOL,
        "s": MessageRole.SYSTEM,
    }
    memory = TurnMemory(token_limit=limit)
    for letter in roles:
        text = IMAGES_NOTE if letter == "n" else "word" * words
        memory.put(ChatMessage(role=kinds.get(letter, MessageRole.USER), blocks=[TextBlock(text=text)]))
    kept = memory.get()
    letters = {kind: letter for letter, kind in kinds.items()}
    return "".join("n" if m.content == IMAGES_NOTE else letters[m.role] for m in kept)


@pytest.mark.parametrize(
    ("roles", "limit", "kept"),
    [
        ("uaua", 10_000, "uaua"),
        ("uauau", 330, "uau"),
        ("uatau", 330, "u"),
        ("uuatta", 150, "uatta"),
        ("suau", 220, "su"),
        ("usuau", 330, "suau"),
        ("auau", 330, "uau"),
        ("auau", 10_000, "auau"),
        ("uatnau", 250, "u"),
        ("tta", 100, "tta"),
        ("", 100, ""),
    ],
)
def test_whole_exchanges_are_forgotten(roles: str, limit: int, kept: str) -> None:
    assert remembered(roles, limit) == kept


@given(st.text("uats", min_size=1, max_size=30), st.integers(100, 3000))
def test_no_result_is_kept_without_its_call(roles: str, limit: int) -> None:
    kept = remembered(roles, limit, words=20)
    spoken = kept.replace("s", "")
    assert roles.replace("s", "").endswith(spoken)
    assert spoken == roles.replace("s", "") or spoken.startswith("u")
    assert "s" not in roles or kept.count("s") == roles.count("s")


# --- chunks of providers


def test_calls_that_come_in_one_chunk_are_taken_apart() -> None:
    from agent_mode.agents.llamaindex.transport import _readable

    calls = [
        {"index": 0, "id": "x", "function": {"name": "a", "arguments": "{}"}},
        {"index": 1, "id": "", "function": {"name": "b", "arguments": {"y": 1}}},
        "odd",
    ]
    chunk = {
        "choices": [{"index": 0, "delta": {"content": "So", "tool_calls": calls}, "finish_reason": "stop"}]
    }
    usage = {"choices": [], "usage": {"total_tokens": 3}}
    block = b"".join(b"data: %b\n\n" % json.dumps(part).encode() for part in (chunk, usage))
    whole = Assembly()
    told = list(chunks_of(_readable(block, whole, {"x"}, "new")))
    assert [len(part["choices"][0]["delta"]["tool_calls"]) for part in told[:2]] == [1, 1]
    assert told[-1] == usage
    assert whole.text == "So"
    assert [(c["id"], c["name"], c["arguments"]) for c in whole.calls.values()] == [
        ("new_0", "a", "{}"),
        ("new_1", "b", '{"y": 1}'),
    ]


def test_chunks_without_calls_are_passed_on_untouched() -> None:
    from agent_mode.agents.llamaindex.transport import _readable

    block = b'data: {"choices": [{"delta": {"content": "a"}}], "odd": 1.50}\n\n'
    assert _readable(block, Assembly(), set(), "new") is block


# --- tools

SPEC = ToolSpec(
    "find-it",
    "find-it",
    "Finds it.",
    {
        "type": "object",
        "properties": {
            "limit": {"type": "integer", "default": 5},
            "what": {"type": "string"},
            "kind": {"type": ["string", "null"], "enum": ["a", None]},
            "class": {"type": "string"},
            "odd": {},
        },
        "required": ["what"],
    },
    "request",
)


class Log:
    """Executes nothing, and gives what it is told to."""

    def __init__(self, result: ToolResult) -> None:
        self.result = result
        self.calls: list[tuple[str, dict[str, Any]]] = []

    async def __call__(self, name: str, arguments: dict[str, Any]) -> ToolResult:
        self.calls.append((name, arguments))
        return self.result


async def test_tools_as_callables() -> None:
    log = Log(ToolResult("found"))
    find = OpenWebUIToolAdapter([SPEC], log).callables()["find-it"]
    assert (find.__name__, find.__doc__) == ("find_it", "Finds it.")
    import inspect

    signature = inspect.signature(find)
    assert str(signature) == (
        "(*, what: str, limit: int = 5, kind: str | None = None, odd: Any = None) -> str"
    )
    assert await find(what="it", **{"class": "x"}) == "found"
    assert log.calls == [("find-it", {"what": "it", "class": "x"})]


async def test_a_callable_raises_what_the_tool_says() -> None:
    find = OpenWebUIToolAdapter([SPEC], Log(ToolResult("Error: gone", is_error=True))).callables()["find-it"]
    with pytest.raises(ToolError, match="gone"):
        await find(what="it")


async def test_a_callable_mentions_pictures() -> None:
    content = [{"type": "text", "text": "Here"}, PICTURE]
    find = OpenWebUIToolAdapter([SPEC], Log(ToolResult(content))).callables()["find-it"]
    assert await find(what="it") == "Here\n[image]"


async def test_tools_as_llamaindexs() -> None:
    from llama_index.core.base.llms.types import ImageBlock

    content = [{"type": "text", "text": "Here"}, PICTURE]
    log = Log(ToolResult(content, is_error=True))
    [tool] = OpenWebUIToolAdapter([SPEC], log).function_tools()
    assert (tool.metadata.name, tool.metadata.description) == ("find-it", "Finds it.")
    assert tool.metadata.get_parameters_dict() == SPEC.parameters
    output = await tool.acall(what="it")
    assert log.calls == [("find-it", {"what": "it"})]
    assert output.is_error
    assert output.content == "Here\n[image]"
    [image] = [block for block in output.blocks if isinstance(block, ImageBlock)]
    assert image.url == PICTURE["image_url"]["url"]
    [blind] = OpenWebUIToolAdapter([SPEC], log).function_tools(pictures=False)
    assert len((await blind.acall(what="it")).blocks) == 1


async def test_reserved_names_are_left_to_the_framework() -> None:
    specs = [ToolSpec(name, name, "", {}, "request") for name in ("handoff", "handoff_", "other")]
    log = Log(ToolResult("ok"))
    tools = OpenWebUIToolAdapter(specs, log).function_tools(reserved=["handoff"])
    names = [tool.metadata.name for tool in tools]
    assert names == ["handoff__", "handoff_", "other"]
    await tools[0].acall()
    assert log.calls == [("handoff", {})]


def test_of_a_message_with_countless_parts_the_first_are_read() -> None:
    from agent_mode.agents.llamaindex.messages import MAX_PARTS, blocks_of

    blocks = blocks_of([{"type": "text", "text": "x"}] * (MAX_PARTS + 2))

    assert len(blocks) == MAX_PARTS + 1
    assert getattr(blocks[-1], "text", "").startswith("[2 more parts")


def test_of_countless_messages_the_newest_exchanges_are_read() -> None:
    from agent_mode.agents.llamaindex.messages import MAX_MESSAGES, split

    system = {"role": "system", "content": "Be brief."}
    pair = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    prompt, history = split([system, *pair * MAX_MESSAGES, {"role": "user", "content": "Last"}])

    assert prompt == "Be brief."
    assert history[0].role == "user"
    assert history[-1].content == "Last"
    assert MAX_MESSAGES - 2 < len(history) <= MAX_MESSAGES
