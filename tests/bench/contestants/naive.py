"""A loop of requests.post, in one thread, with plain SQL: one INSERT, one UPDATE and one commit for each webhook.

The shortest scheduler that one would write by hand; it shares no code with Insignia.
"""

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

import pg8000.native
import requests
from croniter import croniter

from tests.bench.webhooks import Webhook

TABLES = """
CREATE TABLE tasks (
    id int PRIMARY KEY, schedule text NOT NULL, timezone text NOT NULL, webhook_url text NOT NULL,
    payload json NOT NULL, next_run_at timestamptz
);
CREATE INDEX ON tasks (next_run_at);
CREATE TABLE task_logs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, task_id int NOT NULL, status text NOT NULL,
    message text NOT NULL, execution_time timestamptz NOT NULL
);
CREATE INDEX ON task_logs (task_id)
"""


@cache
def database() -> pg8000.native.Connection:
    url = urlsplit(os.environ["DATABASE_URL"])
    (socket,) = parse_qs(url.query)["unix_sock"]
    return pg8000.native.Connection(user=url.username or "", database=url.path[1:], unix_sock=socket)


def prepare(webhooks: Sequence[Webhook]) -> None:
    for statement in TABLES.split(";"):
        database().run(statement)
    for webhook in webhooks:
        database().run(
            "INSERT INTO tasks VALUES (:number, :schedule, :timezone, :url, CAST(:payload AS json), NULL)",
            number=webhook.number,
            schedule=webhook.schedule,
            timezone=webhook.timezone,
            url=webhook.url,
            payload=json.dumps(webhook.payload),
        )


def make_due() -> None:
    database().run("UPDATE tasks SET next_run_at = now()")


def run() -> None:
    due = database().run(
        "SELECT id, schedule, timezone, webhook_url, payload, next_run_at FROM tasks WHERE next_run_at <= now()"
    )
    for task, schedule, timezone, url, payload, slot in due:
        started_at = datetime.now(UTC)
        try:
            response = requests.post(url, json=payload, timeout=10)
            status, message = "success" if response.ok else "failed", f"HTTP {response.status_code}"
        except requests.RequestException as error:
            status, message = "failed", str(error)
        next_run = croniter(schedule, slot.astimezone(ZoneInfo(timezone))).get_next(datetime)
        database().run("BEGIN")
        database().run(
            "INSERT INTO task_logs (task_id, status, message, execution_time) VALUES (:task, :status, :message, :at)",
            task=task,
            status=status,
            message=message,
            at=started_at,
        )
        database().run("UPDATE tasks SET next_run_at = :next WHERE id = :task", next=next_run, task=task)
        database().run("COMMIT")


def outcomes() -> list[tuple[int, str]]:
    return [(task, status) for task, status in database().run("SELECT task_id, status FROM task_logs")]
