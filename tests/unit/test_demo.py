"""The demo model: says who it was told to be and what it was asked, and speaks a provider's protocol."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent_mode.chat.commands import Grammar
from agent_mode.chat.switching import plan_turn
from agent_mode.llm import demo
from agent_mode.llm.sse import SseReader
from agent_mode.prompts.reset import Identity
from agent_mode.prompts.strategies import StrategyBook
from agent_mode.prompts.templates import TemplateSet

STRATEGIES = Path(__file__).parents[2] / "strategies"
CODER = Identity("coder", "Coder", "You are a software engineer, who tests.")
WRITER = Identity("writer", "Writer", "You are an author. You write.")
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def payload(*messages: tuple[str, Any]) -> dict[str, Any]:
    return {
        "model": demo.MODEL,
        "messages": [{"role": role, "content": content} for role, content in messages],
    }


def asked(text: str) -> dict[str, Any]:
    return payload(("user", text))


def test_it_says_that_it_is_the_demo_and_what_to_do() -> None:
    text = demo.answer(asked("What is a monad?"))
    assert "demo model" in text
    assert "nobody in particular" in text
    assert "> What is a monad?" in text
    for name in ("OPENAI_API_BASE_URL", "OPENAI_API_KEY", "llm_base_url", "llm_api_key", "llm_model"):
        assert name in text


@pytest.mark.parametrize("model", ["agent-mode-demo", "gpt-4o", "claude-3-opus-20240229", "gemma3:4b", "o3"])
@pytest.mark.parametrize("switched", [True, False])
def test_it_says_who_it_was_told_to_be(model: str, switched: bool) -> None:
    messages = payload(
        ("system", "Be brief."), ("user", "hi"), ("assistant", "hello"), ("user", "!coder why?")
    )
    plan = plan_turn(
        messages["messages"],
        CODER,
        WRITER,
        StrategyBook(STRATEGIES).select(model).strategy,
        TemplateSet(STRATEGIES / "templates"),
        Grammar({"coder"}),
        switched=switched,
    )
    text = demo.answer({"messages": plan.messages})
    assert "I was told to be **coder**" in text
    assert "> why?\n" in text
    assert "agent_mode" not in text
    assert "writer" not in text
    if not switched:
        assert "“You are a software engineer …”" in text


@pytest.mark.parametrize(
    ("content", "quoted"),
    [
        ("one\ntwo", "> one\n> two\n"),
        ("", "> (nothing)\n"),
        ("x" * 500, "> " + "x" * 200 + " …\n"),
        ([{"type": "text", "text": "what is this?"}, IMAGE], "> what is this?\n"),
        ([IMAGE], "> (nothing)\n"),
        (None, "> (nothing)\n"),
    ],
)
def test_what_it_was_asked(content: Any, quoted: str) -> None:
    assert quoted in demo.answer(payload(("user", content)))


def test_the_last_question_counts() -> None:
    text = demo.answer(payload(("user", "first"), ("assistant", "second"), ("user", "third"), ("tool", "42")))
    assert "> third\n" in text
    assert "first" not in text


@pytest.mark.parametrize("messages", [[], [{"role": "system", "content": "x"}], ["odd", None]])
def test_without_a_question(messages: list[Any]) -> None:
    assert "(nothing)" in demo.answer({"messages": messages})


HISTORY = (
    '### Chat History:\n<chat_history>\nUSER: {}\nASSISTANT: "tags" and "queries" and "text"\n</chat_history>'
)


def task(output: str, said: str = "!coder fix the login form in my web shop") -> dict[str, Any]:
    head = f"### Task:\nDo something for the user.\n### Output:\nJSON format: {output}\n"
    return asked(head + HISTORY.format(said))


@pytest.mark.parametrize(
    ("output", "answer"),
    [
        ('{ "title": "your concise title here" }', {"title": "fix the login form in"}),
        ('{ "tags": ["tag1", "tag2"] }', {"tags": ["Demo"]}),
        ('{ "follow_ups": ["Question 1?"] }', {"follow_ups": []}),
        ('{ "queries": ["query1", "query2"] }', {"queries": []}),
        ('{ "text": "..." }', {"text": ""}),
    ],
)
def test_background_tasks_get_their_json(output: str, answer: dict[str, Any]) -> None:
    assert json.loads(demo.answer(task(output))) == answer


def test_a_title_without_a_chat() -> None:
    assert json.loads(demo.answer(asked('### Task:\nJSON: {"title": "x"}'))) == {"title": "Demo chat"}
    title = demo.answer(task('{ "title": "x" }', "grüße 世界"))
    assert json.loads(title) == {"title": "grüße 世界"}


def test_a_knowledge_template_is_no_task() -> None:
    source = '<source>"title" and "tags"</source>'
    template = f"### Task:\nRespond to the user query.\n<context>\n{source}\n</context>\nHow?"
    assert "demo model" in demo.answer(asked(template))


async def test_stream_is_what_a_provider_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "TOKEN_SECONDS", 0)
    request = asked("What is a monad?")
    reader = SseReader()
    blocks = [reader.feed(block) async for block in demo.stream(request)]
    blocks.append(reader.close())
    chunks = [json.loads(line[6:]) for line in b"".join(blocks).split(b"\n\n") if line]
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks) == demo.answer(request)
    assert len(chunks) > 10
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert (reader.facts.finish_reason, reader.facts.done) == ("stop", True)
    assert reader.facts.usage is not None
    assert reader.facts.usage["prompt_tokens"] == 4


def test_complete() -> None:
    request = asked("What is a monad?")
    data = demo.complete(request)
    assert data["object"] == "chat.completion"
    assert data["choices"][0]["message"] == {"role": "assistant", "content": demo.answer(request)}
    assert data["choices"][0]["finish_reason"] == "stop"
    usage = data["usage"]
    assert usage["prompt_tokens"] + usage["completion_tokens"] == usage["total_tokens"]
