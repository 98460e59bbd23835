"""No valve without an effect: each is changed, and what it does is looked at, before and after."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import logging
import re
import socket
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog

from agent_mode.agents.engine import Chunks, Completion, Failure, Status, Text
from agent_mode.chat import hotswap, reading, scene
from agent_mode.chat.catalogues import Catalogues
from agent_mode.chat.context import TurnContext, User
from agent_mode.chat.conversation import respond
from agent_mode.chat.hotswap import Call, rewrite
from agent_mode.chat.runtime import Runtime, seed
from agent_mode.chat.sequence import words_of
from agent_mode.chat.turn import Turn
from agent_mode.llm.sse import Facts
from agent_mode.observe import logs
from agent_mode.server import pipeline
from agent_mode.server.pipeline import HotswapFilter, PersonaManifold
from agent_mode.store.personas import Keep, PersonaForm
from agent_mode.tools.status_lines import StatusLines
from agent_mode.valves import HotswapValves, PersonaValves, Valves
from tests.owui_double import Double
from tests.patience import PATIENCE
from tests.provider import KEY, Provider
from tests.runtimes import settings

ROOT = Path(__file__).resolve().parents[2]
POLICIES = ("full", "relabel", "summary", "last_n", "none")
LONG = "word " * 200


@dataclass
class Lab:
    """A running server's parts, and the provider that it asks."""

    runtime: Runtime
    provider: Provider
    logged: list[Any]

    async def ask(
        self,
        valves: PersonaValves,
        text: str,
        *,
        model: str = "coder",
        earlier: tuple[str, ...] = (),
        replies: tuple[str, ...] = (),
    ) -> Answer:
        """One turn of one of our models, in a chat that a person looks at."""
        turn = Turn(
            model=f"personas.{model}",
            messages=transcript(*earlier, text),
            stream=True,
            context=TurnContext(chat_id=str(uuid.uuid4()), session_id="s"),
            user=User("ann"),
        )
        self.provider.clear()
        self.provider.script(*replies)
        events = [event async for event in respond(self.runtime, turn, model, valves, Facts())]
        assert not any(isinstance(event, Completion) for event in events)
        return Answer(events, [recorded.body for recorded in self.provider.chats])

    async def filter(
        self, valves: HotswapValves, text: str, *, earlier: tuple[str, ...] = (), user: str = "ann"
    ) -> dict[str, Any]:
        """What the filter makes of a request to a model that is not ours."""
        body = {
            "model": "gpt-4o",
            "messages": transcript(*earlier, text),
            "stream": True,
            "metadata": {
                "chat_id": str(uuid.uuid4()),
                "message_id": str(uuid.uuid4()),
                "session_id": "s",
                "user_message": {"id": "q", "parentId": None if not earlier else "unknown"},
            },
        }
        return await rewrite(self.runtime, Call(body, {"id": user, "role": "admin"}, "secret"), valves)

    async def save(self, valves: HotswapValves, *prompts: str) -> None:
        """An admin saves the filter's form; afterwards a persona is changed some times."""
        pipe = HotswapFilter()
        pipe.valves = valves
        await pipe.on_valves_updated()
        for prompt in prompts:
            known = await self.runtime.persona_store.get("coder")
            values = {name: getattr(known, name) for name in PersonaForm.model_fields}
            await self.runtime.persona_store.save(PersonaForm.model_validate({**values, "prompt": prompt}))


@dataclass
class Answer:
    """What came of a turn."""

    events: list[Any]
    bodies: list[dict[str, Any]]
    """Of the provider's requests."""

    @property
    def text(self) -> str:
        pieces = []
        for event in self.events:
            if isinstance(event, Text):
                pieces.append(event.content)
            elif isinstance(event, Chunks):
                pieces += [word.content for word in words_of(event.data) if isinstance(word, Text)]
        return "".join(pieces)

    @property
    def failure(self) -> str | None:
        return next((event.error.code for event in self.events if isinstance(event, Failure)), None)

    @property
    def statuses(self) -> list[str]:
        return [event.description for event in self.events if isinstance(event, Status)]

    @property
    def speakers(self) -> list[str]:
        return [speaker for body in self.bodies for speaker in speakers(body)]


