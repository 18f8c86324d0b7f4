"""Connections: the driver's traps, and what errors mean."""

import tempfile
from collections.abc import Callable, Iterator
from contextvars import Context
from datetime import datetime, timedelta
from pathlib import Path
from random import randint
from socket import socket

import pytest
from pg8000.converters import timestamptz_in
from sqlalchemy import Engine, TextClause, create_engine, event, make_url, select, text
from sqlalchemy.exc import ProgrammingError, SQLAlchemyError

from db.child_process import wait_until
from db.driver import kept, numbered, waiting_by
from db.embedded import EmbeddedPostgres
from db.engine import SESSION, discard_connection_after_foreign_error, make_engine, transaction
from domain.errors import Unavailable
from functions.settings import load
from tests.conftest import NOT_DURABLE

PORT = 5432

UNREADABLE = "SELECT CAST('24:00:00' AS time)"
"""A time that Python does not have: the driver raises in the middle of the answer."""


def answers_after(engine: Engine, statement: str, **values: str) -> list[object]:
    """What the connection says to three queries after this one, at which the driver fails."""
    with pytest.raises(ValueError, match=r"time data|surrogates not allowed"), engine.connect() as connection:
        connection.execute(text(statement), values)
    answers: list[object] = []
    for number in (1, 2, 3):
        try:
            with engine.connect() as connection:
                answers.append(connection.execute(text(f"SELECT {number}")).scalar_one())
        except SQLAlchemyError as error:
            answers.append(error)
    return answers


def test_the_driver_reads_a_statement_once_to_number_its_parameters(engine: Engine) -> None:
    statement = text("SELECT CAST(:first AS int) + CAST(:second AS int), '100%', CAST(:first AS int)")
    numbered.cache_clear()
    for first in (1, 2):
        with transaction(engine) as connection:
            row = connection.execute(statement, {"first": first, "second": 10}).one()
        assert tuple(row) == (first + 10, "100%", first)
    assert numbered.cache_info()[:2] == (1, 1)  # hits, misses


@pytest.mark.parametrize(
    "instant",
    [
        "2026-12-24 18:00:00+00",
        "2026-12-24 18:00:00.1+05:30",
        "1890-01-01 12:00:00.123456+00:53:28",
        "9999-12-31 23:59:59.999999+00",
        "10000-01-01 00:00:00+00",
        "0001-01-01 00:00:00+00 BC",
        "-infinity",
        "infinity",
    ],
)
def test_an_instant_is_read_as_the_driver_reads_it(engine: Engine, instant: str) -> None:
    statement = text("SELECT CAST(:instant AS timestamptz), CAST(CAST(:instant AS timestamptz) AS text)")
    with transaction(engine) as connection:
        read, written = connection.execute(statement, {"instant": instant}).one()
    assert read == timestamptz_in(written)
    assert not isinstance(read, datetime) or read.utcoffset() == timedelta(0)


@pytest.mark.parametrize("made", [text, kept])
def test_a_connection_is_of_use_after_the_server_has_refused_a_statement(
    engine: Engine, made: Callable[[str], TextClause]
) -> None:
    statement = made("SELECT 10 / CAST(:value AS int)")
    with transaction(engine) as connection:
        for _ in range(2):
            with pytest.raises(ProgrammingError, match="division by zero"), connection.begin_nested():
                connection.execute(statement, {"value": 0})
            assert connection.execute(statement, {"value": 5}).scalar_one() == 2


def test_a_kept_statement_is_parsed_once_by_a_connection_and_planned_at_most_five_times(
    database_url: str,
) -> None:
    engine, statement = (
        make_engine(database_url, pool_size=1),
        kept("SELECT CAST(:value AS int) * 2 AS twice"),
    )
    for value in range(8):
        with transaction(engine) as connection:
            result = connection.execute(statement, {"value": value})
            assert (list(result.keys()), result.scalar_one()) == (["twice"], value * 2)
    with transaction(engine) as connection:
        plans = text("SELECT custom_plans, generic_plans FROM pg_prepared_statements")
        assert connection.execute(plans).all() == [(5, 3)]
    engine.dispose()


@pytest.mark.parametrize(("statement", "values"), [(UNREADABLE, {}), ("SELECT :value", {"value": "\ud800"})])
def test_a_connection_is_of_use_after_the_driver_has_failed(
    database_url: str, statement: str, values: dict[str, str]
) -> None:
    engine = make_engine(database_url, pool_size=1)
    assert answers_after(engine, statement, **values) == [1, 2, 3]
    engine.dispose()


def test_without_the_listener_such_a_connection_gives_wrong_answers(database_url: str) -> None:
    engine = make_engine(database_url, pool_size=1)
    event.remove(engine, "handle_error", discard_connection_after_foreign_error)
    assert answers_after(engine, UNREADABLE) != [1, 2, 3]
    engine.dispose()


def test_a_session_has_time_limits_and_runs_in_utc(engine: Engine) -> None:
    names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "TimeZone")
    with transaction(engine) as connection:
        values = [connection.execute(text(f"SHOW {name}")).scalar_one() for name in names]
    assert values == ["5s", "2s", "10s", "UTC"]


