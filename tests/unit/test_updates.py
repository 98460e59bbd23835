"""Catalogue updates: only the pinned file, only from public hosts, and never over the user's own work."""

from __future__ import annotations

import hashlib
import http.server
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent_mode.errors import CatalogueError, ConfigurationError, StoreError
from agent_mode.settings import ROOT, Settings
from agent_mode.store import download as module
from agent_mode.store import updates
from agent_mode.store.download import SIZE_LIMIT, Network, Source, download, is_public
from agent_mode.store.personas import Keep, PersonaForm, PersonaStore, SeedReport
from tests.patience import PATIENCE

pytest_plugins = ["tests.databases"]

HOST = "catalogue.test"
OTHER = "elsewhere.test"
STRANGER = "stranger.test"
"""A name that the server's certificate does not have."""


def catalogue(*personas: dict[str, Any], **changes: Any) -> bytes:
    whole = {"format": "agent-mode-personas", "version": 1, "personas": list(personas)}
    return json.dumps(whole | changes).encode()


def persona(key: str = "coder", **changes: Any) -> dict[str, Any]:
    return {"key": key, "name": "Coder", "prompt": "You write code.", "category": "software"} | changes


def form(key: str = "coder", **changes: Any) -> PersonaForm:
    return PersonaForm.model_validate(persona(key, **changes))


GOOD = catalogue(persona(), persona("writer", name="Writer"))


# A server on this machine that pretends to be on the internet


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.requests.append((self.path, dict(self.headers)))
        self.close_connection = True
        try:
            self.server.routes[self.path.partition("?")[0]](self)
        except OSError:
            return  # the client has had enough

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content_Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None: ...


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, certificate: Path) -> None:
        self.routes: dict[str, Callable[[Handler], None]] = {"/ok.json": lambda to: to.reply(200, GOOD)}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.connections = 0
        super().__init__(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections += 1
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None: ...


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST), x509.DNSName(OTHER)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    plain = serialization.NoEncryption()
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@dataclass
class World:
    """The server, and a network in which some names lead to it."""

    server: Server
    network: Network
    addresses: dict[str, list[str]] = field(default_factory=dict)
    resolved: list[str] = field(default_factory=list)

    def source(self, path: str = "/ok.json", data: bytes = GOOD, host: str = HOST) -> Source:
        return Source(self.url(path, host), hashlib.sha256(data).hexdigest())

    def url(self, path: str, host: str = HOST) -> str:
        return f"https://{host}:{self.server.server_address[1]}{path}"


@pytest.fixture
def world(certificate: Path) -> Iterator[World]:
    server = Server(certificate)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    made = World(server, Network(), {name: ["127.0.0.1"] for name in (HOST, OTHER, STRANGER)})

    def resolve(host: str, port: int) -> list[str]:
        made.resolved.append(host)
        return made.addresses[host]

    # Only this server's address is let through; all else meets the real check.
    made.network = Network(
        resolve, lambda address: address == "127.0.0.1" or is_public(address), str(certificate)
    )
    yield made
    server.shutdown()
    server.server_close()


async def refused(world: World, source: Source, network: Network | None = None) -> CatalogueError:
    with pytest.raises(CatalogueError) as caught:
        await download(source, network or world.network)
    assert caught.value.hint
    return caught.value


# Sources

HASH = "ab" * 32


