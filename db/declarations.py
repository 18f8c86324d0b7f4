"""Statements that bring tasks to what a file declares."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from sqlalchemy import Connection, text

from db.tables import tasks
from db.tasks import SELECT_TASK, create_task, delete_task, task_of, update_task
from domain.declaration import Action, Change, Declaration, check_is_unambiguous, plan
from domain.errors import InvalidInput
from domain.task import Task, TaskStatus

ADVISORY_LOCK = 7_205_759_405
"""Any number but those of db/migrations.py and db/task_log_counts.py: two files at once would both create the task
that neither found.
"""


def apply_declarations(
    connection: Connection, declared: Sequence[Declaration], *, prune: bool, dry_run: bool
) -> list[Change]:
    """Create, change and, with `prune`, delete tasks; with `dry_run` all of it is undone again.

    Raises Conflict for ambiguous names, and InvalidInput that names the task.
    """
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": ADVISORY_LOCK})
    names = None if prune else [one.definition.name for one in declared]
    changes = plan(read_tasks(connection, names), declared, prune=prune)
    with connection.begin_nested() as savepoint:
        made = [_made(connection, change) for change in changes]
        if dry_run:
            savepoint.rollback()
            return changes
    return made


def declared_tasks(connection: Connection) -> list[Task]:
    """All tasks by name; raises Conflict when two have the same: no file could tell them apart."""
    found = read_tasks(connection, None)
    for task, following in pairwise(found):
        if task.definition.name == following.definition.name:
            check_is_unambiguous(task.definition.name, (task, following))
    return found


def read_tasks(connection: Connection, names: Sequence[str] | None) -> list[Task]:
    statement = SELECT_TASK.order_by(tasks.c.name, tasks.c.id)
    if names is not None:
        statement = statement.where(tasks.c.name.in_(names))
    return [task_of(row) for row in connection.execute(statement).mappings()]


def _made(connection: Connection, change: Change) -> Change:
    try:
        if change.action is Action.DELETE and change.id is not None:
            delete_task(connection, change.id)
        elif change.action is Action.UPDATE and change.id is not None:
            update_task(connection, change.id, change.definition_changes, change.status)
        elif change.action is Action.CREATE and change.declaration is not None:
            declaration = change.declaration
            status = declaration.status or TaskStatus.ACTIVE
            return replace(change, id=create_task(connection, declaration.definition, status).id)
    except InvalidInput as error:
        raise InvalidInput(f"Task '{change.name}': {error}") from error
    return change
