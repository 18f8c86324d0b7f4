"""Shorthand for tests of the engine on a real database."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from db.engine import transaction
from db.task_logs import list_task_logs
from db.tasks import create_task, get_task
from domain.run import TaskLog
from domain.summary import TickSummary
from domain.task import Task, TaskDefinition, TaskStatus
from functions.tick import run_tick

YEARLY = "0 0 1 1 *"
"""Only the slot that a test makes due is due: the next one is far away."""


class Insignia:
    """The engine and its database, without HTTP in front."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def create(self, webhook_url: str, *, status: TaskStatus = TaskStatus.ACTIVE, **fields: Any) -> Task:
        definition: dict[str, Any] = {
            "name": "A task",
            "schedule": YEARLY,
            "timezone": "UTC",
            "payload": {},
            "max_retry": 0,
        } | fields
        with transaction(self.engine) as connection:
            return create_task(connection, TaskDefinition(webhook_url=webhook_url, **definition), status)

    def create_due(self, webhook_url: str, **fields: Any) -> Task:
        """An active task whose slot is due now."""
        task = self.create(webhook_url, **fields)
        self.make_due(task.id)
        return self.task(task.id)

    def make_due(self, *task_ids: UUID, ago: timedelta = timedelta(0)) -> None:
        """Move next runs into the past; all tasks if none is named."""
        with transaction(self.engine) as connection:
            connection.execute(
                text(
                    "UPDATE task_state"
                    " SET next_run_at = date_trunc('minute', clock_timestamp() - CAST(:ago AS interval))"
                    " WHERE status = 'active' AND (task_id = ANY (CAST(:ids AS uuid[])) OR :all)"
                ),
                {"ago": ago, "ids": list(task_ids), "all": not task_ids},
            )

    def task(self, task_id: UUID) -> Task:
        with transaction(self.engine) as connection:
            return get_task(connection, task_id)

    def logs(self, task_id: UUID | None = None) -> list[TaskLog]:
        with transaction(self.engine) as connection:
            return list_task_logs(connection, skip=0, limit=1000, task_id=task_id, status=None)[0]

    def execute(self, statement: str, **values: Any) -> Any:
        with transaction(self.engine) as connection:
            return connection.execute(text(statement), values)

    def tick(self, *, budget_seconds: float = 30, concurrency: int = 256) -> TickSummary:
        return run_tick(self.engine, budget_seconds=budget_seconds, concurrency=concurrency)


@pytest.fixture
def insignia(engine: Engine) -> Insignia:
    return Insignia(engine)


def assert_adds_up(summary: TickSummary) -> None:
    """Invariant I5 of design/engine.md."""
    assert summary.started == (
        summary.succeeded
        + summary.failed
        + summary.retrying
        + summary.throttled
        + summary.cancelled
        + summary.late
        + summary.unsettled
    )
