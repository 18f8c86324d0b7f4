"""Runs that a user asks for: the same engine as for slots, and no trace of them in the task."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from db.engine import transaction
from db.manual_runs import begin_retry
from db.tasks import delete_task, get_task
from domain.errors import Conflict, NotFound
from domain.run import RunSource, RunStatus
from domain.task import Task, TaskStatus
from tests.integration.conftest import Insignia, assert_adds_up
from tests.receiver import Answer, Received, Receiver

EVERY_STATUS = list(TaskStatus)


def with_status(insignia: Insignia, status: TaskStatus, url: str, **fields: Any) -> Task:
    """`completed` is what only the engine sets."""
    task = insignia.create(url, **fields)
    insignia.execute(
        "UPDATE task_state SET status = :status, next_run_at = CASE WHEN :status = 'active' THEN next_run_at END"
        " WHERE task_id = :id",
        id=task.id,
        status=status,
    )
    return insignia.task(task.id)


@pytest.mark.parametrize("status", EVERY_STATUS)
def test_a_manual_run_calls_the_webhook_whatever_the_status_of_the_task(
    insignia: Insignia, status: TaskStatus
) -> None:
    with Receiver() as receiver:
        task = with_status(insignia, status, receiver.url)
        log = insignia.run(task.id)
    (request,) = receiver.requests
    assert (log.status, log.source, log.http_status) == (RunStatus.SUCCESS, RunSource.MANUAL, 200)
    assert log.scheduled_for == log.execution_time == log.created_at
    assert (log.retry_of, log.lateness_ms) == (None, None)
    assert [attempt["outcome"] for attempt in log.attempts] == ["success"]
    assert request.headers["webhook-id"] == str(log.id)
    assert request.headers["X-Insignia-Attempt"] == "1"
    assert insignia.task(task.id) == task


@pytest.mark.parametrize("status", EVERY_STATUS)
@pytest.mark.parametrize("answer", [500, 410, 200])
def test_a_manual_run_changes_nothing_about_its_task(
    insignia: Insignia, status: TaskStatus, answer: int
) -> None:
    with Receiver(lambda _: (answer, b"")) as receiver:
        task = with_status(insignia, status, receiver.url)
        insignia.execute(
            "UPDATE task_state SET consecutive_failures = 1, last_status = 'failed', last_run_at = now()"
        )
        task = insignia.task(task.id)
        log = insignia.run(task.id)
    assert log.status is (RunStatus.SUCCESS if answer == 200 else RunStatus.FAILED)
    assert insignia.task(task.id) == task


@pytest.mark.parametrize("status", EVERY_STATUS)
def test_its_retries_are_left_to_the_tick(insignia: Insignia, status: TaskStatus) -> None:
    answers = [500, 500, 200]
    with Receiver(lambda _: (answers.pop(0), b"")) as receiver:
        task = with_status(insignia, status, receiver.url, max_retry=2)
        log = insignia.run(task.id)
        assert (log.status, len(receiver.requests)) == (RunStatus.RETRYING, 1)
        summary = insignia.tick()
    assert (summary.retrying, summary.succeeded, summary.cancelled) == (1, 1, 0)
    assert_adds_up(summary)
    log = insignia.log(log.id)
    assert (log.status, log.retry_count) == (RunStatus.SUCCESS, 2)
    assert {request.headers["webhook-id"] for request in receiver.requests} == {str(log.id)}
    assert insignia.task(task.id) == task


@pytest.mark.parametrize("status", EVERY_STATUS)
def test_the_next_tick_rescues_a_manual_run_whose_process_died(
    insignia: Insignia, status: TaskStatus
) -> None:
    with Receiver() as receiver:
        task = with_status(insignia, status, receiver.url)
        run_id = insignia.begin_run(task.id)
        assert insignia.tick().started == 0  # its lease has not ended
        insignia.end_leases_and_waits()
        assert insignia.tick().succeeded == 1
    (request,) = receiver.requests
    assert (request.headers["webhook-id"], request.headers["X-Insignia-Attempt"]) == (str(run_id), "2")
    assert [attempt["outcome"] for attempt in insignia.log(run_id).attempts] == ["unknown", "success"]
    assert insignia.task(task.id) == task


@pytest.mark.parametrize("status", EVERY_STATUS)
def test_a_manual_run_that_kills_its_processes_ends_and_the_task_does_not_notice(
    insignia: Insignia, status: TaskStatus
) -> None:
    task = with_status(insignia, status, "http://127.0.0.1:9/hook")
    run_id = insignia.begin_run(task.id)
    for _ in range(2):
        insignia.end_leases_and_waits()
        assert len(insignia.claim_due_runs()) == 1
    insignia.end_leases_and_waits()
    summary = insignia.tick()
    assert (summary.failed, summary.cancelled) == (1, 0)
    log = insignia.log(run_id)
    assert (log.status, log.message) == (
        RunStatus.FAILED,
        "Failed: its process died during the call 3 times.",
    )
    assert insignia.task(task.id) == task


def test_a_deactivation_ends_the_waiting_slots_and_not_the_waiting_manual_runs(insignia: Insignia) -> None:
    with Receiver(lambda _: (500, b"")) as receiver:
        task = insignia.create_due(receiver.url, max_retry=1)
        (slot,) = insignia.claim()
        manual = insignia.run(task.id)
        insignia.update(task.id, TaskStatus.INACTIVE)
        insignia.end_leases_and_waits()
        insignia.tick()
    assert insignia.log(UUID(slot.id)).status is RunStatus.CANCELLED
    assert insignia.log(manual.id).status is RunStatus.FAILED
    assert [request.headers["webhook-id"] for request in receiver.requests] == [str(manual.id)] * 2


def test_a_slot_does_not_overlap_with_a_manual_run(insignia: Insignia) -> None:
    with Receiver() as receiver:
        task = insignia.create_due(receiver.url)
        insignia.begin_run(task.id)
        assert insignia.tick().succeeded == 1


def test_a_one_off_task_is_completed_by_its_slot_and_not_by_a_manual_run(insignia: Insignia) -> None:
    with Receiver() as receiver:
        task = insignia.create(receiver.url, schedule=None, run_at=insignia.now() + timedelta(days=1))
        insignia.run(task.id)
        assert insignia.task(task.id) == task
        insignia.execute("UPDATE tasks SET run_at = clock_timestamp()")
        insignia.execute("UPDATE task_state SET next_run_at = run_at FROM tasks WHERE id = task_id")
        insignia.begin_run(task.id)
        assert insignia.tick().succeeded == 1
    assert insignia.task(task.id).status is TaskStatus.COMPLETED


def test_a_destination_that_asked_to_be_left_alone_is_left_alone(insignia: Insignia) -> None:
    with Receiver(lambda _: (429, b"", {"Retry-After": "100"})) as receiver:
        task = insignia.create(receiver.url)
        first = insignia.run(task.id)
        second = insignia.run(task.id)
        assert (first.status, first.attempts[0]["outcome"]) == (RunStatus.RETRYING, "throttled")
        assert (second.status, second.attempts) == (RunStatus.RETRYING, [])
        assert second.message == "Put off: its destination asked to be left alone. Next attempt in 100 s."
    assert len(receiver.requests) == 1
    with Receiver() as receiver:
        insignia.update(task.id, webhook_url=receiver.url)
        insignia.execute("DELETE FROM throttled_destinations")
        insignia.end_leases_and_waits()
        assert insignia.tick().succeeded == 2
    assert {request.headers["X-Insignia-Attempt"] for request in receiver.requests} == {"1", "2"}
    assert insignia.log(second.id).retry_count == 0


def test_a_destination_with_as_many_calls_as_it_may_have_gets_no_more(insignia: Insignia) -> None:
    """Whoever makes them: here a slot and a manual run are under way, of two tasks with one destination."""
    with Receiver() as receiver:
        task = insignia.create_due(receiver.url)
        insignia.claim()
        other = insignia.create(receiver.url)
        insignia.begin_run(other.id)
        log = insignia.run(other.id, per_destination=2)
        assert (log.status, log.attempts, receiver.requests) == (RunStatus.RETRYING, [], [])
        assert log.message == (
            "Put off: its destination has as many calls as it may have (DESTINATION_CONCURRENCY). "
            "The next tick makes the attempt."
        )
        assert insignia.run(task.id, per_destination=3).status is RunStatus.SUCCESS
        assert insignia.tick().succeeded == 1
    assert insignia.log(log.id).status is RunStatus.SUCCESS


def test_a_task_that_cannot_be_called_fails_its_run_alone(insignia: Insignia) -> None:
    task = insignia.create("http://127.0.0.1:9/hook")
    insignia.execute("UPDATE tasks SET success_statuses = 'none'")
    assert insignia.run(task.id).status is RunStatus.FAILED


def test_a_task_that_is_deleted_during_its_manual_run_leaves_nothing(insignia: Insignia) -> None:
    def delete(_: Received) -> Answer:
        with transaction(insignia.engine) as connection:
            delete_task(connection, task.id)
        return 200, b""

    with Receiver(delete) as receiver:
        task = insignia.create(receiver.url)
        with pytest.raises(NotFound):
            insignia.run(task.id)
    assert insignia.logs() == []


def test_an_unknown_task_and_an_unknown_log_cannot_be_run(insignia: Insignia) -> None:
    with pytest.raises(NotFound):
        insignia.run(uuid4())
    with pytest.raises(NotFound):
        insignia.retry(uuid4())


def test_a_retry_is_a_run_of_its_own_for_the_same_slot(insignia: Insignia) -> None:
    answers = [500, 500, 200]
    with Receiver(lambda _: (answers.pop(0), b"")) as receiver:
        task = insignia.create_due(receiver.url)
        insignia.tick()
        (failed,) = insignia.logs(task.id)
        retry = insignia.retry(failed.id)
        again = insignia.retry(retry.id)
    assert (retry.status, retry.source, retry.retry_of) == (RunStatus.FAILED, RunSource.MANUAL, failed.id)
    assert (again.status, again.retry_of) == (RunStatus.SUCCESS, retry.id)
    assert failed.scheduled_for == retry.scheduled_for == again.scheduled_for
    assert len({request.headers["webhook-id"] for request in receiver.requests}) == 3
    assert len({request.headers["X-Insignia-Scheduled-For"] for request in receiver.requests}) == 1
    assert insignia.log(failed.id) == failed
    with transaction(insignia.engine) as connection:
        assert get_task(connection, task.id).status is TaskStatus.INACTIVE


def test_a_missed_stretch_is_made_up_for_by_one_run_for_its_first_slot(insignia: Insignia) -> None:
    with Receiver() as receiver:
        task = insignia.create_due(receiver.url, schedule="* * * * *", misfire_policy="skip")
        insignia.make_due(task.id, ago=timedelta(minutes=30))
        insignia.tick()
        missed = next(log for log in insignia.logs(task.id) if log.status is RunStatus.MISSED)
        retry = insignia.retry(missed.id)
    assert missed.missed_count is not None
    assert missed.missed_count > 1
    assert (retry.status, retry.scheduled_for) == (RunStatus.SUCCESS, missed.missed_from)
    assert receiver.requests[-1].headers["webhook-id"] == str(retry.id)


@pytest.mark.parametrize("status", ["running", "retrying"])
def test_what_is_under_way_cannot_be_retried(insignia: Insignia, status: str) -> None:
    with Receiver(lambda _: (500, b"")) as receiver:
        task = insignia.create(receiver.url, max_retry=1)
        run_id = insignia.begin_run(task.id) if status == "running" else insignia.run(task.id).id
        assert insignia.log(run_id).status == status
        with pytest.raises(Conflict, match="is under way; retry after it has ended"):
            insignia.retry(run_id)


def test_of_retries_at_the_same_time_one_is_made(insignia: Insignia) -> None:
    with Receiver() as receiver:
        task = insignia.create_due(receiver.url)
        insignia.tick()
        (log,) = insignia.logs(task.id)

    def begin(_: int) -> UUID | None:
        run_id = uuid4()
        try:
            with transaction(insignia.engine) as connection:
                begin_retry(connection, run_id=run_id, log_id=log.id, per_destination=64, rates={})
        except Conflict:
            return None
        return run_id

    with ThreadPoolExecutor(4) as pool:
        begun = [run_id for run_id in pool.map(begin, range(4)) if run_id]
    assert [insignia.log(run_id).retry_of for run_id in begun] == [log.id]
