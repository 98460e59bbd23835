"""The pure parts of the Agents page and its gate: whose request it is, slowing down, comparing, words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from agent_mode.admin.gate import slowdown
from agent_mode.admin.gate.policy import is_https, is_own, safe_target
from agent_mode.admin.gate.slowdown import FREE, Slowdown, network
from agent_mode.admin.pages.components import words
from agent_mode.admin.pages.components.history import rows
from agent_mode.admin.pages.components.run_parts import pretty, tree
from agent_mode.store.run_records import RunRecord

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("origin", "names", "own"),
    [
        ("http://a:9099", {"host": "a:9099"}, True),
        ("http://a", {"host": "a:80"}, True),
        ("https://A", {"host": "a"}, True),
        ("https://a", {"host": "a:443"}, True),
        ("http://[::1]:9099", {"host": "[::1]:9099"}, True),
        ("http://[::1]", {"host": "[::1]"}, True),
        ("https://agents.example", {"host": "10.0.0.7:9099", "x-forwarded-host": "agents.example"}, True),
        ("http://a:9099", {"host": "a:9098"}, False),
        ("http://a.evil", {"host": "a"}, False),
        ("http://a:x", {"host": "a:x"}, False),
        ("ftp://a", {"host": "a"}, False),
        ("null", {"host": "null"}, False),
        ("", {"host": ""}, False),
        ("http://", {"host": ""}, False),
        ("http://a", {}, False),
    ],
)
def test_whose_request_it_is(origin: str, names: dict[str, str], own: bool) -> None:
    assert is_own({"origin": origin, **names}) is own


def test_tls_ends_here_or_at_a_proxy() -> None:
    assert is_https("https", {})
    assert is_https("http", {"x-forwarded-proto": "HTTPS"})
    assert not is_https("http", {"x-forwarded-proto": "http"})


@pytest.mark.parametrize(
    ("target", "reached"),
    [
        ("/admin/runs?state=done&q=a", "/admin/runs?state=done&q=a"),
        ("/admin/", "/admin/"),
        ("", "/admin/"),
        ("/models", "/admin/"),
        ("//evil", "/admin/"),
        ("/admin//evil", "/admin/"),
        ("/admin/\\evil", "/admin/"),
        ("/admin/../models", "/admin/"),
        ("/admin/sign-out", "/admin/"),
        ("/admin/a\r\nSet-Cookie: x", "/admin/"),
        ("/admin/é", "/admin/"),
        ("/admin/" + "x" * 600, "/admin/"),
    ],
)
def test_where_a_sign_in_leads(target: str, reached: str) -> None:
    assert safe_target(target, "/admin") == reached


def test_failed_tries_wait_longer_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(slowdown.time, "monotonic", lambda: now)
    tries = Slowdown()
    assert [tries.begin("10.0.0.1") for _ in range(FREE)] == [0.0] * FREE
    assert tries.begin("10.0.0.1") == pytest.approx(2.0)
    assert tries.begin("10.0.0.2") == 0.0
    waits = []
    for _ in range(8):
        waits.append(tries.begin("10.0.0.1"))
        now += waits[-1]
        assert tries.begin("10.0.0.1") == 0.0
    assert waits == pytest.approx([2, 4, 8, 16, 32, 60, 60, 60])
    now += 901
    assert tries.begin("10.0.0.1") == 0.0
    tries.succeeded("10.0.0.1")
    assert [tries.begin("10.0.0.1") for _ in range(FREE)] == [0.0] * FREE


def test_each_account_and_the_keys_are_counted_by_themselves() -> None:
    """Behind a proxy everybody has one address."""
    tries = Slowdown()
    for _ in range(FREE):
        assert tries.begin("10.0.0.1", "Ada@example.org") == 0.0
    assert tries.begin("10.0.0.1", " ada@EXAMPLE.org ") > 0
    assert tries.begin("10.0.0.1", "bob@example.org") == 0.0
    assert tries.begin("10.0.0.1") == 0.0
    assert tries.begin("10.0.0.2", "ada@example.org") == 0.0
    tries.succeeded("10.0.0.1", "bob@example.org")
    assert tries.begin("10.0.0.1", "ada@example.org") > 0, "another's success is not one's own"
    tries.begin("10.0.0.1", "\ud800" * 10_000)


def test_addresses_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slowdown, "_MEMORY", 1000)
    tries = Slowdown()
    for number in range(3000):
        tries.begin(f"10.0.{number >> 8}.{number & 255}", "a@b.c" if number % 2 else "")
    assert len(tries._tries) == 1000
    assert network("2001:db8::1") == network("2001:db8::ffff:1") != network("2001:db8:0:1::1")
    assert network("::ffff:10.0.0.1") == "10.0.0.1"
    assert network("fe80::1%eth0") == "fe80::/64"
    assert network("no address") == "no address"


def test_two_texts_side_by_side() -> None:
    old = ["a", "b", "c", "d", "e", "f", "g"]
    new = ["a", "b", "C", "d", "e", "f", "g", "h"]
    assert list(rows(old, new, around=1)) == [
        ("same", "b", "b"),
        ("changed", "c", "C"),
        ("same", "d", "d"),
        ("same", "g", "g"),
        ("new", None, "h"),
    ]
    assert list(rows(["x"], [])) == [("gone", "x", None)]
    assert list(rows(["x"], ["x"])) == []


def test_words_for_times_and_numbers() -> None:
    def told(**ago: float) -> str:
        return words.ago(NOW - timedelta(**ago), NOW)

    assert [told(seconds=5), told(minutes=5), told(hours=5), told(days=5)] == [
        "5 s ago",
        "5 min ago",
        "5 h ago",
        "2026-11-16",
    ]
    assert words.ago(None) == "never"
    assert [words.lasted(ms) for ms in (None, 12, 2345, 185_000)] == ["", "12 ms", "2.3 s", "3 min 5 s"]
    assert words.count(1_234_567) == "1\u202f234\u202f567"


def test_runs_as_a_tree() -> None:
    def run(run_id: str, parent: str | None) -> RunRecord:
        return RunRecord(id=run_id, agent=run_id, agent_type="persona", started_at=NOW, parent_id=parent)

    top = run("a", None)
    found = tree(top, [run("b", "a"), run("c", "b"), run("d", "a"), run("e", "elsewhere"), run("a", "a")])
    assert [branch.run.id for branch in found.below] == ["b", "d"]
    assert [branch.run.id for branch in found.below[0].below] == ["c"]


def test_values_of_tool_calls_are_written_for_people() -> None:
    assert pretty('{"a": 1}') == '{\n  "a": 1\n}'
    assert pretty({"ä": [1]}) == '{\n  "ä": [\n    1\n  ]\n}'
    assert pretty("plain <b>text</b>") == "plain <b>text</b>"
    assert pretty("12") == "12"
