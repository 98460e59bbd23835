"""The core journeys over REST and in the page, for any version of Open WebUI.

Prints rows for docs/compatibility.md.

    python -m tests.e2e.compatibility /path/to/open-webui --chromium /usr/bin/chromium

No part of the test command: it is run by hand. Without a browser REST alone is tried, by the Python that has
our dependencies; with one, the Python of the end-to-end tests runs it, and AGENT_MODE_TEST_PYTHON names ours.
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.e2e import older_pages
from tests.e2e.personas import CATALOGUE, check, prompts_in
from tests.e2e.rest_chat import RestChat, version_of, words
from tests.e2e.stand import PLAIN, TITLE, ScriptedProvider
from tests.e2e.webui import Account, Connection, Json, WebUI
from tests.server.rest import Rest
from tests.server.servers import Kind, Server, eventually, make, running

AGENT = "handyman"
TOOLS = '''
class Tools:
    def roll_dice(self, sides: int = 6) -> str:
        """
        Rolls a die.
        :param sides: how many sides it has
        """
        return f"a {sides}-sided die showed 3"
'''
STOP_SECONDS = 1.0
"""How soon the provider has to see that nobody listens any more."""
START_SECONDS = 600.0
"""How long Open WebUI may take to start; its first start migrates an empty database."""


@dataclass
class Lab:
    """What runs, and what was noticed.

    Args:
        ann: a user who is no admin.
        notes: what differs from the newest version, without being a failure.
    """

    server: Server
    provider: ScriptedProvider
    admin: Account
    ann: Account
    version: tuple[int, ...]
    notes: list[str] = field(default_factory=list)

    def share(self, *models: str) -> None:
        """Makes models public, as **Make Public** does."""
        for model in models:
            assert eventually(lambda model=model: model in self.admin.models(), 10), f"no model {model}"
            listed = self.admin.models()
            form: Json = {
                "id": model,
                "base_model_id": None,
                "name": listed[model]["name"],
                "meta": {},
                "params": {},
                "access_control": None,  # up to 0.7: public
                "access_grants": [{"principal_type": "user", "principal_id": "*", "permission": "read"}],
                "is_active": True,
            }
            self.admin.post("/api/v1/models/create", form)


def connect(lab: Lab) -> None:
    """Journey 1: the URL, the list, a persona that answers; title and tags without it."""
    entry = lab.admin.models()["personas.coder"]
    assert entry["name"] == f"{CATALOGUE['coder']['emoji']} {CATALOGUE['coder']['name']}"
    description = (entry.get("info") or {}).get("meta", {}).get("description")
    if description != CATALOGUE["coder"]["description"]:
        lab.notes.append("no descriptions in the model list")
    if not entry.get("tags"):
        lab.notes.append("no tags in the model list")
    assert "personas.coder" not in lab.ann.models(), "a new model is seen by everyone"
    lab.share("personas.coder", "personas.writer", "personas.console", PLAIN)

    chat = RestChat(lab.ann, "personas.coder", tasks=True)
    answer = chat.ask("say: at your service")
    assert words(answer) == "at your service", answer
    check(lab.provider.turns[-1], "coder")
    assert eventually(lambda: lab.ann.chat(chat.id)["title"] == TITLE, 15), "no title"
    assert lab.provider.tasks
    assert not [task for task in lab.provider.tasks if prompts_in(task)], "a task was given a persona"


def switch(lab: Lab) -> None:
    """Journey 2: by the model list and by `!writer`; the hard reset, and nothing of the old persona."""
    chat = RestChat(lab.ann, "personas.coder")
    chat.ask("say: in code")
    check(lab.provider.turns[-1], "coder")
    answer = chat.ask("!writer say: in words")
    assert words(answer) == "in words", answer
    check(lab.provider.turns[-1], "writer", after="coder")
    if not answer.get("statusHistory"):
        lab.notes.append("no status line")
    chat.ask("say: more words")
    check(lab.provider.turns[-1], "writer")
    chat.ask("!reset")
    chat.ask("say: in code again")
    check(lab.provider.turns[-1], "coder", after="writer")

    picked = RestChat(lab.ann, "personas.coder")
    picked.ask("say: in code")
    picked.model = "personas.writer"
    picked.ask("say: in words")
    check(lab.provider.turns[-1], "writer", after="coder")


def branch(lab: Lab) -> None:
    """Journey 2: an edit of an earlier message; what was switched on the other branch does not count."""
    chat = RestChat(lab.ann, "personas.coder")
    first = chat.ask("say: in code")
    chat.ask("!writer say: in words")
    chat.go_to(first["id"])
    chat.ask("say: still in code")
    check(lab.provider.turns[-1], "coder")


def access(lab: Lab) -> None:
    """Journey 10: a command does not reach a persona that Open WebUI keeps from the user."""
    asked = len(lab.provider.turns)
    answer = RestChat(lab.ann, "personas.coder").ask("!teacher say: in class")
    assert len(lab.provider.turns) == asked, "the persona answered"
    assert "You may not use" in words(answer), answer


def any_model(lab: Lab) -> None:
    """Journey 3: the filter on a plain model; what Agent Mode says itself comes from the console model."""
    chat = RestChat(lab.ann, PLAIN)
    chat.ask("say: as I am")
    assert prompts_in(lab.provider.turns[-1]) == []
    answer = chat.ask("!writer say: in words")
    assert words(answer) == "in words", answer
    check(lab.provider.turns[-1], "writer", after="")
    chat.ask("say: more words")
    check(lab.provider.turns[-1], "writer")
    asked = len(lab.provider.turns)
    listed = chat.ask("!agent list")
    if len(lab.provider.turns) > asked:
        lab.notes.append("the picked model repeats what the console would say")
    elif not listed.get("embeds"):
        lab.notes.append("the list is text, without the browser")


def tools(lab: Lab) -> None:
    """Journey 5: an agent calls a tool of the workspace, over relay."""
    Rest(lab.server).create(AGENT, name="Handyman", valves={})
    lab.admin.add_tool("kit", TOOLS, {"principal_type": "user", "principal_id": "*", "permission": "read"})
    lab.share(AGENT)
    question = 'call: roll_dice {"sides": 6}\nthen say: It is {results}.'
    answer = RestChat(lab.ann, AGENT, tools=["kit"]).ask(question)
    if "a 6-sided die showed 3" not in words(answer):
        lab.notes.append("agents' tools need **Function Calling: Native**")
        answer = RestChat(lab.ann, AGENT, tools=["kit"], params={"function_calling": "native"}).ask(question)
    assert "It is a 6-sided die showed 3." in words(answer), answer


def stop(lab: Lab) -> None:
    """Journey 8: Stop closes the provider's connection within a second."""
    chat = RestChat(lab.ann, "personas.coder")
    chat.send("like: stub-stall")
    assert eventually(lambda: len(lab.provider.turns) == 1, 15)
    time.sleep(0.5)
    began = time.monotonic()
    chat.stop()
    assert eventually(lambda: lab.provider.turns[-1].closed_at is not None, 5), "the provider is still asked"
    took = (lab.provider.turns[-1].closed_at or 0) - began
    assert took < STOP_SECONDS, f"it took {took:.1f} s"


