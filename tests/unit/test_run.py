"""What becomes of a run after an attempt."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from domain.attempt import Attempt, AttemptError, answered
from domain.run import ClaimedRun, RunStatus, decide

SLOT = datetime(2026, 11, 23, 2, 28, tzinfo=UTC)
REFUSED = Attempt(
    duration_ms=3,
    http_status=None,
    error=AttemptError.CONNECT,
    message="the connection was refused or the host is unreachable",
    response_excerpt=None,
)


def run(number: int = 1, *, max_retry: int = 3, lost_leases: int = 0) -> ClaimedRun:
    return ClaimedRun(
        id=UUID(int=1),
        lease_id=UUID(int=2),
        task_id=UUID(int=3),
        scheduled_for=SLOT,
        started_at=SLOT,
        number=number,
        lost_leases=lost_leases,
        task_name="Backup",
        max_retry=max_retry,
        webhook_url="https://hooks.example.com/backup",
        payload="{}",
    )


def answer(status: int) -> Attempt:
    return answered(status, duration_ms=12, response_excerpt=None)


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
