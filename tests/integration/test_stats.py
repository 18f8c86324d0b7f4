"""What the logs have come to, hour by hour."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, text

import db.stats
from db.engine import transaction
from db.stats import (
    READ_HOURS_OF_TASK,
    Hour,
    Percentiles,
    Stats,
    TaskCounts,
    read_hours_of_task,
    read_stats,
)
from db.task_logs import RECENT_RUNS, RecentRun, read_recent_runs
from domain.run import RunStatus
from domain.task import TaskStatus
from tests.faults.simulated_clock import SimulatedClock, install_simulated_clock
from tests.integration.conftest import Insignia

HOOK = "http://127.0.0.1:9/hook"
INSERT = text("""
INSERT INTO task_logs (
    id, task_id, source, status, scheduled_for, execution_time, finished_at, retry_count, duration_ms, attempts,
    revision, available_at, lease_id, lost_leases, throttles, missed_from, missed_to, missed_count, created_at)
SELECT gen_random_uuid(), :task_id, :source, :status, at, at + make_interval(secs => :late_seconds),
    CASE WHEN is_live THEN NULL ELSE at END, 0, :duration_ms, '[]', 1, CASE WHEN is_live THEN at END,
    CASE WHEN is_live THEN gen_random_uuid() END, 0, 0,
    CASE WHEN :missed > 0 THEN at END, CASE WHEN :missed > 0 THEN at END, nullif(:missed, 0), at
FROM (SELECT statement_timestamp() - make_interval(hours => :hours_ago) - make_interval(secs => number / 1e6) AS at,
    :status IN ('running', 'retrying') AS is_live FROM generate_series(1, :logs) number) made
