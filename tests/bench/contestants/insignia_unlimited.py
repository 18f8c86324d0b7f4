"""Insignia with as many calls to one destination as in all, as its peers have no limit of their own for a host."""

import os

from tests.bench.contestants import insignia
from tests.bench.contestants.insignia import make_due, outcomes, prepare

__all__ = ["make_due", "outcomes", "prepare", "run"]


def run() -> None:
    os.environ["DESTINATION_CONCURRENCY"] = "500"
    insignia.run()
