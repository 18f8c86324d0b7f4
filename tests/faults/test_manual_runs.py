"""The process that makes a manual run dies, freezes or loses its connections: the run is rescued, or was never begun.

Before its row is committed nobody was called and nothing is left; from then on it is the engine's, as a slot is.
"""

from uuid import UUID

import pytest

from domain.task import Task, TaskStatus
from tests.faults.tick_process import Fault, Manual, Point
from tests.faults.trial import Trial

NOT_BEGUN = {Point.CLAIM_LOCKED, Point.CLAIM_WRITTEN}
BEFORE_THE_CALL = {*NOT_BEGUN, Point.CLAIM_ACKNOWLEDGEMENT_LOST, Point.CLAIM_COMMITTED, Point.BEFORE_SEND}
POINTS = [
    *(Point.CLAIM_LOCKED, Point.CLAIM_WRITTEN, Point.CLAIM_ACKNOWLEDGEMENT_LOST, Point.CLAIM_COMMITTED),
    *(Point.BEFORE_SEND, Point.PARTLY_SENT, Point.SENT, Point.ANSWER_READ),
    *(Point.BEFORE_SETTLE, Point.SETTLE_WRITTEN, Point.SETTLE_ACKNOWLEDGEMENT_LOST, Point.SETTLE_COMMITTED),
]
SAMPLE = {
    (Fault.FREEZE, Point.BEFORE_SEND),
    (Fault.FREEZE, Point.ANSWER_READ),
    (Fault.CUT, Point.SETTLE_ACKNOWLEDGEMENT_LOST),
}
FAULTS = [
    pytest.param(
        fault,
        point,
        id=f"{fault}-{point}".replace(" ", "-"),
        marks=[] if fault is Fault.KILL or (fault, point) in SAMPLE else [pytest.mark.full_faults],
    )
    for fault in Fault
    for point in POINTS
]


@pytest.mark.parametrize(("fault", "point"), FAULTS)
def test_a_manual_run_is_rescued_or_was_never_begun(trial: Trial, fault: Fault, point: Point) -> None:
    """Of a task that is inactive: no tick would run it otherwise."""
    task = trial.create(status=TaskStatus.INACTIVE, payload="x" * 250_000)
    befall(trial, fault, point, Manual(task_id=task.id))
    trial.recover()
    trial.assert_invariants(may_repeat=point not in BEFORE_THE_CALL)
    assert trial.statuses() == ([] if point in NOT_BEGUN else ["success"])
    assert bool(trial.receiver.calls()) is (point not in NOT_BEGUN)
    assert trial.insignia.task(task.id) == task


@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.replace(" ", "-"))
def test_a_retry_is_rescued_or_was_never_begun_and_its_log_stays_as_it_is(trial: Trial, point: Point) -> None:
    task, log_id = trial_run(trial)
    log, before = trial.insignia.log(log_id), trial.insignia.task(task.id)
    befall(trial, Fault.KILL, point, Manual(log_id=log_id))
    trial.recover()
    trial.assert_invariants(may_repeat=point not in BEFORE_THE_CALL)
    retries = [one for one in trial.insignia.logs(task.id) if one.retry_of == log_id]
    assert [one.status for one in retries] == ([] if point in NOT_BEGUN else ["success"])
    assert {one.scheduled_for for one in retries} <= {log.scheduled_for}
    assert trial.insignia.log(log_id) == log
    assert trial.insignia.task(task.id) == before


@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.replace(" ", "-"))
def test_a_killed_request_that_is_repeated_with_its_key_makes_one_run(trial: Trial, point: Point) -> None:
    """The key is committed with the row of the run: with it, or not at all."""
    task = trial.create(payload="x" * 250_000)
    manual = Manual(task_id=task.id, key="a-key")
    befall(trial, Fault.KILL, point, manual)
    trial.start_tick(manual=manual).wait_until_returned()
    trial.recover()
    trial.start_tick(manual=manual).wait_until_returned()
    trial.assert_invariants(may_repeat=point not in BEFORE_THE_CALL)
    assert trial.statuses() == ["success"]


def trial_run(trial: Trial) -> tuple[Task, UUID]:
    """A task, and the log of a slot of it that has run."""
    task = trial.create_due(payload="x" * 250_000)
    trial.tick()
    (log,) = trial.insignia.logs(task.id)
    return task, log.id


def befall(trial: Trial, fault: Fault, point: Point, manual: Manual) -> None:
    """A process makes the run, and comes to the point; what must hold at any moment holds then."""
    process = trial.start_tick(point, fault, manual=manual)
    if fault is Fault.KILL:
        process.wait_until_killed()
    elif fault is Fault.FREEZE:
        process.wait_until_frozen()
        trial.end_idle_transactions()
        trial.recover()
        trial.assert_calls_are_recorded()
        process.wake()
        process.wait_until_returned()
    else:
        process.wait_until_returned()
    trial.assert_calls_are_recorded()
