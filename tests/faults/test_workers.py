"""Workers, woken by Google's emulator of Pub/Sub: each slot once, whatever befalls messages and workers."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from os import killpg
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest
from sqlalchemy import Engine, text

from db.child_process import wait_until
from tests.acceptance.server import ROOT, Api, Json, Server
from tests.conftest import TEMPLATE, numbers, url_of
from tests.faults.conftest import engine_of, trial_on
from tests.faults.trial import Trial
from tests.google_accounts import ACCOUNT, GoogleAccounts
from tests.pubsub import TOPIC, Emulator, Hop

WORKERS = 4
BUDGET_SECONDS = 30

MAIN = """
import importlib.util
from functions import bootstrap
from functions.identity import IdentityVerifier

verifier = IdentityVerifier({certificates!r})
bootstrap.identity_verifier = lambda: verifier
spec = importlib.util.spec_from_file_location("insignia", {main!r})
insignia = importlib.util.module_from_spec(spec)
spec.loader.exec_module(insignia)
deliver = insignia.deliver
"""
"""main.py, for which Google's certificates are elsewhere."""


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with Emulator(tmp_path_factory.mktemp("emulator")) as emulator:
        yield emulator


@pytest.fixture(scope="module")
def google() -> Iterator[GoogleAccounts]:
    with GoogleAccounts() as google:
        yield google


@pytest.fixture(scope="module")
def fleet_database(admin: Engine) -> str:
    """A migrated database for the servers of this file; it goes with its cluster.

    A process that is given one of these tests after others sets up another one.
    """
    database = f"fleet_{next(numbers)}"
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {database} TEMPLATE {TEMPLATE}"))
    return url_of(admin.url.render_as_string(hide_password=False), database)


@pytest.fixture
def trial(fleet_database: str, tmp_path: Path) -> Iterator[Trial]:
    """On an empty database."""
    with engine_of(fleet_database) as engine:
        with engine.begin() as connection:
            connection.execute(text("TRUNCATE tasks, task_state, task_logs, ticks"))
        with trial_on(engine, tmp_path) as trial:
            yield trial


@dataclass(frozen=True, slots=True)
class Fleet:
    """A tick and its workers, each a server of its own."""

    emulator: Emulator
    google: GoogleAccounts
    tick: Api
    workers: Sequence[Server]
    concurrency: int
    start_worker: Callable[[str], Server]

    @contextmanager
    def tick_begins(self, *more_workers: Server, **mishaps: Any) -> Iterator[tuple[Hop, Future[Json]]]:
        """A tick, and the workers that it wakes; ends when all of them have."""
        hop = Hop(self.google, [worker.url for worker in (*more_workers, *self.workers)], **mishaps)
        with hop, ThreadPoolExecutor(1) as pool:
            self.emulator.push_to(hop.url)
            yield hop, pool.submit(self.tick.tick)
            assert wait_until(lambda: len(hop.numbers) == WORKERS and not hop.busy, 90), "workers do not end"


