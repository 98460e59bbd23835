"""Acts towards a Pipelines server as Open WebUI 0.12 does: filters and inlets first, then the chat request.

chat = OpenWebUI(server).chat()
chat.ask("Hello", "personas.coder").text
chat.ask("And now?")                          # the same model, on the branch that is shown
chat.regenerate(); chat.edit("Better", back=2); chat.go_to(answer)

answer = chat.ask("Roll!", "personas.coder", tools=Toolkit(roll_dice))     # the whole loop of tool calls
answer.text, answer.calls, answer.rounds[1].sent
running = chat.begin("Roll!", "personas.coder", tools=tools)               # in the background …
running.stop()                                                             # … until Stop is pressed
"""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.server import outputs, wire
from tests.server.servers import Server
from tests.server.toolkit import Call, Toolkit
from tests.server.toolloop import BROKE, ToolLoop
from tests.server.wire import Stop, Stopped

Json = dict[str, Any]
USER: Json = {"id": "user-1", "name": "Bob", "email": "bob@example.org", "role": "user"}


@dataclass
class Answer:
    """What came back for one chat request, or for all requests of one message where tools were called."""

    status: int
    sent: Json
    """The body of the chat request."""
    body: Any = None
    """The whole reply, when it was no stream."""
    payloads: list[str] = field(default_factory=list)
    """What stood after each `data:`, as it came."""
    stray: list[str] = field(default_factory=list)
    """Lines of the stream that are no `data:` lines."""
    node: Node | None = None
    rounds: list[Answer] = field(default_factory=list)
    """The answer to each request, where a `Toolkit` was given."""
    calls: list[Call] = field(default_factory=list)
    """The tool calls that were executed or denied, in their order."""
    shown: list[str] = field(default_factory=list)
    """Errors that Open WebUI itself reports in the message."""
    stopped: bool = False

    @property
    def objects(self) -> list[Json]:
        return [json.loads(payload) for payload in self.payloads if payload != "[DONE]"]

    @property
    def done(self) -> int:
        return self.payloads.count("[DONE]")

    @property
    def chunks(self) -> list[Json]:
        return [item for item in self.objects if "choices" in item]

    @property
    def events(self) -> list[Json]:
        return [item["event"] for item in self.objects if "event" in item]

    @property
    def statuses(self) -> list[str]:
        return [e["data"]["description"] for e in self.events if e["type"] == "status"]

    @property
    def choices(self) -> Iterator[Json]:
        for chunk in self.chunks:
            yield from chunk["choices"]

    @property
    def finish_reasons(self) -> list[str]:
        return [choice["finish_reason"] for choice in self.choices if choice.get("finish_reason")]

    @property
    def text(self) -> str:
        if self.body is not None:
            return self.body["choices"][0]["message"]["content"] or ""
        if len(self.rounds) > 1:
            return "\n".join(text for answer in self.rounds if (text := answer.text.strip()))
        return "".join(choice["delta"].get("content") or "" for choice in self.choices)

    @property
    def reasoning(self) -> str:
        return "".join(choice["delta"].get("reasoning_content") or "" for choice in self.choices)

    @property
    def tool_calls(self) -> list[Json]:
        """The calls, put together from their deltas."""
        if len(self.rounds) > 1:
            return [call for answer in self.rounds for call in answer.tool_calls]
        calls: dict[int, Json] = {}
        for choice in self.choices:
            for delta in choice["delta"].get("tool_calls") or []:
                call = calls.setdefault(delta["index"], {"id": delta.get("id"), "name": "", "arguments": ""})
                call["name"] += delta["function"].get("name") or ""
                call["arguments"] += delta["function"].get("arguments") or ""
        return [calls[index] for index in sorted(calls)]

    @property
    def errors(self) -> list[str]:
        """What Open WebUI shows in the red box."""
        found = self.objects if self.body is None else [self.body] if isinstance(self.body, dict) else []
        return [item["error"]["message"] for item in found if item.get("error")] + self.shown

    def take(self, line: str) -> None:
        """One line of the stream."""
        if line.startswith("data:"):
            self.payloads.append(line[5:].strip())
        elif line:
            self.stray.append(line)

    def good(self) -> Answer:
        """Checks that nothing went wrong on the way."""
        assert (self.status, self.errors, self.stray) == (200, [], []), (self.body, self.payloads)
        return self


