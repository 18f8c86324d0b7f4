"""When a failed attempt is repeated."""

import pytest

from domain.retry import is_transient, retry_delay_seconds


def test_retries_wait_1_2_4_and_8_seconds() -> None:
    assert [retry_delay_seconds(retry, 0) for retry in (1, 2, 3, 4)] == [1, 2, 4, 8]


def test_a_delay_never_exceeds_300_seconds_before_jitter() -> None:
    assert retry_delay_seconds(9, 0) == 256
    assert retry_delay_seconds(10, 0) == retry_delay_seconds(10_000, 0) == 300


@pytest.mark.parametrize("retry", range(1, 21))
def test_jitter_adds_up_to_a_tenth_and_is_never_early(retry: int) -> None:
    least = retry_delay_seconds(retry, 0)
    assert least <= retry_delay_seconds(retry, 0.5) <= retry_delay_seconds(retry, 0.999) < least * 1.1 + 0.001


@pytest.mark.parametrize("http_status", [None, 408, 425, 429, 500, 502, 503, 504, 599])
def test_a_failure_that_may_pass_by_itself_is_transient(http_status: int | None) -> None:
    assert is_transient(http_status)


@pytest.mark.parametrize("http_status", [200, 301, 400, 401, 403, 404, 409, 410, 413, 422, 499, 600, 999])
def test_any_other_answer_is_not_transient(http_status: int) -> None:
    assert not is_transient(http_status)
