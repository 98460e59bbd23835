"""Lines that Open WebUI is asked to show: what is sent, and that nothing of it can harm a chat."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from agent_mode.tools import status_lines as module
from agent_mode.tools.status_lines import StatusLines
from tests.owui_double import Double


@pytest.fixture
def webui() -> Iterator[Double]:
    with Double() as webui:
        yield webui


@pytest.fixture
async def lines(webui: Double) -> AsyncIterator[StatusLines]:
    lines = StatusLines(webui.url, webui.user("root", "admin").key)
    yield lines
    await lines.close()


async def test_a_line_is_an_event_of_its_message(webui: Double, lines: StatusLines) -> None:
    await lines.show("chat-1", "message-1", "💻 Coder")

    (request,) = webui.requests
    assert (request.method, request.path) == ("POST", "/api/v1/chats/chat-1/messages/message-1/event")
    assert request.body == {
        "type": "status",
        "data": {"description": "💻 Coder", "done": True, "hidden": False},
    }


async def test_an_id_leads_to_no_other_route(webui: Double, lines: StatusLines) -> None:
    await lines.show("../../users/1?x=#", "m", "💻 Coder")

    assert [request.path.endswith("/messages/m/event") for request in webui.requests] == [True]


@pytest.mark.parametrize(
    ("url", "key"), [(None, None), ("http://127.0.0.1:9", None), (None, "sk-service"), ("", "sk-service")]
)
async def test_without_address_or_key_there_is_nobody_to_send_to(url: str | None, key: str | None) -> None:
    lines = StatusLines(url, key)

    assert not lines.can_reach("chat-1")
    await lines.show("chat-1", "m", "💻 Coder")  # raises nothing either
    await lines.close()


@pytest.mark.parametrize("chat_id", ["temporary:s1", "local:s1", "channel:c1"])
def test_chats_that_are_not_stored_are_out_of_reach(lines: StatusLines, chat_id: str) -> None:
    assert not lines.can_reach(chat_id)
    assert lines.can_reach("chat-1")


async def test_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = StatusLines("http://127.0.0.1:9", "sk-service")
    await lines.show("chat-1", "m", "💻 Coder")
    assert not lines.can_reach("chat-1"), "it is not tried with every turn"

    monkeypatch.setattr(module.time, "monotonic", lambda: 1e12)

    assert lines.can_reach("chat-1")
    await lines.close()


async def test_a_failing_one_is_left_alone_for_a_while(webui: Double, lines: StatusLines) -> None:
    webui.down = 500
    await lines.show("chat-1", "m", "💻 Coder")

    assert not lines.can_reach("chat-1")


async def test_a_chat_that_is_refused_says_nothing_of_the_others(webui: Double) -> None:
    lines = StatusLines(webui.url, webui.user("ann").key)
    await lines.show("chat-1", "m", "💻 Coder")

    assert lines.can_reach("chat-2")
    await lines.close()
