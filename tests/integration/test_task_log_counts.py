"""The number of all logs, which nobody counts: it is what count(*) says, whoever writes, in whatever transaction."""

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, text

from db.declarations import apply_declarations
from db.deleted_tasks import delete_logs_of_deleted_tasks
from db.engine import make_engine, transaction
from db.paging import Page
from db.retention import remove_expired_logs
from db.task_log_counts import LOGS_BY_HOUR, fold_changes
from db.task_logs import TaskLogFilter, create_task_log, delete_task_log, list_task_logs
from db.tasks import delete_task
from domain.retention import Retention
from domain.run import RunSource, RunStatus, TaskLogOrder
from domain.task import TaskStatus
from tests.integration.conftest import Insignia
from tests.integration.stored_logs import NOON, add
from tests.receiver import Receiver

HOOK = "http://127.0.0.1:9/"
COUNT = text(f"""
SELECT (SELECT json_object_agg(hour, logs) FROM (
        SELECT hour, sum(logs) AS logs FROM ({LOGS_BY_HOUR}) GROUP BY hour HAVING sum(logs) <> 0 ORDER BY hour)
    ) AS noted,
    (SELECT json_object_agg(hour, logs) FROM (
        SELECT date_trunc('hour', created_at) AS hour, count(*) AS logs FROM task_logs GROUP BY 1 ORDER BY 1)
    ) AS counted
""")  # noqa: S608


def remove(connection: Connection, logs: int) -> None:
    """Any of them that nobody else is at."""
    connection.execute(
        text("""
            DELETE FROM task_logs WHERE id IN (
                SELECT id FROM task_logs ORDER BY random() LIMIT :logs FOR UPDATE SKIP LOCKED
            )
        """),
        {"logs": logs},
    )


def number(connection: Connection) -> int:
    """The number of logs, after a look at whether it is right for each hour in this snapshot."""
    noted, counted = connection.execute(COUNT).one()
    assert noted == counted
    return sum((counted or {}).values())


def total(connection: Connection, **wanted: Any) -> int:
    listing = list_task_logs(connection, TaskLogFilter(**wanted), TaskLogOrder.NEWEST, Page(limit=1))
    assert listing.total is not None
    return listing.total


def check(insignia: Insignia, expected: int) -> None:
    """As it was written, and after it was folded."""
    for _ in range(2):
        with transaction(insignia.engine) as connection:
            assert number(connection) == expected
            assert not fold_changes(connection, 1_000)
    assert insignia.execute("SELECT count(*) FROM task_log_changes").scalar_one() == 0


def test_whatever_writes_logs_is_noted(insignia: Insignia) -> None:
    with Receiver(lambda request: (500 if "fails" in request.path else 200, b"")) as receiver:
        task = insignia.create_due(receiver.url, max_retry=1)
        failing = insignia.create_due(f"{receiver.url}/fails", max_retry=1)
        check(insignia, 0)
        insignia.claim(1)
        check(insignia, 1)
        insignia.tick()
        check(insignia, 2)
        insignia.make_due(task.id, failing.id, ago=timedelta(days=3))
        insignia.tick()
        check(insignia, insignia.execute("SELECT count(*) FROM task_logs").scalar_one())
        before = len(insignia.logs())
        run = insignia.run(task.id)
        insignia.retry(run.id)
        check(insignia, before + 2)
        insignia.make_due(task.id, ago=timedelta(minutes=2))
        insignia.update(task.id, schedule="1 1 1 1 *")
        check(insignia, before + 3)
    with transaction(insignia.engine) as connection:
        log = create_task_log(
            connection,
            task_id=task.id,
            execution_time=NOON,
            status=RunStatus.SUCCESS,
            retry_count=0,
            message=None,
        )
    check(insignia, before + 4)
    with transaction(insignia.engine) as connection:
        delete_task_log(connection, log.id)
    check(insignia, before + 3)
    insignia.end_leases_and_waits()
    for one in (task, failing):
        with transaction(insignia.engine) as connection:
            delete_task(connection, one.id)
    check(insignia, 0)


def test_a_claim_that_finds_its_slot_taken_adds_nothing(insignia: Insignia) -> None:
    task = insignia.create_due(HOOK)
    insignia.claim()
    insignia.execute("UPDATE task_state SET next_run_at = (SELECT scheduled_for FROM task_logs)")
    assert insignia.claim() == []
    assert insignia.task(task.id).next_run_at is not None
    check(insignia, 1)