JOURNEYS: dict[str, Callable[[Lab], None]] = {
    "connect, pick, chat": connect,
    "switch": switch,
    "branches": branch,
    "access": access,
    "any model": any_model,
    "tools": tools,
    "stop": stop,
}


@dataclass
class Found:
    """What one version can do.

    Args:
        rest: what became of each journey over REST: `yes` or the reason.
        pages: the same, in the page; empty without a browser.
        notes: what differs from the newest version.
    """

    version: str
    rest: dict[str, str]
    pages: dict[str, str]
    notes: list[str]


def try_all(command: str, home: Path, *, service_key: bool = True, chromium: str = "") -> Found:
    """Tries all journeys.

    Args:
        service_key: whether Agent Mode is given an admin's API key to ask with.
        chromium: the browser; none: REST alone.
    """
    webui = WebUI(home / "webui", command)
    with ScriptedProvider(aliases={PLAIN: "stub-agent"}) as provider:
        webui.spawn()
        try:
            webui.wait(START_SECONDS)
            admin = webui.sign_up("Ada")
            ann = admin.add_user("Ann")
            environment = {"AGENT_MODE_MODEL": PLAIN, "OPENWEBUI_URL": webui.url}
            permissions = admin.get("/api/v1/users/default/permissions")
            permissions["features"]["api_keys"] = True  # up to 0.6 admins need it too
            admin.post("/api/v1/users/default/permissions", permissions)
            if service_key:
                environment["OPENWEBUI_API_KEY"] = admin.api_key()
            kind = Kind("ours", os.environ.get("AGENT_MODE_TEST_PYTHON", sys.executable), own=True)
            server = make(kind, home / "ours", provider.base_url, foreign=(), environment=environment)
            with running(server):
                admin.connect(
                    Connection(server.url, server.key),
                    Connection(provider.base_url, provider.key, {"model_ids": [PLAIN]}),
                )
                lab = Lab(server, provider, admin, ann, version_of(admin))
                rest = {name: _try(partial(journey, lab), lab) for name, journey in JOURNEYS.items()}
                pages: dict[str, str] = {}
                if chromium:
                    with older_pages.journeys(chromium, home, lab) as journeys:
                        pages = {name: _try(journey, lab) for name, journey in journeys.items()}
        finally:
            webui.stop()
    return Found(".".join(map(str, lab.version)), rest, pages, lab.notes)


def _try(journey: Callable[[], None], lab: Lab) -> str:
    lab.provider.clear()
    try:
        journey()
    except Exception as error:  # noqa: BLE001  one journey that fails must not hide the others
        traceback.print_exc()
        return f"no: {type(error).__name__} {str(error)[:300]}"
    return "yes"


def main() -> int:
    parser = argparse.ArgumentParser(description="Try the core journeys on a version of Open WebUI.")
    parser.add_argument("command", help="the open-webui program")
    parser.add_argument(
        "--home", type=Path, help="a folder for data, logs and pictures, kept; default: a temporary one"
    )
    parser.add_argument(
        "--chromium", default="", help="the browser to try the pages with; default: REST alone"
    )
    parser.add_argument("--no-api-key", action="store_true", help="leave OPENWEBUI_API_KEY unset")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = try_all(
            chosen.command,
            chosen.home or Path(folder),
            service_key=not chosen.no_api_key,
            chromium=chosen.chromium,
        )
    for part in filter(None, (found.rest, found.pages)):
        print(f"| Open WebUI | {' | '.join(part)} |")
        print(f"| {found.version} | {' | '.join(word.partition(':')[0] for word in part.values())} |")
    tried = {**found.rest, **found.pages}
    print("\n".join([f"- {name}: {word}" for name, word in tried.items() if word != "yes"]))
    print("\n".join(f"- {note}" for note in found.notes))
    return int(any(word != "yes" for word in tried.values()))


if __name__ == "__main__":
    sys.exit(main())