def test_source() -> None:
    source = Source.parse(f" https://example.org:8443/a%20b.json?x=1#sha256={HASH.upper()} ")
    assert source == Source("https://example.org:8443/a%20b.json?x=1", HASH)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "https://example.org/p.json",
        "https://example.org/p.json#sha256=abc",
        f"https://example.org/p.json#sha512={HASH}",
        f"http://example.org/p.json#sha256={HASH}",
        f"file:///etc/passwd#sha256={HASH}",
        f"https:///p.json#sha256={HASH}",
        f"https://user:word@example.org/p.json#sha256={HASH}",
        f"https://example.org:99999/p.json#sha256={HASH}",
        f"https://[::1/p.json#sha256={HASH}",
        f"https://{'x' * 64}.org/p.json#sha256={HASH}",
    ],
)
def test_source_that_is_none(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Source.parse(text)
    assert (caught.value.code, caught.value.field) == ("catalogue_source", "AGENT_MODE_CATALOGUE_URLS")
    assert "sha256sum" in caught.value.hint
    assert "word" not in caught.value.message.replace("password", "")


def test_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().catalogue_sources() == ()  # pyright: ignore[reportCallIssue]
    monkeypatch.setenv("AGENT_MODE_CATALOGUE_URLS", f"https://a.test/x#sha256={HASH}, https://b.test/")
    sources = Settings().catalogue_sources()  # pyright: ignore[reportCallIssue]
    assert sources == (f"https://a.test/x#sha256={HASH}", "https://b.test/")


# Addresses


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0"),
        *("100.64.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1"),
        *("::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "fec0::1", "ff02::1", "2001:db8::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:a00:1", "::127.0.0.1"),
        *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2002:a00:1::1", "2001::1"),
        *("", "localhost", "1.2.3", "0x7f.1"),
    ],
)
def test_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["10.1.2.3"],
        ["::1"],
        ["169.254.169.254"],
        ["::ffff:127.0.0.1"],
        ["93.184.216.34", "127.0.0.1"],
        ["127.0.0.1", "93.184.216.34"],
        ["2606:4700:4700::1111", "fd00::1"],
        [],
    ],
    ids=" ".join,
)
async def test_hosts_with_a_private_address_are_refused(world: World, addresses: list[str]) -> None:
    world.addresses[HOST] = addresses
    error = await refused(world, world.source(), replace(world.network, allowed=is_public))
    assert error.code == "catalogue_address"
    assert HOST in error.message
    assert world.server.connections == 0


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "[::1]", "0x7f.1", "2130706433", "[::ffff:7f00:1]"]
)
async def test_the_machine_itself_is_refused_under_all_its_names(world: World, host: str) -> None:
    error = await refused(world, world.source(host=host), Network())
    assert error.code in ("catalogue_address", "catalogue_unreachable")
    if host in ("localhost", "127.0.0.1", "[::1]"):
        assert error.code == "catalogue_address"
    assert world.server.connections == 0


async def test_a_name_that_moves_after_the_check_gains_nothing(world: World) -> None:
    answers = [["127.0.0.1"], ["10.0.0.1"], ["10.0.0.1"]]
    network = replace(world.network, resolve=lambda host, port: answers.pop(0))
    assert await download(world.source(), network) == GOOD
    assert len(answers) == 2


# Download


async def test_download(world: World) -> None:
    assert await download(world.source("/ok.json?a=%20b"), world.network) == GOOD
    ((path, headers),) = world.server.requests
    assert path == "/ok.json?a=%20b"
    assert headers["Host"] == f"{HOST}:{world.server.server_address[1]}"
    assert headers["Accept-Encoding"] == "identity"
    assert not {"Cookie", "Authorization", "Proxy-Authorization"} & set(headers)


async def test_nothing_of_the_environment_is_used(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine {HOST} login a password b\nmachine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(world.network.verify))
    assert await download(world.source(), world.network) == GOOD
    assert "Authorization" not in world.server.requests[0][1]
    error = await refused(world, world.source(), replace(world.network, verify=True))
    assert error.code == "catalogue_unreachable"


async def test_another_content_is_refused(world: World) -> None:
    error = await refused(world, world.source(data=b"something else"))
    assert error.code == "catalogue_hash"


async def test_the_certificate_must_be_trusted(world: World) -> None:
    error = await refused(world, world.source(), replace(world.network, verify=True))
    assert (error.code, error.retryable) == ("catalogue_unreachable", True)
    assert "its certificate is not trusted" in error.message
    assert world.server.requests == []


async def test_the_certificate_must_be_that_of_the_host(world: World) -> None:
    error = await refused(world, world.source(host=STRANGER))
    assert "its certificate is not trusted" in error.message
    assert world.server.requests == []


async def test_the_next_address_is_tried(world: World) -> None:
    world.addresses[HOST] = ["127.0.0.2", "127.0.0.1"]
    network = replace(world.network, allowed=lambda address: address.startswith("127."))
    assert await download(world.source(), network) == GOOD


async def test_nobody_there(world: World) -> None:
    world.addresses[HOST] = ["127.0.0.2"]
    error = await refused(world, world.source(), replace(world.network, allowed=lambda address: True))
    assert (error.code, error.retryable) == ("catalogue_unreachable", True)
    network = replace(world.network, resolve=module.resolve)
    assert "resolved" in (await refused(world, world.source(host="no-such-host.invalid"), network)).message


