"""Answers that ask to be left alone, and tasks that are switched off because they keep failing."""

import threading
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine

from domain.run import RunStatus
from domain.task import Task, TaskStatus
from tests.faults.simulated_clock import SimulatedClock, install_simulated_clock
from tests.integration.conftest import Insignia, assert_adds_up
from tests.receiver import Answer, Received, Receiver

PATIENCE = 10
"""Seconds for which a call waits for another that does not come."""

AS_WAITING = """
INSERT INTO task_logs (id, task_id, source, status, scheduled_for, execution_time, retry_count, attempts, revision,
    available_at, lost_leases, throttles, created_at)
SELECT gen_random_uuid(), :id, 'schedule', 'retrying', now, now, 0, '[]', 1, now, 0, 0, now
FROM clock_timestamp() now
"""


def throttles(status: int = 429, retry_after: str = "100") -> Answer:
    return status, b"slow down", {"Retry-After": retry_after}


def end_waits(insignia: Insignia) -> None:
    insignia.end_leases_and_waits()
    insignia.execute("DELETE FROM throttled_destinations")


def run_now(insignia: Insignia, task: Task) -> None:
    """One more slot of the task, and the tick that runs it."""
    insignia.execute(
        "UPDATE task_state SET next_run_at = clock_timestamp() WHERE task_id = :id AND status = 'active'",
        id=task.id,
    )
    insignia.tick()


@pytest.mark.parametrize("status", [429, 503])
def test_a_retry_after_puts_the_run_off_without_using_up_a_retry(insignia: Insignia, status: int) -> None:
    answers = [throttles(status), (200, b"")]
    with Receiver(lambda _: answers.pop(0)) as receiver:
        task = insignia.create_due(receiver.url, max_retry=0)
        summary = insignia.tick()
        (log,) = insignia.logs(task.id)
        (attempt,) = log.attempts
        assert (log.status, attempt["outcome"], attempt["http_status"]) == ("retrying", "throttled", status)
        assert log.finished_at is None
        retry_at = insignia.execute("SELECT available_at FROM task_logs").scalar_one()
        assert datetime.fromisoformat(attempt["retry_at"]) == retry_at
        assert timedelta(seconds=95) < retry_at - insignia.now() <= timedelta(seconds=100)
        assert (summary.throttled, summary.retrying, summary.failed) == (1, 0, 0)
        assert_adds_up(summary)

        end_waits(insignia)
        insignia.tick()
    (log,) = insignia.logs(task.id)
    assert (log.status, log.retry_count) == ("success", 1)
    assert len({request.headers["webhook-id"] for request in receiver.requests}) == 1
    assert insignia.task(task.id).consecutive_failures == 0


def test_a_short_retry_after_is_waited_for_within_the_tick(insignia: Insignia) -> None:
    answers = [(429, b'{"retry_after": 1.3}'), (200, b"")]
    with Receiver(lambda _: answers.pop(0)) as receiver:
        insignia.create_due(receiver.url, max_retry=0)
        summary = insignia.tick()
    first, second = receiver.requests
    assert 1.3 <= second.at - first.at < 3
    assert (summary.throttled, summary.succeeded) == (1, 1)
    assert_adds_up(summary)


@pytest.mark.parametrize(("status", "is_deactivated"), [(503, True), (429, False)])
def test_ten_times_a_run_is_put_off_and_then_it_fails(
    insignia: Insignia, status: int, is_deactivated: bool
) -> None:
    with Receiver(lambda _: throttles(status)) as receiver:
        task = insignia.create_due(receiver.url, max_retry=0)
        for _ in range(11):
            insignia.tick()
            end_waits(insignia)
    (log,) = insignia.logs(task.id)
    assert (log.status, log.retry_count) == ("failed", 10)
    assert [attempt["outcome"] for attempt in log.attempts] == ["throttled"] * 10 + ["failed"]
    assert (insignia.task(task.id).status is TaskStatus.INACTIVE) == is_deactivated


def test_a_throttled_run_keeps_its_retries_for_failures(insignia: Insignia) -> None:
    answers = [throttles(), (500, b""), throttles(), (500, b"")]
    with Receiver(lambda _: answers.pop(0)) as receiver:
        task = insignia.create_due(receiver.url, max_retry=1)
        for _ in range(4):
            insignia.tick(budget_seconds=12.9)
            end_waits(insignia)
    (log,) = insignia.logs(task.id)
    assert log.status is RunStatus.FAILED
    assert [attempt["outcome"] for attempt in log.attempts] == ["throttled", "failed", "throttled", "failed"]


