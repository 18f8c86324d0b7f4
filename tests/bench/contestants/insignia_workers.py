"""Insignia with workers: the tick of insignia.py, and four more processes that run its loop, as `deliver` does.

They are there as soon as it: how long Pub/Sub and Cloud Run take to wake them is not measured here.
"""

import multiprocessing

from domain.summary import TickKind
from functions.tick import serve
from tests.bench.contestants import insignia
from tests.bench.contestants.insignia import make_due, outcomes, prepare

__all__ = ["make_due", "outcomes", "prepare", "run"]

WORKERS = 4


def run() -> None:
    # Forked before any connection is made; nothing else runs in this process.
    processes = multiprocessing.get_context("fork")
    workers = [processes.Process(target=serve, args=(TickKind.WORKER,)) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    insignia.run()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
