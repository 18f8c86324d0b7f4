"""python -m tests.bench: runs the rounds, prints the table, compares with the last commit, keeps the result."""

import argparse
import sys
from collections import defaultdict
from pathlib import Path

from tests.bench import report
from tests.bench.child import BenchmarkFailed, Child
from tests.bench.cluster import Cluster
from tests.bench.measure import measure, prepare
from tests.bench.webhooks import make_webhooks

CONTESTANTS = ("insignia", "naive")
RESULTS = Path(__file__).parent / "results"
MIN_ROUNDS = 5
WEBHOOKS_PER_DESTINATION = 50


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    options.add_argument("--rounds", type=int, default=MIN_ROUNDS, help="default %(default)s")
    options.add_argument("--webhooks", type=int, default=1000, help="due at once; default %(default)s")
    chosen = options.parse_args()
    if sys.platform != "linux":
        sys.exit("The benchmark reads the CPU of PostgreSQL from /proc, and so it runs on Linux only.")
    try:
        result = run(chosen.rounds, chosen.webhooks)
    except BenchmarkFailed as failure:
        sys.exit(f"The benchmark FAILED: {failure}")
    print(report.table(result))
    path = RESULTS / f"due_at_once_{chosen.webhooks}.json"
    if chosen.rounds < MIN_ROUNDS:
        print(f"\nNot kept: that takes at least {MIN_ROUNDS} rounds.")
        return
    print("", report.comparison(report.committed(path), result), sep="\n")
    report.save(path, result)


def run(rounds: int, webhooks: int) -> report.Report:
    destinations = max(2, webhooks // WEBHOOKS_PER_DESTINATION)
    measured: dict[str, list[report.Round]] = defaultdict(list)
    with Cluster() as cluster, Child("tests.bench.receivers", str(destinations)) as receivers:
        due = make_webhooks(webhooks, receivers.read())
        for name in CONTESTANTS:
            prepare(cluster, name, due)
        for number in range(1, rounds + 1):
            for name in CONTESTANTS:
                figures = measure(cluster, receivers, name, webhooks)
                measured[name].append(figures)
                print(f"round {number} of {rounds}: {name} {figures['cpu']:,.0f} µs", file=sys.stderr)
        return report.make_report(
            measured, webhooks=webhooks, destinations=destinations, postgresql=cluster.version()
        )


if __name__ == "__main__":
    main()
