"""A tick whose process has few file descriptors. It runs in a process of its own, with real limits."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from domain.run import RunStatus
from domain.schedule import parse_timezone
from domain.summary import TickKind
from domain.task import TaskStatus
from tests.integration.conftest import Insignia, assert_adds_up
from tests.keepalive_receiver import KeepaliveReceiver

ROOT = Path(__file__).parents[2]
LIMIT = 64
HOSTS = 4
TASKS = 120
BUDGET_SECONDS = 5.0
"""Of which 2 s are for claims: the first, and one after each of four pauses."""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")


def tick_in_a_child(database_url: str, story: str) -> Any:
    child = subprocess.run(
        [sys.executable, "-m", __name__, database_url, story],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert child.returncode == 0, child.stderr
    return json.loads(child.stdout)


def test_more_webhooks_than_descriptors_are_all_called(insignia: Insignia, database_url: str) -> None:
    with KeepaliveReceiver(HOSTS) as receiver:
        tasks = [insignia.create_due(url) for url in receiver.urls for _ in range(TASKS // HOSTS)]
        told = tick_in_a_child(database_url, "few")
    assert told["given_back"] > 0, "else this tests nothing"
    assert {log.status for log in insignia.logs()} == {RunStatus.SUCCESS}
    assert {len(log.attempts) for log in insignia.logs()} == {1}
    assert (len(insignia.logs()), receiver.requests) == (TASKS, TASKS)
    assert {insignia.task(one.id).status for one in tasks} == {TaskStatus.ACTIVE}


def test_without_a_descriptor_a_tick_gives_back_what_is_due_and_tries_again_seldom(
    insignia: Insignia, database_url: str
) -> None:
    with KeepaliveReceiver() as receiver:
        task = insignia.create_due(receiver.urls[0], timeout_seconds=1)
        told = tick_in_a_child(database_url, "none")
    assert 1 <= told["given_back"] <= 5
    assert (told["summary"]["started"], told["summary"]["remaining"], receiver.requests) == (0, 1, 0)
    assert told["warnings"] == 1
    (log,) = insignia.logs()
    assert (log.status, log.attempts) == (RunStatus.RETRYING, [])
    assert insignia.task(task.id).status is TaskStatus.ACTIVE


def child(database_url: str, story: str) -> dict[str, Any]:
    """One tick; how many times it has given something back is counted beside what it tells."""
    import os
    import resource
    from dataclasses import asdict
    from logging.handlers import BufferingHandler

    import functions.ticking
    from db.engine import make_engine
    from db.run_claims import release
    from functions.chores import Chores
    from functions.delivery import Deliveries
    from functions.limits import Limits
    from functions.ticking import Tick
    from tests.unit.test_delivery import LOOPBACK, call, finish_all

    given_back = 0

    def counted(connection: Any, runs: Any, *, were_sent: bool) -> int:
        nonlocal given_back
        given_back += bool(runs)
        return release(connection, runs, were_sent=were_sent)

    vars(functions.ticking)["release"] = counted
    warnings = BufferingHandler(1000)
    warnings.setLevel("WARNING")
    functions.ticking.log.addHandler(warnings)
    engine = make_engine(database_url, pool_size=2)
    limits = Limits(budget_seconds=20, concurrency=500, per_destination=64)
    if story == "none":
        limits = Limits(budget_seconds=BUDGET_SECONDS, concurrency=500, per_destination=64)
    with Deliveries(LOOPBACK) as deliveries:
        finish_all(deliveries, [call("http://127.0.0.1:1/")])  # what is loaded once needs descriptors, too
        parse_timezone("UTC")
        tick = Tick(engine, deliveries, Chores(), limits, lambda: False)
        tick.begin()
        resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, LIMIT))
        while story == "none":
            try:
                os.open(os.devnull, os.O_RDONLY)
            except OSError:
                break
        while tick.goes_on():
            tick.claim()
            tick.deliver()
            tick.settle()
        summary = tick.summarise(TickKind.TICK)
    assert_adds_up(summary)
    return {"summary": asdict(summary), "given_back": given_back, "warnings": len(warnings.buffer)}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(child(*sys.argv[1:])))
