"""Why another server could not be asked, in words."""

from __future__ import annotations

import aiohttp
import pytest
import requests

from agent_mode.errors import ToolError
from agent_mode.outages import why
from agent_mode.tools import probe
from agent_mode.tools.rest import Rest, retrying


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (requests.exceptions.MissingSchema("x"), "that is no address"),
        (requests.exceptions.SSLError("x"), "its certificate is not trusted"),
        (requests.exceptions.ConnectTimeout("x"), "no connection"),
        (aiohttp.ServerDisconnectedError("x"), "the connection broke off"),
        (aiohttp.InvalidURL("x"), "that is no address"),
        (TimeoutError(), "no answer in time"),
        (ConnectionRefusedError(), "no connection"),
        (KeyError("x"), "no usable answer"),
        (None, "no usable answer"),
    ],
)
def test_no_name_of_a_class_is_shown(error: Exception | None, words: str) -> None:
    assert why(error) == words


def test_what_is_no_address_is_called_so() -> None:
    assert probe.get("://foo/readyz").reason == "that is no address"


async def test_open_webui_that_is_down_is_told_in_words() -> None:
    rest = Rest("http://127.0.0.1:9")
    try:
        with pytest.raises(ToolError) as caught:
            await rest.get("/api/version", "key")
        assert caught.value.message == "Open WebUI cannot be reached (no connection)."
        with pytest.raises(ToolError) as caught:
            await rest.post("/api/tool", "key", {}, seconds=5)
        assert caught.value.message == "Open WebUI cannot be reached (no connection)."
    finally:
        await rest.close()


@pytest.mark.parametrize("retries", [0, 1])
async def test_what_did_not_get_through_is_sent_as_often_as_it_may_be(retries: int) -> None:
    sent: list[str] = []

    async def note(_: object, __: object, request: aiohttp.TraceRequestStartParams) -> None:
        sent.append(request.method)

    trace = aiohttp.TraceConfig()
    trace.on_request_start.append(note)
    rest = Rest("http://127.0.0.1:9")
    rest._session = aiohttp.ClientSession(trace_configs=[trace])
    try:
        for ask in (rest.post("/api/tool", "key", {}, seconds=5), rest.get("/api/version", "key")):
            with pytest.raises(ToolError), retrying(retries):
                await ask
        assert sent == ["POST"] * (retries + 1) + ["GET"] * (retries + 1)
    finally:
        await rest.close()


async def test_one_lost_connection_does_not_turn_everybody_away() -> None:
    rest = Rest("http://127.0.0.1:9")
    try:
        for _ in range(2):
            with pytest.raises(ToolError, match="no connection"), retrying(0):
                await rest.get("/api/version", "key")
        with pytest.raises(ToolError, match="no connection"):
            await rest.get("/api/version", "key")
        with pytest.raises(ToolError, match="a moment ago"):
            await rest.get("/api/version", "key")
    finally:
        await rest.close()
