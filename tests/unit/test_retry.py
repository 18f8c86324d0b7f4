"""When a failed attempt is repeated."""

import pytest

from domain.retry import retry_delay_seconds


def test_retries_wait_1_2_4_and_8_seconds() -> None:
    assert [retry_delay_seconds(retry, 0) for retry in (1, 2, 3, 4)] == [1, 2, 4, 8]


def test_a_delay_never_exceeds_300_seconds_before_jitter() -> None:
    assert retry_delay_seconds(9, 0) == 256
    assert retry_delay_seconds(10, 0) == retry_delay_seconds(10_000, 0) == 300


@pytest.mark.parametrize("retry", range(1, 21))
def test_jitter_adds_up_to_a_tenth_and_is_never_early(retry: int) -> None:
    least = retry_delay_seconds(retry, 0)
    assert least <= retry_delay_seconds(retry, 0.5) <= retry_delay_seconds(retry, 0.999) < least * 1.1 + 0.001