@pytest.mark.parametrize(("status", "retryable"), [(404, False), (403, False), (500, True), (204, False)])
async def test_other_answers(world: World, status: int, retryable: bool) -> None:
    world.server.routes["/x"] = lambda to: to.reply(status)
    error = await refused(world, world.source("/x"))
    assert (error.code, error.retryable) == ("catalogue_status", retryable)
    assert str(status) in error.message


# Size and time


async def test_the_largest_file_passes(world: World) -> None:
    data = b"x" * SIZE_LIMIT
    world.server.routes["/x"] = lambda to: to.reply(200, data)
    assert await download(world.source("/x", data), world.network) == data


async def test_too_large_as_announced_is_not_read(world: World) -> None:
    world.server.routes["/x"] = lambda to: to.reply(200, b"x", Content_Length=str(SIZE_LIMIT + 1))
    assert (await refused(world, world.source("/x"))).code == "catalogue_size"


async def test_endless_is_aborted(world: World) -> None:
    sent = 0

    def endless(to: Handler) -> None:
        nonlocal sent
        to.send_response(200)
        to.send_header("Transfer-Encoding", "chunked")
        to.end_headers()
        while sent < 20 * SIZE_LIMIT:
            to.wfile.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
            sent += 0x10000

    world.server.routes["/x"] = endless
    assert (await refused(world, world.source("/x"))).code == "catalogue_size"
    assert sent < 10 * SIZE_LIMIT


async def test_a_compressed_bomb_stays_packed(world: World) -> None:
    import gzip

    bomb = gzip.compress(b"\0" * 50_000_000)
    world.server.routes["/x"] = lambda to: to.reply(200, bomb, Content_Encoding="gzip")
    assert await download(world.source("/x", bomb), world.network) == bomb


async def test_cut_short(world: World) -> None:
    world.server.routes["/x"] = lambda to: to.reply(200, GOOD[:-5], Content_Length=str(len(GOOD)))
    assert (await refused(world, world.source("/x"))).code == "catalogue_unreachable"


def drip_body(to: Handler) -> None:
    to.send_response(200)
    to.send_header("Content-Length", "1000")
    to.end_headers()
    drip(to)


def drip(to: Handler) -> None:
    for _ in range(20_000):
        to.wfile.write(b"x")
        time.sleep(0.05)


@pytest.mark.parametrize("route", [drip_body, drip])
async def test_a_byte_now_and_then_does_not_hold_a_thread(
    world: World, monkeypatch: pytest.MonkeyPatch, route: Callable[[Handler], None]
) -> None:
    monkeypatch.setattr(module, "TOTAL_TIMEOUT", 0.5)
    world.server.routes["/x"] = route
    started = time.monotonic()
    error = await refused(world, world.source("/x"))
    assert time.monotonic() - started < PATIENCE
    assert error.code == "catalogue_unreachable"
    assert "took longer" in error.message


async def test_silence(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.2)
    world.server.routes["/x"] = lambda to: time.sleep(1)
    assert "no answer in time" in (await refused(world, world.source("/x"))).message


async def test_no_thread_is_left(world: World) -> None:
    await download(world.source(), world.network)
    world.server.routes["/x"] = lambda to: to.reply(404)
    await refused(world, world.source("/x"))
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join(2.0)
            assert not thread.is_alive()


# Redirects


def redirect(world: World, path: str, location: str, status: int = 302) -> None:
    world.server.routes[path] = lambda to: to.reply(status, Location=location, Set_Cookie="a=b")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_followed_and_checked_again(world: World, status: int) -> None:
    redirect(world, "/1", "2", status)
    redirect(world, "/2", world.url("/ok.json", OTHER), status)
    assert await download(world.source("/1"), world.network) == GOOD
    assert world.resolved == [HOST, HOST, OTHER]
    assert "Cookie" not in world.server.requests[-1][1]


async def test_three_redirects_and_no_more(world: World) -> None:
    for number in range(1, 4):
        redirect(world, f"/{number}", f"/{number + 1}")
    world.server.routes["/4"] = world.server.routes["/ok.json"]
    assert await download(world.source("/1"), world.network) == GOOD
    redirect(world, "/4", "/ok.json")
    assert (await refused(world, world.source("/1"))).code == "catalogue_redirects"
    redirect(world, "/loop", "/loop")
    assert (await refused(world, world.source("/loop"))).code == "catalogue_redirects"


