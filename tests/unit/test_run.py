"""What becomes of a run after an attempt."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from domain.attempt import Attempt, AttemptError, answered
from domain.retry import RetryOn
from domain.run import ClaimedRun, RunStatus, decide
from domain.task import Method

SLOT = datetime(2026, 11, 23, 2, 28, tzinfo=UTC)
REFUSED = Attempt(
    duration_ms=3,
    http_status=None,
    error=AttemptError.CONNECT,
    message="the connection was refused or the host is unreachable",
    response_excerpt=None,
)


def run(number: int = 1, **fields: Any) -> ClaimedRun:
    known: dict[str, Any] = {
        "id": str(UUID(int=1)),
        "lease_id": str(UUID(int=2)),
        "task_id": str(UUID(int=3)),
        "scheduled_for": SLOT,
        "started_at": SLOT,
        "number": number,
        "lost_leases": 0,
        "throttles": 0,
        "destination": "https://hooks.example.com:443",
        "task_name": "Backup",
        "webhook_url": "https://hooks.example.com/backup",
        "method": Method.POST,
        "headers": {},
        "payload": b"{}",
        "signing_secrets": (),
        "timeout_seconds": 10,
        "success_statuses": "200-299",
        "max_retry": 3,
        "retry_on": RetryOn.ALL,
        "deactivate_after": 1,
        "notify_url": None,
    }
    return ClaimedRun(**known | fields)


def answer(status: int, retry_after: float | None = None) -> Attempt:
    return answered(
        status, duration_ms=12, success_statuses=(range(200, 300),), retry_after_seconds=retry_after
    )


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_a_2xx_answer_ends_the_run_as_a_success(status: int) -> None:
    decision = decide(run(), answer(status), 0)
    assert decision.status is RunStatus.SUCCESS
    assert decision.delay_seconds is None


@pytest.mark.parametrize("status", [100, 199, 300, 301, 302, 304, 307, 400, 404, 408, 429, 500, 503, 999])
def test_every_other_answer_is_a_failure(status: int) -> None:
    assert decide(run(), answer(status), 0).status is RunStatus.RETRYING


def test_a_redirect_is_not_followed_and_says_so() -> None:
    assert "redirects are not followed" in answer(302).message


def test_retries_are_delayed_with_backoff_until_max_retry_is_exhausted() -> None:
    decisions = [decide(run(number, max_retry=3), REFUSED, 0) for number in (1, 2, 3, 4)]
    assert [one.status for one in decisions] == ["retrying", "retrying", "retrying", "failed"]
    assert [one.delay_seconds for one in decisions] == [1, 2, 4, None]


def test_without_retries_the_first_failure_ends_the_run() -> None:
    assert decide(run(max_retry=0), REFUSED, 0).status is RunStatus.FAILED


def test_a_lost_lease_uses_up_no_retry() -> None:
    decision = decide(run(2, max_retry=1, lost_leases=1), REFUSED, 0)
    assert (decision.status, decision.delay_seconds) == (RunStatus.RETRYING, 1)


def test_a_run_that_ends_with_429_does_not_count_towards_deactivation() -> None:
    assert not decide(run(max_retry=0), answer(429), 0).counts
    assert decide(run(max_retry=0), answer(500), 0).counts


def test_the_message_is_a_sentence_with_the_cause() -> None:
    assert decide(run(), answer(204), 0).message == "The webhook answered HTTP 204 No Content."
    assert decide(run(2), answer(500), 0).message == (
        "Attempt 2 failed: the webhook answered HTTP 500 Internal Server Error. Next attempt in 2 s."
    )
    assert decide(run(max_retry=0), REFUSED, 0).message == (
        "Failed after 1 attempt: the connection was refused or the host is unreachable."
    )


def test_a_retry_after_is_waited_for_without_using_up_a_retry() -> None:
    decision = decide(run(max_retry=0), answer(429, retry_after=30), 0)
    assert (decision.status, decision.outcome) == ("retrying", "throttled")
    assert (decision.delay_seconds, decision.throttle_seconds) == (30, 30)


def test_a_retry_after_of_nothing_is_still_a_pause() -> None:
    assert decide(run(), answer(503, retry_after=0), 0).delay_seconds == 1


def test_only_ten_waits_for_a_retry_after_are_free() -> None:
    throttled = decide(run(11, throttles=10, max_retry=1), answer(429, retry_after=30), 0)
    assert (throttled.outcome, throttled.delay_seconds) == ("failed", 30)
    last = decide(run(12, throttles=10, max_retry=1), answer(429, retry_after=30), 0)
    assert (last.status, last.counts) == ("failed", False)


def test_410_ends_the_run_at_once_and_says_that_the_webhook_is_gone() -> None:
    decision = decide(run(max_retry=5), answer(410), 0)
    assert (decision.status, decision.is_gone) == ("failed", True)
    assert "gone" in decision.deactivation_reason


@pytest.mark.parametrize(
    ("status", "is_retried"), [(404, False), (408, True), (425, True), (429, True), (500, True)]
)
def test_retry_on_transient_retries_what_may_pass_by_itself(status: int, is_retried: bool) -> None:
    decision = decide(run(retry_on=RetryOn.TRANSIENT), answer(status), 0)
    assert (decision.status is RunStatus.RETRYING) == is_retried


@pytest.mark.parametrize(
    ("error", "is_retried"),
    [("connect", True), ("dns", True), ("timeout", True), ("tls", True), ("blocked", False)],
)
def test_retry_on_transient_retries_network_errors_but_no_refusal_of_our_own(
    error: str, is_retried: bool
) -> None:
    failure = REFUSED._replace(error=AttemptError(error), http_status=200)
    decision = decide(run(retry_on=RetryOn.TRANSIENT), failure, 0)
    assert (decision.status is RunStatus.RETRYING) == is_retried