def test_the_whole_destination_is_left_alone_and_no_other(insignia: Insignia) -> None:
    with Receiver(lambda _: throttles()) as busy, Receiver() as healthy:
        insignia.create_due(busy.url)
        insignia.tick()
        neighbour = insignia.create_due(busy.url + "/another/path")
        waiting = insignia.create(busy.url + "/retry")
        insignia.execute(AS_WAITING, id=waiting.id)
        other = insignia.create_due(healthy.url)
        began_at = time.monotonic()
        summary = insignia.tick(budget_seconds=50)
        assert time.monotonic() - began_at < 10  # it does not wait for what may not be called
        assert len(busy.requests) == 1
        assert [log.status for log in insignia.logs(other.id)] == ["success"]
        assert insignia.logs(neighbour.id) == []
        assert insignia.task(neighbour.id).next_run_at == neighbour.next_run_at
        assert (summary.started, summary.remaining) == (1, 2)

        insignia.execute("UPDATE throttled_destinations SET available_at = clock_timestamp()")
        insignia.tick()
    assert sorted(request.path for request in busy.requests[1:]) == ["/hook/another/path", "/hook/retry"]


def test_a_destination_that_answers_429_for_an_hour_is_asked_rarely_and_is_in_nobodys_way(
    admin: Engine, engine: Engine, database_url: str
) -> None:
    """Two calls after each Retry-After, its two places, while 20 tasks are due there every 5 minutes."""
    install_simulated_clock(admin, database_url)
    clock, noon, hour = SimulatedClock(database_url), datetime(2030, 1, 1, 12, tzinfo=UTC), range(5, 65, 5)
    clock.set(noon)
    insignia = Insignia(engine)
    both_are_there, is_over = threading.Barrier(2), threading.Event()

    def answer(_: Received) -> Answer:
        if is_over.is_set():
            return 200, b""
        both_are_there.wait(PATIENCE)
        return throttles(retry_after="599")

    with closing(clock), Receiver(answer) as sick, Receiver() as healthy:
        ill = [insignia.create(sick.url, schedule="*/5 * * * *") for _ in range(20)]
        well = [insignia.create(healthy.url, schedule="*/5 * * * *") for _ in range(5)]
        for minute in hour:
            clock.set(noon + timedelta(minutes=minute))
            insignia.tick(per_destination=2)
        assert (len(sick.requests), len(healthy.requests)) == (12, 5 * len(hour))
        logs = [log for task in well for log in insignia.logs(task.id)]
        assert {log.status for log in logs} == {"success"}
        assert max(log.lateness_ms or 0 for log in logs) < 60_000

        is_over.set()
        clock.set(noon + timedelta(minutes=65))
        assert insignia.tick(per_destination=2).remaining == 0
    assert {insignia.task(task.id).status for task in ill} == {"active"}
    assert {insignia.task(task.id).last_status for task in ill} == {"success"}


def test_a_throttled_destination_is_forgotten_when_its_time_is_over(insignia: Insignia) -> None:
    with Receiver(lambda _: throttles()) as receiver:
        insignia.create_due(receiver.url)
        insignia.tick()
        (until,) = insignia.execute("SELECT available_at FROM throttled_destinations").one()
        assert until - insignia.now() > timedelta(seconds=95)
    insignia.execute("UPDATE throttled_destinations SET available_at = clock_timestamp()")
    insignia.tick()
    assert insignia.execute("SELECT count(*) FROM throttled_destinations").scalar_one() == 0


def test_the_longest_of_several_retry_afters_counts(insignia: Insignia) -> None:
    waits = ["100", "3000", "200"]
    with Receiver(lambda _: throttles(retry_after=waits.pop())) as receiver:
        for _ in range(3):
            insignia.create_due(receiver.url)
        assert insignia.tick().throttled == 3
    (until,) = insignia.execute("SELECT available_at FROM throttled_destinations").one()
    assert timedelta(seconds=2_990) < until - insignia.now() <= timedelta(seconds=3_000)


@pytest.mark.parametrize("deactivate_after", [0, 1, 5])
def test_410_ends_the_run_at_once_and_deactivates_the_task(insignia: Insignia, deactivate_after: int) -> None:
    with Receiver(lambda _: (410, b"")) as receiver:
        task = insignia.create_due(receiver.url, max_retry=5, deactivate_after=deactivate_after)
        summary = insignia.tick()
    assert len(receiver.requests) == 1
    state = insignia.task(task.id)
    assert (state.status, state.next_run_at) == (TaskStatus.INACTIVE, None)
    assert state.deactivated_reason is not None
    assert state.deactivated_reason.startswith("The webhook is gone (HTTP 410).")
    assert (summary.failed, summary.deactivated) == (1, 1)
    assert_adds_up(summary)


