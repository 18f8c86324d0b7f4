"""Insignia: the tick as production runs it, with its default settings and its JSON log."""

import json
import os
from collections.abc import Sequence
from uuid import uuid4

from sqlalchemy import text

from db.engine import Engine, make_engine, transaction
from db.migrations import upgrade
from db.tasks import create_task
from domain.task import TaskDefinition, TaskStatus
from functions import bootstrap
from functions.tick import tick
from tests.bench.webhooks import Webhook

COPY_TASKS = """
INSERT INTO tasks SELECT copy.* FROM tasks one, jsonb_array_elements(CAST(:tasks AS jsonb)) task,
    jsonb_populate_record(one, task) copy
WHERE one.id = :id
"""
COPY_STATES = """
INSERT INTO task_state SELECT copy.* FROM task_state one, tasks,
    jsonb_populate_record(one, jsonb_build_object(
        'task_id', tasks.id, 'destination', substring(webhook_url FROM '^https?://[^/]+')
    )) copy
WHERE one.task_id = :id AND tasks.id <> :id
"""


def engine() -> Engine:
    return make_engine(os.environ["DATABASE_URL"], pool_size=0, socket_timeout_seconds=60)


def prepare(webhooks: Sequence[Webhook]) -> None:
    """One task by the front door, the others as its copies."""
    upgrade(os.environ["DATABASE_URL"])
    first, *others = webhooks
    definition = TaskDefinition(
        name=str(first.number),
        schedule=first.schedule,
        timezone=first.timezone,
        webhook_url=first.url,
        payload=first.payload,
    )
    rows = [
        {
            "name": str(webhook.number),
            "schedule": webhook.schedule,
            "timezone": webhook.timezone,
            "webhook_url": webhook.url,
            "payload": webhook.payload,
        }
        for webhook in others
    ]
    with transaction(engine()) as connection:
        task = create_task(connection, definition, TaskStatus.ACTIVE)
        for row in rows:
            row["id"] = str(uuid4())
        connection.execute(text(COPY_TASKS), {"tasks": json.dumps(rows), "id": task.id})
        connection.execute(text(COPY_STATES), {"id": task.id})


def make_due() -> None:
    with transaction(engine()) as connection:
        connection.execute(text("UPDATE task_state SET next_run_at = statement_timestamp()"))


def run() -> None:
    bootstrap.start()
    tick()


def outcomes() -> list[tuple[int, str]]:
    statement = text("SELECT name::int, status FROM task_logs JOIN tasks ON tasks.id = task_id")
    with transaction(engine()) as connection:
        return [(number, status) for number, status in connection.execute(statement)]
