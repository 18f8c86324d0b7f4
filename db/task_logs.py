"""Statements on task logs for the API; db/slot_claims.py and db/settle.py hold the engine's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Text,
    Uuid,
    all_,
    any_,
    case,
    cast,
    delete,
    exists,
    func,
    insert,
    literal,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY

from db.deleted_tasks import read_deleted_tasks
from db.engine import uuid_array
from db.paging import Common, Listed, Listing, Page, counted, json_bytes, left_out, read_page
from db.tables import deleted_tasks, task_logs, tasks
from db.task_log_counts import by_hour, find_hour, number_of_logs
from db.tasks import no_such_task
from domain.errors import Conflict, InvalidInput, NotFound
from domain.run import RunSource, RunStatus, TaskLog, TaskLogOrder

UNDER_WAY = (RunStatus.RUNNING, RunStatus.RETRYING)
UNDONE = (RunStatus.CANCELLED, RunStatus.MISSED, RunStatus.SKIPPED)

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


TASK_LOG_BYTES = (
    1_000
    + func.octet_length(cast(task_logs.c.attempts, Text))
    + func.coalesce(json_bytes(task_logs.c.message), 0)
    + func.coalesce(json_bytes(task_logs.c.response_excerpt), 0)
)


def task_log_of(row: Mapping[Any, Any]) -> TaskLog:
    values = dict(row)
    return TaskLog(**values | {"status": RunStatus(values["status"]), "source": RunSource(values["source"])})


LISTED = Listed(
    rows=SELECT_TASK_LOG, source=task_logs, counted=task_logs, size=TASK_LOG_BYTES, item_of=task_log_of
)

SUCCESSES = Common(
    task_logs.c.status == RunStatus.SUCCESS,
    [
        task_logs.c.status == RunStatus.FAILED,
        task_logs.c.status.in_(UNDONE),
        task_logs.c.status.in_(UNDER_WAY),
    ],
)
"""Failures by themselves: of one task they are counted in an index that has no others."""

SCHEDULED = Common(
    task_logs.c.source == RunSource.SCHEDULE, [task_logs.c.source.in_((RunSource.MANUAL, RunSource.API))]
)


FAR = 10_000
"""So many rows are passed by in an index in the time that it takes to find a place by the hours."""


RECENT_RUNS = text("""
SELECT wanted.task_id, (
    SELECT json_agg(json_build_array(status, duration_ms) ORDER BY created_at, id)
    FROM (
        SELECT status, duration_ms, created_at, id FROM task_logs
        WHERE task_logs.task_id BETWEEN wanted.task_id AND wanted.task_id
        ORDER BY task_id, created_at DESC, id DESC LIMIT :limit
    ) newest
) FROM unnest(CAST(:task_ids AS uuid[])) AS wanted (task_id)
""")
"""BETWEEN and the order by task leave only the index of the task's logs: with `=` the newest logs of all tasks are
walked through where few tasks have most of them, which for a task without logs is the whole table."""


@dataclass(frozen=True, slots=True)
class RecentRun:
    """What a sparkline shows of a log."""

    status: RunStatus
    duration_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskLogFilter:
    """Which logs; stored from `since` to before `until`."""

    task_id: UUID | None = None
    status: RunStatus | None = None
    source: RunSource | None = None
    since: datetime | None = None
    until: datetime | None = None


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
    connection: Connection, wanted: TaskLogFilter, order: TaskLogOrder, page: Page
) -> Listing[TaskLog]:
    """One page of the logs that match."""
    deleted = read_deleted_tasks(connection)
    if wanted.task_id in deleted:
        return Listing(items=[], total=None if page.is_by_cursor else 0, next=None)
    conditions: list[ColumnElement[bool]] = []
    common: list[Common] = []
    if wanted.since is not None:
        conditions.append(task_logs.c.created_at >= wanted.since)
    if wanted.until is not None:
        conditions.append(task_logs.c.created_at < wanted.until)
    is_of_all = True
    if wanted.status == RunStatus.SUCCESS:
        common.append(SUCCESSES)
    elif wanted.status is not None:
        conditions.append(task_logs.c.status == wanted.status)
        is_of_all = False
    if wanted.source == RunSource.SCHEDULE and wanted.task_id is None:
        common.append(SCHEDULED)
    elif wanted.source is not None:
        conditions.append(task_logs.c.source == wanted.source)
        is_of_all = False
    if wanted.task_id is not None:
        conditions.append(task_logs.c.task_id == wanted.task_id)
        is_of_all = False
    number = number_of_logs(wanted.since, wanted.until) if is_of_all else None
    total = counted(LISTED, conditions, common, number=number)
    listed = [*conditions, *(one.condition for one in common)]
    gone: list[ColumnElement[bool]] = []
    if deleted and wanted.task_id is None:
        hidden = cast(literal(uuid_array(deleted)), ARRAY(Uuid))
        gone = [*conditions, task_logs.c.task_id == any_(hidden)]
        total -= counted(LISTED, gone, common)
        listed.append(task_logs.c.task_id != all_(hidden))
    is_newest_first = order is TaskLogOrder.NEWEST
    if not conditions and page.skip >= FAR and not page.is_by_cursor:
        changes = [by_hour(-1, some) for some in left_out([], common)]
        if gone:
            changes += [by_hour(-1, gone), *(by_hour(1, some) for some in left_out(gone, common))]
        place = find_hour(connection, page.skip, changes, is_newest_first=is_newest_first)
        if place is not None:
            created_at, (edge, earlier) = task_logs.c.created_at, place
            listed.append(created_at < edge if is_newest_first else created_at >= edge)
            page = replace(page, skip=page.skip - earlier)
    return read_page(
        connection,
        LISTED,
        listed,
        page,
        order=task_logs.c.created_at,
        identity=task_logs.c.id,
        is_descending=is_newest_first,
        total=total,
    )


def read_recent_runs(
    connection: Connection, task_ids: Sequence[UUID], limit: int
) -> dict[UUID, list[RecentRun]]:
    """The newest logs of each of these tasks, at most `limit` of them, oldest first."""
    rows = connection.execute(RECENT_RUNS, {"task_ids": list(task_ids), "limit": limit})
    return {
        task_id: [RecentRun(RunStatus(status), duration_ms) for status, duration_ms in runs or ()]
        for task_id, runs in rows
    }


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
