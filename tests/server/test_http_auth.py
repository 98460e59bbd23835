"""Nobody gets anything without the key but the word that the server is up."""

from __future__ import annotations

import http.client
import itertools
import re

import pytest

from tests.patience import LONG
from tests.server.servers import KEY, OLD, OURS, STOCK, Server, params

pytestmark = pytest.mark.parametrize("server", params(OURS, STOCK, OLD), indirect=True)

OPEN = ("/", "/v1", "/healthz", "/readyz")
SECRET = "sk-secret-in-the-valves-4711"
UNLISTED = [
    ("GET", "/docs"),
    ("GET", "/docs/oauth2-redirect"),
    ("GET", "/openapi.json"),
    ("GET", "/redoc"),
    ("GET", "/metrics"),
    ("GET", "/personas"),
    ("GET", "/api/v1/agents/"),
    ("GET", "/api/v1/personas/"),
    ("GET", "/api/v1/runs/"),
    ("GET", "/reached"),
    ("GET", "/v1/reached"),
    ("GET", "/no/such/route"),
    ("POST", "/"),
    ("PUT", "/healthz"),
]
WRONG = {
    "no header": {},
    "empty": {"Authorization": ""},
    "no token": {"Authorization": "Bearer"},
    "wrong": {"Authorization": "Bearer wrong"},
    "prefix": {"Authorization": f"Bearer {KEY[:-1]}"},
    "longer": {"Authorization": f"Bearer {KEY}x"},
    "other case": {"Authorization": f"Bearer {KEY.upper()}"},
    "default key": {"Authorization": "Bearer 0p3n-w3bu!"},
    "basic": {"Authorization": f"Basic {KEY}"},
    "bare": {"Authorization": KEY},
    "not ASCII": {"Authorization": "Bearer schlüssel".encode("latin-1")},
    "other header": {"X-API-Key": KEY},
}


def routes(server: Server) -> list[tuple[str, str]]:
    """Every route that the app knows, its parameters filled in."""
    paths = server.get("/openapi.json").json()["paths"]
    known = [
        (method.upper(), re.sub(r"\{\w+\}", "personas", path))
        for path, methods in paths.items()
        for method in methods
        if path not in OPEN
    ]
    assert len(known) > 20  # upstream's twelve, each with and without /v1
    return known + UNLISTED


@pytest.mark.parametrize("headers", WRONG.values(), ids=WRONG)
def test_every_route_asks_for_the_key(server: Server, headers: dict[str, str]) -> None:
    server.set_valves(llm_api_key=SECRET)

    for method, path in routes(server):
        reply = server.anonymous(method, path, headers=headers, json={"model": "personas.coder"})
        where = f"{method} {path}: {reply.text}"
        assert reply.status_code == 401, where
        answer = reply.json()
        report = answer.get("error", answer)  # our REST interface answers without OpenAI's envelope
        assert report["code"] == "unauthorized", where
        assert report["message"].strip() == answer.get("detail", report["message"]), where
        assert len(report["hint"]) > 10, where
        scheme = reply.headers["www-authenticate"].split()[0]
        assert scheme == ("Basic" if path == "/personas" else "Bearer"), where
        assert KEY not in reply.text, where
        assert SECRET not in reply.text, where


def test_status_routes_are_open_and_say_little(server: Server) -> None:
    for path in OPEN:
        reply = server.anonymous("GET", path)
        assert (reply.status_code, reply.json()) == (200, {"status": True}), path


def test_key_opens_everything(server: Server) -> None:
    for path in ("/models", "/v1/models", "/pipelines", "/personas/valves", "/personas/valves/spec", "/docs"):
        assert server.get(path).status_code == 200, path
    for authorization in (f"bearer {KEY}", f"BEARER {KEY}"):
        reply = server.anonymous("GET", "/models", headers={"Authorization": authorization})
        assert reply.status_code == 200, authorization


ODD_PATHS = (
    "//personas/valves",
    "/personas/valves/",
    "/%70ersonas/valves",
    "/v1/../personas/valves",
    "/healthz/../personas/valves",
    "/healthz%2f..%2fpersonas/valves",
    "/healthz;/personas/valves",
    "/personas/valves?/healthz",
    "/personas/valves#/healthz",
    "http://127.0.0.1/personas/valves",
    "/\\personas/valves",
)


def test_odd_paths_show_no_valves(server: Server) -> None:
    server.set_valves(llm_api_key=SECRET, llm_base_url="http://hidden.example/v1")
    for method, path in itertools.product(("GET", "HEAD", "OPTIONS", "get", "POST"), ODD_PATHS):
        connection = http.client.HTTPConnection(server.host, server.port, timeout=LONG)
        try:
            connection.request(method, path, body=b"{}" if method == "POST" else None)
            reply = connection.getresponse()
            text = reply.read().decode()
        finally:
            connection.close()

        assert "hidden.example" not in text, (method, path)
        assert SECRET[-4:] not in text, (method, path)
        assert reply.status in (400, 401), (method, path, text)


def test_a_refusal_can_be_read_by_a_browser(server: Server) -> None:
    reply = server.anonymous("GET", "/models", headers={"Origin": "http://webui.example"})

    assert (reply.status_code, reply.headers["access-control-allow-origin"]) == (401, "*")


def test_a_browser_opens_one_page_with_the_key_as_password(server: Server) -> None:
    for user in ("", "admin", "me"):
        page = server.anonymous("GET", "/personas", auth=(user, KEY))
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert server.anonymous("GET", "/personas", auth=("admin", "wrong")).status_code == 401
    assert server.anonymous("GET", "/personas", auth=(KEY, "")).status_code == 401
    assert server.anonymous("POST", "/personas", auth=("admin", KEY)).status_code == 401
    assert server.anonymous("GET", "/personas/valves", auth=("admin", KEY)).status_code == 401


def test_a_preflight_needs_no_key_and_tells_nothing(server: Server) -> None:
    headers = {"Origin": "http://webui.example", "Access-Control-Request-Method": "POST"}

    reply = server.anonymous("OPTIONS", "/personas/valves", headers=headers)

    assert (reply.status_code, reply.text) == (200, "OK")
    assert server.anonymous("OPTIONS", "/personas/valves").status_code == 401


def test_nothing_changes_without_the_key(server: Server) -> None:
    before = server.get("/personas/valves").json()

    server.anonymous("POST", "/personas/valves/update", json={"llm_base_url": "http://evil.example"})
    server.anonymous("POST", "/pipelines/upload", files={"file": ("evil.py", b"raise SystemExit")})
    server.anonymous("DELETE", "/pipelines/delete", json={"id": "personas"})

    assert server.get("/personas/valves").json() == before
    assert not (server.pipelines_dir / "evil.py").exists()
