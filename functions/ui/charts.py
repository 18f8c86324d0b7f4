"""Pictures as figures: what templates/charts.html draws as SVG. Colours and patterns are those of ui.css."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby

from db.stats import Hour
from db.task_logs import RecentRun
from db.ticks import TickTiming
from functions.health import LATE_SLOT_SECONDS
from functions.schemas import Attempt
from functions.ui.text import milliseconds

STATUSES = ("success", "failed", "missed", "skipped", "cancelled")
BAR_WIDTH = 20
CHART_HEIGHT = 120
SPARK_RUNS = 60
SPARK_STEP = 3
SPARK_HEIGHT = 24
LONG_RUNS = 100
LONG_STEP = 6
DAYS = 30
DAY_WIDTH = 24
CELL_WIDTH = 22
CELL_HEIGHT = 6
HOURS_TOLD = 4
LINE_WIDTH = 1_000
LANE_HEIGHT = 16
TICK_STEP = 3
"""The width of a minute."""

TICKS_HEIGHT = 60
A_MINUTE = timedelta(minutes=1)
TICK_TOLERANCE = timedelta(seconds=30)
"""How late a tick may be before the minute counts as missed."""

SHORTEST = timedelta(milliseconds=1)
THINNEST = 0.15
"""The least of a cell that a status gets: one failure among sixty runs is seen."""


@dataclass(frozen=True, slots=True)
class Segment:
    """The part of a bar that stands for one status."""

    status: str
    count: int
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Bar:
    start: datetime
    x: int
    segments: Sequence[Segment]

    @property
    def counts(self) -> Mapping[str, int]:
        return {segment.status: segment.count for segment in self.segments}

    @property
    def words(self) -> str:
        """14:00 to 15:00 UTC: 3 success, 1 failed."""
        parts = ", ".join(f"{segment.count:,} {segment.status}" for segment in self.segments)
        return f"{self.start:%H}:00 UTC: {parts or 'nothing ran'}"


def bars_of(hours: Sequence[Hour]) -> list[Bar]:
    """One bar an hour; the highest fills the chart, and whatever was counted can be seen."""
    totals = [sum(getattr(hour, status) for status in STATUSES) for hour in hours]
    scale = CHART_HEIGHT / max([*totals, 1])
    return [
        Bar(hour.start, number * BAR_WIDTH, tuple(segments_of(hour, scale)))
        for number, hour in enumerate(hours)
    ]


def segments_of(hour: Hour, scale: float) -> list[Segment]:
    segments = []
    y = float(CHART_HEIGHT)
    for status in STATUSES:
        if count := getattr(hour, status):
            height = max(count * scale, 2.0)
            y = max(y - height, 0.0)
            segments.append(Segment(status, count, round(y, 1), round(height, 1)))
    return segments


@dataclass(frozen=True, slots=True)
class Spark:
    """One run in a sparkline."""

    status: str
    x: int
    height: float


@dataclass(frozen=True, slots=True)
class Sparkline:
    """The last runs of a task: the height is the duration, the colour the result; the newest is at the right."""

    sparks: Sequence[Spark]
    words: str


@dataclass(frozen=True, slots=True)
class DurationChart:
    """The same, larger, with lines at the percentiles (None without a duration) of these runs."""

    sparks: Sequence[Spark]
    p50: int | None
    p95: int | None
    longest: int
    words: str

    def y(self, duration_ms: int) -> float:
        return round(CHART_HEIGHT - height(duration_ms, self.longest, CHART_HEIGHT), 1)


@dataclass(frozen=True, slots=True)
class Day:
    """A column with a cell for each hour in which something was logged, and what they come to.

    `paths` are all its cells, or parts of cells, of one status each: an element for each of them would be too much.
    """

    start: datetime
    x: int
    paths: Mapping[str, str]
    counts: Mapping[str, int]
    words: str


@dataclass(frozen=True, slots=True)
class Lane:
    """An attempt on the line of its run, and the wait after it, which ends at `wait_to`; both None without one."""

    outcome: str
    y: int
    x: float
    width: float
    wait_to: float | None
    wait: timedelta | None


def sparkline(runs: Sequence[RecentRun]) -> Sparkline:
    """Of at most SPARK_RUNS runs, oldest first. What has no duration is a stump."""
    counts = Counter(run.status.value for run in runs)
    parts = ", ".join(f"{count} {status}" for status, count in counts.most_common())
    sparks = sparks_of(runs, SPARK_RUNS, SPARK_STEP, SPARK_HEIGHT)
    return Sparkline(sparks, f"Last runs: {parts or 'none yet'}")


def duration_chart(runs: Sequence[RecentRun]) -> DurationChart:
    """Of at most LONG_RUNS runs, oldest first."""
    durations = sorted(run.duration_ms for run in runs if run.duration_ms is not None)
    p50, p95 = percentile(durations, 50), percentile(durations, 95)
    longest = max(durations, default=0)
    words = "No run has a duration yet."
    if p50 is not None and p95 is not None:
        words = (
            f"Of {len(durations)} measured runs, half took at most {milliseconds(p50)}, 95 % at most "
            f"{milliseconds(p95)}, the longest {milliseconds(longest)}."
            if len(durations) > 1
            else f"The one measured run took {milliseconds(longest)}."
        )
    sparks = sparks_of(runs, LONG_RUNS, LONG_STEP, CHART_HEIGHT)
    return DurationChart(sparks, p50, p95, longest, words)


def percentile(ordered: Sequence[int], percent: int) -> int | None:
    """The least value that so many per cent do not exceed; None of nothing."""
    return ordered[-(-len(ordered) * percent // 100) - 1] if ordered else None


def sparks_of(runs: Sequence[RecentRun], room: int, step: int, highest: int) -> tuple[Spark, ...]:
    longest = max([run.duration_ms or 0 for run in runs], default=0)
    first = (room - len(runs)) * step
    return tuple(
        Spark(run.status, first + number * step, height(run.duration_ms or 0, longest, highest))
        for number, run in enumerate(runs)
    )


def height(duration_ms: int, longest: int, highest: int) -> float:
    return round(4 + (highest - 4) * duration_ms / (longest or 1), 1)


def days_of(hours: Sequence[Hour]) -> list[Day]:
    """A column for each day in UTC; oldest first."""
    return [
        day_of(list(of_day), number * DAY_WIDTH)
        for number, (_, of_day) in enumerate(groupby(hours, key=lambda hour: hour.start.date()))
    ]


def day_of(hours: Sequence[Hour], x: int) -> Day:
    counted = {hour.start.hour: counts for hour in hours if (counts := counts_of(hour))}
    total: Counter[str] = sum(counted.values(), Counter())
    paths: dict[str, list[str]] = {status: [] for status in STATUSES if total[status]}
    for hour, counts in counted.items():
        left = float(x)
        for status, width in widths_of(counts).items():
            paths[status].append(f"M{left:.4g} {hour * CELL_HEIGHT}h{width:.3g}v5H{left:.4g}")
            left += width
    told = ", ".join(
        f"{total[status]:,} {status}{hours_with(status, counted) if status != 'success' else ''}"
        for status in paths
    )
    return Day(
        start=hours[0].start,
        x=x,
        paths={status: "".join(cells) for status, cells in paths.items()},
        counts={status: total[status] for status in paths},
        words=f"{hours[0].start:%d %b}, UTC: {told or 'nothing ran'}",
    )


def counts_of(hour: Hour) -> Counter[str]:
    return Counter({status: count for status in STATUSES if (count := getattr(hour, status))})


def widths_of(counts: Counter[str]) -> Mapping[str, float]:
    """How the statuses of an hour share its cell."""
    shares = {status: max(count / counts.total(), THINNEST) for status, count in counts.items()}
    return {status: CELL_WIDTH * share / sum(shares.values()) for status, share in shares.items()}


def hours_with(status: str, counted: Mapping[int, Counter[str]]) -> str:
    """at 09:00, 14:00 …; the first HOURS_TOLD of them."""
    at = [f"{hour:02}:00" for hour, counts in counted.items() if counts[status]]
    return f" at {', '.join(at[:HOURS_TOLD])}{' …' if len(at) > HOURS_TOLD else ''}"


def lanes_of(attempts: Sequence[Attempt], now: datetime) -> list[Lane]:
    """A lane for each attempt, to scale from the first one to the end of the last, or of the wait after it.

    An attempt that is under way lasts until `now`; what is too short to be seen is a little wider.
    """
    if not attempts:
        return []
    ends = [end_of(attempt, now) for attempt in attempts]
    nexts = [*(attempt.started_at for attempt in attempts[1:]), attempts[-1].retry_at]
    start = attempts[0].started_at
    scale = LINE_WIDTH / (max([*ends, *filter(None, nexts), start + SHORTEST]) - start).total_seconds()
    lanes = []
    for number, (attempt, end, following) in enumerate(zip(attempts, ends, nexts, strict=True)):
        x, to = ((instant - start).total_seconds() * scale for instant in (attempt.started_at, end))
        waits_until = following if following and following > end else None
        lanes.append(
            Lane(
                outcome=attempt.outcome or "running",
                y=number * LANE_HEIGHT,
                x=round(x, 1),
                width=round(max(to - x, 4), 1),
                wait_to=round((waits_until - start).total_seconds() * scale, 1) if waits_until else None,
                wait=waits_until - end if waits_until else None,
            )
        )
    return lanes


def end_of(attempt: Attempt, now: datetime) -> datetime:
    if attempt.duration_ms is not None:
        return attempt.started_at + timedelta(milliseconds=attempt.duration_ms)
    return attempt.started_at if attempt.outcome else max(now, attempt.started_at)


@dataclass(frozen=True, slots=True)
class Gap:
    """A time in which ticks were missing; without an end while it lasts."""

    start: datetime
    end: datetime | None
    x: float
    width: float
    duration: timedelta


@dataclass(frozen=True, slots=True)
class TickBars:
    """A bar for each tick, as the paths of those that were on time and of those that were not."""

    on_time: str
    late: str
    highest: float


@dataclass(frozen=True, slots=True)
class TickChart:
    """The ticks of the last hours; `gaps` are in the order of time."""

    hours: int
    ticks: int
    lag: TickBars
    duration: TickBars
    gaps: Sequence[Gap]


def tick_chart(timings: Sequence[TickTiming], now: datetime, hours: int, *, is_late: bool) -> TickChart:
    """Of ticks oldest first, which may begin before these hours; `is_late`: the next one is overdue by now."""
    since = now - timedelta(hours=hours)
    shown = [timing for timing in timings if timing.started_at >= since]
    return TickChart(
        hours=hours,
        ticks=len(shown),
        lag=tick_bars(shown, [timing.lag_seconds for timing in shown], since),
        duration=tick_bars(shown, [timing.duration_seconds for timing in shown], since),
        gaps=gaps_of(timings, since, now if is_late else None),
    )


def tick_bars(ticks: Sequence[TickTiming], values: Sequence[float], since: datetime) -> TickBars:
    """Each bar can be seen; the highest fills the chart, unless it is less than a second."""
    highest = max(values, default=0.0)
    paths: dict[bool, list[str]] = {False: [], True: []}
    for tick, value in zip(ticks, values, strict=True):
        x, y = tick_x(tick.started_at, since), TICKS_HEIGHT * (1 - value / max(highest, 1))
        paths[tick.lag_seconds > LATE_SLOT_SECONDS].append(
            f"M{x:.0f} {TICKS_HEIGHT}V{min(y, TICKS_HEIGHT - 1.5):.3g}"
        )
    return TickBars("".join(paths[False]), "".join(paths[True]), highest)


def gaps_of(ticks: Sequence[TickTiming], since: datetime, until: datetime | None) -> Sequence[Gap]:
    """Between ticks, and from the last of them `until` now, if that is given."""
    gaps = []
    ends = [*(tick.started_at for tick in ticks[1:]), until]
    for tick, end in zip(ticks, ends, strict=False):
        start = max(next_tick_at(tick), since)
        if end is not None and end - start > TICK_TOLERANCE:
            x, to = tick_x(start, since), tick_x(end, since)
            gaps.append(Gap(start, None if end is until else end, round(x, 1), round(to - x, 1), end - start))
    return gaps


def next_tick_at(tick: TickTiming) -> datetime:
    """A minute later, or at the minute after its end."""
    return tick.started_at + A_MINUTE * max(1, math.ceil(tick.duration_seconds / 60))


def tick_x(instant: datetime, since: datetime) -> float:
    return (instant - since) / A_MINUTE * TICK_STEP
