"""The persona browser: one HTML document, for a chat's embed and for the page `/personas` alike."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Sequence
from functools import cache, lru_cache
from hashlib import sha256
from importlib.resources import files

from agent_mode.chat.console import CATEGORY_ORDER
from agent_mode.store.personas import Persona

# What could end the script element or the string it is copied into; all of it occurs in strings only.
_ESCAPES = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}
_ORDER = {name: index for index, name in enumerate(CATEGORY_ORDER)}


def page(personas: Sequence[Persona], *, prefix: str, embedded: bool, agents: int = 0) -> str:
    """A self-contained document to search the personas and to pick one.

    Args:
        personas: those on offer, agents among them. Their prompts stay here.
        prefix: what a command begins with, such as `!`.
        embedded: made for an iframe in a chat, where a click asks Open WebUI to send the command;
            else a click copies the command.
        agents: how many of them are agents.
    """
    return _page(tuple(personas), prefix, embedded, agents)


# The key holds the personas themselves: a changed one is a new object, so nothing here grows old.
@lru_cache(maxsize=16)
def _page(personas: tuple[Persona, ...], prefix: str, embedded: bool, agents: int) -> str:
    before, after = _template()
    data = {
        "prefix": prefix,
        "embedded": embedded,
        "agents": agents,
        "personas": [_shown(persona) for persona in sorted(personas, key=_place)],
    }
    island = json.dumps(data, ensure_ascii=False, separators=(",", ":")).translate(_ESCAPES)
    return f"{before}{island}{after}"


def _place(persona: Persona) -> tuple[int, str, str]:
    return _ORDER.get(persona.category, len(_ORDER)), persona.category, persona.name.casefold()


def _shown(persona: Persona) -> dict[str, object]:
    return {
        "key": persona.key,
        "name": persona.name,
        "emoji": persona.emoji,
        "category": persona.category,
        "description": persona.description,
        "capabilities": persona.capabilities,
        "tags": persona.tags,
    }


@cache
def _template() -> tuple[str, str]:
    """The document before and after the data, with a policy that lets its own style and script run alone."""
    html = files("agent_mode.chat").joinpath("browser.html").read_text(encoding="utf-8")
    policy = "; ".join(
        (
            "default-src 'none'",
            f"style-src {_hash(html, 'style')}",
            f"script-src {_hash(html, 'script')}",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )
    before, after = html.replace("{{policy}}", policy).split("{{data}}")
    return before, after


def _hash(html: str, tag: str) -> str:
    (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
    return f"'sha256-{b64encode(sha256(content.encode()).digest()).decode()}'"