@pytest.fixture(scope="module")
def fleet(
    request: pytest.FixtureRequest,
    fleet_database: str,
    emulator: Emulator,
    google: GoogleAccounts,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Fleet]:
    """With few calls in flight: a tick reckons a call at a second at first, and what is due needs all workers."""
    concurrency = 64 if request.config.getoption("--full-faults") else 8
    directory = tmp_path_factory.mktemp("fleet")
    (directory / "main.py").write_text(
        MAIN.format(certificates=google.certificates_url, main=str(ROOT / "main.py"))
    )
    settings = {
        "DATABASE_URL": fleet_database,
        "PYTHONPATH": str(ROOT),
        "DELIVERY_CONCURRENCY": str(concurrency),
        "DESTINATION_CONCURRENCY": str((WORKERS + 2) * concurrency),
        "TICK_BUDGET_SECONDS": str(BUDGET_SECONDS),
        "DELIVER_SERVICE_ACCOUNT": ACCOUNT,
        "DELIVER_WORKERS": str(WORKERS),
        "DELIVER_TOPIC": TOPIC,
        "PUBSUB_EMULATOR_HOST": emulator.host,
    }
    servers: list[Server] = []

    def start(name: str, target: str, source: Path) -> Server:
        servers.append(Server(directory / name, settings, target, source))
        return servers[-1]

    workers = [start(f"worker-{number}", "deliver", directory) for number in range(WORKERS)]
    tick = start("tick", "tick", ROOT)
    try:
        for server in servers:
            server.wait_until_ready()
        yield Fleet(
            emulator=emulator,
            google=google,
            tick=Api(tick.url),
            workers=workers,
            concurrency=concurrency,
            start_worker=lambda name: start(name, "deliver", directory),
        )
    finally:
        for server in servers:
            server.begin_to_stop()
        for server in servers:
            server.stop()


def shares(trial: Trial) -> list[int]:
    """What each worker has delivered, of those that have delivered something."""
    rows = trial.insignia.execute("SELECT succeeded FROM ticks WHERE kind = 'worker' AND succeeded > 0")
    return list(rows.scalars())


@pytest.fixture
def due(fleet: Fleet, is_full: bool) -> int:
    """As many tasks as it takes to wake all workers."""
    number = 10_000 if is_full else 1_200
    assert number >= (WORKERS + 1) * fleet.concurrency * BUDGET_SECONDS
    return number


def test_a_backlog_spreads_over_the_workers(fleet: Fleet, trial: Trial, due: int) -> None:
    trial.create_many_due(due, "/slow")
    with fleet.tick_begins() as (hop, ticking):
        pass
    assert hop.statuses == [200] * WORKERS
    assert len(shares(trial)) >= 3
    delivered = sum(shares(trial)) + ticking.result()["succeeded"]
    assert delivered == len(trial.receiver.calls())
    trial.recover(budget_seconds=40)
    assert len(trial.receiver.calls()) == due
    trial.assert_invariants(may_repeat=False)


def test_messages_that_are_lost_or_doubled_change_nothing(fleet: Fleet, trial: Trial, due: int) -> None:
    trial.create_many_due(due, "/slow")
    with fleet.tick_begins(is_lost=(0).__eq__, is_doubled=lambda number: number in (1, 2)) as (hop, _):
        pass
    assert set(hop.statuses) == {200}
    assert len(hop.statuses) > WORKERS - 1
    trial.recover(budget_seconds=40)
    assert len(trial.receiver.calls()) == due
    trial.assert_invariants(may_repeat=False)


@pytest.mark.full_faults
def test_without_pubsub_ticks_deliver_by_themselves(fleet: Fleet, trial: Trial, due: int) -> None:
    trial.create_many_due(due, "/slow")
    with fleet.tick_begins(is_lost=lambda _: True):
        pass
    assert shares(trial) == []
    trial.recover(budget_seconds=40)
    assert len(trial.receiver.calls()) == due
    trial.assert_invariants(may_repeat=False)


def test_a_worker_is_killed_in_the_middle(fleet: Fleet, trial: Trial, due: int) -> None:
    """With calls in flight, of which it has no answer yet: later ticks take its runs over."""
    trial.create_many_due(due, "/hold", timeout_seconds=12)
    victim = fleet.start_worker("victim")
    victim.wait_until_ready()
    with fleet.tick_begins(victim) as (hop, _):
        trial.receiver.wait_for((WORKERS + 1) * fleet.concurrency, seconds=60)
        killpg(victim.process.pid, SIGKILL)
        trial.assert_calls_are_recorded()
        trial.receiver.release()
    assert 0 in hop.statuses
    trial.recover(budget_seconds=40)
    trial.assert_invariants(may_repeat=True)
    assert set(trial.statuses()) == {"success"}
