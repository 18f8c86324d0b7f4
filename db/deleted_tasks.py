"""Statements that remove the logs of deleted tasks: some at once, a long history by ticks, in batches."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Connection, insert, select, text

from db.tables import deleted_tasks

LOGS_DELETED_AT_ONCE = 1_000

SOME_LOGS = """
    SELECT id FROM task_logs WHERE task_id BETWEEN {task_id} AND {task_id}
    ORDER BY task_id, created_at DESC, id DESC LIMIT :limit"""
"""BETWEEN and the order by task leave only the index of the task's logs, as in db/task_logs.py."""

DELETE_SOME_LOGS = text(f"""
DELETE FROM task_logs WHERE id = ANY (ARRAY({SOME_LOGS.format(task_id="CAST(:task_id AS uuid)")}))
""")

DELETE_SOME_LOGS_OF_DELETED_TASKS = text(f"""
WITH batch AS MATERIALIZED (
    SELECT l.id FROM deleted_tasks d CROSS JOIN LATERAL ({SOME_LOGS.format(task_id="d.task_id")}) l LIMIT :limit
), deleted AS (
    DELETE FROM task_logs WHERE id = ANY (ARRAY(SELECT id FROM batch))
)
SELECT count(*) FROM batch
""")

FORGET_DELETED_TASKS = text("""
DELETE FROM deleted_tasks d WHERE (
    SELECT id FROM task_logs WHERE task_id BETWEEN d.task_id AND d.task_id
    ORDER BY task_id, created_at DESC, id DESC LIMIT 1
) IS NULL
""")


def read_deleted_tasks(connection: Connection) -> Sequence[UUID]:
    """The deleted tasks that still have logs, which nobody may see; hardly ever any.

    To be read before the logs: as a part of their statements it keeps the planner from what an index alone can tell.
    """
    return connection.execute(select(deleted_tasks.c.task_id)).scalars().all()


def delete_logs(connection: Connection, task_id: UUID) -> None:
    """Remove the logs of a task that has just been deleted; a long history is only hidden, and left to ticks."""
    values = {"task_id": task_id, "limit": LOGS_DELETED_AT_ONCE}
    if connection.execute(DELETE_SOME_LOGS, values).rowcount == LOGS_DELETED_AT_ONCE:
        connection.execute(insert(deleted_tasks).values(task_id=task_id))


def delete_logs_of_deleted_tasks(connection: Connection, limit: int) -> bool:
    """Remove at most `limit` logs of deleted tasks; True when there may be more."""
    removed = connection.execute(DELETE_SOME_LOGS_OF_DELETED_TASKS, {"limit": limit}).scalar_one()
    if removed < limit:
        connection.execute(FORGET_DELETED_TASKS)
    return bool(removed == limit)
