"""Statements by which a tick records what came of its attempts.

A settle is fenced by the attempt's lease, decides deactivation on the locked row of the task, and may be
repeated: what stands already is not written again (docs/engine.md, Tick, 5). It waits for no row lock:
results whose task somebody else holds just now come back as `deferred`, and what a Retry-After holds back is not
noted while somebody is claiming for its destination.
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cache, partial
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from db.backlog import complete_tasks
from db.cancellation import cancel_due_slots, cancel_waiting_runs
from db.claiming import read_definitions, timing_of
from db.driver import kept
from db.engine import sqlstate, unavailable_reason
from db.json_rows import json_rows, read_json
from db.places import LOCKS
from domain.notification import Change, ChangeKind, change_of_run
from domain.run import Decision, RunStatus

log = logging.getLogger(__name__)

# Results look up their rows one by one, and updates name theirs by `= ANY`: whatever the server knew of a table when it
# made the plan that it keeps, then it reads no more of it. (A plain `status = 'running'` would offer it the index of
# all that is under way.)

RESULT = """
result AS MATERIALIZED (
    SELECT * FROM json_to_recordset(CAST(:results AS json)) AS result(
        run_id uuid, lease_id uuid, task_id uuid, status text, delay_seconds float8,
        throttle_seconds float8, destination text, counts bool, is_gone bool, deactivate_after int,
        message text, reason text, http_status int, error text, duration_ms int, response_excerpt text,
        facts jsonb)
)"""

SETTLE = kept(
    "WITH"
    + RESULT
    + """, clock AS MATERIALIZED (
    SELECT clock_timestamp() AS now
), run AS MATERIALIZED (
    SELECT result.*, l.source, l.execution_time, l.revision = task.revision AS is_current,
        task.status = 'active' AS is_active, task.revision AS task_revision, task.next_run_at AS slot,
        task.consecutive_failures, task.last_status, clock.now,
        CASE WHEN result.status = 'retrying' AND task.status <> 'active' AND l.source <> 'manual'
            THEN 'cancelled' ELSE result.status END AS next_status,
        result.status IN ('success', 'failed') AND l.source = 'schedule' AS is_ended
    FROM clock, result, LATERAL (
        SELECT status, revision, next_run_at, consecutive_failures, last_status FROM task_state
        WHERE task_id = result.task_id
        FOR UPDATE SKIP LOCKED
    ) task, LATERAL (
        SELECT source, execution_time, revision FROM task_logs
        WHERE id = result.run_id AND task_id = result.task_id
            AND lease_id = CASE status WHEN 'running' THEN result.lease_id END
        FOR UPDATE SKIP LOCKED
    ) l
), next AS (
    SELECT *, CASE WHEN next_status = 'retrying' THEN now + make_interval(secs => delay_seconds) END AS retry_at
    FROM run
), settled AS (
    UPDATE task_logs l SET
        status = next_status,
        message = CASE WHEN next_status = 'cancelled' THEN 'Not retried: the task became inactive. ' ELSE '' END
            || next.message,
        http_status = next.http_status,
        error = next.error,
        response_excerpt = next.response_excerpt,
        duration_ms = next.duration_ms,
        throttles = l.throttles + (facts ->> 'outcome' = 'throttled')::int,
        finished_at = CASE WHEN next_status <> 'retrying' THEN now END,
        available_at = retry_at,
        attempts = jsonb_set(l.attempts, '{-1}', l.attempts -> -1 || facts
            || CASE WHEN retry_at IS NULL THEN '{}' ELSE jsonb_build_object('retry_at', retry_at) END)
    FROM next WHERE l.id = next.run_id AND l.id = ANY (ARRAY(SELECT run_id FROM next))
    RETURNING l.id, l.status
), counted AS (
    SELECT *, counts AND is_current AND next_status = 'failed' AS is_failure FROM run WHERE is_ended
), ended AS MATERIALIZED (
    SELECT run_id, task_id, task_revision AS revision, slot, now, next_status AS status, execution_time, reason,
        CASE WHEN next_status = 'success' THEN 0 ELSE consecutive_failures + is_failure::int END AS failures,
        (next_status = 'failed') <> (last_status IS NOT DISTINCT FROM 'failed') AS turns,
        is_active AND (
            is_gone AND is_current
            OR is_failure AND deactivate_after > 0 AND consecutive_failures + 1 >= deactivate_after
        ) AND (slot IS NOT NULL OR EXISTS (
            SELECT FROM task_logs l WHERE l.task_id = counted.task_id AND l.source = 'schedule'
                AND l.status IN ('running', 'retrying') AND l.id <> run_id
        )) AS deactivates
    FROM counted
), task_kept AS (
    UPDATE task_state s SET
        consecutive_failures = failures,
        last_status = ended.status,
        last_run_at = execution_time,
        status = CASE WHEN deactivates THEN 'inactive' ELSE s.status END,
        next_run_at = CASE WHEN deactivates THEN NULL ELSE s.next_run_at END,
        deactivated_at = CASE WHEN deactivates THEN now ELSE s.deactivated_at END,
        deactivated_reason = CASE WHEN deactivates THEN reason ELSE s.deactivated_reason END
    FROM ended WHERE s.task_id = ended.task_id AND s.task_id = ANY (ARRAY(SELECT task_id FROM ended))
), throttled AS (
    INSERT INTO throttled_destinations (destination, available_at)
    SELECT destination, clock.now + make_interval(secs => max(throttle_seconds))
    FROM result, clock WHERE throttle_seconds > 0
    GROUP BY destination, clock.now ORDER BY destination
    ON CONFLICT (destination) DO UPDATE
        SET available_at = greatest(throttled_destinations.available_at, excluded.available_at)
    RETURNING destination, available_at
), held AS (
    INSERT INTO destination_limits (key, grants, idle_at, held_since, held_until)
    SELECT destination, '[]', available_at + interval '1 day', clock.now, available_at FROM throttled, clock
    WHERE pg_try_advisory_xact_lock(:locks, hashtext(destination))
    ORDER BY destination
    ON CONFLICT (key) DO UPDATE SET
        idle_at = excluded.idle_at,
        held_since = coalesce(destination_limits.held_since, excluded.held_since),
        held_until = CASE WHEN destination_limits.held_since IS NULL OR destination_limits.held_until IS NOT NULL
            THEN excluded.held_until END
)
SELECT json_build_object(
    'settled', (SELECT coalesce(json_object_agg(id, status), '{}') FROM settled),
    'changed', (SELECT coalesce(json_agg(json_build_object(
        'task_id', task_id, 'slot', slot, 'revision', revision, 'now', now, 'deactivates', deactivates,
        'run_id', run_id)), '[]')
     FROM ended WHERE deactivates OR slot IS NULL),
    'turned', (SELECT coalesce(json_agg(json_build_object('run_id', run_id, 'status', status, 'now', now)), '[]')
     FROM ended WHERE turns)
)::text
"""
)

RECORD_UNSETTLED = text(
    "WITH"
    + RESULT
    + """, run AS MATERIALIZED (
    SELECT id, attempts, status, lease_id FROM task_logs WHERE id = ANY (ARRAY(SELECT run_id FROM result))
    FOR UPDATE SKIP LOCKED
), standing AS MATERIALIZED (
    SELECT result.*,
        s.task_id IS NOT NULL AND l.id IS NOT NULL AS exists,
        run.id IS NULL OR (run.status = 'running' AND run.lease_id = result.lease_id) AS is_held,
        (SELECT attempt FROM jsonb_array_elements(run.attempts) attempt
         WHERE attempt ->> 'lease_id' = result.lease_id::text) AS recorded
    FROM result
    LEFT JOIN run ON run.id = result.run_id
    LEFT JOIN task_logs l ON l.id = result.run_id
    LEFT JOIN task_state s ON s.task_id = result.task_id
), disposed AS (
    SELECT *, CASE
        WHEN NOT exists THEN 'gone'
        WHEN is_held THEN 'deferred'
        WHEN recorded ->> 'outcome' = 'failed' AND recorded -> 'duration_ms' IS NULL THEN 'failed' -- as our error
        WHEN recorded ->> 'outcome' IN ('success', 'failed', 'throttled') THEN 'repeated'
        ELSE 'late' END AS disposal
    FROM standing
), late AS (
    UPDATE task_logs l SET attempts = (
        SELECT jsonb_agg(
            CASE WHEN attempt ->> 'lease_id' = disposed.lease_id::text
                THEN attempt || disposed.facts || '{"outcome": "late"}' ELSE attempt END ORDER BY number)
        FROM jsonb_array_elements(l.attempts) WITH ORDINALITY AS attempts(attempt, number))
    FROM disposed WHERE l.id = disposed.run_id AND disposal = 'late'
    RETURNING l.id
)
SELECT json_object_agg(run_id, disposal)::text FROM disposed WHERE (SELECT count(*) FROM late) >= 0
"""
)

END_UNRECORDABLE = text("""
WITH ended AS (
    UPDATE task_logs l SET
        status = 'failed',
        message = 'Failed: Insignia could not record the answer; its log says why.',
        finished_at = clock_timestamp(),
        available_at = NULL,
        attempts = jsonb_set(l.attempts, '{-1,outcome}', '"failed"')
    WHERE l.id = :run_id AND l.lease_id = :lease_id AND l.status = 'running'
    RETURNING l.task_id, l.source, l.execution_time, l.finished_at, l.message
), told AS (
    UPDATE task_state s SET last_status = 'failed', last_run_at = execution_time
    FROM ended WHERE s.task_id = ended.task_id AND source = 'schedule'
)
SELECT finished_at, message, source = 'schedule' AND s.last_status IS DISTINCT FROM 'failed' AS begins_a_streak
FROM ended LEFT JOIN task_state s USING (task_id)
""")


class Disposal(StrEnum):
    """What a settle did with a result."""

    SUCCESS = "success"
    FAILED = "failed"
    RETRYING = "retrying"
    CANCELLED = "cancelled"
    LATE = "late"
    GONE = "gone"
    DEFERRED = "deferred"


disposal_named = cache(Disposal)


class Refused(Exception):
    """The database refuses results for their data, with a state of SQL; nothing of their transaction will last."""


@dataclass(slots=True, kw_only=True)
class Settlement:
    """The disposal of each run; tasks deactivated; waiting runs and due slots cancelled with them.

    `changes` are what may have to be told of the tasks: streaks of failures that began or ended, deactivations.
    """

    disposals: dict[str, Disposal] = field(default_factory=dict)
    deactivated: int = 0
    cancelled: int = 0
    changes: list[Change] = field(default_factory=list)

    def add(self, other: "Settlement") -> None:
        self.disposals |= other.disposals
        self.deactivated += other.deactivated
        self.cancelled += other.cancelled
        self.changes += other.changes


def settle(connection: Connection, decisions: Sequence[Decision]) -> Settlement:
    """Record finished attempts, in their order, and deactivate the tasks that keep failing.

    One decision per run. Results of one task count one after the other: two failures count twice, and a success
    between them starts the count again. A failure counts only if the task still has the revision under which the
    slot was claimed. What comes after a deferred result of its task is deferred, too. Raises Refused.
    """
    try:
        return settle_in_turn(partial(settle_batch, connection), each_task_once(decisions))
    except DBAPIError as error:
        if unavailable_reason(error) is not None:
            raise
        raise Refused(sqlstate(error)) from error


def settle_in_turn(
    settle_some: Callable[[Sequence[Decision]], Settlement], batches: Sequence[Sequence[Decision]]
) -> Settlement:
    """Settle batches one after the other, without what comes after a deferred result of its task."""
    settlement, waiting, deferred = Settlement(), set[str](), Disposal.DEFERRED
    for batch in batches:
        if ready := [one for one in batch if one.run.task_id not in waiting] if waiting else batch:
            settlement.add(settle_some(ready))
        for one in batch:
            if settlement.disposals.setdefault(one.run.id, deferred) is deferred:
                waiting.add(one.run.task_id)
    return settlement


def each_task_once(decisions: Sequence[Decision]) -> Sequence[Sequence[Decision]]:
    """Batches, nearly always one: the further results of a task come later, so that they see the earlier ones."""
    if len({decision.run.task_id for decision in decisions}) == len(decisions):
        return [decisions]
    batches: list[list[Decision]] = []
    earlier: Counter[str] = Counter()
    for decision in decisions:
        number = earlier[decision.run.task_id]
        if number == len(batches):
            batches.append([])
        batches[number].append(decision)
        earlier[decision.run.task_id] += 1
    return batches


def settle_batch(connection: Connection, decisions: Sequence[Decision]) -> Settlement:
    rows = [result_row(decision) for decision in decisions]
    done = read_json(connection, SETTLE, {"results": json_rows(rows), "locks": LOCKS})
    settled, changed, turned = done["settled"], done["changed"], done["turned"]
    settlement = Settlement(disposals={run_id: disposal_named(status) for run_id, status in settled.items()})
    deactivated = [task for task in changed if task["deactivates"]]
    if deactivated:
        settlement.deactivated = len(deactivated)
        settlement.cancelled = cancel_with_deactivation(connection, deactivated)
    if turned or deactivated:
        settlement.changes = changes_of(decisions, turned, deactivated)
    if ending := [task["task_id"] for task in changed if not task["deactivates"]]:
        complete_tasks(connection, ending)
    if len(settlement.disposals) < len(rows):
        unsettled = [row for row in rows if row["run_id"] not in settled]
        planned = {one.run.id: one.status for one in decisions}
        settlement.disposals |= record_unsettled(connection, unsettled, planned)
    return settlement


def record_unsettled(
    connection: Connection, rows: Sequence[Mapping[str, object]], planned: Mapping[str, RunStatus]
) -> dict[str, Disposal]:
    """What becomes of results that nothing was there to settle for; those that stand already are as `planned`."""
    found = read_json(connection, RECORD_UNSETTLED, {"results": json_rows(rows)}).items()
    return {run_id: Disposal(planned[run_id] if one == "repeated" else one) for run_id, one in found}


def changes_of(
    decisions: Sequence[Decision],
    turned: Sequence[Mapping[str, Any]],
    deactivated: Sequence[Mapping[str, Any]],
) -> list[Change]:
    """What is told of runs that `turned` from success to failure or back, and of tasks that went off with one."""
    by_run = {decision.run.id: decision for decision in decisions}
    kinds = [
        *((ChangeKind.FAILED if run["status"] == "failed" else ChangeKind.RECOVERED, run) for run in turned),
        *((ChangeKind.DEACTIVATED, task) for task in deactivated),
    ]
    return [
        change_of_run(by_run[row["run_id"]], kind, datetime.fromisoformat(row["now"])) for kind, row in kinds
    ]


def cancel_with_deactivation(connection: Connection, deactivated: Sequence[Mapping[str, Any]]) -> int:
    """End what the tasks still had to do: runs that wait for a retry, and slots that were due."""
    cancelled = cancel_waiting_runs(
        connection,
        [UUID(task["task_id"]) for task in deactivated],
        "Cancelled: the task was deactivated.",
    )
    due = [task for task in deactivated if task["slot"] and task["slot"] <= task["now"]]
    if due:
        definitions = read_definitions(connection, due)
        slots = [
            (
                UUID(task["task_id"]),
                task["revision"],
                timing_of(definitions[task["task_id"]]),
                datetime.fromisoformat(task["slot"]),
            )
            for task in due
        ]
        now = datetime.fromisoformat(due[0]["now"])
        cancelled += cancel_due_slots(connection, slots, now, "the task was deactivated before")
    return cancelled


def end_unrecordable(connection: Connection, decision: Decision, refused: Refused) -> Settlement:
    """End a run whose result the database refuses even alone, as our error."""
    run = decision.run
    log.error("The result of run %s cannot be recorded: %s", run.id, refused)
    row = {"run_id": run.id, "lease_id": run.lease_id, "task_id": run.task_id, "facts": {}}
    ended = connection.execute(END_UNRECORDABLE, row).one_or_none()
    if ended is None:
        return Settlement(disposals=record_unsettled(connection, [row], {run.id: RunStatus.FAILED}))
    failed = decision._replace(status=RunStatus.FAILED, message=ended.message)
    changes = [change_of_run(failed, ChangeKind.FAILED, ended.finished_at)] if ended.begins_a_streak else []
    return Settlement(disposals={run.id: Disposal.FAILED}, changes=changes)


def result_row(decision: Decision) -> dict[str, object]:
    """What a settle has to know; of a success, by far the most, what it records, and no more to read and to send.

    `facts` go into the log's entry of the attempt as they are.
    """
    run, attempt = decision.run, decision.attempt
    facts: dict[str, object] = {
        "outcome": decision.outcome,
        "message": attempt.message,
        "duration_ms": attempt.duration_ms,
    }
    if attempt.http_status is not None:
        facts["http_status"] = attempt.http_status
    if attempt.error is not None:
        facts["error"] = attempt.error
    row: dict[str, object] = {
        "run_id": run.id,
        "lease_id": run.lease_id,
        "task_id": run.task_id,
        "status": decision.status,
        "message": decision.message,
        "http_status": attempt.http_status,
        "duration_ms": attempt.duration_ms,
        "response_excerpt": attempt.response_excerpt,
        "facts": facts,
    }
    if decision.status is not RunStatus.SUCCESS:
        row |= {
            "destination": run.destination,
            "delay_seconds": decision.delay_seconds,
            "throttle_seconds": decision.throttle_seconds,
            "counts": decision.counts,
            "is_gone": decision.is_gone,
            "deactivate_after": run.deactivate_after,
            "reason": decision.deactivation_reason if decision.status is RunStatus.FAILED else None,
            "error": attempt.error,
        }
    return row
