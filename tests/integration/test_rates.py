"""How often a destination is called: never more often than its rate, by however many processes."""

import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine

from db.destination_limits import Ledger
from db.engine import make_engine, transaction
from db.manual_runs import unstored_run
from db.run_claims import claim_due_runs
from db.settle import Disposal, settle
from db.slot_claims import claim_slots
from domain.attempt import answered
from domain.errors import Unavailable
from domain.rate import SLACK_SECONDS
from domain.run import ClaimedRun, RunStatus, decide
from domain.summary import TickKind
from domain.task import TaskDefinition, TaskStatus
from functions.limits import Limits
from functions.ticking import run_tick
from tests.integration.conftest import LOOPBACK, Insignia, assert_adds_up, rates_of, room
from tests.receiver import Receiver

NOWHERE = "http://127.0.0.1:9"
FORGOTTEN = "UPDATE destination_limits SET grants = '[]'"
YOUNGER = """
UPDATE task_state SET next_run_at = next_run_at + make_interval(secs => right(webhook_url, 1)::int)
FROM tasks WHERE id = task_id
"""
"""Each by the number at the end of its URL."""


def host_of(receiver: Receiver) -> str:
    return receiver.url.split("/")[2]


def most_within(instants: Iterable[float], seconds: float) -> int:
    """How many of them there are at most in any window of this length."""
    ordered = sorted(instants)
    return max(sum(first <= at < first + seconds for at in ordered) for first in ordered)


def claim(insignia: Insignia, rates: str, calls: int = 10, closed: Iterable[str] = ()) -> list[ClaimedRun]:
    with transaction(insignia.engine) as connection:
        wanted = room(calls)
        wanted.ledger = Ledger(rates_of(rates), [*closed])
        return claim_slots(connection, wanted).runs


def test_ticks_that_run_at_once_keep_a_rate_together_and_others_do_not_wait(
    insignia: Insignia, database_url: str
) -> None:
    engines = [make_engine(database_url) for _ in range(2)]
    with Receiver() as limited, Receiver() as healthy, ThreadPoolExecutor(2) as ticks:
        for _ in range(9):
            insignia.create(limited.url)
        insignia.make_due()
        insignia.execute(
            "UPDATE task_state SET next_run_at = next_run_at - interval '9 s'"
        )  # first in the queue
        for _ in range(9):
            insignia.create_due(healthy.url)

        def tick(engine: Engine) -> int:
            summary = Insignia(engine).tick(rates=f"{host_of(limited)}=3/1s")
            assert_adds_up(summary)
            return summary.succeeded

        assert sum(ticks.map(tick, engines)) == 18
        for engine in engines:
            engine.dispose()
        arrivals = [request.at for request in limited.requests]
        assert len(arrivals) == len(healthy.requests) == 9
        assert max(request.at for request in healthy.requests) < sorted(arrivals)[6]
    limited_to = [
        row[0]
        for row in insignia.execute(
            "SELECT extract(epoch FROM execution_time)::float8 FROM task_logs"
            " JOIN task_state USING (task_id) WHERE destination LIKE :host",
            host=f"%{host_of(limited)}",
        )
    ]
    assert most_within(limited_to, 1) == 3
    assert most_within(arrivals, 1 - SLACK_SECONDS) == 3  # a busy machine delays one call more than another


def test_each_url_has_the_rate_of_its_own_and_the_oldest_comes_first(insignia: Insignia) -> None:
    with Receiver() as receiver:
        for number in range(3):
            insignia.create_due(f"{receiver.url}/one?n={number}")
        insignia.execute("UPDATE task_state SET next_run_at = next_run_at - interval '9 s'")
        insignia.execute(YOUNGER)
        insignia.create_due(f"{receiver.url}/two")
        assert insignia.tick(rates=f"{host_of(receiver)}/*=1/1s").succeeded == 4
        paths = [request.path for request in receiver.requests]
        assert paths.index("/hook/two") < paths.index("/hook/one?n=1")
        assert [path for path in paths if "one" in path] == [f"/hook/one?n={n}" for n in range(3)]


