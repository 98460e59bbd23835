"""The process-wide runtime that all our pipelines share, and the layer around a stock server's app.

Pipelines come and go with every reload of the server; the first one that starts opens the runtime, the
last one that stops closes it, so that a reload leaves nothing behind.
"""

from __future__ import annotations

import anyio.to_thread

from agent_mode.chat import browser
from agent_mode.chat.runtime import Runtime
from agent_mode.errors import ConfigurationError
from agent_mode.observe import logs
from agent_mode.server import upstream
from agent_mode.server.layer import Layer
from agent_mode.settings import Settings, get_settings

THREADS = 1000
"""Threads that a server may use for synchronous pipes and routes: 40 (anyio's default) waiting chats must
not make the model list wait."""

log = logs.get_logger(__name__)


class Host:
    """Counts the users of the runtime. Used on the server's event loop only."""

    def __init__(self) -> None:
        self._runtime: Runtime | None = None
        self._users = 0
        self._layer: Layer | None = None
        self._threads: float | None = None
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

    async def acquire(self) -> None:
        """One more user; the first opens the runtime."""
        self._users += 1
        if self._users > 1:
            return
        settings = get_settings()
        logs.configure(json=settings.log_format == "json", debug=settings.debug)
        self._runtime = await Runtime.open_whatever_happens(settings)
        self._lift_thread_limit()
        if settings.layer == "on" and not self.served:
            self._install_layer(settings)

    async def release(self) -> None:
        """One user less; the last closes the runtime and takes everything away."""
        self._users -= 1
        if self._users > 0:
            return
        self._remove_layer()
        self._restore_thread_limit()
        runtime, self._runtime = self._runtime, None
        if runtime is not None:
            await runtime.close()

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
        )

    def _page(self) -> str:
        personas = self._runtime.personas.all() if self._runtime is not None else ()
        return browser.page(personas, prefix="!", embedded=False)

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
