"""All that the journeys need, running Open WebUI, our server, a stock server, the LLM provider."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.webui import EVERYBODY, Account, Connection, WebUI, group_may_read
from tests.provider import Exchange, Provider, Recorded, Reply
from tests.scripted import text_of
from tests.server.servers import Kind, Server, make, running

OURS = Kind("ours", os.environ.get("AGENT_MODE_TEST_PYTHON"), own=True)
STOCK = Kind("stock", os.environ.get("AGENT_MODE_STOCK_PYTHON"))
OPEN_WEBUI = os.environ.get("AGENT_MODE_E2E_OPEN_WEBUI")
CHROMIUM = os.environ.get("AGENT_MODE_E2E_CHROMIUM")

PLAIN = "gpt-4o"
"""A model of the provider: the one behind the personas, and one that users pick as it is."""
TASK = "### Task:"
"""How each prompt of Open WebUI's background tasks begins."""
TITLE = "A title by the provider"
TAGS = ["tag-of-the-provider"]

PUBLIC = ("personas.coder", "personas.writer", "personas.console")
"""Models that every user may use. `personas.teacher` is for the group of Ann alone."""
STAFF = ("personas.teacher",)


class ScriptedProvider(Provider):
    """The provider, which also answers background tasks in the form that Open WebUI asks for."""

    async def _chat(self, x: Exchange) -> None:
        words = x.last_user_text()
        if not words.startswith(TASK):
            return await super()._chat(x)
        answers: dict[str, Any] = {"title": TITLE, "tags": TAGS, "follow_ups": []}
        found = {name: answer for name, answer in answers.items() if f'"{name}"' in words}
        await x.say(Reply(json.dumps(found)))

    @property
    def turns(self) -> list[Recorded]:
        """The chat requests that are no background tasks."""
        return [recorded for recorded in self.chats if not is_task(recorded)]

    @property
    def tasks(self) -> list[Recorded]:
        return [recorded for recorded in self.chats if is_task(recorded)]


def is_task(recorded: Recorded) -> bool:
    messages = recorded.body.get("messages") or [{}]
    return text_of(messages[-1].get("content")).startswith(TASK)


@dataclass
class Stand:
    """What runs, and who is signed in.

    Args:
        ann: a user in the group `staff`.
        bob: a user in the group `guests`.
    """

    webui: WebUI
    ours: Server
    stock: Server
    provider: ScriptedProvider
    admin: Account
    ann: Account
    bob: Account

    @property
    def connection(self) -> Connection:
        """Our server, as an admin enters it."""
        return Connection(self.ours.url, self.ours.key)

    @property
    def plain_connection(self) -> Connection:
        """The provider itself, with one model of its own."""
        return Connection(self.provider.base_url, self.provider.key, {"model_ids": [PLAIN]})

    def logs(self) -> dict[str, str]:
        """What the servers said, by name."""
        return {
            "open-webui": self.webui.log(),
            "ours": self.ours.log_file.read_text(errors="replace"),
            "stock": self.stock.log_file.read_text(errors="replace"),
        }


@contextlib.contextmanager
def standing(home: Path) -> Iterator[Stand]:
    """The stand, with fresh data, connected and with its users' rights granted."""
    assert OPEN_WEBUI
    webui = WebUI(home / "webui", OPEN_WEBUI)
    with contextlib.ExitStack() as stack:
        provider = stack.enter_context(ScriptedProvider(aliases={PLAIN: "stub-agent"}))
        webui.spawn()
        stack.callback(webui.stop)
        stock = make(STOCK, home / "stock", provider.base_url, foreign=())
        stock.environment["AGENT_MODE_MODEL"] = PLAIN
        webui.wait()
        admin = webui.sign_up("Ada")
        ours = make(
            OURS,
            home / "ours",
            provider.base_url,
            foreign=(),
            environment={
                "AGENT_MODE_MODEL": PLAIN,
                "AGENT_MODE_ALLOW_CUSTOM_PYTHON": "true",
                "OPENWEBUI_URL": webui.url,
                "OPENWEBUI_API_KEY": admin.api_key(),
            },
        )
        stack.enter_context(running(ours, stock))
        ann = admin.add_user("Ann", group="staff")
        bob = admin.add_user("Bob", group="guests")
        stand = Stand(webui, ours, stock, provider, admin, ann, bob)
        admin.connect(stand.connection, stand.plain_connection)
        for model in (*PUBLIC, PLAIN):
            admin.share_model(model, EVERYBODY)
        for model in STAFF:
            admin.share_model(model, group_may_read(admin.group("staff")))
        yield stand
