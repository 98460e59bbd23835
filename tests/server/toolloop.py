"""The loop in which Open WebUI 0.12 executes the tool calls that a model streams (`utils/middleware.py`).

Facts that shape it, read in the source of 0.12.4 and tried against the running app:

- Calls run whatever the finish reason is, one after the other in their order, after the stream has ended.
- Their ids stay as the pipe sent them, unless one is used twice in a message; their arguments come back
  parsed and written anew, without spaces.
- The follow-up is the first request once more, every key of the inlet's reply included, with the messages
  of this round behind the earlier ones. Its inlet is not called.
- In a saved chat with approvals the loop ends at the first calls. Each approval is a request of its own,
  whose inlet *is* called. So is the rejection of the last call, and there the inlet sees calls and results.
- An error in the stream is shown, and the calls in the same stream run all the same.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.server import outputs
from tests.server.toolkit import CITED, REJECTED, Call, Toolkit, rewritten
from tests.server.wire import Stop, Stopped

Json = dict[str, Any]

BROKE = "(the connection broke)"
"""Stands among a round's stray lines when its stream had no end."""

_CITATIONS = (
    "### Task:\nRespond to the user query using the provided context, incorporating inline citations in the "
    "format [id] **only when the <source> tag includes an explicit id attribute** "
    '(e.g., <source id="1">).\n\n'
    "<context>\n{}\n</context>\n"
)
"""Open WebUI's template, its guidelines left out."""


class Round(Protocol):
    """The answer to one chat request."""

    status: int
    body: Any
    stray: list[str]

    @property
    def objects(self) -> list[Json]: ...


@dataclass
class ToolLoop:
    """One assistant message from its first request to its end.

    Args:
        tools: what the user has; None: calls are left as they are.
        user_id: who asks.
        saved: whether the chat is kept; where it is not, approvals are asked for in the middle of the loop.
        stop: the button.
        send: sends a chat request; returns what came, be it that Stop was pressed.
        before_followup: called when the results are there and the model is about to get them.
        output: the items of the message, whole rounds only.
        errors: what Open WebUI itself reports in the message.
        paused: whether calls wait for an approval.
    """

    tools: Toolkit | None
    user_id: str
    saved: bool
    stop: Stop
    send: Callable[[Json], Round]
    before_followup: Callable[[], None] = lambda: None
    output: list[Json] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    paused: bool = False
    _current: list[Json] = field(default_factory=list)
    """The items of the round under way."""
    _rounds: int = 0
    _cited: list[str] = field(default_factory=list)

    def run(self, form: Json, *, continuing: bool = False) -> None:
        """Sends the request and goes on until the model calls no more tools.

        Args:
            form: the body without `user`.
            continuing: whether the message goes on after an approval.
        """
        self.paused = False
        try:
            self._run(form, continuing)
        except Stopped:
            self._keep(self._current)
            _cancel(self.output)
            raise

    def _run(self, form: Json, continuing: bool) -> None:
        if continuing:
            self.output = _without_placeholder(self.output)
        form = {**form, "messages": _normalized(form["messages"])}
        messages = list(form["messages"])
        user = next((m for m in reversed(messages) if m["role"] == "user"), None)
        base = copy.deepcopy(user["content"]) if user else ""
        calls = self._round(form, continuing)
        executed = 0
        while calls and self.tools and (self.tools.rounds is None or executed < self.tools.rounds):
            executed += 1
            self._register(calls)
            if self.saved and self.tools.approve is not None:
                self._pause()
                return
            self._execute(calls, self.tools)
            if self._cited and user is not None:
                _cite(user, base, self._cited)
            told = outputs.to_messages(self._current)
            system = [m for m in form["messages"] if m["role"] == "system"]
            messages = [*system, *(m for m in messages if m["role"] != "system"), *told]
            self.before_followup()
            calls = self._followup({**form, "stream": True, "messages": _normalized(messages)}, continuing)
        if calls and self.tools:
            self.errors.append(f"Tool-call limit reached ({self.tools.rounds} iterations).")
        self._keep(self._current)
        for item in self.output:
            if item["status"] == "in_progress":
                item["status"] = "completed"

    def _followup(self, form: Json, continuing: bool) -> list[Json]:
        self._keep(self._current)
        try:
            return self._round(form, continuing)
        except OSError as error:
            self.errors.append(str(error))
            return []

    def _round(self, form: Json, continuing: bool) -> list[Json]:
        """Sends one request; returns the calls that it led to."""
        self._rounds += 1
        first = self._rounds == 1
        stream = outputs.Stream(self.output, continuing)
        self._current = stream.output
        reply = self.send(copy.deepcopy(form))
        for item in reply.objects:
            stream.feed(item)
        self.stop.check()
        if reply.body is not None:
            if not first:
                self.errors += [detail(reply.body)] if reply.status >= 400 else []
            elif reply.status == 200:
                self._current = _whole(reply.body)
            return []
        if BROKE in reply.stray:
            self.errors.append("Response payload is not completed")
            self._current = [] if first else stream.output  # the first stream's words are never stored
            return []
        calls = stream.finish()
        self._current = stream.output
        return calls

    def _register(self, calls: list[Json]) -> None:
        """The calls as items of the message; those that were split get theirs only now."""
        known = {item["call_id"]: item for item in outputs.calls_in(self._current)}
        for call in calls:
            item = known.get(call["id"])
            if item is None:
                item = {
                    "type": "function_call",
                    "id": call["id"],
                    "call_id": call["id"],
                    "status": "in_progress",
                }
                self._current.append(item)
            item.update(call["function"])
            name, arguments = call["function"]["name"], call["function"]["arguments"]
            self.calls.append(Call(call["id"], name, arguments, self._rounds))

    def _execute(self, calls: list[Json], tools: Toolkit) -> None:
        records = self.calls[-len(calls) :]
        for record in records:
            tools.execute(record, self.user_id, self.stop, ask=tools.approve is not None)
        for record in records:
            self._current.append(_result(record))
            self._cited += _sources(record)
            item = next(i for i in outputs.calls_in(self._current) if i["call_id"] == record.id)
            item.update(status=record.status, arguments=rewritten(record))

    def _keep(self, items: list[Json]) -> None:
        """Ends a round: its items belong to the message now."""
        self.output = _without_placeholder([*self.output, *items])
        self._current = []

    def _pause(self) -> None:
        self._keep(self._current)
        first, *others = _unanswered(self.output)
        first["status"] = "pending"
        for item in others:
            item["status"] = "queued"
        self.paused = True

    def decide(self, prepare: Callable[[list[Json]], Json]) -> None:
        """The user's word on the first waiting call, and what follows from it.

        Args:
            prepare: makes the body of the request that resumes the message, behind the inlet; gets the
                messages of the answer so far, where they come before the inlet.
        """
        assert self.tools is not None
        assert self.tools.approve is not None
        item = outputs.pending(self.output)[0]
        record = next(call for call in self.calls if call.id == item["call_id"])
        if self.tools.approve(record):
            form = prepare([])
            self.tools.execute(record, self.user_id, self.stop)
            item.update(status=record.status, arguments=rewritten(record))
        else:
            record.result, record.status = REJECTED, "rejected"
            item["status"] = "rejected"
            form = None
        self.output.append(_result(record))
        if waiting := outputs.pending(self.output):
            waiting[0]["status"] = "pending"
            return
        self.before_followup()
        told = outputs.to_messages(self.output)
        if form is None:
            self.run(prepare(told), continuing=True)
        else:
            self.run({**form, "messages": [*form["messages"], *told]}, continuing=True)