def test_what_ticks_remove_is_noted(insignia: Insignia) -> None:
    task = insignia.create(HOOK, status=TaskStatus.INACTIVE)
    with transaction(insignia.engine) as connection:
        add(connection, 1_500, newest=NOON - timedelta(days=400))
        connection.execute(text("UPDATE task_logs SET task_id = :id"), {"id": task.id})
        delete_task(connection, task.id)
        add(connection, 50, newest=NOON - timedelta(days=400))
    check(insignia, 550)
    with transaction(insignia.engine) as connection:
        remove_expired_logs(connection, 1_000, Retention(success_days=30, other_days=30))
    with transaction(insignia.engine) as connection:
        assert number(connection) == 2 * 20, "the newest of each task"
        assert total(connection) == 20
        delete_logs_of_deleted_tasks(connection, 1_000)
    check(insignia, 20)


def test_logs_of_a_deleted_task_are_not_in_a_total_from_its_deletion_on(insignia: Insignia) -> None:
    task = insignia.create(HOOK, status=TaskStatus.INACTIVE)
    with transaction(insignia.engine) as connection:
        add(connection, 30)
        connection.execute(text("UPDATE task_logs SET task_id = :id"), {"id": task.id})
        add(connection, 12)
        connection.execute(text("INSERT INTO deleted_tasks VALUES (:id)"), {"id": task.id})
        assert number(connection) == 42
        since, until = NOON - timedelta(hours=2, minutes=5), NOON - timedelta(minutes=10)
        assert total(connection) == total(connection, status=RunStatus.SUCCESS) == 12
        assert total(connection, source=RunSource.API) == 12
        assert total(connection, task_id=task.id) == 0
        assert total(connection, since=since, until=until) == count(connection, since, until) - 10


def count(connection: Connection, since: datetime | None, until: datetime | None) -> int:
    statement = text("""
        SELECT count(*) FROM task_logs
        WHERE created_at >= coalesce(CAST(:since AS timestamptz), '-infinity')
            AND created_at < coalesce(CAST(:until AS timestamptz), 'infinity')
    """)
    counted: int = connection.execute(statement, {"since": since, "until": until}).scalar_one()
    return counted


MINUTES = (-500, -121, -120, -119, -60, -59, -1, 0, 1, 30, 60, 200)


def test_a_total_of_any_stretch_of_time_is_exact(insignia: Insignia) -> None:
    """Parts of one hour, of two, whole hours, and stretches that end before they begin."""
    edges = [None, *(NOON + timedelta(minutes=minutes) for minutes in MINUTES)]
    with transaction(insignia.engine) as connection:
        add(connection, 60, newest=NOON + timedelta(hours=1), seconds_apart=300)
        add(connection, 5, newest=NOON + timedelta(microseconds=2), seconds_apart=1e-6)
        fold_changes(connection, 3)
        for since in edges:
            for until in edges:
                expected = count(connection, since, until)
                assert total(connection, since=since, until=until) == expected, (since, until)


def test_totals_of_successes_and_of_slots_are_what_the_others_leave(insignia: Insignia) -> None:
    with Receiver(lambda request: (500 if "fails" in request.path else 200, b"")) as receiver:
        task = insignia.create_due(receiver.url)
        for path in ("", "/fails", "/fails"):
            insignia.create_due(receiver.url + path)
        insignia.tick()
        insignia.run(task.id)
        insignia.begin_run(task.id)
    with transaction(insignia.engine) as connection:
        add(connection, 7, newest=NOON)
        for status in (None, *RunStatus):
            for source in (None, *RunSource):
                expected = connection.execute(
                    text("""
                        SELECT count(*) FROM task_logs WHERE (status = :status OR CAST(:status AS text) IS NULL)
                            AND (source = :source OR CAST(:source AS text) IS NULL)
                    """),
                    {"status": status, "source": source},
                ).scalar_one()
                assert total(connection, status=status, source=source) == expected, (status, source)


def test_a_transaction_sees_its_own_logs_in_the_number_and_nobody_elses(insignia: Insignia) -> None:
    with insignia.engine.connect() as one, insignia.engine.connect() as other:
        add(one, 10)
        with other.begin_nested() as savepoint:
            add(other, 5)
            assert number(other) == 5
            savepoint.rollback()
        add(other, 3)
        assert (number(one), number(other)) == (10, 3)
        check(insignia, 0)
        one.commit()
        assert number(other) == 13
        remove(other, 13)
        assert number(other) == 0
        other.rollback()
    check(insignia, 10)


