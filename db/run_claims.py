"""Statements by which a tick takes up runs again: retries, and runs whose process died."""

from collections.abc import Sequence

from sqlalchemy import Connection, text

from db.claiming import (
    BATCH_ROWS,
    MAY_BE_CALLED,
    MAY_RUN,
    READ_DEFINITIONS,
    Claimed,
    Room,
    claimed_run,
    definitions_in,
    payloads_of,
    with_instants,
)
from db.driver import kept
from db.engine import uuid_array
from db.json_rows import json_rows, read_json
from db.new_ids import new_ids
from db.places import open_places
from domain.rate import MOST_MS
from domain.run import LEASE_MARGIN_SECONDS, MAX_LOST_LEASES, ClaimedRun

IS_DUE = f"""
        status IN ('running', 'retrying') AND available_at <= statement_timestamp()
        AND id NOT IN (SELECT unnest(CAST(:held AS uuid[])))
        AND EXISTS (SELECT FROM task_state s WHERE s.task_id = l.task_id AND {MAY_RUN} AND {MAY_BE_CALLED})"""

LOCK_DUE_RUNS = kept(f"""
WITH last_chance AS MATERIALIZED (
    SELECT id FROM task_logs l
    WHERE {IS_DUE} AND lost_leases + (status = 'running')::int = {MAX_LOST_LEASES} - 1
        AND (SELECT CAST(:has_last_chance AS bool))
    ORDER BY available_at LIMIT 1
    FOR UPDATE SKIP LOCKED
), run AS MATERIALIZED (
    SELECT * FROM (
        SELECT id, task_id, source, available_at FROM task_logs l
        WHERE {IS_DUE} AND (lost_leases + (status = 'running')::int < {MAX_LOST_LEASES} - 1
            OR id = (SELECT id FROM last_chance))
        ORDER BY available_at LIMIT {BATCH_ROWS}
        FOR UPDATE SKIP LOCKED
    ) batch LIMIT (SELECT CAST(:limit AS int))
)
SELECT coalesce(json_agg(json_build_object(
    'run_id', l.id, 'task_id', task_id, 'destination', s.destination,
    'timeout_seconds', s.timeout_seconds,
    'due_at', extract(epoch FROM available_at)::float8)), '[]')::text
FROM run l, LATERAL (
    SELECT destination, timeout_seconds, status FROM task_state s
    WHERE task_id = l.task_id AND {MAY_BE_CALLED}
    FOR UPDATE SKIP LOCKED
) s WHERE {MAY_RUN}
""")

CONTINUE_RUNS = kept("""
WITH claim AS MATERIALIZED (
    SELECT * FROM json_to_recordset(CAST(:claims AS json)) AS claim(
        run_id uuid, lease_id uuid, lease_seconds int, throttled_ms int)
), clock AS MATERIALIZED (
    SELECT clock_timestamp() AS now
), continued AS (
    UPDATE task_logs l SET
        status = 'running',
        lease_id = claim.lease_id,
        available_at = clock.now + make_interval(secs => lease_seconds),
        retry_count = jsonb_array_length(l.attempts),
        lost_leases = l.lost_leases + (l.status = 'running')::int,
        throttled_ms = least(CAST(:most_ms AS int), l.throttled_ms::float8
            + CASE WHEN l.source = 'manual' AND l.attempts = '[]'
                THEN extract(epoch FROM clock.now - l.created_at) * 1000 ELSE claim.throttled_ms END)::int,
        attempts = CASE WHEN l.status = 'running'
            THEN jsonb_set(l.attempts, '{-1,outcome}', '"unknown"') ELSE l.attempts END
            || jsonb_build_object(
                'number', jsonb_array_length(l.attempts) + 1, 'started_at', clock.now,
                'lease_id', claim.lease_id)
    FROM claim, clock WHERE l.id = claim.run_id AND l.id = ANY (ARRAY(SELECT run_id FROM claim))
    RETURNING l.id, l.lease_id, l.task_id, l.scheduled_for, clock.now AS started_at,
        l.retry_count + 1 AS number, l.lost_leases, l.throttles
)
SELECT coalesce(json_agg(continued), '[]')::text FROM continued
""")


RELEASE_RUNS = text("""
UPDATE task_logs l SET
    status = 'retrying',
    available_at = clock_timestamp(),
    attempts = CASE WHEN CAST(:were_sent AS bool)
        THEN jsonb_set(l.attempts, '{-1,outcome}', '"unknown"') ELSE l.attempts - -1 END,
    retry_count = CASE WHEN CAST(:were_sent AS bool) THEN l.retry_count ELSE greatest(l.retry_count - 1, 0) END,
    lost_leases = l.lost_leases + CAST(:were_sent AS bool)::int
FROM json_to_recordset(CAST(:runs AS json)) AS run(run_id uuid, lease_id uuid)
WHERE l.id = run.run_id AND l.lease_id = run.lease_id AND l.status = 'running'
""")


def claim_due_runs(connection: Connection, room: Room) -> Claimed:
    """Take up runs whose retry time has come or whose lease has ended, as many as there is room for.

    The task is locked with the run: a lock on the run alone would let it through after a deactivation that
    has just been committed. Of the runs that one more lost lease would end, only one is under way at a time:
    the one that kills its processes must not take those with it that have died beside it.
    """
    limits = {
        "has_last_chance": room.has_last_chance,
        "held": uuid_array(room.held),
    }
    due = read_json(connection, LOCK_DUE_RUNS, room.parameters() | limits)
    if not due:
        return Claimed()
    (rows,) = open_places(connection, room, (run["destination"] for run in due), due, READ_DEFINITIONS)
    definitions = definitions_in(rows)
    calls = {run["run_id"]: (run["destination"], definitions[run["task_id"]].webhook_url) for run in due}
    room.ledger.open(connection, calls.values())
    tasks = {
        run["run_id"]: run
        for run in due
        if room.take(*calls[run["run_id"]], definitions[run["task_id"]].payload_bytes)
    }
    claims = [
        {
            "run_id": run_id,
            "lease_id": lease_id,
            "lease_seconds": run["timeout_seconds"] + LEASE_MARGIN_SECONDS,
            "throttled_ms": room.ledger.throttled_ms(*calls[run_id], run["due_at"]),
        }
        for (run_id, run), lease_id in zip(tasks.items(), new_ids(len(tasks)), strict=True)
    ]
    taken = {run["task_id"]: definitions[run["task_id"]] for run in tasks.values()}
    payloads = payloads_of(connection, taken)
    runs = read_json(connection, CONTINUE_RUNS, {"claims": json_rows(claims), "most_ms": MOST_MS})
    room.ledger.record(connection)
    claimed = [
        claimed_run(with_instants(run), tasks[run["id"]], taken[run["task_id"]], payloads[run["task_id"]])
        for run in runs
    ]
    return Claimed(runs=claimed, taken=len(claimed))


def release(connection: Connection, runs: Sequence[ClaimedRun], *, were_sent: bool) -> int:
    """Give runs back, due at once: unsent as if they had not been claimed, sent ones with an `unknown` attempt.

    Only those whose lease is still ours; the result is their number.
    """
    rows = [{"run_id": run.id, "lease_id": run.lease_id} for run in runs]
    values = {"runs": json_rows(rows), "were_sent": were_sent}
    return connection.execute(RELEASE_RUNS, values).rowcount
