"""What somebody is told whose change is based on an older version."""

from __future__ import annotations

from datetime import datetime

from agent_mode.errors import StoreError
from agent_mode.store.versions import label_of


def stale(name: str, number: int, author: str, at: datetime) -> StoreError:
    """The error that says who changed it meanwhile, and when.

    Args:
        name: of what was changed.
        number: of its newest version.
        author: of that version.
        at: when that was saved.
    """
    when = at.isoformat(timespec="seconds")
    error = StoreError(
        f"{name} was changed meanwhile by {author} at {when}: its newest version is number {number} "
        f"({label_of(number)}).",
        hint="Read it again, compare, and repeat your change where it is still wanted.",
        code="stale_version",
        status=409,
        field="version",
    )
    return error.within(current={"version": number, "author": author, "changed_at": when})