def transcript(*texts: str) -> list[dict[str, Any]]:
    return [{"role": ("user", "assistant")[number % 2], "content": text} for number, text in enumerate(texts)]


def speakers(body: dict[str, Any]) -> list[str]:
    """Who the model is told to be."""
    return re.findall(r'<agent_mode agent="([^"]*)">', "\n".join(str(m["content"]) for m in body["messages"]))


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with Provider() as provider:
        yield provider


@pytest.fixture
async def lab(tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Lab]:
    capture = structlog.testing.LogCapture()
    log = structlog.wrap_logger(None, processors=[capture], wrapper_class=structlog.stdlib.BoundLogger)
    for module in (scene, hotswap, reading):
        monkeypatch.setattr(module, "log", log)
    known = settings(
        tmp_path, openai_api_base_url=provider.base_url, openai_api_key=KEY, model="stub", layer="off"
    )
    runtime = await Runtime.open(known)
    monkeypatch.setattr(pipeline.host, "_runtime", runtime)
    yield Lab(runtime, provider, capture.entries)
    await runtime.close()


# What each valve does: something to look at, and what is seen there with the default and with the change


Look = Callable[[Lab, Any], Awaitable[Any]]
LOOKS: dict[tuple[type[Valves], str, str], tuple[Any, Any, Look]] = {}


def effect(
    kind: type[Valves], name: str, *, at: Any, before: Any, after: Any, case: str = ""
) -> Callable[[Look], Look]:
    """Registers a look at what the valve does when it is set to `at`."""

    def register(look: Look) -> Look:
        LOOKS[kind, name, case] = (at, (before, after), look)
        return look

    return register


# Of the personas


@effect(PersonaValves, "models", at="writer, teacher", before=[5, None], after=[2, "agent_not_found"])
async def _offered(lab: Lab, valves: PersonaValves) -> Any:
    manifold = PersonaManifold()
    manifold.valves = valves
    keys = {entry["id"] for entry in manifold.pipelines()} - {"auto", "console"}
    return [len(keys), (await lab.ask(valves, "Hi", model="coder")).failure]


@effect(PersonaValves, "keyword_prefix", at="#", before=["writer", "coder"], after=["coder", "writer"])
async def _prefix(lab: Lab, valves: PersonaValves) -> Any:
    return [(await lab.ask(valves, text)).speakers[0] for text in ("!writer Hi", "#writer Hi")]


@effect(PersonaValves, "case_sensitive", at=True, before=[["writer"]] * 2, after=[["writer"], []])
async def _case(lab: Lab, valves: PersonaValves) -> Any:
    return [(await lab.ask(valves, text)).speakers for text in ("!writer Hi", "!WRITER Hi")]


HISTORY = ("Hi", LONG, "Two", "Zwei", "Three", "Drei", "Four", "Vier")


def seen(messages: list[dict[str, Any]]) -> list[Any]:
    """How the earlier replies are seen: as the model's own, quoted, shortened, the oldest, any."""
    text = "\n".join(str(message["content"]) for message in messages)
    return [
        sum(message["role"] == "assistant" for message in messages),
        "<transcript>" in text,
        LONG.strip() in text,
        "Vier" in text,
    ]


SEEN = {
    "full": [4, False, True, True],
    "relabel": [0, True, True, True],
    "summary": [0, True, False, True],
    "last_n": [3, False, False, True],
    "none": [0, False, False, False],
}


async def _history(lab: Lab, valves: PersonaValves) -> Any:
    answer = await lab.ask(valves, "!writer Go on", earlier=HISTORY)
    return seen(answer.bodies[0]["messages"])


async def _foreign_history(lab: Lab, valves: HotswapValves) -> Any:
    return seen((await lab.filter(valves, "!writer Go on", earlier=HISTORY))["messages"])


