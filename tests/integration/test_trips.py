"""How often a tick waits for the database: the network of a cloud makes each time dear, and an idle CPU wakes twice."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context
from datetime import timedelta

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import ProgrammingError

from db.driver import kept, together, waiting_by
from db.engine import transaction
from db.json_rows import read_all_json
from db.run_claims import claim_due_runs
from db.settle import Disposal, settle
from db.slot_claims import claim_slots
from domain.attempt import answered
from domain.run import decide
from tests.integration.conftest import Insignia, room

NOWHERE = "http://127.0.0.1:9/hook"
DIVIDE = kept("SELECT json_build_array(10 / CAST(:value AS int))::text")
ADD = kept(
    "SELECT json_build_array(CAST(:more AS int) + CAST(:value AS int), CAST(:more AS int), '100%')::text"
)


@contextmanager
def trips() -> Iterator[list[None]]:
    """One for each time that something is sent and its answer waited for."""
    made: list[None] = []
    with waiting_by(lambda _: made.append(None)):
        yield made


def test_a_claim_of_slots_waits_five_times(insignia: Insignia) -> None:
    """BEGIN, what is due, all that has to be known of that, the rows of the runs, COMMIT."""
    for _ in range(3):
        insignia.create_due(NOWHERE)
    with trips() as made, transaction(insignia.engine) as connection:
        assert len(claim_slots(connection, room(10)).runs) == 3
    assert len(made) == 5


def test_slots_that_are_missed_make_a_claim_wait_once_more_for_those_that_have_their_places(
    insignia: Insignia,
) -> None:
    for _ in range(3):
        insignia.create(NOWHERE, misfire_policy="skip")
    insignia.make_due(ago=timedelta(minutes=10))
    with trips() as made, transaction(insignia.engine) as connection:
        assert claim_slots(connection, room(10, per_destination=1)).missed == 3
    assert len(made) == 6


def test_a_claim_of_retries_waits_five_times(insignia: Insignia) -> None:
    insignia.create_due(NOWHERE, max_retry=1)
    insignia.claim()
    insignia.end_leases_and_waits()
    with trips() as made, transaction(insignia.engine) as connection:
        assert len(claim_due_runs(connection, room(10)).runs) == 1
    assert len(made) == 5


def test_a_settle_waits_three_times(insignia: Insignia) -> None:
    for _ in range(3):
        insignia.create_due(NOWHERE)
    answer = answered(200, duration_ms=1, success_statuses=[range(200, 300)])
    decisions = [decide(run, answer, 0) for run in insignia.claim()]
    with trips() as made, transaction(insignia.engine) as connection:
        disposals = settle(connection, decisions).disposals
    assert set(disposals.values()) == {Disposal.SUCCESS}
    assert len(made) == 3


def test_statements_that_are_sent_together_have_their_own_values_and_plans(engine: Engine) -> None:
    both = together(DIVIDE, ADD, DIVIDE)
    with transaction(engine):
        pass  # so that it is connected
    for value in (1, 2, 5):
        with trips() as made, transaction(engine) as connection:
            answers = read_all_json(connection, both, {"value": value, "more": 7})
            assert answers == [[10 // value], [7 + value, 7, "100%"], [10 // value]]
        assert len(made) == 3


def test_of_statements_that_are_sent_together_each_sees_what_was_committed_while_those_before_it_waited(
    insignia: Insignia,
) -> None:
    lock = kept("SELECT CAST(pg_advisory_xact_lock(CAST(:key AS int)) AS text)")
    count = kept("SELECT count(*)::text FROM throttled_destinations")
    with insignia.engine.connect() as holder, insignia.engine.connect() as connection:
        holder.execute(text("SELECT pg_advisory_xact_lock(1)"))
        holder.execute(text("INSERT INTO throttled_destinations VALUES ('http://a', clock_timestamp())"))
        connection.execute(text("SELECT 1"))

        def commit_when_waited_for() -> None:
            while not holder.execute(text("SELECT count(*) FROM pg_locks WHERE NOT granted")).scalar_one():
                pass
            holder.commit()

        with waiting_by(lambda _: Context().run(commit_when_waited_for)):
            answers = connection.execute(together(count, lock, count), {"key": 1}).scalars().all()
    assert answers == ["0", "", "1"]


def test_a_connection_is_of_use_after_the_server_has_refused_one_of_several_statements(
    engine: Engine,
) -> None:
    both = together(ADD, DIVIDE, ADD)
    with transaction(engine) as connection:
        for _ in range(2):
            with pytest.raises(ProgrammingError, match="division by zero"), connection.begin_nested():
                read_all_json(connection, both, {"value": 0, "more": 1})
            assert read_all_json(connection, both, {"value": 5, "more": 1}) == [
                [6, 1, "100%"],
                [2],
                [6, 1, "100%"],
            ]
