"""A run: the execution of one slot, from its claim to its end; its record is the task log."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from http import HTTPStatus
from typing import Any, NamedTuple
from uuid import UUID

from domain.attempt import Attempt, AttemptError
from domain.retry import MAX_THROTTLES, RetryOn, is_transient, retry_delay_seconds
from domain.task import Method

LEASE_MARGIN_SECONDS = 20
"""After its deadline and this, an attempt no longer belongs to its process, and another may take the run over."""

MAX_LOST_LEASES = 3


class RunStatus(StrEnum):
    """docs/engine.md, Statuses of a run."""

    RUNNING = "running"
    RETRYING = "retrying"
    SUCCESS = "success"
    FAILED = "failed"
    CANCELLED = "cancelled"
    MISSED = "missed"
    SKIPPED = "skipped"


class RunSource(StrEnum):
    """Who made a run: the schedule, a user by hand, or something else, which a user recorded."""

    SCHEDULE = "schedule"
    MANUAL = "manual"
    API = "api"


class AttemptOutcome(StrEnum):
    """How an attempt stands in a log; None there means that it is under way."""

    SUCCESS = "success"
    FAILED = "failed"
    THROTTLED = "throttled"
    UNKNOWN = "unknown"
    LATE = "late"


def trace_id(run_id: str) -> str:
    """Of W3C Trace Context, 32 hexadecimal digits: the same for all attempts of a run."""
    return run_id.replace("-", "")


def span_id(lease_id: str) -> str:
    """Of W3C Trace Context, 16 hexadecimal digits: another one for each attempt."""
    return lease_id[:8] + lease_id[9:13] + lease_id[14:18]


class ClaimedRun(NamedTuple):
    """A run that this process may attempt once, until its lease ends, and the definition it goes by.

    `number` counts attempts from 1; `lost_leases` of the earlier ones ended with their process, `throttles` were
    sent away with a Retry-After. `payload` is JSON in UTF-8. Ids are UUIDs in text, as PostgreSQL writes them:
    they are only passed on, and thousands would be parsed and written again.
    """

    id: str
    lease_id: str
    task_id: str
    scheduled_for: datetime
    started_at: datetime
    number: int
    lost_leases: int
    throttles: int
    destination: str
    task_name: str
    webhook_url: str
    method: Method
    headers: Mapping[str, str]
    payload: bytes
    signing_secrets: tuple[str, ...]
    timeout_seconds: int
    success_statuses: str
    max_retry: int
    retry_on: RetryOn
    deactivate_after: int
    notify_url: str | None

    @property
    def retries_used(self) -> int:
        return self.number - 1 - self.lost_leases - self.throttles

    @property
    def trace_id(self) -> str:
        return trace_id(self.id)

    @property
    def span_id(self) -> str:
        return span_id(self.lease_id)

    @property
    def is_last_chance(self) -> bool:
        """Whether the next lost lease ends it: it may be what its processes have died of."""
        return self.lost_leases + 1 >= MAX_LOST_LEASES


class Decision(NamedTuple):
    """What becomes of a run after an attempt: the row that a settle writes.

    `counts` says whether a failed run counts towards deactivation, `is_gone` that it deactivates its task at
    once. `delay_seconds` is set for a retry; `throttle_seconds` if the whole destination is to be left alone.
    """

    run: ClaimedRun
    attempt: Attempt
    status: RunStatus
    outcome: AttemptOutcome
    message: str
    delay_seconds: float | None = None
    throttle_seconds: float | None = None
    counts: bool = True
    is_gone: bool = False

    @property
    def deactivation_reason(self) -> str:
        """Why the task is deactivated, if this is the failure that does it."""
        if self.is_gone:
            return f"The webhook is gone (HTTP 410). {self.message}"
        runs = "a run" if self.run.deactivate_after == 1 else f"{self.run.deactivate_after} runs in a row"
        return f"Deactivated because {runs} failed. {self.message}"


def decide(run: ClaimedRun, attempt: Attempt, jitter: float) -> Decision:
    """End the run or let it be retried (docs/engine.md, Retries and Deactivation).

    A Retry-After is waited for without using up a retry, ten times a run. A run whose last answer was 429 does
    not count towards deactivation: shared egress addresses are throttled through no fault of the task.
    """
    if attempt.succeeded:
        message = f"{sentence(attempt.message)}."
        return Decision(run, attempt, RunStatus.SUCCESS, AttemptOutcome.SUCCESS, message)
    throttle = attempt.retry_after_seconds
    if throttle is not None and run.throttles < MAX_THROTTLES:
        delay = max(throttle, retry_delay_seconds(1, jitter))
        return Decision(
            run=run,
            attempt=attempt,
            status=RunStatus.RETRYING,
            outcome=AttemptOutcome.THROTTLED,
            message=f"Attempt {run.number} was put off: {attempt.message}. Next attempt in {delay:.0f} s.",
            delay_seconds=delay,
            throttle_seconds=throttle,
        )
    is_gone = attempt.http_status == HTTPStatus.GONE
    is_retried = run.retry_on is RetryOn.ALL or may_pass(attempt)
    if not is_gone and is_retried and run.retries_used < run.max_retry:
        delay = max(retry_delay_seconds(run.retries_used + 1, jitter), throttle or 0)
        return Decision(
            run=run,
            attempt=attempt,
            status=RunStatus.RETRYING,
            outcome=AttemptOutcome.FAILED,
            message=f"Attempt {run.number} failed: {attempt.message}. Next attempt in {delay:.0f} s.",
            delay_seconds=delay,
            throttle_seconds=throttle,
        )
    attempts = "1 attempt" if run.number == 1 else f"{run.number} attempts"
    return Decision(
        run=run,
        attempt=attempt,
        status=RunStatus.FAILED,
        outcome=AttemptOutcome.FAILED,
        message=f"Failed after {attempts}: {attempt.message}.",
        throttle_seconds=throttle,
        counts=attempt.http_status != HTTPStatus.TOO_MANY_REQUESTS,
        is_gone=is_gone,
    )


def may_pass(attempt: Attempt) -> bool:
    """Whether a failure is transient: an answer by its status, else anything but a refusal of our own."""
    if attempt.error is AttemptError.HTTP:
        return is_transient(attempt.http_status)
    return attempt.error is not AttemptError.BLOCKED


def sentence(clause: str) -> str:
    return clause[:1].upper() + clause[1:]


class TaskLogOrder(StrEnum):
    """How task logs are listed, by the time at which they were stored."""

    NEWEST = "-created_at"
    OLDEST = "created_at"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskLog:
    """The record of a run, as db/ reads it and the API shows it; instants are aware, in UTC.

    `attempts` are JSON objects with the fields of functions/schemas.py, Attempt.
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
    throttled_ms: int
    http_status: int | None
    error: str | None
    response_excerpt: str | None
    attempts: list[dict[str, Any]]
    missed_from: datetime | None
    missed_to: datetime | None
    missed_count: int | None
    retry_of: UUID | None
    created_at: datetime
