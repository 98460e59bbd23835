"""Everything that lives as long as the server: opened once on its event loop, closed once."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
import tempfile
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from agent_mode.agents.directory import Directory
from agent_mode.agents.runs import Runs
from agent_mode.agents.services import Services
from agent_mode.chat.offers import Offers
from agent_mode.chat.roster import Rosters
from agent_mode.errors import ConfigurationError, StoreError
from agent_mode.llm.client import LlmClient
from agent_mode.observe.hooks import hooks
from agent_mode.observe.logs import get_logger
from agent_mode.observe.webhooks import Webhooks
from agent_mode.prompts import guard
from agent_mode.prompts.strategies import StrategyBook
from agent_mode.prompts.templates import TemplateSet
from agent_mode.sandbox.sandbox import Sandbox
from agent_mode.settings import Settings
from agent_mode.store import updates
from agent_mode.store.agents import AgentBook, AgentStore
from agent_mode.store.audit import AuditStore
from agent_mode.store.backups import Backups
from agent_mode.store.book import PersonaBook
from agent_mode.store.credentials import CredentialStore, Vault, secret_key
from agent_mode.store.db import Database
from agent_mode.store.download import Source
from agent_mode.store.exchange import read_catalogue
from agent_mode.store.personas import PersonaForm, PersonaStore, SeedReport
from agent_mode.store.publications import PublicationStore
from agent_mode.store.replicas import ReplicaStore
from agent_mode.store.replies import ReplyStore
from agent_mode.store.run_records import RunStore
from agent_mode.store.run_stops import StopStore
from agent_mode.store.sessions import SessionStore
from agent_mode.store.snapshots import SnapshotStore
from agent_mode.store.users import UserStore
from agent_mode.tools.access import Access
from agent_mode.tools.loopback import Loopback
from agent_mode.tools.openwebui import OpenWebUIClient
from agent_mode.tools.status_lines import StatusLines

log = get_logger(__name__)

HEED_SECONDS = 1.0
"""How soon a run ends that another process was asked to stop."""
_RENEW_EVERY = 10
"""So many times rarer are claims of snapshots renewed, and the other replicas looked at."""
REFRESH_SECONDS = 2.0
"""How soon a persona that another process changed is seen here."""
KEEP_DAYS = 365
"""How long it is remembered who answered in a chat."""
KEEP_TEXT_DAYS = 30
"""How long it is remembered what each of several models side by side said."""

_UPKEEP_PATIENCE = 5.0
"""Seconds that a backup in mid-writing gets to end."""
KEEP_RUNS_DAYS = 30
"""How long the records of runs are kept."""
KEEP_AUDIT_DAYS = 365
"""How long it is kept what was changed on the Agents page."""
KEEP_SNAPSHOTS_HOURS = 48.0
"""How long a run may wait for the caller's tools."""


