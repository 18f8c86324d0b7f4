"""Statements by which a tick takes up work: each claim is one short transaction, set-based.

A claim takes only rows that nobody holds (SKIP LOCKED), so that any number of ticks may run at once and
none waits for another. The definition of a task is read in a statement after the one that locks: a joined
row would come from the snapshot before the lock. Instants: statement_timestamp() in WHERE, where the index
needs it, clock_timestamp() for leases (design/engine.md, Tick).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, text

from db.engine import compact_json
from domain.errors import InvalidInput
from domain.run import LEASE_SECONDS, MAX_LOST_LEASES, ClaimedRun
from domain.schedule import next_run

SWEEP = text("""
WITH doomed AS MATERIALIZED (
    SELECT l.id, l.status = 'running' AND s.status = 'active' AS is_lost
    FROM task_logs l JOIN task_state s USING (task_id)
    WHERE (l.status = 'retrying' AND s.status <> 'active')
       OR (l.status = 'running' AND l.available_at <= statement_timestamp()
           AND (s.status <> 'active' OR l.lost_leases + 1 >= :max_lost_leases))
    FOR UPDATE SKIP LOCKED
), ended AS (
    UPDATE task_logs l SET
        status = CASE WHEN is_lost THEN 'failed' ELSE 'cancelled' END,
        message = CASE WHEN is_lost
            THEN 'Failed: its process died during the call ' || l.lost_leases + 1 || ' times.'
            ELSE 'Cancelled: the task became inactive.' END,
        attempts = CASE WHEN l.status = 'running'
            THEN jsonb_set(l.attempts, '{-1,outcome}', '"unknown"') ELSE l.attempts END,
        lost_leases = l.lost_leases + (l.status = 'running')::int,
        finished_at = clock_timestamp(),
        available_at = NULL
    FROM doomed WHERE l.id = doomed.id
    RETURNING l.status
)
SELECT count(*) FILTER (WHERE status = 'failed'), count(*) FILTER (WHERE status = 'cancelled') FROM ended
""")

READ_BACKLOG = text("""
SELECT slots.count + (
    SELECT count(*) FROM task_logs
    WHERE status IN ('running', 'retrying') AND available_at <= statement_timestamp()
), coalesce(extract(epoch FROM statement_timestamp() - slots.oldest)::float8, 0)
FROM (
    SELECT count(*), min(next_run_at) AS oldest FROM task_state
    WHERE status = 'active' AND next_run_at <= statement_timestamp()
) slots
""")

READ_NEXT = text("""
SELECT extract(epoch FROM (
    SELECT min(next_run_at) FROM task_state WHERE status = 'active'
) - clock_timestamp())::float8, extract(epoch FROM (
    SELECT min(available_at) FROM task_logs WHERE status = 'retrying'
) - clock_timestamp())::float8
""")

LOCK_DUE_TASKS = text("""
SELECT coalesce(json_agg(due), '[]') FROM (
    SELECT task_id, next_run_at AS slot, revision FROM task_state
    WHERE status = 'active' AND next_run_at <= statement_timestamp()
    ORDER BY next_run_at LIMIT :limit
    FOR UPDATE SKIP LOCKED
) due
""")

READ_DEFINITIONS = text("""
SELECT coalesce(json_object_agg(id, definition), '{}') FROM (
    SELECT id, json_build_object(
        'name', name, 'schedule', schedule, 'timezone', timezone,
        'webhook_url', webhook_url, 'payload', payload::text, 'max_retry', max_retry
    ) AS definition
    FROM tasks WHERE id = ANY (CAST(:task_ids AS uuid[]))
) definitions
""")

BEGIN_RUNS = text("""
WITH claim AS MATERIALIZED (
    SELECT * FROM json_to_recordset(CAST(:claims AS json)) AS claim(
        run_id uuid, lease_id uuid, task_id uuid, slot timestamptz, revision int,
        next_run_at timestamptz, fault text)
), clock AS MATERIALIZED (
    SELECT clock_timestamp() AS now
), moved AS (
    UPDATE task_state s SET
        next_run_at = claim.next_run_at,
        status = CASE WHEN fault IS NULL THEN s.status ELSE 'inactive' END,
        deactivated_at = CASE WHEN fault IS NULL THEN s.deactivated_at ELSE clock.now END,
        deactivated_reason = coalesce(fault, s.deactivated_reason)
    FROM claim, clock WHERE s.task_id = claim.task_id
), begun AS (
    INSERT INTO task_logs (
        id, task_id, source, status, scheduled_for, execution_time, finished_at, retry_count, message,
        attempts, revision, available_at, lease_id, lost_leases, created_at)
    SELECT
        run_id, task_id, 'schedule', CASE WHEN fault IS NULL THEN 'running' ELSE 'cancelled' END,
        slot, clock.now, CASE WHEN fault IS NOT NULL THEN clock.now END, 0, fault,
        CASE WHEN fault IS NULL THEN jsonb_build_array(
            jsonb_build_object('number', 1, 'started_at', clock.now, 'lease_id', lease_id)) ELSE '[]' END,
        revision,
        CASE WHEN fault IS NULL THEN clock.now + make_interval(secs => :lease_seconds) END,
        CASE WHEN fault IS NULL THEN lease_id END, 0, clock.now
    FROM claim, clock
    ON CONFLICT (task_id, scheduled_for) WHERE source = 'schedule' DO NOTHING
    RETURNING id, status, execution_time
)
SELECT coalesce(json_object_agg(id, execution_time) FILTER (WHERE status = 'running'), '{}') FROM begun
""")

LOCK_DUE_RUNS = text("""
WITH run AS MATERIALIZED (
    SELECT id, task_id FROM task_logs
    WHERE status IN ('running', 'retrying') AND available_at <= statement_timestamp()
      AND (status = 'retrying' OR lost_leases + 1 < :max_lost_leases)
    ORDER BY available_at LIMIT :limit
    FOR UPDATE SKIP LOCKED
), task AS MATERIALIZED (
    SELECT task_id FROM task_state
    WHERE task_id IN (SELECT task_id FROM run) AND status = 'active'
    FOR UPDATE SKIP LOCKED
)
SELECT coalesce(json_agg(json_build_object('run_id', id, 'task_id', task_id)), '[]')
FROM run JOIN task USING (task_id)
""")

CONTINUE_RUNS = text("""
WITH claim AS MATERIALIZED (
    SELECT * FROM json_to_recordset(CAST(:claims AS json)) AS claim(run_id uuid, lease_id uuid)
), clock AS MATERIALIZED (
    SELECT clock_timestamp() AS now
), continued AS (
    UPDATE task_logs l SET
        status = 'running',
        lease_id = claim.lease_id,
        available_at = clock.now + make_interval(secs => :lease_seconds),
        retry_count = l.retry_count + 1,
        lost_leases = l.lost_leases + (l.status = 'running')::int,
        attempts = CASE WHEN l.status = 'running'
            THEN jsonb_set(l.attempts, '{-1,outcome}', '"unknown"') ELSE l.attempts END
            || jsonb_build_object(
                'number', l.retry_count + 2, 'started_at', clock.now, 'lease_id', claim.lease_id)
    FROM claim, clock WHERE l.id = claim.run_id
    RETURNING l.id, l.lease_id, l.task_id, l.scheduled_for, clock.now AS started_at,
        l.retry_count + 1 AS number, l.lost_leases
)
SELECT coalesce(json_agg(continued), '[]') FROM continued
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What is due: slots and waiting runs; `lag_seconds` is the age of the oldest due slot."""

    due: int
    lag_seconds: float


def sweep(connection: Connection) -> tuple[int, int]:
    """End runs that lost their lease too often, and waiting runs of inactive tasks: (failed, cancelled)."""
    failed, cancelled = connection.execute(SWEEP, {"max_lost_leases": MAX_LOST_LEASES}).one()
    return failed, cancelled


def read_backlog(connection: Connection) -> Backlog:
    due, lag_seconds = connection.execute(READ_BACKLOG).one()
    return Backlog(due=due, lag_seconds=lag_seconds)


def seconds_until_next(connection: Connection) -> tuple[float, float]:
    """Seconds until the next slot and until the next retry: negative when due, infinite when there is none."""
    slot, retry = connection.execute(READ_NEXT).one()
    return math.inf if slot is None else slot, math.inf if retry is None else retry


def claim_slots(connection: Connection, limit: int) -> tuple[list[ClaimedRun], int]:
    """Begin a run for each of at most `limit` due tasks, oldest slot first, one slot per task.

    Each task moves to the slot after the claimed one. A task whose schedule can no longer be computed is
    deactivated, alone, and its slot recorded as `cancelled`; the second result is the number of those.
    """
    due = connection.execute(LOCK_DUE_TASKS, {"limit": limit}).scalar_one()
    if not due:
        return [], 0
    definitions = read_definitions(connection, [row["task_id"] for row in due])
    claims = [new_claim(row, definitions[row["task_id"]]) for row in due]
    started_at = connection.execute(
        BEGIN_RUNS, {"claims": compact_json(claims), "lease_seconds": LEASE_SECONDS}
    ).scalar_one()
    runs = [
        claimed_run(
            claim | {"number": 1, "lost_leases": 0}, definitions, claim["slot"], started_at[claim["run_id"]]
        )
        for claim in claims
        if claim["run_id"] in started_at
    ]
    return runs, sum(claim["fault"] is not None for claim in claims)


def claim_due_runs(connection: Connection, limit: int) -> list[ClaimedRun]:
    """Take up at most `limit` runs whose retry time has come or whose lease has ended.

    The task is locked with the run: a lock on the run alone would let it through after a deactivation that
    has just been committed.
    """
    claims = connection.execute(
        LOCK_DUE_RUNS, {"limit": limit, "max_lost_leases": MAX_LOST_LEASES}
    ).scalar_one()
    if not claims:
        return []
    definitions = read_definitions(connection, [claim["task_id"] for claim in claims])
    leases = [{"run_id": claim["run_id"], "lease_id": str(uuid4())} for claim in claims]
    runs = connection.execute(
        CONTINUE_RUNS, {"claims": compact_json(leases), "lease_seconds": LEASE_SECONDS}
    ).scalar_one()
    return [
        claimed_run(run | {"run_id": run["id"]}, definitions, run["scheduled_for"], run["started_at"])
        for run in runs
    ]


def read_definitions(connection: Connection, task_ids: list[str]) -> dict[str, dict[str, Any]]:
    definitions: dict[str, dict[str, Any]] = connection.execute(
        READ_DEFINITIONS, {"task_ids": task_ids}
    ).scalar_one()
    return definitions


def new_claim(due: Mapping[str, Any], definition: Mapping[str, Any]) -> dict[str, Any]:
    slot, fault = None, None
    try:
        slot = next_run(definition["schedule"], definition["timezone"], datetime.fromisoformat(due["slot"]))
        if slot is None:
            fault = f"Deactivated: schedule '{definition['schedule']}' never fires again."
    except InvalidInput as error:
        fault = f"Deactivated: {error}"
    return dict(due) | {
        "run_id": str(uuid4()),
        "lease_id": str(uuid4()),
        "next_run_at": slot and slot.isoformat(),
        "fault": fault,
    }


def claimed_run(
    claim: Mapping[str, Any], definitions: Mapping[str, Mapping[str, Any]], slot: str, started_at: str
) -> ClaimedRun:
    definition = definitions[claim["task_id"]]
    return ClaimedRun(
        id=UUID(claim["run_id"]),
        lease_id=UUID(claim["lease_id"]),
        task_id=UUID(claim["task_id"]),
        scheduled_for=datetime.fromisoformat(slot),
        started_at=datetime.fromisoformat(started_at),
        number=claim["number"],
        lost_leases=claim["lost_leases"],
        task_name=definition["name"],
        max_retry=definition["max_retry"],
        webhook_url=definition["webhook_url"],
        payload=definition["payload"],
    )
