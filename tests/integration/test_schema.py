"""A schema that is behind the code: `tick` asks `migrate` for it over HTTP, with its own identity."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import flask
import pytest
import requests
from google.oauth2.credentials import Credentials
from sqlalchemy import text
from werkzeug.serving import make_server

from db.engine import transaction
from db.migrations import SCHEMA_REVISION, is_schema_behind, migration_connection
from domain.errors import Unavailable
from functions import bootstrap, health, schema
from functions import migrate as migrate_function
from functions import tick as tick_function
from functions.cloud_scheduler import TickJob
from functions.identity import IdentityVerifier
from functions.routing import http_function
from functions.schema import require_schema
from functions.settings import load
from tests.acceptance.server import TOKEN, Api, Server, assert_problem
from tests.cloud_scheduler import JOB, CloudScheduler
from tests.google_accounts import ACCOUNT, GoogleAccounts
from tests.integration.cloud_database import APP, MIGRATOR, Cloud
from tests.integration.conftest import Insignia
from tests.receiver import Answer, Received, Receiver

SCHEDULER_ACCOUNT = "scheduler@your-project-id.example.com"
CLOUD_RUN_SECONDS = 10
"""So long after SIGTERM, Cloud Run kills."""


@pytest.fixture(scope="module")
def google() -> Iterator[GoogleAccounts]:
    with GoogleAccounts() as google:
        yield google


@pytest.fixture
def account_file(google: GoogleAccounts, tmp_path: Path) -> str:
    """The account of `tick`, as Google's libraries find it."""
    file = tmp_path / "account.json"
    file.write_text(json.dumps(google.account_info()))
    return str(file)


