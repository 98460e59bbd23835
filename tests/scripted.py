"""What a scripted model of the provider double does: a small play, written into the user's message.

    think: I should roll first.
    tell: Let me see.
    call: roll_dice {"sides": 6} & weather {"city": "Rome"}
    then call: add {"a": 1, "b": 2}
    then say: It is {results}.

Each `call`, `say` and `like` is one reply of the model. Which one is due follows from the transcript alone
(the rounds of tool calls since the user's last message), so any number of chats can run at once.

| line                  | the reply |
|-----------------------|-----------|
| `call: a {…} & b {…}` | calls these tools at once; `{…}` may be missing; text in backticks is sent as is |
| `say: …`              | these words; `{results}` stands for what the tools returned |
| `like: stub-503`      | what that model of the provider's table does |
| `think: …`            | reasoning in front of the next reply |
| `tell: …`             | words in front of the next reply's calls |

A line begins with its word, or with `then` and its word; `then` may also stand within a line. When the play
is over (or has only calls), the model says "I saw: …" with the results in the order of their calls. Only the
last message of the user counts: plays in system prompts, earlier turns and arguments are words like others.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

Json = Mapping[str, Any]

IMAGES_NOTE = "Here are the images from the tool results above. Please analyze them."
"""The user message in which Open WebUI hands over the images of tool results."""
SEEN_WHOLE = 400
"""Longest result in characters that "I saw" repeats in full."""

_CUE = re.compile(r"(?:^[ \t]*(?:then[ \t]+)?|\bthen[ \t]+)(call|say|like|think|tell):[ \t]*", re.MULTILINE)
_NAME = re.compile(r"\s*([^\s{}&`]+)\s*")
_AND = re.compile(r"\s*&\s*")
_REACT = ("Action Input:", "Observation:")


@dataclass(frozen=True)
class Step:
    """One reply of the model.

    Args:
        calls: name and JSON text of the arguments of each call.
        say: the words; None where the step calls.
        like: the model of the provider's table to imitate.
        tell: words in front of the calls.
    """

    calls: tuple[tuple[str, str], ...] = ()
    say: str | None = None
    like: str | None = None
    reasoning: str = ""
    tell: str = ""


def play(text: str) -> list[Step]:
    """The steps that a message asks for; none, when it holds no play."""
    steps: list[Step] = []
    next_step = Step()
    place = 0
    while cue := _CUE.search(text, place):
        place = cue.end()
        if cue[1] == "call":
            calls, place = _calls(text, place)
            steps.append(replace(next_step, calls=calls))
            next_step = Step()
            continue
        words, place = _words(text, place)
        match cue[1]:
            case "think":
                next_step = replace(next_step, reasoning=words)
            case "tell":
                next_step = replace(next_step, tell=words)
            case "say":
                steps.append(replace(next_step, say=words))
                next_step = Step()
            case "like":
                steps.append(replace(next_step, like=words))
                next_step = Step()
    return steps


def _words(text: str, place: int) -> tuple[str, int]:
    """Up to the end of the line or the next cue in it."""
    line_end = text.find("\n", place)
    end = len(text) if line_end < 0 else line_end
    following = _CUE.search(text, place)
    if following and following.start() < end:
        end = following.start()
    return text[place:end].strip(), end


def _calls(text: str, place: int) -> tuple[tuple[tuple[str, str], ...], int]:
    calls: list[tuple[str, str]] = []
    while name := _NAME.match(text, place):
        arguments, place = "{}", name.end()
        if text[place : place + 1] == "{":
            start = place
            _, place = json.JSONDecoder().raw_decode(text, place)
            arguments = text[start:place]
        elif text[place : place + 1] == "`":
            arguments, _, _ = text[place + 1 :].partition("`")
            place += len(arguments) + 2
        calls.append((name[1], arguments))
        another = _AND.match(text, place)
        if not another:
            break
        place = another.end()
    return tuple(calls), place


@dataclass(frozen=True)
class Scene:
    """Where in its play a transcript stands.

    Args:
        asked: the user's last words.
        steps: of the play in them.
        rounds: how many replies with calls were made since.
        results: what the tools returned since, in the order of their calls; None: no result came.
        images: how many images came with them.
    """

    asked: str
    steps: list[Step]
    rounds: int
    results: list[str | None]
    images: int = 0

    @property
    def due(self) -> Step:
        """The reply to make now."""
        if self.rounds < len(self.steps):
            step = self.steps[self.rounds]
            return replace(step, say=step.say.replace("{results}", self.seen)) if step.say else step
        return Step(say=f"I saw: {self.seen}") if self.rounds else Step(say=f"Hello from stub: {self.asked}")

    @property
    def seen(self) -> str:
        images = f" (and {self.images} images)" if self.images else ""
        return (
            " | ".join("(no result)" if result is None else seen(result) for result in self.results) + images
        )


def seen(result: str) -> str:
    """How "I saw" repeats one result: in full, or what proves that it came whole."""
    if len(result) <= SEEN_WHOLE:
        return result
    digest = hashlib.sha256(result.encode()).hexdigest()[:12]
    return f"{result[:40]}… ({len(result)} characters, {digest})"


def scene(messages: Sequence[Json]) -> Scene:
    """Reads a transcript with tool calls (role `tool`)."""
    asked, since = _since_user(messages)
    outputs = {m.get("tool_call_id"): text_of(m.get("content")) for m in since if m.get("role") == "tool"}
    calling = [m for m in since if m.get("role") == "assistant" and m.get("tool_calls")]
    results = [outputs.get(call.get("id")) for message in calling for call in message["tool_calls"]]
    return Scene(asked, play(asked), len(calling), results, sum(map(_images, since)))


def react_scene(messages: Sequence[Json]) -> Scene:
    """Reads a transcript in the ReAct format: results are messages that begin with `Observation:`.

    A ReAct model calls one tool at a time, so parallel calls of the play become steps of their own.
    """
    asked, since = _since_user(messages)
    steps = [
        one
        for step in play(asked)
        for one in ([replace(step, calls=(call,)) for call in step.calls] if step.calls else [step])
    ]
    observed = [text.removeprefix("Observation:").strip() for text in map(_observation, since) if text]
    return Scene(asked, steps, len(observed), list(observed))


def speaks_react(messages: Sequence[Json]) -> bool:
    """Whether the system prompt explains the ReAct format, as LlamaIndex's header does."""
    system = "\n".join(
        text_of(m.get("content")) for m in messages if m.get("role") in ("system", "developer")
    )
    return all(word in system for word in _REACT)


