"""The story of a tick on a real PostgreSQL, against a real receiver."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import Connection

from db.backlog import seconds_until_next
from db.engine import make_engine, transaction
from db.settle import Settlement, settle
from db.tasks import delete_task, update_task
from domain.errors import Unavailable
from domain.run import Decision, RunStatus
from domain.schedule import next_run
from domain.task import TaskStatus
from tests.integration.conftest import YEARLY, Insignia, assert_adds_up
from tests.receiver import Answer, Received, Receiver


def fails(times: int, status: int = 500) -> "Failing":
    return Failing(times, status)


class Failing:
    """Fails the first attempts of each run."""

    def __init__(self, times: int, status: int) -> None:
        self.times = times
        self.status = status

    def __call__(self, request: Received) -> Answer:
        return (
            (self.status, b"no") if int(request.headers["X-Insignia-Attempt"]) <= self.times else (200, b"ok")
        )


def test_a_due_task_is_called_with_its_payload_and_logged(insignia: Insignia) -> None:
    with Receiver() as receiver:
        task = insignia.create_due(receiver.url, payload={"ü": [1, 2.5, None], "a": "b"})
        summary = insignia.tick()
    (request,) = receiver.requests
    assert request.body == '{"ü":[1,2.5,null],"a":"b"}'.encode()
    assert request.headers["Content-Type"] == "application/json"
    (log,) = insignia.logs(task.id)
    assert log.status is RunStatus.SUCCESS
    assert log.scheduled_for == task.next_run_at
    assert (log.retry_count, log.http_status, log.response_excerpt) == (0, 200, "ok")
    assert [attempt["outcome"] for attempt in log.attempts] == ["success"]
    assert (summary.due, summary.started, summary.succeeded, summary.remaining) == (1, 1, 1, 0)
    assert_adds_up(summary)


def test_each_call_carries_the_identity_of_its_run(insignia: Insignia) -> None:
    with Receiver(fails(1)) as receiver:
        task = insignia.create_due(receiver.url, max_retry=1)
        insignia.tick()
    (log,) = insignia.logs(task.id)
    assert [request.headers["webhook-id"] for request in receiver.requests] == [str(log.id)] * 2
    assert [request.headers["X-Insignia-Attempt"] for request in receiver.requests] == ["1", "2"]
    first = receiver.requests[0].headers
    assert first["X-Insignia-Task-Id"] == str(task.id)
    assert task.next_run_at is not None
    assert first["X-Insignia-Scheduled-For"] == task.next_run_at.isoformat().replace("+00:00", "Z")
    assert abs(int(first["webhook-timestamp"]) - log.execution_time.timestamp()) <= 1
    assert first["User-Agent"].startswith("Insignia/")
    assert "Expect" not in first


def test_a_task_moves_on_to_the_slot_after_the_claimed_one(insignia: Insignia) -> None:
    with Receiver() as receiver:
        task = insignia.create_due(receiver.url)
        insignia.tick()
    assert task.next_run_at is not None
    assert insignia.task(task.id).next_run_at == next_run(YEARLY, "UTC", task.next_run_at)


def test_a_failing_task_is_retried_with_backoff_and_then_succeeds(insignia: Insignia) -> None:
    with Receiver(fails(2)) as receiver:
        task = insignia.create_due(receiver.url, max_retry=3)
        summary = insignia.tick()
    at = [request.at for request in receiver.requests]
    assert 1 <= at[1] - at[0] < 2
    assert 2 <= at[2] - at[1] < 3
    (log,) = insignia.logs(task.id)
    assert (log.status, log.retry_count, log.http_status) == ("success", 2, 200)
    assert [attempt["outcome"] for attempt in log.attempts] == ["failed", "failed", "success"]
    state = insignia.task(task.id)
    assert (state.status, state.consecutive_failures, state.last_status) == ("active", 0, "success")
    assert (summary.started, summary.retrying, summary.succeeded) == (3, 2, 1)
    assert_adds_up(summary)


def test_a_task_that_exceeds_max_retry_is_deactivated(insignia: Insignia) -> None:
    with Receiver(fails(99)) as receiver:
        task = insignia.create_due(receiver.url, max_retry=1)
        summary = insignia.tick()
    (log,) = insignia.logs(task.id)
    assert (log.status, log.retry_count) == ("failed", 1)
    assert log.message == "Failed after 2 attempts: the webhook answered HTTP 500 Internal Server Error."
    state = insignia.task(task.id)
    assert (state.status, state.next_run_at, state.consecutive_failures) == ("inactive", None, 1)
    assert state.deactivated_at is not None
    assert state.deactivated_reason is not None
    assert "HTTP 500" in state.deactivated_reason
    assert (state.revision, state.updated_at) == (task.revision, task.updated_at)
    assert (summary.failed, summary.deactivated) == (1, 1)
    assert_adds_up(summary)


def test_a_deactivated_task_is_not_called_again(insignia: Insignia) -> None:
    with Receiver(fails(99)) as receiver:
        insignia.create_due(receiver.url)
        insignia.tick()
        insignia.make_due()
        summary = insignia.tick()
    assert len(receiver.requests) == 1
    assert (summary.due, summary.started) == (0, 0)


def test_an_inactive_task_is_not_called(insignia: Insignia) -> None:
    with Receiver() as receiver:
        insignia.create(receiver.url, status=TaskStatus.INACTIVE)
        insignia.make_due()
        assert insignia.tick().started == 0
    assert receiver.requests == []


def test_a_run_that_ends_with_429_does_not_deactivate(insignia: Insignia) -> None:
    with Receiver(fails(99, status=429)) as receiver:
        task = insignia.create_due(receiver.url)
        insignia.tick()
    (log,) = insignia.logs(task.id)
    assert (log.status, log.http_status) == ("failed", 429)
    assert (insignia.task(task.id).status, insignia.task(task.id).consecutive_failures) == ("active", 0)


def test_an_unreachable_webhook_is_a_logged_failure(insignia: Insignia) -> None:
    with Receiver() as receiver:
        url = receiver.url
    task = insignia.create_due(url)
    insignia.tick()
    (log,) = insignia.logs(task.id)
    assert (log.status, log.http_status, log.error) == ("failed", None, "connect")


def test_a_slot_claimed_before_an_edit_does_not_count_after_it(insignia: Insignia) -> None:
    def edit(_: Received) -> Answer:
        with transaction(insignia.engine) as connection:
            update_task(connection, task.id, {"name": "Edited"}, None)
        return 500, b""

    with Receiver(edit) as receiver:
        task = insignia.create_due(receiver.url)
        summary = insignia.tick()
    assert summary.failed == 1
    assert (insignia.task(task.id).status, insignia.task(task.id).consecutive_failures) == ("active", 0)


def test_a_task_deleted_during_its_call_leaves_no_log(insignia: Insignia) -> None:
    def delete(_: Received) -> Answer:
        with transaction(insignia.engine) as connection:
            delete_task(connection, task.id)
        return 200, b""

    with Receiver(delete) as receiver:
        task = insignia.create_due(receiver.url)
        summary = insignia.tick()
    assert insignia.logs() == []
    assert (summary.started, summary.cancelled) == (1, 1)
    assert_adds_up(summary)


def test_a_task_deactivated_during_its_call_is_not_retried(insignia: Insignia) -> None:
    def deactivate(_: Received) -> Answer:
        with transaction(insignia.engine) as connection:
            update_task(connection, task.id, {}, TaskStatus.INACTIVE)
        return 500, b""

    with Receiver(deactivate) as receiver:
        task = insignia.create_due(receiver.url, max_retry=5)
        summary = insignia.tick()
    (log,) = insignia.logs(task.id)
    assert log.status is RunStatus.CANCELLED
    assert (len(receiver.requests), summary.cancelled) == (1, 1)
    assert_adds_up(summary)


def test_setting_a_task_inactive_cancels_its_waiting_run(insignia: Insignia) -> None:
    with Receiver(fails(99)) as receiver:
        task = insignia.create_due(receiver.url, max_retry=5)
        insignia.tick(budget_seconds=12.9)  # no time for a retry
        assert insignia.logs(task.id)[0].status is RunStatus.RETRYING
        with transaction(insignia.engine) as connection:
            update_task(connection, task.id, {}, TaskStatus.INACTIVE)
    assert insignia.logs(task.id)[0].status is RunStatus.CANCELLED


def test_a_retry_beyond_the_budget_is_left_to_the_next_tick(insignia: Insignia) -> None:
    with Receiver(fails(1)) as receiver:
        task = insignia.create_due(receiver.url, max_retry=5)
        assert insignia.tick(budget_seconds=12.9).retrying == 1
        insignia.end_leases_and_waits()
        summary = insignia.tick()
    assert (summary.due, summary.succeeded) == (1, 1)
    assert insignia.logs(task.id)[0].retry_count == 1


@pytest.mark.parametrize("late", [0, 30])
def test_a_retry_that_is_due_is_waited_for_only_while_its_call_fits(insignia: Insignia, late: int) -> None:
    insignia.create_due("http://127.0.0.1:9/", timeout_seconds=10)
    insignia.claim()
    insignia.execute(
        "UPDATE task_logs SET status = 'retrying', available_at = clock_timestamp() - make_interval(secs => :late)",
        late=late,
    )
    with transaction(insignia.engine) as connection:
        assert seconds_until_next(connection, 11)[1] <= -late
        assert seconds_until_next(connection, 9)[1] == math.inf


def test_two_failures_of_one_task_in_one_batch_count_twice(insignia: Insignia) -> None:
    with Receiver(fails(99)) as receiver:
        task = insignia.create_due(receiver.url)
        runs = insignia.claim()
        insignia.make_due(task.id, ago=timedelta(minutes=1))
        runs += insignia.claim()
        insignia.end_leases_and_waits()
        insignia.tick()
    assert len(runs) == len(receiver.requests) == 2
    assert insignia.task(task.id).consecutive_failures == 2


def test_two_ticks_at_once_deliver_each_of_500_slots_once(insignia: Insignia) -> None:
    with Receiver() as receiver:
        for number in range(500):
            insignia.create(receiver.url, name=f"Task {number}")
        insignia.make_due()
        with ThreadPoolExecutor(2) as pool:
            ticks = [pool.submit(insignia.tick) for _ in range(2)]
            summaries = [tick.result() for tick in ticks]
    assert len(receiver.requests) == 500
    assert len({request.headers["webhook-id"] for request in receiver.requests}) == 500
    assert sum(summary.succeeded for summary in summaries) == 500
    assert all(log.status is RunStatus.SUCCESS for log in insignia.logs())
    for summary in summaries:
        assert_adds_up(summary)


def test_a_schedule_that_cannot_be_computed_deactivates_that_task_alone(insignia: Insignia) -> None:
    with Receiver() as receiver:
        broken = insignia.create(receiver.url)
        healthy = insignia.create(receiver.url)
        insignia.execute("UPDATE tasks SET timezone = 'Mars/Olympus' WHERE id = :id", id=broken.id)
        insignia.make_due()
        summary = insignia.tick()
    assert (summary.succeeded, summary.deactivated) == (1, 1)
    assert insignia.task(healthy.id).status is TaskStatus.ACTIVE
    state = insignia.task(broken.id)
    assert state.status is TaskStatus.INACTIVE
    assert "Mars/Olympus" in (state.deactivated_reason or "")
    assert [log.status for log in insignia.logs(broken.id)] == ["cancelled"]
    assert_adds_up(summary)


def test_a_deactivation_cancels_the_waiting_run_and_the_due_slot_of_the_task(insignia: Insignia) -> None:
    with Receiver(fails(99)) as receiver:
        task = insignia.create(receiver.url, max_retry=1)
        insignia.make_due(task.id, ago=timedelta(minutes=1))
        insignia.tick(budget_seconds=12.9)
        assert [log.status for log in insignia.logs(task.id)] == ["retrying"]
        insignia.execute("UPDATE task_logs SET available_at = clock_timestamp() + interval '1 hour'")
        insignia.execute("UPDATE tasks SET max_retry = 0")
        insignia.make_due(task.id)

        def make_due_again(_: Received) -> Answer:
            insignia.make_due(task.id, ago=timedelta(minutes=2))
            return 500, b""

        with Receiver(make_due_again) as second:
            insignia.execute("UPDATE tasks SET webhook_url = :url", url=second.url)
            summary = insignia.tick()
    assert sorted(log.status for log in insignia.logs(task.id)) == ["cancelled", "cancelled", "failed"]
    assert (summary.deactivated, summary.cancelled) == (1, 2)
    assert_adds_up(summary)


def test_no_transaction_waits_for_a_call(insignia: Insignia) -> None:
    is_open = (
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid() AND xact_start IS NOT NULL"
    )

    def answer_when_none_is_open(_: Received) -> Answer:
        while insignia.execute(is_open).scalar_one():
            pass
        return 200, b""

    with Receiver(answer_when_none_is_open) as receiver:
        insignia.create_due(receiver.url)
        assert insignia.tick().succeeded == 1


def test_each_tick_leaves_one_row_with_its_summary(insignia: Insignia) -> None:
    with Receiver() as receiver:
        insignia.create_due(receiver.url)
        insignia.tick()
        insignia.tick()
    rows = insignia.execute("SELECT due, started, succeeded FROM ticks ORDER BY id").all()
    assert [tuple(row) for row in rows] == [(1, 1, 1), (0, 0, 0)]


def test_rows_of_ticks_are_kept_for_7_days(insignia: Insignia) -> None:
    insignia.tick()
    insignia.execute("UPDATE ticks SET started_at = started_at - interval '8 days'")
    insignia.tick()
    assert insignia.execute("SELECT count(*) FROM ticks").scalar_one() == 1


def test_a_tick_with_a_database_that_is_away_says_so(insignia: Insignia) -> None:
    away = insignia.engine.url.set(database="nowhere").render_as_string(hide_password=False)
    with pytest.raises(Unavailable, match="try again"):
        Insignia(make_engine(away, pool_size=0)).tick()


def test_concurrency_bounds_the_calls_in_flight(insignia: Insignia) -> None:
    with Receiver() as receiver:
        for _ in range(20):
            insignia.create(receiver.url)
        insignia.make_due()
        summary = insignia.tick(concurrency=3)
    assert summary.succeeded == 20


def test_a_settle_that_is_repeated_changes_nothing(
    insignia: Insignia, monkeypatch: pytest.MonkeyPatch
) -> None:
    acknowledged: list[bool] = []

    def settle_and_lose_the_first_acknowledgement(
        connection: Connection, decisions: Sequence[Decision]
    ) -> Settlement:
        settlement = settle(connection, decisions)
        acknowledged.append(bool(acknowledged))
        if not acknowledged[-1]:
            connection.commit()
            raise Unavailable("The acknowledgement was lost.")
        return settlement

    monkeypatch.setattr("functions.ticking.settle", settle_and_lose_the_first_acknowledgement)
    with Receiver(fails(99)) as receiver:
        task = insignia.create_due(receiver.url)
        with pytest.raises(Unavailable, match="acknowledgement"):
            insignia.tick()
    assert acknowledged == [False, True]
    (log,) = insignia.logs(task.id)
    assert (log.status, [attempt["outcome"] for attempt in log.attempts]) == ("failed", ["failed"])
    assert insignia.task(task.id).consecutive_failures == 1
    row = insignia.execute("SELECT started, failed, late, unsettled FROM ticks").one()
    assert tuple(row) == (1, 1, 0, 0)