@dataclass
class Node:
    """One message of a chat's tree."""

    role: Literal["user", "assistant"]
    content: str = ""
    parent: Node | None = None
    output: list[Json] = field(default_factory=list)
    """Of an answer: what is stored of it."""
    models: list[str] = field(default_factory=list)
    children: list[Node] = field(default_factory=list)
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def add(self, child: Node) -> Node:
        self.children.append(child)
        return child

    def branch(self) -> list[Node]:
        return [*(self.parent.branch() if self.parent else []), self]

    @property
    def messages(self) -> list[Json]:
        """As the model is sent it: an answer with tool calls becomes several messages, an empty one none."""
        if self.role == "assistant":
            return outputs.to_messages(self.output)
        return [{"role": "user", "content": self.content}]


class OpenWebUI:
    """The connection to one Pipelines server.

    Args:
        templates: the header templates that an admin enters in the connection.
        chat_id_header: whether `ENABLE_FORWARD_USER_INFO_HEADERS` is on.
        user: who asks.
    """

    def __init__(
        self, server: Server, *, templates: bool = False, chat_id_header: bool = False, user: Json = USER
    ) -> None:
        self.server = server
        self.user = user
        self._templates = templates
        self._chat_id_header = chat_id_header

    def models(self) -> dict[str, Json]:
        return {entry["id"]: entry for entry in self.server.get("/models").json()["data"]}

    def chat(self, *, temporary: bool = False, workspace: bool = False, system: str | None = None) -> Chat:
        """A new chat.

        Args:
            workspace: by a workspace model built on the asked model, whose inlet is not called then.
            system: the chat's or the workspace model's system prompt.
        """
        return Chat(self, temporary=temporary, workspace=workspace, system=system)

    def filters(self, model: str) -> list[str]:
        """The filter pipelines that are called for a model."""
        entries = self.models().values()
        filters = [entry for entry in entries if entry["pipeline"]["type"] == "filter"]
        return [e["id"] for e in filters if {"*", model} & set(e["pipeline"].get("pipelines", []))]

    def inlet(self, pipeline: str, body: Json) -> Json:
        reply = self.server.post(f"/{pipeline}/filter/inlet", {"user": self.user, "body": body})
        assert reply.status_code == 200, reply.text
        return reply.json()

    def outlet(self, body: Json) -> None:
        """Called when an answer is complete; our own models hear what they say themselves."""

    def send(self, body: Json, metadata: Json, *, inlet: bool = True, filters: bool = False) -> Answer:
        """Inlets with metadata, then the chat request without."""
        body = self.prepare(body, metadata, inlet=inlet, filters=filters)
        return self.complete({**body, "user": self.user}, self.headers(metadata))

    def prepare(self, body: Json, metadata: Json, *, inlet: bool = True, filters: bool = False) -> Json:
        """The body of the chat request, as the inlets leave it."""
        body = {**body, "metadata": metadata}
        for pipeline in self.filters(body["model"]) if filters else []:
            body = self.inlet(pipeline, body)
        if inlet:
            body = self.inlet(body["model"], body)
        return {key: value for key, value in body.items() if key != "metadata"}

    def complete(
        self,
        body: Json,
        headers: dict[str, str] | None = None,
        *,
        stop: Stop | None = None,
        answer: Answer | None = None,
    ) -> Answer:
        """The chat request alone, as any program sends it.

        Args:
            stop: ends it; what came until then is in the answer.
            answer: is filled in, while it comes.
        """
        answer = answer or Answer(0, body)
        headers = {"Authorization": f"Bearer {self.server.key}", **(headers or {})}
        host, port = self.server.host, self.server.port
        with (
            contextlib.suppress(Stopped),
            wire.post(host, port, "/chat/completions", body, headers, stop or Stop()) as reply,
        ):
            answer.status = reply.status
            if not reply.headers.get("content-type", "").startswith("text/event-stream"):
                answer.body = json.loads(reply.read())
                return answer
            try:
                for line in wire.lines(reply):
                    answer.take(line.decode().strip())
            except (http.client.IncompleteRead, ConnectionError):
                if stop is None or not stop.pressed.is_set():
                    answer.stray.append(BROKE)
        return answer

    def call(
        self,
        messages: str | list[Json],
        model: str,
        *,
        stream: bool = False,
        tools: Toolkit | None = None,
        **extra: Any,
    ) -> Answer:
        """What a program gets that asks Open WebUI with an API key: no chat, and tool calls as they are.

        Args:
            tools: of the user; their ids were in the request.
        """
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        ids = tools.ids if tools else None
        known = (
            "chat_id",
            "message_id",
            "session_id",
            "user_message",
            "user_message_id",
            "assistant_message_id",
        )
        metadata = {**dict.fromkeys(known), "chat_id": "", "user_id": self.user["id"], "tool_ids": ids}
        body = {"model": model, "messages": messages, "stream": stream, **extra}
        body = self.prepare({**body, "tool_ids": ids} if tools else body, metadata)
        if tools:
            body = self.with_tools(body, tools)
        return self.complete({**body, "user": self.user}, self.headers(metadata))

    def with_tools(self, body: Json, tools: Toolkit) -> Json:
        """The body of the chat request with the specs, which no inlet sees."""
        body = {key: value for key, value in body.items() if key not in ("tool_ids", "features")}
        specs = tools.specs(self.user["id"])
        return {**body, "tools": specs} if specs else body

    def task(self, name: str, prompt: str, chat: Chat, model: str, *, inlet: bool = True) -> Answer:
        """A background task: title, tags, follow-ups, …"""
        body = {"model": model, "messages": [{"role": "user", "content": prompt}], "stream": False}
        return self.send(body, {**chat.metadata, "task": name, "task_body": {"model": model}}, inlet=inlet)

    def headers(self, metadata: Json) -> dict[str, str]:
        headers: dict[str, str] = {}
        if self._chat_id_header or self._templates:
            headers["X-OpenWebUI-Chat-Id"] = metadata.get("chat_id") or ""
        if self._chat_id_header:
            headers |= {"X-OpenWebUI-User-Id": self.user["id"], "X-OpenWebUI-User-Role": self.user["role"]}
        if self._templates:
            headers |= {
                "X-Agent-Mode-User-Id": self.user["id"],
                "X-Agent-Mode-User-Role": self.user["role"],
                "X-Agent-Mode-Message-Id": metadata.get("message_id") or "",
                "X-Agent-Mode-User-Message-Id": metadata.get("user_message_id") or "",
                "X-Agent-Mode-Parent-Id": (metadata.get("user_message") or {}).get("parentId") or "",
                "X-Agent-Mode-Task": metadata.get("task") or "",
            }
        return headers