def detail(body: Any) -> str:
    """What Open WebUI shows of an error response."""
    while isinstance(body, dict):
        found = next((body[key] for key in ("error", "message", "detail") if key in body), None)
        if found is None:
            return str(body)
        body = found
    return str(body)


def _whole(body: Any) -> list[Json]:
    """The items of an answer that did not stream: its words; tool calls in it are lost."""
    choices = body.get("choices") if isinstance(body, dict) else None
    message = choices[0].get("message", {}) if choices else {}
    if not (message.get("content") or message.get("tool_calls")):
        return []
    return [outputs.message_item(message.get("content") or "", "completed")]


def _result(record: Call) -> Json:
    return outputs.result_item(record.id, record.result, record.status, record.images)


def _without_placeholder(output: list[Json]) -> list[Json]:
    """Without an empty message at the end."""
    last = output[-1] if output else {}
    empty = last.get("type") == "message" and not "".join(p["text"] for p in last["content"]).strip()
    return output[:-1] if empty else output


def _unanswered(output: list[Json]) -> list[Json]:
    answered = {item["call_id"] for item in outputs.results_in(output)}
    calls = outputs.calls_in(output)
    return [item for item in calls if item["call_id"] not in answered and item["status"] != "rejected"]


def _cancel(output: list[Json]) -> None:
    running = [item for item in output if item["status"] == "in_progress"]
    for item in [*running, *(item for item in _unanswered(output) if item["status"] == "completed")]:
        item["status"] = "incomplete"


def _normalized(messages: list[Json]) -> list[Json]:
    """One system message at most, in front, and no empty text part beside other parts."""
    system = [
        message["content"] for message in messages if message["role"] == "system" and message["content"]
    ]
    others = [message for message in messages if message["role"] != "system"]
    for message in others:
        if isinstance(message["content"], list):
            full = [p for p in message["content"] if p.get("type") != "text" or p.get("text", "").strip()]
            message["content"] = full or message["content"]
    return [{"role": "system", "content": "\n".join(system)}, *others] if system else others


def _sources(record: Call) -> list[str]:
    """The names of the sources that a result counts as, once for each part of them."""
    if record.name not in CITED or not record.result:
        return []
    try:
        value = json.loads(record.result)
    except ValueError:
        value = record.result
    if isinstance(value, dict) and "error" in value:
        return []
    match record.name:
        case "fetch_url":
            return [record.arguments.get("url") or "fetch_url"]
        case "view_file" | "view_knowledge_file":
            return [value.get("filename", "Unknown File")] if isinstance(value, dict) else []
        case _:
            chunks = value if isinstance(value, list) else []
            names = [chunk.get("source", "Unknown") for chunk in chunks]
            return sorted(names, key=names.index)


def _cite(user: Json, base: Any, names: list[str]) -> None:
    """Puts the citation prompt in front of the user's words."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names), 1)}
    sources = "\n".join(f'<source id="{numbers[name]}" name="{name}"></source>' for name in names)
    prompt = _CITATIONS.format(sources)
    if isinstance(base, str):
        user["content"] = f"{prompt}\n{base}"
        return
    parts = copy.deepcopy(base)
    for part in parts:
        if part.get("type") == "text":
            part["text"] = f"{prompt}\n{part['text']}"
    user["content"] = parts
