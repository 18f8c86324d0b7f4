"""The scenarios, round after round: all the webhooks of a scenario are due at one instant."""

import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from tests.bench.certificates import make_certificates
from tests.bench.child import Child
from tests.bench.cluster import Cluster
from tests.bench.measure import Course
from tests.bench.report import Samples
from tests.bench.scenarios import Scenario


def run(cluster: Cluster, scenarios: Sequence[Scenario], *, webhooks: int, rounds: int) -> Samples:
    """The samples of every contestant, by scenario, contestant and metric."""
    samples: Samples = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="insignia-bench-") as directory:
        hosts = max(scenario.hosts for scenario in scenarios)
        trusted, served = make_certificates(Path(directory), hosts)
        for scenario in scenarios:
            arguments = [str(scenario.delay_seconds), *([str(served)] if scenario.is_https else [])]
            with Child("tests.bench.receiver", *arguments) as receiver:
                course = Course(scenario, webhooks, cluster, receiver, trusted)
                course.prepare(receiver.read())
                for number in range(1, rounds + 1):
                    for name in scenario.contestants:
                        figures = course.measure(name)
                        for metric, value in figures.items():
                            samples[f"{scenario.name}/{name}/{metric}"].append(value)
                        shown = f"{figures['cpu']:,.0f} µs, {figures['lateness_p99']:.2f} s late"
                        print(f"{scenario.name}, round {number} of {rounds}: {name} {shown}", file=sys.stderr)
    return dict(samples)