@pytest.fixture(autouse=True)
def account(account_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", account_file)


@contextmanager
def served(function: Callable[[flask.Request], flask.Response]) -> Iterator[str]:
    """The URL at which a function answers; no framework is around it."""

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        return function(flask.Request(environ))(environ, start_response)

    server = make_server("127.0.0.1", 0, application, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


class Functions:
    """`tick` and `migrate`, each at a URL, with the users that they have in the cloud."""

    def __init__(self, cloud: Cloud, google: GoogleAccounts, tick: str, migrate: str) -> None:
        self.cloud, self.google, self.tick_url, self.migrate_url = cloud, google, tick, migrate

    def tick(self, email: str = SCHEDULER_ACCOUNT) -> requests.Response:
        token = self.google.identity_token(self.tick_url, email=email)
        return post(f"{self.tick_url}/tick", token)


def post(url: str, token: str) -> requests.Response:
    headers = {"Authorization": f"Bearer {token}"}
    return requests.post(url, headers=headers, timeout=60, allow_redirects=False)


@pytest.fixture
def functions(cloud: Cloud, google: GoogleAccounts, monkeypatch: pytest.MonkeyPatch) -> Iterator[Functions]:
    verifier = IdentityVerifier(google.certificates_url)
    app = cloud.engine_as(APP)
    monkeypatch.setattr(bootstrap, "identity_verifier", lambda: verifier)
    monkeypatch.setattr(bootstrap, "tick_database", lambda: app)
    with (
        served(http_function(migrate_function.routes)) as migrate,
        served(http_function(tick_function.routes)) as tick,
    ):
        settings = load(
            {
                "API_TOKEN": TOKEN,
                "DATABASE_URL": cloud.url_as(MIGRATOR),
                "DATABASE_APP_USERS": APP,
                "MIGRATE_SERVICE_ACCOUNT": ACCOUNT,
                "MIGRATE_URL": migrate,
                "TICK_SERVICE_ACCOUNT": SCHEDULER_ACCOUNT,
            }
        )
        monkeypatch.setattr(bootstrap, "settings", lambda: settings)
        yield Functions(cloud, google, tick, migrate)


def test_the_first_tick_has_an_empty_database_migrated_and_goes_on(functions: Functions) -> None:
    assert is_schema_behind(functions.cloud.engine_as(APP))
    answer = functions.tick()
    assert (answer.status_code, answer.json()["due"]) == (200, 0)
    insignia = Insignia(functions.cloud.engine_as(APP))
    with Receiver() as receiver:
        insignia.create_due(receiver.url)
        assert functions.tick().json()["succeeded"] == 1


def test_only_the_account_of_tick_may_have_it_migrated(functions: Functions) -> None:
    for email in (SCHEDULER_ACCOUNT, "stranger@example.com"):
        token = functions.google.identity_token(functions.migrate_url, email=email)
        assert post(f"{functions.migrate_url}/migrate", token).status_code == 401
    for audience in (functions.tick_url, "https://migrate.example.com"):
        token = functions.google.identity_token(audience)
        assert post(f"{functions.migrate_url}/migrate", token).status_code == 401
    assert functions.tick(ACCOUNT).status_code == 401
    assert is_schema_behind(functions.cloud.engine_as(APP))
    token = functions.google.identity_token(functions.migrate_url)
    answer = post(f"{functions.migrate_url}/migrate", token)
    assert answer.json() == {"schema_revision": SCHEMA_REVISION}


def test_the_job_that_ensure_makes_opens_tick(functions: Functions) -> None:
    """From the job to the summary: URL, audience and account are those that `tick` checks."""
    with CloudScheduler(functions.google) as scheduler:
        credentials = Credentials("an-access-token")  # type: ignore[no-untyped-call]
        job = TickJob(JOB, credentials=credentials, api_endpoint=scheduler.endpoint)
        job.ensure(functions.tick_url, SCHEDULER_ACCOUNT)
        state = job.run()
        assert [answer.status_code for answer in scheduler.calls] == [200]
        assert scheduler.calls[0].json()["started"] == 0
        assert state.last_at is not None
        assert state.last_error is None
        job.ensure(functions.tick_url, "another@example.com")
        assert job.run().last_error == "failed: google.rpc.Code 13"
        assert scheduler.calls[1].status_code == 401


def test_ticks_at_once_have_it_migrated_together(functions: Functions) -> None:
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(lambda _: functions.tick(), range(4)))
    assert [answer.status_code for answer in answers] == [200] * 4


def require(cloud: Cloud, url: str | None, *, is_stopping: Callable[[], bool] = lambda: False) -> None:
    require_schema(cloud.engine_as(APP), url, is_stopping=is_stopping)


class Migrate(Receiver):
    """Stands for `migrate`, and does what it is told instead."""

    @property
    def base(self) -> str:
        return self.url.removesuffix("/hook")


def test_migrate_is_asked_once_with_an_identity_for_it(cloud: Cloud, google: GoogleAccounts) -> None:
    def migrates(request: Received) -> Answer:
        cloud.migrate(APP)
        return 200, b"{}"

    with Migrate(migrates) as migrate:
        require(cloud, migrate.base)
        require(cloud, migrate.base)
    (request,) = migrate.requests
    assert (request.method, request.path, request.body) == ("POST", "/migrate", b"")
    token = request.headers["Authorization"].removeprefix("Bearer ")
    verifier = IdentityVerifier(google.certificates_url)
    verifier.verify(token, emails=[ACCOUNT], audiences=[migrate.base])


def test_a_schema_that_was_restored_from_an_old_backup_is_migrated_again(cloud: Cloud) -> None:
    cloud.migrate(APP)
    with Migrate() as migrate:
        require(cloud, migrate.base)
        assert migrate.requests == []
        with migration_connection(cloud.url_as(MIGRATOR)) as connection, connection.begin():
            connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
        with pytest.raises(
            Unavailable, match="also after a migration: deploy the function migrate from the same"
        ):
            require(cloud, migrate.base)
    assert len(migrate.requests) == 1


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503, 302])
def test_a_refusal_of_migrate_is_told_with_what_to_look_at(cloud: Cloud, status: int) -> None:
    with (
        Migrate(lambda _: (status, b"", {"Location": "http://127.0.0.1:9/"})) as migrate,
        pytest.raises(Unavailable, match=f"answered HTTP {status}: look into its log"),
    ):
        require(cloud, migrate.base)
    assert len(migrate.requests) == 1


def test_a_migrate_that_is_away_or_slow_is_asked_again_by_the_next_tick(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "MIGRATION_SECONDS", 0.3)
    hangs = threading.Event()

    def hang(request: Received) -> Answer:
        hangs.wait(30)
        return 200, b"{}"

    with Migrate(hang) as migrate:
        for url in ("http://127.0.0.1:9", migrate.base):
            with pytest.raises(Unavailable, match="has not answered in time; the next tick asks again"):
                require(cloud, url)
        hangs.set()


