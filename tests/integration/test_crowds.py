"""What waits for a place at its destination costs a tick little, and nobody else waits for it."""

import time
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import Connection, event

from db.claiming import Claimed, Room
from db.destination_limits import Ledger
from db.engine import transaction
from db.slot_claims import claim_slots
from domain.task import MisfirePolicy
from tests.integration.conftest import Insignia, rates_of
from tests.integration.conftest import room as empty_room
from tests.receiver import Answer, Received, Receiver

HELD_SECONDS = 1.5


def hold(_: Received) -> Answer:
    time.sleep(HELD_SECONDS)
    return 200, b""


def test_slots_of_a_full_destination_are_looked_at_twice_a_second(
    insignia: Insignia, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []

    def look(connection: Connection, room: Room) -> Claimed:
        claimed = claim_slots(connection, room)
        looks.append(claimed.taken)
        return claimed

    monkeypatch.setattr("functions.claiming.claim_slots", look)
    with Receiver(hold) as receiver:
        for _ in range(4):
            insignia.create(receiver.url)
        insignia.make_due()
        summary = insignia.tick(per_destination=2)
    assert (summary.succeeded, sum(looks)) == (4, 4)
    assert len(looks) <= 2 * HELD_SECONDS * 2 + 8  # each 50 ms it would be 60


def test_a_fast_destination_behind_a_full_one_is_served_as_its_places_become_free(insignia: Insignia) -> None:
    with Receiver(hold) as slow, Receiver() as fast:
        for _ in range(4):
            insignia.create(slow.url)
        insignia.execute("UPDATE task_state SET next_run_at = statement_timestamp() - interval '1 min'")
        for _ in range(40):
            insignia.create_due(fast.url)
        insignia.tick(per_destination=2)
        first_of_slow = min(request.at for request in slow.requests)
        last_of_fast = max(request.at for request in fast.requests)
    assert (len(slow.requests), len(fast.requests)) == (4, 40)
    assert last_of_fast - first_of_slow < HELD_SECONDS + 1  # in half seconds it would be 10 s


def test_a_claim_for_a_full_destination_asks_for_no_more_than_our_calls_have_left_places(
    insignia: Insignia, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []

    def ask(connection: Connection, room: Room) -> Claimed:
        calls = room.calls
        claimed = claim_slots(connection, room)
        asked.append((calls, claimed.taken))
        return claimed

    monkeypatch.setattr("functions.lookout.PAUSE_SECONDS", 60)
    monkeypatch.setattr("functions.claiming.claim_slots", ask)
    with Receiver() as receiver:
        for _ in range(22):
            insignia.create(receiver.url)
        insignia.make_due()
        assert insignia.tick(per_destination=4).succeeded == 22
    (first, past), later = asked[:2], asked[2:]
    assert (first, past) == ((256, 4), (252, 0))
    assert sum(taken for _, taken in later) == 18
    assert all(calls <= 4 for calls, _ in later)


def test_half_of_the_places_of_a_full_destination_are_filled_at_once_again(
    insignia: Insignia, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("functions.lookout.BATCH_SECONDS", 60)
    monkeypatch.setattr("functions.lookout.PAUSE_SECONDS", 60)
    with Receiver() as receiver:
        for _ in range(12):
            insignia.create(receiver.url, timeout_seconds=1)
        insignia.make_due()
        assert insignia.tick(per_destination=4, budget_seconds=6).succeeded == 12


def test_a_destination_is_served_to_its_end_behind_a_long_queue_for_one_that_others_have_filled(
    insignia: Insignia, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("functions.lookout.PAUSE_SECONDS", 60)
    with Receiver() as full, Receiver() as fast:
        for _ in range(32):
            insignia.create(full.url, timeout_seconds=1)
        insignia.make_due(ago=timedelta(minutes=1))  # older, so first in the queue
        assert len(insignia.claim(2)) == 2  # by another process
        for _ in range(10):
            insignia.create_due(fast.url, timeout_seconds=1)
        insignia.tick(per_destination=2, budget_seconds=6)
    assert (len(full.requests), len(fast.requests)) == (0, 10)


def test_no_more_tasks_of_a_destination_are_claimed_than_it_has_places() -> None:
    room = Room(
        calls=9,
        per_destination=2,
        in_flight=Counter({"a": 1}),
        payload_bytes=0,
        max_timeout_seconds=9,
        elsewhere=Counter({"b": 2}),
        crowded={"c"},
    )
    tasks = [{"destination": one, "id": number} for number, one in enumerate("aabcddd")]
    fitting, others = room.fitting(tasks)
    assert [task["id"] for task in fitting] == [0, 4, 5]
    assert [task["id"] for task in others] == [1, 2, 3, 6]
    assert [task["id"] for task in room.fitting(others, 2)[0]] == [1, 6]


def test_slots_that_are_not_called_are_dealt_with_at_once_however_few_places_their_destination_has(
    insignia: Insignia, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("functions.lookout.BATCH_SECONDS", 60)
    monkeypatch.setattr("functions.lookout.PAUSE_SECONDS", 60)
    with Receiver() as receiver:
        for _ in range(20):
            insignia.create(receiver.url, timeout_seconds=1, misfire_policy=MisfirePolicy.SKIP)
        insignia.make_due(ago=timedelta(minutes=5))
        fresh = [insignia.create_due(receiver.url, timeout_seconds=1) for _ in range(2)]
        summary = insignia.tick(per_destination=2, budget_seconds=6)
    assert (summary.missed, summary.succeeded) == (20, 2)
    assert [insignia.logs(task.id)[0].throttled_ms for task in fresh] == [0, 0]
    assert insignia.execute("SELECT count(*) FROM destination_limits").scalar_one() == 0


def test_places_that_slots_of_one_claim_have_not_used_allow_no_more_than_the_rate(insignia: Insignia) -> None:
    insignia.create("http://127.0.0.1:9/", misfire_policy=MisfirePolicy.SKIP)
    insignia.make_due(ago=timedelta(minutes=5))
    for _ in range(3):
        insignia.create_due("http://127.0.0.1:9/")
    here = replace(empty_room(9, per_destination=2), ledger=Ledger(rates_of("127.0.0.1=1/60s")))
    with transaction(insignia.engine) as connection:
        claimed = claim_slots(connection, here)
    assert (claimed.missed, len(claimed.runs), here.crowded) == (1, 1, {"http://127.0.0.1:9"})


def test_a_tick_does_not_end_before_it_has_looked_for_the_places_that_others_have_left(
    insignia: Insignia,
) -> None:
    def free_places(_: Received) -> Answer:
        insignia.execute("DELETE FROM task_logs WHERE task_id = ANY (:ids)", ids=others)
        return 429, b"", {"Retry-After": "3600"}  # settled at once, before the next claim

    with Receiver() as full, Receiver(free_places) as last:
        for _ in range(4):
            insignia.create(full.url)
        insignia.make_due(ago=timedelta(minutes=1))  # older, so first in the queue
        others = [run.task_id for run in insignia.claim(2)]
        insignia.create_due(last.url)
        insignia.tick(concurrency=1, per_destination=2)
    assert (len(last.requests), len(full.requests)) == (1, 2)


def test_a_claim_that_finds_nothing_asks_once(insignia: Insignia) -> None:
    insignia.create("http://127.0.0.1:9/")
    asked: list[str] = []

    def note(_: Connection, __: object, statement: str, *___: object) -> None:
        asked.append(statement)

    with transaction(insignia.engine) as connection:
        event.listen(insignia.engine, "before_cursor_execute", note)
        assert claim_slots(connection, empty_room(9)).taken == 0
        event.remove(insignia.engine, "before_cursor_execute", note)
    assert len(asked) == 1
