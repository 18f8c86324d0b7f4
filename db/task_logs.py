"""Statements on task logs for the API; db/slot_claims.py and db/settle.py hold the engine's."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    RowMapping,
    Select,
    case,
    cast,
    delete,
    exists,
    func,
    insert,
    select,
    update,
)

from db.tables import deleted_tasks, task_logs, tasks
from db.tasks import no_such_task
from domain.errors import Conflict, InvalidInput, NotFound
from domain.run import RunSource, RunStatus, TaskLog

UNDER_WAY = (RunStatus.RUNNING, RunStatus.RETRYING)

LATENESS_MS = case(
    (
        task_logs.c.source == RunSource.SCHEDULE,
        cast(
            func.extract("epoch", task_logs.c.execution_time - task_logs.c.scheduled_for) * 1000, BigInteger
        ),
    )
)
"""Null but for slots: a manual run is made when somebody asks for it."""

IS_VISIBLE = ~exists().where(deleted_tasks.c.task_id == task_logs.c.task_id)
"""The logs of a deleted task are gone for every reader, also while they wait for their removal."""

SELECT_TASK_LOG = select(
    *(task_logs.c[name] for name in TaskLog.__slots__ if name != "lateness_ms"),
    LATENESS_MS.label("lateness_ms"),
)


def create_task_log(
    connection: Connection,
    *,
    task_id: UUID,
    execution_time: datetime,
    status: RunStatus,
    retry_count: int,
    message: str | None,
) -> TaskLog:
    """Store a log that somebody else reports (source `api`); raises NotFound for an unknown task."""
    known = select(tasks.c.id).where(tasks.c.id == task_id).with_for_update(key_share=True, read=True)
    if connection.execute(known).one_or_none() is None:
        raise no_such_task(task_id)
    log_id = uuid4()
    connection.execute(
        insert(task_logs).values(
            id=log_id,
            task_id=task_id,
            source=RunSource.API,
            status=status,
            execution_time=execution_time,
            retry_count=retry_count,
            message=message,
            lost_leases=0,
            throttles=0,
            attempts=[],
            created_at=func.clock_timestamp(),
        )
    )
    return get_task_log(connection, log_id)


def get_task_log(connection: Connection, log_id: UUID) -> TaskLog:
    """The log; raises NotFound."""
    row = (
        connection.execute(SELECT_TASK_LOG.where(task_logs.c.id == log_id, IS_VISIBLE))
        .mappings()
        .one_or_none()
    )
    if row is None:
        raise NotFound(f"There is no task log with the id {log_id}.")
    return task_log_of(row)


def list_task_logs(
    connection: Connection, *, skip: int, limit: int, task_id: UUID | None, status: RunStatus | None
) -> tuple[list[TaskLog], int]:
    """One page, newest first, and the number of all that match."""
    conditions: list[ColumnElement[bool]] = [IS_VISIBLE]
    if task_id is not None:
        conditions.append(task_logs.c.task_id == task_id)
    if status is not None:
        conditions.append(task_logs.c.status == status)
    total = connection.execute(select(func.count()).select_from(task_logs).where(*conditions)).scalar_one()
    page: Select[Any] = (
        SELECT_TASK_LOG.where(*conditions)
        .order_by(task_logs.c.created_at.desc(), task_logs.c.id.desc())
        .offset(skip)
        .limit(limit)
    )
    return [task_log_of(row) for row in connection.execute(page).mappings()], total


def update_task_log(connection: Connection, log_id: UUID, changes: Mapping[str, Any]) -> TaskLog:
    """Correct a log that has ended.

    `changes` may hold status, message, retry_count and execution_time. Raises NotFound, Conflict while the
    run is under way, and InvalidInput for a status that only the engine gives.
    """
    log = get_task_log(connection, log_id)
    status = changes.get("status", log.status)
    if status != log.status and status not in (RunStatus.SUCCESS, RunStatus.FAILED):
        raise InvalidInput(f"status: only the engine sets '{status}'; use success or failed.")
    if changes:
        ended = update(task_logs).where(task_logs.c.id == log_id, task_logs.c.status.not_in(UNDER_WAY))
        if connection.execute(ended.values(**changes)).rowcount == 0:
            raise under_way(log_id)
    return get_task_log(connection, log_id)


def delete_task_log(connection: Connection, log_id: UUID) -> None:
    """Delete a log that has ended; raises NotFound, and Conflict while the run is under way."""
    get_task_log(connection, log_id)
    ended = delete(task_logs).where(task_logs.c.id == log_id, task_logs.c.status.not_in(UNDER_WAY))
    if connection.execute(ended).rowcount == 0:
        raise under_way(log_id)


def under_way(log_id: UUID) -> Conflict:
    return Conflict(f"The run {log_id} is under way; change or delete its log after it has ended.")


def task_log_of(row: RowMapping) -> TaskLog:
    values = dict(row)
    return TaskLog(**values | {"status": RunStatus(values["status"]), "source": RunSource(values["source"])})
