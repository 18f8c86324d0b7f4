"""Statements on tasks and their state for the API; db/slot_claims.py and db/settle.py hold the engine's."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, Connection, Text, cast, delete, func, insert, select, update

from db.cancellation import cancel_due_slots, cancel_waiting_runs
from db.deleted_tasks import delete_logs
from db.paging import Common, Listed, Listing, Page, counted, json_bytes, read_page
from db.tables import task_logs, task_state, tasks
from domain.errors import InvalidInput, InvalidSchedule, NotFound, PreconditionFailed
from domain.retry import RetryOn
from domain.slots import Timing, next_slot
from domain.task import (
    Method,
    MisfirePolicy,
    OverlapPolicy,
    Task,
    TaskDefinition,
    TaskOrder,
    TaskStatus,
    is_same,
)
from domain.webhook_url import parse_webhook_url

JOINED = tasks.join(task_state, task_state.c.task_id == tasks.c.id)
SELECT_TASK = select(
    tasks,
    task_state.c.status,
    task_state.c.timeout_seconds,
    task_state.c.revision,
    task_state.c.next_run_at,
    task_state.c.last_run_at,
    task_state.c.last_status,
    task_state.c.consecutive_failures,
    task_state.c.deactivated_at,
    task_state.c.deactivated_reason,
).select_from(JOINED)


IS_ACTIVE = task_state.c.status == TaskStatus.ACTIVE
TASK_BYTES = (
    2_000
    + func.octet_length(cast(tasks.c.payload, Text))
    + func.octet_length(cast(tasks.c.headers, Text))
    + func.octet_length(tasks.c.webhook_url)
    + func.coalesce(func.octet_length(tasks.c.notify_url), 0)
    + json_bytes(tasks.c.name)
    + func.coalesce(json_bytes(task_state.c.deactivated_reason), 0)
)
ORDERED_BY = {
    "created_at": (tasks.c.created_at, tasks.c.id),
    "name": (tasks.c.name, tasks.c.id),
    "next_run_at": (task_state.c.next_run_at, task_state.c.task_id),
}
"""Both columns of an order are of one table, which has an index on them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFilter:
    """Which tasks: `search` is part of the name in either case; created from `since` to before `until`.

    `is_deactivated`: only those that Insignia has switched off.
    """

    status: TaskStatus | None = None
    search: str | None = None
    tag: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    is_deactivated: bool = False


@dataclass(frozen=True, slots=True)
class NamedTask:
    """What a log shows of its task."""

    id: UUID
    name: str
    timezone: str


def create_task(connection: Connection, definition: TaskDefinition, status: TaskStatus) -> Task:
    """Store a task; an active one gets its first slot after now.

    Raises InvalidSchedule when an active task would never run, InvalidInput for a `run_at` in the past.
    """
    now = connection.execute(select(func.statement_timestamp())).scalar_one()
    task_id = uuid4()
    slot = first_slot(definition, now) if status is TaskStatus.ACTIVE else None
    connection.execute(
        insert(tasks).values(id=task_id, created_at=now, updated_at=now, **columns(definition))
    )
    connection.execute(
        insert(task_state).values(
            task_id=task_id,
            status=status,
            revision=1,
            next_run_at=slot,
            consecutive_failures=0,
            is_catching_up=False,
            **engine_columns(definition),
        )
    )
    return get_task(connection, task_id)


def get_task(connection: Connection, task_id: UUID) -> Task:
    """The task; raises NotFound."""
    row = connection.execute(SELECT_TASK.where(tasks.c.id == task_id)).mappings().one_or_none()
    if row is None:
        raise no_such_task(task_id)
    return task_of(row)


def read_names(connection: Connection, task_ids: Collection[UUID]) -> dict[UUID, NamedTask]:
    """Those of these tasks that there are."""
    named = select(tasks.c.id, tasks.c.name, tasks.c.timezone).where(tasks.c.id.in_(task_ids))
    return {row.id: NamedTask(*row) for row in connection.execute(named)}


