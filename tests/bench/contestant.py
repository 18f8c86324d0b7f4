"""A contestant's process: it imports its module, and does what it is told: prepare, run, tell the outcomes.

Imports are not counted (cold start is a matter of its own); connecting to the database is.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from tests.bench.webhooks import Webhook


class Contestant(Protocol):
    """A module of contestants/: it finds the database as libpq does, and in DATABASE_URL."""

    def prepare(self, webhooks: Sequence[Webhook]) -> None:
        """Make the tables in an empty database, and a task for each webhook."""

    def make_due(self) -> None:
        """Make every task due now."""

    def run(self) -> None:
        """Deliver and record what is due."""

    def outcomes(self) -> list[tuple[int, str]] | None:
        """For every row of the log: the number of its webhook, and its status; None if its design has no log."""
        ...


def main() -> None:
    contestant = cast("Contestant", import_module(f"tests.bench.contestants.{sys.argv[1]}"))
    with Path(os.devnull).open("w") as nowhere:
        answers = sys.stdout
        with redirect_stdout(nowhere):
            for line in sys.stdin:
                print(json.dumps(answer(contestant, *json.loads(line))), file=answers, flush=True)


def answer(contestant: Contestant, order: str, webhooks: Sequence[Mapping[str, Any]] = ()) -> object:
    match order:
        case "prepare":
            contestant.prepare([Webhook(**webhook) for webhook in webhooks])
        case "make_due":
            contestant.make_due()
        case "run":
            return cost_of_run(contestant)
        case "outcomes":
            return contestant.outcomes()
    return None


def cost_of_run(contestant: Contestant) -> dict[str, float]:
    before, began_at = cpu_seconds(), time.monotonic()
    contestant.run()
    return {
        "began_at": began_at,
        "wall_seconds": time.monotonic() - began_at,
        "cpu_seconds": cpu_seconds() - before,
        "peak_bytes": peak_bytes(),
    }


def cpu_seconds() -> float:
    """Of this process with all its threads, and of its children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def peak_bytes() -> int:
    """Of this program: what getrusage says begins with the memory of the process that forked it."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


if __name__ == "__main__":
    main()
