"""Databases with many tasks and logs: copies of one task and one log that came in by the front door."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Table, text

from db.engine import Connection, Engine, make_engine, transaction
from db.migrations import upgrade
from db.tables import task_logs, task_state, tasks
from db.task_logs import create_task_log
from db.tasks import create_task
from domain.run import RunStatus
from domain.task import TaskDefinition, TaskStatus

AT_ONCE = 100_000


def copies(table: Table, identity: str, changes: Mapping[str, str]) -> str:
    """A statement that copies the row `one` of a table for each number `n`, but for `changes`."""
    names = [column.name for column in table.columns]
    values = [changes.get(name, f"one.{name}") for name in names]
    return f"""
        INSERT INTO {table.name} ({", ".join(names)}) SELECT {", ".join(values)}
        FROM {table.name} one, generate_series(CAST(:first AS int), CAST(:last AS int)) n WHERE {identity}
    """  # noqa: S608


HOST = "'https://host-' || mod(n, 200) || '.example.com'"
IS_INACTIVE = "mod(n, 1000) = 999"
COPY_TASKS = copies(
    tasks,
    "one.id = :task_id",
    {
        "id": "md5('task' || n)::uuid",
        "name": "'Reminder ' || md5(n::text)",
        "tags": "ARRAY['often', 'team-' || mod(n, 1000)]",
        "created_at": "one.created_at - n * interval '1 s'",
        "webhook_url": f"{HOST} || '/hooks/' || n",
    },
)
COPY_STATES = copies(
    task_state,
    "one.task_id = :task_id",
    {
        "task_id": "md5('task' || n)::uuid",
        "destination": HOST,
        "status": f"CASE WHEN {IS_INACTIVE} THEN 'inactive' ELSE 'active' END",
        "next_run_at": f"CASE WHEN NOT {IS_INACTIVE} THEN one.next_run_at + n * interval '1 ms' END",
    },
)
BEGAN_AT = "one.created_at - n * CAST(:apart AS float) * interval '1 s'"
COPY_LOGS = copies(
    task_logs,
    "one.id = :log_id",
    {
        "id": "md5('log' || n)::uuid",
        "task_id": "CASE WHEN mod(n, 10) > 0 THEN md5('task' || 1 + mod(n, CAST(:tasks AS int)))::uuid"
        " ELSE one.task_id END",
        "source": "'schedule'",
        "status": "CASE WHEN mod(n, 100) IN (50, 99) THEN 'failed' ELSE 'success' END",
        "revision": "1",
        "duration_ms": "mod(n, 900)",
        **dict.fromkeys(("scheduled_for", "execution_time", "finished_at", "created_at"), BEGAN_AT),
    },
)
DAYS_OF_LOGS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """A database with so many tasks and logs; one in ten logs is of the task `talkative`."""

    engine: Engine
    tasks: int
    talkative: Any


def fill(url: str, *, tasks: int, logs: int) -> Filled:
    """Make the tables and the rows; none of the tasks is due for months.

    Two in a hundred logs are of failures, one in a thousand tasks is inactive; each has two tags, one of which all
    have, and a thousandth of them the other.
    """
    upgrade(url)
    engine = make_engine(url, pool_size=1, socket_timeout_seconds=600)
    with transaction(engine) as connection:
        schedule = f"0 0 1 {(datetime.now(UTC).month + 9) % 12 + 1} *"
        definition = TaskDefinition(
            name="Reminder", schedule=schedule, webhook_url="https://example.com/hooks", payload={"a": 1}
        )
        task_id = create_task(connection, definition, TaskStatus.ACTIVE).id
        log_id = create_task_log(
            connection,
            task_id=task_id,
            execution_time=datetime.now(UTC),
            status=RunStatus.SUCCESS,
            retry_count=0,
            message="The webhook answered HTTP 200 OK.",
        ).id
    copies: Mapping[str, Any] = {"task_id": task_id, "tasks": tasks - 1, "log_id": log_id}
    in_batches(engine, COPY_TASKS, tasks - 1, copies)
    in_batches(engine, COPY_STATES, tasks - 1, copies)
    in_batches(engine, COPY_LOGS, logs - 1, {**copies, "apart": DAYS_OF_LOGS * 86_400 / logs})
    return Filled(engine=engine, tasks=tasks, talkative=task_id)


def in_batches(engine: Engine, statement: str, number: int, values: Mapping[str, Any]) -> None:
    for first in range(1, number + 1, AT_ONCE):
        with transaction(engine) as connection:
            without_timeout(connection)
            some = {"first": first, "last": min(first + AT_ONCE - 1, number)}
            bound = {name: value for name, value in values.items() if f":{name}" in statement}
            connection.execute(text(statement), bound | some)


def without_timeout(connection: Connection) -> None:
    connection.execute(text("SET LOCAL statement_timeout = 0"))