""")


def stats(insignia: Insignia, hours: int = 24) -> Stats:
    with transaction(insignia.engine) as connection:
        return read_stats(connection, hours)


def add(insignia: Insignia, status: str, **fields: Any) -> None:
    values = {
        "task_id": uuid4(),
        "source": "schedule",
        "status": status,
        "late_seconds": 0.0,
        "duration_ms": None,
        "missed": 0,
        "hours_ago": 0,
        "logs": 1,
    }
    with transaction(insignia.engine) as connection:
        connection.execute(INSERT, values | fields)


@pytest.fixture
def in_the_middle_of_an_hour(admin: Engine, database_url: str) -> datetime:
    """The beginning of that hour; the clock of the database stands half an hour later."""
    install_simulated_clock(admin, database_url)
    clock = SimulatedClock(database_url)
    clock.set(datetime(2026, 11, 26, 12, 30, tzinfo=UTC))
    clock.close()
    return datetime(2026, 11, 26, 12, tzinfo=UTC)


def test_without_logs_each_hour_is_there_and_empty(
    in_the_middle_of_an_hour: datetime, insignia: Insignia
) -> None:
    found = stats(insignia, 3)
    assert found.hours == [
        Hour(
            start=in_the_middle_of_an_hour - timedelta(hours=ago),
            success=0,
            failed=0,
            missed=0,
            skipped=0,
            cancelled=0,
        )
        for ago in (2, 1, 0)
    ]
    assert found.success_rate is None
    assert found.duration_ms == found.lateness_ms == Percentiles(p50=None, p95=None)
    assert found.tasks == TaskCounts(active=0, inactive=0, deactivated=0, completed=0)


def test_logs_count_in_their_hours_and_stretches_by_their_slots(
    in_the_middle_of_an_hour: datetime, insignia: Insignia
) -> None:
    add(insignia, "success", logs=3)
    add(insignia, "failed", source="manual")
    add(insignia, "success", source="api", hours_ago=1)
    add(insignia, "missed", missed=7, hours_ago=1)
    add(insignia, "skipped", hours_ago=1)
    add(insignia, "cancelled", hours_ago=1)
    add(insignia, "cancelled", missed=4, hours_ago=1)
    add(insignia, "running")
    add(insignia, "retrying")
    add(insignia, "success", hours_ago=2)
    found = stats(insignia, 2)
    before, present = found.hours
    start = in_the_middle_of_an_hour
    assert present == Hour(start=start, success=3, failed=1, missed=0, skipped=0, cancelled=0)
    assert before == Hour(
        start=start - timedelta(hours=1), success=1, failed=0, missed=7, skipped=1, cancelled=5
    )
    assert found.success_rate == 0.8


@pytest.mark.usefixtures("in_the_middle_of_an_hour")
def test_percentiles_are_values_that_occurred(insignia: Insignia) -> None:
    for number in range(1, 101):
        add(insignia, "success" if number % 2 else "failed", duration_ms=number, late_seconds=number / 100)
    add(insignia, "success", source="api", late_seconds=900)  # recorded: without a duration, and never late
    add(insignia, "success", source="manual", duration_ms=50, late_seconds=900)
    add(insignia, "retrying", duration_ms=40_000, late_seconds=900)
    add(insignia, "cancelled", duration_ms=40_000, late_seconds=900)
    add(insignia, "success", duration_ms=40_000, late_seconds=900, hours_ago=24)
    found = stats(insignia)
    assert found.duration_ms == Percentiles(p50=50, p95=95)
    assert found.lateness_ms == Percentiles(p50=500, p95=950)


@pytest.mark.usefixtures("in_the_middle_of_an_hour")
def test_percentiles_are_those_of_the_newest_runs(
    insignia: Insignia, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db.stats, "MEASURED_RUNS", 100)
    add(insignia, "success", duration_ms=9_000, logs=200, hours_ago=1)
    add(insignia, "success", duration_ms=100, logs=100)
    found = stats(insignia)
    assert found.duration_ms == Percentiles(p50=100, p95=100)
    assert [hour.success for hour in found.hours[-2:]] == [200, 100]


def test_logs_of_a_deleted_task_are_gone_also_while_they_wait_for_their_removal(insignia: Insignia) -> None:
    deleted = uuid4()
    insignia.execute("INSERT INTO deleted_tasks VALUES (:id)", id=deleted)
    add(insignia, "failed", task_id=deleted, duration_ms=1)
    add(insignia, "success", duration_ms=2)
    found = stats(insignia, 2)
    assert (found.success_rate, found.duration_ms.p50) == (1.0, 2)


def test_tasks_are_counted_by_who_switched_them_off(insignia: Insignia) -> None:
    for status in (TaskStatus.ACTIVE, TaskStatus.ACTIVE, TaskStatus.INACTIVE):
        insignia.create(HOOK, status=status)
    insignia.create_due(HOOK)
    assert insignia.tick().deactivated == 1
    one_off = insignia.create(HOOK)
    insignia.execute(
        "UPDATE task_state SET status = 'completed', next_run_at = NULL WHERE task_id = :id", id=one_off.id
    )
    assert stats(insignia).tasks == TaskCounts(active=2, inactive=1, deactivated=1, completed=1)


def test_hours_of_a_task_are_its_own_and_those_of_its_newest_logs(
    in_the_middle_of_an_hour: datetime, insignia: Insignia, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = uuid4()
    add(insignia, "success", task_id=task_id, logs=3)
    add(insignia, "missed", task_id=task_id, missed=7, hours_ago=1)
    add(insignia, "failed", task_id=task_id, hours_ago=2)
    add(insignia, "failed")
    with transaction(insignia.engine) as connection:
        before, present = read_hours_of_task(connection, task_id, 2)
        monkeypatch.setattr(db.stats, "COUNTED_LOGS", 2)
        newest = read_hours_of_task(connection, task_id, 2)
    assert (present.start, present.success, present.failed) == (in_the_middle_of_an_hour, 3, 0)
    assert (before.success, before.failed, before.missed) == (0, 0, 7)
    assert [(hour.success, hour.missed) for hour in newest] == [(0, 0), (2, 0)]


def test_hours_of_a_task_are_read_by_an_index(insignia: Insignia) -> None:
    add(insignia, "success", logs=2_000)
    task_id = uuid4()
    add(insignia, "success", task_id=task_id, logs=20)
    insignia.execute("ANALYZE task_logs")
    with transaction(insignia.engine) as connection:
        plan = connection.execute(
            text("EXPLAIN " + READ_HOURS_OF_TASK.text),
            {"task_id": task_id, "hours": 720, "counted_logs": db.stats.COUNTED_LOGS},
        ).scalars()
        assert any("task_logs_of_task_newest" in line for line in plan)


def test_recent_runs_are_the_newest_of_each_task_oldest_first(insignia: Insignia) -> None:
    one, other, none = uuid4(), uuid4(), uuid4()
    for hours_ago, duration_ms in ((3, 30), (2, 20), (1, 10)):
        add(insignia, "success", task_id=one, hours_ago=hours_ago, duration_ms=duration_ms)
    add(insignia, "failed", task_id=other)
    with transaction(insignia.engine) as connection:
        found = read_recent_runs(connection, [one, other, none], 2)
    assert found == {
        one: [RecentRun(RunStatus.SUCCESS, 20), RecentRun(RunStatus.SUCCESS, 10)],
        other: [RecentRun(RunStatus.FAILED, None)],
        none: [],
    }


def test_recent_runs_are_read_by_the_index_of_their_task_also_where_few_tasks_have_most_logs(
    insignia: Insignia,
) -> None:
    add(insignia, "success", logs=20_000)
    insignia.execute(
        "UPDATE task_logs SET task_id ="
        " CAST(lpad(mod(extract(microseconds FROM created_at)::int, 5)::text, 32, '0') AS uuid)"
    )
    insignia.execute("ANALYZE task_logs")
    with transaction(insignia.engine) as connection:
        values = {"task_ids": [uuid4()], "limit": 60}
        plan = "\n".join(connection.execute(text("EXPLAIN " + RECENT_RUNS.text), values).scalars())
    assert "task_logs_of_task_newest" in plan
