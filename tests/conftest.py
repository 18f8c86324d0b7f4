"""A real PostgreSQL for the tests: one embedded cluster a session, one database a test."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import settings
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.pool import NullPool

from db.embedded import EmbeddedPostgres
from db.engine import make_engine
from db.migrations import upgrade

IN_FULL = {
    "full_faults": "the fault suite in full, not only a sample",
    "full_infra": "also what needs terraform's offline check or checkov, which takes minutes",
}
"""Markers of tests that run only with the option of the same name."""

TEMPLATE = "template_of_tests"
NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
UNDISTURBED = {"autovacuum": "off"}
"""A vacuum of its own beside a test moves rows and statistics, and its snapshot keeps the test's from rows."""

MEMORY = Path("/dev/shm")  # noqa: S108 (with directories of random names in it)
ENOUGH = 4 * 2**30
"""Bytes that must be free there: for three clusters with the WAL that each may keep, and for what a test makes."""

numbers = count(1)

# each run tests the same, on a busy machine as well
settings.register_profile("suite", deadline=None, derandomize=True, database=None)
settings.load_profile("suite")


def url_of(cluster_url: str, database: str) -> str:
    return make_url(cluster_url).set(database=database).render_as_string(hide_password=False)


def pytest_addoption(parser: pytest.Parser) -> None:
    for marker, what in IN_FULL.items():
        parser.addoption(f"--{marker.replace('_', '-')}", action="store_true", help=what)


def pytest_configure(config: pytest.Config) -> None:
    keep_temporary_files_in_memory()
    for marker in IN_FULL:
        config.addinivalue_line("markers", f"{marker}: runs with --{marker.replace('_', '-')} only")


def keep_temporary_files_in_memory() -> None:
    """If there is room: a database is 300 files, which take a disk up to 0.3 s of the processor's time to make."""
    if "TMPDIR" in os.environ or not MEMORY.is_dir():
        return
    is_for_programs = not os.statvfs(MEMORY).f_flag & os.ST_NOEXEC
    if is_for_programs and shutil.disk_usage(MEMORY).free > ENOUGH:
        os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = [marker for marker in IN_FULL if not config.getoption(marker)]
    full = [item for item in items if any(item.get_closest_marker(marker) for marker in left_out)]
    config.hook.pytest_deselected(items=full)
    items[:] = [item for item in items if item not in full]


@pytest.fixture(scope="session")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The cluster's own connection, outside any transaction, for CREATE DATABASE and the like."""
    with EmbeddedPostgres(tmp_path_factory.mktemp("cluster"), settings=NOT_DURABLE | UNDISTURBED) as url:
        engine = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {TEMPLATE}"))
        upgrade(url_of(url, TEMPLATE))
        yield engine


@pytest.fixture
def database_url(admin: Engine) -> Iterator[str]:
    """A migrated, empty database of the test's own."""
    database = f"test_{next(numbers)}"
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {database} TEMPLATE {TEMPLATE} STRATEGY file_copy"))
    yield url_of(admin.url.render_as_string(hide_password=False), database)
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {database} WITH (FORCE)"))


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = make_engine(database_url)
    yield engine
    engine.dispose()
