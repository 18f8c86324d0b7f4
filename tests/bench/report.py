"""What the rounds say together: medians with least and most, ratios, the machine; and keeping that."""

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.bench.child import ROOT
from tests.bench.measure import METRICS
from tests.bench.scenarios import FLOOR, OURS, SCENARIOS, WITH_WORKERS, title

RESULT = Path(__file__).parent / "result.json"

Samples = dict[str, list[float]]
"""For each figure, such as `at_once/insignia/cpu`, what the rounds measured."""

Report = dict[str, Any]


def make_report(samples: Samples, *, webhooks: int, logs: int, rounds: int, postgresql: str) -> Report:
    return {
        "machine": machine(postgresql),
        "webhooks": webhooks,
        "logs": logs,
        "rounds": rounds,
        "figures": {key: spread(values) for key, values in (samples | ratios(samples)).items()},
    }


def ratios(samples: Mapping[str, Sequence[float]]) -> Samples:
    """Of CPU, ours to the floor's, and each other's to ours, within a round: `at_once/naive/cpu/insignia`.

    Not of time and memory, because the slow ones have less to do; but workers have as much to do as a tick alone.
    """
    found: Samples = {}
    for key, values in samples.items():
        scenario, contestant, metric = key.split("/")
        other = FLOOR if contestant == OURS else OURS
        below = samples.get(f"{scenario}/{other}/{metric}")
        is_comparable = metric.endswith("cpu") or (contestant == WITH_WORKERS and metric == "wall")
        if is_comparable and below is not None:
            found[f"{key}/{other}"] = [a / b for a, b in zip(values, below, strict=True)]
    return found


def spread(values: Sequence[float]) -> dict[str, float]:
    return {
        "median": significant(statistics.median(values)),
        "min": significant(min(values)),
        "max": significant(max(values)),
    }


def significant(value: float) -> float:
    return float(f"{value:.3g}")


def machine(postgresql: str) -> dict[str, object]:
    """What the figures depend on; no names of hosts or people."""
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "postgresql": postgresql,
    }


def setting(report: Report) -> str:
    """Where and how it was measured, in a sentence."""
    where = report["machine"]
    return (
        f"{report['webhooks']:,} webhooks due at once, median (least to most) of {report['rounds']} rounds, on "
        f"{where['cores']} cores of {where['cpu']}, Python {where['python']}, PostgreSQL {where['postgresql']}; "
        "the ratios are what counts."
    )


def table(report: Report) -> str:
    """Every figure of every scenario, for a terminal."""
    figures = report["figures"]
    lines = [setting(report)]
    for scenario in SCENARIOS:
        names = [name for name in scenario.contestants if f"{scenario.name}/{name}/cpu" in figures]
        if not names:
            continue
        lines += ["", f"{scenario.words}:"]
        for name in names:
            share = scenario.contestants[name]
            lines.append(f"  {title(name)}" + (f" ({share * report['webhooks']:,.0f})" if share < 1 else ""))
            for metric, words in METRICS.items():
                other = FLOOR if name == OURS else OURS
                ratio = figures.get(f"{scenario.name}/{name}/{metric}/{other}")
                times = f"{shown(ratio)} x {title(other)}" if ratio else ""
                lines.append(f"    {words:40}{shown(figures[f'{scenario.name}/{name}/{metric}']):32}{times}")
    others = {key: figure for key, figure in figures.items() if key.startswith(("api/", "growth/"))}
    lines += ["", "The API beside a bare app, and growth with the rows, in ms or as ratios:"]
    lines += [f"  {key:42}{shown(figure)}" for key, figure in others.items()]
    return "\n".join(lines)


def shown(figure: Mapping[str, float]) -> str:
    median, least, most = (number(figure[key]) for key in ("median", "min", "max"))
    return median if least == most else f"{median} ({least} to {most})"


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def committed() -> Report | None:
    """The result of the last commit, if there is one."""
    show = ["git", "show", f"HEAD:{RESULT.relative_to(ROOT).as_posix()}"]
    try:
        return load(subprocess.run(show, cwd=ROOT, capture_output=True, check=True).stdout)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None


def save(path: Path, report: Report) -> None:
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")


def load(text: bytes) -> Report:
    report: Report = json.loads(text)
    return report
