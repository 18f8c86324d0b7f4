"""Statements by which a user makes a run: of a task, of a log once more, or of a task that is not stored.

A manual run is claimed as a slot is, with a lease, and belongs to the engine from then on: settled, retried and
rescued by the same statements. It touches no counter, no status and no next run of its task.
"""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, func, select, text

from db.claiming import READ_WHOLE_DEFINITIONS, Claimed, claimed_run, definitions_in, with_instants
from db.destination_limits import Ledger
from db.engine import compact_json, uuid_array
from db.json_rows import read_json
from db.places import lock_places
from db.tables import task_logs, tasks
from db.task_logs import UNDER_WAY, get_task_log
from db.tasks import engine_columns, first_slot, no_such_task
from domain.errors import Conflict, Unavailable
from domain.rate import Rate
from domain.run import LEASE_MARGIN_SECONDS, ClaimedRun
from domain.task import TaskDefinition, TaskStatus

READ_STATE = text("""
SELECT json_build_object('task_id', task_id, 'revision', revision, 'destination', destination,
    'timeout_seconds', timeout_seconds)
FROM task_state WHERE task_id = :task_id
""")

BEGIN_RUN = text("""
WITH clock AS MATERIALIZED (
    SELECT clock_timestamp() AS now
), place AS (
    SELECT
        (SELECT available_at FROM throttled_destinations
         WHERE destination = :destination AND available_at > clock.now) AS throttled_until,
        (SELECT count(*) FROM task_logs l JOIN task_state s USING (task_id)
         WHERE l.status = 'running' AND l.available_at > statement_timestamp()
           AND s.destination = :destination) >= :per_destination AS is_full,
        now + make_interval(secs => CAST(:rate_seconds AS float8)) AS rate_until
    FROM clock
), put_off AS (
    SELECT throttled_until, rate_until,
        greatest(throttled_until, rate_until, CASE WHEN is_full THEN now END) AS until
    FROM place, clock
)
INSERT INTO task_logs (
    id, task_id, source, retry_of, revision, created_at, scheduled_for, execution_time,
    status, available_at, lease_id, attempts, message, retry_count, lost_leases, throttles)
SELECT
    :run_id, :task_id, 'manual', CAST(:retry_of AS uuid), :revision, now,
    coalesce(CAST(:scheduled_for AS timestamptz), now), now,
    CASE WHEN until IS NULL THEN 'running' ELSE 'retrying' END,
    coalesce(until, now + make_interval(secs => :lease_seconds)),
    CASE WHEN until IS NULL THEN CAST(:lease_id AS uuid) END,
    CASE WHEN until IS NULL THEN jsonb_build_array(
        jsonb_build_object('number', 1, 'started_at', now, 'lease_id', CAST(:lease_id AS uuid))) ELSE '[]' END,
    CASE
        WHEN throttled_until IS NOT NULL THEN 'Put off: its destination asked to be left alone. Next attempt in '
            || ceil(extract(epoch FROM until - now)) || ' s.'
        WHEN rate_until IS NOT NULL THEN 'Put off: its destination has been called as often as it may be '
            '(DESTINATION_RATES). Next attempt in ' || ceil(extract(epoch FROM until - now)) || ' s.'
        WHEN until IS NOT NULL THEN 'Put off: its destination has as many calls as it may have '
            '(DESTINATION_CONCURRENCY). The next tick makes the attempt.'
    END,
    0, 0, 0
FROM clock, put_off
RETURNING json_build_object(
    'id', id, 'lease_id', lease_id, 'task_id', task_id, 'scheduled_for', scheduled_for,
    'started_at', execution_time, 'number', 1, 'lost_leases', 0, 'throttles', 0)
""")


def begin_run(
    connection: Connection, *, run_id: UUID, task_id: UUID, per_destination: int, rates: Mapping[str, Rate]
) -> Claimed:
    """Begin a run of the task as it is defined now, whatever its status; raises NotFound.

    A run whose destination has asked to be left alone, has `per_destination` calls under way, of whomever, or
    has used up its rate, waits as a retry does, and is not in the result.
    """
    lock_task(connection, task_id)
    origin = {"scheduled_for": None, "retry_of": None}
    return begin(connection, run_id, task_id, origin | {"per_destination": per_destination}, rates)


