"""Runs: what agents do now and did before."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from agent_mode.admin.pages.components import words
from agent_mode.admin.pages.components.empty import empty
from agent_mode.admin.pages.components.listing import Choice, Column, Listing, Query
from agent_mode.admin.pages.components.run_parts import tokens
from agent_mode.admin.pages.components.shell import heading
from agent_mode.admin.pages.page import page
from agent_mode.admin.pages.visit import Visit
from agent_mode.chat.runtime import KEEP_RUNS_DAYS
from agent_mode.store.run_records import RunRecord

LOOK_SECONDS = 2.0
"""How often the list looks for what is new."""

STATES = {
    "running": "Running",
    "waiting": "Waiting for a tool",
    "done": "Done",
    "failed": "Failed",
    "stopped": "Stopped",
    "abandoned": "Abandoned",
}
_SINCE = {"1": "Last hour", "24": "Last day", "168": "Last week"}
_WHO = {"top": "Called by people"}


@page("/runs", title="Runs", icon="history", place=50)
async def runs(visit: Visit) -> None:
    """The list, which keeps itself up to date."""
    heading("Runs", f"What agents do and did, the newest first. Kept for {KEEP_RUNS_DAYS} days.")

    async def load(query: Query) -> tuple[Sequence[RunRecord], int]:
        chosen = query.chosen
        hours = chosen.get("since")
        return await visit.runtime.run_store.page(
            query.offset,
            query.limit,
            agent=query.q.strip() or None,
            state=chosen.get("state"),  # pyright: ignore[reportArgumentType]  one of STATES
            since=datetime.now(UTC) - timedelta(hours=int(hours)) if hours else None,
            parent_id="" if chosen.get("who") else None,
        )

    await Listing(
        load,
        [
            Column("Agent", lambda run: run.agent),
            Column("State", lambda run: words.state(run.state)),
            Column("Begun", lambda run: words.moment(run.started_at)),
            Column("Took", lambda run: words.lasted(run.duration_ms), "number"),
            Column("LLM calls", lambda run: words.count(run.steps), "number", minor=True),
            Column("Tools", lambda run: words.count(len(run.tool_calls)), "number", minor=True),
            Column(
                "Tokens", lambda run: words.count(tokens(run)) if tokens(run) else "", "number", minor=True
            ),
            Column("What went wrong", lambda run: str((run.error or {}).get("code") or "")),
        ],
        noun="run",
        href=lambda run: f"/runs/{run.id}",
        search="Agent (its whole id)",
        filters=[
            Choice("state", "State", STATES),
            Choice("since", "When", _SINCE),
            Choice("who", "Which", _WHO),
        ],
        empty=lambda: empty(
            "No agent has run yet",
            "Pick an agent in Open WebUI's model list and ask it something; its run appears here at once.",
            icon="history",
        ),
        every=LOOK_SECONDS,
    ).show()