def in_react(step: Step) -> str:
    """A step as a ReAct model writes it."""
    if step.calls:
        ((name, arguments),) = step.calls
        thought = step.reasoning or step.tell or "I need to use a tool to help me answer the question."
        return f"Thought: {thought}\nAction: {name}\nAction Input: {arguments}"
    thought = (
        step.reasoning or "I can answer without using any more tools. I'll use the user's language to answer"
    )
    return f"Thought: {thought}\nAnswer: {step.say}"


def text_of(content: object) -> str:
    """The words of a message's content, be it a string or a list of parts."""
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _since_user(messages: Sequence[Json]) -> tuple[str, list[Json]]:
    """The last words that are really the user's, and what came after them."""
    since: list[Json] = []
    for message in reversed(messages):
        if message.get("role") == "user" and not _is_handed_over(message):
            return text_of(message.get("content")), since[::-1]
        since.append(message)
    return "", since[::-1]


def _is_handed_over(message: Json) -> bool:
    """Whether a user message holds results of tools, and no words of the user."""
    text = text_of(message.get("content"))
    return IMAGES_NOTE in text or text.startswith("Observation:")


def _observation(message: Json) -> str:
    text = text_of(message.get("content"))
    return text if message.get("role") in ("user", "tool") and text.startswith("Observation:") else ""


def _images(message: Json) -> int:
    return sum(1 for part in _parts(message) if part.get("type") == "image_url")


def _parts(message: Json) -> Iterator[Json]:
    content = message.get("content")
    if isinstance(content, list):
        yield from (part for part in content if isinstance(part, dict))
