"""Who is called when not all can be: places, fairness, and results that cannot be written."""

import threading
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, text

from db.engine import transaction
from db.settle import Refused, Settlement, end_unrecordable, settle
from db.slot_claims import claim_slots
from domain.attempt import Attempt
from domain.errors import Unavailable
from domain.run import ClaimedRun, Decision, RunStatus, decide
from domain.task import TaskStatus
from functions.egress import Egress
from functions.notifications import NotifySettings
from tests.integration.conftest import Insignia, assert_adds_up, room
from tests.receiver import Answer, Received, Receiver

NOBODY = "http://127.0.0.1:9/"
PATIENCE = 10
"""Seconds after which a test has failed that waits for something that does not come."""


class Crowd:
    """Answers calls only once `number` of them are there together (or have been); knows the most there were."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.most = 0
        self._present = 0
        self._changed = threading.Condition()

    def __call__(self, _: Received) -> Answer:
        with self._changed:
            self._present += 1
            self.most = max(self.most, self._present)
            self._changed.notify_all()
            came_together = self._changed.wait_for(lambda: self.most >= self.number, PATIENCE)
            self._present -= 1
        return (200 if came_together else 500), b""


def test_a_destination_has_its_places_and_others_have_theirs(insignia: Insignia) -> None:
    crowd, others_done = Crowd(3), threading.Event()

    def hang(request: Received) -> Answer:
        others_done.wait(PATIENCE)
        return crowd(request)

    with Receiver(hang) as sick, Receiver() as healthy:
        for _ in range(10):
            insignia.create(sick.url)
        insignia.make_due(ago=timedelta(minutes=1))  # older, so first in the queue
        for _ in range(5):
            insignia.create_due(healthy.url)

        def end_when_all_are_served() -> None:
            healthy.wait_for(5, PATIENCE)
            others_done.set()

        watcher = threading.Thread(target=end_when_all_are_served)
        watcher.start()
        summary = insignia.tick(concurrency=8, per_destination=3)
        watcher.join()
    assert others_done.is_set()
    assert crowd.most == 3
    assert (summary.succeeded, summary.remaining) == (15, 0)
    assert_adds_up(summary)


def test_two_claims_at_once_do_not_both_take_the_last_place(insignia: Insignia) -> None:
    for _ in range(2):
        insignia.create_due("http://127.0.0.1:9/hook")
    with insignia.engine.connect() as first, insignia.engine.connect() as second:
        assert len(claim_slots(first, room(1, per_destination=1)).runs) == 1
        during = room(1, per_destination=1)
        assert claim_slots(second, during).runs == []
        assert during.contended == {"http://127.0.0.1:9"}
        first.commit()
        second.commit()
        after = room(1, per_destination=1)
        assert claim_slots(second, after).runs == []
        assert (after.contended, after.crowded) == (set(), {"http://127.0.0.1:9"})


def test_a_dead_process_holds_its_places_until_its_leases_end_and_is_in_nobodys_way(
    insignia: Insignia,
) -> None:
    with Receiver() as crowded, Receiver() as healthy:
        tasks = [insignia.create(crowded.url) for _ in range(12)]
        insignia.make_due(ago=timedelta(minutes=1))  # older, so first in the queue
        assert len(insignia.claim(2)) == 2
        other = insignia.create_due(healthy.url)
        summary = insignia.tick(concurrency=4, per_destination=2)
        assert [log.status for log in insignia.logs(other.id)] == ["success"]
        assert (crowded.requests, summary.started, summary.remaining) == ([], 1, 10)
        assert insignia.run(tasks[0].id, per_destination=2).status is RunStatus.RETRYING

        insignia.end_leases_and_waits()
        assert insignia.tick(per_destination=2).succeeded == 13


def test_concurrency_bounds_the_calls_to_all_destinations(insignia: Insignia) -> None:
    crowd = Crowd(4)
    with Receiver(crowd) as one, Receiver(crowd) as another:
        for _ in range(5):
            insignia.create(one.url)
            insignia.create(another.url)
        insignia.make_due()
        summary = insignia.tick(concurrency=4)
    assert crowd.most == 4
    assert summary.succeeded == 10


def test_payloads_in_flight_are_bounded_but_a_large_one_goes_alone(
    insignia: Insignia, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("functions.claiming.PAYLOAD_BYTES", 1000)
    crowd = Crowd(2)
    with Receiver(crowd) as receiver:
        for _ in range(5):
            insignia.create(receiver.url, payload="ü" * 200)
        insignia.make_due()
        assert insignia.tick().succeeded == 5
    assert crowd.most == 2
    alone = Crowd(1)
    with Receiver(alone) as receiver:
        for size in (1500, 400, 1500, 400):
            insignia.create_due(receiver.url, payload="x" * size)
        assert insignia.tick().succeeded == 4
    assert alone.most <= 2


def test_a_call_whose_deadline_does_not_fit_into_the_budget_is_left(insignia: Insignia) -> None:
    with Receiver() as receiver:
        long = insignia.create_due(receiver.url, timeout_seconds=20)
        short = insignia.create_due(receiver.url, timeout_seconds=5)
        summary = insignia.tick(budget_seconds=12)
        assert [log.task_id for log in insignia.logs()] == [short.id]
        assert insignia.task(long.id).next_run_at == long.next_run_at
        assert (summary.due, summary.succeeded, summary.remaining) == (2, 1, 1)
        assert insignia.tick(budget_seconds=23).succeeded == 1


@pytest.mark.parametrize("places", [1, 4])
def test_retries_and_slots_share_the_places(insignia: Insignia, places: int) -> None:
    with Receiver() as receiver:
        for _ in range(8):
            insignia.create(receiver.url)
        insignia.make_due()
        assert len(insignia.claim()) == 8
        insignia.end_leases_and_waits()
        for _ in range(8):
            insignia.create_due(receiver.url)
        summary = insignia.tick(concurrency=places)
    are_retries = [request.headers["X-Insignia-Attempt"] == "2" for request in receiver.requests]
    assert (len(are_retries), sum(are_retries), summary.succeeded) == (16, 8, 16)
    assert sum(are_retries[:8]) in {3, 4, 5}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_blocked_address_is_a_failed_attempt_and_no_connection(insignia: Insignia, host: str) -> None:
    with Receiver() as receiver:
        task = insignia.create_due(receiver.url.replace("127.0.0.1", host))
        summary = insignia.tick(egress=Egress())
    assert receiver.requests == []
    assert receiver.connections == 0
    (log,) = insignia.logs(task.id)
    assert (log.status, log.error, log.http_status) == ("failed", "blocked", None)
    assert [(one["outcome"], one["error"]) for one in log.attempts] == [("failed", "blocked")]
    assert log.message is not None
    assert "loopback" in log.message
    assert (summary.started, summary.failed) == (1, 1)


BAD_RESULTS = [
    pytest.param({"response_excerpt": "a NUL \0"}, id="NUL"),
    pytest.param({"http_status": 99_999}, id="http_status"),
    pytest.param({"response_excerpt": "half a character \ud800"}, id="surrogate"),
]


@pytest.mark.parametrize("bad", BAD_RESULTS)
def test_a_result_that_cannot_be_written_ends_alone_as_our_error(
    insignia: Insignia, monkeypatch: pytest.MonkeyPatch, bad: Mapping[str, Any]
) -> None:
    def decide_badly(run: ClaimedRun, attempt: Attempt, jitter: float) -> Decision:
        return decide(run, attempt._replace(**bad) if run.task_name == "Bad" else attempt, jitter)

    monkeypatch.setattr("functions.ticking.decide", decide_badly)
    crowd = Crowd(3)  # so that the three end in one batch
    with Receiver(crowd) as receiver:
        tasks = [insignia.create(receiver.url, name=name) for name in ("Good", "Bad", "Good too")]
        insignia.make_due()
        summary = insignia.tick()
        statuses = [insignia.logs(task.id)[0].status for task in tasks]
        assert statuses == ["success", "failed", "success"]
        (log,) = insignia.logs(tasks[1].id)
        assert log.message == "Failed: Insignia could not record the answer; its log says why."
        assert [attempt["outcome"] for attempt in log.attempts] == ["failed"]
        assert log.finished_at is not None
        state = insignia.task(tasks[1].id)
        assert (state.status, state.consecutive_failures) == (TaskStatus.ACTIVE, 0)
        assert (state.last_status, state.last_run_at) == ("failed", log.execution_time)
        assert (summary.started, summary.succeeded, summary.failed, summary.unsettled) == (3, 2, 1, 0)
        assert_adds_up(summary)
        insignia.make_due()
        assert insignia.tick().due in {0, 3}  # the connection is as good as before


@pytest.mark.parametrize("bad", BAD_RESULTS)
@pytest.mark.parametrize("status", [200, 500])
def test_a_result_that_cannot_be_written_has_failed_also_when_it_is_told_twice(
    insignia: Insignia, monkeypatch: pytest.MonkeyPatch, bad: Mapping[str, Any], status: int
) -> None:
    """The answer to the first commit is lost."""
    written: list[Settlement] = []

    def write(connection: Connection, decision: Decision, refused: Refused) -> Settlement:
        if written:
            return end_unrecordable(connection, decision, refused)
        with transaction(insignia.engine) as committed:
            written.append(end_unrecordable(committed, decision, refused))
        raise Unavailable("The database is away.")

    def decide_badly(run: ClaimedRun, attempt: Attempt, jitter: float) -> Decision:
        return decide(run, attempt._replace(**bad), jitter)

    monkeypatch.setattr("functions.ticking.end_unrecordable", write)
    monkeypatch.setattr("functions.ticking.decide", decide_badly)
    with Receiver(lambda _: (status, b"")) as receiver:
        insignia.create_due(receiver.url, max_retry=3)
        with pytest.raises(Unavailable):
            insignia.tick()
    (log,) = insignia.logs()
    assert (log.status, [attempt["outcome"] for attempt in log.attempts]) == ("failed", ["failed"])
    assert insignia.execute("SELECT started, failed, late FROM ticks").one() == (1, 1, 0)


def test_results_beside_a_bad_one_are_written_once_when_the_database_goes_away_between_them(
    insignia: Insignia, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decide_badly(run: ClaimedRun, attempt: Attempt, jitter: float) -> Decision:
        return decide(
            run, attempt._replace(http_status=99_999) if run.task_name == "Bad" else attempt, jitter
        )

    settled: list[int] = []

    def go_away_once(connection: Connection, decisions: Sequence[Decision]) -> Settlement:
        settled.append(len(decisions))
        if settled == [2, 1, 1]:
            raise Unavailable("The database is away.")
        return settle(connection, decisions)

    monkeypatch.setattr("functions.ticking.decide", decide_badly)
    monkeypatch.setattr("functions.ticking.settle", go_away_once)
    crowd = Crowd(2)

    def fail(request: Received) -> Answer:
        crowd(request)
        return 500, b""

    with Receiver(fail) as receiver:
        tasks = [insignia.create(receiver.url, name=name, deactivate_after=2) for name in ("Good", "Bad")]
        insignia.make_due()
        with pytest.raises(Unavailable, match="away"):
            insignia.tick(notify=NotifySettings(url=NOBODY))
    assert settled[:4] == [2, 1, 1, 2]
    assert [insignia.logs(task.id)[0].status for task in tasks] == ["failed", "failed"]
    assert [insignia.task(task.id).consecutive_failures for task in tasks] == [1, 0]
    told = insignia.execute("SELECT data ->> 'task_name' FROM notifications WHERE kind = 'task.failed'")
    assert sorted(told.scalars()) == ["Bad", "Good"]


def test_a_result_whose_task_is_locked_keeps_nobody_waiting_and_is_not_lost(insignia: Insignia) -> None:
    others_settled = threading.Event()
    with Receiver() as receiver, insignia.engine.connect() as holder:

        def hold(_: Received) -> Answer:
            holder.execute(text("SELECT FROM task_state WHERE task_id = :id FOR UPDATE"), {"id": locked.id})
            return 200, b""

        with Receiver(hold) as locking:
            locked = insignia.create_due(locking.url)
            other = insignia.create_due(receiver.url)

            def let_go() -> None:
                receiver.wait_for(1)
                while insignia.logs(other.id)[0].status is not RunStatus.SUCCESS:
                    others_settled.wait(0.01)
                others_settled.set()
                locking.wait_for(1)
                holder.rollback()

            watcher = threading.Thread(target=let_go)
            watcher.start()
            summary = insignia.tick()
            watcher.join()
    assert (summary.succeeded, summary.unsettled) == (2, 0)
    assert insignia.logs(locked.id)[0].status is RunStatus.SUCCESS


def test_a_result_that_stays_unsettled_is_a_503_and_an_unknown_attempt_later(insignia: Insignia) -> None:
    with insignia.engine.connect() as holder:

        def hold(_: Received) -> Answer:
            holder.execute(text("SELECT FROM task_state FOR UPDATE"))
            return 200, b""

        with Receiver(hold) as receiver:
            task = insignia.create_due(receiver.url, timeout_seconds=1)
            with pytest.raises(Unavailable, match="could not be recorded"):
                insignia.tick(budget_seconds=4)
            holder.rollback()
    row = insignia.execute("SELECT started, succeeded, unsettled FROM ticks").one()
    assert tuple(row) == (1, 0, 1)
    insignia.end_leases_and_waits()
    with Receiver() as receiver:
        insignia.update(task.id, webhook_url=receiver.url)
        insignia.tick()
    assert [one["outcome"] for one in insignia.logs(task.id)[0].attempts] == ["unknown", "success"]