for policy in POLICIES[1:]:
    for kind, look in ((PersonaValves, _history), (HotswapValves, _foreign_history)):
        shown: dict[str, Any] = {"before": SEEN["full"], "after": SEEN[policy]}  # the strategies' choice here
        effect(kind, "history_policy", at=policy, case=policy, **shown)(look)


@effect(PersonaValves, "enable_debug", at=True, before=[], after=["Hello there"])
async def _prompts(lab: Lab, valves: PersonaValves) -> Any:
    await lab.ask(valves, "Hello there")
    return [entry["messages"][-1]["content"] for entry in lab.logged if entry["event"] == "prompt"]


@effect(
    PersonaValves, "enable_debug", at=True, case="decisions", before=[], after=[("coder", None, "writer")]
)
async def _decisions(lab: Lab, valves: PersonaValves) -> Any:
    await lab.ask(valves, "!writer Hello there")
    return decided(lab)


def decided(lab: Lab) -> list[Any]:
    """What was logged about who answers: the model that was asked, who answered before, who answers."""
    entries = [entry for entry in lab.logged if entry["event"] == "turn decided"]
    assert "Hello" not in json.dumps(entries)
    return [(entry["model"], entry["previous"], entry["persona"]) for entry in entries]


@effect(
    PersonaValves,
    "enable_suggestions",
    at=True,
    before=False,
    after=True,
)
async def _suggestion(lab: Lab, valves: PersonaValves) -> Any:
    answer = await lab.ask(valves, "Why does my SQL query return duplicate rows of the database?")
    assert answer.text.startswith("Hello from stub: ")
    return answer.text.endswith("rows of the database?\n\n> 💡 Tip: `!sql_expert` knows more about this.")


@effect(PersonaValves, "llm_base_url", at="http://127.0.0.1:9/v1", before=None, after="provider_unreachable")
async def _address(lab: Lab, valves: PersonaValves) -> Any:
    return (await lab.ask(valves, "Hi")).failure


@effect(PersonaValves, "llm_api_key", at="sk-another", before=None, after="Bearer sk-another")
async def _key(lab: Lab, valves: PersonaValves) -> Any:
    await lab.ask(valves, "Hi")
    sent = lab.provider.last().headers["authorization"]
    return None if sent == f"Bearer {KEY}" else sent


@effect(PersonaValves, "llm_model", at="stub-usage", before="stub", after="stub-usage")
async def _model(lab: Lab, valves: PersonaValves) -> Any:
    return (await lab.ask(valves, "Hi")).bodies[0]["model"]


@effect(PersonaValves, "show_persona_info", at=False, before=["📝 Writer takes over from 💻 Coder"], after=[])
async def _info(lab: Lab, valves: PersonaValves) -> Any:
    return (await lab.ask(valves, "!writer Go on", earlier=("Hi", "Hello"))).statuses


@effect(PersonaValves, "max_steps", at=2, before=[3, None], after=[0, "too_many_steps"])
async def _steps(lab: Lab, valves: PersonaValves) -> Any:
    answer = await lab.ask(valves, "!coder a !writer b !teacher c")
    return [len(answer.bodies), answer.failure]


TALK = "!persona1 coder !persona2 writer !persona3 teacher !multi Tea?"


@effect(PersonaValves, "multi_turns", at=1, before=6, after=3)
async def _turns(lab: Lab, valves: PersonaValves) -> Any:
    return len((await lab.ask(valves, TALK)).bodies)


@effect(PersonaValves, "multi_models", at=2, before=3, after=2)
async def _speakers(lab: Lab, valves: PersonaValves) -> Any:
    return len(set((await lab.ask(valves, TALK)).speakers))


@effect(
    PersonaValves,
    "enable_stream_switching",
    at=True,
    before="**💻 Coder**\n\nCode.\n\n---\n\n**📝 Writer**\n\nWritten.",
    after="Code.\n\nWritten.",
)
async def _flow(lab: Lab, valves: PersonaValves) -> Any:
    return (await lab.ask(valves, "!coder a !writer b", replies=("Code.", "Written."))).text


