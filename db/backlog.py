"""Statements by which a tick sees what is to do, and ends what must not be attempted again."""

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from db.claiming import MAY_RUN, URL_HAS_RATE_LEFT
from db.destination_limits import forget_idle_limits
from db.driver import kept
from db.engine import uuid_array
from domain.notification import Change, ChangeKind, change_of_task
from domain.rate import destinations_of
from domain.run import MAX_LOST_LEASES

END_RUNS = kept(f"""
WITH doomed AS MATERIALIZED (
    SELECT l.id, l.status = 'running' AND {MAY_RUN} AS is_lost, last_status
    FROM task_logs l JOIN task_state s USING (task_id)
    WHERE (l.status = 'retrying' AND NOT {MAY_RUN})
       OR (l.status = 'running' AND l.available_at <= statement_timestamp()
           AND (NOT {MAY_RUN} OR l.lost_leases + 1 >= :max_lost_leases))
    FOR UPDATE SKIP LOCKED
), ended AS (
    UPDATE task_logs l SET
        status = CASE WHEN is_lost THEN 'failed' ELSE 'cancelled' END,
        message = CASE WHEN is_lost
            THEN 'Failed: its process died during the call ' || l.lost_leases + 1 || ' times.'
            ELSE 'Cancelled: the task became inactive.' END,
        attempts = CASE WHEN l.status = 'running'
            THEN jsonb_set(l.attempts, '{{-1,outcome}}', '"unknown"') ELSE l.attempts END,
        lost_leases = l.lost_leases + (l.status = 'running')::int,
        finished_at = clock_timestamp(),
        available_at = NULL
    FROM doomed WHERE l.id = doomed.id AND l.id = ANY (ARRAY(SELECT id FROM doomed))
    RETURNING l.task_id, l.source, l.status, l.execution_time, l.finished_at, l.id AS run_id, scheduled_for, message,
        last_status
), last_lost AS (
    SELECT DISTINCT ON (task_id) * FROM ended
    WHERE status = 'failed' AND source = 'schedule' ORDER BY task_id, execution_time DESC
), told AS (
    UPDATE task_state s SET last_status = 'failed', last_run_at = execution_time
    FROM last_lost WHERE s.task_id = last_lost.task_id
)
SELECT count(*) FILTER (WHERE status = 'failed'), count(*) FILTER (WHERE status = 'cancelled'), (
    SELECT coalesce(json_agg(json_build_object(
        'at', finished_at, 'task_id', task_id, 'task_name', name, 'notify_url', notify_url, 'run_id', run_id,
        'scheduled_for', scheduled_for, 'status', status, 'message', message)), '[]')
    FROM last_lost JOIN tasks ON tasks.id = task_id WHERE last_status IS DISTINCT FROM 'failed'
) FROM ended
""")

COMPLETE_TASKS = """
WITH ending AS MATERIALIZED (
    SELECT s.task_id FROM task_state s
    WHERE {which} s.status = 'active' AND s.next_run_at IS NULL AND NOT EXISTS (
        SELECT FROM task_logs l
        WHERE l.task_id = s.task_id AND l.status IN ('running', 'retrying') AND l.source = 'schedule')
    FOR UPDATE OF s SKIP LOCKED
)
UPDATE task_state s SET status = 'completed' FROM ending WHERE s.task_id = ending.task_id
"""
COMPLETE_ALL = text(COMPLETE_TASKS.format(which=""))
COMPLETE_THESE = text(COMPLETE_TASKS.format(which="s.task_id = ANY (CAST(:task_ids AS uuid[])) AND"))

FORGET_THROTTLES = text("""
WITH passed AS MATERIALIZED (
    SELECT destination FROM throttled_destinations WHERE available_at <= statement_timestamp()
    FOR UPDATE SKIP LOCKED
)
DELETE FROM throttled_destinations t USING passed WHERE t.destination = passed.destination
""")

READ_BACKLOG = text("""
SELECT slots.count + (
    SELECT count(*) FROM task_logs
    WHERE status IN ('running', 'retrying') AND available_at <= statement_timestamp()
), coalesce(extract(epoch FROM statement_timestamp() - slots.oldest)::float8, 0), EXISTS (
    SELECT FROM notifications WHERE available_at <= statement_timestamp()
)
FROM (
    SELECT count(*), min(next_run_at) AS oldest FROM task_state
    WHERE status = 'active' AND next_run_at <= statement_timestamp()
) slots
""")

UNTIL = "statement_timestamp() + make_interval(secs => :seconds_left)"