class Chat:
    """One chat: a tree of messages, of which one branch is shown."""

    def __init__(
        self, client: OpenWebUI, *, temporary: bool = False, workspace: bool = False, system: str | None
    ) -> None:
        self.client = client
        self.session_id = f"session-{uuid.uuid4()}"
        self.id = f"temporary:{self.session_id}" if temporary else str(uuid.uuid4())
        self.shown: Node | None = None
        """The assistant message at the end of the branch that is shown."""
        self.metadata: Json = {}
        """Of the latest request."""
        self._workspace = workspace
        self._system = system
        self._model = ""

    def ask(self, text: str, model: str | None = None, **options: Any) -> Answer:
        """The next turn on the branch that is shown, of the model that is picked.

        Args:
            tools: a `Toolkit`, whose calls are executed until the answer is complete.
            pause_before_followup: called with the answer so far, between the tools' results and the
                request that carries them.
            button: Stop, to be pressed by another thread.
            options: see `_request`; what it does not know goes into the body.
        """
        return self.ask_all(text, [model or self._model], **options)[0]

    def begin(self, text: str, model: str | None = None, **options: Any) -> Running:
        """As `ask`, in the background."""
        stop = Stop()
        return Running(stop, lambda: self.ask(text, model, button=stop, **options))

    def ask_all(self, text: str, models: list[str], **options: Any) -> list[Answer]:
        """The next turn, of several models side by side; afterwards the first one's answer is shown."""
        self._model = models[0]
        question = Node("user", text, self.shown, models=models)
        if self.shown is not None:
            self.shown.add(question)
        nodes = [question.add(Node("assistant", parent=question)) for _ in models]
        with ThreadPoolExecutor(len(models)) as pool:
            answers = list(
                pool.map(
                    lambda pair: self._request(question, *pair, **options), zip(nodes, models, strict=True)
                )
            )
        self.shown = nodes[0]
        return answers

    def regenerate(self, model: str | None = None, **options: Any) -> Answer:
        """Once more the answer that is shown; the old one stays as its sibling."""
        assert self.shown is not None
        assert self.shown.parent is not None
        question = self.shown.parent
        node = question.add(Node("assistant", parent=question))
        answer = self._request(question, node, model or self._model, **options)
        self.shown = node
        return answer

    def go_on(self, model: str | None = None) -> Answer:
        """ "Continue Response": what comes is put behind the answer that is shown."""
        node = self.shown
        assert node is not None
        assert node.parent is not None
        metadata = {**self._metadata(node.parent, node, None), "assistant_message_id": node.id}
        messages = [message for earlier in node.branch() for message in earlier.messages]
        body = {"stream": True, "model": model or self._model, "messages": messages}
        answer = self.client.send(body, metadata, inlet=not self._workspace)
        node.output = [*node.output, *stored(answer)]
        return answer

    def edit(self, text: str, *, back: int = 0, **options: Any) -> Answer:
        """Rewrites a question of the branch (the last one, or so many turns earlier) and sends it again."""
        assert self.shown is not None
        questions = [node for node in self.shown.branch() if node.role == "user"]
        self.shown = questions[-1 - back].parent
        return self.ask(text, **options)

    def go_to(self, answer: Answer) -> None:
        """Shows the branch that ends with this answer."""
        self.shown = answer.node

    def _request(
        self,
        question: Node,
        node: Node,
        model: str,
        *,
        stream: bool = True,
        filters: bool = False,
        tools: Toolkit | list[Json] | None = None,
        pause_before_followup: Callable[[Answer], None] = lambda _: None,
        button: Stop | None = None,
        **extra: Any,
    ) -> Answer:
        """One assistant message.

        Args:
            filters: whether there are filters, whose inlets are called first.
            tools: the user's tools; a list is passed on as the request's own, and no call is executed.
        """
        kit = tools if isinstance(tools, Toolkit) else None
        metadata = self.metadata = self._metadata(question, node, kit)
        messages = [message for earlier in question.branch() for message in earlier.messages]
        if self._system:
            messages.insert(0, {"role": "system", "content": self._system})
        body = {"stream": stream, "model": model, "messages": messages, **extra}
        if tools is not None:
            body |= {"tool_ids": kit.ids, "features": {}} if kit else {"tools": tools}
        inlet = not self._workspace
        if kit is None and button is None:
            answer = self.client.send(body, metadata, inlet=inlet, filters=filters)
            answer.node = node
            node.output = stored(answer)
            self.client.outlet(self._finished(model, node))
            return answer

        def prepare(known: Json, told: list[Json]) -> Json:
            asked = {**body, "messages": [*messages, *told]}
            form = self.client.prepare(asked, known, inlet=inlet, filters=filters)
            return self.client.with_tools(form, kit) if kit else form

        stop = button or Stop()
        answer = Answer(0, {}, node=node)
        loop = ToolLoop(
            tools=kit,
            user_id=self.client.user["id"],
            saved=not self.id.startswith("temporary:"),
            stop=stop,
            send=lambda form: self._round(form, answer, stop, self.client.headers(metadata)),
            before_followup=lambda: pause_before_followup(answer),
            output=node.output,
            calls=answer.calls,
            errors=answer.shown,
        )
        try:
            loop.run(prepare(metadata, []))
            while loop.paused:
                loop.decide(lambda told: prepare(_resumed(metadata), told))
        except Stopped:
            answer.stopped = True
        node.output = loop.output
        return answer

    def _round(self, form: Json, whole: Answer, stop: Stop, headers: dict[str, str]) -> Answer:
        """Sends one request of a message, and adds what comes to the whole answer."""
        body = {**form, "user": self.client.user}
        answer = Answer(0, body)
        whole.rounds.append(answer)
        try:
            self.client.complete(body, headers, stop=stop, answer=answer)
        finally:
            whole.payloads += answer.payloads
            whole.stray += answer.stray
            if len(whole.rounds) == 1:
                whole.sent, whole.status, whole.body = body, answer.status, answer.body
        return answer

    def _finished(self, model: str, node: Node) -> Json:
        """What an outlet is called with."""
        branch = [
            {
                "id": each.id,
                "role": each.role,
                "content": each.content or "".join(m.get("content") or "" for m in each.messages),
                "info": None,
                "timestamp": int(time.time()),
                **({"output": each.output} if each.output else {}),
            }
            for each in node.branch()
        ]
        known = {"chat_id": self.id, "session_id": self.session_id, "id": node.id}
        return {"model": model, "messages": branch, "filter_ids": [], **known}

    def _metadata(self, question: Node, node: Node, tools: Toolkit | None) -> Json:
        return {
            "user_id": self.client.user["id"],
            "chat_id": self.id,
            "message_id": node.id,
            "session_id": self.session_id,
            "assistant_message_id": None,
            "user_message_id": question.id,
            "user_message": {
                "id": question.id,
                "parentId": question.parent.id if question.parent else None,
                "childrenIds": [child.id for child in question.children],
                "models": question.models,
                "role": "user",
                "content": question.content,
                "timestamp": int(time.time()),
            },
            "tool_ids": tools.ids if tools else None,
            "files": None,
            "features": {},
            "variables": {},
        }


