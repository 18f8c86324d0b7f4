"""Several ticks at once, some of which die: every slot runs, none of them twice."""

from datetime import timedelta

import pytest

from domain.task import OverlapPolicy
from tests.faults.durable_receiver import SLOW_SECONDS
from tests.faults.tick_process import Fault, Point
from tests.faults.trial import Trial


def test_ticks_that_run_at_once_share_the_work(trial: Trial, is_full: bool) -> None:
    """Ten over 10,000 due tasks in the full suite."""
    ticks, tasks = (10, 10_000) if is_full else (4, 1_000)
    task_ids = trial.create_many_due(tasks, timeout_seconds=30)
    all_ticks = [trial.start_tick(per_destination=256, budget_seconds=120) for _ in range(ticks)]
    summaries = [tick.wait_until_returned() for tick in all_ticks]
    trial.recover(budget_seconds=40)
    trial.assert_invariants(may_repeat=False)
    assert len(trial.receiver.calls()) == len(task_ids) == tasks
    assert sum(summary.succeeded for summary in summaries if summary) == tasks


def test_ticks_that_run_at_once_share_the_places_of_a_destination(trial: Trial) -> None:
    """No call takes less than 0.2 s: those that begin within as long are under way at once."""
    tasks = trial.create_many_due(64, "/slow")
    ticks = [trial.start_tick(per_destination=8) for _ in range(4)]
    for tick in ticks:
        assert tick.wait_until_returned() is not None
    trial.assert_invariants(may_repeat=False)
    began = [call.at for call in trial.receiver.calls()]
    crowds = [sum(at <= one < at + timedelta(seconds=SLOW_SECONDS) for one in began) for at in began]
    assert (len(began), max(crowds)) == (len(tasks), 8)


def test_two_of_four_ticks_are_killed(trial: Trial, is_full: bool) -> None:
    """While the first calls are held, each of them has its share.

    The one that sends nothing has to be dead before calls end: until the others have settled these, all 64 places can
    be taken, and a tick that begins just then has nothing to do.
    """
    trial.create_many_due(2_000 if is_full else 300, "/hold")
    trial.create_many_due(50, "/fail/1", destination=1)
    points = (Point.CLAIM_COMMITTED, Point.ANSWER_READ, None, None)
    ticks = [trial.start_tick(point, concurrency=16) for point in points]
    trial.receiver.wait_for(3 * 16)
    ticks[0].wait_until_killed()
    trial.receiver.release()
    ticks[1].wait_until_killed()
    trial.assert_calls_are_recorded()
    for tick in ticks[2:]:
        assert tick.wait_until_returned()
    trial.recover()
    trial.assert_invariants(may_repeat=True)
    assert set(trial.statuses()) == {"success"}


def test_no_transaction_is_open_while_calls_are_in_flight(trial: Trial) -> None:
    """I4, as PostgreSQL sees it."""
    trial.create_many_due(20, "/hold")
    ticks = [trial.start_tick() for _ in range(2)]
    trial.receiver.wait_for(20)
    trial.until(
        lambda: not any(trial.open_transactions() for _ in range(50)),
        "nothing is due any more, and the ticks hold nothing while they wait",
    )
    trial.receiver.release()
    assert [tick.wait_until_returned() is not None for tick in ticks] == [True] * 2
    trial.recover()
    trial.assert_invariants(may_repeat=False)


def test_an_answer_that_comes_after_its_lease_is_recorded_and_changes_nothing(trial: Trial) -> None:
    """The tick that had read it was frozen; another one makes the next attempt just now."""
    task = trial.create_due("/hold/2")
    frozen = trial.start_tick(Point.ANSWER_READ, Fault.FREEZE)
    frozen.wait_until_frozen()
    trial.insignia.end_leases_and_waits()
    other = trial.start_tick()
    trial.receiver.wait_for(2)
    frozen.wake()
    late = frozen.wait_until_returned()
    assert late is not None
    assert (late.started, late.late) == (1, 1)
    assert trial.statuses() == ["running"]
    trial.assert_calls_are_recorded()
    trial.receiver.release()
    assert other.wait_until_returned() is not None
    trial.assert_invariants(may_repeat=True)
    (log,) = trial.insignia.logs(task.id)
    assert [attempt["outcome"] for attempt in log.attempts] == ["late", "success"]


def test_a_run_that_kills_its_tick_on_every_attempt_ends_as_failed_and_the_others_go_on(trial: Trial) -> None:
    poison = trial.create_due(max_retry=20)
    others = [trial.create_due() for _ in range(10)]
    trial.start_tick(Point.SENT, task_id=poison.id).wait_until_killed()
    for _ in range(2):
        trial.insignia.end_leases_and_waits()
        others.append(trial.create_due())
        trial.start_tick(Point.SENT, task_id=poison.id).wait_until_killed()
    trial.recover()
    trial.assert_invariants(may_repeat=True)
    (log,) = trial.insignia.logs(poison.id)
    assert (log.status, [attempt["outcome"] for attempt in log.attempts]) == ("failed", ["unknown"] * 3)
    assert trial.insignia.task(poison.id).status == "active"
    assert trial.statuses([task.id for task in others]) == ["success"] * len(others)


@pytest.mark.parametrize("is_hanging", [True, False], ids=["hanging", "failing"])
def test_a_sick_destination_does_not_hold_up_the_healthy_ones(
    trial: Trial, is_full: bool, is_hanging: bool
) -> None:
    """Every healthy call is made while the first calls of the sick destination are still waited for."""
    sick, healthy = (300, 500) if is_full else (100, 100)
    trial.create_many_due(
        sick, "/hang" if is_hanging else "/fail", destination=1, ago=timedelta(seconds=60), timeout_seconds=20
    )
    healthy_ids = set(trial.create_many_due(healthy))
    tick = trial.start_tick()

    def calls() -> tuple[int, int]:
        """To the healthy destination, and to the sick one."""
        made = trial.receiver.calls()
        to_healthy = sum(call.task_id in healthy_ids for call in made)
        return to_healthy, len(made) - to_healthy

    trial.until(lambda: calls()[0] == healthy and calls()[1] > 0, "all healthy calls are made", seconds=15)
    if is_hanging:
        assert calls()[1] <= 64, "DESTINATION_CONCURRENCY"
    tick.kill()
    trial.assert_calls_are_recorded()


def test_slots_that_overlap_are_claimed_once_by_many_ticks(trial: Trial) -> None:
    """A busy task with due slots in a row, and ticks that want each of them at once."""
    trial.create_due(schedule="* * * * *", ago=timedelta(minutes=20), misfire_policy="run_all")
    trial.create_due(schedule="* * * * *", ago=timedelta(minutes=20), overlap_policy=OverlapPolicy.ALLOW)
    trial.create_due(
        "/fail", schedule="* * * * *", ago=timedelta(minutes=20), misfire_policy="run_all", max_retry=0
    )
    ticks = [trial.start_tick(budget_seconds=15) for _ in range(4)]
    for tick in ticks:
        tick.wait_until_returned()
    trial.recover()
    trial.assert_invariants(may_repeat=False)
