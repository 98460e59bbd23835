"""Base classes of the files in `pipelines/`."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Iterator
from typing import Any

from agent_mode.agents import selector
from agent_mode.agents.engine import Event
from agent_mode.chat import columns, hotswap
from agent_mode.chat.catalogues import Catalogues
from agent_mode.chat.context import User, context_of
from agent_mode.chat.conversation import AUTO_KEY, AUTO_NAME, respond
from agent_mode.chat.messages import last_text
from agent_mode.chat.runtime import Runtime, seed
from agent_mode.chat.signed import CONTEXT_KEY, pack
from agent_mode.chat.turn import Turn
from agent_mode.errors import AgentModeError, RequestError, StoreError
from agent_mode.llm.sse import Facts
from agent_mode.observe import logs
from agent_mode.server import pipe, upstream
from agent_mode.server.host import host
from agent_mode.server.native import NativePipeline
from agent_mode.store.backups import BackupPolicy
from agent_mode.store.versions import Keep
from agent_mode.tools.runner import TOOL_RUNNER_KEY, TOOL_RUNNER_NAME
from agent_mode.valves import HotswapValves, PersonaValves, Valves

log = logging.getLogger(__name__)


class OwnPipeline(NativePipeline):
    """A pipeline of ours: starts the shared runtime, leaves the chat's context, answers turns."""

    Valves: type[Any] = Valves

    def __init__(self) -> None:
        self.valves = self.Valves()
        self._started = False

    async def on_startup(self) -> None:
        """Called by the server. Never raises: that would keep the whole server from starting."""
        self._started = True  # also when it fails: the host counts us all the same
        try:
            await host.acquire()
        except Exception:  # whatever it is, it must not keep the server of others from starting
            log.exception("Agent Mode could not start; its models answer with this error.")

    async def on_shutdown(self) -> None:
        """Called by the server, also before each reload, and twice when it deletes the pipeline."""
        if self._started:
            self._started = False
            await host.release()

    def runtime(self) -> Runtime:
        return host.runtime

    async def inlet(self, body: dict[str, Any], user: dict[str, Any] | None = None) -> dict[str, Any]:
        """Leaves in the body what the chat request will lack: chat, message, task, user, the user's words."""
        messages = body.get("messages")
        last: Any = None
        if isinstance(messages, list):
            last = next(
                (m for m in reversed(messages) if isinstance(m, dict) and m.get("role") == "user"), None
            )
        # The words must survive what Open WebUI may put around them (a knowledge template).
        said = last_text([last]) if last and isinstance(last.get("content"), str) else None
        body[CONTEXT_KEY] = pack(context_of(body, said), upstream.api_key(), User.of(user))
        return body

    async def outlet(self, body: dict[str, Any], user: dict[str, Any] | None = None) -> dict[str, Any]:
        """Takes note of a finished answer in a chat with several models; changes nothing."""
        if host.ready:
            try:
                await columns.note_outlet(host.runtime, body, User.of(user).owner)
            except Exception:  # whatever it is, the answer is complete and stays as it is
                log.exception("An answer was not noted.")
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


class PersonaManifold(OwnPipeline):
    """Every persona a model."""

    Valves: type[Any] = PersonaValves
    valves: PersonaValves

    def __init__(self) -> None:
        super().__init__()
        self.type = "manifold"
        self.name = ""
        self._listed: tuple[Any, list[dict[str, str]]] = (None, [])

    async def on_startup(self) -> None:
        await super().on_startup()
        host.manifolds.append(self)

    async def on_shutdown(self) -> None:
        if self in host.manifolds:
            host.manifolds.remove(self)
        await super().on_shutdown()

    def pipelines(self) -> list[dict[str, str]]:
        """The models, as the server lists them. It asks on every request, so the list is kept."""
        if not host.ready:
            return []
        roster = host.runtime.rosters.offered(self.valves.models)
        known = (roster, host.filters)
        if self._listed[0] != known:
            models = [{"id": p.key, "name": p.display_name} for p in roster.personas]
            if selector.is_available():
                models.append({"id": AUTO_KEY, "name": AUTO_NAME})
            if host.filters:
                models.append({"id": hotswap.CONSOLE_KEY, "name": hotswap.CONSOLE_NAME})
            if host.runtime.openwebui.known:
                models.append({"id": TOOL_RUNNER_KEY, "name": TOOL_RUNNER_NAME})
            self._listed = (known, models)
        return self._listed[1]

    def answer(self, turn: Turn, model: str, facts: Facts) -> AsyncGenerator[Event, None]:
        return respond(self.runtime(), turn, model, self.valves, facts)

    def model_extras(self, model: str) -> dict[str, Any]:
        """Tag and description, as Open WebUI 0.12 reads them (`tags`, `info.meta.description`)."""
        if model == hotswap.CONSOLE_KEY:
            description = "Answers commands that are typed in other models. No need to pick it."
            return {"info": {"meta": {"hidden": True, "description": description}}}
        if model == TOOL_RUNNER_KEY:
            description = "Lets Open WebUI call tools for agents. No need to pick it."
            return {"info": {"meta": {"hidden": True, "description": description}}}
        if model == AUTO_KEY:
            description = "Reads your first message and lets the persona answer that fits it best."
            return {"tags": [{"name": "Persona"}], "info": {"meta": {"description": description}}}
        persona = host.runtime.rosters.offered(self.valves.models).get(model) if host.ready else None
        if persona is None:
            return {}
        return {
            "tags": [{"name": "Persona"}, {"name": persona.category.capitalize()}],
            "info": {"meta": {"description": persona.description}},
        }


