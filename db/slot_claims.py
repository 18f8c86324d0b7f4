"""Statements by which a tick claims slots: each claim is one short transaction, set-based.

Live runs and definitions are read in statements after the one that locks: joined to it, they would come from
the snapshot before the lock (docs/engine.md, Tick and Overlap).
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, text

from db.backlog import complete_tasks
from db.claiming import (
    BATCH_ROWS,
    MAY_BE_CALLED,
    READ_DEFINITIONS,
    Claimed,
    Definition,
    Room,
    claimed_run,
    definitions_in,
    payloads_of,
    read_definitions,
    timing_of,
)
from db.driver import kept, together
from db.engine import transaction, uuid_array
from db.json_rows import json_rows, read_all_json, read_json
from db.new_ids import new_ids, new_run_ids
from db.places import open_places
from domain.errors import InvalidInput
from domain.misfire import CatchUp, Stretch, catch_up
from domain.notification import Change, ChangeKind, change_of_task
from domain.run import LEASE_MARGIN_SECONDS
from domain.task import MisfirePolicy, OverlapPolicy

LONG_LATE = timedelta(hours=1)
"""Slots that are missed by more than this are counted before the transaction that claims, not in it."""

PLANNING_SECONDS = 1.0

destination_of = itemgetter("destination")
planned_by = attrgetter(
    "schedule", "timezone", "run_at", "start_at", "end_at", "misfire_policy", "catchup_window_seconds"
)

IS_DUE = (
    "s.status = 'active' AND"
    + MAY_BE_CALLED
    + """
        AND next_run_at <= statement_timestamp()
        AND NOT (is_catching_up AND EXISTS (
            SELECT FROM task_logs l
            WHERE l.task_id = s.task_id AND l.status IN ('running', 'retrying') AND l.source = 'schedule'))"""
)

LOCK_DUE_TASKS = kept(f"""
SELECT coalesce(json_agg(due), '[]')::text FROM (
    SELECT * FROM (
        SELECT task_id, next_run_at AS slot, revision, destination, timeout_seconds, is_catching_up,
            statement_timestamp() AS now
        FROM task_state s
        WHERE {IS_DUE}
            AND next_run_at > statement_timestamp() - interval '{LONG_LATE}'
        ORDER BY next_run_at LIMIT {BATCH_ROWS}
        FOR UPDATE SKIP LOCKED
    ) batch LIMIT (SELECT CAST(:limit AS int))
) due
""")

READ_LONG_LATE_TASKS = kept(f"""
SELECT coalesce(json_agg(due), '[]')::text FROM (
    SELECT task_id, next_run_at AS slot, revision, destination, timeout_seconds, is_catching_up,
        statement_timestamp() AS now
    FROM task_state s
    WHERE {IS_DUE}
        AND next_run_at <= statement_timestamp() - interval '{LONG_LATE}'
    ORDER BY next_run_at LIMIT :limit
) due
""")

LOCK_PLANNED_TASKS = text("""
SELECT coalesce(json_agg(task_id), '[]')::text FROM (
    SELECT s.task_id FROM task_state s JOIN json_to_recordset(CAST(:planned AS json)) AS planned(
        task_id uuid, slot timestamptz, revision int) USING (task_id)
    WHERE s.status = 'active' AND s.next_run_at = planned.slot AND s.revision = planned.revision
    FOR UPDATE OF s SKIP LOCKED
) locked
""")

READ_LIVE_RUNS = kept("""
SELECT coalesce(json_object_agg(task_id, began_at), '{}')::text FROM (
    SELECT task_id, min(execution_time) AS began_at FROM task_logs
    WHERE task_id = ANY (CAST(:task_ids AS uuid[])) AND status IN ('running', 'retrying') AND source = 'schedule'
    GROUP BY task_id
) live
""")

KNOWN = (READ_LIVE_RUNS, READ_DEFINITIONS)
"""What has to be known of tasks before they are planned."""

BEGIN_RUNS = kept(f"""
WITH claim AS MATERIALIZED (
    SELECT * FROM json_to_recordset(CAST(:claims AS json)) AS claim(
        task_id uuid, next_run_at timestamptz, is_catching_up bool, fault text,
        run_id uuid, slot timestamptz, lease_id uuid, throttled_ms int)
), row AS MATERIALIZED (
    SELECT * FROM json_to_recordset(CAST(:rows AS json)) AS row(
        id uuid, task_id uuid, revision int, status text, slot timestamptz, message text,
        missed_from timestamptz, missed_to timestamptz, missed_count int)
), clock AS MATERIALIZED (
    SELECT clock_timestamp() AS now
), moved AS (
    UPDATE task_state s SET
        next_run_at = claim.next_run_at,
        is_catching_up = claim.is_catching_up IS TRUE,
        status = CASE WHEN fault IS NULL THEN s.status ELSE 'inactive' END,
        deactivated_at = CASE WHEN fault IS NULL THEN s.deactivated_at ELSE (SELECT now FROM clock) END,
        deactivated_reason = coalesce(fault, s.deactivated_reason)
    FROM claim WHERE s.task_id = claim.task_id AND s.task_id = ANY (ARRAY(SELECT task_id FROM claim))
    RETURNING s.task_id, revision, timeout_seconds, run_id, slot, lease_id, throttled_ms
), begun AS (
    INSERT INTO task_logs (
        id, task_id, source, status, scheduled_for, message, revision, created_at, missed_from, missed_to,
        missed_count, execution_time, finished_at, available_at, lease_id, attempts,
        retry_count, lost_leases, throttles, throttled_ms)
    SELECT
        run_id, task_id, 'schedule', 'running', slot, NULL, revision, now, NULL, NULL,
        NULL, now, NULL, now + make_interval(secs => timeout_seconds + {LEASE_MARGIN_SECONDS}), lease_id,
        jsonb_build_array(jsonb_build_object('number', 1, 'started_at', now, 'lease_id', lease_id)),
        0, 0, 0, coalesce(throttled_ms, 0)
    FROM moved, clock WHERE run_id IS NOT NULL
    UNION ALL SELECT
        id, task_id, 'schedule', status, slot, message, revision, now, missed_from, missed_to,
        missed_count, slot, now, NULL, NULL, '[]',
        0, 0, 0, 0
    FROM row, clock
    ON CONFLICT (task_id, scheduled_for) WHERE source = 'schedule' DO NOTHING
    RETURNING id
)
SELECT json_build_array((SELECT now FROM clock), coalesce(json_agg(id), '[]'))::text FROM begun
""")


class Plan(NamedTuple):
    """What to do with the due slots of a task; `fault` says why its schedule cannot be computed."""

    task: Mapping[str, Any]
    definition: Definition
    catch_up: CatchUp
    fault: str | None


def claim_slots(connection: Connection, room: Room) -> Claimed:
    """Claim one slot each of the tasks that are due, oldest first, as many as there is room for.

    Each task moves to the slot after the claimed one. What is too late goes by the task's misfire policy, what
    overlaps by its overlap policy, each with a row that says so. A task whose schedule can no longer be computed
    is deactivated, alone, and its slot recorded as `cancelled`.
    """
    due = read_json(connection, LOCK_DUE_TASKS, room.parameters())
    if not due:
        return Claimed()
    likely, _ = room.fitting(due)  # of what our own calls leave no place for, nothing has to be known
    live, rows = open_places(connection, room, map(destination_of, due), likely, *KNOWN)
    claimed, times = Claimed(), 1
    fitting, others = room.fitting(due)
    while fitting:
        plans = plan(fitting, definitions_in(rows))
        claimed.add(begin_runs(connection, plans, live, room))
        if len(plans) < len(fitting):
            break
        # what was missed or skipped has left its place to others; there may be many more such rows than places
        times *= 2
        fitting, others = room.fitting(others, times)
        if fitting:
            task_ids = uuid_array(task["task_id"] for task in fitting)
            live, rows = read_all_json(connection, together(*KNOWN), {"task_ids": task_ids})
    room.leave({*map(destination_of, others)})
    room.ledger.record(connection)
    return claimed


def plan_long_late_slots(engine: Engine, room: Room) -> list[Plan]:
    """Plan the tasks that are late by more than an hour, without a lock and outside of a transaction."""
    with transaction(engine) as connection:
        late = read_json(connection, READ_LONG_LATE_TASKS, room.parameters())
        definitions = read_definitions(connection, late)
    return plan(late, definitions)


def claim_long_late_slots(connection: Connection, plans: Sequence[Plan], room: Room) -> Claimed:
    """Claim what was planned, as far as nothing has changed since."""
    planned = [{name: plan.task[name] for name in ("task_id", "slot", "revision")} for plan in plans]
    locked = set(read_json(connection, LOCK_PLANNED_TASKS, {"planned": json_rows(planned)}))
    plans = [plan for plan in plans if plan.task["task_id"] in locked]
    if not plans:
        return Claimed()
    tasks = [plan.task for plan in plans]
    (live,) = open_places(connection, room, map(destination_of, tasks), tasks, READ_LIVE_RUNS)
    claimed = begin_runs(connection, plans, live, room)
    room.ledger.record(connection)
    return claimed


def plan(due: Iterable[Mapping[str, Any]], definitions: Mapping[str, Definition]) -> list[Plan]:
    """Plan tasks in their order, for at most a second; equal schedules and slots are computed once."""
    until = time.monotonic() + PLANNING_SECONDS
    plans: list[Plan] = []
    known: dict[tuple[Any, ...], tuple[CatchUp, str | None]] = {}
    for task in due:
        definition = definitions.get(task["task_id"])
        if definition is None:  # deleted since it was read
            continue
        key = (task["slot"], planned_by(definition))
        if key not in known:
            if plans and time.monotonic() > until:
                break
            known[key] = plan_slots(task, definition)
        catch_up, fault = known[key]
        plans.append(Plan(task, definition, catch_up, fault))
    return plans


def plan_slots(task: Mapping[str, Any], definition: Definition) -> tuple[CatchUp, str | None]:
    due = datetime.fromisoformat(task["slot"])
    try:
        return catch_up(
            timing_of(definition),
            due,
            datetime.fromisoformat(task["now"]),
            MisfirePolicy(definition.misfire_policy),
            timedelta(seconds=definition.catchup_window_seconds),
        ), None
    except InvalidInput as error:
        return CatchUp(missed=None, run=None, next_run_at=None), f"Deactivated: {error}"


def begin_runs(connection: Connection, plans: Sequence[Plan], live: Mapping[str, str], room: Room) -> Claimed:
    """Write what was planned for tasks that are locked: their next runs, and a row for each slot or stretch.

    `live` tells by tasks since when a run of theirs has been under way.
    """
    claimed = Claimed()
    if not plans:
        return claimed
    room.ledger.open(connection, ((plan.task["destination"], plan.definition.webhook_url) for plan in plans))
    claims: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    begun: list[tuple[Plan, dict[str, Any]]] = []
    lease_ids = new_ids(len(plans))
    run_ids = new_run_ids(2 * len(plans), datetime.fromisoformat(plans[0].task["now"]))
    notable: list[tuple[ChangeKind, Plan, dict[str, Any]]] = []
    for plan in plans:
        task, definition, slot = plan.task, plan.definition, plan.catch_up.run
        live_since = live.get(task["task_id"])
        claim: dict[str, Any] = {"task_id": task["task_id"], "next_run_at": plan.catch_up.next_run_at}
        if plan.catch_up.waits:
            claim["is_catching_up"] = True
        if plan.fault:
            claim["fault"] = plan.fault
            rows.append(row_of(next(run_ids), task, "cancelled", task["slot"], plan.fault))
            claimed.deactivated += 1
            notable.append((ChangeKind.DEACTIVATED, plan, rows[-1]))
        elif slot is not None:
            if live_since and task["is_catching_up"]:
                continue
            if live_since and plan.catch_up.waits:
                claims.append(claim | {"next_run_at": task["slot"]})
                continue
            skips = definition.overlap_policy == OverlapPolicy.SKIP
            if live_since and skips and datetime.fromisoformat(live_since) < slot:
                message = f"Skipped: the run that began at {live_since} was still under way."
                rows.append(row_of(next(run_ids), task, "skipped", slot, message))
                claimed.skipped += 1
            elif room.take(task["destination"], definition.webhook_url, definition.payload_bytes):
                claim["run_id"] = next(run_ids)
                claim["slot"] = slot
                claim["lease_id"] = next(lease_ids)
                if room.ledger.held:
                    claim["throttled_ms"] = room.ledger.throttled_ms(
                        task["destination"], definition.webhook_url, slot.timestamp()
                    )
                begun.append((plan, claim))
            else:
                continue
        if missed := plan.catch_up.missed:
            rows.append(missed_row(next(run_ids), task, missed))
            claimed.missed += missed.count
            notable.append((ChangeKind.MISSED, plan, rows[-1]))
        claims.append(claim)
    claimed.taken = len(claims)
    payloads = payloads_of(connection, {plan.task["task_id"]: plan.definition for plan, _ in begun})
    values = {"claims": json_rows(claims), "rows": json_rows(rows)}
    began_at, ids = read_json(connection, BEGIN_RUNS, values)
    started_at, written = datetime.fromisoformat(began_at), {*ids}
    if ending := [claim["task_id"] for claim in claims if claim["next_run_at"] is None]:
        complete_tasks(connection, ending)
    for plan, claim in begun:
        if claim["run_id"] not in written:
            continue
        run = {
            "id": claim["run_id"],
            "lease_id": claim["lease_id"],
            "scheduled_for": claim["slot"],
            "started_at": started_at,
            "number": 1,
            "lost_leases": 0,
            "throttles": 0,
        }
        claimed.runs.append(claimed_run(run, plan.task, plan.definition, payloads[plan.task["task_id"]]))
    claimed.changes = [change_of(kind, plan, row) for kind, plan, row in notable if row["id"] in written]
    return claimed


def change_of(kind: ChangeKind, plan: Plan, row: Mapping[str, Any]) -> Change:
    """What is told of a row of slots that do not run."""
    return change_of_task(
        kind,
        datetime.fromisoformat(plan.task["now"]),
        task_id=plan.task["task_id"],
        task_name=plan.definition.name,
        notify_url=plan.definition.notify_url,
        run_id=row["id"],
        scheduled_for=datetime.fromisoformat(row["slot"]),
        status=row["status"],
        message=row["message"],
    )


def row_of(
    run_id: str, task: Mapping[str, Any], status: str, slot: datetime | str, message: str
) -> dict[str, Any]:
    """The log of a slot that does not run."""
    return {
        "id": run_id,
        "task_id": task["task_id"],
        "revision": task["revision"],
        "status": status,
        "slot": slot,
        "message": message,
    }


def missed_row(run_id: str, task: Mapping[str, Any], missed: Stretch) -> dict[str, Any]:
    message = (
        f"Missed {missed}: no call could be made in time, and the misfire policy does not make up for them."
    )
    return row_of(run_id, task, "missed", missed.first.isoformat(), message) | {
        "missed_from": missed.first.isoformat(),
        "missed_to": missed.last.isoformat(),
        "missed_count": missed.count,
    }
