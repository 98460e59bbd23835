"""How Open WebUI 0.12 keeps an answer: as a list of output items, which later become messages again.

`Stream` turns the chunks of one answer into items and tool calls, as its middleware does; `to_messages` turns
stored items into what the model is sent, in the tool loop and in later turns. All of it is pure.
"""

from __future__ import annotations

import copy
import json
import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

IMAGES_NOTE = "Here are the images from the tool results above. Please analyze them."
"""Under these words of a made-up user message the images of tool results reach the model."""

_THOUGHT = re.compile(
    r"<(think|thinking|reason|reasoning|thought|Thought)(?:\s[^>]*)?>(.*?)</\1>\s*", re.DOTALL
)
_BAD_STARTS = ("error:", "exception:", "traceback", "http error!")
_ENDED = frozenset({"completed", "failed", "rejected"})


def new_id(prefix: str) -> str:
    return f"{prefix}_{uuid.uuid4().hex[:24]}"


def compact(value: object) -> str:
    """JSON as Open WebUI writes a call's arguments back."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def message_item(text: str, status: str = "in_progress") -> Json:
    content = [{"type": "output_text", "text": text}]
    return {
        "type": "message",
        "id": new_id("msg"),
        "status": status,
        "role": "assistant",
        "content": content,
    }


def reasoning_item(text: str) -> Json:
    content = [{"type": "output_text", "text": text}]
    return {"type": "reasoning", "id": new_id("r"), "status": "completed", "content": content}


def result_item(call_id: str, text: str, status: str, images: Iterable[str] = ()) -> Json:
    """What a tool returned, as it is stored."""
    parts = [{"type": "input_text", "text": text}]
    parts += [{"type": "input_image", "image_url": url} for url in images]
    return {
        "type": "function_call_output",
        "id": new_id("fco"),
        "call_id": call_id,
        "output": parts,
        "status": status,
    }


@dataclass
class Stream:
    """One streamed answer on its way into output items.

    Args:
        before: the items of this message from earlier rounds.
        continuing: whether the message goes on after an approval; its text is not trimmed then.
    """

    before: list[Json] = field(default_factory=list)
    continuing: bool = False
    output: list[Json] = field(default_factory=list)
    calls: list[Json] = field(default_factory=list)
    """The tool calls in the order in which they came, each with `id`, `index` and `function`."""

    def feed(self, chunk: Any) -> None:
        """Takes one parsed `data:` line; what fits no rule is passed over, as there."""
        choices = chunk.get("choices") if isinstance(chunk, dict) else None
        if not isinstance(choices, list) or not choices or "selected_model_id" in chunk:
            return
        delta = choices[0].get("delta")  # a second choice is never looked at
        if not isinstance(delta, dict):
            return
        if calls := delta.get("tool_calls"):
            for call in calls:
                self._call(call)
            self._show_calls()
        if thought := delta.get("reasoning_content") or delta.get("reasoning") or delta.get("thinking"):
            _add_text(self._thoughts(), str(thought))
        if text := delta.get("content"):
            if not self.output or self.output[-1]["type"] != "message":
                self.output.append(message_item(""))
            _add_text(self.output[-1], str(text))

    def _call(self, delta: Json) -> None:
        index = delta.get("index")
        if index is None:
            return  # a call without an index is dropped
        function = delta.get("function") or {}
        arguments = function.get("arguments")
        if arguments is not None and not isinstance(arguments, str):
            arguments = compact(arguments)
        known = next((call for call in self.calls if call["index"] == index), None)
        if known is not None:
            known["function"]["name"] = function.get("name") or known["function"]["name"]
            known["function"]["arguments"] += arguments or ""
            return
        call_id = delta.get("id") or new_id("fc")
        if any(item.get("call_id") == call_id for item in calls_in([*self.before, *self.output])):
            call_id = new_id("fc")  # some providers begin their ids anew in every round
        named = {"name": function.get("name") or "", "arguments": arguments or ""}
        self.calls.append({"id": call_id, "index": index, "function": named})

    def _show_calls(self) -> None:
        shown = {item["call_id"]: item for item in calls_in(self.output)}
        for call in self.calls:
            item = shown.get(call["id"])
            if item is None:
                item = {"type": "function_call", "id": call["id"], "call_id": call["id"]}
                self.output.append(item)
                shown[call["id"]] = item
            item.update(call["function"], status="in_progress")

    def _thoughts(self) -> Json:
        """Where the next reasoning goes: never behind words of the answer."""
        words = next((n for n, item in enumerate(self.output) if item["type"] == "message"), None)
        known = [item for item in self.output if item["type"] == "reasoning"]
        if known and (words is not None or self.output[-1] is known[-1]):
            return known[-1]
        item = reasoning_item("")
        self.output.insert(len(self.output) if words is None else words, item)
        return item

    def finish(self) -> list[Json]:
        """Trims the output; returns the calls to execute, one for each JSON object of arguments."""
        self.output = [part for item in self.output for part in _without_thoughts(item)]
        last = self.output[-1] if self.output else {}
        if last.get("type") == "message" and not self.continuing:
            last["content"][-1]["text"] = last["content"][-1]["text"].strip()
            if not last["content"][-1]["text"]:
                self.output.pop()
        for item in calls_in(self.output):
            item["status"] = "completed"
        return _split(self.calls)


def _add_text(item: Json, text: str) -> None:
    item["content"][-1]["text"] += text


def _without_thoughts(item: Json) -> list[Json]:
    """A message in two parts where a model wrote its thoughts into the text."""
    if item["type"] != "message":
        return [item]
    text = item["content"][-1]["text"]
    thoughts = [match[2].strip() for match in _THOUGHT.finditer(text)]
    if not thoughts:
        return [item]
    rest = _THOUGHT.sub("", text)
    return [*map(reasoning_item, thoughts), *([message_item(rest)] if rest.strip() else [])]


def _split(calls: list[Json]) -> list[Json]:
    """A call whose arguments are several JSON objects in a row becomes several calls, under new ids."""
    split: list[Json] = []
    for call in calls:
        objects = _objects(call["function"]["arguments"])
        if len(objects) <= 1:
            split.append(call)
            continue
        for arguments in objects:
            clone = copy.deepcopy(call)
            clone["id"] = new_id("call")
            clone["function"]["arguments"] = arguments
            split.append(clone)
    return split


def _objects(text: str) -> list[str]:
    objects: list[str] = []
    place = 0
    while place < len(text):
        if text[place].isspace():
            place += 1
            continue
        try:
            _, end = json.JSONDecoder().raw_decode(text, place)
        except json.JSONDecodeError:
            return [text]
        objects.append(text[place:end])
        place = end
    return objects


def calls_in(output: Iterable[Json]) -> list[Json]:
    return [item for item in output if item["type"] == "function_call"]


def results_in(output: Iterable[Json]) -> list[Json]:
    return [item for item in output if item["type"] == "function_call_output"]


def pending(output: list[Json]) -> list[Json]:
    """The calls that wait for an approval."""
    answered = {item["call_id"] for item in results_in(output)}
    waiting = {"pending", "queued", "in_progress"}
    return [c for c in calls_in(output) if c["call_id"] not in answered and c["status"] in waiting]


def is_error(text: str) -> bool:
    """Whether a result counts as failed."""
    if text.strip().lower().startswith(_BAD_STARTS):
        return True
    try:
        value = json.loads(text)
    except ValueError:
        return False
    if not isinstance(value, dict):
        return False
    status = str(value.get("status")).strip().lower()
    refused = value.get("success") is False or value.get("ok") is False
    return (
        bool(value.get("error")) or status in {"error", "failed"} or (refused and bool(value.get("message")))
    )


def text_of(output: list[Json]) -> str:
    """The words of an answer, as the page and the outlet have them."""
    texts = ["".join(p["text"] for p in item["content"]) for item in output if item["type"] == "message"]
    return "\n".join(text for text in texts if text.strip())


def to_messages(output: list[Json]) -> list[Json]:
    """An answer as the model is sent it: calls without a result are left out, reasoning is, too."""
    answered = {item["call_id"] for item in results_in(output)}
    paired = {c["call_id"] for c in calls_in(output) if c["call_id"] in answered and c["status"] in _ENDED}
    messages: list[Json] = []
    words: list[str] = []
    calls: list[Json] = []
    results: list[Json] = []

    def flush_words() -> None:
        if words or calls:
            message: Json = {"role": "assistant", "content": "\n".join(words)}
            messages.append({**message, "tool_calls": [*calls]} if calls else message)
            words.clear()
            calls.clear()

    def flush_results() -> None:
        if not results:
            return
        flush_words()
        images: list[str] = []
        for item in results:
            text = "".join(part["text"] for part in item["output"] if part["type"] == "input_text")
            messages.append({"role": "tool", "tool_call_id": item["call_id"], "content": text})
            images += [part["image_url"] for part in item["output"] if part["type"] == "input_image"]
        if images:
            messages.append(_images_message(images))
        results.clear()

    for item in output:
        if item["type"] != "function_call_output":
            flush_results()
        if item["type"] == "message":
            words += [text for text in ["".join(part["text"] for part in item["content"])] if text]
        elif item["type"] == "function_call" and item["call_id"] in paired:
            function = {"name": item["name"], "arguments": item["arguments"]}
            calls.append({"id": item["call_id"], "type": "function", "function": function})
        elif item["type"] == "function_call_output" and item["call_id"] in paired:
            results.append(item)
    flush_results()
    flush_words()
    return messages


def _images_message(urls: list[str]) -> Json:
    images = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return {"role": "user", "content": [{"type": "text", "text": IMAGES_NOTE}, *images]}