def _resumed(metadata: Json) -> Json:
    """The metadata of a request that goes on after an approval; the question is as the database has it."""
    asked = {key: value for key, value in metadata["user_message"].items() if value is not None}
    asked.pop("models")
    asked |= {"user_id": metadata["user_id"], "done": True}
    return {**metadata, "user_message": asked, "assistant_message_id": metadata["message_id"]}


class Running:
    """A message on its way, in a thread of its own.

    Args:
        stop: its button.
        ask: what runs.
    """

    def __init__(self, stop: Stop, ask: Callable[[], Answer]) -> None:
        self._stop = stop
        self._answer: Future[Answer] = Future()
        threading.Thread(target=self._run, args=(ask,), daemon=True).start()

    def _run(self, ask: Callable[[], Answer]) -> None:
        try:
            self._answer.set_result(ask())
        except BaseException as error:  # noqa: BLE001 - the test's own thread raises it
            self._answer.set_exception(error)

    @property
    def done(self) -> bool:
        return self._answer.done()

    def wait(self, seconds: float = 60.0) -> Answer:
        """The whole answer."""
        return self._answer.result(seconds)

    def stop(self) -> Answer:
        """Presses Stop; returns what there is."""
        self._stop.press()
        return self.wait()


def stored(answer: Answer) -> list[Json]:
    """What is kept of an answer to one request."""
    if answer.body is not None:
        good = answer.status == 200 and "error" not in answer.body
        return [outputs.message_item(answer.text, "completed")] if good and answer.text else []
    stream = outputs.Stream()
    for item in answer.objects:
        stream.feed(item)
    stream.finish()
    return stream.output
