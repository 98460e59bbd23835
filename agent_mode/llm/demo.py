"""The built-in demo model: answers without a key, so that the whole path can be seen.

It speaks the same protocol as a provider (OpenAI's chat completions) and says who it was told to be and
what it was asked. It answers Open WebUI's background tasks in the JSON that those expect.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
import uuid
from collections.abc import AsyncGenerator
from typing import Any

from agent_mode.llm.connection import DEMO_MODEL as MODEL

TOKEN_SECONDS = 0.02
"""Pause between two words."""


def _enclosed(tag: str, attributes: str = "") -> re.Pattern[str]:
    """A tag with its text. Linear: each opening is followed only up to the next one."""
    return re.compile(rf"<{tag}{attributes}>((?:[^<]++|<(?!/?{tag}\b))*+)</{tag}>\s*+")


_BLOCK = _enclosed("agent_mode", ' agent="([^"<>]{0,128})"')
_PIVOT = _enclosed("agent_mode_pivot")
_OTHERS = _enclosed("others")
_ROLE = re.compile(r"\bYou are (?:now |an? |the )?([^.,;:\n]{2,80})")
_QUESTION = re.compile(r"most relevant to the question: '(.*)'", re.DOTALL)
_CHOICE = re.compile(r"^\((\d{1,6})\) (.*)$", re.MULTILINE)
_LONG_WORD = re.compile(r"\w{4,}")
_PIECE = re.compile(r"\S+\s*|\s+")
_SAID = re.compile(r"(?:USER|user):\s*(?:![\w-]+\s+)*([^\n]+)")
_QUOTATION = re.compile("<chat_history>|<context>|### Chat History")
"""Where a task prompt ends and the chat or the documents begin, which may hold any words."""
_QUOTED = 200

CONNECT = (
    "To get real answers, connect a model: set `OPENAI_API_BASE_URL` and `OPENAI_API_KEY` before "
    "`./start.sh`, or fill in `llm_base_url`, `llm_api_key` and `llm_model` under "
    "Admin Panel → Settings → Pipelines → personas."
)


async def stream(payload: dict[str, Any]) -> AsyncGenerator[bytes, None]:
    """The answer as `data:` lines, a word at a time."""
    base = {"id": f"demo-{uuid.uuid4().hex}", "object": "chat.completion.chunk", "created": int(time.time())}
    base["model"] = MODEL

    def line(delta: dict[str, Any], finish: str | None = None, **extra: Any) -> bytes:
        choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
        return f"data: {json.dumps({**base, 'choices': choices, **extra})}\n\n".encode()

    text = answer(payload)
    yield line({"role": "assistant", "content": ""})
    for word in _PIECE.findall(text):
        yield line({"content": word})
        await asyncio.sleep(TOKEN_SECONDS)
    yield line({}, "stop", usage=_usage(payload, text))
    yield b"data: [DONE]\n\n"


def complete(payload: dict[str, Any]) -> dict[str, Any]:
    """The answer as one completion object."""
    text = answer(payload)
    return {
        "id": f"demo-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": MODEL,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": _usage(payload, text),
    }


def answer(payload: dict[str, Any]) -> str:
    """What the demo model says to these messages."""
    texts = [(str(m.get("role")), _text(m)) for m in payload.get("messages", []) if isinstance(m, dict)]
    asked = next((text for role, text in reversed(texts) if role == "user"), "")
    if choice := _choice(asked):
        return choice
    if asked.lstrip().startswith("### Task:") and (answered := _task_answer(asked)):
        return answered
    asked = _OTHERS.sub("", _PIVOT.sub("", _BLOCK.sub("", asked))).strip()
    block = next((match for _, text in texts for match in _BLOCK.finditer(text)), None)
    told = _ROLE.search(block[2]) if block else None
    who = f"**{block[1]}**" if block else "nobody in particular"
    role = f" (“{told[0]} …”)" if told else ""
    quoted = asked if len(asked) <= _QUOTED else asked[:_QUOTED] + " …"
    return (
        f"I am the built-in **demo model**. I was told to be {who}{role}, and you asked:\n\n"
        f"> {quoted.replace(chr(10), chr(10) + '> ') or '(nothing)'}\n\n{CONNECT}"
    )


def _choice(prompt: str) -> str | None:
    """The answer to LlamaIndex's selector: the choice that shares most words with the question."""
    if not prompt.startswith("Some choices are given below"):
        return None
    question, choices = _QUESTION.search(prompt), _CHOICE.findall(prompt)
    if question is None or not choices:
        return None
    words = set(_LONG_WORD.findall(question[1].lower()))
    best = max(choices, key=lambda choice: len(words.intersection(_LONG_WORD.findall(choice[1].lower()))))
    return json.dumps([{"choice": int(best[0]), "reason": "It shares most words with the question."}])


def _task_answer(prompt: str) -> str | None:
    """The answer to a background task; None for what only looks like one (a knowledge template)."""
    task = _QUOTATION.split(prompt, maxsplit=1)[0]
    if '"tags"' in task:
        return json.dumps({"tags": ["Demo"]})
    if '"follow_ups"' in task:
        return json.dumps({"follow_ups": []})
    if '"queries"' in task:
        return json.dumps({"queries": []})
    if '"title"' in task:
        return json.dumps({"title": _title(prompt)}, ensure_ascii=False)
    if '"text"' in task:
        return json.dumps({"text": ""})
    return None


def _title(prompt: str) -> str:
    """The first words of the user's first line in the chat history that the task quotes."""
    said = _SAID.search(prompt)
    words = said[1].split()[:5] if said else []
    return " ".join(words) or "Demo chat"


def _text(message: dict[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return "\n".join(str(p.get("text", "")) for p in content if isinstance(p, dict))
    return content if isinstance(content, str) else ""


def _usage(payload: dict[str, Any], text: str) -> dict[str, int]:
    """Words, since the demo has no tokenizer."""
    prompt = sum(len(_text(m).split()) for m in payload.get("messages", []) if isinstance(m, dict))
    answered = len(text.split())
    return {"prompt_tokens": prompt, "completion_tokens": answered, "total_tokens": prompt + answered}
