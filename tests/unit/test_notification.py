"""When a notification is sent again, and when no more; what is told of many, and of a late tick."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from domain.attempt import Attempt, answered
from domain.notification import (
    TOLD_FOR,
    ChangeKind,
    Notification,
    Outcome,
    after_attempt,
    is_digested,
    late_tick,
)

AT = datetime(2026, 11, 30, 13, 45, 2, tzinfo=UTC)
FIRST = Notification(
    id=UUID(int=1),
    lease_id=UUID(int=2),
    url="",
    kind=ChangeKind.FAILED,
    happened_at=AT,
    claimed_at=AT,
    data={},
    number=1,
)


def answer(status: int, retry_after: float | None = None) -> Attempt:
    return answered(
        status, duration_ms=1, success_statuses=[range(200, 300)], retry_after_seconds=retry_after
    )


@pytest.mark.parametrize(("number", "delay"), [(1, 1), (2, 2), (3, 4), (9, 256), (10, 300), (200, 300)])
def test_it_is_sent_again_after_the_waits_of_a_retry(number: int, delay: float) -> None:
    told = after_attempt(replace(FIRST, number=number), answer(500), 0)
    assert (told.outcome, told.delay_seconds) == (None, delay)
    assert told.error == "the webhook answered HTTP 500 Internal Server Error"


def test_a_retry_after_is_waited_for_but_shortens_nothing() -> None:
    assert after_attempt(FIRST, answer(429, retry_after=90), 0).delay_seconds == 90
    assert after_attempt(replace(FIRST, number=10), answer(429, retry_after=90), 0).delay_seconds == 300


@pytest.mark.parametrize(
    ("status", "age", "outcome"),
    [
        (204, timedelta(days=9), Outcome.SENT),
        (500, TOLD_FOR - timedelta(seconds=1), None),
        (500, TOLD_FOR, Outcome.DROPPED),
        (410, timedelta(0), Outcome.DROPPED),
        (404, timedelta(0), None),
    ],
)
def test_it_ends_when_it_is_taken_or_after_a_day_or_with_a_410(
    status: int, age: timedelta, outcome: Outcome | None
) -> None:
    assert after_attempt(replace(FIRST, claimed_at=AT + age), answer(status), 0).outcome == outcome


def test_what_was_not_sent_is_due_at_once_and_no_attempt() -> None:
    told = after_attempt(FIRST, None, 0)
    assert (told.outcome, told.delay_seconds, told.was_sent) == (None, 0, False)


def test_more_than_three_are_a_digest_unless_the_first_may_have_been_heard() -> None:
    assert not is_digested([FIRST] * 3)
    assert is_digested([FIRST] * 4)
    assert not is_digested([replace(FIRST, number=2), *[FIRST] * 4])


def test_a_digest_that_was_not_sent_is_told_as_it_is() -> None:
    assert not is_digested([replace(FIRST, kind=ChangeKind.DIGEST), *[FIRST] * 4])


def test_whoever_finds_that_a_tick_was_late_finds_the_same() -> None:
    one, other = (late_tick(AT, AT + timedelta(minutes=minutes)) for minutes in (5, 6))
    assert one.id == other.id != late_tick(AT + timedelta(seconds=1), AT + timedelta(minutes=5)).id
