"""Old logs are removed, in bounded batches, and what somebody may need stays."""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from db.engine import transaction
from db.retention import REMOVE_SOME_LOGS, remove_expired_logs
from domain.retention import Retention
from domain.task import TaskStatus
from functions import bootstrap
from functions.settings import load
from functions.tick import tick
from tests.acceptance.server import TOKEN
from tests.faults.simulated_clock import SimulatedClock, install_simulated_clock
from tests.integration.conftest import Insignia

MANY = 1_000
NEWEST_KEPT = 20
GROWING = ["task_logs", "task_log_changes", "task_log_counts", "idempotency_keys", "ticks", "retention"]

STORE = """
INSERT INTO task_logs (
    id, task_id, source, status, scheduled_for, execution_time, finished_at, retry_count, attempts, revision,
    available_at, lease_id, lost_leases, throttles, missed_from, missed_to, missed_count, created_at)
SELECT uuidv7(at - pg_catalog.clock_timestamp()), task_id, :source, :status, at, at,
    CASE WHEN NOT under_way THEN at END, 0, '[]', 1,
    CASE WHEN under_way THEN at END, CASE WHEN under_way THEN gen_random_uuid() END, 0, 0,
    CASE WHEN missed THEN at END, CASE WHEN missed THEN at END, CASE WHEN missed THEN 1 END, at
FROM unnest(CAST(:task_ids AS uuid[])) AS task_id, generate_series(1, :count) AS number,
    LATERAL (SELECT clock_timestamp() - CAST(:age AS interval) - number * interval '1 second' AS at) instant,
    LATERAL (SELECT :status IN ('running', 'retrying') AS under_way, :status = 'missed' AS missed) state
RETURNING id
"""


class History:
    """Tasks, and logs of them that are as old as a test wants."""

    def __init__(self, insignia: Insignia) -> None:
        self.insignia = insignia

    def task(self) -> UUID:
        return self.insignia.create("http://127.0.0.1:9/", status=TaskStatus.INACTIVE).id

    def store(self, *task_ids: UUID, age: timedelta, count: int = 1, **columns: Any) -> list[UUID]:
        """Logs of each task, the first of which is `age` and a second old, and each other a second older."""
        values = {"source": "schedule", "status": "success"} | columns
        return list(
            self.insignia.execute(STORE, task_ids=list(task_ids), age=age, count=count, **values).scalars()
        )

    def task_with_newer_logs(self) -> UUID:
        """As many as are kept in any case; a failure is the newest."""
        task_id = self.task()
        self.store(task_id, age=timedelta(minutes=1), count=NEWEST_KEPT - 1)
        self.store(task_id, age=timedelta(0), status="failed")
        return task_id

    def clean_up(self, retention: Retention | None = None, limit: int = MANY) -> None:
        """All that a tick may remove at present."""
        is_more = True
        while is_more:
            with transaction(self.insignia.engine) as connection:
                is_more = remove_expired_logs(connection, limit, retention or Retention())

    def remaining(self, task_id: UUID) -> list[UUID]:
        """Newest first."""
        logs = self.insignia.execute(
            "SELECT id FROM task_logs WHERE task_id = :task_id ORDER BY created_at DESC", task_id=task_id
        )
        return list(logs.scalars())


@pytest.fixture
def history(insignia: Insignia) -> History:
    return History(insignia)


@pytest.mark.parametrize(
    ("source", "status", "days"),
    [
        ("schedule", "success", 30),
        ("manual", "success", 30),
        ("api", "success", 30),
        ("schedule", "failed", 90),
        ("manual", "failed", 90),
        ("api", "failed", 90),
        ("schedule", "cancelled", 90),
        ("schedule", "missed", 90),
        ("schedule", "skipped", 90),
    ],
)
def test_a_log_is_kept_for_its_days_and_no_longer(
    history: History, source: str, status: str, days: int
) -> None:
    task_id = history.task_with_newer_logs()
    (kept,) = history.store(task_id, age=timedelta(days=days, minutes=-1), status=status, source=source)
    (old,) = history.store(task_id, age=timedelta(days=days), status=status, source=source)
    history.clean_up()
    remaining = history.remaining(task_id)
    assert kept in remaining
    assert old not in remaining


def test_the_days_are_settings(history: History) -> None:
    task_id = history.task_with_newer_logs()
    history.store(task_id, age=timedelta(days=5))
    history.store(task_id, age=timedelta(days=2), status="cancelled")
    history.clean_up(Retention(success_days=6, other_days=3))
    assert len(history.remaining(task_id)) == NEWEST_KEPT + 2
    history.clean_up(Retention(success_days=5, other_days=2))
    assert len(history.remaining(task_id)) == NEWEST_KEPT