@pytest.mark.parametrize(
    "location",
    [
        "http://catalogue.test/ok.json",
        "https://10.0.0.1/ok.json",
        "https://[::1]/ok.json",
        "https://169.254.169.254/latest/meta-data/",
        "https://user:word@catalogue.test/ok.json",
        "https://inside.test/ok.json",
        "file:///etc/passwd",
        "//inside.test/ok.json",
    ],
)
async def test_redirects_to_elsewhere_are_refused(world: World, location: str) -> None:
    redirect(world, "/x", location)
    literal = {"10.0.0.1": ["10.0.0.1"], "::1": ["::1"], "169.254.169.254": ["169.254.169.254"]}
    world.addresses |= literal | {"inside.test": ["93.184.216.34", "192.168.0.1"]}
    assert (await refused(world, world.source("/x"))).code == "catalogue_address"
    assert len(world.server.requests) == 1


async def test_redirect_to_nowhere(world: World) -> None:
    world.server.routes["/x"] = lambda to: to.reply(302)
    assert (await refused(world, world.source("/x"))).code == "catalogue_status"


# The file


def test_parse() -> None:
    assert updates.parse(GOOD) == [form(), form("writer", name="Writer")]
    assert updates.parse(b"\xef\xbb\xbf" + GOOD) == updates.parse(GOOD)
    shipped = [json.loads(path.read_text("utf-8")) for path in sorted((ROOT / "personas").glob("*.json"))]
    assert [one.key for one in updates.parse(catalogue(*shipped))] == [one["key"] for one in shipped]


@pytest.mark.parametrize(
    ("data", "where"),
    [
        (b"", "file"),
        (b"\xff\xfe", "file"),
        (b"[" * 100_000, "file"),
        (b"[]", "file"),
        (b"{}", "format"),
        (catalogue(format="something"), "format"),
        (catalogue(version=2), "version"),
        (catalogue(personas={}), "personas"),
        (catalogue(persona(), persona("writer", prompt="")), "personas.1.prompt"),
        (catalogue(persona(origin="custom")), "personas.0.origin"),
        (catalogue(persona("agent")), "personas.0.key"),
        (catalogue(persona(), persona()), "personas"),
    ],
)
def test_parse_refuses_all_of_it_and_names_the_field(data: bytes, where: str) -> None:
    with pytest.raises(CatalogueError) as caught:
        updates.parse(data)
    assert (caught.value.code, caught.value.field) == ("catalogue_file", where)
    assert caught.value.hint


def test_many_complaints_stay_readable() -> None:
    with pytest.raises(CatalogueError) as caught:
        updates.parse(catalogue(*({"key": "x"} for _ in range(1000))))
    assert len(caught.value.message) < 1000
    assert "more" in caught.value.message


# Preview and apply


async def test_preview_says_what_apply_then_does(store: PersonaStore) -> None:
    await store.seed([form(key) for key in ("same", "left", "edited", "caught", "disabled", "gone")])
    await store.save(form("own", prompt="Mine."))
    await store.save(form("edited", prompt="Mine."))
    await store.save(form("caught", prompt="New."))
    await store.save(form("disabled", enabled=False))
    await store.delete("gone")
    forms = [
        form("same"),
        *(
            form(key, prompt="New.")
            for key in ("left", "edited", "caught", "disabled", "gone", "own", "fresh")
        ),
    ]
    before = await store.revision()
    plan = await updates.preview(store, forms)
    assert await store.revision() == before
    assert plan == SeedReport(
        added=("fresh",),
        updated=("left", "caught", "disabled", "gone"),
        protected=("edited", "own"),
        unchanged=("same",),
    )
    assert await updates.apply(store, forms) == plan
    kept = {one.key: one for one in await store.all()}
    assert kept["edited"].prompt == kept["own"].prompt == "Mine."
    assert not kept["disabled"].enabled
    assert not kept["gone"].enabled
    again = await updates.preview(store, forms)
    assert again == await updates.apply(store, forms)
    assert again.added == again.updated == ()


async def test_a_backup_comes_before_what_it_can_undo(store: PersonaStore) -> None:
    reasons: list[str] = []

    async def backup(reason: str) -> None:
        reasons.append(reason)
        if len(reasons) > 1:
            raise StoreError("The disk is full.")

    store.before_destructive = backup
    await updates.apply(store, [form()])  # only adds
    await updates.apply(store, [form()])  # does nothing
    assert reasons == []
    await updates.apply(store, [form(prompt="New.")])
    assert len(reasons) == 1
    with pytest.raises(StoreError, match="disk is full"):
        await updates.apply(store, [form(prompt="Newer.")])
    current = await store.get("coder")
    assert current is not None
    assert current.prompt == "New."


