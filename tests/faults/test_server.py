"""A real server beside a database that restarts, refuses connections or cannot be written: 503, and to be repeated."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.pool import NullPool

from tests.acceptance.server import Api, Server, task_body
from tests.faults.cluster import Cluster
from tests.faults.conftest import engine_of, read_only, server_of, trial_on
from tests.faults.trial import Trial


@dataclass(frozen=True, slots=True)
class Site:
    """A server with 8 threads and the whole cluster that it uses; both are only this file's."""

    cluster: Cluster
    engine: Engine
    server: Server

    @property
    def api(self) -> Api:
        return Api(self.server.url)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("site")
    with (
        Cluster(directory / "cluster", settings={"max_connections": "15"}) as cluster,
        engine_of(cluster.url) as engine,
        server_of(cluster.url, directory, THREADS="8") as server,
    ):
        yield Site(cluster, engine, server)


@pytest.fixture
def trial(site: Site, tmp_path: Path) -> Iterator[Trial]:
    """On an empty database."""
    with site.engine.begin() as connection:
        connection.execute(text("TRUNCATE tasks, task_state, task_logs, ticks"))
    with trial_on(site.engine, tmp_path) as trial:
        yield trial


def test_a_trigger_that_is_delivered_twice_runs_nothing_twice(site: Site, trial: Trial) -> None:
    trial.create_many_due(100)
    with ThreadPoolExecutor() as pool:
        answers = [pool.submit(site.api, "POST", "/tick") for _ in range(2)]
    assert [answer.result().status_code for answer in answers] == [200, 200]
    assert sum(answer.result().json()["succeeded"] for answer in answers) == 100
    assert len(trial.receiver.calls()) == 100
    trial.assert_invariants(may_repeat=False)


def test_postgresql_is_restarted_while_the_server_is_idle(site: Site, trial: Trial) -> None:
    """The connections that the server keeps are gone, and no caller notices."""
    trial.create_due()
    assert site.api.tick()["succeeded"] == 1
    site.cluster.crash()
    assert_to_be_repeated(site.api("GET", "/health"))
    assert_to_be_repeated(site.api("POST", "/tick"))
    site.cluster.start()
    trial.create_due()
    assert site.api("GET", "/health").status_code == 200
    assert site.api.tick()["succeeded"] == 1
    trial.assert_invariants(may_repeat=False)


def test_the_database_has_no_free_connection(site: Site, trial: Trial) -> None:
    trial.create_due()
    with all_connections_taken(site.cluster.url):
        for method, path in (("POST", "/tick"), ("GET", "/tasks/"), ("GET", "/health")):
            assert_to_be_repeated(site.api(method, path))
    assert trial.receiver.calls() == []
    assert site.api.tick()["succeeded"] == 1
    trial.assert_invariants(may_repeat=False)


@contextmanager
def all_connections_taken(url: str) -> Iterator[None]:
    engine = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with ExitStack() as stack:
        connection = stack.enter_context(engine.connect())
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'insignia'"
            )
        )
        free = connection.execute(
            text(
                "SELECT current_setting('max_connections')::int - count(*) FROM pg_stat_activity"
                " WHERE backend_type = 'client backend'"
            )
        ).scalar_one()
        for _ in range(free):
            stack.enter_context(engine.connect())
        yield


@pytest.mark.full_faults
def test_the_server_has_no_free_connection(site: Site, trial: Trial) -> None:
    """Each POST keeps its connection for 6 s; of 8 at once, those beyond the pool of 5 are sent away after 5 s."""
    trial.insignia.execute("""
        CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            PERFORM pg_sleep(3);
            RETURN NEW;
        END $$;
        CREATE TRIGGER slow BEFORE INSERT ON tasks FOR EACH ROW EXECUTE FUNCTION wait();
        CREATE TRIGGER slow BEFORE INSERT ON task_state FOR EACH ROW EXECUTE FUNCTION wait();
    """)
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(site.api, "POST", "/tasks/", json=task_body()) for _ in range(8)]
    trial.insignia.execute("DROP FUNCTION wait() CASCADE")
    refused = [answer.result() for answer in answers if answer.result().status_code != 201]
    assert len(refused) == 3
    for answer in refused:
        assert_to_be_repeated(answer)
        assert "All database connections" in answer.json()["detail"]


def test_a_read_only_database_is_not_healthy(site: Site, trial: Trial) -> None:
    trial.create_due()
    with read_only(trial):
        assert_to_be_repeated(site.api("GET", "/health"))
        assert_to_be_repeated(site.api("POST", "/tick"))
        assert trial.receiver.calls() == []
    assert site.api("GET", "/health").status_code == 200
    assert site.api.tick()["succeeded"] == 1
    trial.assert_invariants(may_repeat=False)


def assert_to_be_repeated(answer: requests.Response) -> None:
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["Retry-After"]) > 0
