"""The real Cloud SQL connector against an instance made here, with a login by IAM."""

import gc
import logging
import select
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from google.oauth2 import service_account
from sqlalchemy import Engine, make_url, text

from db.cloud_sql import CloudSql
from db.driver import waiting_by
from db.engine import make_engine, transaction
from domain.errors import Unavailable
from functions.delivery import Deliveries
from functions.settings import load
from tests.cloud_sql import INSTANCE, NAME, PROJECT, REGION, CloudSqlInstance
from tests.google_accounts import GoogleAccounts
from tests.integration.conftest import LOOPBACK
from tests.integration.test_calls_go_on import call
from tests.receiver import Answer, Received, Receiver

pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in. <ssl.SSLSocket")
"""A connection that comes after its time limit is dropped, and closed when memory is cleared."""

ACCOUNT = "api@your-project-id.iam"
"""The database user; the account's address has .gserviceaccount.com behind it."""


@pytest.fixture(scope="module")
def google() -> Iterator[GoogleAccounts]:
    with GoogleAccounts(f"{ACCOUNT}.gserviceaccount.com") as google:
        yield google


@pytest.fixture
def instance(
    google: GoogleAccounts, database_url: str, engine: Engine, tmp_path: Path
) -> Iterator[CloudSqlInstance]:
    with engine.begin() as connection:
        connection.execute(
            text(
                f"""DO $$ BEGIN CREATE ROLE "{ACCOUNT}" LOGIN; EXCEPTION WHEN duplicate_object THEN END $$"""
            )
        )
    unix_socket = str(make_url(database_url).query["unix_sock"])
    with CloudSqlInstance(google, unix_socket, tmp_path) as instance:
        yield instance


@pytest.fixture
def connector(google: GoogleAccounts, instance: CloudSqlInstance) -> Iterator[CloudSql]:
    credentials = service_account.Credentials.from_service_account_info(google.account_info())  # type: ignore[no-untyped-call]
    connector = CloudSql(credentials=credentials, sqladmin_api_endpoint=instance.api)
    yield connector
    connector.close()


@pytest.fixture
def connect(connector: CloudSql, database_url: str) -> Iterator[Callable[..., Engine]]:
    """An engine as the settings of a function make it."""
    engines: list[Engine] = []

    def connect(
        instance: str = INSTANCE, *, user: str = ACCOUNT, ip_type: str = "public", **options: float
    ) -> Engine:
        settings = load(
            {
                "CLOUD_SQL_INSTANCE": instance,
                "CLOUD_SQL_IP_TYPE": ip_type,
                "POSTGRES_USER": user,
                "POSTGRES_DB": make_url(database_url).database or "",
            }
        )
        assert settings.database_url is not None
        engines.append(make_engine(settings.database_url, connector=connector, **options))  # type: ignore[arg-type]
        return engines[-1]

    yield connect
    for engine in engines:
        engine.dispose()


def shown(engine: Engine, *names: str) -> list[str]:
    with transaction(engine) as connection:
        return [connection.execute(text(f"SHOW {name}")).scalar_one() for name in names]


def test_a_session_is_the_accounts_own_with_the_limits_of_every_other(connect: Callable[..., Engine]) -> None:
    engine = connect()
    names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "TimeZone")
    assert shown(engine, *names) == ["5s", "2s", "10s", "UTC"]
    assert shown(engine, "session_authorization", "application_name") == [ACCOUNT, "insignia"]


def test_a_users_full_address_is_shortened(connect: Callable[..., Engine]) -> None:
    engine = connect(user=f"{ACCOUNT}.gserviceaccount.com")
    assert shown(engine, "session_authorization") == [ACCOUNT]


def test_a_statement_without_an_answer_ends_with_the_socket_timeout(connect: Callable[..., Engine]) -> None:
    engine = connect(pool_size=1, socket_timeout_seconds=0.3)
    with pytest.raises(Unavailable), transaction(engine) as connection:
        connection.execute(text("SELECT pg_sleep(3)"))
    assert shown(engine, "TimeZone") == ["UTC"]


def test_connections_share_one_certificate(
    connect: Callable[..., Engine], instance: CloudSqlInstance
) -> None:
    for engine in (connect(pool_size=0), connect(pool_size=0)):
        for _ in range(2):
            shown(engine, "TimeZone")
    assert instance.sessions >= 4
    assert len(instance.admin.requests) == 2