async def test_without_protection_what_the_user_wrote_is_replaced(store: PersonaStore) -> None:
    """But nothing is lost: a backup comes first, and a version holds it, also where both are off."""
    reasons: list[str] = []

    async def backup(reason: str) -> None:
        current = await store.get("edited")
        assert current is not None
        assert current.prompt == "Mine."
        reasons.append(reason)

    await store.seed([form(key) for key in ("same", "left", "edited", "disabled")])
    await store.save(form("own", prompt="Mine."))
    await store.save(form("edited", prompt="Mine."))
    await store.save(form("disabled", prompt="Mine.", enabled=False))
    store.before_replacing = backup
    store.protect = False
    store.keep = Keep(versioning=False)
    forms = [
        form("same"),
        *(form(key, prompt="New.") for key in ("left", "edited", "disabled", "own", "fresh")),
    ]

    plan = await updates.preview(store, forms)
    assert plan == SeedReport(
        added=("fresh",),
        updated=("left",),
        replaced=("edited", "disabled", "own"),
        unchanged=("same",),
    )
    assert reasons == []
    assert await updates.apply(store, forms) == plan

    assert reasons == ["before a catalogue replaces 3 personas"]
    kept = {one.key: one for one in await store.all()}
    assert {kept[key].prompt for key in ("left", "edited", "disabled", "own")} == {"New."}
    assert [kept[key].origin for key in ("edited", "own")] == ["shipped"] * 2
    assert not kept["disabled"].enabled
    for key in ("edited", "own"):
        newest, before, *_ = await store.history(key)
        assert (newest.content["prompt"], before.content["prompt"]) == ("New.", "Mine.")
    revision = await store.revision()
    again = await updates.apply(store, forms)
    assert (again.replaced, await store.revision(), len(reasons)) == ((), revision, 1)


async def test_without_a_backup_nothing_is_replaced(store: PersonaStore) -> None:
    async def fail(reason: str) -> None:
        raise StoreError("The disk is full.")

    await store.save(form(prompt="Mine."))
    store.before_replacing = fail
    store.protect = False

    with pytest.raises(StoreError, match="disk is full"):
        await updates.apply(store, [form(prompt="New."), form("fresh")])

    assert [one.prompt for one in await store.all()] == ["Mine."]


# What is kept for the next start


async def test_an_applied_file_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "catalogues"
    source = Source("https://example.org/p.json", hashlib.sha256(GOOD).hexdigest())
    other = Source("https://example.org/q.json", HASH)
    assert await updates.kept([source], folder) == []
    await updates.keep(source, GOOD, folder)
    await updates.keep(source, GOOD, folder)
    assert await updates.kept([other, source], folder) == updates.parse(GOOD)
    assert await updates.kept([], folder) == []
    assert [path.name for path in folder.iterdir()] == [f"{source.sha256}.json"]


@pytest.mark.parametrize("data", [GOOD + b" ", b""])
async def test_a_kept_file_that_was_changed_is_left_out(tmp_path: Path, data: bytes) -> None:
    source = Source("https://example.org/p.json", hashlib.sha256(GOOD).hexdigest())
    await updates.keep(source, data, tmp_path)
    assert await updates.kept([source], tmp_path) == []
    (tmp_path / f"{source.sha256}.json").unlink()
    (tmp_path / f"{source.sha256}.json").mkdir()
    assert await updates.kept([source], tmp_path) == []


async def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    source = Source("https://example.org/p.json", HASH)
    with pytest.raises(StoreError) as caught:
        await updates.keep(source, GOOD, tmp_path / "file" / "folder")
    assert caught.value.code == "catalogue_folder"


async def test_an_update_survives_the_seeding_at_the_next_start(store: PersonaStore, tmp_path: Path) -> None:
    shipped, data = [form(prompt="Shipped.")], catalogue(persona(prompt="Newer."))
    source = Source("https://example.org/p.json", hashlib.sha256(data).hexdigest())
    await store.seed(shipped)
    await updates.apply(store, updates.parse(data))
    await updates.keep(source, data, tmp_path)
    report = await store.seed([*shipped, *await updates.kept([source], tmp_path)])
    assert report.updated == ()
    current = await store.get("coder")
    assert current is not None
    assert current.prompt == "Newer."
