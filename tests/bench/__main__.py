"""python -m tests.bench: measures, prints every figure and goal, compares with the last commit, keeps the result."""

import argparse
import sys
from dataclasses import replace

from tests.bench import due_at_once, goals, report
from tests.bench.child import BenchmarkFailed
from tests.bench.cluster import Cluster
from tests.bench.measure import PEERS_PYTHON
from tests.bench.scenarios import SCENARIOS, Scenario

ROUNDS, WEBHOOKS = 5, 10_000
SHORT_ROUNDS, SHORT_WEBHOOKS, SHORT_SCENARIOS = 2, 2_000, 3


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    options.add_argument("--short", action="store_true", help="less of everything, and nothing is kept")
    chosen = options.parse_args()
    if sys.platform != "linux":
        sys.exit("The benchmark reads the CPU of PostgreSQL from /proc, and so it runs on Linux only.")
    try:
        result = short() if chosen.short else full()
    except BenchmarkFailed as failure:
        sys.exit(f"The benchmark FAILED: {failure}")
    print(report.table(result), goals.table(result), sep="\n\n")
    print("", goals.comparison(report.committed(), result), sep="\n")
    if chosen.short:
        print("The short form has few webhooks, to which the goals do not apply; nothing was kept.")
    else:
        report.save(report.RESULT, result)


def short() -> report.Report:
    return measure(with_who_is_here(SCENARIOS[:SHORT_SCENARIOS]), SHORT_WEBHOOKS, SHORT_ROUNDS)


def full() -> report.Report:
    if not PEERS_PYTHON.exists():
        raise BenchmarkFailed("the peers are not installed, and a result without them is not kept.")
    return measure(SCENARIOS, WEBHOOKS, ROUNDS)


def with_who_is_here(scenarios: tuple[Scenario, ...]) -> tuple[Scenario, ...]:
    """Without the peers, where they could not be installed."""
    if PEERS_PYTHON.exists():
        return scenarios
    print("The peers are not installed, and are left out.", file=sys.stderr)
    return tuple(without_peers(scenario) for scenario in scenarios)


def without_peers(scenario: Scenario) -> Scenario:
    own = {name: share for name, share in scenario.contestants.items() if not name.startswith("peers.")}
    return replace(scenario, contestants=own)


def measure(scenarios: tuple[Scenario, ...], webhooks: int, rounds: int) -> report.Report:
    with Cluster() as cluster:
        samples = due_at_once.run(cluster, scenarios, webhooks=webhooks, rounds=rounds)
        return report.make_report(samples, webhooks=webhooks, rounds=rounds, postgresql=cluster.version())


if __name__ == "__main__":
    main()
