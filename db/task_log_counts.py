"""How many logs there are, hour by hour, without counting them: triggers write down what each statement changes."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Integer,
    Select,
    cast,
    column,
    func,
    literal,
    literal_column,
    select,
    text,
    union_all,
)

from db.tables import INSTANT, task_logs

LOGS_BY_HOUR = """
SELECT hour, logs FROM task_log_counts UNION ALL SELECT hour, logs FROM task_log_changes"""
"""Their sum is what count(*) of task_logs says in the same statement: a statement that adds or removes logs inserts
its changes, in its transaction, and waits for nobody."""

FOLD_CHANGES = text("""
WITH folded AS (
    DELETE FROM task_log_changes WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM task_log_changes WHERE (SELECT pg_try_advisory_xact_lock(:lock)) LIMIT :limit
    )) RETURNING hour, logs
), added AS (
    INSERT INTO task_log_counts AS counted (hour, logs) SELECT hour, sum(logs) FROM folded GROUP BY hour
    ON CONFLICT (hour) DO UPDATE SET logs = counted.logs + excluded.logs
)
SELECT count(*) FROM folded
""")

FORGET_EMPTY_HOURS = text("DELETE FROM task_log_counts WHERE logs = 0")

ADVISORY_LOCK = 7_205_759_404
"""Any number but that of db/migrations.py: whoever holds it folds, and nobody waits for it."""


HOUR = timedelta(hours=1)
AN_HOUR_BEGAN_AT = datetime(2000, 1, 1, tzinfo=UTC)
BY_HOUR = text(LOGS_BY_HOUR).columns(column("hour", INSTANT), column("logs", Integer)).subquery("by_hour")


def number_of_logs(since: datetime | None, until: datetime | None) -> ColumnElement[int]:
    """How many logs were made from `since` to before `until`: of whole hours what is written down, of the parts of
    hours at both ends what an index counts.
    """
    of_hours = select(func.coalesce(func.sum(BY_HOUR.c.logs), 0))
    first = last = None
    if since is not None:
        first = hour_of(literal(since, INSTANT) + HOUR - timedelta(microseconds=1))
        of_hours = of_hours.where(BY_HOUR.c.hour >= first)
    if until is not None:
        last = hour_of(literal(until, INSTANT))
        of_hours = of_hours.where(BY_HOUR.c.hour < last)
    number: ColumnElement[int] = of_hours.scalar_subquery()
    if since is not None:
        end = first if until is None else func.least(first, literal(until, INSTANT))
        number += counted(since, end)
    if until is not None:
        start = last if since is None else func.greatest(last, first)
        number += counted(start, until)
    return number


def find_hour(
    connection: Connection, skip: int, changes: Sequence[Select[datetime, int]], *, is_newest_first: bool
) -> tuple[datetime, int] | None:
    """Where whoever skips so many logs may come in, and how many come before it: at the end of the hour that holds the
    next one, or at its beginning if the oldest come first. None without logs.

    `changes`, made by `by_hour`, are added to the numbers of all logs: what is left is what is skipped among.
    """
    made = union_all(select(BY_HOUR.c.hour, BY_HOUR.c.logs), *changes).subquery("made")
    logs = func.sum(made.c.logs)
    in_order = made.c.hour.desc() if is_newest_first else made.c.hour
    earlier = cast(func.sum(logs).over(order_by=in_order) - logs, BigInteger).label("earlier")
    hours = select(made.c.hour, earlier).group_by(made.c.hour).having(logs > 0).subquery("hours")
    edge = hours.c.hour + HOUR if is_newest_first else hours.c.hour
    found = select(edge, hours.c.earlier).where(hours.c.earlier <= skip).order_by(hours.c.earlier.desc())
    row = connection.execute(found.limit(1)).one_or_none()
    return None if row is None else (row[0], row[1])


def by_hour(sign: Literal[1, -1], conditions: Sequence[ColumnElement[bool]]) -> Select[datetime, int]:
    """How many logs of each hour meet these conditions, below zero for the sign -1."""
    number = cast(func.count() * sign, Integer)
    return select(hour_of(task_logs.c.created_at), number).where(*conditions).group_by(literal_column("1"))


def counted(start: Any, end: Any) -> ColumnElement[int]:
    in_part = select(func.count()).select_from(task_logs)
    return in_part.where(task_logs.c.created_at >= start, task_logs.c.created_at < end).scalar_subquery()


def hour_of(instant: ColumnElement[datetime]) -> ColumnElement[datetime]:
    return func.date_bin(HOUR, instant, literal(AN_HOUR_BEGAN_AT, INSTANT), type_=INSTANT)


def fold_changes(connection: Connection, limit: int) -> bool:
    """Add at most `limit` changes to the counts of their hours; True when there may be more."""
    folded: int = connection.execute(FOLD_CHANGES, {"lock": ADVISORY_LOCK, "limit": limit}).scalar_one()
    if folded:
        connection.execute(FORGET_EMPTY_HOURS)
    return folded == limit
