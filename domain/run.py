"""A run: the execution of one slot, from its claim to its end; its record is the task log."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from http import HTTPStatus
from typing import Any
from uuid import UUID

from domain.attempt import Attempt
from domain.retry import retry_delay_seconds
from domain.task import TIMEOUT_SECONDS

LEASE_SECONDS = TIMEOUT_SECONDS + 20
"""How long an attempt belongs to its process; after that another may take the run over."""

MAX_LOST_LEASES = 3


class RunStatus(StrEnum):
    """design/engine.md, Statuses of a run."""

    RUNNING = "running"
    RETRYING = "retrying"
    SUCCESS = "success"
    FAILED = "failed"
    CANCELLED = "cancelled"


class RunSource(StrEnum):
    SCHEDULE = "schedule"
    API = "api"


class AttemptOutcome(StrEnum):
    """How an attempt stands in a log; None there means that it is under way."""

    SUCCESS = "success"
    FAILED = "failed"
    UNKNOWN = "unknown"
    LATE = "late"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedRun:
    """A run that this process may attempt once, until its lease ends.

    `number` counts attempts from 1; `lost_leases` of the earlier ones ended with their process.
    """

    id: UUID
    lease_id: UUID
    task_id: UUID
    scheduled_for: datetime
    started_at: datetime
    number: int
    lost_leases: int
    task_name: str
    max_retry: int
    webhook_url: str
    payload: str

    @property
    def retries_used(self) -> int:
        return self.number - 1 - self.lost_leases


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What becomes of a run after an attempt: the row that a settle writes.

    `counts` says whether a failed run counts towards deactivation; `delay_seconds` is set for a retry.
    """

    run: ClaimedRun
    attempt: Attempt
    status: RunStatus
    delay_seconds: float | None
    counts: bool
    message: str


def decide(run: ClaimedRun, attempt: Attempt, jitter: float) -> Decision:
    """End the run or let it be retried (design/engine.md, Retries and Deactivation).

    A run whose last answer was 429 does not count: shared egress addresses are throttled through no fault
    of the task.
    """
    if attempt.succeeded:
        status, delay, message = RunStatus.SUCCESS, None, f"{sentence(attempt.message)}."
    elif run.retries_used < run.max_retry:
        status, delay = RunStatus.RETRYING, retry_delay_seconds(run.retries_used + 1, jitter)
        message = f"Attempt {run.number} failed: {attempt.message}. Next attempt in {delay:.0f} s."
    else:
        status, delay = RunStatus.FAILED, None
        message = (
            f"Failed after {run.number} {'attempt' if run.number == 1 else 'attempts'}: {attempt.message}."
        )
    return Decision(
        run=run,
        attempt=attempt,
        status=status,
        delay_seconds=delay,
        counts=attempt.http_status != HTTPStatus.TOO_MANY_REQUESTS,
        message=message,
    )


def sentence(clause: str) -> str:
    return clause[:1].upper() + clause[1:]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskLog:
    """The record of a run, as db/ reads it and the API shows it; instants are aware, in UTC.

    `attempts` are JSON objects with the keys of design/api.md, Task-log fields.
    """

    id: UUID
    task_id: UUID
    source: RunSource
    status: RunStatus
    scheduled_for: datetime | None
    execution_time: datetime
    finished_at: datetime | None
    retry_count: int
    message: str | None
    duration_ms: int | None
    lateness_ms: int | None
    http_status: int | None
    error: str | None
    response_excerpt: str | None
    attempts: list[dict[str, Any]]
    created_at: datetime
