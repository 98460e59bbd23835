"""A chat over Open WebUI's REST API, with the requests that its page sends, for any version.

chat = RestChat(account, "personas.coder")
words(chat.ask("Hello"))
chat.ask("!writer a haiku")["statusHistory"]

Up to 0.9 the page stores the chat and sends the whole branch; from 0.10 on the server does it by itself.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import Any

from tests.e2e.webui import Account, Json

PATIENCE = 40.0
"""Seconds that an answer with its background tasks may take."""


def version_of(account: Account) -> tuple[int, ...]:
    text = str(account.get("/api/config")["version"])
    return tuple(int(part) for part in text.split(".")[:3])


class RestChat:
    """One chat of a user.

    Args:
        tools: ids of the tools that are switched on.
        params: the chat's advanced parameters, such as `function_calling`.
        tasks: whether title and tags are made after the first answer.
    """

    def __init__(
        self,
        account: Account,
        model: str,
        *,
        tools: Sequence[str] = (),
        params: Json | None = None,
        tasks: bool = False,
    ) -> None:
        self.account = account
        self.model = model
        self.id = ""
        self._tools = list(tools)
        self._params = dict(params or {})
        self._tasks = tasks
        self._messages: dict[str, Json] = {}
        self._last: str | None = None
        self._server_stores = version_of(account) >= (0, 10)

    def ask(self, text: str) -> Json:
        """The next turn; returns the assistant message as it is stored."""
        message_id = self.send(text)
        self.wait()
        return self.settle(message_id)

    def send(self, text: str) -> str:
        """Sends a message and does not wait; returns the id of the answer."""
        user_id, message_id = str(uuid.uuid4()), str(uuid.uuid4())
        parent = self._last
        question: Json = {
            "id": user_id,
            "parentId": parent,
            "childrenIds": [message_id],
            "role": "user",
            "content": text,
            "timestamp": int(time.time()),
            "models": [self.model],
        }
        self._messages[user_id] = question
        if parent:
            self._messages[parent].setdefault("childrenIds", []).append(user_id)
        self._messages[message_id] = {
            "id": message_id,
            "parentId": user_id,
            "childrenIds": [],
            "role": "assistant",
            "content": "",
            "model": self.model,
            "timestamp": int(time.time()),
        }
        self._last = message_id
        form: Json = {
            "stream": True,
            "model": self.model,
            "params": self._params,
            "tool_ids": self._tools,
            "features": {},
            "variables": {},
            "session_id": f"session-{message_id[:8]}",
            "id": message_id,
            "background_tasks": {"title_generation": self._tasks, "tags_generation": self._tasks}
            if self._tasks and parent is None
            else {},
        }
        if self._server_stores:
            form |= {"parent_id": parent, "user_message": question}
            if self.id:
                form["chat_id"] = self.id
        else:
            self._store()
            form |= {
                "chat_id": self.id,
                "parent_id": user_id,
                "parent_message": question,
                "messages": [
                    {"role": message["role"], "content": message["content"]}
                    for message in self._branch()[:-1]
                ],
            }
        reply = self.account.post("/api/chat/completions", form)
        self.id = self.id or str(reply["chat_id"])
        return message_id

    def wait(self) -> None:
        """Waits until Open WebUI does nothing for this chat any more.

        Raises:
            AssertionError: it did not end in time.
        """
        deadline = time.monotonic() + PATIENCE
        time.sleep(0.2)
        while self.running():
            assert time.monotonic() < deadline, f"no end after {PATIENCE:g} s"
            time.sleep(0.1)

    def settle(self, message_id: str) -> Json:
        """The stored answer; where the page tells the server that it is complete, this does."""
        stored = self.account.chat(self.id)["chat"]["history"]["messages"].get(message_id, {})
        self._messages[message_id] |= stored
        if not self._server_stores:
            self._complete(message_id)
        return self._messages[message_id]

    def running(self) -> list[str]:
        """Ids of the tasks that work for this chat."""
        return self.account.get(f"/api/tasks/chat/{self.id}").get("task_ids", [])

    def stop(self) -> None:
        """What the Stop button does."""
        if self._server_stores:
            self.account.post(f"/api/tasks/chat/{self.id}/stop")
            return
        for task in self.running():
            self.account.post(f"/api/tasks/stop/{task}")

    def go_to(self, message_id: str) -> None:
        """Shows this message: the next turn begins a branch below it."""
        self._last = message_id

    def _complete(self, message_id: str) -> None:
        form = {
            "model": self.model,
            "chat_id": self.id,
            "session_id": f"session-{message_id[:8]}",
            "id": message_id,
            "messages": [
                {"id": message["id"], "role": message["role"], "content": message["content"]}
                for message in self._branch()
            ],
        }
        self.account.post("/api/chat/completed", form)
        self._messages[message_id]["done"] = True
        self._store()

    def _branch(self) -> list[Json]:
        branch: list[Json] = []
        place = self._last
        while place:
            branch.insert(0, self._messages[place])
            place = branch[0]["parentId"]
        return branch

    def _store(self) -> None:
        """What the page of an older version saves."""
        chat: dict[str, Any] = {
            "id": self.id,
            "title": "New Chat",
            "models": [self.model],
            "history": {"messages": self._messages, "currentId": self._last},
            "messages": self._branch(),
            "params": self._params,
            "tags": [],
            "timestamp": int(time.time() * 1000),
        }
        if self.id:
            known = self.account.chat(self.id)["chat"]
            self.account.post(f"/api/v1/chats/{self.id}", {"chat": {**chat, "title": known["title"]}})
        else:
            self.id = str(self.account.post("/api/v1/chats/new", {"chat": chat})["id"])


def words(message: Json) -> str:
    """What an answer says; in some versions it stands in `output` alone until the page has read it."""
    if message.get("content"):
        return str(message["content"]).strip()
    parts = [
        part.get("text", "")
        for item in message.get("output") or []
        if item.get("type") == "message"
        for part in item.get("content") or []
    ]
    return "".join(parts).strip()
