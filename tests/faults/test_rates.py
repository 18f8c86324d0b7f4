"""Ticks that share a rate, one of which dies: it is not exceeded, nothing is lost, and nobody else waits."""

from datetime import timedelta

import pytest

from domain.rate import by_host, parse_rates
from tests.faults.tick_process import Point
from tests.faults.trial import Trial

CALLS, SECONDS = 4, 1
TOLERANCE_SECONDS = 0.4
"""Beside the slack of a window: by so much more a busy machine may delay one call than another."""


@pytest.mark.parametrize(
    "point",
    [
        pytest.param(Point.CLAIM_WRITTEN, marks=pytest.mark.full_faults),
        Point.CLAIM_COMMITTED,
        pytest.param(Point.SENT, marks=pytest.mark.full_faults),
        pytest.param(Point.SETTLE_WRITTEN, marks=pytest.mark.full_faults),
    ],
)
def test_a_rate_is_kept_by_ticks_of_which_one_is_killed(trial: Trial, point: Point) -> None:
    host = trial.receiver.urls[0].split("/")[2]
    trial.rates = by_host(parse_rates(f"{host}={CALLS}/{SECONDS}s"))
    # with the minute that a slot may lose, less than 120 s ago when the last of them is called
    limited = set(trial.create_many_due(12, ago=timedelta(seconds=20)))
    doomed = trial.start_tick(point)
    doomed.wait_until_killed()
    trial.assert_calls_are_recorded()
    healthy = set(trial.create_many_due(20, destination=1))
    ticks = [trial.start_tick(budget_seconds=20) for _ in range(2)]
    assert all(tick.wait_until_returned() for tick in ticks)
    trial.recover()
    trial.assert_invariants(may_repeat=point not in (Point.CLAIM_WRITTEN, Point.CLAIM_COMMITTED))

    calls = trial.receiver.calls()
    arrivals = sorted(call.at for call in calls if call.task_id in limited)
    window = timedelta(seconds=SECONDS - TOLERANCE_SECONDS)
    assert len(arrivals) >= len(limited)
    assert max(sum(first <= at < first + window for at in arrivals) for first in arrivals) <= CALLS
    last_healthy = max(call.at for call in calls if call.task_id in healthy)
    assert sum(at > last_healthy for at in arrivals) >= CALLS
    assert set(trial.statuses()) == {"success"}
