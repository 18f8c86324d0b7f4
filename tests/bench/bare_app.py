"""What a server of these parts costs at least: functions-framework, Flask, pydantic, SQLAlchemy over pg8000, one route.

It reads the same task by the same query as Insignia's `GET /tasks/{id}`, and shares no code with it.
"""

import os
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

import flask
from pydantic import BaseModel
from sqlalchemy import Engine, create_engine, text

QUERY = text("""
SELECT tasks.*, status, timeout_seconds, revision, next_run_at, last_run_at, last_status, consecutive_failures,
    deactivated_at, deactivated_reason
FROM tasks JOIN task_state ON task_id = id WHERE id = :id
""")


class Task(BaseModel):
    id: UUID
    name: str
    schedule: str | None
    timezone: str
    run_at: datetime | None
    start_at: datetime | None
    end_at: datetime | None
    webhook_url: str
    method: str
    headers: dict[str, str]
    payload: Any
    tags: list[str]
    success_statuses: str
    max_retry: int
    retry_on: str
    deactivate_after: int
    misfire_policy: str
    catchup_window_seconds: int
    overlap_policy: str
    created_at: datetime
    updated_at: datetime
    status: str
    timeout_seconds: int
    revision: int
    next_run_at: datetime | None
    last_run_at: datetime | None
    last_status: str | None
    consecutive_failures: int
    deactivated_at: datetime | None
    deactivated_reason: str | None


@cache
def database() -> Engine:
    return create_engine(os.environ["DATABASE_URL"])


def bare(request: flask.Request) -> flask.Response:
    with database().connect() as connection:
        row = connection.execute(QUERY, {"id": request.path.rpartition("/")[2]}).mappings().one()
    return flask.Response(Task.model_validate(dict(row)).model_dump_json(), mimetype="application/json")
