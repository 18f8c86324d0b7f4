"""What a tick does while a retry is due that it cannot take up: little, and nothing when it would be in vain."""

import pytest
from sqlalchemy import Connection, text

from db.claiming import Claimed, Room
from db.run_claims import claim_due_runs
from domain.task import Task
from tests.integration.conftest import Insignia
from tests.receiver import Receiver

WAIT_SECONDS = 1.5
BUDGET_SECONDS = WAIT_SECONDS + 3
"""The last 3 s are too short for a call."""


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of each look for runs that wait, how many it has taken up."""
    looks: list[int] = []

    def look(connection: Connection, room: Room) -> Claimed:
        claimed = claim_due_runs(connection, room)
        looks.append(len(claimed.runs))
        return claimed

    monkeypatch.setattr("functions.claiming.claim_due_runs", look)
    return looks


def retrying(insignia: Insignia, webhook_url: str) -> Task:
    """A task whose retry is due."""
    task = insignia.create_due(webhook_url, max_retry=1, timeout_seconds=1)
    insignia.claim()
    insignia.execute(
        "UPDATE task_logs SET status = 'retrying', available_at = clock_timestamp() WHERE task_id = :id",
        id=task.id,
    )
    return task


def test_a_retry_that_somebody_else_has_locked_is_looked_for_twice_a_second(
    insignia: Insignia, looks: list[int]
) -> None:
    task = retrying(insignia, "http://127.0.0.1:9/")
    with insignia.engine.connect() as locking:
        locking.execute(text("SELECT FROM task_logs WHERE task_id = :id FOR UPDATE"), {"id": task.id})
        insignia.tick(budget_seconds=BUDGET_SECONDS)
    assert sum(looks) == 0
    assert len(looks) <= 2 * WAIT_SECONDS * 2  # each 50 ms it would be 30


def test_a_retry_that_has_no_place_since_a_process_died_is_looked_for_twice_a_second(
    insignia: Insignia, looks: list[int]
) -> None:
    with Receiver() as receiver:
        retrying(insignia, receiver.url)
        insignia.create_due(receiver.url)
        insignia.claim()  # and die
        insignia.tick(per_destination=1, budget_seconds=BUDGET_SECONDS)
        assert receiver.requests == []
    assert len(looks) <= 2 * WAIT_SECONDS * 2


def test_a_tick_does_not_wait_for_a_retry_whose_rate_opens_after_its_end(insignia: Insignia) -> None:
    with Receiver() as receiver:
        for _ in range(2):
            retrying(insignia, receiver.url)
        summary = insignia.tick(rates="127.0.0.1=1/3600s")
    assert (summary.succeeded, summary.remaining) == (1, 1)
    assert summary.duration_seconds < 10


@pytest.mark.parametrize("rate", ["{host}=1/3600s", "{host}/*=1/3600s"])
def test_a_retry_that_its_rate_holds_back_does_not_hide_a_later_one_of_another_host(
    insignia: Insignia, rate: str
) -> None:
    with Receiver() as limited, Receiver() as other:
        for _ in range(2):
            retrying(insignia, limited.url)
        task = retrying(insignia, other.url)
        insignia.execute(
            "UPDATE task_logs SET available_at = clock_timestamp() + interval '1 s' WHERE task_id = :id",
            id=task.id,
        )
        summary = insignia.tick(rates=rate.format(host=limited.url.split("/")[2]))
    assert (len(limited.requests), len(other.requests)) == (1, 1)
    assert summary.duration_seconds < 10


def test_a_tick_waits_for_a_retry_whose_rate_opens_within_its_budget(insignia: Insignia) -> None:
    with Receiver() as receiver:
        for _ in range(2):
            retrying(insignia, receiver.url)
        assert insignia.tick(rates="127.0.0.1=1/1s").succeeded == 2