def begin_retry(
    connection: Connection, *, run_id: UUID, log_id: UUID, per_destination: int, rates: Mapping[str, Rate]
) -> Claimed:
    """Begin a run that makes up for that of a log, for the same instant, by the task as it is defined now.

    Raises NotFound, and Conflict while the log's run, or another that makes up for it, is under way. Of a log
    that was stored over the API the instant is its execution time.
    """
    task_id = get_task_log(connection, log_id).task_id
    lock_task(connection, task_id)
    connection.execute(select(task_logs.c.id).where(task_logs.c.id == log_id).with_for_update())
    log = get_task_log(connection, log_id)  # of two requests at once, the second sees the run of the first
    live = select(task_logs.c.id).where(
        task_logs.c.task_id == task_id,
        task_logs.c.status.in_(UNDER_WAY),
        (task_logs.c.id == log_id) | (task_logs.c.retry_of == log_id),
    )
    if (live_id := connection.execute(live.limit(1)).scalar_one_or_none()) is not None:
        raise Conflict(f"The run {live_id} is under way; retry after it has ended.")
    instant = log.scheduled_for or log.execution_time
    origin = {"scheduled_for": instant, "retry_of": log_id}
    return begin(connection, run_id, task_id, origin | {"per_destination": per_destination}, rates)


def lock_task(connection: Connection, task_id: UUID) -> None:
    """Keep the task from being deleted until the run has its row; raises NotFound."""
    known = select(tasks.c.id).where(tasks.c.id == task_id).with_for_update(key_share=True, read=True)
    if connection.execute(known).one_or_none() is None:
        raise no_such_task(task_id)


def begin(
    connection: Connection,
    run_id: UUID,
    task_id: UUID,
    values: Mapping[str, Any],
    rates: Mapping[str, Rate],
) -> Claimed:
    state = connection.execute(READ_STATE, {"task_id": task_id}).scalar_one()
    rows = read_json(connection, READ_WHOLE_DEFINITIONS, {"task_ids": uuid_array([task_id])})
    (definition,) = definitions_in(rows).values()
    assert definition.payload is not None
    lock_places(connection, state["destination"])
    ledger = Ledger(rates)
    wait = {"rate_seconds": spend_call(connection, ledger, state["destination"], definition.webhook_url)}
    lease = {"lease_id": uuid4(), "lease_seconds": state["timeout_seconds"] + LEASE_MARGIN_SECONDS}
    run = connection.execute(BEGIN_RUN, {**state, **lease, **wait, **values, "run_id": run_id}).scalar_one()
    if run["lease_id"] is None:
        return Claimed()
    ledger.record(connection)
    return Claimed(runs=[claimed_run(with_instants(run), state, definition, definition.payload)], taken=1)


def spend_call(connection: Connection, ledger: Ledger, destination: str, webhook_url: str) -> float | None:
    """Spend a call of the destination's rate, or tell for how many seconds there is none."""
    ledger.open(connection, [(destination, webhook_url)], is_waiting=True)
    refusing = ledger.take(destination, webhook_url)
    return ledger.waits[refusing] if refusing else None


def unstored_run(
    connection: Connection, definition: TaskDefinition, status: TaskStatus, rates: Mapping[str, Rate]
) -> ClaimedRun:
    """The first attempt of a task that is not stored; raises what `create_task` would.

    And Unavailable while the rate of its destination is used up.
    """
    now: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
    if status is TaskStatus.ACTIVE:
        first_slot(definition, now)
    destination, ledger = engine_columns(definition)["destination"], Ledger(rates)
    if wait := spend_call(connection, ledger, destination, definition.webhook_url):
        raise Unavailable(
            "The call was not made: its destination has been called as often as it may be (DESTINATION_RATES); "
            f"try again in {math.ceil(wait)} s."
        )
    ledger.record(connection)
    return ClaimedRun(
        id=str(uuid4()),
        lease_id=str(uuid4()),
        task_id=str(uuid4()),
        scheduled_for=now,
        started_at=now,
        number=1,
        lost_leases=0,
        throttles=0,
        destination=destination,
        task_name=definition.name,
        webhook_url=definition.webhook_url,
        method=definition.method,
        headers=definition.headers,
        payload=compact_json(definition.payload).encode(),
        signing_secrets=definition.signing_secrets,
        timeout_seconds=definition.timeout_seconds,
        success_statuses=definition.success_statuses,
        max_retry=definition.max_retry,
        retry_on=definition.retry_on,
        deactivate_after=definition.deactivate_after,
        notify_url=definition.notify_url,
    )
