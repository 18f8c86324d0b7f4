"""A trial for each test, and how much of the suite runs: a sample, or all with --full-faults."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine

from db.engine import make_engine
from tests.acceptance.server import Server
from tests.faults.durable_receiver import DurableReceiver
from tests.faults.trial import Trial


@pytest.fixture
def trial(engine: Engine, tmp_path: Path) -> Iterator[Trial]:
    """Two destinations; the second one for what must not harm the first."""
    with trial_on(engine, tmp_path) as trial:
        yield trial


@contextmanager
def trial_on(engine: Engine, directory: Path) -> Iterator[Trial]:
    with DurableReceiver(directory, destinations=2) as receiver:
        trial = Trial(engine, receiver, directory)
        try:
            yield trial
        finally:
            trial.close()


@pytest.fixture
def is_full(request: pytest.FixtureRequest) -> bool:
    """Whether sizes are those of the full suite."""
    return bool(request.config.getoption("--full-faults"))


@contextmanager
def engine_of(url: str) -> Iterator[Engine]:
    engine = make_engine(url)
    yield engine
    engine.dispose()


@contextmanager
def read_only(trial: Trial) -> Iterator[None]:
    database = trial.insignia.engine.url.database
    trial.insignia.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    trial.terminate_connections()
    yield
    trial.insignia.execute(
        f"SET TRANSACTION READ WRITE; ALTER DATABASE {database} RESET default_transaction_read_only"
    )
    trial.terminate_connections()


@contextmanager
def server_of(url: str, directory: Path, **settings: str) -> Iterator[Server]:
    server = Server(directory / "server", {"DATABASE_URL": url} | settings)
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.stop()