def test_a_url_that_has_used_up_its_rate_is_not_in_the_way_of_others_of_its_host(insignia: Insignia) -> None:
    with Receiver() as receiver:
        rates = f"{host_of(receiver)}/*=1/60s"
        for _ in range(4):
            insignia.create_due(f"{receiver.url}/busy")
        assert len(claim(insignia, rates)) == 1  # by another process
        insignia.execute("UPDATE task_state SET next_run_at = next_run_at - interval '9 s'")
        insignia.create_due(f"{receiver.url}/free")
        assert insignia.tick(rates=rates, per_destination=3).remaining == 3
    assert [request.path for request in receiver.requests] == ["/hook/free"]


def test_a_claim_takes_what_the_rate_grants_and_the_others_stay_due(insignia: Insignia) -> None:
    for _ in range(3):
        insignia.create_due(f"{NOWHERE}/hook")
    other = insignia.create_due("http://127.0.0.2:9/hook")
    rates = "127.0.0.1=2/60s"
    claimed = claim(insignia, rates)
    assert len(claimed) == 3
    assert str(other.id) in {run.task_id for run in claimed}
    assert claim(insignia, rates) == []
    assert insignia.execute("SELECT count(*) FROM task_state WHERE next_run_at <= now()").scalar_one() == 1
    insignia.execute(FORGOTTEN)
    assert len(claim(insignia, rates)) == 1


def test_what_is_known_to_be_used_up_is_passed_over_without_a_look(insignia: Insignia) -> None:
    for url in (f"{NOWHERE}/one?a", f"{NOWHERE}/one", f"{NOWHERE}/two", NOWHERE):
        insignia.create_due(url)
    known = [f"{NOWHERE}/one", f"{NOWHERE}/"]
    (run,) = claim(insignia, "127.0.0.1/*=9/60s", closed=known)
    assert run.webhook_url == f"{NOWHERE}/two"
    assert claim(insignia, "127.0.0.1=9/60s", closed=[NOWHERE]) == []


def test_two_claims_at_once_do_not_both_take_the_last_call_of_a_rate(insignia: Insignia) -> None:
    for port in (9, 19):  # one host, two destinations: the places keep neither from the other
        insignia.create_due(f"http://127.0.0.1:{port}/hook")
    rates = rates_of("127.0.0.1=1/60s")
    with insignia.engine.connect() as first, insignia.engine.connect() as second:
        one, during, after = room(1), room(1), room(1)
        for wanted in (one, during, after):
            wanted.ledger = Ledger(rates)
        assert len(claim_slots(first, one).runs) == 1
        assert claim_slots(second, during).runs == []
        first.commit()
        second.commit()
        assert claim_slots(second, after).runs == []
        (during_wait,), (after_wait,) = during.ledger.waits.values(), after.ledger.waits.values()
        assert during_wait < 1 < 59 < after_wait <= 60 + SLACK_SECONDS


def test_a_claim_that_is_rolled_back_has_spent_nothing(insignia: Insignia) -> None:
    insignia.create_due(f"{NOWHERE}/hook")
    with insignia.engine.connect() as connection:
        wanted = room(1)
        wanted.ledger = Ledger(rates_of("127.0.0.1=1/60s"))
        assert len(claim_slots(connection, wanted).runs) == 1
        connection.rollback()
    assert len(claim(insignia, "127.0.0.1=1/60s")) == 1


def test_retries_count_for_a_rate_and_wait_for_it(insignia: Insignia) -> None:
    for _ in range(3):
        insignia.create_due(f"{NOWHERE}/hook")
    insignia.claim()
    insignia.end_leases_and_waits()
    with transaction(insignia.engine) as connection:
        wanted = room(10)
        wanted.ledger = Ledger(rates_of("127.0.0.1=2/60s"))
        assert len(claim_due_runs(connection, wanted).runs) == 2
        assert [*wanted.ledger.waits] == [NOWHERE]
    insignia.create_due(f"{NOWHERE}/hook")
    assert claim(insignia, "127.0.0.1=2/60s") == []


