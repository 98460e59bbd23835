"""Base classes of the files in `pipelines/`."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Iterator
from typing import Any

from agent_mode.agents.engine import Event
from agent_mode.chat.commands import message_text
from agent_mode.chat.conversation import respond
from agent_mode.chat.runtime import Runtime
from agent_mode.chat.turn import CONTEXT_KEY, Turn, pack
from agent_mode.errors import AgentModeError
from agent_mode.llm.sse import Facts
from agent_mode.server import pipe, upstream
from agent_mode.server.host import host
from agent_mode.server.native import NativePipeline
from agent_mode.valves import PersonaValves, Valves

log = logging.getLogger(__name__)


class AgentPipeline(NativePipeline):
    """A pipeline of ours: starts the shared runtime, leaves the chat's context, answers turns."""

    Valves: type[Any] = Valves

    def __init__(self) -> None:
        self.valves = self.Valves()

    async def on_startup(self) -> None:
        """Called by the server. Never raises: that would keep the whole server from starting."""
        try:
            await host.acquire()
        except (AgentModeError, OSError, ValueError):
            log.exception("Agent Mode could not start; its models answer with this error.")

    async def on_shutdown(self) -> None:
        """Called by the server, also before each reload."""
        await host.release()

    def runtime(self) -> Runtime:
        return host.runtime

    async def inlet(self, body: dict[str, Any], user: dict[str, Any] | None = None) -> dict[str, Any]:
        """Leaves in the body what the chat request will lack: chat, message, task, the user's words."""
        prefix = getattr(self.valves, "keyword_prefix", "!")
        messages = body.get("messages")
        last: Any = None
        if isinstance(messages, list):
            last = next(
                (m for m in reversed(messages) if isinstance(m, dict) and m.get("role") == "user"), None
            )
        text = message_text(last) if last else ""
        # Only a command must survive what Open WebUI may put around the words (a knowledge template).
        said = text if prefix in text and isinstance(last.get("content"), str) else None
        body[CONTEXT_KEY] = pack(body.get("metadata"), said, upstream.api_key())
        return body

    def pipe(
        self, user_message: str, model_id: str, messages: list[dict[str, Any]], body: dict[str, Any]
    ) -> dict[str, Any] | Iterator[str]:
        """What the stock server calls for a chat, in a thread of its own."""
        try:
            turn = Turn.parse(body, secret=upstream.api_key())
            return pipe.pipe(self.runtime(), turn, lambda turn, facts: self.answer(turn, model_id, facts))
        except AgentModeError as error:
            return pipe.failure(str(body.get("model")), error, stream=bool(body.get("stream")))

    def model_extras(self, model: str) -> dict[str, Any]:
        return {}


class PersonaManifold(AgentPipeline):
    """Every persona a model."""

    Valves: type[Any] = PersonaValves
    valves: PersonaValves

    def __init__(self) -> None:
        super().__init__()
        self.type = "manifold"
        self.name = ""
        self._listed: tuple[Any, list[dict[str, str]]] = (None, [])

    def pipelines(self) -> list[dict[str, str]]:
        """The models, as the server lists them. It asks on every request, so the list is kept."""
        if not host.ready:
            return []
        roster = host.runtime.rosters.offered(self.valves.models)
        if self._listed[0] is not roster:
            models = [{"id": p.key, "name": p.display_name} for p in roster.by_key.values()]
            self._listed = (roster, models)
        return self._listed[1]

    def answer(self, turn: Turn, model: str, facts: Facts) -> AsyncGenerator[Event, None]:
        return respond(self.runtime(), turn, model, self.valves, facts)

    def model_extras(self, model: str) -> dict[str, Any]:
        """Tag and description, as Open WebUI 0.12 reads them (`tags`, `info.meta.description`)."""
        persona = host.runtime.rosters.offered(self.valves.models).get(model) if host.ready else None
        if persona is None:
            return {}
        return {
            "tags": [{"name": "Persona"}, {"name": persona.category.capitalize()}],
            "info": {"meta": {"description": persona.description}},
        }
