"""Statements on tasks and their state for the API; db/claims.py and db/settle.py hold the engine's."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, RowMapping, delete, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as insert_or_ignore

from db.tables import deleted_tasks, task_logs, task_state, tasks
from domain.errors import InvalidSchedule, NotFound
from domain.run import RunSource, RunStatus
from domain.schedule import next_run
from domain.task import Task, TaskDefinition, TaskStatus

LOGS_DELETED_AT_ONCE = 1_000

JOINED = tasks.join(task_state, task_state.c.task_id == tasks.c.id)
SELECT_TASK = select(
    tasks,
    task_state.c.status,
    task_state.c.revision,
    task_state.c.next_run_at,
    task_state.c.last_run_at,
    task_state.c.last_status,
    task_state.c.consecutive_failures,
    task_state.c.deactivated_at,
    task_state.c.deactivated_reason,
).select_from(JOINED)


def create_task(connection: Connection, definition: TaskDefinition, status: TaskStatus) -> Task:
    """Store a task; an active one gets its first slot after now. Raises InvalidSchedule if there is none."""
    now = connection.execute(select(func.statement_timestamp())).scalar_one()
    task_id = uuid4()
    connection.execute(insert(tasks).values(id=task_id, created_at=now, updated_at=now, **asdict(definition)))
    connection.execute(
        insert(task_state).values(
            task_id=task_id,
            status=status,
            revision=1,
            next_run_at=first_run(definition, status, now),
            consecutive_failures=0,
        )
    )
    return get_task(connection, task_id)


def get_task(connection: Connection, task_id: UUID) -> Task:
    """The task; raises NotFound."""
    row = connection.execute(SELECT_TASK.where(tasks.c.id == task_id)).mappings().one_or_none()
    if row is None:
        raise no_such_task(task_id)
    return task_of(row)


def list_tasks(
    connection: Connection, *, skip: int, limit: int, status: TaskStatus | None, search: str | None
) -> tuple[list[Task], int]:
    """One page in order of creation, and the number of all that match; `search` is part of a name."""
    conditions = []
    if status is not None:
        conditions.append(task_state.c.status == status)
    if search:
        literal = search.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        conditions.append(tasks.c.name.ilike(f"%{literal}%", escape="\\"))
    total = connection.execute(select(func.count()).select_from(JOINED).where(*conditions)).scalar_one()
    page = SELECT_TASK.where(*conditions).order_by(tasks.c.created_at, tasks.c.id).offset(skip).limit(limit)
    return [task_of(row) for row in connection.execute(page).mappings()], total


def update_task(
    connection: Connection, task_id: UUID, changes: Mapping[str, Any], status: TaskStatus | None
) -> Task:
    """Apply a user's changes (fields of TaskDefinition, and the status); raises NotFound, InvalidSchedule.

    design/engine.md, Schedule: the next run is recomputed from now only when schedule, timezone or status
    really change, and a slot that was due and unclaimed then is recorded as `cancelled`.
    """
    lock_state(connection, task_id)
    task, now = (
        get_task(connection, task_id),
        connection.execute(select(func.statement_timestamp())).scalar_one(),
    )
    definition = replace(task.definition, **changes)
    new_status = task.status if status is None else status
    if definition == task.definition and new_status == task.status:
        return task

    state: dict[str, Any] = {"revision": task.revision + 1, "status": new_status}
    if new_status != task.status:
        state |= {"consecutive_failures": 0, "deactivated_at": None, "deactivated_reason": None}
    if (definition.schedule, definition.timezone, new_status) != (
        task.definition.schedule,
        task.definition.timezone,
        task.status,
    ):
        state["next_run_at"] = first_run(definition, new_status, now)
        if task.next_run_at is not None and task.next_run_at <= now:
            cancel_slot(connection, task, task.next_run_at, now)
    if new_status is TaskStatus.INACTIVE:
        cancel_waiting_runs(connection, task_id, now)

    connection.execute(
        update(tasks).where(tasks.c.id == task_id).values(updated_at=now, **asdict(definition))
    )
    connection.execute(update(task_state).where(task_state.c.task_id == task_id).values(**state))
    return get_task(connection, task_id)


def delete_task(connection: Connection, task_id: UUID) -> None:
    """Delete a task with its logs; raises NotFound.

    A long history is only hidden here (`deleted_tasks`) and removed by later ticks in batches.
    """
    lock_state(connection, task_id)
    connection.execute(delete(tasks).where(tasks.c.id == task_id))
    some = select(task_logs.c.id).where(task_logs.c.task_id == task_id).limit(LOGS_DELETED_AT_ONCE)
    deleted = connection.execute(delete(task_logs).where(task_logs.c.id.in_(some))).rowcount
    if deleted == LOGS_DELETED_AT_ONCE:
        connection.execute(insert(deleted_tasks).values(task_id=task_id))


def lock_state(connection: Connection, task_id: UUID) -> None:
    """Wait for a claim or a settle of this task to end; the definition is read after it, in a new snapshot."""
    lock = select(task_state.c.task_id).where(task_state.c.task_id == task_id).with_for_update()
    if connection.execute(lock).one_or_none() is None:
        raise no_such_task(task_id)


def first_run(definition: TaskDefinition, status: TaskStatus, now: datetime) -> datetime | None:
    if status is not TaskStatus.ACTIVE:
        return None
    slot = next_run(definition.schedule, definition.timezone, now)
    if slot is None:
        raise InvalidSchedule(f"Schedule '{definition.schedule}' never fires; choose a date that exists.")
    return slot


def cancel_slot(connection: Connection, task: Task, slot: datetime, now: datetime) -> None:
    connection.execute(
        insert_or_ignore(task_logs)
        .values(
            id=uuid4(),
            task_id=task.id,
            source=RunSource.SCHEDULE,
            status=RunStatus.CANCELLED,
            scheduled_for=slot,
            execution_time=slot,
            finished_at=now,
            retry_count=0,
            lost_leases=0,
            attempts=[],
            revision=task.revision,
            message="Not run: the task was changed when this slot was due.",
            created_at=now,
        )
        .on_conflict_do_nothing()
    )


def cancel_waiting_runs(connection: Connection, task_id: UUID, now: datetime) -> None:
    connection.execute(
        update(task_logs)
        .where(task_logs.c.task_id == task_id, task_logs.c.status == RunStatus.RETRYING)
        .values(
            status=RunStatus.CANCELLED,
            available_at=None,
            finished_at=now,
            message="Not retried: the task was set to inactive.",
        )
    )


def no_such_task(task_id: UUID) -> NotFound:
    return NotFound(f"There is no task with the id {task_id}.")


def task_of(row: RowMapping) -> Task:
    values = dict(row)
    definition = TaskDefinition(**{name: values.pop(name) for name in TaskDefinition.__slots__})
    return Task(definition=definition, **values | {"status": TaskStatus(values["status"])})
