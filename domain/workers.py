"""How many workers a tick wakes, beside itself, when more is due than it can deliver alone."""

import math

UNKNOWN_CALL_SECONDS = 1.0
"""What a call is reckoned at while none has been made."""

CALLS_A_SECOND = 2_000
"""More than this one instance with one CPU does not begin, however fast the receivers answer."""


def workers_to_wake(
    due: int, *, call_seconds: float | None, concurrency: int, budget_seconds: float, at_most: int
) -> int:
    """As many as it takes to deliver all of `due` within one budget, by how long the last calls took."""
    seconds = UNKNOWN_CALL_SECONDS if call_seconds is None else max(call_seconds, 0.001)
    calls_a_second = min(concurrency / seconds, CALLS_A_SECOND)
    delivered_by_one = max(calls_a_second * budget_seconds, 1)
    return min(max(math.ceil(due / delivered_by_one) - 1, 0), at_most)
