"""What agents need of the running server."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from agent_mode.agents.directory import Directory
from agent_mode.agents.runs import Runs
from agent_mode.agents.spec import Caller
from agent_mode.llm.client import LlmClient
from agent_mode.sandbox.sandbox import Sandbox
from agent_mode.settings import Settings
from agent_mode.store.credentials import CredentialStore
from agent_mode.store.run_records import RunStore
from agent_mode.store.snapshots import SnapshotStore
from agent_mode.tools.access import Access
from agent_mode.tools.loopback import Loopback
from agent_mode.tools.openwebui import OpenWebUIClient


@dataclass(slots=True)
class Services:
    """The parts of the server that agents work with, opened and closed by the runtime.

    Attributes:
        counted: whether runs move the figures of this process; those of a draft that is tried do not.
    """

    settings: Settings
    llm: LlmClient
    runs: Runs
    records: RunStore
    snapshots: SnapshotStore
    credentials: CredentialStore
    directory: Directory
    access: Access
    openwebui: OpenWebUIClient
    loopback: Loopback
    sandbox: Sandbox
    spawn: Callable[[Coroutine[Any, Any, None]], Any] = field(repr=False)
    counted: bool = True

    async def credential_of(self, caller: Caller) -> str | None:
        """What to act with in Open WebUI on the caller's behalf; never anybody else's.

        It is what came with the request, else the API key that the user registered.

        Raises:
            StoreError: the database failed.
        """
        if caller.credential or caller.id is None:
            return caller.credential
        return await self.credentials.get(caller.id)
