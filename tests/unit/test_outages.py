"""Why another server could not be asked, in words."""

from __future__ import annotations

import aiohttp
import pytest
import requests

from agent_mode.errors import ToolError
from agent_mode.outages import why
from agent_mode.tools import probe
from agent_mode.tools.rest import Rest


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
