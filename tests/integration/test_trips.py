"""How often a tick waits for the database: the network of a cloud makes each time dear, and an idle CPU wakes twice."""

import select
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context
from datetime import timedelta

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import IntegrityError, ProgrammingError

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


@pytest.fixture(autouse=True)
def connections_were_of_use_lately(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is."""
    monkeypatch.setattr("db.driver.LATELY_SECONDS", 60)


@contextmanager
def trips() -> Iterator[list[None]]:
    """One for each time that something is sent and its answer waited for."""
    made: list[None] = []
    with waiting_by(lambda _: made.append(None)):
        yield made


def test_a_claim_of_slots_waits_four_times(insignia: Insignia) -> None:
    """What is due, with the BEGIN; all that has to be known of that; the rows of the runs; COMMIT."""
    for _ in range(3):
        insignia.create_due(NOWHERE)
    with trips() as made, transaction(insignia.engine) as connection:
        assert len(claim_slots(connection, room(10)).runs) == 3
    assert len(made) == 4


def test_slots_that_are_missed_make_a_claim_wait_twice_more_for_those_that_have_their_places(
    insignia: Insignia,
) -> None:
    for _ in range(3):
        insignia.create(NOWHERE, misfire_policy="skip")
    insignia.make_due(ago=timedelta(minutes=10))
    with trips() as made, transaction(insignia.engine) as connection:
        assert claim_slots(connection, room(10, per_destination=1)).missed == 3
    assert len(made) == 6


def test_a_claim_of_retries_waits_four_times(insignia: Insignia) -> None:
    insignia.create_due(NOWHERE, max_retry=1)
    insignia.claim()
    insignia.end_leases_and_waits()
    with trips() as made, transaction(insignia.engine) as connection:
        assert len(claim_due_runs(connection, room(10)).runs) == 1
    assert len(made) == 4


def test_a_settle_waits_twice(insignia: Insignia) -> None:
    for _ in range(3):
        insignia.create_due(NOWHERE)
    answer = answered(200, duration_ms=1, success_statuses=[range(200, 300)])
    decisions = [decide(run, answer, 0) for run in insignia.claim()]
    with trips() as made, transaction(insignia.engine) as connection:
        disposals = settle(connection, decisions).disposals
    assert set(disposals.values()) == {Disposal.SUCCESS}
    assert len(made) == 2


@pytest.mark.parametrize(("lately_seconds", "times"), [(60, 2), (0, 3)])
@pytest.mark.parametrize("values", [{"value": 5}, {}])
def test_a_transaction_of_one_statement_waits_twice_and_once_more_after_a_second(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, values: dict[str, int], lately_seconds: int, times: int
) -> None:
    """BEGIN is how the pool learns that the connection is alive, where that is not sure."""
    monkeypatch.setattr("db.driver.LATELY_SECONDS", lately_seconds)
    statement = text(f"SELECT 10 / CAST({':value' if values else '5'} AS int)")
    with transaction(engine) as connection:
        connection.execute(statement, values)
    with trips() as made, transaction(engine) as connection:
        assert connection.execute(statement, values).scalar_one() == 2
    assert len(made) == times


def test_a_transaction_begins_with_its_first_statement_and_may_be_rolled_back(insignia: Insignia) -> None:
    insert = text("INSERT INTO throttled_destinations VALUES (:destination, clock_timestamp())")
    with insignia.engine.connect() as connection:
        for do in (connection.rollback, connection.commit):
            connection.execute(insert, {"destination": "http://a"})
            with pytest.raises(IntegrityError, match="duplicate key"), connection.begin_nested():
                connection.execute(insert, {"destination": "http://a"})
            do()
        with pytest.raises(IntegrityError, match="duplicate key"):
            connection.execute(insert, {"destination": "http://a"})
        with pytest.raises(ProgrammingError, match="transaction is aborted"):
            connection.execute(text("SELECT 1"))


def test_a_connection_on_which_the_server_has_said_something_is_asked_whether_it_is_alive(
    engine: Engine, database_url: str
) -> None:
    with transaction(engine) as connection:
        connection.execute(text("LISTEN words"))
        socket = connection.connection.driver_connection._usock  # type: ignore[union-attr]
    other = create_engine(database_url)
    with other.begin() as connection:
        connection.execute(text("NOTIFY words"))
    other.dispose()
    watch = select.poll()
    watch.register(socket, select.POLLIN)
    assert watch.poll(10_000)
    with trips() as made, transaction(engine) as connection:
        assert connection.execute(text("SELECT 1")).scalar_one() == 1
    assert len(made) == 3


def test_statements_that_are_sent_together_have_their_own_values_and_plans(engine: Engine) -> None:
    both = together(DIVIDE, ADD, DIVIDE)
    with transaction(engine):
        pass  # so that it is connected
    for value in (1, 2, 5):
        with trips() as made, transaction(engine) as connection:
            answers = read_all_json(connection, both, {"value": value, "more": 7})
            assert answers == [[10 // value], [7 + value, 7, "100%"], [10 // value]]
        assert len(made) == 2


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
