"""What the database says about the tasks and runs of the stateful test."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from tests.faults.model import Row, State

STATE = [one.name for one in fields(State)]
READ_STATES = f"SELECT task_id, {', '.join(STATE)} FROM task_state"  # noqa: S608
READ_ROWS = f"SELECT {', '.join(one.name for one in fields(Row))} FROM task_logs ORDER BY scheduled_for"  # noqa: S608


def read(connection: Connection) -> tuple[dict[UUID, State], dict[UUID, list[Row]]]:
    states, rows = (connection.execute(text(query)).mappings().all() for query in (READ_STATES, READ_ROWS))
    return found(states, rows)


def found(
    states: Sequence[Mapping[Any, Any]], rows: Sequence[Mapping[Any, Any]]
) -> tuple[dict[UUID, State], dict[UUID, list[Row]]]:
    """The state and the rows of each task."""
    rows_of: dict[UUID, list[Row]] = {}
    for row in rows:
        rows_of.setdefault(row["task_id"], []).append(Row(**row))
    return {one["task_id"]: State(**{name: one[name] for name in STATE}) for one in states}, rows_of


def read_clock(connection: Connection) -> datetime:
    now: datetime = connection.execute(text("SELECT statement_timestamp()")).scalar_one()
    return now


def claimed_to(rows: Iterable[Row]) -> datetime | None:
    """The last slot that stands in a row."""
    return max((row.missed_to or row.scheduled_for for row in rows), default=None)
