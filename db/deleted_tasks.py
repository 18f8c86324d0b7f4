"""Statements that remove the logs of deleted tasks: some at once, a long history by ticks, in batches."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Connection, delete, insert, select, text

from db.tables import deleted_tasks

LOGS_DELETED_AT_ONCE = 1_000

DELETE_SOME_LOGS = text("""
DELETE FROM task_logs WHERE id = ANY (ARRAY(
    SELECT id FROM task_logs WHERE task_id BETWEEN :task_id AND :task_id
    ORDER BY task_id, created_at DESC, id DESC LIMIT :limit
))
""")
"""BETWEEN and the order by task leave only the index of the task's logs, as in db/task_logs.py."""


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
    """Remove at most `limit` logs of one deleted task that no other tick is at; True when there may be more.

    One, and its logs by its id as a value, because the planner knows how many rows one task has, but not how many
    those of a join have.
    """
    one = select(deleted_tasks.c.task_id).limit(1).with_for_update(skip_locked=True)
    task_id = connection.execute(one).scalar_one_or_none()
    if task_id is None:
        return False
    removed = connection.execute(DELETE_SOME_LOGS, {"task_id": task_id, "limit": limit}).rowcount
    if removed < limit:
        connection.execute(delete(deleted_tasks).where(deleted_tasks.c.task_id == task_id))
    return True
