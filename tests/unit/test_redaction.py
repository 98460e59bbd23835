"""What foreign exceptions say, without the secrets in it."""

from __future__ import annotations

import asyncio
import time

import aiohttp
import httpx
import pytest
import requests

from agent_mode.observe.redaction import said, without_secrets
from tests.patience import PATIENCE

SECRET = "Zq9-hidden.4711"


@pytest.mark.parametrize(
    "text",
    [
        f"GET https://api.example/v1?api_key={SECRET}&q=1 failed",
        f"url='https://api.example/v1?q={SECRET}'",
        f"https://user:{SECRET}@api.example/v1",
        f"postgresql+asyncpg://u:p@{SECRET}@db.example/x",
        f"postgres://user:pa/{SECRET}@db.example:5432/x",
        f"https://{SECRET}@api.example",
        f"HTTPS://API.example/#access_token={SECRET}",
        f"Max retries exceeded with url: /v1/models?sig={SECRET} (Caused by X)",
        f"api.example/v1?code={SECRET}",
        f"key={SECRET}",
        f"api_key: {SECRET}",
        f"apikey={SECRET},",
        f"token={SECRET}",
        f"client_secret = '{SECRET}'",
        f"{{'api_key': '{SECRET}', 'a': 1}}",
        f'{{"Authorization": "Bearer {SECRET}"}}',
        f"{{'authorization': b'Basic {SECRET}'}}",
        f"Authorization: Bearer {SECRET}",
        f"Authorization: {SECRET}",
        f"X-API-Key: {SECRET}",
        f"bearer {SECRET}",
        f"Cookie: token={SECRET}; a=b",
        f"password='{SECRET} with words'",
        f"PWD={SECRET}",
        f"Incorrect API key provided: sk-{SECRET}abc",
        f"the key sk-proj-{SECRET}abcd is wrong",
        f"ghp_{SECRET.replace('-', '').replace('.', '')}aaaaaaaa",
        f"eyJhbGciOiJIUzI1NiJ9.{SECRET}.sig",
    ],
)
def test_secrets_go(text: str) -> None:
    shown = without_secrets(text)
    assert SECRET not in shown
    assert SECRET[4:10] not in shown
    assert without_secrets(shown) == shown, "once is enough"


@pytest.mark.parametrize(
    "text",
    [
        "Connection refused",
        "KeyError: 'name'",
        "max_tokens: 4096 is too many",
        "HTTPConnectionPool(host='127.0.0.1', port=9): Max retries exceeded with url: /v1/models",
        "404 Client Error: Not Found for url: https://api.example:8443/v1/@org/models",
        "What is this? It = 7",
        "Bearer authentication is needed; basic authentication is not",
        "The monkey took the token, and the ski-lift.",
        "task-management-of-everything; sk-learn",
        "[Errno 2] No such file or directory: '/data/x.json'",
        "für alle: ünïcode ☃",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert without_secrets(text) == text


def test_an_address_keeps_what_tells_where_it_is() -> None:
    url = "https://user:pass@api.example:8443/v1/models?api_key=x&b=c#d"
    assert without_secrets(f"No answer from {url} in time") == (
        "No answer from https://api.example:8443/v1/models?… in time"
    )
    assert without_secrets('{"api_key": "x", "model": "m"}') == '{"api_key": [secret], "model": "m"}'


async def test_what_clients_say_when_there_is_nobody() -> None:
    url = f"http://user:{SECRET}@127.0.0.1:9/v1?api_key={SECRET}"
    errors: list[BaseException] = []
    with pytest.raises(requests.RequestException) as first:
        await asyncio.to_thread(requests.get, url, timeout=5)
    errors.append(first.value)
    errors.append(httpx.InvalidURL(f"Invalid URL {url!r}"))
    with pytest.raises(aiohttp.InvalidURL) as third:
        async with aiohttp.ClientSession() as session, session.get(f"http://:{SECRET}@?api_key={SECRET}"):
            pass
    errors.append(third.value)
    answer = httpx.Response(401, request=httpx.Request("GET", url))
    with pytest.raises(httpx.HTTPStatusError) as fourth:
        answer.raise_for_status()
    errors.append(fourth.value)
    for error in errors:
        assert SECRET not in said(error), error


@pytest.mark.parametrize(
    "piece",
    [
        "a",
        "a.",
        "://",
        "a://",
        "http://a@",
        "?a",
        "?a=",
        "key",
        "key=",
        "key = ",
        "'",
        "sk-",
        "eyJ",
        "eyJaaaaaaaa.",
        "eyJ-",
        "bearer ",
        " ",
        "-",
        "_",
        "api-",
        "@",
        "/",
        "token: '",
        "\n",
        "%",
        "é",
    ],
)
def test_it_takes_no_longer_than_the_text_is(piece: str) -> None:
    text = piece * (200_000 // len(piece))
    before = time.process_time()
    without_secrets(text)
    assert time.process_time() - before < PATIENCE


def test_what_cannot_be_said() -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    assert said(Broken()) == ""
    assert said(ValueError("a\n\n b\tc")) == "a b c"
    assert len(said(ValueError("word " * 1000))) == 300
