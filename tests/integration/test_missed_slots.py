"""Slots that nobody claimed in time: what runs, what is missed, and what the rows say."""

import threading
from datetime import datetime, timedelta
from typing import Any

import pytest

from db.engine import transaction
from db.slot_claims import Plan, claim_long_late_slots, plan_long_late_slots
from db.tasks import delete_task
from domain.misfire import CatchUp, catch_up
from domain.run import ClaimedRun, RunStatus
from domain.task import MisfirePolicy, OverlapPolicy, Task, TaskStatus
from tests.integration.conftest import Insignia, assert_adds_up, room
from tests.receiver import Answer, Received, Receiver

NOWHERE = "http://127.0.0.1:9/"
EVERY = [pytest.param(10, id="within the hour"), pytest.param(60, id="longer than an hour")]
"""Minutes between slots; four of them are planned in the transaction that claims, or before it."""


def create_late(
    insignia: Insignia, url: str, *, every: int = 10, slots: int = 4, **fields: Any
) -> tuple[Task, list[datetime]]:
    """A task with so many late slots, none of them near the 120 s in which a slot simply runs."""
    minute = (insignia.now().minute + every // 2) % every
    schedule = f"{minute} * * * *" if every == 60 else f"{minute}-59/{every} * * * *"
    task = insignia.create(url, schedule=schedule, **fields)
    assert task.next_run_at is not None
    late = [task.next_run_at - timedelta(minutes=every) * n for n in range(slots, 0, -1)]
    insignia.execute(
        "UPDATE task_state SET next_run_at = :slot WHERE task_id = :id", slot=late[0], id=task.id
    )
    return task, late


def slots_received(receiver: Receiver) -> list[datetime]:
    return [datetime.fromisoformat(one.headers["X-Insignia-Scheduled-For"]) for one in receiver.requests]


@pytest.mark.parametrize("every", EVERY)
def test_run_once_runs_the_latest_and_records_the_others_as_one_stretch(
    insignia: Insignia, every: int
) -> None:
    with Receiver() as receiver:
        task, late = create_late(insignia, receiver.url, every=every)
        summary = insignia.tick()
    assert slots_received(receiver) == late[-1:]
    missed, ran = sorted(insignia.logs(task.id), key=lambda log: log.status)
    assert (missed.status, missed.scheduled_for, missed.execution_time) == ("missed", late[0], late[0])
    assert (missed.missed_from, missed.missed_to, missed.missed_count) == (late[0], late[2], 3)
    assert (missed.attempts, missed.http_status, missed.error) == ([], None, None)
    assert missed.message is not None
    assert missed.message.startswith("Missed 3 slots: ")
    assert missed.finished_at is not None
    assert (ran.status, ran.scheduled_for, ran.missed_count) == ("success", late[-1], None)
    assert insignia.task(task.id).next_run_at == task.next_run_at
    assert (summary.due, summary.missed, summary.started, summary.succeeded) == (1, 3, 1, 1)
    assert summary.remaining == 0
    assert_adds_up(summary)


@pytest.mark.parametrize("every", EVERY)
def test_skip_records_all_as_one_stretch_and_calls_nobody(insignia: Insignia, every: int) -> None:
    with Receiver() as receiver:
        task, late = create_late(insignia, receiver.url, every=every, misfire_policy=MisfirePolicy.SKIP)
        summary = insignia.tick()
    assert receiver.requests == []
    (missed,) = insignia.logs(task.id)
    assert (missed.status, missed.missed_from, missed.missed_to) == ("missed", late[0], late[-1])
    state = insignia.task(task.id)
    assert (state.next_run_at, state.status, state.last_run_at) == (task.next_run_at, "active", None)
    assert (summary.missed, summary.started, summary.remaining) == (4, 0, 0)
    assert_adds_up(summary)


@pytest.mark.parametrize("overlap_policy", OverlapPolicy)
@pytest.mark.parametrize("every", EVERY)
def test_run_all_runs_each_one_after_another_the_oldest_first(
    insignia: Insignia, every: int, overlap_policy: OverlapPolicy
) -> None:
    busy = threading.Lock()

    def alone(_: Received) -> Answer:
        if not busy.acquire(blocking=False):
            return 500, b"two at once"
        busy.release()
        return 200, b""

    with Receiver(alone) as receiver:
        task, late = create_late(
            insignia,
            receiver.url,
            every=every,
            misfire_policy=MisfirePolicy.RUN_ALL,
            overlap_policy=overlap_policy,
        )
        summary = insignia.tick()
    assert slots_received(receiver) == late
    assert [log.status for log in insignia.logs(task.id)] == ["success"] * 4
    assert insignia.task(task.id).next_run_at == task.next_run_at
    assert (summary.missed, summary.succeeded, summary.remaining) == (0, 4, 0)
    assert_adds_up(summary)


def test_two_tasks_that_catch_up_side_by_side_are_done_within_one_tick(insignia: Insignia) -> None:
    both = threading.Barrier(2)

    def answer_together(_: Received) -> Answer:
        both.wait(10)
        return 200, b""

    with Receiver(answer_together) as receiver:
        for _ in range(2):
            create_late(insignia, receiver.url, misfire_policy=MisfirePolicy.RUN_ALL)
        summary = insignia.tick()
    assert (summary.succeeded, summary.remaining) == (8, 0)


@pytest.mark.parametrize("every", EVERY)
def test_the_slots_of_run_all_wait_while_a_run_waits_for_its_retry(insignia: Insignia, every: int) -> None:
    status = [500]
    with Receiver(lambda _: (status[0], b"")) as receiver:
        task, late = create_late(
            insignia, receiver.url, every=every, max_retry=3, misfire_policy=MisfirePolicy.RUN_ALL
        )
        first = insignia.tick(budget_seconds=12.9)  # no time for a retry
        assert (first.retrying, first.remaining) == (1, 1)
        insignia.execute("UPDATE task_logs SET available_at = clock_timestamp() + interval '1 hour'")
        second = insignia.tick(budget_seconds=12.9)
        assert (second.started, second.skipped, second.missed) == (0, 0, 0)
        assert [log.scheduled_for for log in insignia.logs(task.id)] == late[:1]
        status[0] = 200
        insignia.end_leases_and_waits()
        assert insignia.tick().succeeded == 4
    assert slots_received(receiver) == late[:1] + late
    assert {log.status for log in insignia.logs(task.id)} == {RunStatus.SUCCESS}


def test_late_slots_of_run_all_wait_for_a_run_that_began_before_them(insignia: Insignia) -> None:
    task, late = create_late(insignia, NOWHERE, slots=2, misfire_policy=MisfirePolicy.RUN_ALL)
    insignia.execute(
        "UPDATE task_state SET next_run_at = next_run_at - interval '10 minutes' WHERE task_id = :id",
        id=task.id,
    )
    (running,) = insignia.claim()
    insignia.execute("UPDATE task_state SET is_catching_up = false")
    insignia.execute("UPDATE task_logs SET execution_time = scheduled_for")
    assert running.scheduled_for < late[0]
    assert insignia.claim() == []
    assert [log.status for log in insignia.logs(task.id)] == ["running"]


def test_a_task_whose_slots_wait_takes_no_place_from_others(insignia: Insignia) -> None:
    waiting, _ = create_late(insignia, NOWHERE, misfire_policy=MisfirePolicy.RUN_ALL)
    assert len(insignia.claim()) == 1
    insignia.execute("UPDATE task_state SET is_catching_up = false")  # as if it had begun before it was late
    with Receiver() as receiver:
        healthy = insignia.create_due(receiver.url)
        insignia.tick(concurrency=1)
    assert [log.status for log in insignia.logs(healthy.id)] == ["success"]
    assert [log.status for log in insignia.logs(waiting.id)] == ["running"]


def test_slots_that_do_not_run_take_no_place_from_others(insignia: Insignia) -> None:
    for _ in range(5):
        create_late(insignia, NOWHERE, misfire_policy=MisfirePolicy.SKIP)
    with Receiver() as receiver:
        insignia.create_due(receiver.url)
        summary = insignia.tick(concurrency=1)
    assert (summary.missed, summary.succeeded, summary.remaining) == (20, 1, 0)


def test_slots_older_than_the_window_are_missed_by_run_all_too(insignia: Insignia) -> None:
    with Receiver() as receiver:
        task, late = create_late(
            insignia,
            receiver.url,
            every=60,
            misfire_policy=MisfirePolicy.RUN_ALL,
            catchup_window_seconds=2 * 3600,
        )
        summary = insignia.tick()
    assert slots_received(receiver) == late[2:]
    (missed,) = [log for log in insignia.logs(task.id) if log.status == "missed"]
    assert (missed.missed_from, missed.missed_to, missed.missed_count) == (late[0], late[1], 2)
    assert (summary.missed, summary.succeeded) == (2, 2)


def test_late_slots_give_way_to_a_fresh_one(insignia: Insignia) -> None:
    with Receiver() as receiver:
        task = insignia.create(receiver.url, schedule="* * * * *", misfire_policy=MisfirePolicy.RUN_ONCE)
        assert task.next_run_at is not None
        first = task.next_run_at - timedelta(hours=3)
        insignia.execute("UPDATE task_state SET next_run_at = :first", first=first)
        began_at = insignia.now()
        summary = insignia.tick()
    logs = insignia.logs(task.id)
    (missed,) = [log for log in logs if log.status is RunStatus.MISSED]
    ran = sorted(slots_received(receiver))
    assert missed.missed_to is not None
    assert missed.missed_to < began_at - timedelta(seconds=119)
    assert ran == [missed.missed_to + timedelta(minutes=n) for n in range(1, len(ran) + 1)]
    assert summary.missed == missed.missed_count
    following = insignia.task(task.id).next_run_at
    assert following == ran[-1] + timedelta(minutes=1)
    assert summary.missed + len(ran) == (following - first) / timedelta(minutes=1)


def test_a_year_without_a_tick_is_one_row_that_says_at_least(insignia: Insignia) -> None:
    task = insignia.create(NOWHERE, schedule="* * * * *", misfire_policy=MisfirePolicy.SKIP, end_at=None)
    insignia.execute("UPDATE task_state SET next_run_at = next_run_at - interval '365 days'")
    insignia.execute("UPDATE tasks SET end_at = clock_timestamp() - interval '1 hour'")
    summary = insignia.tick()
    (missed,) = insignia.logs(task.id)
    assert missed.missed_count == summary.missed == 10_000
    assert missed.missed_to is not None
    assert missed.missed_to > insignia.now() - timedelta(hours=1, minutes=2)
    assert missed.message is not None
    assert missed.message.startswith("Missed at least 10,000 slots: ")


def test_long_stretches_are_counted_while_no_transaction_is_open(
    insignia: Insignia, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_transactions = []

    def look(*args: object) -> CatchUp:
        open_transactions.append(
            insignia.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND pid <> pg_backend_pid() AND xact_start IS NOT NULL"
            ).scalar_one()
        )
        return catch_up(*args)  # type: ignore[arg-type]

    monkeypatch.setattr("db.slot_claims.catch_up", look)
    create_late(insignia, NOWHERE, every=60, misfire_policy=MisfirePolicy.SKIP)
    assert insignia.tick().missed == 4
    assert open_transactions == [0]


def planned(insignia: Insignia) -> list[Plan]:
    plans = plan_long_late_slots(insignia.engine, room(10))
    assert len(plans) == 1
    return plans


def claimed(insignia: Insignia, plans: list[Plan]) -> list[ClaimedRun]:
    with transaction(insignia.engine) as connection:
        return claim_long_late_slots(connection, plans, room(10)).runs


def test_a_task_that_is_edited_after_it_was_planned_is_not_claimed_by_that_plan(insignia: Insignia) -> None:
    task, late = create_late(insignia, NOWHERE, every=60)
    plans = planned(insignia)
    edited = insignia.update(task.id, schedule="0 0 1 1 *")
    assert claimed(insignia, plans) == []
    assert insignia.task(task.id).next_run_at == edited.next_run_at
    (cancelled,) = insignia.logs(task.id)
    assert (cancelled.status, cancelled.missed_from, cancelled.missed_to) == ("cancelled", late[0], late[-1])
    assert cancelled.missed_count == 4


def test_an_edit_that_leaves_the_timing_alone_leaves_the_slots_to_the_next_plan(insignia: Insignia) -> None:
    task, late = create_late(insignia, NOWHERE, every=60)
    plans = planned(insignia)
    insignia.update(task.id, name="Another name")
    assert claimed(insignia, plans) == []
    assert insignia.logs(task.id) == []
    (run,) = claimed(insignia, planned(insignia))
    assert (run.scheduled_for, run.task_name) == (late[-1], "Another name")


def test_a_task_that_was_deactivated_or_deleted_after_it_was_planned_is_not_claimed(
    insignia: Insignia,
) -> None:
    task, _ = create_late(insignia, NOWHERE, every=60)
    plans = planned(insignia)
    insignia.update(task.id, TaskStatus.INACTIVE)
    assert claimed(insignia, plans) == []
    with transaction(insignia.engine) as connection:
        delete_task(connection, task.id)
    assert claimed(insignia, plans) == []
    assert insignia.logs() == []


def test_two_ticks_that_have_planned_the_same_slots_claim_them_once(insignia: Insignia) -> None:
    task, late = create_late(insignia, NOWHERE, every=60)
    plans = planned(insignia)
    assert [run.scheduled_for for run in claimed(insignia, plans)] == late[-1:]
    assert claimed(insignia, plans) == []
    assert sorted(log.status for log in insignia.logs(task.id)) == ["missed", "running"]