def test_a_tick_does_not_wait_for_a_rate_that_opens_after_its_end(insignia: Insignia) -> None:
    with Receiver() as receiver:
        for _ in range(3):
            insignia.create_due(receiver.url)
        summary = insignia.tick(rates="127.0.0.1=2/3600s")
    assert (summary.succeeded, summary.remaining) == (2, 1)
    assert summary.duration_seconds < 10


def test_a_worker_does_not_wait_for_a_rate(insignia: Insignia) -> None:
    with Receiver() as receiver:
        for _ in range(3):
            insignia.create_due(receiver.url)
        limits = Limits(
            budget_seconds=30, concurrency=64, per_destination=64, rates=rates_of("127.0.0.1=2/20s")
        )
        summary = run_tick(insignia.engine, LOOPBACK, limits, kind=TickKind.WORKER)
    assert (summary.succeeded, summary.remaining) == (2, 1)
    assert summary.duration_seconds < 10


def test_a_limit_is_forgotten_when_nothing_of_it_counts(insignia: Insignia) -> None:
    with Receiver() as receiver:
        insignia.create_due(receiver.url)
        insignia.tick(rates="127.0.0.1=2/60s")
        insignia.tick()
        assert insignia.execute("SELECT count(*) FROM destination_limits").scalar_one() == 1
        insignia.execute("UPDATE destination_limits SET idle_at = clock_timestamp()")
        insignia.tick()
        assert insignia.execute("SELECT count(*) FROM destination_limits").scalar_one() == 0


def test_destinations_without_a_rate_cost_no_statement(insignia: Insignia) -> None:
    insignia.create_due(f"{NOWHERE}/hook")
    assert len(claim(insignia, "example.com=1/1s")) == 1
    assert insignia.execute("SELECT count(*) FROM destination_limits").scalar_one() == 0


def throttled(insignia: Insignia) -> list[int]:
    return [
        row[0]
        for row in insignia.execute(
            "SELECT throttled_ms FROM task_logs JOIN tasks ON tasks.id = task_id ORDER BY name"
        )
    ]


def test_a_run_tells_how_long_it_was_held_back_by_a_rate_and_others_were_not(insignia: Insignia) -> None:
    with Receiver() as limited, Receiver() as healthy:
        for name in "abc":
            insignia.create_due(limited.url, name=name)
        insignia.create_due(healthy.url, name="d")
        insignia.execute(
            "UPDATE task_state SET next_run_at = next_run_at + make_interval(secs => row) "
            "FROM (SELECT id, row_number() OVER (ORDER BY name) / 10.0 AS row FROM tasks) named WHERE id = task_id"
        )
        insignia.tick(rates=f"{host_of(limited)}=1/1s")
        first, second, third, other = throttled(insignia)
        assert (first, other) == (0, 0)
        assert 1_000 < second < third - 1_000
        insignia.create_due(limited.url, name="e")
        insignia.execute("UPDATE task_state SET next_run_at = clock_timestamp() WHERE next_run_at <= now()")
        insignia.execute(FORGOTTEN)
        insignia.tick(rates=f"{host_of(limited)}=1/1s")
        assert throttled(insignia)[4] == 0


