"""Notifications: what is told of a change, and when it is told again (docs/notifications.md)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from http import HTTPStatus
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from domain.attempt import Attempt
from domain.retry import retry_delay_seconds
from domain.run import Decision

EVERYBODY = ""
"""In place of a URL: the one that is told of all tasks, whatever it is when the call is made."""

TOLD_FOR = timedelta(days=1)
"""From the change on; what could not be told by then is dropped."""


class ChangeKind(StrEnum):
    """What is told. A streak is a task's scheduled runs with the same end, one after another."""

    FAILED = "task.failed"
    RECOVERED = "task.recovered"
    DEACTIVATED = "task.deactivated"
    MISSED = "task.missed"
    TICK_LATE = "tick.late"
    DIGEST = "digest"
    """Many changes at once."""


TOLD_ONE_BY_ONE = 3
"""So many changes that wait for one URL; more become a digest."""

SHOWN_IN_A_DIGEST = 20

IN_A_DIGEST = {
    ChangeKind.FAILED: "failed",
    ChangeKind.RECOVERED: "recovered",
    ChangeKind.DEACTIVATED: "deactivated",
    ChangeKind.MISSED: "missed slots",
    ChangeKind.TICK_LATE: "a late tick",
}
"""What a digest calls its changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Something that changed, to be told once, to `notify_url` if the task has one.

    `data` is what is told, in JSON, with a plain sentence as `message`; `id` if the same change may be found twice.
    """

    kind: ChangeKind
    happened_at: datetime
    data: Mapping[str, Any]
    notify_url: str | None = None
    id: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """A message that this process may send once, until its lease ends; `url` may be EVERYBODY.

    `number` counts attempts from 1, `claimed_at` is the beginning of this one by the clock of the database.
    """

    id: UUID
    lease_id: UUID
    url: str
    kind: ChangeKind
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


def change_of_task(
    kind: ChangeKind,
    at: datetime,
    *,
    task_id: str,
    task_name: str,
    notify_url: str | None,
    run_id: str,
    scheduled_for: datetime,
    status: str,
    message: str,
) -> Change:
    """A change that a run, or a slot that did not run, has made to its task."""
    data = {
        "task_id": task_id,
        "task_name": task_name,
        "run_id": run_id,
        "scheduled_for": instant(scheduled_for),
        "status": status,
        "message": message,
    }
    return Change(kind=kind, happened_at=at, data=data, notify_url=notify_url)


def change_of_run(decision: Decision, kind: ChangeKind, at: datetime) -> Change:
    """A change by the end of a run."""
    run = decision.run
    is_deactivation = kind is ChangeKind.DEACTIVATED
    return change_of_task(
        kind,
        at,
        task_id=run.task_id,
        task_name=run.task_name,
        notify_url=run.notify_url,
        run_id=run.id,
        scheduled_for=run.scheduled_for,
        status=decision.status,
        message=decision.deactivation_reason if is_deactivation else decision.message,
    )


def late_tick(last_tick_at: datetime, now: datetime) -> Change:
    """Since the last tick, which ended then, there was none for too long; the same for whoever finds it."""
    minutes = int((now - last_tick_at).total_seconds() // 60)
    data = {
        "last_tick_at": instant(last_tick_at),
        "message": f"There was no tick for {minutes} minutes: whatever was due meanwhile is late or missed.",
    }
    id = uuid5(NAMESPACE_URL, f"{ChangeKind.TICK_LATE} {instant(last_tick_at)}")
    return Change(kind=ChangeKind.TICK_LATE, happened_at=now, data=data, id=id)


def is_digested(waiting: Sequence[Notification]) -> bool:
    """Whether those that wait for a URL are told by a digest: never what may have been heard already, nor a digest."""
    first = waiting[0]
    return len(waiting) > TOLD_ONE_BY_ONE and first.number == 1 and first.kind is not ChangeKind.DIGEST


def digest_of(first: Sequence[Notification], counts: Mapping[str, int], until: datetime, id: UUID) -> Change:
    """What takes the place of all that waits for a URL: `counts` by kind, the last of them at `until`."""
    told = ", ".join(f"{counts[kind]:,} {name}" for kind, name in IN_A_DIGEST.items() if kind in counts)
    data = {
        "message": f"{sum(counts.values()):,} changes: {told}.",
        "counts": counts,
        "changes": [content(one) for one in first[:SHOWN_IN_A_DIGEST]],
    }
    return Change(
        kind=ChangeKind.DIGEST, happened_at=until, data=data, notify_url=first[0].url or None, id=id
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


def content(notification: Notification) -> dict[str, Any]:
    """`type`, `timestamp` and `data`, as Standard Webhooks recommends."""
    return {
        "type": notification.kind,
        "timestamp": instant(notification.happened_at),
        "data": notification.data,
    }


def instant(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