def test_a_snapshot_keeps_its_number_whatever_is_committed_or_folded_after_it(insignia: Insignia) -> None:
    with transaction(insignia.engine) as connection:
        add(connection, 10)
    with insignia.engine.connect().execution_options(isolation_level="REPEATABLE READ") as reader:
        assert number(reader) == 10
        with transaction(insignia.engine) as connection:
            add(connection, 5)
            remove(connection, 1)
        check(insignia, 14)
        assert number(reader) == total(reader) == 10


def test_two_fold_without_waiting_for_each_other(insignia: Insignia) -> None:
    with transaction(insignia.engine) as connection:
        add(connection, 10)
    with insignia.engine.connect() as one:
        assert fold_changes(one, 1)
        with transaction(insignia.engine) as other:
            other.execute(text("SET LOCAL lock_timeout = 1"))
            assert not fold_changes(other, 1)
            add(other, 10)
        one.rollback()
    check(insignia, 20)


def test_logs_are_folded_while_a_file_of_tasks_is_applied(insignia: Insignia) -> None:
    with transaction(insignia.engine) as connection:
        add(connection, 10)
    with insignia.engine.connect() as one:
        apply_declarations(one, [], prune=False, dry_run=False)
        with transaction(insignia.engine) as other:
            assert fold_changes(other, 1)


def test_hours_without_logs_are_forgotten(insignia: Insignia) -> None:
    with transaction(insignia.engine) as connection:
        add(connection, 10)
    check(insignia, 10)
    insignia.execute("DELETE FROM task_logs")
    check(insignia, 0)
    assert insignia.execute("SELECT count(*) FROM task_log_counts").scalar_one() == 0


def test_ticks_fold(insignia: Insignia) -> None:
    with transaction(insignia.engine) as connection:
        add(connection, 10)
    insignia.tick()
    assert insignia.execute("SELECT sum(logs) FROM task_log_counts").scalar_one() == 10
    assert insignia.execute("SELECT count(*) FROM task_log_changes").scalar_one() == 0


@pytest.mark.parametrize(
    "statement", ["TRUNCATE task_logs", "UPDATE task_logs SET created_at = created_at - interval '5 hours'"]
)
def test_what_only_an_owner_of_the_database_does_is_counted_anew(insignia: Insignia, statement: str) -> None:
    with transaction(insignia.engine) as connection:
        add(connection, 10)
        fold_changes(connection, 1)
        connection.execute(text(statement))
        expected = number(connection)
    check(insignia, expected)
    assert expected == (0 if "TRUNCATE" in statement else 10)


def test_logs_are_counted_anew_on_request(insignia: Insignia) -> None:
    with transaction(insignia.engine) as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        add(connection, 10)
    insignia.execute("UPDATE task_logs SET created_at = created_at WHERE false")
    check(insignia, 10)


def test_the_number_is_right_in_each_moment_while_all_write_at_once(insignia: Insignia) -> None:
    """Six threads add, remove, roll back and fold; two look all the time."""

    def write(seed: int) -> None:
        chance = random.Random(seed)
        works: list[Callable[[Connection], object]] = [
            lambda connection: add(connection, chance.randint(1, 40)),
            lambda connection: remove(connection, chance.randint(1, 20)),
            lambda connection: fold_changes(connection, chance.randint(1, 5)),
        ]
        engine = make_engine(insignia.engine.url.render_as_string(hide_password=False), pool_size=1)
        for _ in range(40):
            with engine.connect() as connection:
                for work in chance.choices(works, k=chance.randint(1, 3)):
                    work(connection)
                if chance.random() < 0.7:
                    connection.commit()
        engine.dispose()

    def look(_: int) -> set[int]:
        found = set()
        with insignia.engine.connect() as connection:
            while not all(writer.done() for writer in writers):
                found.add(number(connection))
                connection.commit()
        return found

    with ThreadPoolExecutor(8) as pool:
        writers = [pool.submit(write, seed) for seed in range(6)]
        found = set().union(*pool.map(look, range(2)))
        for writer in writers:
            writer.result()
    assert len(found) > 1
    with transaction(insignia.engine) as connection:
        expected = number(connection)
    while insignia.execute("SELECT count(*) FROM task_log_changes").scalar_one():
        with transaction(insignia.engine) as connection:
            fold_changes(connection, 100)
    check(insignia, expected)
