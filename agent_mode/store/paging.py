"""Parts of long tables, the newest rows first."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Row, Select, func
from sqlalchemy.ext.asyncio import AsyncConnection


async def newest(
    connection: AsyncConnection,
    query: Select[Any],
    order: tuple[ColumnElement[Any], ...],
    offset: int,
    limit: int,
) -> tuple[list[Row[Any]], int]:
    """A part of the rows, and how many there are in all.

    A database walks over all that it leaves out, so the part is read from the end that is nearer.

    Args:
        query: the rows, in no order.
        order: columns, the last one unique; the greatest values come first.
        offset: how many to leave out, at least 0.
        limit: how many to return at most.
    """
    counted = query.with_only_columns(func.count(), maintain_column_froms=True)
    total = (await connection.execute(counted)).scalar_one()
    if offset < total // 2:
        part = query.order_by(*(column.desc() for column in order)).offset(offset).limit(limit)
        return list(await connection.execute(part)), total
    count = max(0, min(limit, total - offset))
    part = query.order_by(*order).offset(total - offset - count).limit(count)
    return list(reversed((await connection.execute(part)).all())) if count else [], total