@pytest.mark.parametrize("lately_seconds", [0, 60])
def test_a_connection_that_the_server_closed_is_replaced_before_use(
    engine: Engine, database_url: str, monkeypatch: pytest.MonkeyPatch, lately_seconds: int
) -> None:
    monkeypatch.setattr("db.driver.LATELY_SECONDS", lately_seconds)
    with transaction(engine) as connection:
        connection.execute(text("SELECT 1"))
    other = create_engine(database_url)
    with other.connect() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
    other.dispose()
    with transaction(engine) as connection:
        assert connection.execute(text("SELECT 2")).scalar_one() == 2


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param(
            "SET statement_timeout = '10ms'; SELECT pg_sleep(5)", id="a statement that takes too long"
        ),
        pytest.param("SET TRANSACTION READ ONLY; CREATE TABLE t ()", id="a read-only database"),
        pytest.param("SELECT * FROM a_table_of_a_newer_schema", id="an older schema"),
        pytest.param("SELECT pg_terminate_backend(pg_backend_pid())", id="a connection that ends"),
    ],
)
def test_what_may_succeed_later_is_unavailable(engine: Engine, statement: str) -> None:
    with pytest.raises(Unavailable, match="try again"), transaction(engine) as connection:
        connection.execute(text(statement))


def test_a_mistake_in_a_statement_is_not_unavailable(engine: Engine) -> None:
    with pytest.raises(ProgrammingError), transaction(engine) as connection:
        connection.execute(text("SELEKT 1"))


def test_an_exhausted_pool_is_unavailable(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make_engine(database_url, pool_size=1)
    monkeypatch.setattr(engine.pool, "_timeout", 0.01)
    with (
        transaction(engine),
        pytest.raises(Unavailable, match="connections of this instance are in use"),
        transaction(engine),
    ):
        raise AssertionError
    engine.dispose()


def test_a_server_that_is_not_there_is_unavailable() -> None:
    engine = make_engine("postgresql://127.0.0.1:1/nowhere")
    with pytest.raises(Unavailable), transaction(engine):
        raise AssertionError


def test_a_statement_without_an_answer_ends_with_the_socket_timeout(database_url: str) -> None:
    engine = make_engine(database_url, pool_size=1, socket_timeout_seconds=0.2)
    with pytest.raises(Unavailable), transaction(engine) as connection:
        connection.execute(text("SELECT pg_sleep(3)"))
    with transaction(engine) as connection:
        assert connection.execute(select(1)).scalar_one() == 1
    engine.dispose()


def test_the_server_ends_a_session_that_does_not_read_its_answer(tmp_path: Path) -> None:
    """As that of a process that is frozen in the middle of a claim: what it has locked must become free."""
    address = f"127.{randint(1, 254)}.{randint(1, 254)}.{randint(1, 254)}"
    with socket() as probe:
        try:
            probe.bind((address, PORT))
        except OSError as error:
            pytest.skip(f"needs port {PORT} at {address}, of Linux, without another PostgreSQL: {error}")
    settings = NOT_DURABLE | {"listen_addresses": address}
    with EmbeddedPostgres(tmp_path / "data", settings=settings) as url:
        by_tcp = make_url(url).set(host=address, port=PORT, query={}).render_as_string()
        with transaction(make_engine(by_tcp, pool_size=0)) as connection:
            assert connection.execute(text("SHOW tcp_user_timeout")).scalar_one() == "10000"  # ms
        other = make_engine(url, pool_size=0)

        def is_free() -> bool:
            with transaction(other) as connection:
                return bool(connection.execute(text("SELECT pg_try_advisory_xact_lock(1)")).scalar_one())

        def read_nothing(_: object) -> None:
            assert Context().run(wait_until, lambda: not is_free(), 10)
            assert Context().run(wait_until, is_free, 10)

        hasty = make_engine(by_tcp, pool_size=0, session=SESSION | {"tcp_user_timeout": "300ms"})
        with pytest.raises(Unavailable), transaction(hasty) as connection, waiting_by(read_nothing):
            connection.execute(text("SELECT pg_advisory_xact_lock(1), repeat('x', 50000000)"))


@pytest.fixture(scope="module")
def with_password(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Engine]]:
    """By a password: the user `api` on a Unix socket of a server that asks for it, as at /cloudsql/INSTANCE."""
    with tempfile.TemporaryDirectory() as directory:
        rules = Path(directory) / "pg_hba.conf"
        rules.write_text("local all insignia trust\nlocal all all scram-sha-256\n")
        Path(directory).chmod(0o755)
        data_dir = tmp_path_factory.mktemp("with-password")
        with EmbeddedPostgres(data_dir, settings=NOT_DURABLE | {"hba_file": str(rules)}) as url:
            with transaction(make_engine(url, pool_size=0)) as connection:
                connection.execute(text("CREATE ROLE api LOGIN PASSWORD 'p@ss:word/%'"))
            socket = Path(str(make_url(url).query["unix_sock"]))

            def engine(password: str) -> Engine:
                names = {"HOST": str(socket.parent), "USER": "api", "PASSWORD": password, "DB": "insignia"}
                settings = load({f"POSTGRES_{name}": value for name, value in names.items()})
                assert settings.database_url is not None
                return make_engine(settings.database_url, pool_size=0)

            yield engine


def test_a_unix_socket_and_a_password_make_a_session_like_any_other(
    with_password: Callable[[str], Engine],
) -> None:
    with transaction(with_password("p@ss:word/%")) as connection:
        values = [
            connection.execute(text(f"SHOW {name}")).scalar_one() for name in ("TimeZone", "lock_timeout")
        ]
        user = connection.execute(text("SELECT session_user")).scalar_one()
    assert (values, user) == (["UTC", "2s"], "api")


def test_a_wrong_password_is_unavailable(with_password: Callable[[str], Engine]) -> None:
    with pytest.raises(Unavailable, match="refused the password"), transaction(with_password("wrong")):
        raise AssertionError
