"""A server is told to stop, as Cloud Run does: what is in flight may end, what cannot is given back."""

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import requests

from db.backlog import read_backlog
from db.engine import transaction
from tests.acceptance.server import Api, Server
from tests.faults.conftest import server_of
from tests.faults.trial import Trial

LATE = timedelta(seconds=60)
CLOUD_RUN_SECONDS = 10
"""So long after SIGTERM, Cloud Run kills."""


@pytest.mark.parametrize("threads", ["1", "4"])
def test_sigterm_lets_answers_arrive_and_gives_back_the_rest(
    trial: Trial, database_url: str, tmp_path: Path, threads: str
) -> None:
    """Answered, unanswered and unsent calls take all places, so that other slots are not claimed.

    With one thread, as `tick` has in the cloud, gunicorn's process is of another kind.
    """
    with ExitStack() as stack:
        deaf = stack.enter_context(deaf_destination())
        server = stack.enter_context(
            server_of(database_url, tmp_path, DELIVERY_CONCURRENCY="11", THREADS=threads)
        )
        pool = stack.enter_context(ThreadPoolExecutor())
        answered = trial.create_many_due(5, "/hold", ago=LATE, timeout_seconds=40)
        unanswered = trial.create_many_due(5, "/hang", ago=LATE, timeout_seconds=40)
        unsent = trial.make_due(trial.insignia.create(deaf, timeout_seconds=40), ago=LATE)
        unclaimed = trial.create_many_due(5, timeout_seconds=40)
        tick = pool.submit(Api(server.url), "POST", "/tick")
        trial.receiver.wait_for(10)
        trial.until(lambda: trial.statuses([unsent.id]) == ["running"], "the deaf destination is dialled")

        began = time.monotonic()
        server.begin_to_stop()
        trial.until(lambda: is_closed(server), "the worker knows that it is to stop")
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


def is_closed(server: Server) -> bool:
    """Whether it takes no new requests."""
    try:
        Api(server.url)("GET", "/health", timeout=0.5)
    except requests.RequestException:
        return True
    return False


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
