"""What the provider was told about who answers, read from its books."""

from __future__ import annotations

import json
import re

from tests.provider import Recorded
from tests.scripted import text_of
from tests.server.servers import ROOT

CATALOGUE = {path.stem: json.loads(path.read_text()) for path in (ROOT / "personas").glob("*.json")}
TEMPLATES = ROOT / "strategies" / "templates"

_BLOCK = re.compile(r'<agent_mode agent="([^"]*)">\n(.*?)\n</agent_mode>', re.DOTALL)


def said(recorded: Recorded) -> str:
    """All words of a request."""
    return "\n\n".join(text_of(message.get("content")) for message in recorded.body["messages"])


def prompts_in(recorded: Recorded) -> list[str]:
    """Keys of the personas whose prompts, or the beginnings of them, stand anywhere in a request."""
    text = said(recorded)
    return sorted(key for key, persona in CATALOGUE.items() if persona["prompt"].strip()[:60] in text)


def hard_reset(template: str, new: str, old: str) -> str:
    """A shipped template, filled in as it must be where there are no base instructions."""
    words = (TEMPLATES / f"{template}.txt").read_text().strip()
    paragraphs = [part for part in words.split("\n\n") if "{{baseInstructions}}" not in part]
    values = {
        "agentName": CATALOGUE[new]["name"],
        "agentInstructions": CATALOGUE[new]["prompt"].strip(),
        "previousAgentName": CATALOGUE[old]["name"] if old else "the previous assistant",
    }
    text = "\n\n".join(paragraphs)
    for name, value in values.items():
        text = text.replace(f"{{{{{name}}}}}", value)
    return text


def check(recorded: Recorded, persona: str, *, after: str | None = None) -> None:
    """The provider was told to be this persona alone; after a switch by the exact hard reset of GPT-4o.

    Args:
        after: who answered before; the empty key: the plain model.
    """
    blocks = _BLOCK.findall(said(recorded))
    prompt = CATALOGUE[persona]["prompt"].strip()
    expected = prompt if after is None else hard_reset("hierarchical", persona, after)
    assert blocks == [(persona, expected)]
    assert prompts_in(recorded) == [persona]
    assert said(recorded).count("<agent_mode_pivot>") == (after is not None)
