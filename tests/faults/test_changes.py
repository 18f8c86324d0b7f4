"""The world changes beside a tick: tasks while they are called, the clock of the process, three hours without ticks."""

from datetime import timedelta
from typing import Any

import pytest

from db.engine import transaction
from db.tasks import delete_task
from domain.task import MisfirePolicy, OverlapPolicy, TaskStatus
from tests.faults.tick_process import Fault, Point
from tests.faults.trial import Trial

DAY = timedelta(days=1)
HOURS_AWAY = timedelta(hours=3)


@pytest.mark.parametrize("fault", [None, Fault.KILL], ids=["", "and-the-tick-dies"])
def test_a_task_is_edited_deactivated_or_deleted_while_it_is_called(
    trial: Trial, fault: Fault | None
) -> None:
    """With a slot of each that is due and not claimed, because the first run is under way."""
    fields: dict[str, Any] = {
        "schedule": "* * * * *",
        "ago": timedelta(minutes=3),
        "misfire_policy": MisfirePolicy.RUN_ALL,
    }
    edited, deactivated, deleted = (trial.create_due("/hold", **fields) for _ in range(3))
    renamed = trial.create_due("/hold")
    tick = trial.start_tick(Point.ANSWER_READ if fault else None)
    trial.receiver.wait_for(4)
    trial.insignia.update(renamed.id, name="Another name", payload={"new": True})
    trial.end_slots(trial.insignia.update(edited.id, schedule="0 0 1 1 *"))
    trial.end_slots(trial.insignia.update(deactivated.id, TaskStatus.INACTIVE))
    with transaction(trial.insignia.engine) as connection:
        delete_task(connection, deleted.id)
    trial.receiver.release()
    if fault:
        tick.wait_until_killed()
    else:
        assert tick.wait_until_returned()
    trial.assert_calls_are_recorded()
    trial.recover()
    trial.assert_invariants(may_repeat=fault is not None)
    calls = [call.task_id for call in trial.receiver.calls()]
    assert calls.count(deleted.id) == calls.count(deactivated.id) == 1
    assert trial.insignia.logs(deleted.id) == []
    assert trial.insignia.task(edited.id).status == trial.insignia.task(renamed.id).status == "active"


@pytest.mark.parametrize(
    "ahead",
    [
        pytest.param(DAY, id="a-day-ahead"),
        pytest.param(-DAY, id="a-day-behind", marks=pytest.mark.full_faults),
    ],
)
def test_the_clock_of_the_process_does_not_matter(trial: Trial, ahead: timedelta) -> None:
    """Every instant comes from the database: what is due, when it is tried again, and for how long it is ours."""
    retried = trial.create_due("/fail/1", max_retry=1)
    due = trial.create_many_due(5)
    not_due = trial.create()
    before = trial.now()
    summary = trial.tick(budget_seconds=20, clock_ahead=ahead)
    after = trial.now()
    assert (summary.succeeded, summary.retrying) == (len(due) + 1, 1)
    assert 0 <= summary.lag_seconds < 120
    for log in trial.insignia.logs():
        assert log.finished_at is not None
        assert before < log.execution_time < log.finished_at < after
    assert trial.insignia.logs(not_due.id) == []
    assert trial.insignia.logs(retried.id)[0].retry_count == 1
    assert trial.insignia.execute("SELECT count(*) FROM ticks WHERE started_at BETWEEN :before AND :after",
                                  before=before, after=after).scalar_one() == 1  # fmt: skip

    trial.create_due()
    trial.start_tick(Point.SENT, clock_ahead=ahead).wait_until_killed()
    trial.tick(clock_ahead=ahead)
    assert trial.statuses().count("running") == 1, "a lease ends by the database's clock"
    trial.recover()
    trial.assert_invariants(may_repeat=True)


@pytest.mark.parametrize("policy", list(MisfirePolicy))
@pytest.mark.parametrize(
    "is_killed",
    [False, pytest.param(True, marks=pytest.mark.full_faults)],
    ids=["", "and-the-first-tick-dies"],
)
def test_three_hours_pass_without_a_tick(
    trial: Trial, policy: MisfirePolicy, is_killed: bool, is_full: bool
) -> None:
    """Every slot stands in one row; run_all makes up for the last 100 of them, run_once for the last one."""
    fields: dict[str, Any] = {"misfire_policy": policy, "ago": HOURS_AWAY}
    often = trial.create_due(schedule="* * * * *" if is_full else "*/20 * * * *", **fields)
    hourly = trial.create_due(schedule="7 * * * *", overlap_policy=OverlapPolicy.ALLOW, **fields)
    if is_killed:
        trial.start_tick(Point.CLAIM_COMMITTED).wait_until_killed()
        trial.assert_calls_are_recorded()
    trial.recover(budget_seconds=20)  # run_all makes its calls one after another
    trial.assert_invariants(may_repeat=is_killed)
    runs, hourly_runs = (trial.statuses([task.id]).count("success") for task in (often, hourly))
    match policy:
        case MisfirePolicy.SKIP:
            assert runs <= 4, "those of the last two minutes, and of the minutes in which this runs"
            assert hourly_runs <= 1
        case MisfirePolicy.RUN_ONCE:
            assert 1 <= runs <= 5
            assert 1 <= hourly_runs <= 2
        case MisfirePolicy.RUN_ALL:
            assert runs >= (100 if is_full else 9)
            assert hourly_runs >= 3
