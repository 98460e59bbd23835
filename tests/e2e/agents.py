"""Agents of the journeys, made over the REST API as a script makes them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from tests.e2e.stand import Stand
from tests.e2e.webui import EVERYBODY
from tests.server.rest import Rest

Json = dict[str, Any]


@contextlib.contextmanager
def agents(stand: Stand, forms: Mapping[str, Json], *grants: Json) -> Iterator[Rest]:
    """Agents for the length of a `with` block, shared with whom the grants name, or else with everybody.

    Args:
        forms: by id; what a form leaves out is as in `tests.server.rest.agent`, with the stand's own model.
    """
    api = Rest(stand.ours)
    with contextlib.ExitStack() as stack:
        for agent_id, form in forms.items():
            api.create(agent_id, **{"valves": {}, **form})
            stack.callback(api.delete, f"agents/{agent_id}")
            stand.admin.share_model(agent_id, *(grants or (EVERYBODY,)))
        yield api


def in_python(code: str, **form: Any) -> Json:
    """The form of an agent in Python of its own."""
    return {"agent_type": "custom_python", "definition": {"code": code}, **form}
