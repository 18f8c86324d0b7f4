"""/tasks: what users define."""

from uuid import UUID

import db.tasks
from db.engine import Connection, transaction
from domain.run import sentence
from domain.task import TaskDefinition, TaskStatus
from functions import manual_runs
from functions.bootstrap import database
from functions.idempotency import RunOnce
from functions.list_queries import TaskQuery, page_of
from functions.paging import next_page_token
from functions.reports import TestedCall
from functions.routing import Routes
from functions.schemas import Done, Task, TaskChanges, TaskCreate, TaskList, TaskLog

Revisions = frozenset[int] | None
"""What If-Match accepts; None for any."""

routes = Routes("Tasks")


@routes.add("POST", "/tasks/", status=201, location="/tasks/{id}")
def create_task(body: TaskCreate, connection: Connection) -> Task:
    """Create a task.

    An active task runs first at the next time of its schedule.
    """
    return Task.of(db.tasks.create_task(connection, body.definition(), TaskStatus(body.status)))


@routes.add("GET", "/tasks/")
def list_tasks(query: TaskQuery) -> TaskList:
    """List tasks, in the order of their creation or another one.

    `skip` and `limit` cut out a page and come with the `total`. For long lists send `page_token`, empty at
    first, and follow `next_page_token`. A page ends early where it would be larger than 16 MiB.
    """
    with transaction(database()) as connection:
        listing = db.tasks.list_tasks(connection, query.wanted(), query.order_by, page_of(query))
    return TaskList(
        tasks=[Task.of(task) for task in listing.items],
        total=listing.total,
        skip=query.skip,
        limit=query.limit,
        next_page_token=next_page_token(query.order_by, listing),
    )


@routes.add("GET", "/tasks/{task_id}")
def get_task(task_id: UUID) -> Task:
    """Get a task."""
    with transaction(database()) as connection:
        return Task.of(db.tasks.get_task(connection, task_id))


@routes.add("PUT", "/tasks/{task_id}")
def update_task(task_id: UUID, body: TaskChanges, revisions: Revisions) -> Task:
    """Change a task.

    Fields that are left out stay as they are, and read-only fields are ignored, so that an answer can be
    edited and sent back. A new schedule, time zone or status counts from now; nothing is caught up.
    """
    status = body.changes().get("status")
    with transaction(database()) as connection:
        changes = body.definition_changes()
        return Task.of(db.tasks.update_task(connection, task_id, changes, status, revisions))


@routes.add("PATCH", "/tasks/{task_id}")
def patch_task(task_id: UUID, body: TaskChanges, revisions: Revisions) -> Task:
    """Change a task, exactly as PUT does."""
    return update_task(task_id, body, revisions)


@routes.add("DELETE", "/tasks/{task_id}")
def delete_task(task_id: UUID, revisions: Revisions) -> Done:
    """Delete a task and its logs.

    A call under way finishes; its result is dropped.
    """
    with transaction(database()) as connection:
        db.tasks.delete_task(connection, task_id, revisions)
    return Done(message=f"Task {task_id} and its logs were deleted.")


@routes.add("POST", "/tasks/{task_id}/run", status=202, location="/task-logs/{id}")
def run_task(task_id: UUID, once: RunOnce) -> TaskLog:
    """Run a task now, whatever its status.

    The answer is the log of this run (source `manual`) after its first attempt; if that has failed, later ticks
    retry it. The run changes no counter, no status and no next run of the task. If its destination has asked
    to be left alone (Retry-After), has as many calls as it may have, or was called as often as it may be, the
    first attempt is left to a tick. A repeated Idempotency-Key starts no second run: it is answered with the log
    of the first one, as it is by then.
    """
    return TaskLog.model_validate(manual_runs.run_task(task_id, once))


@routes.add("POST", "/tasks/test")
def test_task(body: TaskCreate) -> TestedCall:
    """Test a task before it is stored, by one call of its webhook.

    The call is that of a first attempt, with ids that are used for nothing else. Nothing is stored or retried,
    so that an Idempotency-Key has no meaning here. The answer is 200 whatever came of the call, and 503 if none
    was made because its destination was called as often as it may be (DESTINATION_RATES).
    """
    return call_once(body.definition(), TaskStatus(body.status))


def call_once(definition: TaskDefinition, status: TaskStatus) -> TestedCall:
    """What comes of one call as a task of this definition makes it; raises InvalidInput as `create_task` does."""
    attempt, headers = manual_runs.call_unstored(definition, status)
    return TestedCall(
        status="success" if attempt.succeeded else "failed",
        http_status=attempt.http_status,
        duration_ms=attempt.duration_ms,
        error=attempt.error,
        message=f"{sentence(attempt.message)}.",
        response_excerpt=attempt.response_excerpt,
        response_headers=headers,
    )
