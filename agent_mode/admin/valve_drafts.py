"""What somebody typed into a form of valves and has not saved. Pure.

It is kept as what differs from what holds, so that it can be put over what somebody else has saved meanwhile
without taking any of that back.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any

from agent_mode.valves import MASK

Draft = dict[str, Any]
"""As JSON: `changed` values by name, names to `reset`, what is `half` typed by path, what held `before`."""


def draft(
    entered: Mapping[str, Any], held: Mapping[str, Any], half: Mapping[str, str], before: Mapping[str, Any]
) -> Draft:
    """What is not saved.

    Args:
        entered: what the form began with.
        held: what it holds now.
        half: what was typed and cannot be read yet, by path.
        before: all values that its author has seen, with masks in place of secrets.
    """
    return {
        "changed": {
            name: value for name, value in held.items() if name not in entered or entered[name] != value
        },
        "reset": [name for name in entered if name not in held],
        "half": dict(half),
        "before": dict(before),
    }


def usable(found: Any) -> Draft | None:
    """What a browser had kept, as a draft; None if it is none."""
    if not isinstance(found, dict):
        return None
    kinds = {"changed": dict, "reset": list, "half": dict, "before": dict}
    return found if all(isinstance(found.get(name), kind) for name, kind in kinds.items()) else None


def over(entered: Mapping[str, Any], unsaved: Draft, names: Collection[str]) -> dict[str, Any]:
    """What a form holds with the draft in it.

    Args:
        entered: what it holds without.
        unsaved: the draft.
        names: of the valves that there are.
    """
    rest = {name: value for name, value in entered.items() if name not in unsaved["reset"]}
    return rest | {name: value for name, value in unsaved["changed"].items() if name in names}


def public(unsaved: Draft, secrets: Collection[str], opaque: Collection[str]) -> Draft:
    """The draft as it may be kept in a browser: without secrets.

    Args:
        unsaved: the draft.
        secrets: names of valves that are secrets; that one is to be forgotten is none.
        opaque: names of valves with a secret somewhere inside.
    """
    hidden = {*secrets, *opaque}
    return {
        "changed": {
            name: value
            for name, value in unsaved["changed"].items()
            if name not in hidden or (name in secrets and (not value or is_masked(value)))
        },
        "reset": unsaved["reset"],
        "half": {
            path: text for path, text in unsaved["half"].items() if path.partition(".")[0] not in hidden
        },
        "before": {name: value for name, value in unsaved["before"].items() if name not in opaque},
    }


def mark(values: Mapping[str, Any]) -> str:
    """Of shown values: other values, another mark. It is made of no secret, and may go to the browser."""
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def readable(values: Mapping[str, Any], secrets: Collection[str]) -> str:
    """Values as lines to compare; a secret that was typed is not shown."""
    found: list[str] = []
    for name, value in sorted(values.items()):
        if name in secrets and value and not is_masked(value):
            found.append(f"{name}: another secret")
        elif isinstance(value, str) and "\n" in value:
            found += [f"{name}:", *(f"  {line}" for line in value.splitlines())]
        else:
            found.append(f"{name}: {json.dumps(value, ensure_ascii=False, default=str)}")
    return "\n".join(found)


def is_masked(value: Any) -> bool:
    """Whether it stands for a secret that is kept."""
    return isinstance(value, str) and value.startswith(MASK)
