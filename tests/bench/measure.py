"""One round of one contestant: what it cost, and proof that it did its work."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tests.bench.child import ROOT, BenchmarkFailed, Child
from tests.bench.cluster import Cluster
from tests.bench.scenarios import Scenario
from tests.bench.webhooks import make_webhooks

PEERS_PYTHON = ROOT / ".venv/peers/bin/python"
METRICS = {
    "process_cpu": "CPU of its process, µs per webhook",
    "postgresql_cpu": "CPU of PostgreSQL, µs per webhook",
    "cpu": "CPU of both, µs per webhook",
    "wall": "wall time, s",
    "lateness_p50": "lateness, median, s",
    "lateness_p99": "lateness, 99 %, s",
    "memory": "peak memory of its process, MB",
}
"""Lateness is the arrival of the whole request at the receiver minus the moment at which all became due: the
one at which the contestant is told to go, as Cloud Scheduler tells a tick at the slot."""

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Course:
    """One scenario, ready: its receiver runs, and each contestant's database is prepared."""

    scenario: Scenario
    webhooks: int
    cluster: Cluster
    receiver: Child
    trusted: Path

    def prepare(self, port: int) -> None:
        scheme = "https" if self.scenario.is_https else "http"
        for name in self.scenario.contestants:
            url = self.cluster.create_database(self._original(name))
            due = make_webhooks(self.number(name), scheme=scheme, port=port, hosts=self.scenario.hosts)
            with self._contestant(name, url) as contestant:
                contestant.ask("prepare", [asdict(webhook) for webhook in due])

    def number(self, name: str) -> int:
        return max(1, round(self.webhooks * self.scenario.contestants[name]))

    def measure(self, name: str) -> Figures:
        """One round; the figures by the names of METRICS. Raises BenchmarkFailed."""
        number = self.number(name)
        with self.cluster.copy_of(self._original(name)) as url, self._contestant(name, url) as contestant:
            contestant.ask("make_due")
            self.cluster.come_to_rest(url)
            self.receiver.ask()
            before = self.cluster.cpu()
            cost = contestant.ask("run")
            postgresql_seconds = self.cluster.cpu().since(before)
            arrivals: list[tuple[int, float]] = self.receiver.ask()
            check(name, number, [webhook for webhook, _ in arrivals], contestant.ask("outcomes"))
        lateness = sorted(arrived_at - cost["began_at"] for _, arrived_at in arrivals)
        microseconds = 1e6 / number
        return {
            "process_cpu": cost["cpu_seconds"] * microseconds,
            "postgresql_cpu": postgresql_seconds * microseconds,
            "cpu": (cost["cpu_seconds"] + postgresql_seconds) * microseconds,
            "wall": cost["wall_seconds"],
            "lateness_p50": percentile(lateness, 0.5),
            "lateness_p99": percentile(lateness, 0.99),
            "memory": cost["peak_bytes"] / 1e6,
        }

    def _original(self, name: str) -> str:
        return f"{self.scenario.name}_{name}".replace(".", "_")

    @contextmanager
    def _contestant(self, name: str, url: str) -> Iterator[Child]:
        parts = urlsplit(url)
        environment = {
            "K_SERVICE": "tick",
            "API_TOKEN": "a-token-of-the-benchmark",
            "EGRESS_ALLOW": "127.0.0.0/8",
            "DATABASE_URL": url,
            "PGHOST": str(Path(parse_qs(parts.query)["unix_sock"][0]).parent),
            "PGUSER": parts.username or "",
            "PGDATABASE": parts.path[1:],
            "SSL_CERT_FILE": str(self.trusted),
            "REQUESTS_CA_BUNDLE": str(self.trusted),
        }
        module = "tests.bench.contestant"
        if name.startswith("peers."):
            child = Child(module, name, environment=environment, python=PEERS_PYTHON)
        else:
            child = Child(module, name, environment=environment)
        with child:
            yield child


def check(
    name: str, number: int, arrived: Sequence[int], outcomes: Sequence[Sequence[object]] | None
) -> None:
    """Raises BenchmarkFailed unless each webhook arrived exactly once and has one row, of success."""
    once = Counter(range(number))
    if Counter(arrived) != once:
        raise BenchmarkFailed(
            f"{name}: of {number} webhooks, {len(set(arrived))} arrived, in {len(arrived)} calls"
        )
    if outcomes is None:
        return
    if Counter(map(tuple, outcomes)) != Counter((webhook, "success") for webhook in once):
        statuses = dict(Counter(str(status) for _, status in outcomes))
        raise BenchmarkFailed(f"{name}: {number} webhooks arrived, and the log has the rows {statuses}")


def percentile(ordered: Sequence[float], share: float) -> float:
    return ordered[math.ceil(share * len(ordered)) - 1]
