"""A contestant's process: it imports its module, waits for the word, runs, and says what that cost.

Imports are not counted (cold start is a matter of its own); connecting to the database is. The connections
stay open until standard input ends, so that the CPU of their backends can still be read.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Mapping
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from tests.bench.webhooks import Webhook


class Contestant(Protocol):
    """A module of this package; its `run` finds the database in DATABASE_URL."""

    @property
    def ENVIRONMENT(self) -> Mapping[str, str]: ...  # noqa: N802 - a constant of a module

    def prepare(self, url: str, webhooks: list[Webhook]) -> None:
        """Make the tables in an empty database, and a task for each webhook."""

    def make_due(self, url: str) -> None:
        """Make every task due now."""

    def run(self) -> None:
        """Deliver and log what is due."""

    def outcomes(self, url: str) -> list[tuple[int, str]]:
        """For every row of the log: the number of its webhook, and its status."""
        ...


def load(name: str) -> Contestant:
    return cast("Contestant", import_module(f"tests.bench.{name}"))


def peak_bytes() -> int:
    """Of this program: what getrusage says begins with the memory of the process that forked it."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def main() -> None:
    contestant = load(sys.argv[1])
    with Path(os.devnull).open("w") as nowhere:
        answers = sys.stdout
        with redirect_stdout(nowhere):
            print(json.dumps("ready"), file=answers, flush=True)
            if not sys.stdin.readline():
                return
            before, began_at = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
            contestant.run()
            after, ended_at = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
            result = {
                "began_at": began_at,
                "wall_seconds": ended_at - began_at,
                "cpu_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
                "peak_bytes": peak_bytes(),
            }
            print(json.dumps(result), file=answers, flush=True)
            sys.stdin.read()


if __name__ == "__main__":
    main()
