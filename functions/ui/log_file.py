"""Logs as a file for spreadsheets: CSV (RFC 4180) in UTF-8 with a byte order mark, by which they know that it is.

docs/dashboard.md describes the columns. None of them holds a secret.
"""

import csv
import io
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from db.tasks import NamedTask
from domain.diagnosis import diagnose
from domain.run import TaskLog

MOST_EXPORTED = 10_000
BYTE_ORDER_MARK = "\ufeff"
FORMULA = re.compile(r"[=+\-@\t\r\n＝＋－＠]")
"""What a spreadsheet takes a text for a formula by (OWASP, CSV Injection); the wide forms count as the others."""

FIELDS = (
    "status",
    "source",
    "execution_time",
    "scheduled_for",
    "finished_at",
    "created_at",
    "duration_ms",
    "lateness_ms",
    "throttled_ms",
    "http_status",
    "error",
    "retry_count",
    "missed_count",
    "message",
)
"""Of a log, as the API calls them."""

COLUMNS = ("task_name", *FIELDS, "cause", "id", "task_id", "retry_of")


def csv_of(logs: Iterable[tuple[NamedTask, TaskLog]]) -> str:
    """A line for each log, below one with the names of the columns."""
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(COLUMNS)
    for task, log in logs:
        cause = diagnosis.cause if (diagnosis := diagnose(log)) else None
        fields = (getattr(log, name) for name in FIELDS)
        writer.writerow(map(cell, (task.name, *fields, cause, log.id, log.task_id, log.retry_of)))
    return BYTE_ORDER_MARK + file.getvalue()


def cell(value: Any) -> Any:
    """As spreadsheets read it: instants in UTC to the second, and no text as a formula."""
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    return f"'{value}" if isinstance(value, str) and FORMULA.match(value) else value


def file_name(task: NamedTask | None, narrowed_by: Iterable[str | None], now: datetime) -> str:
    """insignia-logs-daily-report-failed-20261224-1800.csv: whose they are, which of them, and from when."""
    words = ["insignia-logs", task.name if task else None, *narrowed_by, f"{now.astimezone(UTC):%Y%m%d-%H%M}"]
    slug = re.sub("[^a-z0-9]+", "-", "-".join(word[:40] for word in words if word).lower())
    return f"{slug}.csv"
