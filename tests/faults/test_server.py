"""A real server: it is told to stop, called twice, or finds no connection to its database."""

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import requests
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from db.backlog import read_backlog
from db.engine import transaction
from tests.acceptance.server import Api, Server, task_body
from tests.faults.cluster import Cluster
from tests.faults.conftest import engine_of, read_only, trial_on
from tests.faults.trial import Trial

LATE = timedelta(seconds=60)
CLOUD_RUN_SECONDS = 10
"""So long after SIGTERM, Cloud Run kills."""


@contextmanager
def server_of(url: str, directory: Path, **settings: str) -> Iterator[Server]:
    server = Server(directory / "server", {"DATABASE_URL": url} | settings)
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.stop()


def tick_of(server: Server) -> requests.Response:
    return Api(server.url)("POST", "/tick")


def test_sigterm_lets_answers_arrive_and_gives_back_the_rest(
    trial: Trial, database_url: str, tmp_path: Path
) -> None:
    """Answered, unanswered and unsent calls take all places, so that other slots are not claimed."""
    with ExitStack() as stack:
        deaf = stack.enter_context(deaf_destination())
        server = stack.enter_context(server_of(database_url, tmp_path, DELIVERY_CONCURRENCY="11"))
        pool = stack.enter_context(ThreadPoolExecutor())
        answered = trial.create_many_due(5, "/hold", ago=LATE, timeout_seconds=40)
        unanswered = trial.create_many_due(5, "/hang", ago=LATE, timeout_seconds=40)
        unsent = trial.make_due(trial.insignia.create(deaf, timeout_seconds=40), ago=LATE)
        unclaimed = trial.create_many_due(5, timeout_seconds=40)
        tick = pool.submit(tick_of, server)
        trial.receiver.wait_for(10)
        trial.until(lambda: trial.statuses([unsent.id]) == ["running"], "the deaf destination is dialled")

        began = time.monotonic()
        server.begin_to_stop()
        trial.receiver.release()
        answer = tick.result(CLOUD_RUN_SECONDS)
        assert server.process.wait(CLOUD_RUN_SECONDS) == 0
        assert time.monotonic() - began < CLOUD_RUN_SECONDS
    assert answer.status_code == 200, answer.text
    assert (answer.json()["succeeded"], answer.json()["retrying"], answer.json()["unsettled"]) == (5, 5, 0)
    assert trial.statuses(answered) == ["success"] * 5
    assert trial.statuses(unanswered) == ["retrying"] * 5
    assert trial.statuses([unsent.id]) == ["retrying"]
    assert trial.insignia.logs(unsent.id)[0].attempts == []
    assert trial.statuses(unclaimed) == []
    trial.assert_calls_are_recorded()
    with transaction(trial.insignia.engine) as connection:
        assert read_backlog(connection).due == 5 + 1 + 5, "what was given back is due at once"


@contextmanager
def deaf_destination() -> Iterator[str]:
    """Connections to it are never accepted: calls stay unsent."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/hook"


def test_a_trigger_that_is_delivered_twice_runs_nothing_twice(
    trial: Trial, database_url: str, tmp_path: Path
) -> None:
    trial.create_many_due(100)
    with server_of(database_url, tmp_path) as server, ThreadPoolExecutor() as pool:
        answers = [pool.submit(tick_of, server) for _ in range(2)]
        assert [answer.result().status_code for answer in answers] == [200, 200]
        assert sum(answer.result().json()["succeeded"] for answer in answers) == 100
    assert len(trial.receiver.calls()) == 100
    trial.recover()
    trial.assert_invariants(may_repeat=False)


def test_postgresql_is_restarted_while_the_server_is_idle(tmp_path: Path) -> None:
    """The connections that the server keeps are gone, and no caller notices."""
    with ExitStack() as stack:
        cluster = stack.enter_context(Cluster(tmp_path / "cluster"))
        trial = stack.enter_context(trial_on(stack.enter_context(engine_of(cluster.url)), tmp_path))
        server = stack.enter_context(server_of(cluster.url, tmp_path))
        api = Api(server.url)
        trial.create_due()
        assert tick_of(server).json()["succeeded"] == 1
        cluster.crash()
        assert_to_be_repeated(api("GET", "/health"))
        assert_to_be_repeated(tick_of(server))
        cluster.start()
        trial.create_due()
        assert api("GET", "/health").status_code == 200
        assert tick_of(server).json()["succeeded"] == 1
        trial.assert_invariants(may_repeat=False)


def test_the_database_has_no_free_connection(tmp_path: Path) -> None:
    with ExitStack() as stack:
        cluster = stack.enter_context(Cluster(tmp_path / "cluster", settings={"max_connections": "10"}))
        trial = stack.enter_context(trial_on(stack.enter_context(engine_of(cluster.url)), tmp_path))
        server = stack.enter_context(server_of(cluster.url, tmp_path))
        trial.create_due()
        with all_connections_taken(cluster.url):
            for method, path in (("POST", "/tick"), ("GET", "/tasks/"), ("GET", "/health")):
                assert_to_be_repeated(Api(server.url)(method, path))
        assert trial.receiver.calls() == []
        assert tick_of(server).json()["succeeded"] == 1
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
def test_the_server_has_no_free_connection(trial: Trial, database_url: str, tmp_path: Path) -> None:
    """Each POST keeps its connection for 6 s; of 8 at once, those beyond the pool of 5 are sent away after 5 s."""
    trial.insignia.execute("""
        CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            PERFORM pg_sleep(3);
            RETURN NEW;
        END $$;
        CREATE TRIGGER slow BEFORE INSERT ON tasks FOR EACH ROW EXECUTE FUNCTION wait();
        CREATE TRIGGER slow BEFORE INSERT ON task_state FOR EACH ROW EXECUTE FUNCTION wait();
    """)
    with server_of(database_url, tmp_path, THREADS="8") as server, ThreadPoolExecutor(8) as pool:
        answers = [
            answer.result()
            for answer in [
                pool.submit(Api(server.url), "POST", "/tasks/", json=task_body()) for _ in range(8)
            ]
        ]
    refused = [answer for answer in answers if answer.status_code != 201]
    assert len(refused) == 3
    for answer in refused:
        assert_to_be_repeated(answer)
        assert "All database connections" in answer.json()["detail"]


def test_a_read_only_database_is_not_healthy(trial: Trial, database_url: str, tmp_path: Path) -> None:
    trial.create_due()
    with server_of(database_url, tmp_path) as server:
        with read_only(trial):
            assert_to_be_repeated(Api(server.url)("GET", "/health"))
            assert_to_be_repeated(tick_of(server))
            assert trial.receiver.calls() == []
        assert Api(server.url)("GET", "/health").status_code == 200
        assert tick_of(server).json()["succeeded"] == 1


def assert_to_be_repeated(answer: requests.Response) -> None:
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["Retry-After"]) > 0
