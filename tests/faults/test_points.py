"""A tick or a worker dies, freezes or loses its connections at each named point: nothing is lost or runs twice.

The only exception is the one that is promised (docs/engine.md, Identity of a delivery): a call may be repeated
when its tick died, or lost its lease, between the POST and the commit.
"""

from datetime import timedelta

import pytest

from domain.summary import TickKind
from domain.task import OverlapPolicy, TaskStatus
from tests.faults.tick_process import Fault, Point
from tests.faults.trial import SHORT_BUDGET_SECONDS, Trial

BEFORE_ANY_CALL = {
    Point.IN_THE_SWEEP,
    Point.RETRY_LOCKED,
    Point.RETRY_CLAIMED,
    Point.RETRY_COMMITTED,
    Point.CLAIM_LOCKED,
    Point.CLAIM_WRITTEN,
    Point.CLAIM_ACKNOWLEDGEMENT_LOST,
    Point.CLAIM_COMMITTED,
    Point.BEFORE_SEND,
}
WHILE_RETRIES_GO_ON = {
    Point.CLAIM_LOCKED,
    Point.CLAIM_WRITTEN,
    Point.CLAIM_ACKNOWLEDGEMENT_LOST,
    Point.CLAIM_COMMITTED,
}
"""Retries are claimed before slots, and called while the database works on those."""

SAMPLE = {
    (Fault.FREEZE, Point.CLAIM_COMMITTED),
    (Fault.FREEZE, Point.BEFORE_SEND),
    (Fault.CUT, Point.SETTLE_WRITTEN),
    (Fault.CUT, Point.SETTLE_ACKNOWLEDGEMENT_LOST),
}
SAMPLE_OF_WORKERS = {(Fault.KILL, Point.CLAIM_COMMITTED), (Fault.KILL, Point.SENT)}


def is_in_the_sample(kind: TickKind, fault: Fault, point: Point) -> bool:
    if kind is TickKind.WORKER:
        return (fault, point) in SAMPLE_OF_WORKERS
    return fault is Fault.KILL or (fault, point) in SAMPLE


FAULTS = [
    pytest.param(
        kind,
        fault,
        point,
        id=f"{kind}-{fault}-{point}".replace(" ", "-"),
        marks=[] if is_in_the_sample(kind, fault, point) else [pytest.mark.full_faults],
    )
    for kind in TickKind
    for fault in Fault
    for point in Point
]


@pytest.mark.parametrize(("kind", "fault", "point"), FAULTS)
def test_nothing_is_lost_and_nothing_runs_twice(
    trial: Trial, kind: TickKind, fault: Fault, point: Point
) -> None:
    prepare_every_kind_of_work(trial)
    budget_seconds = 20 if point is Point.IN_THE_WAIT else SHORT_BUDGET_SECONDS
    if fault is Fault.FREEZE:
        budget_seconds = 50
    tick = trial.start_tick(point, fault, kind=kind, budget_seconds=budget_seconds)
    if fault is Fault.KILL:
        tick.wait_until_killed()
    elif fault is Fault.FREEZE:
        tick.wait_until_frozen()
        trial.end_idle_transactions()
        trial.recover()
        trial.assert_calls_are_recorded()
        tick.wake()
        tick.wait_until_returned()
    else:
        tick.wait_until_returned()
    trial.assert_calls_are_recorded()
    trial.recover()
    trial.assert_invariants(
        may_repeat=point not in BEFORE_ANY_CALL, may_repeat_retries=point in WHILE_RETRIES_GO_ON
    )


def prepare_every_kind_of_work(trial: Trial) -> None:
    """What a tick may find: fresh slots, a retry, a lost run, what the sweep ends, a failure that deactivates."""
    insignia = trial.insignia

    lost_too_often = trial.create_due()
    insignia.claim()
    for _ in range(2):
        insignia.end_leases_and_waits()
        insignia.claim_due_runs()
    lost, switched_off = trial.create_due(), trial.create_due()
    insignia.claim()
    insignia.update(switched_off.id, TaskStatus.INACTIVE)
    trial.create_due("/fail/1")
    trial.tick()

    for _ in range(4):
        trial.create_due()
    trial.create_due("/ok", payload="x" * 250_000)
    trial.create_due("/fail/1", max_retry=1)
    trial.create_due("/gone", overlap_policy=OverlapPolicy.ALLOW)
    trial.create_due(
        "/fail",
        schedule="* * * * *",
        ago=timedelta(minutes=4),
        overlap_policy=OverlapPolicy.ALLOW,
        max_retry=0,
    )
    insignia.end_leases_and_waits()
    assert {lost_too_often.id, lost.id, switched_off.id} <= set(trial.due)
