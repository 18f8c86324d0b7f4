"""Statements by which a tick records what came of its attempts.

A settle is fenced by the attempt's lease, decides deactivation on the locked row of the task, and may be
repeated: what stands already is not written again (design/engine.md, Tick, 5). It waits for no row lock:
results whose task somebody else holds just now come back as `deferred`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID, uuid4

from sqlalchemy import Connection, text

from db.engine import compact_json
from domain.run import AttemptOutcome, Decision

RESULT = """
result AS MATERIALIZED (
    SELECT * FROM json_to_recordset(CAST(:results AS json)) AS result(
        position int, run_id uuid, lease_id uuid, task_id uuid, status text, delay_seconds float8, counts bool,
        message text, reason text, outcome text, http_status int, error text, attempt_message text,
        duration_ms int, response_excerpt text)
)"""

SETTLE = text(
    "WITH"
    + RESULT
    + """, task AS MATERIALIZED (
    SELECT task_id, status, revision, next_run_at, consecutive_failures FROM task_state
    WHERE task_id IN (SELECT task_id FROM result)
    FOR UPDATE SKIP LOCKED
), run AS MATERIALIZED (
    SELECT l.id FROM task_logs l JOIN result ON l.id = result.run_id JOIN task ON l.task_id = task.task_id
    WHERE l.status = 'running' AND l.lease_id = result.lease_id
    FOR UPDATE OF l SKIP LOCKED
), clock AS MATERIALIZED (
    SELECT clock_timestamp() AS now
), next AS (
    SELECT run.id, result.*, task.revision, clock.now,
        CASE WHEN result.status = 'retrying' AND task.status <> 'active' THEN 'cancelled'
             ELSE result.status END AS next_status,
        CASE WHEN result.status = 'retrying' AND task.status = 'active'
             THEN clock.now + make_interval(secs => result.delay_seconds) END AS retry_at
    FROM run JOIN result ON result.run_id = run.id JOIN task USING (task_id), clock
), settled AS (
    UPDATE task_logs l SET
        status = next_status,
        message = CASE WHEN next_status = 'cancelled' THEN 'Not retried: the task became inactive. ' ELSE '' END
            || next.message,
        http_status = next.http_status,
        error = next.error,
        response_excerpt = next.response_excerpt,
        duration_ms = next.duration_ms,
        finished_at = CASE WHEN next_status <> 'retrying' THEN now END,
        available_at = retry_at,
        attempts = jsonb_set(l.attempts, '{-1}', l.attempts -> -1 || jsonb_strip_nulls(jsonb_build_object(
            'outcome', outcome, 'http_status', next.http_status, 'error', next.error,
            'message', attempt_message, 'duration_ms', next.duration_ms, 'retry_at', retry_at)))
    FROM next WHERE l.id = next.id
    RETURNING l.id, l.task_id, l.status, l.execution_time, position, reason,
        counts AND l.revision = next.revision AS counts
), last_success AS (
    SELECT task_id, max(position) AS position FROM settled WHERE status = 'success' GROUP BY task_id
), folded AS (
    SELECT task_id,
        bool_or(settled.status = 'success') AS succeeded,
        count(*) FILTER (
            WHERE settled.status = 'failed' AND counts
              AND settled.position > coalesce(last_success.position, -1)) AS failures,
        (array_agg(settled.status ORDER BY settled.position DESC))[1] AS last_status,
        (array_agg(execution_time ORDER BY settled.position DESC))[1] AS last_run_at,
        (array_agg(reason ORDER BY settled.position DESC) FILTER (WHERE settled.status = 'failed'))[1] AS reason
    FROM settled LEFT JOIN last_success USING (task_id)
    WHERE settled.status IN ('success', 'failed')
    GROUP BY task_id
), kept AS (
    SELECT folded.*, task.next_run_at AS slot, clock.now,
        CASE WHEN succeeded THEN 0 ELSE task.consecutive_failures END + failures AS consecutive_failures,
        task.status = 'active' AND failures > 0 AS deactivates
    FROM folded JOIN task USING (task_id), clock
), task_kept AS (
    UPDATE task_state s SET
        consecutive_failures = kept.consecutive_failures,
        last_status = kept.last_status,
        last_run_at = kept.last_run_at,
        status = CASE WHEN deactivates THEN 'inactive' ELSE s.status END,
        next_run_at = CASE WHEN deactivates THEN NULL ELSE s.next_run_at END,
        deactivated_at = CASE WHEN deactivates THEN now ELSE s.deactivated_at END,
        deactivated_reason = CASE WHEN deactivates THEN reason ELSE s.deactivated_reason END
    FROM kept WHERE s.task_id = kept.task_id
    RETURNING s.task_id
)
SELECT
    (SELECT coalesce(json_object_agg(id, status), '{}') FROM settled),
    (SELECT coalesce(json_agg(json_build_object('task_id', task_id, 'slot', slot)), '[]')
     FROM kept JOIN task_kept USING (task_id) WHERE deactivates)