@effect(PersonaValves, "connect_timeout", at=0.3, before="later", after="provider_unreachable")
async def _patience_to_connect(lab: Lab, valves: PersonaValves) -> Any:
    """A port whose queue is full lets callers wait, as a firewall does."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        try:
            for connection in waiting:
                connection.setblocking(False)
                connection.connect_ex(address)
            valves.llm_base_url = f"http://127.0.0.1:{address[1]}/v1"
            return await _failure_within(lab, valves, 4.0)
        finally:
            for connection in waiting:
                connection.close()


@effect(PersonaValves, "read_timeout", at=0.3, before="later", after="provider_timeout")
async def _patience_to_read(lab: Lab, valves: PersonaValves) -> Any:
    valves.llm_model = "stub-hang"
    return await _failure_within(lab, valves, 4.0)


async def _failure_within(lab: Lab, valves: PersonaValves, seconds: float) -> str | None:
    try:
        async with asyncio.timeout(seconds):
            return (await lab.ask(valves, "Hi")).failure
    except TimeoutError:
        return "later"


# Of the filter


@effect(
    HotswapValves,
    "enable_suggestions",
    at=True,
    before=None,
    after="\n\n> 💡 Tip: `!sql_expert` knows more about this.",
)
async def _foreign_suggestion(lab: Lab, valves: HotswapValves) -> Any:
    sent = await lab.filter(valves, "Why does my SQL query return duplicate rows of the database?")
    for _ in range(10):  # it is found beside the request
        await asyncio.sleep(0)
    return lab.runtime.offers.take("ann", sent["metadata"]["message_id"])


@effect(HotswapValves, "models", at="teacher", before=["writer"], after=[])
async def _callable(lab: Lab, valves: HotswapValves) -> Any:
    return speakers(await lab.filter(valves, "!writer Hi"))


@effect(HotswapValves, "keyword_prefix", at="#", before=[["writer"], []], after=[[], ["writer"]])
async def _foreign_prefix(lab: Lab, valves: HotswapValves) -> Any:
    return [speakers(await lab.filter(valves, text)) for text in ("!writer Hi", "#writer Hi")]


@effect(HotswapValves, "case_sensitive", at=True, before=["writer"], after=[])
async def _foreign_case(lab: Lab, valves: HotswapValves) -> Any:
    return speakers(await lab.filter(valves, "!WRITER Hi"))


@effect(HotswapValves, "enable_debug", at=True, before=[], after=["Hello there"])
async def _foreign_prompts(lab: Lab, valves: HotswapValves) -> Any:
    await lab.filter(valves, "!writer Hello there")
    return [entry["messages"][-1]["content"] for entry in lab.logged if entry["event"] == "prompt"]


@effect(
    HotswapValves, "enable_debug", at=True, case="decisions", before=[], after=[("gpt-4o", None, "writer")]
)
async def _foreign_decisions(lab: Lab, valves: HotswapValves) -> Any:
    await lab.filter(valves, "!writer Hello there")
    return decided(lab)


@effect(HotswapValves, "integration_debug", at=True, before=[], after=["writer"])
async def _integration(lab: Lab, valves: HotswapValves) -> Any:
    await lab.filter(valves, "!writer Hello there")
    assert "Hello" not in json.dumps(lab.logged)
    return [entry["active_persona"] for entry in lab.logged if entry["event"] == "integration context"]


@effect(
    HotswapValves,
    "show_persona_info",
    at=False,
    before=["📝 Writer", "📝 Writer takes over"],
    after=[],
)
async def _foreign_info(lab: Lab, valves: HotswapValves) -> Any:
    """Sent to Open WebUI, which is another program here."""
    with Double() as webui:
        lab.runtime.status_lines = StatusLines(webui.url, webui.user("root", "admin").key)
        await lab.filter(valves, "Hi")
        await lab.filter(valves, "!writer Hi")
        await lab.filter(valves, "!writer Hi", earlier=("!coder Hi", "It is so."))
        await asyncio.sleep(0.3)  # they are sent off the user's path
        await lab.runtime.status_lines.close()
        return [request.body["data"]["description"] for request in webui.requests]


@effect(HotswapValves, "persistent_persona", at=True, before=[], after=["writer"])
async def _next_chat(lab: Lab, valves: HotswapValves) -> Any:
    user = uuid.uuid4().hex
    await lab.filter(valves, "!writer Hi", user=user)
    async with asyncio.timeout(PATIENCE):
        while (await lab.runtime.users.get(user)).persona is None:  # noted off the user's path
            await asyncio.sleep(0.001)
    return speakers(await lab.filter(valves, "Hello", user=user))


@effect(HotswapValves, "enable_persona_versioning", at=False, before=3, after=1)
async def _versions(lab: Lab, valves: HotswapValves) -> Any:
    await lab.save(valves, "You write code, well.", "You write code, better.")
    return len(await lab.runtime.persona_store.history("coder"))


@effect(HotswapValves, "version_history_limit", at=2, before=4, after=2)
async def _limited_versions(lab: Lab, valves: HotswapValves) -> Any:
    await lab.save(valves, "You write code: one.", "You write code: two.", "You write code: three.")
    return len(await lab.runtime.persona_store.history("coder"))


@effect(HotswapValves, "enable_automatic_backups", at=False, before=[1, 1], after=[0, 0])
async def _backups(lab: Lab, valves: HotswapValves) -> Any:
    await lab.save(valves)
    await lab.runtime.backups.maintain()
    made = len(await lab.runtime.backups.list())
    await lab.runtime.persona_store.delete("coder")
    return [made, len(await lab.runtime.backups.list())]


@effect(HotswapValves, "max_backup_files", at=2, before=4, after=2)
async def _limited_backups(lab: Lab, valves: HotswapValves) -> Any:
    await lab.save(valves)
    for number in range(4):
        await lab.runtime.backups.make(f"number {number}", force=True)
    return len(await lab.runtime.backups.list())


@contextmanager
def published(lab: Lab) -> Iterator[None]:
    """A catalogue that was downloaded already; how that is done is shown in test_updates.py."""
    personas = [{"key": key, "name": key, "prompt": "You are theirs."} for key in ("coder", "sommelier")]
    data = json.dumps({"format": "agent-mode-personas", "version": 1, "personas": personas}).encode()
    digest = hashlib.sha256(data).hexdigest()
    folder = lab.runtime.settings.data_dir / "catalogues"
    folder.mkdir(exist_ok=True)
    (folder / f"{digest}.json").write_bytes(data)
    urls = {"catalogue_urls": f"https://example.org/personas.json#sha256={digest}"}
    before = lab.runtime.settings
    lab.runtime.settings = before.model_copy(update=urls)
    yield
    lab.runtime.settings = before


@effect(HotswapValves, "auto_download_personas", at=True, before=False, after=True)
async def _download(lab: Lab, valves: HotswapValves) -> Any:
    with published(lab):
        assert await lab.runtime.persona_store.get("sommelier") is None
        await lab.save(valves)
        for _ in range(2_000 if valves.auto_download_personas else 20):
            await asyncio.sleep(0.01)
            if await lab.runtime.persona_store.get("sommelier") is not None:
                return True
        return False


@effect(HotswapValves, "protect_custom_personas", at=False, before="Mine.", after="You are theirs.")
async def _protect(lab: Lab, valves: HotswapValves) -> Any:
    with published(lab):
        await lab.save(valves, "Mine.")
        await Catalogues(lab.runtime).check()
        found = await lab.runtime.persona_store.get("coder")
        return found.prompt if found else None


async def _log_lines(lab: Lab, valves: HotswapValves) -> Any:
    """How a record looks before and after an admin saved the form, and after the filter is gone."""
    logger = logging.getLogger("agent_mode")
    state = logger.handlers[:], logger.propagate, logger.level
    logs.configure(json=lab.runtime.settings.log_format == "json")
    out = io.StringIO()
    handler = logger.handlers[0]
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(out)
    try:
        pipe = HotswapFilter()
        pipe.valves = valves
        logger.info("one")
        await pipe.on_valves_updated()
        logger.info("two")
        await pipe.on_shutdown()
        logger.info("three")
    finally:
        logger.handlers[:], logger.propagate = state[0], state[1]
        logger.setLevel(state[2])
    return ["json" if line.startswith("{") else "text" for line in out.getvalue().splitlines()]


@effect(
    HotswapValves, "enable_structured_logging", at="on", before=["text"] * 3, after=["text", "json", "text"]
)
async def _structured(lab: Lab, valves: HotswapValves) -> Any:
    return await _log_lines(lab, valves)


@effect(
    HotswapValves,
    "enable_structured_logging",
    at="off",
    case="off",
    before=["json"] * 3,
    after=["json", "text", "json"],
)
async def _unstructured(lab: Lab, valves: HotswapValves) -> Any:
    lab.runtime.settings = lab.runtime.settings.model_copy(update={"log_format": "json"})
    return await _log_lines(lab, valves)


ELSEWHERE: dict[tuple[type[Valves], str], str] = {
    (
        HotswapValves,
        "pipelines",
    ): "tests/server/test_hotswap.py::test_openwebui_is_told_on_which_models_it_works",
    (
        HotswapValves,
        "priority",
    ): "tests/server/test_hotswap.py::test_openwebui_is_told_on_which_models_it_works",
}
"""Valves that the Pipelines server and Open WebUI act on; the test that shows it."""

TIMEOUTS = ("connect_timeout", "read_timeout")
"""Their smallest values are whole seconds; here they are set below, past the form's bounds."""