HAS_RATE_LEFT = f"""(l.available_at > statement_timestamp()
        OR destination NOT IN (SELECT unnest(CAST(:spent AS text[]))) AND {URL_HAS_RATE_LEFT})"""

READ_NEXT = kept(f"""
WITH unthrottled AS MATERIALIZED (
    SELECT l.available_at FROM task_logs l JOIN task_state s USING (task_id)
    WHERE l.status = 'retrying' AND {MAY_RUN} AND l.available_at <= {UNTIL}
        AND greatest(l.available_at, statement_timestamp()) + make_interval(secs => timeout_seconds) <= {UNTIL}
        AND {HAS_RATE_LEFT}
        AND NOT EXISTS (
            SELECT FROM throttled_destinations t
            WHERE t.destination = s.destination AND t.available_at > l.available_at)
    ORDER BY l.available_at LIMIT 1
)
SELECT extract(epoch FROM (
    SELECT min(next_run_at) FROM task_state WHERE status = 'active'
) - clock_timestamp())::float8, extract(epoch FROM least((SELECT available_at FROM unthrottled), (
    SELECT min(retry_at) FROM task_logs l JOIN task_state s USING (task_id)
        LEFT JOIN throttled_destinations t USING (destination),
        LATERAL (SELECT greatest(l.available_at, t.available_at) AS retry_at) retry
    WHERE l.status = 'retrying' AND {MAY_RUN} AND EXISTS (SELECT FROM throttled_destinations) AND {HAS_RATE_LEFT}
        AND l.available_at <= coalesce((SELECT available_at FROM unthrottled), {UNTIL})
        AND greatest(retry_at, statement_timestamp()) + make_interval(secs => timeout_seconds) <= {UNTIL}
)) - clock_timestamp())::float8
""")
"""Many thousands may wait: the next retry is the first one in their index that is not throttled, unless the end of a
Retry-After comes before it.
"""


RECENT_CALLS = 1_000

READ_CALL_SECONDS = text("""
SELECT avg(duration_ms)::float8 / 1000 FROM (
    SELECT duration_ms FROM task_logs ORDER BY created_at DESC, id DESC LIMIT :recent
) recent
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What is due: slots and waiting runs, notifications; `lag_seconds` is the age of the oldest due slot."""

    due: int
    lag_seconds: float
    are_notifications_due: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """Runs that were ended; `changes` are what may have to be told of their tasks: streaks of failures that begin."""

    failed: int
    cancelled: int
    changes: list[Change]


def sweep(connection: Connection) -> Swept:
    """End runs that lost their lease too often, and waiting runs of inactive tasks."""
    failed, cancelled, lost = connection.execute(END_RUNS, {"max_lost_leases": MAX_LOST_LEASES}).one()
    connection.execute(COMPLETE_ALL)
    connection.execute(FORGET_THROTTLES)
    forget_idle_limits(connection)
    return Swept(failed=failed, cancelled=cancelled, changes=[lost_run(row) for row in lost])


def lost_run(row: dict[str, Any]) -> Change:
    at, scheduled_for = (datetime.fromisoformat(row.pop(name)) for name in ("at", "scheduled_for"))
    return change_of_task(ChangeKind.FAILED, at, scheduled_for=scheduled_for, **row)


def complete_tasks(connection: Connection, task_ids: Iterable[str]) -> None:
    """Complete those of these tasks whose last slot was claimed and whose runs have ended.

    A statement of its own after a claim or a settle: what that has written is not in its own snapshot.
    """
    connection.execute(COMPLETE_THESE, {"task_ids": uuid_array(task_ids)})


def read_backlog(connection: Connection) -> Backlog:
    due, lag_seconds, are_notifications_due = connection.execute(READ_BACKLOG).one()
    return Backlog(due=due, lag_seconds=lag_seconds, are_notifications_due=are_notifications_due)


def seconds_until_next(
    connection: Connection, seconds_left: float, spent: Collection[str] = ()
) -> tuple[float, float]:
    """Seconds until the next slot, and until the next retry whose call can end within `seconds_left`.

    Negative when due, infinite when there is none. What is due is left out where it is for `spent`, the targets of
    rates that are used up.
    """
    values = {"seconds_left": seconds_left, "spent": [*spent], "has_spent": [*destinations_of(spent)]}
    slot, retry = connection.execute(READ_NEXT, values).one()
    return math.inf if slot is None else slot, math.inf if retry is None else retry


def mean_call_seconds(connection: Connection) -> float | None:
    """How long the last calls took, of those that have ended; None when there are none."""
    seconds: float | None = connection.execute(READ_CALL_SECONDS, {"recent": RECENT_CALLS}).scalar_one()
    return seconds