class Runtime:
    """The parts of a running server, each bound to the event loop that opened it."""

    def __init__(self, settings: Settings, db: Database, secret: str) -> None:
        self.settings = settings
        self.loop = asyncio.get_running_loop()
        self.db = db
        self.persona_store = PersonaStore(db)
        self.personas = PersonaBook()
        self.agent_store = AgentStore(db)
        self.agents = AgentBook()
        self.directory = Directory(self.personas)
        self.persona_store.is_agent = self.directory.has
        self.rosters = Rosters(self.personas, self.directory)
        self.sessions = SessionStore(db)
        self.replies = ReplyStore(db)
        self.offers = Offers()
        self.users = UserStore(db)
        self.backups = Backups(settings.data_dir / "backups", self.persona_store)
        self.persona_store.before_destructive = self.backups.before_destructive
        self.persona_store.before_replacing = self.backups.make
        self.strategies = StrategyBook(settings.strategies_dir)
        self.templates = TemplateSet(settings.strategies_dir / "templates")
        self.llm = LlmClient()
        self.runs = Runs()
        self.webhooks = _webhooks(settings)
        self.access = Access(settings.openwebui_url, settings.openwebui_api_key)
        self.status_lines = StatusLines(settings.openwebui_url, settings.openwebui_api_key)
        self.openwebui = OpenWebUIClient(settings.openwebui_url, secret)
        self.loopback = Loopback(self.openwebui, secret)
        self.replicas = ReplicaStore(db)
        self.run_store = RunStore(db, self.replicas.id)
        self.audit = AuditStore(db)
        self.publications = PublicationStore(db)
        self.snapshots = SnapshotStore(db)
        self.stops = StopStore(db)
        self.credentials = CredentialStore(db, _vault(settings))
        self.sandbox = Sandbox()
        self.services = Services(
            settings=settings,
            llm=self.llm,
            runs=self.runs,
            records=self.run_store,
            snapshots=self.snapshots,
            credentials=self.credentials,
            directory=self.directory,
            access=self.access,
            openwebui=self.openwebui,
            loopback=self.loopback,
            sandbox=self.sandbox,
            spawn=self.spawn,
        )
        self._background: set[asyncio.Task[Any]] = set()
        self._upkeep: asyncio.Future[Any] | None = None
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self.without_store: StoreError | None = None
        """Why the database cannot be used and a temporary one stands in for it; None: all is well."""

    @classmethod
    async def open(cls, settings: Settings, secret: str = "") -> Runtime:
        """Opens the store, seeds the personas and starts the housekeeping.

        Args:
            settings: of the process.
            secret: the connection key, which signs what we send by way of others.

        Raises:
            StoreError: the database cannot be used.
        """
        db = await Database.open(settings.resolved_database_url())
        runtime = cls(settings, db, secret)
        try:
            await runtime._start()
        except StoreError:
            await runtime.close()
            raise
        return runtime

    @classmethod
    async def open_whatever_happens(cls, settings: Settings, secret: str = "") -> Runtime:
        """As `open`; with an unusable database on a temporary one, since a start must not fail.

        Chats go on there; changes of personas, agents and keys are refused, since they would be lost.
        """
        try:
            return await cls.open(settings, secret)
        except StoreError as error:
            log.error("database unusable; going on with a temporary one, nothing is kept", reason=str(error))
            reason = error
        folder = tempfile.TemporaryDirectory(prefix="agent-mode-")
        url = f"sqlite+aiosqlite:///{Path(folder.name) / 'agent_mode.db'}"
        runtime = await cls.open(settings.model_copy(update={"database_url": url}), secret)
        # What is in it must not push real backups out.
        runtime.backups.folder = Path(folder.name) / "backups"
        runtime._temporary = folder
        runtime.without_store = reason
        runtime.db.temporary = True
        return runtime

    async def _start(self) -> None:
        await hooks.start()
        await self.webhooks.start()
        await seed(self.settings, self.persona_store)
        await self.personas.load(self.persona_store)
        await self.agents.load(self.agent_store)
        await self.sessions.start()
        await self.run_store.start()
        await self.audit.start()
        if self.db.shared:  # another process may be at work on what is not done
            await self.replicas.beat()
        else:
            await self.run_store.close_open(datetime.now(UTC), ("running",))
            await self.snapshots.release_all()
        await self.stops.start()
        await self.replies.start()
        await self.llm.start()
        self.runs.start()
        self.spawn(self._housekeeping())
        self.spawn(self._heed())
        for error in (*self.strategies.errors().values(), *self.templates.errors().values()):
            log.warning("strategy or template not usable", reason=str(error))

    async def close(self) -> None:
        """Stops every run and task, writes what waits, and lets go of all connections."""
        await self.runs.close()
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        if self._upkeep is not None:
            await asyncio.wait({self._upkeep}, timeout=_UPKEEP_PATIENCE)
        await self.webhooks.close()
        await hooks.close()
        await self.sessions.close()
        await self.replies.close()
        await self.run_store.close()
        if self.db.shared:
            with contextlib.suppress(StoreError):  # the others find out by themselves
                await self.replicas.leave()
        await self.audit.close()
        await self.sandbox.close()
        await self.llm.close()
        await self.access.close()
        await self.status_lines.close()
        await self.openwebui.close()
        await self.db.close()
        if self._temporary is not None:
            self._temporary.cleanup()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs something off the user's path; it ends with the runtime at the latest."""
        task = self.loop.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    async def _heed(self) -> None:
        """Stops the runs of this process that another one was asked to stop, and keeps its claims."""
        for count in itertools.count(1):
            await asyncio.sleep(HEED_SECONDS)
            with contextlib.suppress(StoreError):  # the housekeeping says so, and it is tried again
                for run_id in await self.stops.asked():
                    if self.runs.stop(run_id):
                        log.info("run stopped from another process", run_id=run_id)
                if count % _RENEW_EVERY == 0:
                    await self.snapshots.renew()
                    if self.db.shared:
                        await self._close_lost()

    async def _close_lost(self) -> None:
        """Says that this replica is alive, and closes the runs of those that have died."""
        if await self.replicas.beat():
            log.warning("this replica stood still for so long that others took it for dead")
            self.run_store.reopen()
        await self.replicas.look()
        closed = await self.run_store.close_lost()
        if closed:
            log.warning("runs abandoned, their replica has died", count=closed)

    async def _housekeeping(self) -> None:
        next_prune = 0.0
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            try:
                if await self.personas.refresh(self.persona_store):
                    log.info("personas changed", count=len(self.personas.all()))
                if await self.agents.refresh(self.agent_store):
                    self.directory.changed()
                self._upkeep = asyncio.ensure_future(self.backups.maintain())
                await asyncio.shield(self._upkeep)  # a file that is being written is not left open
                if self.loop.time() >= next_prune:
                    await self.sessions.prune(KEEP_DAYS)
                    await self.replies.prune(KEEP_TEXT_DAYS)
                    long_ago = datetime.now(UTC) - timedelta(hours=KEEP_SNAPSHOTS_HOURS)
                    await self.run_store.close_open(long_ago)
                    await self.run_store.prune(KEEP_RUNS_DAYS)
                    await self.audit.prune(KEEP_AUDIT_DAYS)
                    await self.snapshots.prune(KEEP_SNAPSHOTS_HOURS)
                    await self.db.optimize()
                    next_prune = self.loop.time() + 86_400
            except StoreError as error:
                log.warning("housekeeping failed, trying again", reason=str(error))


