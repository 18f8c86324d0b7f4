"""Notifications: what is told of a change, and when it is told again (docs/notifications.md)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from http import HTTPStatus
from typing import Any
from uuid import UUID

from domain.attempt import Attempt
from domain.retry import retry_delay_seconds
from domain.run import Decision, RunStatus

EVERYBODY = ""
"""In place of a URL: the one that is told of all tasks, whatever it is when the call is made."""

TOLD_FOR = timedelta(days=1)
"""From the change on; what could not be told by then is dropped."""


class ChangeKind(StrEnum):
    """What is told. A streak is a task's scheduled runs with the same end, one after another."""

    FAILED = "task.failed"
    RECOVERED = "task.recovered"
    DEACTIVATED = "task.deactivated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Something that changed, to be told once; `message` is a plain sentence, `notify_url` the task's own."""

    kind: ChangeKind
    happened_at: datetime
    message: str
    task_id: str
    task_name: str
    run_id: str
    scheduled_for: datetime
    status: RunStatus
    notify_url: str | None

    @property
    def data(self) -> dict[str, Any]:
        """As it is kept and told, in JSON."""
        return {
            "task_id": self.task_id,
            "task_name": self.task_name,
            "run_id": self.run_id,
            "scheduled_for": instant(self.scheduled_for),
            "status": self.status,
            "message": self.message,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """A message that this process may send once, until its lease ends; `url` may be EVERYBODY.

    `number` counts attempts from 1, `claimed_at` is the beginning of this one by the clock of the database.
    """

    id: UUID
    lease_id: UUID
    url: str
    kind: str
    happened_at: datetime
    claimed_at: datetime
    data: Mapping[str, Any]
    number: int


class Outcome(StrEnum):
    """How a notification ends."""

    SENT = "sent"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What came of an attempt to tell: an end, or another attempt after `delay_seconds`; `error` says why not."""

    notification: Notification
    outcome: Outcome | None
    delay_seconds: float = 0
    error: str | None = None
    was_sent: bool = True


def change_of_run(decision: Decision, kind: ChangeKind, at: datetime) -> Change:
    """A change by the end of a run."""
    run = decision.run
    is_deactivation = kind is ChangeKind.DEACTIVATED
    return Change(
        kind=kind,
        happened_at=at,
        message=decision.deactivation_reason if is_deactivation else decision.message,
        task_id=run.task_id,
        task_name=run.task_name,
        run_id=run.id,
        scheduled_for=run.scheduled_for,
        status=decision.status,
        notify_url=run.notify_url,
    )


def after_attempt(notification: Notification, attempt: Attempt | None, jitter: float) -> Told:
    """What follows an attempt: None was not sent, and another one is due at once.

    The waits are those of a task's retries; a Retry-After is waited for. `jitter` is in [0, 1).
    """
    if attempt is None:
        return Told(notification=notification, outcome=None, was_sent=False)
    if attempt.succeeded:
        return Told(notification=notification, outcome=Outcome.SENT)
    is_over = notification.claimed_at - notification.happened_at >= TOLD_FOR
    if is_over or attempt.http_status == HTTPStatus.GONE:
        return Told(notification=notification, outcome=Outcome.DROPPED, error=attempt.message)
    delay = retry_delay_seconds(notification.number, jitter)
    return Told(
        notification=notification,
        outcome=None,
        delay_seconds=max(delay, attempt.retry_after_seconds or 0),
        error=attempt.message,
    )


def message_body(notification: Notification) -> bytes:
    """The JSON that is sent: `type`, `timestamp` and `data`, as Standard Webhooks recommends."""
    message = {
        "type": notification.kind,
        "timestamp": instant(notification.happened_at),
        "data": notification.data,
    }
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()


def instant(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
