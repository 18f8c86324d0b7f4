"""python -m tests.bench: measures, prints every figure and goal, compares with the last commit, keeps the result."""

import argparse
import sys
from dataclasses import replace

from tests.bench import documents, due_at_once, goals, growth, report, servers
from tests.bench.child import ROOT, BenchmarkFailed
from tests.bench.cluster import Cluster
from tests.bench.measure import PEERS_PYTHON
from tests.bench.scenarios import SCENARIOS, Scenario

ROUNDS, WEBHOOKS = 5, 10_000
LOGS = 1_000_000
SHORT_ROUNDS, SHORT_WEBHOOKS, SHORT_SCENARIOS = 2, 2_000, 3


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    options.add_argument("--short", action="store_true", help="less of everything, and nothing is kept")
    options.add_argument("--logs", type=int, default=LOGS, help="of the big database; default %(default)s")
    chosen = options.parse_args()
    if sys.platform != "linux":
        sys.exit("The benchmark reads the CPU of PostgreSQL from /proc, and so it runs on Linux only.")
    try:
        result = short() if chosen.short else full(chosen.logs)
    except BenchmarkFailed as failure:
        sys.exit(f"The benchmark FAILED: {failure}")
    print(report.table(result), goals.table(result), sep="\n\n")
    print("", goals.comparison(report.committed(), result), sep="\n")
    if chosen.short:
        print("The short form has few webhooks, to which the goals do not apply; nothing was kept.")
    else:
        report.save(report.RESULT, result)
        documents.write(result)
        print(f"Written: {report.RESULT.relative_to(ROOT)}, the README, docs/performance.md and its picture.")


def short() -> report.Report:
    """A few webhooks in some of the scenarios, and the API; growth takes too long."""
    with Cluster() as cluster:
        scenarios = with_who_is_here(SCENARIOS[:SHORT_SCENARIOS])
        samples = due_at_once.run(cluster, scenarios, webhooks=SHORT_WEBHOOKS, rounds=SHORT_ROUNDS)
        samples |= servers.run(cluster, rounds=SHORT_ROUNDS)
        version = cluster.version()
    return report.make_report(
        samples, webhooks=SHORT_WEBHOOKS, logs=0, rounds=SHORT_ROUNDS, postgresql=version
    )


def full(logs: int) -> report.Report:
    if not PEERS_PYTHON.exists():
        raise BenchmarkFailed("the peers are not installed, and a result without them is not kept.")
    with Cluster() as cluster:
        samples = due_at_once.run(cluster, SCENARIOS, webhooks=WEBHOOKS, rounds=ROUNDS)
        samples |= servers.run(cluster, rounds=ROUNDS)
        version = cluster.version()
    samples |= growth.run(logs=logs, rounds=ROUNDS)
    return report.make_report(samples, webhooks=WEBHOOKS, logs=logs, rounds=ROUNDS, postgresql=version)


def with_who_is_here(scenarios: tuple[Scenario, ...]) -> tuple[Scenario, ...]:
    """Without the peers, where they could not be installed."""
    if PEERS_PYTHON.exists():
        return scenarios
    print("The peers are not installed, and are left out.", file=sys.stderr)
    return tuple(without_peers(scenario) for scenario in scenarios)


def without_peers(scenario: Scenario) -> Scenario:
    own = {name: share for name, share in scenario.contestants.items() if not name.startswith("peers.")}
    return replace(scenario, contestants=own)


if __name__ == "__main__":
    main()