class HotswapFilter(OwnPipeline):
    """The `!commands` on every model of Open WebUI."""

    Valves: type[Any] = HotswapValves
    valves: HotswapValves

    def __init__(self) -> None:
        super().__init__()
        self.type = "filter"
        self.name = "Agent Mode: commands on any model"
        self._catalogues: Catalogues | None = None

    async def on_startup(self) -> None:
        await super().on_startup()
        host.filters += 1
        await self.on_valves_updated()
        if host.ready and not self.valves.protect_custom_personas:
            # The store was seeded before there were valves.
            host.runtime.spawn(self._seed_again(host.runtime))

    async def on_valves_updated(self) -> None:
        """Called by the server after a save; store, backups, catalogues and log follow at once."""
        if not host.ready:
            return
        v, runtime = self.valves, host.runtime
        runtime.persona_store.keep = Keep(v.enable_persona_versioning, v.version_history_limit)
        runtime.persona_store.protect = v.protect_custom_personas
        runtime.backups.policy = BackupPolicy(v.enable_automatic_backups, v.max_backup_files)
        usual = runtime.settings.log_format == "json"
        logs.use_json({"on": True, "off": False}.get(v.enable_structured_logging, usual))
        if self._catalogues is None:
            self._catalogues = Catalogues(runtime)
        self._catalogues.switch(on=v.auto_download_personas)

    async def on_shutdown(self) -> None:
        host.filters -= self._started
        if self._catalogues is not None:
            self._catalogues.switch(on=False)
            self._catalogues = None
        if host.ready:
            logs.use_json(host.runtime.settings.log_format == "json")
        await super().on_shutdown()

    async def _seed_again(self, runtime: Runtime) -> None:
        try:
            await seed(runtime.settings, runtime.persona_store)
            await runtime.personas.refresh(runtime.persona_store)
        except StoreError as error:
            log.warning("personas not seeded: %s", error)

    async def inlet(self, body: dict[str, Any], user: dict[str, Any] | None = None) -> dict[str, Any]:
        """Writes the persona into the request. A failure leaves the chat as it was."""
        if not host.ready:
            return body
        model = body.get("model")
        if not isinstance(model, str) or isinstance(_pipeline(model), NativePipeline):
            return body  # our own models read the commands themselves
        if isinstance(_pipeline(hotswap.base_of(body)), NativePipeline):
            # A workspace model on one of ours: its inlet is not called, so its context comes from here.
            return await super().inlet(body, user)
        call = hotswap.Call(body, user or {}, upstream.api_key(), self._features())
        try:
            return await hotswap.rewrite(host.runtime, call, self.valves)
        except Exception:  # whatever it is, it must not cost the user the chat
            log.exception("The filter failed; the chat goes on as it came.")
            return body

    async def outlet(self, body: dict[str, Any], user: dict[str, Any] | None = None) -> dict[str, Any]:
        """Takes note of a finished answer, and adds the line below it, where one was found."""
        body = await super().outlet(body, user)
        return hotswap.finished(host.runtime, body, user) if host.ready else body

    def _features(self) -> dict[str, bool]:
        """What there is on this server, for other filters."""
        personas = host.personas
        return {
            "per_model": True,
            "sequences": personas is not None,
            "stream_switching": personas is not None and personas.enable_stream_switching,
            "multi": personas is not None,
            "auto": personas is not None and selector.is_available(),
            "browser": personas is not None,
            "suggestions": self.valves.enable_suggestions,
            "persistent_persona": self.valves.persistent_persona,
            "versioning": self.valves.enable_persona_versioning,
            "backups": self.valves.enable_automatic_backups,
        }

    def answer(self, turn: Turn, model: str, facts: Facts) -> AsyncGenerator[Event, None]:
        raise RequestError("This is a filter, not a model.", hint="Pick another model.", field="model")


def _pipeline(model: str | None) -> Any:
    found = upstream.pipeline_of(model) if model else None
    return found[0] if found else None
