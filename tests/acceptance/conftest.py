"""One real server for all tests, on a database of its own that each test finds empty."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, text

from db.engine import make_engine
from tests.acceptance.server import Api, Json, Server
from tests.conftest import TEMPLATE, url_of
from tests.copies import copy_task


@pytest.fixture(scope="session")
def server_database(admin: Engine) -> str:
    """A migrated database for the servers of the session; it goes with its cluster."""
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE acceptance TEMPLATE {TEMPLATE}"))
    return url_of(admin.url.render_as_string(hide_password=False), "acceptance")


@pytest.fixture(scope="session")
def rows(server_database: str) -> Iterator[Engine]:
    engine = make_engine(server_database)
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def server(server_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"), {"DATABASE_URL": server_database})
    try:
        server.wait_until_ready()
        yield server
    finally:
        code = server.stop()
    assert code == 0


@pytest.fixture(scope="session")
def guarded_server(server_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Under the rules of the cloud: it may not call this machine."""
    server = Server(
        tmp_path_factory.mktemp("guarded"), {"DATABASE_URL": server_database, "K_SERVICE": "insignia"}
    )
    try:
        server.wait_until_ready()
        yield server
    finally:
        code = server.stop()
    assert code == 0


@pytest.fixture
def empty(rows: Engine) -> None:
    """Deletes all rows, as no route does."""
    with rows.begin() as connection:
        tables = connection.execute(
            text(
                "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
            )
        ).scalars()
        for table in sorted(tables, key="tasks".__eq__):  # the others refer to tasks
            connection.execute(text(f'DELETE FROM "{table}"'))  # noqa: S608


@pytest.fixture
def api(server: Server, empty: None) -> Api:
    return Api(server.url)


@pytest.fixture
def guarded(guarded_server: Server, empty: None) -> Api:
    return Api(guarded_server.url)


@pytest.fixture
def database(rows: Engine) -> "Database":
    return Database(rows)


class Database:
    """What no request can do: make a task due now, and as many like it as a test needs."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def make_due(self, *tasks: Json, seconds_ago: int = 0) -> None:
        with self._engine.begin() as connection:
            connection.execute(
                text(
                    "UPDATE task_state SET next_run_at = clock_timestamp() - make_interval(secs => :seconds)"
                    " WHERE status = 'active' AND task_id = ANY (CAST(:ids AS uuid[]))"
                ),
                {"seconds": seconds_ago, "ids": [task["id"] for task in tasks]},
            )

    def copy(self, task: Json, number: int) -> None:
        with self._engine.begin() as connection:
            copy_task(connection, task["id"], number)

    def count(self, *tables: str) -> int:
        with self._engine.begin() as connection:
            return sum(
                connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()  # noqa: S608
                for table in tables
            )