def named(key: tuple[type[Valves], str, str]) -> str:
    kind, name, case = key
    return f"{kind.__name__}.{name}" + (f"={case}" if case else "")


@pytest.mark.parametrize("key", LOOKS, ids=named)
async def test_a_valve_does_what_it_says(lab: Lab, key: tuple[type[Valves], str, str]) -> None:
    kind, name, _ = key
    at, (before, after), look = LOOKS[key]
    usual = kind()
    changed = kind() if name in TIMEOUTS else kind.model_validate({name: at})
    if name in TIMEOUTS:
        setattr(changed, name, at)
    assert [field for field in kind.model_fields if getattr(changed, field) != getattr(usual, field)] == [
        name
    ]

    assert await look(lab, usual) == before
    lab.logged.clear()
    if name.startswith(("enable_", "version_", "max_backup", "auto_", "protect_")):
        await _anew(lab)

    assert await look(lab, changed) == after


async def _anew(lab: Lab) -> None:
    """The store and the backups as they were in the beginning."""
    for path in lab.runtime.backups.folder.glob("*"):
        path.unlink()
    async with lab.runtime.db.begin() as connection:
        for table in ("persona_version", "persona"):
            await connection.exec_driver_sql(f"delete from {table}")
    lab.runtime.persona_store.keep = Keep()
    await seed(lab.runtime.settings, lab.runtime.persona_store)
    await lab.runtime.personas.load(lab.runtime.persona_store)


@pytest.mark.parametrize("key", ELSEWHERE, ids=lambda key: f"{key[0].__name__}.{key[1]}: {ELSEWHERE[key]}")
def test_a_valve_is_shown_elsewhere(key: tuple[type[Valves], str]) -> None:
    path, _, name = ELSEWHERE[key].partition("::")
    source = (ROOT / path).read_text()

    body = source.partition(f"def {name}(")[2].partition("\ndef ")[0]
    assert f"{key[1]}=" in body, "the test does not change the valve"


@pytest.mark.parametrize("kind", [HotswapValves, PersonaValves])
def test_no_valve_is_left_out(kind: type[Valves]) -> None:
    shown = {name for owner, name, _ in LOOKS if owner is kind}
    shown |= {name for owner, name in ELSEWHERE if owner is kind}

    assert shown == set(kind.model_fields)


def test_every_policy_is_looked_at() -> None:
    choices = PersonaValves.model_json_schema()["properties"]["history_policy"]["enum"]

    assert set(choices) == {"strategy", *POLICIES}
    assert set(SEEN) == set(POLICIES)
    assert len({json.dumps(value) for value in SEEN.values()}) == len(POLICIES)
