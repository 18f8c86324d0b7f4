"""Statements on ticks: their summaries, and what they clean up."""

from dataclasses import asdict
from datetime import datetime

from sqlalchemy import Connection, insert, text

from db.tables import ticks
from domain.summary import TickKind, TickSummary

DELETE_OLD_TICKS = text("DELETE FROM ticks WHERE started_at < statement_timestamp() - interval '7 days'")

DELETE_SOME_LOGS_OF_DELETED_TASKS = text("""
WITH batch AS MATERIALIZED (
    SELECT l.id FROM task_logs l JOIN deleted_tasks USING (task_id) LIMIT :limit
), deleted AS (
    DELETE FROM task_logs USING batch WHERE task_logs.id = batch.id
)
SELECT count(*) FROM batch
""")

FORGET_DELETED_TASKS = text("""
DELETE FROM deleted_tasks WHERE NOT EXISTS (
    SELECT FROM task_logs WHERE task_logs.task_id = deleted_tasks.task_id
)
""")


def read_clock(connection: Connection) -> datetime:
    """The database's clock, which is the only clock of the engine."""
    now: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    return now


def record_tick(connection: Connection, summary: TickSummary, started_at: datetime, kind: TickKind) -> None:
    """Keep the summary of a tick or a worker, and drop those that are older than 7 days."""
    finished_at = text("clock_timestamp()")
    row = {"kind": kind, "started_at": started_at, "finished_at": finished_at, **asdict(summary)}
    connection.execute(insert(ticks).values(row))
    connection.execute(DELETE_OLD_TICKS)


def delete_logs_of_deleted_tasks(connection: Connection, limit: int) -> bool:
    """Remove at most `limit` logs of deleted tasks; True when there may be more."""
    removed = connection.execute(DELETE_SOME_LOGS_OF_DELETED_TASKS, {"limit": limit}).scalar_one()
    if removed < limit:
        connection.execute(FORGET_DELETED_TASKS)
    return bool(removed == limit)