def test_a_sign_in_that_hangs_is_not_waited_for_either(
    cloud: Cloud, google: GoogleAccounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs = threading.Event()
    monkeypatch.setattr(schema, "MIGRATION_SECONDS", 0.3)
    monkeypatch.setattr(google, "before_answer", hangs.wait)
    with Migrate() as migrate:
        with pytest.raises(Unavailable, match="has not answered in time"):
            require(cloud, migrate.base)
        hangs.set()


def test_without_a_url_the_user_is_told_what_to_run(cloud: Cloud) -> None:
    with pytest.raises(Unavailable, match="run the migration: POST /migrate of the function migrate, or"):
        require(cloud, None)


def test_without_an_identity_migrate_is_not_asked(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "nowhere.json"))
    with Migrate() as migrate, pytest.raises(Unavailable, match="cannot prove its own account"):
        require(cloud, migrate.base)
    assert migrate.requests == []


def test_tick_is_503_until_the_schema_is_there(functions: Functions, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> str:
        raise Unavailable("not now")

    with monkeypatch.context() as patched:
        patched.setattr("db.migrations.upgrade", fails)
        for _ in range(2):
            answer = functions.tick()
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
            assert "the function migrate answered HTTP 503" in answer.json()["detail"]
    assert functions.tick().status_code == 200


def test_health_is_503_while_the_schema_is_behind(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    app = cloud.engine_as(APP)
    monkeypatch.setattr(bootstrap, "database", lambda: app)
    monkeypatch.setattr(bootstrap, "settings", lambda: load({"API_TOKEN": TOKEN}))
    with served(http_function(health.routes)) as url:

        def look() -> requests.Response:
            headers = {"Authorization": f"Bearer {TOKEN}"}
            return requests.get(f"{url}/health", headers=headers, timeout=30)

        assert (look().status_code, look().json()["database"]) == (503, "unavailable")
        cloud.migrate(APP)
        assert (look().status_code, look().json()["scheduler"]) == (200, None)
        for revision in ("0001", "0000"):
            with transaction(cloud.engine_as(MIGRATOR)) as connection:
                connection.execute(text(f"UPDATE alembic_version SET version_num = '{revision}'"))  # noqa: S608
            answer = look()
            assert (answer.status_code, answer.json()["database"]) == (503, "outdated")
            assert f"has schema {revision}, and this code needs {SCHEMA_REVISION}" in answer.json()["detail"]
            assert answer.headers["Retry-After"] == "5"


@pytest.fixture
def tick_server(cloud: Cloud, account_file: str, tmp_path: Path) -> Iterator[Callable[[str], Server]]:
    servers = []

    def start(migrate_url: str) -> Server:
        settings = {
            "K_SERVICE": "tick",
            "DATABASE_URL": cloud.url_as(APP),
            "MIGRATE_URL": migrate_url,
            "GOOGLE_APPLICATION_CREDENTIALS": account_file,
            "LOG_FILE": "",
        }
        servers.append(Server(tmp_path / "tick", settings, "tick"))
        servers[-1].wait_until_ready()
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def test_sigterm_ends_the_wait_for_a_migration(cloud: Cloud, tick_server: Callable[[str], Server]) -> None:
    hangs = threading.Event()

    def hang(request: Received) -> Answer:
        hangs.wait(60)
        return 200, b"{}"

    with Migrate(hang) as migrate, ThreadPoolExecutor() as pool:
        server = tick_server(migrate.base)
        tick = pool.submit(Api(server.url), "POST", "/tick")
        migrate.wait_for(1)
        began = time.monotonic()
        server.begin_to_stop()
        answer = tick.result(CLOUD_RUN_SECONDS)
        assert server.process.wait(CLOUD_RUN_SECONDS) == 0
        assert time.monotonic() - began < CLOUD_RUN_SECONDS
        hangs.set()
    assert (
        "being stopped while it waits for a migration" in assert_problem(answer, 503, "UNAVAILABLE")["detail"]
    )
    assert answer.headers["Retry-After"] == "5"
    assert len(migrate.requests) == 1


def test_a_real_tick_has_the_database_migrated(cloud: Cloud, tick_server: Callable[[str], Server]) -> None:
    def migrates(request: Received) -> Answer:
        cloud.migrate(APP)
        return 200, b"{}"

    with Migrate(migrates) as migrate:
        server = tick_server(migrate.base)
        summary = Api(server.url).ok("POST", "/tick")
        assert summary["started"] == 0
        Api(server.url).ok("POST", "/tick")
    assert len(migrate.requests) == 1
    events = [json.loads(line).get("event") for line in server.output.read_text().splitlines()]
    assert events.count("tick.summary") == 2
