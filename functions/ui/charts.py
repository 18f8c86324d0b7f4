"""Pictures as figures: what templates/charts.html draws as SVG. Colours and patterns are those of ui.css."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from db.stats import Hour
from db.task_logs import RecentRun

STATUSES = ("success", "failed", "missed", "skipped", "cancelled")
BAR_WIDTH = 20
CHART_HEIGHT = 120
SPARK_RUNS = 60
SPARK_STEP = 3
SPARK_HEIGHT = 24


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


def sparkline(runs: Sequence[RecentRun]) -> Sparkline:
    """Of at most SPARK_RUNS runs, oldest first. What has no duration is a stump."""
    longest = max([run.duration_ms or 0 for run in runs], default=0) or 1
    first = (SPARK_RUNS - len(runs)) * SPARK_STEP
    sparks = tuple(
        Spark(run.status, first + number * SPARK_STEP, height_of(run, longest))
        for number, run in enumerate(runs)
    )
    counts = Counter(run.status.value for run in runs)
    parts = ", ".join(f"{count} {status}" for status, count in counts.most_common())
    return Sparkline(sparks, f"Last runs: {parts or 'none yet'}")


def height_of(run: RecentRun, longest: int) -> float:
    return round(4 + (SPARK_HEIGHT - 4) * (run.duration_ms or 0) / longest, 1)
