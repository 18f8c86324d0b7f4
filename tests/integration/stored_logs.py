"""Logs as they are stored over the API, made in the database."""

from datetime import UTC, datetime
from uuid import uuid4

from sqlalchemy import Connection, text

ADD_LOGS = text("""
INSERT INTO task_logs
    (id, task_id, source, status, execution_time, retry_count, attempts, lost_leases, throttles, created_at)
SELECT gen_random_uuid(), :task_id, 'api', 'success', at, 0, '[]', 0, 0, at
FROM generate_series(1, :logs) n,
LATERAL (SELECT CAST(:newest AS timestamptz) - n * make_interval(secs => :seconds_apart) AS at) instants
""")
NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
TASK = uuid4()


def add(connection: Connection, logs: int, *, newest: datetime = NOON, seconds_apart: float = 700) -> None:
    """Successes of TASK, the newest of them so long before `newest`."""
    values = {"task_id": TASK, "logs": logs, "newest": newest, "seconds_apart": seconds_apart}
    connection.execute(ADD_LOGS, values)
