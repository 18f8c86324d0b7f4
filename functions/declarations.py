"""/tasks/export and /tasks/apply: tasks as code."""

import db.declarations
from db.engine import Connection, transaction
from functions.bootstrap import database
from functions.declared import Applied, TaskFile, TasksApply
from functions.routing import Routes
from functions.schemas import Problem

MAX_FILE_BYTES = 16 * 1024 * 1024

routes = Routes("Tasks")


@routes.add("GET", "/tasks/export", errors={409: Problem})
def export_tasks() -> TaskFile:
    """Export all tasks, by name, as POST /tasks/apply takes them.

    With its secrets, so that it can be applied elsewhere; to a token that may only read they are masked. 409 if
    two tasks have the same name.
    """
    with transaction(database()) as connection:
        return TaskFile.of(db.declarations.declared_tasks(connection))


@routes.add("POST", "/tasks/apply", errors={409: Problem}, max_body_bytes=MAX_FILE_BYTES)
def apply_tasks(body: TasksApply, connection: Connection) -> Applied:
    """Bring the tasks to what is sent, all of them or none.

    A task is known by its name: it is created, changed or left as it is, and with `prune` those of other names
    are deleted with their logs. Sent again, it changes nothing. `dry_run` tells what would be done. 409 if two
    tasks have a name that is sent.
    """
    changes = db.declarations.apply_declarations(
        connection, body.declarations(), prune=body.prune, dry_run=body.dry_run
    )
    return Applied.of(changes, dry_run=body.dry_run)
