"""The database goes away, refuses to write, or has no place left: nothing is called that is not recorded."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from db.child_process import wait_until
from tests.faults.cluster import Cluster
from tests.faults.conftest import engine_of, read_only, trial_on
from tests.faults.tick_process import TickProcess
from tests.faults.trial import SHORT_BUDGET_SECONDS, Trial


def start_and_hold_calls(trial: Trial) -> TickProcess:
    """A tick that has settled something and waits for 20 answers."""
    trial.create_many_due(20, "/hold", timeout_seconds=20)
    trial.create_many_due(20)
    tick = trial.start_tick()
    assert wait_until(lambda: trial.statuses().count("success") == 20, 20)
    trial.receiver.wait_for(40)
    return tick


def assert_the_tick_recorded_all(trial: Trial, tick: TickProcess) -> None:
    """It says that the database failed; what it had called is recorded, and not called again."""
    assert tick.wait_until_returned() is None
    assert tick.told("unavailable")
    trial.assert_calls_are_recorded()
    trial.recover()
    trial.assert_invariants(may_repeat=False)
    assert set(trial.statuses()) == {"success"}


@pytest.mark.parametrize(
    "signum",
    [
        pytest.param(signal.SIGQUIT, id="immediate"),
        pytest.param(signal.SIGKILL, id="kill", marks=pytest.mark.full_faults),
    ],
)
def test_postgresql_is_restarted_during_a_tick(tmp_path: Path, signum: signal.Signals) -> None:
    with (
        Cluster(tmp_path / "cluster") as cluster,
        engine_of(cluster.url) as engine,
        trial_on(engine, tmp_path) as trial,
    ):
        tick = start_and_hold_calls(trial)
        cluster.crash(signum)
        trial.receiver.release()
        cluster.start()
        assert_the_tick_recorded_all(trial, tick)


def test_all_connections_are_terminated_during_a_tick(trial: Trial) -> None:
    tick = start_and_hold_calls(trial)
    trial.terminate_connections()
    trial.receiver.release()
    summary = tick.wait_until_returned()
    assert summary is not None, "an idle connection that is gone is replaced without a fault"
    trial.recover()
    trial.assert_invariants(may_repeat=False)
    assert set(trial.statuses()) == {"success"}


@contextmanager
def full_disk(trial: Trial) -> Iterator[None]:
    trial.insignia.execute("""
        CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full';
        END $$;
        CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON task_logs FOR EACH ROW EXECUTE FUNCTION fail();
    """)
    yield
    trial.insignia.execute("DROP FUNCTION fail() CASCADE")


@pytest.mark.parametrize("without_writing", [read_only, full_disk])
def test_nothing_is_called_that_cannot_be_recorded(trial: Trial, without_writing: object) -> None:
    assert callable(without_writing)
    trial.create_many_due(20)
    with without_writing(trial):
        tick = trial.start_tick(budget_seconds=SHORT_BUDGET_SECONDS)
        assert tick.wait_until_returned() is None
        assert tick.told("unavailable")
    assert trial.receiver.calls() == []
    trial.recover()
    trial.assert_invariants(may_repeat=False)
    assert set(trial.statuses()) == {"success"}


@pytest.mark.parametrize(
    "without_writing", [full_disk, pytest.param(read_only, marks=pytest.mark.full_faults)]
)
def test_results_are_kept_until_the_database_can_be_written_again(
    trial: Trial, without_writing: object
) -> None:
    assert callable(without_writing)
    tick = start_and_hold_calls(trial)
    with without_writing(trial):
        trial.receiver.release()
        trial.until(lambda: tick.told("refused").count("settle") >= 2, "two settles have failed")
    assert_the_tick_recorded_all(trial, tick)
