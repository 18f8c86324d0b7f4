"""One page of a long list: by position or by cursor, and never more than 16 MiB of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Select, Text, cast, func, literal, select, tuple_

MAX_PAGE_BYTES = 16 * 1024 * 1024
OWN_COLUMNS = {"size", "bytes", "place", "count"}

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Position:
    """The place of a row in its order: the value it is ordered by, and its id."""

    value: Any
    id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """At most `limit` rows after `skip` rows, or after the row at `after`.

    Whoever skips is also told the number of all that match, which has to be counted. A page by cursor begins at
    its place in an index: its cost grows neither with its depth nor with the table.
    """

    limit: int
    skip: int = 0
    is_by_cursor: bool = False
    after: Position | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing(Generic[Item]):
    """The rows of a page; `total` is None by cursor; `next` is the place to go on from, None at the end."""

    items: list[Item]
    total: int | None
    next: Position | None


def json_bytes(text: ColumnElement[Any]) -> ColumnElement[int]:
    """The bytes of a text in an answer, where a control character takes six."""
    return func.octet_length(cast(func.to_json(text), Text))


def read_page(
    connection: Connection,
    statement: Select[Any],
    page: Page,
    *,
    order: ColumnElement[Any],
    identity: ColumnElement[UUID],
    is_descending: bool,
    size: ColumnElement[int],
    item_of: Callable[[Mapping[Any, Any]], Item],
) -> Listing[Item]:
    """The page of `statement`'s rows in the order of `order`, one of its columns, and `identity`, equal to its `id`.

    `size` estimates the bytes of a row in an answer: a page ends early, after at least one row, where their sum
    would exceed 16 MiB.
    """
    total = None
    if not page.is_by_cursor:
        counted = statement.with_only_columns(func.count(), maintain_column_froms=True)
        total = connection.execute(counted).scalar_one()
    if page.after is not None:
        here = tuple_(order, identity)
        there = tuple_(literal(page.after.value, order.type), literal(page.after.id, identity.type))
        statement = statement.where(here < there if is_descending else here > there)
    ordering = [column.desc() if is_descending else column for column in (order, identity)]
    # one more than asked for shows whether there is a next page
    rows = (
        statement.add_columns(size.label("size")).order_by(*ordering).offset(page.skip).limit(page.limit + 1)
    )
    found = rows.subquery("found")
    places = [column.desc() if is_descending else column for column in (found.c[order.name], found.c["id"])]
    sums = select(
        found,
        func.sum(found.c.size).over(order_by=places, rows=(None, 0)).label("bytes"),
        func.row_number().over(order_by=places).label("place"),
        func.count().over().label("count"),
    ).subquery("sums")
    fitting = (
        select(sums)
        .where(sums.c.place <= page.limit, (sums.c.bytes <= MAX_PAGE_BYTES) | (sums.c.place == 1))
        .order_by(sums.c.place)
    )
    items, following = [], None
    for row in connection.execute(fitting).mappings():
        values = {name: value for name, value in row.items() if name not in OWN_COLUMNS}
        items.append(item_of(values))
        is_last_of_all = row["count"] == len(items)
        following = None if is_last_of_all else Position(row[order.name], row["id"])
    return Listing(items=items, total=total, next=following)