def _webhooks(settings: Settings) -> Webhooks:
    try:
        return Webhooks(settings.webhook_targets(), settings.webhook_secret)
    except ConfigurationError as error:  # `serve` refuses to start with it; a stock server must start
        log.error("webhooks are off", reason=str(error))
        return Webhooks((), None)


def _vault(settings: Settings) -> Vault:
    try:
        return Vault(secret_key(settings))
    except ConfigurationError as error:  # `serve` refuses to start with it; a stock server must start
        log.error("the API keys that users registered cannot be read", reason=str(error))
        return Vault(secrets.token_urlsafe(32))


async def _kept_catalogues(settings: Settings) -> list[PersonaForm]:
    try:
        sources = [Source.parse(text) for text in settings.catalogue_sources()]
        return await updates.kept(sources, settings.data_dir / "catalogues")
    except ConfigurationError as error:
        log.error("catalogues are left out", reason=str(error))
        return []


def acceptable(form: PersonaForm, settings: Settings) -> bool:
    """Whether a persona of a catalogue may be taken over; says in the log what is odd about it."""
    phrases = guard.override_phrases(form.prompt)
    if phrases:
        log.warning("persona carries override phrases", persona=form.key, phrases=", ".join(phrases))
    return not phrases or settings.override_phrases == "warn"


async def seed(settings: Settings, store: PersonaStore) -> SeedReport:
    """Brings the shipped catalogue into the store; what a user edited stays.

    Raises:
        StoreError: the database failed.
    """
    forms, errors = await read_catalogue(settings.personas_dir)
    # Catalogues that an admin took over replace the shipped texts, at later starts too.
    forms += await _kept_catalogues(settings)
    for error in errors:
        log.warning("persona file left out", reason=str(error))
    report = await store.seed([form for form in forms if acceptable(form, settings)])
    if report.added or report.updated or report.replaced:
        log.info(
            "personas seeded",
            added=len(report.added),
            updated=len(report.updated),
            protected=len(report.protected),
            replaced=len(report.replaced),
        )
    return report
