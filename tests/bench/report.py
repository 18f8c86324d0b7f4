"""What the rounds say together: medians, ratios, the machine; and the comparison with what was committed."""

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench.child import ROOT
from tests.bench.measure import METRICS

WORSE = 1.2
"""A ratio that shrank by more than this factor is a regression."""

Round = dict[str, float]
Report = dict[str, Any]


def make_report(
    rounds: dict[str, list[Round]], *, webhooks: int, destinations: int, postgresql: str
) -> Report:
    """`rounds` of each contestant, in the same order: a ratio is taken within a round, ours being 1."""
    ours, *others = rounds
    return {
        "machine": machine(postgresql),
        "webhooks": webhooks,
        "destinations": destinations,
        "rounds": len(rounds[ours]),
        "contestants": {
            name: {metric: spread([one[metric] for one in of_one]) for metric in METRICS}
            for name, of_one in rounds.items()
        },
        "times_ours": {
            name: {
                metric: spread(
                    [b[metric] / a[metric] for a, b in zip(rounds[ours], rounds[name], strict=True)]
                )
                for metric in METRICS
            }
            for name in others
        },
    }


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


def table(report: Report) -> str:
    names = list(report["contestants"])
    ours, *others = names
    cores = f"{report['machine']['cores']} cores"
    lines = [
        f"{report['webhooks']:,} webhooks due at once, {report['destinations']} destinations; "
        f"median (min to max) of {report['rounds']} rounds",
        f"{report['machine']['cpu']}, {cores}, Python {report['machine']['python']}, "
        f"PostgreSQL {report['machine']['postgresql']}; the ratios are what counts",
        "",
        f"{'':36}"
        + "".join(f"{name:>28}" for name in names)
        + "".join(f"{f'{n} ÷ {ours}':>28}" for n in others),
    ]
    for metric, words in METRICS.items():
        cells = [shown(report["contestants"][name][metric]) for name in names]
        cells += [shown(report["times_ours"][name][metric]) for name in others]
        lines.append(f"{words:36}" + "".join(f"{cell:>28}" for cell in cells))
    return "\n".join(lines)


def shown(figures: dict[str, float]) -> str:
    median, least, most = (number(figures[key]) for key in ("median", "min", "max"))
    return f"{median} ({least} to {most})"


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def committed(path: Path) -> Report | None:
    """The report of the last commit, if there is one."""
    show = ["git", "show", f"HEAD:{path.relative_to(ROOT).as_posix()}"]
    try:
        return load(subprocess.run(show, cwd=ROOT, capture_output=True, check=True).stdout)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None


def comparison(before: Report | None, now: Report) -> str:
    if before is None:
        return "There is no committed result to compare with."
    lines = regressions(before, now) or ["No ratio is more than 20 % worse than in the last commit."]
    if before["machine"] != now["machine"]:
        lines.append(f"The last commit was measured elsewhere: {before['machine']}")
    return "\n".join(lines)


def regressions(before: Report, now: Report) -> list[str]:
    """A sentence for each ratio that got worse by more than 20 %."""
    found = []
    for name, ratios in now["times_ours"].items():
        for metric, words in METRICS.items():
            old = before["times_ours"].get(name, {}).get(metric, {}).get("median", 0)
            new = ratios[metric]["median"]
            if old > new * WORSE:
                found.append(f"REGRESSION: {words}: {name} took {number(old)} times ours, now {number(new)}")
    return found


def save(path: Path, report: Report) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")


def load(text: bytes) -> Report:
    report: Report = json.loads(text)
    return report
