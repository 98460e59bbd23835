"""Acts towards a Pipelines server as Open WebUI 0.12 does: filters and inlets first, then the chat request.

chat = OpenWebUI(server).chat()
chat.ask("Hello", "personas.coder").text
chat.ask("And now?")                          # the same model, on the branch that is shown
chat.regenerate(); chat.edit("Better", of=2); chat.go_to(answer)
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import requests

from tests.server.servers import Server

Json = dict[str, Any]
USER: Json = {"id": "user-1", "name": "Bob", "email": "bob@example.org", "role": "user"}


@dataclass
class Answer:
    """What came back for one chat request."""

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

    @cached_property
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
        return "".join(choice["delta"].get("content") or "" for choice in self.choices)

    @property
    def reasoning(self) -> str:
        return "".join(choice["delta"].get("reasoning_content") or "" for choice in self.choices)

    @property
    def tool_calls(self) -> list[Json]:
        """The calls, put together from their deltas."""
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
        return [item["error"]["message"] for item in found if item.get("error")]

    def good(self) -> Answer:
        """Checks that nothing went wrong on the way."""
        assert (self.status, self.errors, self.stray) == (200, [], []), (self.body, self.payloads)
        return self


@dataclass
class Node:
    """One message of a chat's tree."""

    role: Literal["user", "assistant"]
    content: str
    parent: Node | None = None
    models: list[str] = field(default_factory=list)
    children: list[Node] = field(default_factory=list)
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def add(self, child: Node) -> Node:
        self.children.append(child)
        return child

    def branch(self) -> list[Node]:
        return [*(self.parent.branch() if self.parent else []), self]


class OpenWebUI:
    """The connection to one Pipelines server.

    Args:
        templates: the header templates that an admin enters in the connection.
        chat_id_header: whether `ENABLE_FORWARD_USER_INFO_HEADERS` is on.
    """

    def __init__(self, server: Server, *, templates: bool = False, chat_id_header: bool = False) -> None:
        self.server = server
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
        reply = self.server.post(f"/{pipeline}/filter/inlet", {"user": USER, "body": body})
        assert reply.status_code == 200, reply.text
        return reply.json()

    def send(self, body: Json, metadata: Json, *, inlet: bool = True, filters: bool = False) -> Answer:
        """Inlets with metadata, then the chat request without."""
        body = {**body, "metadata": metadata}
        for pipeline in self.filters(body["model"]) if filters else []:
            body = self.inlet(pipeline, body)
        if inlet:
            body = self.inlet(body["model"], body)
        body = {**body, "user": USER}
        body.pop("metadata", None)
        return self.complete(body, self._headers(metadata))

    def complete(self, body: Json, headers: dict[str, str] | None = None) -> Answer:
        """The chat request alone, as any program sends it."""
        answer = Answer(0, body)
        with self.server.post("/chat/completions", body, headers=headers, stream=True) as reply:
            answer.status = reply.status_code
            if not reply.headers.get("content-type", "").startswith("text/event-stream"):
                answer.body = json.loads(reply.content)
                return answer
            try:
                for raw in reply.iter_lines():
                    line = raw.decode()
                    if line.startswith("data:"):
                        answer.payloads.append(line[5:].strip())
                    elif line:
                        answer.stray.append(line)
            except requests.exceptions.ChunkedEncodingError:
                answer.stray.append("(the connection broke)")
        return answer

    def task(self, name: str, prompt: str, chat: Chat, model: str, *, inlet: bool = True) -> Answer:
        """A background task: title, tags, follow-ups, …"""
        body = {"model": model, "messages": [{"role": "user", "content": prompt}], "stream": False}
        return self.send(body, {**chat.metadata, "task": name, "task_body": {"model": model}}, inlet=inlet)

    def _headers(self, metadata: Json) -> dict[str, str]:
        headers: dict[str, str] = {}
        if self._chat_id_header or self._templates:
            headers["X-OpenWebUI-Chat-Id"] = metadata.get("chat_id") or ""
        if self._templates:
            headers |= {
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
        """The next turn on the branch that is shown, of the model that is picked."""
        return self.ask_all(text, [model or self._model], **options)[0]

    def ask_all(self, text: str, models: list[str], **options: Any) -> list[Answer]:
        """The next turn, of several models side by side; afterwards the first one's answer is shown."""
        self._model = models[0]
        question = Node("user", text, self.shown, models)
        if self.shown is not None:
            self.shown.add(question)
        nodes = [question.add(Node("assistant", "", question)) for _ in models]
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
        node = question.add(Node("assistant", "", question))
        answer = self._request(question, node, model or self._model, **options)
        self.shown = node
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
        **extra: Any,
    ) -> Answer:
        metadata = self.metadata = {
            "user_id": USER["id"],
            "chat_id": self.id,
            "message_id": node.id,
            "session_id": self.session_id,
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
            "tool_ids": None,
            "files": None,
            "features": {},
            "variables": {},
        }
        messages = [{"role": n.role, "content": n.content} for n in question.branch()]
        if self._system:
            messages.insert(0, {"role": "system", "content": self._system})
        body = {"stream": stream, "model": model, "messages": messages, **extra}
        answer = self.client.send(body, metadata, inlet=not self._workspace, filters=filters)
        answer.node = node
        if answer.status == 200 and not (answer.body and "error" in answer.body):
            node.content = answer.text
        return answer
