"""Statements that end what a task that is changed or deactivated will not run."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import Connection, text

from db.engine import compact_json, uuid_array
from domain.errors import InvalidInput
from domain.misfire import MAX_COUNTED, Stretch, stretch
from domain.slots import INSTANT, Timing

CANCEL_WAITING_RUNS = text("""
WITH waiting AS MATERIALIZED (
    SELECT id FROM task_logs
    WHERE task_id = ANY (CAST(:task_ids AS uuid[])) AND status = 'retrying' AND source = 'schedule'
    FOR UPDATE SKIP LOCKED
)
UPDATE task_logs l SET status = 'cancelled', message = :message, finished_at = clock_timestamp(), available_at = NULL
FROM waiting WHERE l.id = waiting.id
""")

INSERT_CANCELLED_SLOTS = text("""
INSERT INTO task_logs (
    id, task_id, source, status, scheduled_for, execution_time, message, revision, missed_from, missed_to,
    missed_count, attempts, retry_count, lost_leases, throttles, finished_at, created_at)
SELECT
    id, task_id, 'schedule', 'cancelled', slot, slot, message, revision, missed_from, missed_to,
    missed_count, '[]', 0, 0, 0, clock.now, clock.now
FROM json_to_recordset(CAST(:rows AS json)) AS cancelled(
    id uuid, task_id uuid, slot timestamptz, message text, revision int,
    missed_from timestamptz, missed_to timestamptz, missed_count int
), (SELECT clock_timestamp() AS now) clock
ON CONFLICT (task_id, scheduled_for) WHERE source = 'schedule' DO NOTHING
""")


def cancel_waiting_runs(connection: Connection, task_ids: Iterable[UUID], message: str) -> int:
    """End the runs that wait for a retry; a run that a tick holds just now is left to that tick's settle."""
    values = {"task_ids": uuid_array(task_ids), "message": message}
    return connection.execute(CANCEL_WAITING_RUNS, values).rowcount


def cancel_due_slots(
    connection: Connection,
    due: Sequence[tuple[UUID, int, Timing, datetime]],
    now: datetime,
    reason: str,
) -> int:
    """Record the slots up to `now` that will not run, one row a task: (task, revision, timing, first slot).

    All together are counted no further than one long stretch: their tasks are locked meanwhile.
    """
    rows = []
    for task_id, revision, timing, slot in due:
        try:
            slots = stretch(timing, slot, now + INSTANT, MAX_COUNTED // len(due))
        except InvalidInput:  # the schedule can no longer be computed, and the slot was due all the same
            slots = Stretch(first=slot, last=slot, count=1, is_at_least=False)
        if slots is None:
            continue
        row = {"id": str(uuid4()), "task_id": str(task_id), "revision": revision, "slot": slot.isoformat()}
        if slots.count > 1:
            row |= {
                "missed_from": slots.first.isoformat(),
                "missed_to": slots.last.isoformat(),
                "missed_count": slots.count,
            }
        rows.append(row | {"message": f"{slots} not run: {reason}."})
    if not rows:
        return 0
    return connection.execute(INSERT_CANCELLED_SLOTS, {"rows": compact_json(rows)}).rowcount
