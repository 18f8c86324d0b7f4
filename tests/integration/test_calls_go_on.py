"""The calls in flight, and the log, go on while the database works on a statement of the same thread."""

import threading
import time
from collections.abc import Callable, Iterator
from contextvars import Context
from datetime import UTC, datetime
from functools import partial
from ipaddress import ip_network
from socket import socketpair
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.pool import QueuePool

from db.driver import waiting_by
from db.engine import make_engine, transaction
from domain.errors import Unavailable
from domain.task import Method
from domain.webhook_url import parse_webhook_url
from functions.chores import Chores
from functions.delivery import Deliveries
from functions.egress import Egress
from functions.events import log_deliveries
from functions.ticking import go_on_until_readable
from functions.transfer import Call, Transfer, monotonic
from functions.webhook import call_of
from tests.integration.conftest import Insignia
from tests.receiver import Answer, Received, Receiver


@pytest.fixture
def deliveries() -> Iterator[Deliveries]:
    with Deliveries(Egress(allow=(ip_network("127.0.0.0/8"),))) as deliveries:
        yield deliveries


def call(url: str) -> Call:
    return Call(
        id=str(uuid4()),
        url=parse_webhook_url(url),
        method=Method.POST,
        headers={"Content-Type": "application/json"},
        body=b"{}",
        timeout_seconds=10,
        success_statuses=(range(200, 300),),
        claimed_at=datetime.now(UTC),
    )


def test_a_call_is_made_and_answered_while_the_database_works_on_a_statement(
    engine: Engine, deliveries: Deliveries
) -> None:
    """The statement ends when the call has arrived, because the receiver gives up what it waits for."""
    with engine.connect() as holder:
        holder.execute(text("SELECT pg_advisory_lock(1)"))

        def let_go(_: Received) -> Answer:
            holder.execute(text("SELECT pg_advisory_unlock(1)"))
            return 200, b"ok"

        with Receiver(let_go) as receiver:
            deliveries.start(call(receiver.url))
            with waiting_by(deliveries.go_on_until_readable), transaction(engine) as connection:
                connection.execute(text("SELECT pg_advisory_lock(1)"))
            (finished,) = deliveries.wait(10)
    assert finished.attempt is not None
    assert finished.attempt.succeeded


def test_a_chore_is_done_while_the_database_works(engine: Engine, deliveries: Deliveries) -> None:
    """The statement ends when the chore has let go of what it waits for."""
    with engine.connect() as holder, Chores() as chores:
        holder.execute(text("SELECT pg_advisory_lock(1)"))
        let_go = partial(holder.execute, text("SELECT pg_advisory_unlock(1)"))
        chores.put_off(partial(Context().run, let_go))  # for it, nothing is done meanwhile
        with waiting_by(partial(go_on_until_readable, chores, deliveries)), engine.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(1)"))


def test_a_tick_makes_its_calls_and_writes_its_log_while_the_database_works(
    insignia: Insignia, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The calls during the transaction of their claim, and the lines during one after that of their settle."""
    monkeypatch.setattr("functions.chores.is_readable", lambda _: False)  # the database takes its time
    pool, done = insignia.engine.pool, list[tuple[str, int]]()
    assert isinstance(pool, QueuePool)

    def noted(what: str, do: Callable[..., Any], *arguments: Any) -> Any:
        done.append((what, pool.checkedout()))
        return do(*arguments)

    monkeypatch.setattr("functions.ticking.call_of", partial(noted, "call", call_of))
    monkeypatch.setattr("functions.ticking.log_deliveries", partial(noted, "lines", log_deliveries))
    with Receiver() as receiver:
        for _ in range(2):
            insignia.create_due(receiver.url)
        assert insignia.tick().succeeded == 2
    assert {("call", 1), ("lines", 1)} == {*done}


def test_chores_wait_when_the_database_has_answered_and_are_all_done_at_the_end() -> None:
    done: list[int] = []
    database, answer = socketpair()
    with database, answer, Chores() as chores:
        chores.put_off(partial(done.append, 1))
        chores.put_off(partial(database.send, b"!"))
        chores.put_off(partial(done.append, 2))
        chores.do_until_readable(answer)
        assert done == [1]
    assert done == [1, 2]


def test_a_database_that_does_not_answer_is_given_up_and_the_call_goes_on(
    database_url: str, deliveries: Deliveries
) -> None:
    engine = make_engine(database_url, pool_size=1, socket_timeout_seconds=0.2)
    is_given_up = threading.Event()

    def answer_afterwards(_: Received) -> Answer:
        is_given_up.wait(10)
        return 200, b"ok"

    with Receiver(answer_afterwards) as receiver, waiting_by(deliveries.go_on_until_readable):
        deliveries.start(call(receiver.url))
        with pytest.raises(Unavailable), transaction(engine) as connection:
            connection.execute(text("SELECT pg_sleep(4)"))
        assert (len(receiver.requests), deliveries.in_flight) == (1, 1)
        is_given_up.set()
        (finished,) = deliveries.wait(10)
    engine.dispose()
    assert finished.attempt is not None
    assert finished.attempt.succeeded


def test_an_answer_of_the_database_that_came_while_the_process_was_busy_is_read(
    database_url: str, deliveries: Deliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine(database_url, pool_size=1, socket_timeout_seconds=0.2)
    read_header = Transfer._read_header

    def read_header_slowly(transfer: Transfer, line: bytes) -> int | None:
        monkeypatch.undo()
        until = time.monotonic() + 0.5
        while time.monotonic() < until:  # busy, beyond the time-out
            pass
        return read_header(transfer, line)

    monkeypatch.setattr(Transfer, "_read_header", read_header_slowly)
    with (
        Receiver() as receiver,
        waiting_by(deliveries.go_on_until_readable),
        transaction(engine) as connection,
    ):
        connection.execute(text("SELECT 1"))
        deliveries.start(call(receiver.url))
        assert connection.execute(text("SELECT 1 FROM pg_sleep(0.15)")).scalar_one() == 1
    engine.dispose()


def test_a_process_that_waits_for_a_slow_database_again_and_again_is_not_frozen(
    engine: Engine, deliveries: Deliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Receiver() as receiver, waiting_by(deliveries.go_on_until_readable):
        for seconds in range(2, 10, 2):
            with transaction(engine) as connection:
                connection.execute(text("SELECT 1"))
            monkeypatch.setattr("functions.delivery.monotonic", partial(later, seconds))
        deliveries.start(call(receiver.url))
        (finished,) = deliveries.wait(10)
    assert finished.attempt is not None
    assert finished.attempt.succeeded


def later(seconds: float) -> float:
    return monotonic() + seconds
