"""Catalogues from elsewhere, taken over by themselves: at once and then daily, while a valve says so."""

from __future__ import annotations

import asyncio

from agent_mode.chat.runtime import Runtime, acceptable
from agent_mode.errors import AgentModeError
from agent_mode.observe.logs import get_logger
from agent_mode.store import updates
from agent_mode.store.download import Source

log = get_logger(__name__)

CHECK_SECONDS = 86_400.0
RETRY_SECONDS = 3_600.0
"""Wait after a failure."""


class Catalogues:
    """Takes over the catalogues of the settings as `python -m agent_mode update --apply` does.

    Args:
        runtime: the running server; on its event loop only.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._task: asyncio.Task[None] | None = None

    def switch(self, *, on: bool) -> None:
        """Starts or stops looking; what was taken over stays."""
        if on and self._task is None:
            self._task = self._runtime.spawn(self._watch())
        elif not on and self._task is not None:
            self._task.cancel()
            self._task = None

    async def check(self) -> bool:
        """Takes over what is new in each source; False if one of them failed, which is logged."""
        runtime, failed = self._runtime, 0
        settings = runtime.settings
        for text in settings.catalogue_sources():
            try:
                source = Source.parse(text)
                folder = settings.data_dir / "catalogues"
                report = await updates.take_over(
                    runtime.persona_store, source, folder, lambda form: acceptable(form, settings), dry=False
                )
            except AgentModeError as error:
                failed += 1
                log.warning("catalogue not taken over", code=error.code, reason=str(error))
                continue
            if report.added or report.updated or report.replaced:
                log.info(
                    "catalogue taken over",
                    url=source.url,
                    added=len(report.added),
                    updated=len(report.updated),
                    replaced=len(report.replaced),
                    protected=len(report.protected),
                )
                await runtime.personas.refresh(runtime.persona_store)
        return not failed

    async def _watch(self) -> None:
        while True:
            try:
                well = await self.check()
            except Exception:  # whatever it is, it must neither end the watch nor disturb a chat
                log.exception("catalogues not taken over")
                well = False
            await asyncio.sleep(CHECK_SECONDS if well else RETRY_SECONDS)