def list_tasks(connection: Connection, wanted: TaskFilter, order: TaskOrder, page: Page) -> Listing[Task]:
    """One page of the tasks that match; in the order of next_run_at only those that have one."""
    conditions: list[ColumnElement[bool]] = []
    column, identity = ORDERED_BY[order.removeprefix("-")]
    common: list[Common] = []
    if column is task_state.c.next_run_at:
        conditions += [column.is_not(None), IS_ACTIVE]
    if wanted.status == TaskStatus.ACTIVE:
        common.append(Common(IS_ACTIVE, [~IS_ACTIVE]))
    elif wanted.status is not None:
        conditions.append(task_state.c.status == wanted.status)
    if wanted.search:
        part = wanted.search.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        conditions.append(tasks.c.name.ilike(f"%{part}%", escape="\\"))
    if wanted.tag is not None:
        conditions.append(tasks.c.tags.contains([wanted.tag]))
    if wanted.since is not None:
        conditions.append(tasks.c.created_at >= wanted.since)
    if wanted.until is not None:
        conditions.append(tasks.c.created_at < wanted.until)
    if wanted.is_deactivated:
        conditions.append(task_state.c.deactivated_at.is_not(None))
    listed = Listed(rows=SELECT_TASK, source=JOINED, counted=task_state, size=TASK_BYTES, item_of=task_of)
    return read_page(
        connection,
        listed,
        [*conditions, *(one.condition for one in common)],
        page,
        order=column,
        identity=identity,
        is_descending=order.startswith("-"),
        total=counted(listed, conditions, common),
    )


def update_task(
    connection: Connection,
    task_id: UUID,
    changes: Mapping[str, Any],
    status: TaskStatus | None,
    revisions: Collection[int] | None = None,
) -> Task:
    """Apply a user's changes (fields of TaskDefinition, and the status); raises NotFound, InvalidInput.

    Raises PreconditionFailed unless the task has one of `revisions`, if those are given.
    docs/engine.md, Schedule: the next run is recomputed from now only when its timing or its status
    really changes, and slots that were due and unclaimed then are recorded as `cancelled`.
    """
    lock_state(connection, task_id, revisions)
    task, now = (
        get_task(connection, task_id),
        connection.execute(select(func.statement_timestamp())).scalar_one(),
    )
    definition = replace(task.definition, **exclusive(changes))
    if definition.schedule is None and definition.run_at is None:
        raise InvalidInput("A task needs either schedule or run_at; set one of them.")
    is_rescheduled = timing_of(definition) != timing_of(task.definition)
    new_status = changed_status(task.status, status, is_rescheduled=is_rescheduled)
    is_edited = any(
        not is_same(getattr(definition, name), getattr(task.definition, name))
        for name in TaskDefinition.__slots__
    )
    if not is_edited and new_status == task.status:
        return task

    state: dict[str, Any] = {
        "revision": task.revision + 1,
        "status": new_status,
        **engine_columns(definition),
    }
    if new_status != task.status:
        state |= {"consecutive_failures": 0, "deactivated_at": None, "deactivated_reason": None}
    if is_rescheduled or new_status != task.status:
        state["is_catching_up"] = False
        state["next_run_at"] = None
        if new_status is TaskStatus.ACTIVE:
            since = last_claimed_slot(connection, task_id)  # ahead of now, if the clock was set back
            state["next_run_at"] = first_slot(definition, now if since is None else max(now, since))
        if task.next_run_at is not None and task.next_run_at <= now:
            due = (task_id, task.revision, timing_of(task.definition), task.next_run_at)
            cancel_due_slots(connection, [due], now, "the task was changed before")
    if new_status is TaskStatus.INACTIVE:
        cancel_waiting_runs(connection, [task_id], "Not retried: the task was set to inactive.")

    connection.execute(
        update(tasks).where(tasks.c.id == task_id).values(updated_at=now, **columns(definition))
    )
    connection.execute(update(task_state).where(task_state.c.task_id == task_id).values(**state))
    return get_task(connection, task_id)


def delete_task(connection: Connection, task_id: UUID, revisions: Collection[int] | None = None) -> None:
    """Delete a task with its logs; raises NotFound, and PreconditionFailed as update_task does.

    A long history is only hidden here (`deleted_tasks`) and removed by later ticks in batches.
    """
    lock_state(connection, task_id, revisions)
    connection.execute(delete(tasks).where(tasks.c.id == task_id))
    delete_logs(connection, task_id)


