"""What a tick gives back: the claim of a process that was frozen, and calls without an answer when it is to stop."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from uuid import uuid4

import pytest
from sqlalchemy import Connection

from db.claiming import Claimed, Room
from db.manual_runs import begin_run
from db.slot_claims import claim_slots
from domain.run import ClaimedRun, RunStatus
from functions.delivery import PORTION
from functions.manual_runs import attempt
from functions.transfer import Call, monotonic
from functions.webhook import call_of
from tests.integration.conftest import LOOPBACK, Insignia, assert_adds_up
from tests.receiver import Answer, Received, Receiver

PATIENCE = 10
"""Seconds after which a test has failed that waits for something that does not come."""


class FrozenOnce:
    """A claim after which the process is frozen for 6 s, the first time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds = 0.0
        for module in ("ticking", "claiming"):
            monkeypatch.setattr(f"functions.{module}.monotonic", lambda: monotonic() + self.seconds)
        monkeypatch.setattr("functions.claiming.claim_slots", self.claim)

    def claim(self, connection: Connection, room: Room) -> Claimed:
        claimed = claim_slots(connection, room)
        if claimed.runs:
            self.seconds = 6.0
        return claimed


def test_a_claim_that_is_older_than_5_s_is_given_back_unsent(
    insignia: Insignia, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(request: Received) -> Answer:
        ids.append(str(insignia.logs(task.id)[0].id))
        return 200, b""

    ids: list[str] = []
    with Receiver(look) as receiver:
        task = insignia.create_due(receiver.url)
        frozen = FrozenOnce(monkeypatch)
        summary = insignia.tick()
    assert frozen.seconds
    (request,) = receiver.requests
    (log,) = insignia.logs(task.id)
    assert [request.headers["webhook-id"]] == ids == [str(log.id)]
    assert request.headers["X-Insignia-Attempt"] == "1"
    assert (log.status, log.retry_count) == ("success", 0)
    assert [attempt["outcome"] for attempt in log.attempts] == ["success"]
    assert insignia.execute("SELECT lost_leases FROM task_logs").scalar_one() == 0
    assert (summary.started, summary.succeeded, summary.unsettled) == (1, 1, 0)
    assert_adds_up(summary)


def test_of_a_claim_during_which_the_process_is_frozen_nothing_is_sent_later(
    insignia: Insignia, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls are sent while others of the claim are still to begin, which then do not look as old as they are."""
    begun, runs = [], 2 * PORTION + 10

    def call_of_a_run(run: ClaimedRun) -> Call:
        begun.append(run)
        return call_of(run)

    for module in ("ticking", "claiming", "delivery", "transfer"):
        monkeypatch.setattr(
            f"functions.{module}.monotonic", lambda: monotonic() + 6 * (len(begun) > PORTION + 5)
        )
    monkeypatch.setattr("functions.ticking.call_of", call_of_a_run)
    with Receiver() as receiver:
        for _ in range(runs):
            insignia.create_due(receiver.url)
        summary = insignia.tick(budget_seconds=14, per_destination=runs)
    assert receiver.requests == []
    assert (summary.started, summary.remaining, summary.unsettled) == (0, runs, 0)


def test_what_was_given_back_waits_for_the_next_tick_if_there_is_no_time(
    insignia: Insignia, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Receiver() as receiver:
        task = insignia.create_due(receiver.url)
        with monkeypatch.context() as patch:
            FrozenOnce(patch)
            summary = insignia.tick(budget_seconds=14)
        (log,) = insignia.logs(task.id)
        assert (log.status, log.attempts, log.retry_count) == (RunStatus.RETRYING, [], 0)
        assert receiver.requests == []
        assert (summary.started, summary.remaining, summary.unsettled) == (0, 1, 0)
        assert insignia.tick().succeeded == 1
    assert receiver.requests[0].headers["webhook-id"] == str(log.id)
    assert receiver.requests[0].headers["X-Insignia-Attempt"] == "1"


@contextmanager
def hanging_receiver(on_call: Callable[[], None]) -> Iterator[Receiver]:
    """It answers nobody before its end."""
    over = threading.Event()

    def hang(_: Received) -> Answer:
        on_call()
        over.wait(PATIENCE)
        return 200, b""

    with Receiver(hang) as receiver:
        try:
            yield receiver
        finally:
            over.set()


def test_sigterm_gives_back_what_has_no_answer_in_time(
    insignia: Insignia, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("functions.ticking.STOP_SECONDS", 0.3)
    stopping = threading.Event()
    with hanging_receiver(stopping.set) as receiver:
        task = insignia.create_due(receiver.url)
        began_at = time.monotonic()
        summary = insignia.tick(is_stopping=stopping.is_set)
        assert 0.3 <= time.monotonic() - began_at < 5
    (log,) = insignia.logs(task.id)
    assert (log.status, log.finished_at) == ("retrying", None)
    assert [attempt["outcome"] for attempt in log.attempts] == ["unknown"]
    assert insignia.execute("SELECT available_at <= clock_timestamp() FROM task_logs").scalar_one()
    assert (summary.started, summary.retrying, summary.remaining) == (1, 1, 1)
    assert_adds_up(summary)

    with Receiver() as receiver:
        insignia.update(task.id, webhook_url=receiver.url)
        assert insignia.tick().succeeded == 1
    (request,) = receiver.requests
    assert request.headers["webhook-id"] == str(log.id)
    assert request.headers["X-Insignia-Attempt"] == "2"


def test_sigterm_gives_back_a_run_by_hand_too(insignia: Insignia, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its one call leaves no place for which the tick would ask whether it may claim."""
    monkeypatch.setattr("functions.ticking.STOP_SECONDS", 0.1)
    stopping, run_id = threading.Event(), uuid4()
    with hanging_receiver(stopping.set) as receiver:
        task = insignia.create(receiver.url, timeout_seconds=2)
        begin = partial(begin_run, run_id=run_id, task_id=task.id, per_destination=64, rates={})
        attempt(insignia.engine, LOOPBACK, begin, is_stopping=stopping.is_set)
    log = insignia.log(run_id)
    assert (log.status, log.finished_at) == ("retrying", None)
    assert [attempt["outcome"] for attempt in log.attempts] == ["unknown"]
    assert insignia.execute("SELECT available_at <= clock_timestamp() FROM task_logs").scalar_one()


def test_sigterm_lets_calls_finish_and_claims_nothing_more(insignia: Insignia) -> None:
    stopping, is_noticed = threading.Event(), threading.Event()

    def is_stopping() -> bool:
        if stopping.is_set():
            is_noticed.set()
        return stopping.is_set()

    def answer_after_sigterm(_: Received) -> Answer:
        insignia.make_due(late.id)
        stopping.set()
        is_noticed.wait(PATIENCE)
        return 200, b""

    with Receiver(answer_after_sigterm) as receiver:
        late = insignia.create(receiver.url)
        task = insignia.create_due(receiver.url)
        began_at = time.monotonic()
        summary = insignia.tick(is_stopping=is_stopping)
    assert time.monotonic() - began_at < 5
    assert [(log.task_id, log.status) for log in insignia.logs()] == [(task.id, "success")]
    assert (summary.started, summary.succeeded, summary.remaining) == (1, 1, 1)


def test_sigterm_before_the_first_claim_leaves_everything_to_others(insignia: Insignia) -> None:
    with Receiver() as receiver:
        insignia.create_due(receiver.url)
        summary = insignia.tick(is_stopping=lambda: True)
    assert receiver.requests == []
    assert insignia.logs() == []
    assert (summary.due, summary.started, summary.remaining) == (1, 0, 1)
