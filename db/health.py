"""Statements of /health: by indexes and bounded, so that a monitor may ask every few seconds, however much there is."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

COUNTED_AT_MOST = 10_000

READ_SCHEMA = text("""
SELECT (SELECT version_num FROM alembic_version), current_setting('transaction_read_only')::bool
""")

READ_LAST_TICK = text("""
SELECT finished_at, lag_seconds, extract(epoch FROM statement_timestamp() - finished_at)::float8
FROM ticks WHERE kind = 'tick' ORDER BY started_at DESC LIMIT 1
""")

READ_WORK = text("""
SELECT
    (SELECT count(*) FROM (
        SELECT FROM task_state WHERE status = 'active' AND next_run_at <= statement_timestamp() LIMIT :most
    ) due),
    coalesce(extract(epoch FROM statement_timestamp() - (
        SELECT min(next_run_at) FROM task_state
        WHERE status = 'active' AND next_run_at <= statement_timestamp()
    ))::float8, 0),
    (SELECT count(*) FROM (SELECT FROM task_state WHERE deactivated_at IS NOT NULL LIMIT :most) deactivated),
    count(*) FILTER (WHERE status = 'running'),
    count(*) FILTER (WHERE status = 'retrying')
FROM (SELECT status FROM task_logs WHERE status IN ('running', 'retrying') LIMIT :most) under_way
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """What a database of any revision can tell."""

    revision: str | None
    is_read_only: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LastTick:
    """The last tick that could record all it did; `lag_seconds` was the age of the oldest due slot at its start."""

    finished_at: datetime
    lag_seconds: float
    age_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What there is to do now: none of the numbers is counted beyond COUNTED_AT_MOST, runs together.

    `lag_seconds` is the age of the oldest due slot; `deactivated` are tasks that Insignia has switched off.
    """

    due: int
    lag_seconds: float
    deactivated: int
    running: int
    waiting: int


def read_schema(connection: Connection) -> Schema:
    revision, is_read_only = connection.execute(READ_SCHEMA).one()
    return Schema(revision=revision, is_read_only=is_read_only)


def read_last_tick(connection: Connection) -> LastTick | None:
    """None where there was no tick yet."""
    row = connection.execute(READ_LAST_TICK).one_or_none()
    if row is None:
        return None
    finished_at, lag_seconds, age_seconds = row
    return LastTick(finished_at=finished_at, lag_seconds=lag_seconds, age_seconds=age_seconds)


def read_work(connection: Connection) -> Work:
    due, lag_seconds, deactivated, running, waiting = connection.execute(
        READ_WORK, {"most": COUNTED_AT_MOST}
    ).one()
    return Work(due=due, lag_seconds=lag_seconds, deactivated=deactivated, running=running, waiting=waiting)
