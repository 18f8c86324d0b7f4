"""One page of a long list: by position or by cursor, and never more than 16 MiB of it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Select,
    Text,
    cast,
    func,
    literal,
    select,
    tuple_,
)

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed(Generic[Item]):
    """What there is a list of.

    `rows` are all of it, whole, from `source`; of the tables of that, `counted` has the fewest bytes. `size`
    estimates the bytes of a row in an answer.
    """

    rows: Select[Any]
    source: FromClause
    counted: FromClause
    size: ColumnElement[int]
    item_of: Callable[[Mapping[Any, Any]], Item]

    def narrowed(self, statement: Select[Any]) -> Select[Any]:
        """The statement, over those tables only whose columns it names: an index may be all that is read then."""
        named = len(statement.get_final_froms())
        return statement if named == 1 else statement.select_from(self.source if named else self.counted)


@dataclass(frozen=True, slots=True)
class Common:
    """A condition that most rows meet; each other row meets exactly one of `others`, for which there are indexes.

    So what meets it is counted by what does not: few rows are read in place of most.
    """

    condition: ColumnElement[bool]
    others: Sequence[ColumnElement[bool]]


def json_bytes(text: ColumnElement[Any]) -> ColumnElement[int]:
    """The bytes of a text in an answer, where a control character takes six."""
    return func.octet_length(cast(func.to_json(text), Text))


def read_page(
    connection: Connection,
    listed: Listed[Item],
    conditions: Sequence[ColumnElement[bool]],
    page: Page,
    *,
    order: ColumnElement[Any],
    identity: ColumnElement[UUID],
    is_descending: bool,
    total: ColumnElement[int],
) -> Listing[Item]:
    """The page of the rows that meet `conditions`, in the order of `order`, one of their columns, and `identity`, equal
    to their `id`; `total` is how many these are, and asked for where that is wanted.

    A page ends early, after at least one row, where the sum of their sizes would exceed 16 MiB.
    """
    ordering = [column.desc() if is_descending else column for column in (order, identity)]
    number, after = None, page.after
    if not page.is_by_cursor:
        number = connection.execute(select(total)).scalar_one()
        if number <= page.skip:
            # a table of an older schema must not look like an empty one
            connection.execute(listed.rows.limit(0))
            return Listing(items=[], total=number, next=None)
    if page.skip and not page.is_by_cursor:
        skipped = listed.narrowed(select(order, identity).where(*conditions)).order_by(*ordering)
        last = connection.execute(skipped.offset(page.skip - 1).limit(1)).one_or_none()
        if last is None:
            return Listing(items=[], total=number, next=None)
        after = Position(*last)
    statement = listed.rows.where(*conditions)
    if after is not None:
        here = tuple_(order, identity)
        there = tuple_(literal(after.value, order.type), literal(after.id, identity.type))
        statement = statement.where(here < there if is_descending else here > there)
    # one more than asked for shows whether there is a next page
    found = (
        statement.add_columns(listed.size.label("size"))
        .order_by(*ordering)
        .limit(page.limit + 1)
        .subquery("found")
    )
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
        items.append(listed.item_of(values))
        is_last_of_all = row["count"] == len(items)
        following = None if is_last_of_all else Position(row[order.name], row["id"])
    return Listing(items=items, total=number, next=following)


def counted(
    listed: Listed[Any],
    conditions: Sequence[ColumnElement[bool]],
    common: Sequence[Common] = (),
    *,
    number: ColumnElement[int] | None = None,
) -> ColumnElement[int]:
    """The number of the rows that meet `conditions`, and what is `common`; in a statement, that is one snapshot.

    `number` is how many meet `conditions`, where that is known without counting them.
    """

    def counting(conditions: Sequence[ColumnElement[bool]]) -> ColumnElement[int]:
        return listed.narrowed(select(func.count()).where(*conditions)).scalar_subquery()

    total = counting(conditions) if number is None else number
    for some in left_out(conditions, common):
        total -= counting(some)
    return total


def left_out(
    conditions: Sequence[ColumnElement[bool]], common: Sequence[Common]
) -> Iterator[list[ColumnElement[bool]]]:
    """Of the rows that meet `conditions` those that do not meet what is `common`: each of them meets one of these."""
    met = list(conditions)
    for one in common:
        for other in one.others:
            yield [*met, other]
        met.append(one.condition)
