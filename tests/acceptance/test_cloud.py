"""Functions under the rules of the cloud: a schema that is behind, and what is Insignia itself."""

from collections.abc import Iterator
from itertools import count

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, text

from db.migrations import ROOT, SCHEMA_REVISION, migration_connection
from tests.acceptance.conftest import Database
from tests.acceptance.server import Api, Server, assert_problem, task_body
from tests.conftest import url_of
from tests.receiver import Receiver

CLOUD = {"K_SERVICE": "insignia", "EGRESS_ALLOW": "127.0.0.1/32", "LOG_FILE": ""}
numbers = count(1)


@pytest.fixture
def new_database(admin: Engine) -> Iterator[str]:
    """Empty: without tables."""
    name = f"new_{next(numbers)}"
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield url_of(admin.url.render_as_string(hide_password=False), name)
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


def bring_to(database_url: str, revision: str) -> None:
    config = Config(ROOT / "alembic.ini")
    with migration_connection(database_url) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


@pytest.mark.parametrize("revision", [None, "0001"])
def test_api_and_tick_are_503_with_retry_after_until_the_schema_is_there(
    new_database: str, tmp_path_factory: pytest.TempPathFactory, revision: str | None
) -> None:
    if revision is not None:
        bring_to(new_database, revision)
    directory = tmp_path_factory.mktemp("behind")
    settings = CLOUD | {"DATABASE_URL": new_database}
    servers = {name: Server(directory / name, settings, name) for name in ("api", "tick", "migrate")}
    try:
        for server in servers.values():
            server.wait_until_ready()
        apis = {name: Api(server.url) for name, server in servers.items()}
        answers = [
            apis["api"]("GET", "/tasks/"),
            apis["api"]("GET", "/tasks/?search=nothing"),
            apis["api"]("POST", "/tasks/", json=task_body()),
            apis["tick"]("POST", "/tick"),
        ]
        for answer in answers:
            assert "schema is older than this code" in assert_problem(answer, 503, "UNAVAILABLE")["detail"]
            assert answer.headers["Retry-After"] == "5"
        health = apis["api"]("GET", "/health")
        assert (health.status_code, health.headers["Retry-After"]) == (503, "5")
        assert health.json()["database"] == ("unavailable" if revision is None else "outdated")

        assert apis["migrate"].ok("POST", "/migrate") == {"schema_revision": SCHEMA_REVISION}
        task = apis["api"].create()
        assert apis["api"].get("/tasks/")["tasks"] == [task]
        assert apis["tick"].tick()["started"] == 0
        assert apis["api"].get("/health")["status"] == "healthy"
    finally:
        for server in servers.values():
            server.begin_to_stop()
        codes = [server.stop() for server in servers.values()]
    assert codes == [0, 0, 0]


def test_health_stays_healthy_when_nothing_is_known_of_the_scheduler(
    server_database: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    settings = {
        "DATABASE_URL": server_database,
        "SCHEDULER_JOB": "projects/p/locations/l/jobs/j",
        "GOOGLE_APPLICATION_CREDENTIALS": "/nowhere/account.json",
    }
    server = Server(tmp_path_factory.mktemp("health"), CLOUD | settings, "health")
    try:
        server.wait_until_ready()
        health = Api(server.url).get("/health")
    finally:
        code = server.stop()
    assert (health["status"], health["scheduler"], code) == ("healthy", "unknown", 0)
    assert "Google gives no access to Cloud Scheduler" in server.output.read_text()


@pytest.fixture(scope="module")
def tick(server_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    settings = CLOUD | {"DATABASE_URL": server_database, "OWN_HOSTS": "LOCALHOST,api.example.com"}
    server = Server(tmp_path_factory.mktemp("tick"), settings, "tick")
    try:
        server.wait_until_ready()
        yield Api(server.url)
    finally:
        code = server.stop()
    assert code == 0


@pytest.mark.parametrize(
    ("host", "called_at"),
    [
        ("localhost", None),
        ("localhost.", None),
        ("api.example.com", None),
        ("tick.example.com", "tick.example.com"),
        ("TICK.example.com.", "tick.example.com:443"),
    ],
)
def test_a_webhook_of_insignia_itself_is_not_called(
    api: Api, database: Database, tick: Api, host: str, called_at: str | None
) -> None:
    """By OWN_HOSTS, and by the name at which tick itself is called."""
    with Receiver() as receiver:
        task = api.create(webhook_url=receiver.url.replace("127.0.0.1", host), max_retry=0)
        allowed = api.create(webhook_url=receiver.url)
        database.make_due(task, allowed)
        headers = {} if called_at is None else {"Host": called_at}
        summary = tick.ok("POST", "/tick", headers=headers)
    assert (summary["failed"], summary["succeeded"]) == (1, 1)
    (log,) = api.logs(task)
    assert log["error"] == "blocked"
    assert f"{host.rstrip('.').lower()} is Insignia itself" in log["message"]
    assert len(receiver.requests) == 1
