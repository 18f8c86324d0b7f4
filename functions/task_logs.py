"""/task-logs: what became of each run."""

from dataclasses import replace
from uuid import UUID

import db.task_logs
import db.tasks
from db.engine import Connection, transaction
from domain.run import RunStatus
from functions import manual_runs
from functions.bootstrap import database
from functions.idempotency import RunOnce
from functions.list_queries import TaskLogQuery, TaskLogsOfTaskQuery, page_of
from functions.paging import next_page_token
from functions.routing import Routes
from functions.schemas import (
    Done,
    Problem,
    TaskLog,
    TaskLogChanges,
    TaskLogCreate,
    TaskLogList,
)

routes = Routes("Task logs")


@routes.add("POST", "/task-logs/", status=201, location="/task-logs/{id}", errors={404: Problem})
def create_task_log(body: TaskLogCreate, connection: Connection) -> TaskLog:
    """Record an execution that something else made.

    It is stored with source `api` and changes nothing about the task.
    """
    return TaskLog.model_validate(
        db.task_logs.create_task_log(
            connection,
            task_id=body.task_id,
            execution_time=body.execution_time,
            status=RunStatus(body.status),
            retry_count=body.retry_count,
            message=body.message,
        )
    )


@routes.add("GET", "/task-logs/")
def list_task_logs(query: TaskLogQuery) -> TaskLogList:
    """List task logs, newest first.

    Paging is that of tasks: `skip` and `limit`, or `page_token`.
    """
    return page_of_logs(query, query.task_id)


@routes.add("GET", "/task-logs/task/{task_id}")
def list_task_logs_of_task(task_id: UUID, query: TaskLogsOfTaskQuery) -> TaskLogList:
    """List the logs of one task, newest first."""
    with transaction(database()) as connection:
        db.tasks.get_task(connection, task_id)
    return page_of_logs(query, task_id)


@routes.add("GET", "/task-logs/{task_log_id}")
def get_task_log(task_log_id: UUID) -> TaskLog:
    """Get a task log."""
    with transaction(database()) as connection:
        return TaskLog.model_validate(db.task_logs.get_task_log(connection, task_log_id))


@routes.add("PUT", "/task-logs/{task_log_id}", errors={409: Problem})
def update_task_log(task_log_id: UUID, body: TaskLogChanges) -> TaskLog:
    """Change a task log.

    Fields that are left out stay as they are, and read-only fields are ignored. A new status must be
    `success` or `failed`. 409 while the run is under way (`running`, `retrying`).
    """
    with transaction(database()) as connection:
        return TaskLog.model_validate(db.task_logs.update_task_log(connection, task_log_id, body.changes()))


@routes.add("DELETE", "/task-logs/{task_log_id}", errors={409: Problem})
def delete_task_log(task_log_id: UUID) -> Done:
    """Delete a task log.

    409 while the run is under way (`running`, `retrying`).
    """
    with transaction(database()) as connection:
        db.task_logs.delete_task_log(connection, task_log_id)
    return Done(message=f"Task log {task_log_id} was deleted.")


@routes.add(
    "POST", "/task-logs/{task_log_id}/retry", status=202, location="/task-logs/{id}", errors={409: Problem}
)
def retry_task_log(task_log_id: UUID, once: RunOnce) -> TaskLog:
    """Run what a task log tells of once more, whatever became of it.

    The answer is the log of a new run (source `manual`), with the same `scheduled_for` and with this log as its
    `retry_of`, after its first attempt; otherwise it is as `run_task`. It goes by the task as it is defined
    now. A log that was recorded over the API counts as scheduled for its execution time, one that stands for
    several slots is run once. 409 while its run, or another retry of it, is under way.
    """
    return TaskLog.model_validate(manual_runs.retry_log(task_log_id, once))


def page_of_logs(query: TaskLogsOfTaskQuery, task_id: UUID | None) -> TaskLogList:
    wanted = replace(query.wanted(), task_id=task_id)
    with transaction(database()) as connection:
        listing = db.task_logs.list_task_logs(connection, wanted, query.order_by, page_of(query))
    return TaskLogList(
        task_logs=[TaskLog.model_validate(log) for log in listing.items],
        total=listing.total,
        skip=query.skip,
        limit=query.limit,
        next_page_token=next_page_token(query.order_by, listing),
    )
