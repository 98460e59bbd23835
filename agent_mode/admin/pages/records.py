"""Records: who changed what, when and by which way."""

from __future__ import annotations

from collections.abc import Sequence

from agent_mode.admin.pages.components.empty import empty
from agent_mode.admin.pages.components.listing import Column, Listing, Query
from agent_mode.admin.pages.components.shell import heading
from agent_mode.admin.pages.components.words import moment
from agent_mode.admin.pages.page import page
from agent_mode.admin.pages.visit import Visit
from agent_mode.chat.runtime import KEEP_AUDIT_DAYS
from agent_mode.store.audit import AuditRecord


@page("/records", title="Records", icon="receipt_long", place=90)
async def records(visit: Visit) -> None:
    """What was done."""
    heading("Records", f"Who changed what, and by which way. Kept for {KEEP_AUDIT_DAYS} days.")

    async def load(query: Query) -> tuple[Sequence[AuditRecord], int]:
        return await visit.runtime.audit.page(query.offset, query.limit, query.q or None)

    await Listing(
        load,
        [
            Column("When", lambda record: moment(record.at)),
            Column("Who", lambda record: record.actor),
            Column("What", lambda record: f"{record.action} {record.kind}"),
            Column("Which", lambda record: record.target if record.kind != "session" else ""),
            Column("More", lambda record: record.text),
            Column("Way", lambda record: record.way, minor=True),
        ],
        noun="record",
        search="Search who, what, which or way",
        empty=lambda: empty("Nothing was changed yet", "What is changed here will be listed."),
    ).show()
