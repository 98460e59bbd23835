"""Which backups are worth keeping when there are too many. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import cycle

from agent_mode.store.backup_files import Backup

DAYS = 7
"""For so many days one backup of each day is wanted, after that one of each week."""

_TURNS = ("recent", "daily", "daily", "daily", "weekly")
"""Who picks next; of ten places two go to the newest backups, six to days, two to weeks."""


def surplus(backups: Iterable[Backup], now: datetime, limit: int) -> list[Backup]:
    """Those to be removed so that at most `limit` remain.

    Damaged ones go first. Those that cannot be judged, because they are unreadable or of a newer format,
    are neither removed nor counted.
    """
    newest_first = sorted(backups, key=lambda backup: backup.name, reverse=True)
    good = [backup for backup in newest_first if backup.ok]
    damaged = [backup for backup in newest_first if backup.problem == "damaged"]
    kept = _worthy(good, now, max(1, limit))
    kept |= {backup.name for backup in damaged[: max(0, limit - len(kept))]}
    return [backup for backup in (*good, *damaged) if backup.name not in kept]


def _worthy(good: list[Backup], now: datetime, limit: int) -> set[str]:
    recent_days = now - timedelta(days=DAYS)
    daily = _first_of_each((b for b in good if b.created_at > recent_days), "%Y-%m-%d")
    weekly = _first_of_each((b for b in good if b.created_at <= recent_days), "%G-%V")
    queues = {"recent": iter(good), "daily": daily, "weekly": weekly}
    kept: set[str] = set()
    for turn in cycle(_TURNS):
        if len(kept) >= min(limit, len(good)):
            return kept
        pick = next((backup for backup in queues[turn] if backup.name not in kept), None)
        if pick is not None:
            kept.add(pick.name)
    return kept


def _first_of_each(newest_first: Iterable[Backup], period: str) -> Iterator[Backup]:
    seen: set[str] = set()
    for backup in newest_first:
        mark = backup.created_at.strftime(period)
        if mark not in seen:
            seen.add(mark)
            yield backup
