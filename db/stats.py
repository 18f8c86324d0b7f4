"""Statements that count what the logs and tasks have come to, for the API."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from db.deleted_tasks import read_deleted_tasks
from db.engine import uuid_array
from db.task_log_counts import LOGS_BY_HOUR

SINCE = """
date_trunc('hour', statement_timestamp()) - make_interval(hours => :hours - 1)"""

VISIBLE = "task_id <> ALL (CAST(:hidden AS uuid[]))"
"""Without deleted tasks, as nearly always, it is left out: their ids are all that is not in the indexes."""

MEASURED_RUNS = 20_000
"""Percentiles are those of the newest runs, so many at most: each may be in a block of its own, and of 20,000 the
p95 is right to a seventh of a per cent of the runs.
"""

TASK_LOGS = f"""
    FROM (
        SELECT status, missed_count, created_at FROM task_logs
        WHERE task_id = :task_id AND created_at >= {SINCE}
        ORDER BY created_at DESC LIMIT :counted_logs
    ) newest"""

COUNTED_LOGS = 100_000
"""Of one task: a month of one run a minute is less than half of it."""

HOURS = f"""
generate_series({SINCE}, statement_timestamp(), interval '1 hour') AS hour(start)"""

READ_HOURS_OF_TASK = text(f"""
SELECT start,
    coalesce(success, 0) AS success,
    coalesce(failed, 0) AS failed,
    coalesce(missed, 0) AS missed,
    coalesce(skipped, 0) AS skipped,
    coalesce(cancelled, 0) AS cancelled
FROM {HOURS} LEFT JOIN (
    SELECT date_trunc('hour', created_at) AS start,
        count(*) FILTER (WHERE status = 'success') AS success,
        count(*) FILTER (WHERE status = 'failed') AS failed,
        sum(missed_count) FILTER (WHERE status = 'missed') AS missed,
        count(*) FILTER (WHERE status = 'skipped') AS skipped,
        sum(coalesce(missed_count, 1)) FILTER (WHERE status = 'cancelled') AS cancelled
    {TASK_LOGS}
    GROUP BY 1
) counted USING (start)
ORDER BY start
""")

IN_HOUR = """
    FROM task_logs WHERE created_at >= start AND created_at < start + interval '1 hour' AND"""
OF_HOUR = IN_HOUR + " {visible}"

READ_HOURS = f"""
SELECT start,
    coalesce(all_logs.count, 0) - hidden.count - failed.count - skipped.count - missed.count - cancelled.count
        - coalesce(under_way.count, 0) AS success,
    failed.count AS failed,
    missed.slots AS missed,
    skipped.count AS skipped,
    cancelled.slots AS cancelled
FROM {HOURS}
LEFT JOIN (SELECT hour AS start, sum(logs) AS count FROM ({LOGS_BY_HOUR}) by_hour GROUP BY hour) all_logs USING (start)
CROSS JOIN LATERAL (SELECT count(*) {IN_HOUR} NOT {{visible}}) hidden
CROSS JOIN LATERAL (SELECT count(*) {OF_HOUR} AND status = 'failed') failed
CROSS JOIN LATERAL (SELECT count(*) {OF_HOUR} AND status = 'skipped') skipped
CROSS JOIN LATERAL (
    SELECT count(*), coalesce(sum(missed_count), 0) AS slots {OF_HOUR} AND status = 'missed'
) missed
CROSS JOIN LATERAL (
    SELECT count(*), coalesce(sum(coalesce(missed_count, 1)), 0) AS slots {OF_HOUR} AND status = 'cancelled'
) cancelled
LEFT JOIN (
    SELECT date_trunc('hour', created_at) AS start, count(*) FROM task_logs
    WHERE status IN ('running', 'retrying') AND {{visible}} GROUP BY 1
) under_way USING (start)
ORDER BY start
"""
"""Successes are what is left of all, which is written down; each other number comes from an index alone."""

READ_PERCENTILES = """
SELECT
    percentile_disc(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY duration_ms),
    percentile_disc(ARRAY[0.5, 0.95]) WITHIN GROUP (
        ORDER BY (extract(epoch FROM execution_time - scheduled_for) * 1000)::int8
    ) FILTER (WHERE source = 'schedule')
FROM (
    SELECT source, duration_ms, execution_time, scheduled_for FROM task_logs
    WHERE created_at >= {since} AND {visible} AND status IN ('success', 'failed')
    ORDER BY created_at DESC LIMIT :measured_runs
) newest
"""

COUNT_TASKS = text("""
SELECT
    (SELECT count(*) FROM task_state) - count(*) AS active,
    count(*) FILTER (WHERE status = 'inactive' AND deactivated_at IS NULL) AS inactive,
    count(*) FILTER (WHERE deactivated_at IS NOT NULL) AS deactivated,
    count(*) FILTER (WHERE status = 'completed') AS completed
FROM task_state WHERE status <> 'active'
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hour:
    """What the logs of an hour have come to; `missed` and `cancelled` count slots, of which a log may have many."""

    start: datetime
    success: int
    failed: int
    missed: int
    skipped: int
    cancelled: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentiles:
    p50: int | None
    p95: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskCounts:
    """`deactivated` are those that Insignia has switched off, `inactive` those that a user has."""

    active: int
    inactive: int
    deactivated: int
    completed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """Logs count in the hour in which they began. `duration_ms` is of runs that have ended, of their last attempts."""

    hours: list[Hour]
    duration_ms: Percentiles
    lateness_ms: Percentiles
    tasks: TaskCounts

    @property
    def success_rate(self) -> float | None:
        return success_rate(self.hours)


def success_rate(hours: Sequence[Hour]) -> float | None:
    """Of the runs that have ended; None without any."""
    success = sum(hour.success for hour in hours)
    ended = success + sum(hour.failed for hour in hours)
    return round(success / ended, 4) if ended else None


def read_stats(connection: Connection, hours: int) -> Stats:
    """Of so many hours of the clock, the present one and those before it, each of them in the result, oldest first.

    The cost grows with the logs of these hours, and not with those before them.
    """
    values: dict[str, Any] = {"hours": hours}
    if hidden := read_deleted_tasks(connection):
        values["hidden"] = uuid_array(hidden)
    visible = VISIBLE if hidden else "true"
    found = [
        Hour(**row) for row in connection.execute(text(READ_HOURS.format(visible=visible)), values).mappings()
    ]
    durations, latenesses = connection.execute(
        text(READ_PERCENTILES.format(since=SINCE, visible=visible)), values | {"measured_runs": MEASURED_RUNS}
    ).one()
    return Stats(
        hours=found,
        duration_ms=percentiles(durations),
        lateness_ms=percentiles(latenesses),
        tasks=TaskCounts(**connection.execute(COUNT_TASKS).mappings().one()),
    )


def read_hours_of_task(connection: Connection, task_id: UUID, hours: int) -> list[Hour]:
    """As the hours of `read_stats`, of one task and its newest logs; without any for a task that is unknown."""
    values = {"task_id": task_id, "hours": hours, "counted_logs": COUNTED_LOGS}
    return [Hour(**row) for row in connection.execute(READ_HOURS_OF_TASK, values).mappings()]


def percentiles(values: list[int | None] | None) -> Percentiles:
    p50, p95 = values or (None, None)
    return Percentiles(p50=p50, p95=p95)
