"""The Agents page over HTTP: who comes in, what a browser may do there, what it shows where there is none."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest
import requests

from agent_mode.errors import ConfigurationError
from agent_mode.server import serve
from agent_mode.settings import Settings
from tests.owui_double import Double
from tests.patience import LONG
from tests.provider import Provider
from tests.server.servers import KEY, OLD, OURS, STOCK, Server, make, params, running

COOKIE = "agent_mode_admin"
HTML = {"Accept": "text/html"}
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": base64.b64encode(b"0123456789abcdef").decode(),
}
SOCKET = "/admin/_nicegui_ws/socket.io/?EIO=4&transport=websocket&client_id=x"

with_page = pytest.mark.parametrize("server", params(OURS, STOCK), indirect=True)
ours = pytest.mark.parametrize("server", params(OURS), indirect=True)


def own(server: Server) -> dict[str, str]:
    """What a browser says about a request that our page begins."""
    return {"Origin": server.url, **HTML}


def sign_in(server: Server, **form: str) -> requests.Response:
    return server.anonymous(
        "POST", "/admin/sign-in", data=form or {"key": KEY}, headers=own(server), allow_redirects=False
    )


def signed_in(server: Server) -> requests.Session:
    """A session of somebody who has signed in with the connection key."""
    session = requests.Session()
    session.trust_env = False
    session.headers.update(own(server))
    reply = session.post(
        f"{server.url}/admin/sign-in", data={"key": server.key}, allow_redirects=False, timeout=LONG
    )
    assert reply.status_code == 303, reply.text
    return session


@pytest.fixture
def fresh(tmp_path: Path, provider_process: Provider) -> Iterator[Server]:
    """A server of its own, which remembers no failed sign-ins."""
    server = make(OURS, tmp_path, provider_process.base_url, foreign=())
    with running(server):
        yield server


@with_page
def test_nothing_is_shown_without_a_session(server: Server) -> None:
    for path in ("/admin", "/admin/", "/admin/runs?state=done"):
        reply = server.anonymous("GET", path, headers=HTML, allow_redirects=False)
        assert reply.status_code == 303
        assert reply.headers["Location"].startswith("/admin/sign-in")
    for path in (
        "/admin/runs",
        "/admin/_nicegui/3.18.0/static/nicegui.js",
        "/admin/docs",
        "/admin/openapi.json",
    ):
        assert server.anonymous("GET", path).status_code == 401
    # The connection key is for programs; a page is for people.
    assert server.get("/admin/runs").status_code == 401


@with_page
def test_the_connection_key_opens_the_page(server: Server) -> None:
    reply = sign_in(server, key=KEY, next="/admin/runs?state=failed")
    assert (reply.status_code, reply.headers["Location"]) == (303, "/admin/runs?state=failed")
    cookie = reply.headers["Set-Cookie"]
    assert all(word in cookie for word in ("HttpOnly", "SameSite=Strict", "Path=/admin", "Max-Age=43200"))
    assert "Secure" not in cookie
    with signed_in(server) as session:
        for path in ("/", "/runs", "/records"):
            page = session.get(f"{server.url}/admin{path}", timeout=LONG)
            assert page.status_code == 200
            assert KEY not in page.text
        for path in ("/docs", "/redoc", "/openapi.json", "/nowhere"):
            assert session.get(f"{server.url}/admin{path}", timeout=LONG).status_code == 404


@ours
def test_the_cookie_is_secure_where_the_browser_spoke_tls(server: Server) -> None:
    headers = {**own(server), "X-Forwarded-Proto": "https"}
    reply = server.anonymous(
        "POST", "/admin/sign-in", data={"key": KEY}, headers=headers, allow_redirects=False
    )
    assert "; Secure" in reply.headers["Set-Cookie"]


@ours
@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example", "/models", "/admin/../x", "/admin//x"]
)
def test_a_sign_in_leads_to_no_other_place(server: Server, target: str) -> None:
    assert sign_in(server, key=KEY, next=target).headers["Location"] == "/admin/"


@with_page
def test_headers_of_a_page_let_its_own_scripts_run_alone(server: Server) -> None:
    with signed_in(server) as session:
        page = session.get(f"{server.url}/admin/records", timeout=LONG)
        again = session.get(f"{server.url}/admin/records", timeout=LONG)
    policy = page.headers["Content-Security-Policy"]
    found = re.search(r"script-src 'self' 'nonce-([\w-]+)' 'unsafe-eval'(?:;|$)", policy)
    assert found
    for rule in ("default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"):
        assert rule in policy
    assert page.headers["X-Frame-Options"] == "DENY"
    assert page.headers["Cache-Control"] == "no-store"
    assert "Access-Control-Allow-Origin" not in page.headers
    assert found[1] not in again.text
    scripts = re.findall(r"<script[^>]*>", page.text)
    assert scripts
    assert all(f'nonce="{found[1]}"' in script for script in scripts)
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page.text)


@with_page
def test_a_forged_or_expired_cookie_opens_nothing(server: Server) -> None:
    good = sign_in(server).cookies[COOKIE] or ""
    claims = jwt.decode(good, options={"verify_signature": False})
    head, body, signature = good.split(".")
    other = base64.urlsafe_b64encode(json.dumps({**claims, "sub": "root"}).encode()).rstrip(b"=").decode()
    unsigned = jwt.encode(claims, "", algorithm="none")
    by_key = jwt.encode(claims, KEY.ljust(32, "_"), algorithm="HS256")
    forged = [f"{head}.{other}.{signature}", unsigned, by_key, f"{head}.{body}.", "x", "a.b.c", '"' * 50]
    for value in forged:
        reply = server.anonymous("GET", "/admin/runs", headers={"Cookie": f"{COOKIE}={value}"})
        assert reply.status_code == 401, value


def test_a_cookie_expires(tmp_path: Path) -> None:
    from agent_mode.admin.gate.tickets import Person, Tickets

    tickets = Tickets("secret of the installation", KEY)
    value = tickets.issue(Person("ada", "account"))
    ticket = tickets.read(value)
    assert ticket is not None
    assert ticket.person == Person("ada", "account")
    assert ticket.expires - time.time() == pytest.approx(12 * 3600, abs=5)
    claims = jwt.decode(value, options={"verify_signature": False})
    late = jwt.encode({**claims, "exp": int(time.time()) - 1}, tickets._key, algorithm="HS256")
    assert tickets.read(late) is None
    assert Tickets("secret of the installation", "another key").read(value) is None
    assert Tickets("another secret", KEY).read(value) is None


@with_page
def test_who_has_signed_out_stays_out(server: Server) -> None:
    with signed_in(server) as session:
        kept = session.cookies[COOKIE]
        reply = session.post(f"{server.url}/admin/sign-out", allow_redirects=False, timeout=LONG)
        assert (reply.status_code, reply.headers["Location"]) == (303, "/admin/sign-in")
    reply = server.anonymous("GET", "/admin/runs", headers={"Cookie": f"{COOKIE}={kept}"})
    assert reply.status_code == 401


def test_who_has_signed_out_stays_out_after_a_restart(fresh: Server) -> None:
    with signed_in(fresh) as session, signed_in(fresh) as stays:
        kept = session.cookies[COOKIE]
        session.post(f"{fresh.url}/admin/sign-out", allow_redirects=False, timeout=LONG)
        fresh.stop()
        fresh.spawn()
        fresh.wait()
        cookie = {"Cookie": f"{COOKIE}={kept}"}
        assert fresh.anonymous("GET", "/admin/runs", headers=cookie).status_code == 401
        assert stays.get(f"{fresh.url}/admin/runs", timeout=LONG).status_code == 200
    fresh.stop()
    assert "Traceback" not in fresh.log()
    assert not list(fresh.home.glob(".nicegui"))
    assert not list(fresh.home.glob("nicegui"))


@with_page
@pytest.mark.parametrize(
    "origin",
    [None, "null", "https://evil.example", "http://127.0.0.1:1", "http://127.0.0.1.evil.example", "x"],
)
def test_requests_of_other_sites_are_refused(server: Server, origin: str | None) -> None:
    headers = {**HTML, **({"Origin": origin} if origin else {})}
    reply = server.anonymous(
        "POST", "/admin/sign-in", data={"key": KEY}, headers=headers, allow_redirects=False
    )
    assert reply.status_code == 403
    assert "Set-Cookie" not in reply.headers
    with signed_in(server) as session:
        session.headers.pop("Origin")
        reply = session.post(
            f"{server.url}/admin/sign-out", headers=headers, allow_redirects=False, timeout=LONG
        )
        assert reply.status_code == 403
        assert session.get(f"{server.url}/admin/runs", timeout=LONG).status_code == 200


@with_page
def test_sockets_are_for_whoever_is_signed_in(server: Server) -> None:
    cookie = f"{COOKIE}={sign_in(server).cookies[COOKIE]}"
    assert upgrade(server, {"Origin": server.url}) == 403
    assert upgrade(server, {"Cookie": cookie}) == 403
    assert upgrade(server, {"Cookie": cookie, "Origin": "https://evil.example"}) == 403
    assert upgrade(server, {"Cookie": cookie, "Origin": server.url}, path="/elsewhere") == 403
    assert upgrade(server, {"Cookie": cookie, "Origin": server.url, "Authorization": f"Bearer {KEY}"}) == 101
    polling = SOCKET.replace("websocket", "polling")
    assert server.anonymous("GET", polling, headers={"Origin": server.url}).status_code == 401


def upgrade(server: Server, headers: dict[str, str], path: str = SOCKET) -> int:
    """The status that the server answers a request for a socket with."""
    lines = [f"GET {path} HTTP/1.1", f"Host: {server.host}:{server.port}"]
    lines += [f"{name}: {value}" for name, value in {**UPGRADE, **headers}.items()]
    with server.connect() as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        return int(connection.recv(200).split()[1])


def test_failed_sign_ins_are_slowed_down(fresh: Server) -> None:
    statuses = [sign_in(fresh, key="wrong").status_code for _ in range(8)]
    assert statuses[:4] == [401] * 4
    assert statuses[-1] == 429
    refused = sign_in(fresh, key="wrong")
    assert "Wait" in refused.text
    assert sign_in(fresh).status_code == 303, "others' wrong keys keep nobody waiting who has the right one"
    assert sign_in(fresh, key="wrong").status_code == 401, "who came in begins anew"


def test_a_password_has_to_wait_for_its_own_account_alone(tmp_path: Path, provider_process: Provider) -> None:
    with Double() as webui:
        ada = webui.user("ada", role="admin")
        environment = {"OPENWEBUI_URL": webui.url, "AGENT_MODE_TRUSTED_PROXIES": "127.0.0.0/8"}
        server = make(OURS, tmp_path, provider_process.base_url, foreign=(), environment=environment)
        with running(server):

            def guess(email: str, client: str) -> int:
                headers = own(server) | {"X-Forwarded-For": client}
                form = {"email": email, "password": "wrong"}
                return server.anonymous("POST", "/admin/sign-in", data=form, headers=headers).status_code

            statuses = [guess("ada@example.org", "203.0.113.1") for _ in range(8)]
            assert (statuses[:4], statuses[-1]) == ([401] * 4, 429)
            assert guess("bob@example.org", "203.0.113.1") == 401, "another account from there"
            assert guess("ada@example.org", "203.0.113.2") == 401, "this account from elsewhere"
            assert sign_in(server, key=ada.key).status_code == 303
            assert "address=203.0.113.1]" in server.log()


@pytest.mark.parametrize("entry", ["proxy.example", "10.0.0.1/8", "127.0.0.1:80"])
def test_what_is_no_proxy_is_refused_at_the_start(entry: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        serve._proxies(Settings(trusted_proxies=f"127.0.0.1, {entry}"))  # pyright: ignore[reportCallIssue]
    assert refused.value.field == "AGENT_MODE_TRUSTED_PROXIES"
    assert entry in refused.value.message


def test_admins_of_open_webui_sign_in_with_what_open_webui_knows(
    tmp_path: Path, provider_process: Provider
) -> None:
    with Double() as webui:
        bob, ada = webui.user("bob"), webui.user("ada", role="admin")
        server = make(
            OURS, tmp_path, provider_process.base_url, foreign=(), environment={"OPENWEBUI_URL": webui.url}
        )
        with running(server):
            assert sign_in(server, key=ada.key).status_code == 303
            reply = sign_in(server, key=bob.key)
            assert reply.status_code == 401
            assert "not an admin" in reply.text
            assert sign_in(server, key="sk-" + "9" * 32).status_code == 401
            with signed_in(server) as session:
                records = session.get(f"{server.url}/admin/records", timeout=LONG).text
            assert "ada@example.org" in records
            assert "bob@example.org" not in records


@pytest.mark.parametrize("server", params(STOCK), indirect=True)
def test_a_reload_of_the_server_leaves_the_page_and_its_sessions(server: Server) -> None:
    with signed_in(server) as session:
        assert session.get(f"{server.url}/admin/runs", timeout=LONG).status_code == 200
        for _ in range(2):
            assert server.post("/pipelines/reload").status_code == 200
            assert session.get(f"{server.url}/admin/runs", timeout=LONG).status_code == 200
    assert "Traceback" not in server.log()


@with_page
def test_an_empty_form_and_a_large_one_are_refused_readably(server: Server) -> None:
    with signed_in(server):
        pass
    reply = sign_in(server, key=" ", email="", password="")
    assert reply.status_code == 400
    assert "Nothing to sign in with" in reply.text
    with signed_in(server):
        pass
    large = sign_in(server, key="x" * 20_000)
    assert large.status_code == 413
    reply = sign_in(server, email='"><script>alert(1)</script>', password="x")
    assert "<script>" not in reply.text
    with signed_in(server):
        pass


@with_page
def test_what_people_write_is_only_ever_text(server: Server) -> None:
    evil = "<script>alert(1)</script><img src=x onerror=alert(1)>`${alert(1)}`"
    with signed_in(server) as session:
        page = session.get(f"{server.url}/admin/runs", params={"q": evil}, timeout=LONG)
    assert page.status_code == 200
    assert "<script>alert" not in page.text
    assert "<img src=x" not in page.text


@ours
def test_agents_that_are_files_are_named_beside_those_of_the_store(server: Server) -> None:
    with signed_in(server) as session:
        page = session.get(f"{server.url}/admin/agents", timeout=30).text
    assert "Agents from files" in page
    for agent_id in ("researcher", "data_analyst"):
        assert f"/admin/valves/{agent_id}" in page


def test_the_page_can_be_switched_off(tmp_path: Path) -> None:
    server = make(OURS, tmp_path, None, foreign=(), environment={"AGENT_MODE_ADMIN_PAGE": "off"})
    with running(server):
        for path in ("/admin", "/admin/runs", "/admin/sign-in"):
            reply = server.anonymous("GET", path, headers=HTML)
            assert reply.status_code == 404
            assert "AGENT_MODE_ADMIN_PAGE" in reply.text
        assert upgrade(server, {"Origin": server.url}) == 403


@pytest.mark.parametrize("server", params(OLD), indirect=True)
def test_a_stock_server_without_nicegui_says_so(server: Server) -> None:
    reply = server.anonymous("GET", "/admin", headers=HTML)
    assert reply.status_code == 503
    assert "pip install nicegui" in reply.text


def test_nicegui_is_loaded_with_the_first_visit_alone() -> None:
    code = "import agent_mode.server.serve, sys; print('nicegui' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


@with_page
def test_the_figures_are_behind_the_key(server: Server) -> None:
    assert server.anonymous("GET", "/metrics").status_code == 401
    server.post(
        "/chat/completions", {"model": "personas.coder", "messages": [{"role": "user", "content": "Hi"}]}
    )
    reply = server.get("/metrics")
    assert reply.headers["Content-Type"].startswith("text/plain")
    assert re.search(r'^agent_mode_turns_total\{outcome="done"\} [1-9]', reply.text, re.MULTILINE)
    assert re.search(r"^agent_mode_active_runs \d", reply.text, re.MULTILINE)


def test_after_a_restart_sessions_end_with_the_role_and_with_the_connection_key(
    tmp_path: Path, provider_process: Provider
) -> None:
    with Double() as webui:
        ada, root = webui.user("ada", role="admin"), webui.user("root", role="admin")
        environment = {"OPENWEBUI_URL": webui.url, "OPENWEBUI_API_KEY": root.key}
        server = make(OURS, tmp_path, provider_process.base_url, foreign=(), environment=environment)
        with running(server):
            by_account, by_key = (
                {"Cookie": f"{COOKIE}={sign_in(server, key=key).cookies[COOKIE]}"} for key in (ada.key, KEY)
            )

            def look(cookie: dict[str, str]) -> int:
                return server.anonymous("GET", "/admin/records", headers=cookie).status_code

            def restart() -> None:
                server.stop()
                server.spawn()
                server.wait()

            assert (look(by_account), look(by_key)) == (200, 200)
            restart()
            assert (look(by_account), look(by_key)) == (200, 200)
            ada.role = "user"
            restart()
            assert (look(by_account), look(by_key)) == (401, 200)
            ada.role = "admin"
            restart()
            assert look(by_account) == 401, "what has ended stays so"
            server.environment["PIPELINES_API_KEY"] = server.key = "sk-another-connection-key-of-the-tests"
            server.session.headers["Authorization"] = f"Bearer {server.key}"
            restart()
            assert look(by_key) == 401
            cookie = {"Cookie": f"{COOKIE}={sign_in(server, key=server.key).cookies[COOKIE]}"}
            page = server.anonymous("GET", "/admin/records", headers={**cookie, **HTML}).text
        assert ada.key not in page + server.tail()
        assert ada.key.encode() not in (tmp_path / "agent_mode.db").read_bytes()