"""
)

CANCEL_WAITING_RUNS = text("""
WITH deactivated AS MATERIALIZED (
    SELECT * FROM json_to_recordset(CAST(:deactivated AS json)) AS deactivated(
        task_id uuid, slot timestamptz, run_id uuid)
), clock AS MATERIALIZED (
    SELECT clock_timestamp() AS now
), waiting AS MATERIALIZED (
    SELECT l.id FROM task_logs l JOIN deactivated USING (task_id) WHERE l.status = 'retrying'
    FOR UPDATE OF l SKIP LOCKED
), cancelled AS (
    UPDATE task_logs l SET
        status = 'cancelled', message = 'Cancelled: the task was deactivated.', finished_at = now, available_at = NULL
    FROM waiting, clock WHERE l.id = waiting.id
    RETURNING l.id
), removed AS (
    INSERT INTO task_logs (
        id, task_id, source, status, scheduled_for, execution_time, finished_at, retry_count, message,
        attempts, revision, lost_leases, created_at)
    SELECT run_id, task_id, 'schedule', 'cancelled', slot, slot, now, 0,
        'Not run: the task was deactivated before this slot was claimed.', '[]', s.revision, 0, now
    FROM deactivated JOIN task_state s USING (task_id), clock WHERE slot <= now
    ON CONFLICT (task_id, scheduled_for) WHERE source = 'schedule' DO NOTHING
    RETURNING id
)
SELECT (SELECT count(*) FROM cancelled) + (SELECT count(*) FROM removed)
""")

RECORD_UNSETTLED = text(
    "WITH"
    + RESULT
    + """, standing AS MATERIALIZED (
    SELECT result.*,
        s.task_id IS NOT NULL AND l.id IS NOT NULL AS exists,
        l.status = 'running' AND l.lease_id = result.lease_id AS is_held,
        (SELECT attempt ->> 'outcome' FROM jsonb_array_elements(l.attempts) attempt
         WHERE attempt ->> 'lease_id' = result.lease_id::text) AS recorded
    FROM result
    LEFT JOIN task_logs l ON l.id = result.run_id
    LEFT JOIN task_state s ON s.task_id = result.task_id
), disposed AS (
    SELECT *, CASE
        WHEN NOT exists THEN 'gone'
        WHEN is_held THEN 'deferred'
        WHEN recorded IN ('success', 'failed') THEN 'repeated'
        ELSE 'late' END AS disposal
    FROM standing
), late AS (
    UPDATE task_logs l SET attempts = (
        SELECT jsonb_agg(
            CASE WHEN attempt ->> 'lease_id' = disposed.lease_id::text
                THEN attempt || jsonb_strip_nulls(jsonb_build_object(
                    'outcome', 'late', 'http_status', disposed.http_status, 'error', disposed.error,
                    'message', attempt_message, 'duration_ms', disposed.duration_ms))
                ELSE attempt END ORDER BY number)
        FROM jsonb_array_elements(l.attempts) WITH ORDINALITY AS attempts(attempt, number))
    FROM disposed WHERE l.id = disposed.run_id AND disposal = 'late'
    RETURNING l.id
)
SELECT json_object_agg(run_id, disposal) FROM disposed WHERE (SELECT count(*) FROM late) >= 0
"""
)


class Disposal(StrEnum):
    """What a settle did with a result."""

    SUCCESS = "success"
    FAILED = "failed"
    RETRYING = "retrying"
    CANCELLED = "cancelled"
    LATE = "late"
    GONE = "gone"
    DEFERRED = "deferred"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """The disposal of each run; tasks deactivated; waiting runs and due slots cancelled with them."""

    disposals: dict[UUID, Disposal]
    deactivated: int
    cancelled: int


def settle(connection: Connection, decisions: Sequence[Decision]) -> Settlement:
    """Record finished attempts, in their order, and deactivate the tasks that keep failing.

    One decision per run. Two failures of one task in a batch count twice, and a success between them starts
    the count again. A failure counts only if the task still has the revision under which the slot was claimed.
    """
    rows = [result_row(position, decision) for position, decision in enumerate(decisions)]
    settled, deactivated = connection.execute(SETTLE, {"results": compact_json(rows)}).one()
    disposals = {UUID(run_id): Disposal(status) for run_id, status in settled.items()}
    cancelled = 0
    if deactivated:
        for task in deactivated:
            task["run_id"] = str(uuid4())
        cancelled = connection.execute(
            CANCEL_WAITING_RUNS, {"deactivated": compact_json(deactivated)}
        ).scalar_one()
    if len(disposals) < len(rows):
        unsettled = [row for row in rows if row["run_id"] not in settled]
        planned = {str(decision.run.id): decision.status for decision in decisions}
        others = connection.execute(RECORD_UNSETTLED, {"results": compact_json(unsettled)}).scalar_one()
        for run_id, disposal in others.items():
            disposals[UUID(run_id)] = Disposal(planned[run_id] if disposal == "repeated" else disposal)
    return Settlement(disposals=disposals, deactivated=len(deactivated), cancelled=cancelled)


def result_row(position: int, decision: Decision) -> dict[str, object]:
    run, attempt = decision.run, decision.attempt
    return {
        "position": position,
        "run_id": str(run.id),
        "lease_id": str(run.lease_id),
        "task_id": str(run.task_id),
        "status": decision.status,
        "delay_seconds": decision.delay_seconds,
        "counts": decision.counts,
        "message": decision.message,
        "reason": f"Deactivated after a failed run. {decision.message}",
        "outcome": AttemptOutcome.SUCCESS if attempt.succeeded else AttemptOutcome.FAILED,
        "http_status": attempt.http_status,
        "error": attempt.error,
        "attempt_message": attempt.message,
        "duration_ms": attempt.duration_ms,
        "response_excerpt": attempt.response_excerpt,
    }
