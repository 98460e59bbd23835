"""Open WebUI with models that are not ours: our filter's inlet is called, another provider would answer.

    client = AnyModel(server, ADMIN)
    chat = client.chat()
    chat.ask("!coder Write a loop", "gpt-4o").sent     # what the provider of gpt-4o gets
    client.replies[-1]                                 # what the inlet answered

Where the filter reroutes a turn to the console model, that one answers for real.
"""

from __future__ import annotations

import copy
import json
import uuid
from collections.abc import Callable
from typing import Any

from tests.server.openwebui import Answer, Json, OpenWebUI
from tests.server.servers import Server

ANSWER = "It is so."
"""What every foreign model says."""


def user(role: str = "user") -> Json:
    """A user that nobody knows yet."""
    name = uuid.uuid4().hex[:8]
    return {"id": f"{role}-{name}", "email": f"{name}@example.org", "name": f"Ann {name}", "role": role}


class AnyModel(OpenWebUI):
    """Acts as Open WebUI for one user.

    Args:
        bases: workspace models, each with the model that it is built on.
        cookie: the user's session token, where the connection forwards cookies.
    """

    def __init__(
        self,
        server: Server,
        user: Json,
        *,
        bases: dict[str, str] | None = None,
        cookie: str | None = None,
        session: bool = True,
    ) -> None:
        super().__init__(server)
        self.user = user
        self.given: list[Json] = []
        """The bodies that the inlet was called with."""
        self.replies: list[Json] = []
        """What it answered."""
        self.speak: Callable[[Json], str] = lambda sent: ANSWER
        """What a foreign model answers to a request."""
        self._bases = bases or {}
        self._cookie = cookie
        self._session = session

    def inlet(self, pipeline: str, body: Json) -> Json:
        reply = self.server.post(f"/{pipeline}/filter/inlet", {"user": self.user, "body": body})
        assert reply.status_code == 200, reply.text
        return reply.json()

    def outlet(self, body: Json) -> None:
        reply = self.server.post("/hotswap/filter/outlet", {"user": self.user, "body": body})
        assert (reply.status_code, reply.json()) == (200, body)

    def send(self, body: Json, metadata: Json, *, inlet: bool = True, filters: bool = False) -> Answer:
        del inlet, filters
        model = body["model"]
        info = {"base_model_id": self._bases.get(model), "name": model}
        described = {"id": model, "object": "model", **({"info": info} if model in self._bases else {})}
        body = {**body, "metadata": {**metadata, "model": described}}
        if not self._session:
            del body["metadata"]["session_id"]
        self.given.append(copy.deepcopy(body))
        reply = self.inlet("hotswap", body)
        self.replies.append(reply)
        if reply["model"] == model:
            # Open WebUI asks the base model of a workspace model.
            reply = {**reply, "model": self._bases.get(model, model)}
        sent = {key: value for key, value in reply.items() if key != "metadata"}
        if sent["model"].startswith("personas."):
            headers = {"Cookie": f"token={self._cookie}"} if self._cookie else None
            return self.complete({**sent, "user": self.user}, headers)
        answer = Answer(200, sent)
        answer.body = {"choices": [{"message": {"role": "assistant", "content": self.speak(sent)}}]}
        return answer

    @property
    def untouched(self) -> bool:
        """Whether the inlet gave back the last body as it was, up to the order of its keys."""
        return json.dumps(self.replies[-1]) == json.dumps(self.given[-1])

    def said(self, text: str, model: str = "gpt-4o", **extra: Any) -> Json:
        """What the inlet makes of the first message of a new chat."""
        self.chat().ask(text, model, **extra)
        return self.replies[-1]
