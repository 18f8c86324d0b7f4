"""The design that Insignia began with: one call after the other, and a commit of SQLAlchemy's ORM for each webhook.

It is written as the documentation of requests, croniter and SQLAlchemy's ORM shows it, and shares no code with
Insignia of today. In its favour: objects do not expire on commit, which saves a SELECT for each webhook, and it writes
no log lines.
"""

import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import requests
from croniter import croniter
from sqlalchemy import JSON, DateTime, Engine, ForeignKey, create_engine, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import NullPool

from tests.bench.webhooks import Webhook

LATER = datetime(2100, 1, 1, tzinfo=UTC)


class Base(DeclarativeBase):
    type_annotation_map = {datetime: DateTime(timezone=True), Any: JSON}  # noqa: RUF012 - as documented


class Task(Base):
    __tablename__ = "tasks"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    schedule: Mapped[str]
    timezone: Mapped[str]
    webhook_url: Mapped[str]
    payload: Mapped[Any]
    max_retry: Mapped[int]
    status: Mapped[str]
    next_run_at: Mapped[datetime] = mapped_column(index=True)
    last_run_at: Mapped[datetime | None]


class TaskLog(Base):
    __tablename__ = "task_logs"

    id: Mapped[int] = mapped_column(primary_key=True)
    task_id: Mapped[int] = mapped_column(ForeignKey("tasks.id"), index=True)
    execution_time: Mapped[datetime]
    status: Mapped[str]
    retry_count: Mapped[int]
    message: Mapped[str]


def new_engine() -> Engine:
    return create_engine(os.environ["DATABASE_URL"], poolclass=NullPool)


def prepare(webhooks: Sequence[Webhook]) -> None:
    engine = new_engine()
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(
            Task(
                name=str(webhook.number),
                schedule=webhook.schedule,
                timezone=webhook.timezone,
                webhook_url=webhook.url,
                payload=webhook.payload,
                max_retry=3,
                status="active",
                next_run_at=LATER,
            )
            for webhook in webhooks
        )
        session.commit()


def make_due() -> None:
    with Session(new_engine()) as session:
        session.execute(update(Task).values(next_run_at=datetime.now(UTC)))
        session.commit()


@cache
def database() -> Engine:
    return create_engine(os.environ["DATABASE_URL"])


def run() -> None:
    with Session(database(), expire_on_commit=False) as session:
        now = datetime.now(UTC)
        due = select(Task).where(Task.status == "active", Task.next_run_at <= now).order_by(Task.next_run_at)
        for task in session.scalars(due).all():
            execute(session, task)


def execute(session: Session, task: Task) -> None:
    started_at = datetime.now(UTC)
    for retry in range(task.max_retry + 1):
        if retry:
            time.sleep(2 ** (retry - 1))
        try:
            response = requests.post(task.webhook_url, json=task.payload, timeout=10)
            response.raise_for_status()
            status, message = "success", f"HTTP {response.status_code}"
            break
        except requests.RequestException as error:
            status, message = "failed", str(error)
    session.add(
        TaskLog(task_id=task.id, execution_time=started_at, status=status, retry_count=retry, message=message)
    )
    slot = task.next_run_at.astimezone(ZoneInfo(task.timezone))
    task.next_run_at = croniter(task.schedule, slot).get_next(datetime)
    task.last_run_at = started_at
    if status == "failed":
        task.status = "inactive"
    session.commit()


def outcomes() -> list[tuple[int, str]]:
    with Session(new_engine()) as session:
        rows = session.execute(select(Task.name, TaskLog.status).join(TaskLog, TaskLog.task_id == Task.id))
        return [(int(name), status) for name, status in rows]
