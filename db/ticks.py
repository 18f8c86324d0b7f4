"""Statements on the summaries of ticks."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime

from sqlalchemy import Connection, insert, select, text

from db.tables import ticks
from domain.summary import TickKind, TickSummary

DELETE_OLD_TICKS = text("DELETE FROM ticks WHERE started_at < statement_timestamp() - interval '7 days'")

READ_TIMINGS = text("""
WITH since AS (SELECT statement_timestamp() - make_interval(hours => :hours) AS at)
SELECT started_at, duration_seconds, lag_seconds FROM ticks, since
WHERE kind = 'tick' AND started_at >= coalesce(
    (SELECT max(started_at) FROM ticks WHERE kind = 'tick' AND started_at < at), at
)
ORDER BY started_at DESC LIMIT :most
""")

MOST_TIMINGS = 1_000
"""More than there are minutes in any time that is looked at."""


@dataclass(frozen=True, slots=True)
class TickTiming:
    """When a tick began, how long it took, and the age of the oldest due slot at its start."""

    started_at: datetime
    duration_seconds: float
    lag_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedTick:
    """The row of a tick or a worker."""

    kind: TickKind
    started_at: datetime
    summary: TickSummary


def read_clock(connection: Connection) -> datetime:
    """The database's clock, which is the only clock of the engine."""
    now: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    return now


def record_tick(connection: Connection, summary: TickSummary, started_at: datetime, kind: TickKind) -> None:
    """Keep the summary of a tick or a worker, and drop those that are older than 7 days."""
    finished_at = text("clock_timestamp()")
    row = {"kind": kind, "started_at": started_at, "finished_at": finished_at, **asdict(summary)}
    connection.execute(insert(ticks).values(row))
    connection.execute(DELETE_OLD_TICKS)


def read_timings(connection: Connection, hours: int) -> Sequence[TickTiming]:
    """Of the ticks that began within so many hours, and of the one before them, oldest first; of no worker."""
    rows = connection.execute(READ_TIMINGS, {"hours": hours, "most": MOST_TIMINGS}).all()
    return [TickTiming(*row) for row in reversed(rows)]


def read_last_ticks(connection: Connection, limit: int) -> Sequence[RecordedTick]:
    """The last ticks and workers, newest first."""
    counted = [field.name for field in fields(TickSummary)]
    rows = connection.execute(select(ticks).order_by(ticks.c.started_at.desc()).limit(limit)).mappings()
    return [
        RecordedTick(
            kind=TickKind(row["kind"]),
            started_at=row["started_at"],
            summary=TickSummary(**{name: row[name] for name in counted}),
        )
        for row in rows
    ]