def test_a_connection_that_broke_is_replaced(connect: Callable[..., Engine], engine: Engine) -> None:
    cloud = connect(pool_size=1)
    with cloud.connect() as connection:
        driver_connection = connection.connection.driver_connection
        assert driver_connection is not None
    end = select.poll()
    end.register(driver_connection._usock, select.POLLIN)
    with engine.begin() as connection:
        connection.execute(
            text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = :user"),
            {"user": ACCOUNT},
        )
    assert end.poll(10_000), "the proxy has not passed it on"
    assert shown(cloud, "TimeZone") == ["UTC"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        (f"{PROJECT}:{REGION}:another", "404.*does not exist"),
        (f"another-project:{REGION}:{NAME}", "403.*not authorized"),
        (f"{PROJECT}:us-central1:{NAME}", "region was mismatched"),
    ],
)
def test_a_wrong_instance_is_unavailable_and_says_why(
    connect: Callable[..., Engine], name: str, why: str
) -> None:
    with (
        pytest.raises(Unavailable, match=f"Cloud SQL gives no connection.*{why}"),
        transaction(connect(name)),
    ):
        raise AssertionError


@pytest.mark.parametrize("status", [403, 404, 429])
def test_a_refusal_of_the_admin_api_is_unavailable_until_it_ends(
    connect: Callable[..., Engine], instance: CloudSqlInstance, status: int
) -> None:
    engine = connect()
    instance.status = status
    with pytest.raises(Unavailable, match=f"Cloud SQL gives no connection.*{status}"), transaction(engine):
        raise AssertionError
    instance.status = 200
    assert shown(engine, "TimeZone") == ["UTC"]


def test_another_account_is_refused_by_the_database(connect: Callable[..., Engine]) -> None:
    engine = connect(user="somebody@your-project-id.iam")
    with pytest.raises(Unavailable, match="the database refused the login"), transaction(engine):
        raise AssertionError


def test_an_address_that_the_instance_does_not_have_is_unavailable(connect: Callable[..., Engine]) -> None:
    with (
        pytest.raises(Unavailable, match=r"CloudSQLIPTypeError.*PRIVATE"),
        transaction(connect(ip_type="private")),
    ):
        raise AssertionError


def test_an_admin_api_that_is_away_is_unavailable(
    google: GoogleAccounts, connect: Callable[..., Engine]
) -> None:
    credentials = service_account.Credentials.from_service_account_info(google.account_info())  # type: ignore[no-untyped-call]
    away = CloudSql(credentials=credentials, sqladmin_api_endpoint="http://127.0.0.1:9")
    engine = make_engine(f"postgresql://u@/d?cloud_sql={INSTANCE}", connector=away)
    with pytest.raises(Unavailable, match="the database is away"), transaction(engine):
        raise AssertionError
    away.close()


@pytest.mark.parametrize("part", ["api_answers", "proxy_answers"])
def test_what_does_not_answer_ends_with_the_time_limit(
    connect: Callable[..., Engine], instance: CloudSqlInstance, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    engine = connect()
    monkeypatch.setattr("db.cloud_sql.CONNECT_SECONDS", 1)
    getattr(instance, part).clear()
    began = time.monotonic()
    try:
        with pytest.raises(Unavailable, match="the database is away"), transaction(engine):
            raise AssertionError
    finally:
        getattr(instance, part).set()
    assert time.monotonic() - began < 10
    monkeypatch.undo()
    assert shown(engine, "TimeZone") == ["UTC"]
    gc.collect()


def test_calls_go_on_while_a_connection_is_made(
    connect: Callable[..., Engine], instance: CloudSqlInstance
) -> None:
    """It is made when the call has arrived, and not before."""
    instance.proxy_answers.clear()

    def let_answer(_: Received) -> Answer:
        instance.proxy_answers.set()
        return 200, b""

    with (
        Receiver(let_answer) as receiver,
        Deliveries(LOOPBACK) as deliveries,
        waiting_by(deliveries.go_on_until_readable),
    ):
        deliveries.start(call(receiver.url))
        assert shown(connect(), "TimeZone") == ["UTC"]
        (finished,) = deliveries.wait(10)
    assert finished.attempt is not None
    assert finished.attempt.succeeded


def test_an_account_that_google_does_not_know_is_unavailable(
    google: GoogleAccounts, instance: CloudSqlInstance, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    info = google.account_info() | {"client_email": "stranger@example.com"}
    credentials = service_account.Credentials.from_service_account_info(info)  # type: ignore[no-untyped-call]
    connector = CloudSql(credentials=credentials, sqladmin_api_endpoint=instance.api)
    engine = make_engine(f"postgresql://u@/d?cloud_sql={INSTANCE}", connector=connector)
    with (
        pytest.raises(Unavailable, match=r"Cloud SQL gives no connection.*RefreshError"),
        transaction(engine),
    ):
        raise AssertionError
    connector.close()