def test_a_tick_keeps_logs_for_as_long_as_its_settings_say(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load({"API_TOKEN": TOKEN, "RETENTION_SUCCESS_DAYS": "6", "RETENTION_DAYS": "3"})
    monkeypatch.setattr(bootstrap, "settings", lambda: settings)
    monkeypatch.setattr(bootstrap, "tick_database", lambda: history.insignia.engine)
    task_id = history.task_with_newer_logs()
    history.store(task_id, age=timedelta(days=4), status="cancelled")
    (kept,) = history.store(task_id, age=timedelta(days=5))
    history.store(task_id, age=timedelta(days=7))
    tick()
    assert history.remaining(task_id)[NEWEST_KEPT:] == [kept]


def test_the_newest_20_logs_of_each_task_are_kept_and_go_when_they_no_longer_are(history: History) -> None:
    task_id, other = history.task(), history.task()
    newest_first = history.store(task_id, age=timedelta(days=400), count=25)
    history.store(other, age=timedelta(days=400), count=NEWEST_KEPT)
    history.clean_up()
    assert history.remaining(task_id) == newest_first[:NEWEST_KEPT]
    assert len(history.remaining(other)) == NEWEST_KEPT
    history.store(task_id, age=timedelta(0), count=3)
    history.clean_up()
    assert history.remaining(task_id)[3:] == newest_first[: NEWEST_KEPT - 3]


def test_the_last_failure_of_a_task_is_kept_and_goes_when_there_is_a_newer_one(history: History) -> None:
    task_id = history.task()
    last, _ = history.store(task_id, age=timedelta(days=400), status="failed", count=2)
    newest = history.store(task_id, age=timedelta(days=1), count=NEWEST_KEPT)
    history.clean_up()
    assert history.remaining(task_id) == [*newest, last]
    newer = history.store(task_id, age=timedelta(0), status="failed")
    history.clean_up()
    assert history.remaining(task_id) == newer + newest


@pytest.mark.parametrize("status", ["running", "retrying"])
def test_a_run_under_way_is_kept(history: History, status: str) -> None:
    task_id = history.task_with_newer_logs()
    (run,) = history.store(task_id, age=timedelta(days=400), status=status)
    history.clean_up()
    assert run in history.remaining(task_id)


def test_the_log_of_the_last_claimed_slot_is_kept_so_that_the_slot_does_not_run_again(
    history: History,
) -> None:
    """An edit asks for it: the clock may have been set back (db/tasks.py)."""
    task_id = history.task()
    last, _ = history.store(task_id, age=timedelta(days=400), count=2)
    history.store(task_id, age=timedelta(0), count=NEWEST_KEPT, source="manual")
    slot = history.insignia.now() + timedelta(days=2 * 365)
    history.insignia.execute(
        "UPDATE task_logs SET scheduled_for = :slot WHERE id = :last", slot=slot, last=last
    )
    history.clean_up()
    assert history.remaining(task_id)[NEWEST_KEPT:] == [last]
    edited = history.insignia.update(task_id, status=TaskStatus.ACTIVE)
    assert edited.next_run_at is not None
    assert edited.next_run_at > slot


def test_a_batch_is_bounded_and_the_next_one_goes_on_where_it_ended(history: History) -> None:
    task_id = history.task_with_newer_logs()
    oldest_first = history.store(task_id, age=timedelta(days=400), count=25)[::-1]
    for removed in (10, 20):
        with transaction(history.insignia.engine) as connection:
            assert remove_expired_logs(connection, 10, Retention())
        assert history.remaining(task_id)[:19:-1] == oldest_first[removed:]
    with transaction(history.insignia.engine) as connection:
        assert not remove_expired_logs(connection, 10, Retention())
    assert len(history.remaining(task_id)) == NEWEST_KEPT


def place(connection: Connection) -> tuple[Any, ...]:
    return tuple(connection.execute(text("SELECT reached_at, reached_id, kept FROM retention")).one())


def remove_and_die(engine: Engine, before: tuple[Any, ...]) -> None:
    with engine.begin() as connection:
        assert remove_expired_logs(connection, 10, Retention())
        assert place(connection) != before
        connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))


def test_a_tick_that_is_killed_leaves_all_or_nothing_of_a_batch(history: History) -> None:
    task_id = history.task_with_newer_logs()
    history.store(task_id, age=timedelta(days=400), count=25)
    history.clean_up(limit=10)
    history.store(task_id, age=timedelta(days=200), count=25)
    with transaction(history.insignia.engine) as connection:
        before = place(connection)
    with pytest.raises(DBAPIError):
        remove_and_die(history.insignia.engine, before)
    with transaction(history.insignia.engine) as connection:
        assert place(connection) == before
    assert len(history.remaining(task_id)) == NEWEST_KEPT + 25
    history.clean_up(limit=10)
    assert len(history.remaining(task_id)) == NEWEST_KEPT


def test_two_ticks_at_once_do_not_wait_for_each_other(history: History) -> None:
    task_id = history.task_with_newer_logs()
    history.store(task_id, age=timedelta(days=400), count=25)
    with transaction(history.insignia.engine) as one:
        assert remove_expired_logs(one, 10, Retention())
        with transaction(history.insignia.engine) as other:
            other.execute(text("SET LOCAL lock_timeout = '1ms'"))
            assert not remove_expired_logs(other, 10, Retention())
        assert len(history.remaining(task_id)) == NEWEST_KEPT + 25
    assert len(history.remaining(task_id)) == NEWEST_KEPT + 15


