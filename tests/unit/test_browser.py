"""The persona browser: whatever a persona says stays data, and the document needs nothing from outside."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_mode.chat.browser import page
from agent_mode.store.personas import Persona

NOW = datetime(2025, 1, 1, tzinfo=UTC)
CODER = Persona(
    key="coder",
    name="Coder",
    emoji="💻",
    category="software",
    prompt="A confidential prompt.",
    description="Writes code.",
    capabilities=("refactoring",),
    tags=("code",),
    model="confidential-model",
    enabled=True,
    origin="shipped",
    content_hash="hash-one",
    shipped_hash="hash-one",
    created_at=NOW,
    updated_at=NOW,
)
HOSTILE = "</script><img src=x onerror=alert(1)><!-- & \u2028\u2029 {{data}}{{policy}} ]]> \\u003c"
SHOWN = {"key", "name", "emoji", "category", "description", "capabilities", "tags"}

texts = st.text(max_size=60) | st.sampled_from(
    [HOSTILE, "<!--<script>", "</SCRIPT >", "\x00\r\n\ufeff\ufffe"]
)
labels = st.lists(texts, max_size=4).map(tuple)
personas = st.builds(
    replace,
    st.just(CODER),
    key=texts,
    name=texts,
    emoji=texts,
    category=texts,
    description=texts,
    capabilities=labels,
    tags=labels,
)


class Document(HTMLParser):
    """The elements of a document in order, with their attributes, and the text of each script and style."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open = False
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.texts.append("")
        self._open = True

    def handle_endtag(self, tag: str) -> None:
        self._open = False

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts[-1] += data

    def all(self, tag: str) -> list[tuple[dict[str, str | None], str]]:
        pairs = zip(self.elements, self.texts, strict=True)
        return [(attrs, text) for (name, attrs), text in pairs if name == tag]

    @property
    def island(self) -> str:
        (island,) = (text for attrs, text in self.all("script") if attrs.get("type") == "application/json")
        return island

    @property
    def data(self) -> dict[str, Any]:
        return json.loads(self.island)


@pytest.fixture(scope="module")
def shipped() -> list[Persona]:
    catalogue = sorted((Path(__file__).parents[2] / "personas").glob("*.json"))
    loaded = [json.loads(path.read_text(encoding="utf-8")) for path in catalogue]
    lists = ("capabilities", "tags")
    return [replace(CODER, **entry | {name: tuple(entry[name]) for name in lists}) for entry in loaded]


@given(st.lists(personas, max_size=5), texts, st.booleans())
def test_the_data_come_back_and_change_nothing_around_them(
    chosen: list[Persona], prefix: str, embedded: bool
) -> None:
    html = page(chosen, prefix=prefix, embedded=embedded)
    document = Document(html)
    data = document.data
    assert (data["prefix"], data["embedded"]) == (prefix, embedded)
    wanted = [{field: getattr(persona, field) for field in SHOWN} for persona in chosen]
    found = [
        entry | {name: tuple(entry[name]) for name in ("capabilities", "tags")} for entry in data["personas"]
    ]
    assert sorted(map(repr, map(_sorted, found))) == sorted(map(repr, map(_sorted, wanted)))
    assert document.elements == Document(page([], prefix="!", embedded=True)).elements
    # What a browser's tokenizer could take for the end of the script, and what it would normalise.
    assert not set(document.island) & set("<>&\u2028\u2029\x00\r\n")


def _sorted(entry: dict[str, Any]) -> list[tuple[str, Any]]:
    return sorted(entry.items())


def test_a_hostile_persona_is_text() -> None:
    html = page([replace(CODER, name=HOSTILE, description=HOSTILE)], prefix="!", embedded=True)
    assert len(re.findall("</script", html, re.IGNORECASE)) == 2
    assert "<img" not in html
    assert Document(html).data["personas"][0]["name"] == HOSTILE


def test_prompts_models_and_hashes_stay_here() -> None:
    html = page([CODER], prefix="!", embedded=True)
    assert "confidential" not in html
    assert CODER.content_hash not in html
    assert set(Document(html).data["personas"][0]) == SHOWN


def test_nothing_comes_from_outside() -> None:
    html = re.sub(r"'sha256-[^']+'", "", page([], prefix="!", embedded=True))
    assert not re.search(r"//[a-z0-9]|url\(|@import|<link|\ssrc=|\shref=|\saction=", html, re.IGNORECASE)
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", html
    )


def test_the_policy_lets_the_own_style_and_script_run_and_nothing_else() -> None:
    document = Document(page([CODER], prefix="!", embedded=False))
    (policy,) = (
        attrs["content"]
        for attrs, _ in document.all("meta")
        if attrs.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    (style,) = (text for _, text in document.all("style"))
    (script,) = (text for attrs, text in document.all("script") if not attrs)
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["style-src"] == _source(style)
    assert rules["script-src"] == _source(script)
    # A policy of hashes refuses these.
    for _, attrs in document.elements:
        assert not any(name == "style" or name.startswith("on") for name in attrs)


def _source(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def test_the_shipped_catalogue_is_small(shipped: list[Persona]) -> None:
    seventy = (shipped * 2)[:70]
    assert len(shipped) > 60
    assert len(page(seventy, prefix="!", embedded=True).encode()) < 60_000


def test_order_is_that_of_the_list_in_the_chat() -> None:
    chosen = [
        replace(CODER, key="z", name="zoe", category="zoology"),
        replace(CODER, key="e", name="Eve", category="everyday"),
        replace(CODER, key="b", name="bob", category="software"),
        replace(CODER, key="a", name="Ann", category="software"),
        replace(CODER, key="q", name="Quin", category="aviation"),
    ]
    data = Document(page(chosen, prefix="!", embedded=True)).data
    assert [entry["key"] for entry in data["personas"]] == ["a", "b", "e", "q", "z"]


def test_it_is_told_how_many_of_them_are_agents() -> None:
    assert Document(page([CODER], prefix="!", embedded=True)).data["agents"] == 0
    assert Document(page([CODER], prefix="!", embedded=True, agents=1)).data["agents"] == 1


def test_rendered_once_until_something_changes() -> None:
    first = page([CODER], prefix="!", embedded=True)
    assert page((replace(CODER),), prefix="!", embedded=True) is first
    assert page([replace(CODER, name="Programmer")], prefix="!", embedded=True) != first
    assert page([CODER], prefix="/", embedded=True) != first
    assert page([CODER], prefix="!", embedded=False) != first
