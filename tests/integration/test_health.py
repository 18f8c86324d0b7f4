"""/health: what a monitor is told, and which status that makes."""

import pytest
from sqlalchemy import text

import functions.health
from db.engine import make_engine, transaction
from db.health import COUNTED_AT_MOST, READ_WORK, read_work
from db.migrations import SCHEMA_REVISION
from domain.task import TaskStatus
from functions import VERSION, bootstrap
from functions.health import LATE_AFTER_SECONDS, LATE_SLOT_SECONDS
from functions.problems import Unhealthy
from functions.reports import Health
from functions.settings import load
from tests.bench.filled import fill
from tests.integration.conftest import Insignia
from tests.receiver import Receiver

NOWHERE = "https://example.com/hook"
NOBODY = "postgresql://postgres@127.0.0.1:9/insignia"


@pytest.fixture(autouse=True)
def served(insignia: Insignia, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "settings", lambda: load({}))
    monkeypatch.setattr(bootstrap, "database", lambda: insignia.engine)


def health() -> Health:
    return functions.health.health()


def age_the_last_tick(insignia: Insignia, seconds: float) -> None:
    insignia.execute(
        "UPDATE ticks SET started_at = started_at - make_interval(secs => :seconds),"
        " finished_at = clock_timestamp() - make_interval(secs => :seconds)",
        seconds=seconds,
    )


def test_an_empty_insignia_is_healthy_and_says_what_it_is() -> None:
    told = health()
    assert (told.status, told.tick, told.database, told.read_only) == ("healthy", "pending", "ok", False)
    assert (told.version, told.schema_revision) == (VERSION, SCHEMA_REVISION)
    assert told.expected_schema_revision == SCHEMA_REVISION
    assert (told.last_tick_at, told.tick_age_seconds, told.tick_lag_seconds) == (None, None, None)
    assert (told.due, told.lag_seconds, told.running, told.waiting, told.deactivated) == (0, 0, 0, 0, 0)


def test_what_there_is_to_do_is_counted(insignia: Insignia) -> None:
    with Receiver(lambda _: (500, b"")) as receiver:
        insignia.create_due(receiver.url)
        insignia.tick()  # is deactivated
    insignia.create(NOWHERE, status=TaskStatus.INACTIVE)  # by its user
    for _ in range(5):
        insignia.create_due(NOWHERE)
    first, second = insignia.claim(2)
    insignia.execute(
        "UPDATE task_logs SET status = 'retrying', available_at = clock_timestamp() + interval '1 h' WHERE id = :id",
        id=first.id,
    )
    told = health()
    assert (told.due, told.running, told.waiting, told.deactivated) == (3, 1, 1, 1)
    assert second.id != first.id
    assert 0 <= told.lag_seconds < 61


@pytest.mark.parametrize(("beyond", "status"), [(-30, "healthy"), (1, "degraded")])
def test_a_slot_that_waits_for_too_long_degrades(insignia: Insignia, beyond: int, status: str) -> None:
    task = insignia.create(NOWHERE)
    insignia.execute(
        "UPDATE task_state SET next_run_at = clock_timestamp() - make_interval(secs => :age) WHERE task_id = :id",
        age=LATE_SLOT_SECONDS + beyond,
        id=task.id,
    )
    told = health()
    assert told.status == status
    assert told.lag_seconds == pytest.approx(LATE_SLOT_SECONDS + beyond, abs=20)


@pytest.mark.parametrize(("beyond", "status", "tick"), [(-30, "healthy", "ok"), (1, "degraded", "late")])
def test_a_tick_that_is_late_degrades(insignia: Insignia, beyond: int, status: str, tick: str) -> None:
    insignia.tick()
    age_the_last_tick(insignia, LATE_AFTER_SECONDS + beyond)
    told = health()
    assert (told.status, told.tick) == (status, tick)
    assert told.tick_age_seconds == pytest.approx(LATE_AFTER_SECONDS + beyond, abs=20)


def test_a_task_that_is_activated_again_is_no_longer_counted(insignia: Insignia) -> None:
    with Receiver(lambda _: (500, b"")) as receiver:
        task = insignia.create_due(receiver.url)
        insignia.tick()
    assert health().deactivated == 1
    insignia.update(task.id, TaskStatus.ACTIVE)
    assert health().deactivated == 0


def members(caught: pytest.ExceptionInfo[Unhealthy]) -> dict[str, object]:
    return dict(caught.value.members)


def test_without_a_database_nothing_of_it_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "database", lambda: make_engine(NOBODY))
    with pytest.raises(Unhealthy) as caught:
        health()
    assert members(caught) == {
        "status": "unhealthy",
        "version": VERSION,
        "database": "unavailable",
        "read_only": None,
        "schema_revision": None,
        "expected_schema_revision": SCHEMA_REVISION,
    }


def test_a_read_only_database_is_told_as_that(insignia: Insignia) -> None:
    (name,) = insignia.execute("SELECT current_database()").one()
    insignia.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    insignia.engine.dispose()
    with pytest.raises(Unhealthy, match="read-only") as caught:
        health()
    assert members(caught)["read_only"] is True
    assert members(caught)["schema_revision"] == SCHEMA_REVISION


def test_counting_stops_and_reads_no_table_from_end_to_end(database_url: str) -> None:
    filled = fill(database_url, tasks=3 * COUNTED_AT_MOST, logs=COUNTED_AT_MOST)
    with transaction(filled.engine) as connection:
        connection.execute(text("ANALYZE"))
        plan = (
            connection.execute(text(f"EXPLAIN {READ_WORK.text}"), {"most": COUNTED_AT_MOST}).scalars().all()
        )
        connection.execute(
            text(
                "UPDATE task_state SET next_run_at = clock_timestamp() - interval '1 h' WHERE status = 'active'"
            )
        )
        assert read_work(connection).due == COUNTED_AT_MOST
    filled.engine.dispose()
    assert not [line for line in plan if "Seq Scan" in line]
    for index in ("task_state_next", "task_state_deactivated", "task_logs_under_way"):
        assert any(index in line for line in plan), plan
