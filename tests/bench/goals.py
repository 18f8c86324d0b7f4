"""What is to be reached (docs/performance.md), whether it was, and what got worse since the last commit."""

from dataclasses import dataclass
from typing import Literal

from tests.bench.report import Report, number, shown

WORSE = 1.2
"""A figure of a goal that got worse by more than this factor is a regression."""


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound for one figure of the result."""

    words: str
    figure: str
    bound: Literal["<=", ">="]
    limit: float
    unit: str

    @property
    def limit_shown(self) -> str:
        return f"{self.bound} {number(self.limit)} {self.unit}"

    def is_met(self, value: float) -> bool:
        return value <= self.limit if self.bound == "<=" else value >= self.limit

    def worsening(self, before: float, now: float) -> float:
        """The factor by which it got worse; below 1 if it got better."""
        return now / before if self.bound == "<=" else before / now


GOALS = (
    Goal("CPU per webhook, our process and PostgreSQL", "at_once/insignia/cpu", "<=", 100, "µs"),
    Goal("... against the floor program", "at_once/insignia/cpu/floor", "<=", 1.5, "x"),
    Goal("CPU of PgQueuer against ours", "at_once/peers.pgqueuer/cpu/insignia", ">=", 3, "x"),
    Goal("CPU of APScheduler against ours", "at_once/peers.apscheduler/cpu/insignia", ">=", 20, "x"),
    Goal("CPU of procrastinate against ours", "at_once/peers.procrastinate/cpu/insignia", ">=", 20, "x"),
    Goal("CPU of the first design against ours", "at_once/seed/cpu/insignia", ">=", 20, "x"),
    Goal("lateness of 99 %, receivers that answer at once", "at_once/insignia/lateness_p99", "<=", 1.5, "s"),
    Goal("lateness of 99 %, receivers that take 100 ms", "after_100_ms/insignia/lateness_p99", "<=", 6, "s"),
    Goal(
        "wall time with 4 workers to without, 1 s", "after_1_s/insignia_workers/wall/insignia", "<=", 0.5, "x"
    ),
    Goal("verified HTTPS, CPU per webhook, our process", "https/insignia/process_cpu", "<=", 150, "µs"),
    Goal("finding 100 due of 1,000,000 tasks, to 10,000", "growth/claim/ratio", "<=", 1.2, "x"),
    Goal("nothing due of 1,000,000 tasks, beyond SELECT 1", "growth/nothing_due/big", "<=", 0.2, "ms"),
    Goal("cold start of api, CPU, to a bare app's", "api/insignia/cold_start_cpu/floor", "<=", 1.3, "x"),
    Goal("GET one task, CPU of the server, to a bare app's", "api/insignia/get_cpu/floor", "<=", 1.3, "x"),
    Goal("100 of 1,000,000 tasks by cursor, to 1,000", "growth/page_by_cursor/ratio", "<=", 2, "x"),
    Goal("page 10,000 of the tasks, to page 10", "growth/last_page/ratio", "<=", 2, "x"),
    Goal("newest 100 logs, to the same of 1,000", "growth/newest_logs/ratio", "<=", 2, "x"),
    Goal("search by part of the name, to 1,000", "growth/search/ratio", "<=", 2, "x"),
    Goal("skip and limit, with the exact total", "growth/page_with_total/big", "<=", 250, "ms"),
    Goal("memory of a tick", "at_once/insignia/memory", "<=", 150, "MB"),
)


def verdict(report: Report) -> list[tuple[str, str, str, str]]:
    """For each goal: its words, its limit, what was measured, and `met`, `NOT met` or `not measured`."""
    rows = []
    for goal in GOALS:
        figure = report["figures"].get(goal.figure)
        if figure is None:
            rows.append((goal.words, goal.limit_shown, "", "not measured"))
        else:
            is_met = goal.is_met(figure["median"])
            measured = f"{shown(figure)} {goal.unit}"
            rows.append((goal.words, goal.limit_shown, measured, "met" if is_met else "NOT met"))
    return rows


def table(report: Report) -> str:
    """The verdict, for a terminal."""
    rows = [("goal", "", "measured", ""), *verdict(report)]
    return "\n".join(f"{words:56}{limit:14}{measured:32}{met}" for words, limit, measured, met in rows)


def comparison(before: Report | None, now: Report) -> str:
    if before is None:
        return "There is no committed result to compare with."
    lines = regressions(before, now) or ["No goal's figure is more than 20 % worse than in the last commit."]
    if before["machine"] != now["machine"]:
        lines.append(f"The last commit was measured elsewhere: {before['machine']}")
    if before["webhooks"] != now["webhooks"]:
        lines.append(f"The last commit was measured with {before['webhooks']:,} webhooks.")
    return "\n".join(lines)


def regressions(before: Report, now: Report) -> list[str]:
    """A sentence for each goal whose figure got worse by more than 20 %."""
    found = []
    for goal in GOALS:
        old, new = (one["figures"].get(goal.figure, {}).get("median") for one in (before, now))
        if old and new and goal.worsening(old, new) > WORSE:
            found.append(f"REGRESSION: {goal.words}: was {number(old)} {goal.unit}, now {number(new)}")
    return found
