"""The process-wide runtime that all our pipelines share, and the layer around a stock server's app.

Pipelines come and go with every reload of the server; the first one that starts opens the runtime, the
last one that stops closes it, so that a reload leaves nothing behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import anyio.to_thread

from agent_mode import __version__
from agent_mode.admin.backend import OfferedModel
from agent_mode.admin.valves import PipelineInfo, ValveForm
from agent_mode.chat import browser
from agent_mode.chat.runtime import Runtime
from agent_mode.errors import ConfigurationError, StoreError
from agent_mode.observe import logs
from agent_mode.server import offered, pipeline_valves, upstream
from agent_mode.server.admin_page import AdminPage
from agent_mode.server.layer import Layer
from agent_mode.server.native import TAB_AUTHOR
from agent_mode.settings import Settings, get_settings
from agent_mode.valves import PersonaValves

if TYPE_CHECKING:
    from agent_mode.server.stored_agents import StoredAgents

FOLLOW_SECONDS = 1.0
"""How soon a change of agents that the runtime has seen shows in the list of models."""
THREADS = 1000
"""Threads that a server may use for synchronous pipes and routes: 40 (anyio's default) waiting chats must
not make the model list wait."""

log = logs.get_logger(__name__)


class HasValves(Protocol):
    """A personas pipeline; the server replaces its valves with every save."""

    valves: PersonaValves


class Host:
    """Counts the users of the runtime. Used on the server's event loop only."""

    def __init__(self) -> None:
        self._runtime: Runtime | None = None
        self._users = 0
        self._layer: Layer | None = None
        self._threads: float | None = None
        self._agents: StoredAgents | None = None
        self._admin: AdminPage | None = None
        self.manifolds: list[HasValves] = []
        """The personas pipelines that are loaded."""
        self.filters = 0
        """How many filters of ours are loaded; they need the console model."""
        self.served = False
        """Whether our own server runs: the layer is there from the start then."""

    @property
    def runtime(self) -> Runtime:
        """The shared runtime.

        Raises:
            ConfigurationError: no pipeline has started it.
        """
        if self._runtime is None:
            raise ConfigurationError(
                "Agent Mode has not started on this server.",
                hint="Look at the server's log for what failed at start, and restart it.",
                code="not_started",
                status=503,
            )
        return self._runtime

    @property
    def ready(self) -> bool:
        return self._runtime is not None

    @property
    def idle(self) -> bool:
        """Whether nobody uses the runtime; a bundle may put another version of the package in place then."""
        return self._users <= 0

    async def acquire(self) -> None:
        """One more user; the first opens the runtime."""
        self._users += 1
        if self._users > 1:
            return
        settings = get_settings()
        logs.configure(json=settings.log_format == "json", debug=settings.debug)
        # A stock server must start whatever happens; our own says what is wrong and does not.
        opening = Runtime.open if self.served else Runtime.open_whatever_happens
        try:
            self._runtime = await opening(settings, upstream.api_key())
        except StoreError:
            self._users -= 1
            raise
        self._runtime.directory.persona_valves = lambda: self.personas or PersonaValves.model_validate({})
        self._lift_thread_limit()
        if settings.layer == "on" and not self.served:
            self._install_layer(settings)
        if settings.layer == "on" or self.served:
            await self._open_agents(self._runtime)

    async def release(self) -> None:
        """One user less; the last closes the runtime and takes everything away."""
        self._users -= 1
        if self._users > 0:
            return
        self._remove_layer()
        if self._admin is not None:
            await self._admin.close(for_good=self.served)
        self._restore_thread_limit()
        if self._agents is not None:
            self._agents.discard_all()
            self._agents = None
        runtime, self._runtime = self._runtime, None
        if runtime is not None:
            await runtime.close()

    async def sync_agents(self) -> None:
        """Makes the models those of the store, at once; called after each change of agents.

        Raises:
            StoreError: the database failed; the models stay as they were.
        """
        if self._runtime is not None:
            await self._runtime.agents.refresh(self._runtime.agent_store)
        if self._agents is not None:
            await self._agents.settle()

    def has_pipeline(self, pipeline_id: str) -> bool:
        """Whether a pipeline of this id was loaded from a file."""
        return upstream.is_loaded(pipeline_id)

    def is_offered(self, agent_id: str) -> bool:
        """Whether the agent of the store with this id is a model now."""
        return self._agents is not None and self._agents.offers(agent_id)

    @property
    def connection_key(self) -> str:
        """The key that Open WebUI's connection to this server needs."""
        return upstream.api_key()

    def models(self) -> list[OfferedModel]:
        """The models of ours, as Open WebUI lists them."""
        return offered.models()

    def pipelines(
        self, offset: int, limit: int, word: str = "", kind: str = ""
    ) -> tuple[list[PipelineInfo], int]:
        """Some of the pipelines on this server, those of others as well, and how many fit in all."""
        return pipeline_valves.page(offset, limit, word, kind)

    def valve_form(self, pipeline_id: str) -> ValveForm:
        """The valves of one pipeline."""
        return pipeline_valves.form_of(pipeline_id)

    async def save_valve_form(
        self, pipeline_id: str, entered: Mapping[str, Any], author: str, seen: str | None
    ) -> ValveForm:
        """Saves valves as Open WebUI's Pipelines tab does."""
        return await pipeline_valves.save(pipeline_id, entered, author, seen)

    @property
    def valves(self) -> PersonaValves:
        """The valves of the personas pipeline, or the defaults where it is not loaded."""
        return self.personas or PersonaValves.model_validate({})

    @cached_property
    def api(self) -> upstream.AsgiApp:
        """Our REST API."""
        # Made with the first request: on most servers it is never asked, and FastAPI takes its time.
        from agent_mode.admin.api.app import make_app  # noqa: PLC0415

        return make_app(self, __version__)

    async def _open_agents(self, runtime: Runtime) -> None:
        # Stored agents are pipelines, and those need this very host.
        from agent_mode.server.stored_agents import StoredAgents  # noqa: PLC0415

        self._agents = StoredAgents(runtime)
        await self._agents.settle()
        runtime.spawn(self._follow(self._agents))

    async def _follow(self, agents: StoredAgents) -> None:
        """Follows what other replicas change, and agent types that pipelines bring along."""
        while True:
            await asyncio.sleep(FOLLOW_SECONDS)
            try:
                await agents.settle()
            except Exception:  # an agent type of others may raise anything; the next change is followed again
                log.exception("the stored agents could not be brought up to date")

    def _install_layer(self, settings: Settings) -> None:
        def make(app: upstream.AsgiApp) -> Layer:
            self._layer = self.layer(app, settings)
            return self._layer

        upstream.wrap(make)

    def layer(self, app: upstream.AsgiApp, settings: Settings) -> Layer:
        """The layer around an app, for this host."""
        return Layer(
            app,
            key=upstream.api_key(),
            max_body=settings.max_body_mb * 2**20,
            ready=lambda: self.ready,
            page=self._page,
            openwebui=lambda: self._runtime.openwebui if self._runtime is not None else None,
            api=lambda: self.api,
            admin=self._admin_page(settings).gate,
            temporary_store=lambda: self._without_store,
            gauges=self._gauges,
            record=self._record_of_tab,
        )

    def _gauges(self) -> dict[str, float]:
        """What is so at this moment, for the figures."""
        active = self._runtime.runs.active if self._runtime is not None else 0
        return {"active_runs": active, "temporary_store": int(self._without_store)}

    @property
    def _without_store(self) -> bool:
        return self._runtime is not None and self._runtime.without_store is not None

    def _record_of_tab(self, action: str, kind: str, target: str) -> None:
        """Has recorded what was done in Open WebUI's Pipelines tab."""
        if self._runtime is not None:
            self._runtime.audit.put(TAB_AUTHOR, action, kind, target, way="Pipelines tab")

    def _admin_page(self, settings: Settings) -> AdminPage:
        if self._admin is None:  # kept over reloads: who is signed in stays so
            self._admin = AdminPage(self, settings, upstream.api_key())
        return self._admin

    @property
    def personas(self) -> PersonaValves | None:
        """The valves of the personas pipeline; None where it is not loaded."""
        return self.manifolds[-1].valves if self.manifolds else None

    def _page(self) -> str:
        """The browser of who can be called in the personas' own models."""
        valves = self.personas or PersonaValves.model_validate({})
        roster = self._runtime.rosters.offered(valves.models) if self._runtime is not None else None
        everyone = tuple(roster.by_key.values()) if roster is not None else ()
        agents = len(roster.agents) if roster is not None else 0
        return browser.page(everyone, prefix=valves.keyword_prefix, embedded=False, agents=agents)

    def _remove_layer(self) -> None:
        if self._layer is not None:
            upstream.unwrap(self._layer, self._layer.app)
            self._layer = None

    def _lift_thread_limit(self) -> None:
        limiter = anyio.to_thread.current_default_thread_limiter()
        if limiter.total_tokens < THREADS:
            self._threads, limiter.total_tokens = limiter.total_tokens, THREADS

    def _restore_thread_limit(self) -> None:
        if self._threads is not None:
            anyio.to_thread.current_default_thread_limiter().total_tokens = self._threads
            self._threads = None


host = Host()