def test_a_log_that_somebody_is_changing_is_not_waited_for(history: History) -> None:
    task_id = history.task_with_newer_logs()
    first, second = history.store(task_id, age=timedelta(days=400), count=2)
    with transaction(history.insignia.engine) as editor:
        editor.execute(text("UPDATE task_logs SET message = 'Mine' WHERE id = :id"), {"id": first})
        with transaction(history.insignia.engine) as tick:
            tick.execute(text("SET LOCAL lock_timeout = '1ms'"))
            remove_expired_logs(tick, MANY, Retention())
    assert first in history.remaining(task_id)
    assert second not in history.remaining(task_id)
    history.clean_up()
    assert first not in history.remaining(task_id)


@pytest.fixture
def clock(admin: Engine, database_url: str) -> Iterator[SimulatedClock]:
    install_simulated_clock(admin, database_url)
    clock = SimulatedClock(database_url)
    yield clock
    clock.close()


def test_the_more_was_kept_the_later_it_is_looked_at_again(clock: SimulatedClock, history: History) -> None:
    began_at, tasks = clock.now(), [history.task() for _ in range(60)]
    history.store(*tasks, age=timedelta(days=400), count=NEWEST_KEPT)
    history.clean_up()
    next_pass_at = history.insignia.execute("SELECT next_pass_at FROM retention").scalar_one()
    assert next_pass_at >= began_at + timedelta(seconds=2), "10 ms for each of 200 more than 1,000"
    history.insignia.execute("UPDATE retention SET next_pass_at = clock_timestamp() + interval '1 hour'")
    history.clean_up()
    history.store(tasks[0], age=timedelta(0), count=NEWEST_KEPT)
    history.clean_up()
    assert len(history.remaining(tasks[0])) == 2 * NEWEST_KEPT
    clock.step(timedelta(hours=1))
    for _ in range(2):  # the end of one pass, and the next one
        history.clean_up()
    assert len(history.remaining(tasks[0])) == NEWEST_KEPT


def test_the_database_stays_as_large_as_it_is_while_months_pass(
    clock: SimulatedClock, history: History, database_url: str
) -> None:
    """With the vacuum that PostgreSQL makes by itself, but for which five days take milliseconds here.

    None may be kept from a row by somebody else's snapshot, such as that of an ANALYZE: what is written until the
    next one would take new pages, once.
    """
    insignia, tasks = history.insignia, [history.task() for _ in range(10)]
    sizes: list[tuple[int, int]] = []
    plain = create_engine(database_url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with plain.connect() as vacuum:
        for _ in range(200 // 5):
            clock.step(timedelta(days=5))
            history.store(*tasks, age=timedelta(0), count=24)
            history.store(*tasks, age=timedelta(minutes=1), count=2, status="failed")
            insignia.execute(
                "INSERT INTO idempotency_keys (key, fingerprint, created_at)"
                " SELECT gen_random_uuid(), repeat('x', 64), clock_timestamp() FROM generate_series(1, 100)"
            )
            insignia.tick()
            vacuum.execute(text(f"VACUUM {', '.join(GROWING)}"))
            look = insignia.execute(
                "SELECT (SELECT count(*) FROM task_logs) + (SELECT count(*) FROM idempotency_keys),"
                " (SELECT CAST(sum(pg_total_relation_size(CAST(name AS regclass))) AS bigint)"
                " FROM unnest(CAST(:growing AS text[])) AS name)",
                growing=GROWING,
            )
            sizes.append(tuple(look.one()))
    rows, size = zip(*sizes, strict=True)
    settled = 90 // 5 + 1
    assert len(set(rows[settled:])) == 1
    at_rest = (
        settled + 30 // 5
    )  # in the month between, the pages of what was removed first come into use again
    assert max(size[at_rest:]) <= 1.05 * size[at_rest]


def test_the_statement_walks_along_indexes_and_sorts_no_log(history: History) -> None:
    tasks = [history.task() for _ in range(20)]
    history.store(*tasks, age=timedelta(days=60), count=1_500)
    history.store(*tasks, age=timedelta(days=60), count=5, status="failed", source="manual")
    with transaction(history.insignia.engine) as connection:
        connection.execute(text("ANALYZE task_logs"))
        parameters = {"success_days": 30, "other_days": 90, "limit": MANY}
        explained = connection.execute(text(f"EXPLAIN {REMOVE_SOME_LOGS.text}"), parameters)
        plan = [line.strip() for line in explained.scalars()]
    assert not [line for line in plan if "Seq Scan on task_logs" in line]
    assert any("Index Scan Backward using task_logs_newest" in line for line in plan)
    assert any("using task_logs_of_task_newest" in line for line in plan)
    assert any("using task_logs_failed_of_task" in line for line in plan)
    sorted_rows = [int(rows) for line in plan if "Sort  " in line for rows in re.findall(r"rows=(\d+)", line)]
    assert sorted_rows == [MANY], "a batch, for its last row"