def test_410_under_an_older_revision_leaves_the_task_alone(insignia: Insignia) -> None:
    def edit(_: Received) -> Answer:
        insignia.update(task.id, name="Edited")
        return 410, b""

    with Receiver(edit) as receiver:
        task = insignia.create_due(receiver.url)
        assert insignia.tick().deactivated == 0
    assert insignia.task(task.id).status is TaskStatus.ACTIVE


def test_three_failed_runs_in_a_row_deactivate_where_three_are_allowed(insignia: Insignia) -> None:
    with Receiver(lambda _: (500, b"")) as receiver:
        task = insignia.create(receiver.url, deactivate_after=3)
        for failures in (1, 2):
            run_now(insignia, task)
            state = insignia.task(task.id)
            assert (state.status, state.consecutive_failures) == ("active", failures)
            assert state.next_run_at is not None
        run_now(insignia, task)
    state = insignia.task(task.id)
    assert (state.status, state.consecutive_failures, state.next_run_at) == ("inactive", 3, None)
    assert state.deactivated_reason == (
        "Deactivated because 3 runs in a row failed. "
        "Failed after 1 attempt: the webhook answered HTTP 500 Internal Server Error."
    )
    assert len(receiver.requests) == 3


def test_a_success_in_between_starts_the_count_again(insignia: Insignia) -> None:
    statuses = [500, 500, 200, 500, 500]
    with Receiver(lambda _: (statuses.pop(0), b"")) as receiver:
        task = insignia.create(receiver.url, deactivate_after=3)
        counts = []
        for _ in range(5):
            run_now(insignia, task)
            counts.append(insignia.task(task.id).consecutive_failures)
    assert counts == [1, 2, 0, 1, 2]
    assert insignia.task(task.id).status is TaskStatus.ACTIVE


def test_zero_means_never(insignia: Insignia) -> None:
    with Receiver(lambda _: (500, b"")) as receiver:
        task = insignia.create(receiver.url, deactivate_after=0)
        for _ in range(4):
            run_now(insignia, task)
    state = insignia.task(task.id)
    assert (state.status, state.consecutive_failures) == ("active", 4)


def test_failures_under_an_older_revision_do_not_count(insignia: Insignia) -> None:
    with Receiver(lambda _: (500, b"")) as receiver:
        task = insignia.create_due(receiver.url, max_retry=1, deactivate_after=1)
        insignia.tick(budget_seconds=12.9)
        insignia.update(task.id, name="Edited between two attempts")
        insignia.end_leases_and_waits()
        assert insignia.tick().failed == 1
        state = insignia.task(task.id)
        assert (state.status, state.consecutive_failures) == ("active", 0)
        insignia.update(task.id, max_retry=0)
        run_now(insignia, task)
    assert insignia.task(task.id).status is TaskStatus.INACTIVE  # this one counts


def test_setting_a_task_active_again_starts_the_count_again(insignia: Insignia) -> None:
    with Receiver(lambda _: (500, b"")) as receiver:
        task = insignia.create(receiver.url, deactivate_after=2)
        for _ in range(2):
            run_now(insignia, task)
        assert insignia.task(task.id).status is TaskStatus.INACTIVE
        state = insignia.update(task.id, TaskStatus.ACTIVE)
        assert (state.consecutive_failures, state.deactivated_at, state.deactivated_reason) == (0, None, None)
        run_now(insignia, task)
    assert insignia.task(task.id).status is TaskStatus.ACTIVE


def test_a_deactivation_ends_what_is_due_even_if_the_schedule_can_no_longer_be_computed(
    insignia: Insignia,
) -> None:
    def spoil(_: Received) -> Answer:
        insignia.execute("UPDATE task_state SET next_run_at = clock_timestamp()")
        insignia.execute("UPDATE tasks SET timezone = 'Mars/Olympus'")
        return 500, b""

    with Receiver(spoil) as receiver:
        task = insignia.create_due(receiver.url)
        summary = insignia.tick(concurrency=1)  # no place for the next slot while the call is in flight
    assert insignia.task(task.id).status is TaskStatus.INACTIVE
    assert sorted(log.status for log in insignia.logs(task.id)) == ["cancelled", "failed"]
    assert (summary.deactivated, summary.cancelled) == (1, 1)
    assert_adds_up(summary)
