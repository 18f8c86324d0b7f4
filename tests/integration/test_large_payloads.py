"""Payloads of hundreds of kilobytes: a tick has memory for some of them, and reads no more."""

import tracemalloc
from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Connection

from db.backlog import seconds_until_next
from db.claiming import LARGE_BYTES, Definition, definitions_in
from db.engine import transaction
from db.manual_runs import begin_run
from db.slot_claims import claim_slots
from tests.copies import copy_task
from tests.integration.conftest import Insignia, room
from tests.receiver import Receiver

LARGE = {"text": 'a "quoted" \\ ü \N{PILE OF POO} ' * 4_000}
NOWHERE = "http://127.0.0.1:9/hook"


def test_a_large_payload_arrives_as_it_is_whatever_claims_it(insignia: Insignia) -> None:
    with Receiver() as receiver:
        task = insignia.create_due(receiver.url, payload=LARGE)
        insignia.tick()
        insignia.run(task.id)
        insignia.make_due(task.id, ago=timedelta(minutes=1))
        insignia.claim()
        insignia.end_leases_and_waits()
        insignia.tick()
        expected = insignia.execute("SELECT payload::text FROM tasks").scalar_one().encode()
    assert len(expected) > LARGE_BYTES
    assert [request.body for request in receiver.requests] == [expected] * 3


def test_no_run_by_hand_sends_the_payload_of_one_edit_to_the_url_of_another(
    insignia: Insignia, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = insignia.create(NOWHERE, payload="old" * LARGE_BYTES)

    def definitions_before_an_edit(rows: Iterable[Sequence[Any]]) -> dict[str, Definition]:
        insignia.update(task.id, webhook_url=f"{NOWHERE}/new", payload="new" * LARGE_BYTES)
        return definitions_in(rows)

    monkeypatch.setattr("db.manual_runs.definitions_in", definitions_before_an_edit)
    with transaction(insignia.engine) as connection:
        begun = begin_run(connection, run_id=uuid4(), task_id=task.id, per_destination=64, rates={})
    (run,) = begun.runs
    assert (run.webhook_url, run.payload[:4]) == (NOWHERE, b'"old')


def test_a_claim_reads_the_payloads_that_it_has_room_for(insignia: Insignia) -> None:
    task = insignia.create_due(NOWHERE, payload="x" * 200_000)
    with transaction(insignia.engine) as connection:
        copy_task(connection, task.id, 99)
    a_few = room(256, per_destination=256)
    a_few.payload_bytes = 1_000_000
    tracemalloc.start()
    try:
        with transaction(insignia.engine) as connection:
            claimed = claim_slots(connection, a_few)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(claimed.runs) == 4
    assert peak < 20_000_000  # as much as all payloads together


def test_while_there_is_memory_the_next_claim_follows_at_once(
    insignia: Insignia, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("functions.claiming.CLAIM_BYTES", 1_500)
    looks = 0

    def look_ahead(connection: Connection, seconds: float, spent: Collection[str]) -> tuple[float, float]:
        nonlocal looks
        looks += 1
        return seconds_until_next(connection, seconds, spent)

    monkeypatch.setattr("functions.claiming.seconds_until_next", look_ahead)
    with Receiver() as receiver:
        for _ in range(10):
            insignia.create_due(receiver.url, payload="x" * 998)
        assert insignia.tick().succeeded == 10
    assert looks <= 3