def lock_state(connection: Connection, task_id: UUID, revisions: Collection[int] | None = None) -> None:
    """Wait for a claim or a settle of this task to end; the definition is read after it, in a new snapshot."""
    lock = select(task_state.c.revision).where(task_state.c.task_id == task_id).with_for_update()
    revision = connection.execute(lock).scalar_one_or_none()
    if revision is None:
        raise no_such_task(task_id)
    if revisions is not None and revision not in revisions:
        raise PreconditionFailed(
            f"The task was changed meanwhile and has revision {revision}; read it again, and send its new ETag."
        )


def last_claimed_slot(connection: Connection, task_id: UUID) -> datetime | None:
    """The last slot that stands in a row already: it must not be due again, alone or within a stretch."""
    last = (
        select(func.coalesce(task_logs.c.missed_to, task_logs.c.scheduled_for))
        .where(task_logs.c.task_id == task_id, task_logs.c.source == "schedule")
        .order_by(task_logs.c.scheduled_for.desc())
        .limit(1)
    )
    return connection.execute(last).scalar_one_or_none()


def timing_of(definition: TaskDefinition) -> Timing:
    return Timing(**{name: getattr(definition, name) for name in Timing.__slots__})


def first_slot(definition: TaskDefinition, now: datetime) -> datetime:
    slot = next_slot(timing_of(definition), now)
    if slot is not None:
        return slot
    if definition.run_at is not None and definition.run_at <= now:
        raise InvalidInput("run_at is in the past; choose an instant in the future.")
    if definition.start_at or definition.end_at:
        raise InvalidInput("No run lies between start_at and end_at in the future; widen the range.")
    raise InvalidSchedule(f"Schedule '{definition.schedule}' never fires; choose a date that exists.")


def exclusive(changes: Mapping[str, Any]) -> dict[str, Any]:
    """A new schedule takes the place of run_at, and the other way round."""
    if changes.get("schedule") is not None and changes.get("run_at") is None:
        return dict(changes) | {"run_at": None}
    if changes.get("run_at") is not None and changes.get("schedule") is None:
        return dict(changes) | {"schedule": None}
    if changes.get("schedule") is not None:
        raise InvalidInput("schedule and run_at exclude each other; set one of them, or the other to null.")
    return dict(changes)


def changed_status(present: TaskStatus, wanted: TaskStatus | None, *, is_rescheduled: bool) -> TaskStatus:
    """What the user asks for; a completed task that gets a new time is active again."""
    if wanted is None or wanted == present:
        return TaskStatus.ACTIVE if present is TaskStatus.COMPLETED and is_rescheduled else present
    if wanted is TaskStatus.COMPLETED:
        raise InvalidInput("status: only the engine sets 'completed'; use active or inactive.")
    return wanted


def columns(definition: TaskDefinition) -> dict[str, Any]:
    """The definition as columns of `tasks`."""
    values = {
        name: getattr(definition, name) for name in TaskDefinition.__slots__ if name != "timeout_seconds"
    }
    return values | {
        "headers": dict(definition.headers),
        "signing_secrets": list(definition.signing_secrets),
        "tags": list(definition.tags),
    }


def engine_columns(definition: TaskDefinition) -> dict[str, Any]:
    """What a claim needs of the definition, kept in `task_state`."""
    destination = parse_webhook_url(definition.webhook_url).destination
    return {
        "timeout_seconds": definition.timeout_seconds,
        "destination": "{}://{}:{}".format(*destination),
    }


def no_such_task(task_id: UUID) -> NotFound:
    return NotFound(f"There is no task with the id {task_id}.")


def task_of(row: Mapping[Any, Any]) -> Task:
    values = dict(row)
    stored = {name: values.pop(name) for name in TaskDefinition.__slots__}
    definition = TaskDefinition(
        **stored
        | {
            "method": Method(stored["method"]),
            "retry_on": RetryOn(stored["retry_on"]),
            "misfire_policy": MisfirePolicy(stored["misfire_policy"]),
            "overlap_policy": OverlapPolicy(stored["overlap_policy"]),
            "signing_secrets": tuple(stored["signing_secrets"]),
            "tags": tuple(stored["tags"]),
        }
    )
    return Task(definition=definition, **values | {"status": TaskStatus(values["status"])})