def test_a_run_tells_how_long_it_had_no_place_also_in_a_later_tick(insignia: Insignia) -> None:
    with Receiver() as receiver:
        for name in "abc":
            insignia.create_due(receiver.url, name=name)
        with transaction(insignia.engine) as connection:
            assert len(claim_slots(connection, room(10, per_destination=1)).runs) == 1
        insignia.execute("UPDATE destination_limits SET held_since = held_since - interval '9 s'")
        insignia.execute(
            "UPDATE task_state SET next_run_at = clock_timestamp() - interval '5 s' WHERE next_run_at < now()"
        )
        insignia.tick(per_destination=2)
        waits = throttled(insignia)
        assert sorted(wait // 1_000 for wait in waits)[0] == 0
        assert sorted(wait // 1_000 for wait in waits)[1] >= 5
        assert insignia.execute("SELECT held_until <= clock_timestamp() FROM destination_limits").scalar_one()


def test_a_run_tells_how_long_it_waited_for_the_retry_after_of_another(insignia: Insignia) -> None:
    answers = [(429, b"", {"Retry-After": "100"})]
    with Receiver(lambda _: answers.pop() if answers else (200, b"")) as receiver:
        insignia.create_due(receiver.url, name="a")
        insignia.tick()
        insignia.execute("UPDATE throttled_destinations SET available_at = clock_timestamp()")
        insignia.execute(
            "UPDATE destination_limits SET held_since = held_since - interval '60 s',"
            " held_until = clock_timestamp() - interval '20 s'"
        )
        for name, age in (("b", 50), ("c", 10)):
            task = insignia.create(receiver.url, name=name)
            insignia.execute(
                "UPDATE task_state SET next_run_at = clock_timestamp() - make_interval(secs => :age)"
                " WHERE task_id = :id",
                id=task.id,
                age=age,
            )
        insignia.end_leases_and_waits()
        insignia.tick()
        own, held, fresh = throttled(insignia)
        assert (own, fresh) == (0, 0)
        assert 29_000 < held <= 30_000


def test_a_settle_does_not_wait_for_a_claim_that_is_about_to_say_what_it_has_left(insignia: Insignia) -> None:
    for _ in range(3):
        insignia.create_due(f"{NOWHERE}/hook")
    (run,) = insignia.claim(1)
    attempt = answered(429, duration_ms=1, success_statuses=[range(200, 300)], retry_after_seconds=100)
    with insignia.engine.connect() as claiming, transaction(insignia.engine) as connection:
        assert len(claim_slots(claiming, room(10, per_destination=2)).runs) == 1
        assert settle(connection, [decide(run, attempt, 0)]).disposals == {run.id: Disposal.RETRYING}
        claiming.commit()
    assert insignia.execute("SELECT held_until FROM destination_limits").scalar_one() is None


def test_a_run_by_hand_counts_for_a_rate_and_waits_for_it(insignia: Insignia) -> None:
    with Receiver() as receiver:
        task = insignia.create(receiver.url, timeout_seconds=1)
        first, second = (insignia.run(task.id, rates="127.0.0.1=1/60s") for _ in range(2))
        assert (first.status, second.status, second.attempts) == (RunStatus.SUCCESS, RunStatus.RETRYING, [])
        assert re.fullmatch(
            r"Put off: its destination has been called as often as it may be \(DESTINATION_RATES\)\. "
            r"Next attempt in [56]\d s\.",
            second.message or "",
        )
        insignia.end_leases_and_waits()
        insignia.create_due(receiver.url, timeout_seconds=1)
        assert insignia.tick(rates="127.0.0.1=1/60s", budget_seconds=4).started == 0
        insignia.execute(FORGOTTEN)
        insignia.tick(rates="127.0.0.1=2/60s")
    assert len(receiver.requests) == 3
    assert insignia.log(second.id).status is RunStatus.SUCCESS
    assert insignia.log(second.id).throttled_ms > 0


def test_a_test_of_an_unsaved_task_counts_for_a_rate_and_is_refused_when_it_is_used_up(
    insignia: Insignia,
) -> None:
    definition = TaskDefinition(name="A test", webhook_url=f"{NOWHERE}/hook", schedule="0 0 1 1 *")

    def begin() -> None:
        with transaction(insignia.engine) as connection:
            unstored_run(connection, definition, TaskStatus.ACTIVE, rates_of("127.0.0.1=1/60s"))

    begin()
    with pytest.raises(
        Unavailable, match=r"called as often as it may be \(DESTINATION_RATES\); try again in [56]\d s"
    ):
        begin()
    insignia.create_due(f"{NOWHERE}/hook")
    assert claim(insignia, "127.0.0.1=1/60s") == []
