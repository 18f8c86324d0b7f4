"""One round of one contestant: what it cost, and proof that it did its work."""

import math
from collections import Counter
from collections.abc import Sequence

from tests.bench.child import BenchmarkFailed, Child
from tests.bench.cluster import Cluster
from tests.bench.contestant import load
from tests.bench.webhooks import Webhook

METRICS = {
    "process_cpu": "CPU of its process, µs per webhook",
    "postgresql_cpu": "CPU of PostgreSQL, µs per webhook",
    "cpu": "CPU of both, µs per webhook",
    "wall": "wall time, s",
    "lateness_p50": "lateness, median, s",
    "lateness_p99": "lateness, 99 %, s",
    "lateness_max": "lateness, last webhook, s",
    "memory": "peak memory of its process, MB",
}
"""Lateness is the arrival of the whole request at the receiver minus the moment at which all became due: the
one at which the contestant is told to go, as Cloud Scheduler tells a tick at the slot."""


def prepare(cluster: Cluster, name: str, webhooks: list[Webhook]) -> None:
    """The contestant's database, with a task for each webhook, to be copied for each round."""
    load(name).prepare(cluster.create_database(f"original_{name}"), webhooks)


def measure(cluster: Cluster, receivers: Child, name: str, number: int) -> dict[str, float]:
    """Deliver the `number` webhooks; the figures by the names of METRICS. Raises BenchmarkFailed."""
    contestant = load(name)
    with cluster.copy_of(f"original_{name}") as url:
        environment = {**contestant.ENVIRONMENT, "DATABASE_URL": url}
        with Child("tests.bench.contestant", name, environment=environment) as process:
            contestant.make_due(url)
            cluster.come_to_rest(url)
            process.read()
            receivers.ask()
            before = cluster.cpu_seconds()
            cost = process.ask()
            postgresql_seconds = cluster.cpu_seconds() - before
            arrivals: list[tuple[int, float]] = receivers.ask()
        check(name, number, [webhook for webhook, _ in arrivals], contestant.outcomes(url))
    lateness = sorted(arrived_at - cost["began_at"] for _, arrived_at in arrivals)
    microseconds = 1e6 / number
    return {
        "process_cpu": cost["cpu_seconds"] * microseconds,
        "postgresql_cpu": postgresql_seconds * microseconds,
        "cpu": (cost["cpu_seconds"] + postgresql_seconds) * microseconds,
        "wall": cost["wall_seconds"],
        "lateness_p50": percentile(lateness, 0.5),
        "lateness_p99": percentile(lateness, 0.99),
        "lateness_max": lateness[-1],
        "memory": cost["peak_bytes"] / 1e6,
    }


def check(name: str, number: int, arrived: Sequence[int], outcomes: Sequence[tuple[int, str]]) -> None:
    """Raises BenchmarkFailed unless each webhook arrived exactly once and has one row, of success."""
    once = Counter(range(number))
    if Counter(arrived) != once:
        raise BenchmarkFailed(
            f"{name}: of {number} webhooks, {len(set(arrived))} arrived, in {len(arrived)} calls"
        )
    if Counter(outcomes) != Counter((webhook, "success") for webhook in once):
        statuses = dict(Counter(status for _, status in outcomes))
        raise BenchmarkFailed(f"{name}: {number} webhooks arrived, and the log has the rows {statuses}")


def percentile(ordered: Sequence[float], share: float) -> float:
    return ordered[math.ceil(share * len(ordered)) - 1]
