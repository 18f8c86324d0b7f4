"""Tasks that run once, and tasks that come to an end."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from domain.errors import InvalidInput
from domain.run import RunStatus
from domain.task import MisfirePolicy, Task, TaskStatus
from functions import schemas
from tests.integration.conftest import YEARLY, Insignia, assert_adds_up
from tests.receiver import Answer, Received, Receiver

NOWHERE = "http://127.0.0.1:9/"
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)


def create_once(insignia: Insignia, url: str, *, ago: timedelta = timedelta(0), **fields: Any) -> Task:
    """A one-off task whose instant has come."""
    task = insignia.create(url, run_at=insignia.now() + HOUR, **fields)
    insignia.execute(
        "WITH moved AS (UPDATE tasks SET run_at = clock_timestamp() - CAST(:ago AS interval) WHERE id = :id"
        " RETURNING run_at) UPDATE task_state SET next_run_at = run_at FROM moved WHERE task_id = :id",
        id=task.id,
        ago=ago,
    )
    return insignia.task(task.id)


def create_ending(insignia: Insignia, url: str, **fields: Any) -> Task:
    """A task whose last slot before its end is due."""
    task = insignia.create(url, schedule="* * * * *", **fields)
    insignia.make_due(task.id)
    insignia.execute(
        "UPDATE tasks SET end_at = next_run_at + interval '1 second' FROM task_state"
        " WHERE task_id = id AND id = :id",
        id=task.id,
    )
    return insignia.task(task.id)


Create = Callable[..., Task]
CREATE_LAST = [pytest.param(create_once, id="run_at"), pytest.param(create_ending, id="end_at")]


def test_run_at_runs_with_the_first_tick_at_or_after_it(insignia: Insignia) -> None:
    with Receiver() as receiver:
        task = insignia.create(receiver.url, run_at=insignia.now() + SECOND)
        assert task.next_run_at == task.definition.run_at
        early = insignia.tick()
        insignia.execute("SELECT pg_sleep_until(:run_at)", run_at=task.next_run_at)
        summary = insignia.tick()
    assert (early.due, early.started, summary.succeeded) == (0, 0, 1)
    (log,) = insignia.logs(task.id)
    assert (log.scheduled_for, log.status) == (task.next_run_at, "success")
    assert log.lateness_ms is not None
    assert log.lateness_ms >= 0
    state = insignia.task(task.id)
    assert (state.status, state.next_run_at, state.last_status) == ("completed", None, "success")
    assert (state.revision, state.updated_at) == (task.revision, task.updated_at)


def test_it_runs_once_however_many_ticks_there_are(insignia: Insignia) -> None:
    with Receiver() as receiver:
        create_once(insignia, receiver.url)
        for _ in range(3):
            insignia.tick()
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("create", CREATE_LAST)
def test_a_task_is_completed_only_when_its_last_run_has_ended(insignia: Insignia, create: Create) -> None:
    seen: list[Task] = []

    def look(_: Received) -> Answer:
        insignia.tick()
        seen.append(insignia.task(task.id))
        return 200, b""

    with Receiver(look) as receiver:
        task = create(insignia, receiver.url)
        insignia.tick()
    assert [(one.status, one.next_run_at) for one in seen] == [("active", None)]
    assert insignia.task(task.id).status is TaskStatus.COMPLETED


@pytest.mark.parametrize("create", CREATE_LAST)
def test_a_task_is_completed_after_the_retries_of_its_last_run(insignia: Insignia, create: Create) -> None:
    statuses = [500, 500, 200]
    with Receiver(lambda _: (statuses.pop(0), b"")) as receiver:
        task = create(insignia, receiver.url, max_retry=2)
        for _ in range(2):
            assert insignia.tick(budget_seconds=12.9).retrying == 1  # no time for a retry
            assert insignia.task(task.id).status is TaskStatus.ACTIVE
            insignia.end_leases_and_waits()
        assert insignia.tick().succeeded == 1
    assert insignia.task(task.id).status is TaskStatus.COMPLETED


@pytest.mark.parametrize("status", [500, 410])
@pytest.mark.parametrize("create", CREATE_LAST)
def test_a_task_is_completed_whatever_the_outcome_of_its_last_run(
    insignia: Insignia, create: Create, status: int
) -> None:
    with Receiver(lambda _: (status, b"")) as receiver:
        task = create(insignia, receiver.url)
        summary = insignia.tick()
    state = insignia.task(task.id)
    assert (state.status, state.last_status, state.deactivated_reason) == ("completed", "failed", None)
    assert (summary.failed, summary.deactivated) == (1, 0)
    assert_adds_up(summary)


def test_a_task_is_completed_when_its_last_run_has_lost_its_leases(insignia: Insignia) -> None:
    task = create_once(insignia, NOWHERE)
    insignia.claim()
    for _ in range(2):
        insignia.end_leases_and_waits()
        assert len(insignia.claim_due_runs()) == 1
        assert insignia.task(task.id).status is TaskStatus.ACTIVE
    insignia.end_leases_and_waits()
    assert insignia.tick().failed == 1
    assert insignia.task(task.id).status is TaskStatus.COMPLETED


@pytest.mark.parametrize("policy", [MisfirePolicy.SKIP, MisfirePolicy.RUN_ONCE])
def test_a_task_is_completed_when_its_last_slot_was_missed(insignia: Insignia, policy: MisfirePolicy) -> None:
    task = create_once(
        insignia, NOWHERE, ago=timedelta(minutes=10), misfire_policy=policy, catchup_window_seconds=60
    )
    assert insignia.tick().missed == 1
    (log,) = insignia.logs(task.id)
    assert (log.status, log.missed_count, log.scheduled_for) == ("missed", 1, task.next_run_at)
    state = insignia.task(task.id)
    assert (state.status, state.next_run_at) == ("completed", None)


@pytest.mark.parametrize(
    ("policy", "ago"), [(MisfirePolicy.RUN_ALL, 3 * HOUR), (MisfirePolicy.RUN_ONCE, timedelta(minutes=10))]
)
def test_a_late_run_at_is_made_up_for(insignia: Insignia, policy: MisfirePolicy, ago: timedelta) -> None:
    with Receiver() as receiver:
        task = create_once(insignia, receiver.url, ago=ago, misfire_policy=policy)
        assert insignia.tick().succeeded == 1
    assert insignia.task(task.id).status is TaskStatus.COMPLETED


def test_a_task_whose_last_slot_is_skipped_is_completed_with_the_run_in_its_way(insignia: Insignia) -> None:
    with Receiver() as receiver:
        task = create_ending(insignia, receiver.url)
        insignia.execute(
            "UPDATE task_state SET next_run_at = next_run_at - interval '1 minute' WHERE task_id = :id",
            id=task.id,
        )
        insignia.claim()
        insignia.execute("UPDATE task_logs SET execution_time = scheduled_for")
        assert insignia.tick().skipped == 1
        state = insignia.task(task.id)
        assert (state.status, state.next_run_at) == ("active", None)
        insignia.end_leases_and_waits()
        assert insignia.tick().succeeded == 1
    assert insignia.task(task.id).status is TaskStatus.COMPLETED


def test_a_task_that_is_set_inactive_before_its_retry_stays_inactive(insignia: Insignia) -> None:
    with Receiver(lambda _: (500, b"")) as receiver:
        task = create_once(insignia, receiver.url, max_retry=2)
        insignia.tick(budget_seconds=12.9)
        insignia.update(task.id, TaskStatus.INACTIVE)
        insignia.tick()
    assert [log.status for log in insignia.logs(task.id)] == [RunStatus.CANCELLED]
    assert insignia.task(task.id).status is TaskStatus.INACTIVE


def test_a_task_that_is_set_inactive_while_its_only_slot_is_due_has_a_cancelled_row(
    insignia: Insignia,
) -> None:
    task = create_once(insignia, NOWHERE)
    insignia.update(task.id, TaskStatus.INACTIVE)
    insignia.tick()
    (log,) = insignia.logs(task.id)
    assert (log.status, log.scheduled_for, log.missed_count) == ("cancelled", task.next_run_at, None)
    assert log.message == "1 slot not run: the task was changed before."
    assert insignia.task(task.id).next_run_at is None


def test_a_task_that_is_set_inactive_while_slots_are_due_has_one_row_for_the_stretch(
    insignia: Insignia,
) -> None:
    task = insignia.create(NOWHERE, schedule="* * * * *")
    insignia.make_due(task.id, ago=timedelta(minutes=4))
    first = insignia.task(task.id).next_run_at
    assert first is not None
    insignia.update(task.id, TaskStatus.INACTIVE)
    (log,) = insignia.logs(task.id)
    assert (log.status, log.scheduled_for, log.missed_from) == ("cancelled", first, first)
    assert log.missed_to is not None
    assert log.missed_to <= insignia.now() < log.missed_to + timedelta(minutes=2)
    assert log.missed_count == (log.missed_to - first) / timedelta(minutes=1) + 1


def test_an_edit_during_the_run_gives_the_task_another_one(insignia: Insignia) -> None:
    later = insignia.now() + HOUR

    def edit(_: Received) -> Answer:
        insignia.update(task.id, run_at=later)
        return 500, b""

    with Receiver(edit) as receiver:
        task = create_once(insignia, receiver.url)
        insignia.tick()
    state = insignia.task(task.id)
    assert (state.status, state.next_run_at, state.consecutive_failures) == ("active", later, 0)


@pytest.fixture
def completed(insignia: Insignia) -> Task:
    with Receiver() as receiver:
        task = create_once(insignia, receiver.url)
        insignia.tick()
    task = insignia.task(task.id)
    assert task.status is TaskStatus.COMPLETED
    return task


def put(insignia: Insignia, task: Task, **edits: str | None) -> Task:
    """What an API client does: get, edit, put."""
    body = schemas.TaskChanges.model_validate(schemas.Task.of(task).model_dump(mode="json") | edits)
    return insignia.update(task.id, body.changes()["status"], **body.definition_changes())


def test_a_completed_task_with_a_new_run_at_is_active_again(insignia: Insignia, completed: Task) -> None:
    later = insignia.now() + HOUR
    task = put(insignia, completed, run_at=later.isoformat())
    assert (task.status, task.next_run_at) == (TaskStatus.ACTIVE, later)


def test_a_completed_task_with_a_schedule_is_active_again(insignia: Insignia, completed: Task) -> None:
    task = put(insignia, completed, schedule=YEARLY, run_at=None)
    assert task.status is TaskStatus.ACTIVE
    assert task.next_run_at is not None
    assert task.definition.run_at is None


def test_a_completed_task_that_is_edited_otherwise_stays_completed(
    insignia: Insignia, completed: Task
) -> None:
    task = put(insignia, completed, name="Another name")
    assert (task.status, task.next_run_at, task.definition.name) == ("completed", None, "Another name")
    assert task.revision == completed.revision + 1
    assert put(insignia, task) == task
    assert insignia.tick().due == 0


def test_a_completed_task_may_be_set_inactive_but_not_active_without_a_new_time(
    insignia: Insignia, completed: Task
) -> None:
    with pytest.raises(InvalidInput, match="run_at is in the past"):
        put(insignia, completed, status="active")
    assert insignia.task(completed.id) == completed
    task = put(insignia, completed, status="inactive")
    assert (task.status, task.next_run_at) == (TaskStatus.INACTIVE, None)


def test_nobody_but_the_engine_completes_a_task(insignia: Insignia) -> None:
    task = insignia.create(NOWHERE)
    with pytest.raises(InvalidInput, match="only the engine"):
        put(insignia, task, status="completed")


@pytest.mark.parametrize("late", [timedelta(0), SECOND, 365 * 24 * HOUR])
def test_a_run_at_that_is_not_in_the_future_is_refused(insignia: Insignia, late: timedelta) -> None:
    past: datetime = insignia.now() - late
    with pytest.raises(InvalidInput, match="run_at is in the past"):
        insignia.create(NOWHERE, run_at=past)
    task = insignia.create(NOWHERE)
    with pytest.raises(InvalidInput, match="run_at is in the past"):
        insignia.update(task.id, run_at=past)
    assert insignia.task(task.id) == task


def test_a_range_that_leaves_no_slot_is_refused(insignia: Insignia) -> None:
    now = insignia.now()
    with pytest.raises(InvalidInput, match="between start_at and end_at"):
        insignia.create(NOWHERE, run_at=now + HOUR, end_at=now + HOUR)
    with pytest.raises(InvalidInput, match="between start_at and end_at"):
        insignia.create(NOWHERE, schedule="* * * * *", end_at=now)


def test_start_at_delays_the_first_slot(insignia: Insignia) -> None:
    start_at = insignia.now().replace(second=0, microsecond=0) + 30 * 24 * HOUR
    assert insignia.create(NOWHERE, schedule="* * * * *", start_at=start_at).next_run_at == start_at


def test_a_slot_that_is_due_is_cancelled_even_if_its_schedule_can_no_longer_be_computed(
    insignia: Insignia,
) -> None:
    task = insignia.create_due(NOWHERE)
    insignia.execute("UPDATE tasks SET timezone = 'Mars/Olympus'")
    mended = insignia.update(task.id, timezone="UTC")
    assert mended.status is TaskStatus.ACTIVE
    (log,) = insignia.logs(task.id)
    assert (log.status, log.scheduled_for) == ("cancelled", task.next_run_at)
