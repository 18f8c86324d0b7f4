"""The next runs of a schedule, and what clock changes do to them (docs/engine.md, Schedule).

In UTC a schedule runs at its local times themselves, because no clock changes there: that tells which local times
of a schedule a clock change skips or repeats.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise, takewhile
from zoneinfo import ZoneInfo

from domain.schedule import Schedule, parse_schedule, parse_timezone, runs
from domain.slots import INSTANT, Timing

A_YEAR = timedelta(days=366)
STEP = timedelta(hours=12)
"""No zone changes its clocks twice within it."""

HOURS_OF_A_DAY = 24
MOST_TIMES_TOLD = 4
EITHER_DAY = (
    "Day of month and day of week are both restricted: a day that matches either of them matches, "
    "not only one that matches both."
)


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """`local` is in the time zone of the schedule; `note` says what a clock change has to do with it."""

    utc: datetime
    local: datetime
    note: str | None


@dataclass(frozen=True, slots=True)
class Preview:
    runs: list[PlannedRun]
    warnings: list[str]


@dataclass(frozen=True, slots=True)
class ClockChange:
    """`at` the clocks go from one offset to another; local times in [low, high) are skipped or come twice."""

    at: datetime
    before: timedelta
    after: timedelta

    @property
    def is_forward(self) -> bool:
        return self.after > self.before

    @property
    def low(self) -> datetime:
        return (self.at + min(self.before, self.after)).replace(tzinfo=None)

    @property
    def high(self) -> datetime:
        return (self.at + max(self.before, self.after)).replace(tzinfo=None)


def preview(expression: str, timezone: str, after: datetime, count: int) -> Preview:
    """The first `count` runs after an instant (aware); warnings look a year ahead.

    Raises InvalidSchedule or InvalidTimezone.
    """
    schedule, zone = parse_schedule(expression), parse_timezone(timezone)
    instants = [after.astimezone(UTC), *islice(runs(expression, timezone, after), count)]
    planned = [
        PlannedRun(utc=run, local=run.astimezone(zone), note=note(expression, schedule, zone, previous, run))
        for previous, run in pairwise(instants)
    ]
    changes = clock_changes(zone, after, after + A_YEAR)
    effects = [effect(expression, schedule, zone, change) for change in changes]
    return Preview(
        runs=planned,
        warnings=[EITHER_DAY] * schedule.either_day + [warning for warning in effects if warning],
    )


def planned_runs(timing: Timing, first: datetime, count: int) -> list[PlannedRun]:
    """The run at `first`, which is a slot, and those after it; at most `count`."""
    if timing.schedule is None:
        return [PlannedRun(utc=first, local=first.astimezone(parse_timezone(timing.timezone)), note=None)]
    found = preview(timing.schedule, timing.timezone, first - INSTANT, count).runs
    return [run for run in found if timing.end_at is None or run.utc < timing.end_at]


def note(
    expression: str, schedule: Schedule, zone: ZoneInfo, previous: datetime, run: datetime
) -> str | None:
    """What clock changes have done since the run before, or do to this one."""
    since = min(max(previous, run - A_YEAR), run - STEP)
    told = [
        effect(expression, schedule, zone, change)
        for change in clock_changes(zone, since, run + STEP)
        if (previous < change.at <= run if change.is_forward else is_in(change, run))
    ]
    return " ".join(filter(None, told)) or None


def is_in(change: ClockChange, run: datetime) -> bool:
    """Whether a run is in one of the two passes of the local times that come twice."""
    width = change.before - change.after
    return change.at - width <= run < change.at + width


def effect(expression: str, schedule: Schedule, zone: ZoneInfo, change: ClockChange) -> str | None:
    """What a clock change does to the runs of a schedule, in a sentence; None if nobody notices."""
    times = local_times(expression, change)
    if not times or (not schedule.fixed_times and is_even(expression, schedule, zone, change, times)):
        return None
    day, told = f"{change.low:%Y-%m-%d}", listed(times)
    if change.is_forward:
        there = f"On {day} the clocks in {zone.key} skip {told}"
        moved = (change.at + change.after).strftime("%H:%M")
        return f"{there}: {f'the run is at {moved}' if schedule.fixed_times else 'nothing runs then'}."
    there = f"On {day} the clocks in {zone.key} show {told} twice"
    return f"{there}: it runs {'the first time only' if schedule.fixed_times else 'both times'}."


def is_even(
    expression: str, schedule: Schedule, zone: ZoneInfo, change: ClockChange, times: list[datetime]
) -> bool:
    """Whether runs of every hour go on as evenly as if the clocks had not changed."""
    if len(schedule.values[1]) < HOURS_OF_A_DAY:
        return False
    if not change.is_forward:
        return True
    due = [time.replace(tzinfo=UTC) - change.before for time in times]
    found = takewhile(lambda run: run <= due[-1], runs(expression, zone.key, due[0] - INSTANT))
    return set(due) <= set(found)


def local_times(expression: str, change: ClockChange) -> list[datetime]:
    """The times of the schedule that are skipped or come twice; naive."""
    walls = runs(expression, "UTC", change.low.replace(tzinfo=UTC) - INSTANT)
    naive = (wall.replace(tzinfo=None) for wall in walls)
    return list(takewhile(lambda wall: wall < change.high, naive))


def clock_changes(zone: ZoneInfo, start: datetime, end: datetime) -> Iterator[ClockChange]:
    """The changes of the clocks in (start, end], in order."""
    before, offset = start.astimezone(UTC), offset_at(zone, start)
    while before < end:
        behind = min(before + STEP, end)
        if offset_at(zone, behind) != offset:
            low, high = before, behind
            while high - low > INSTANT:
                middle = low + (high - low) / 2
                low, high = (middle, high) if offset_at(zone, middle) == offset else (low, middle)
            behind = high
            yield ClockChange(high, offset, offset_at(zone, high))
            offset = offset_at(zone, high)
        before = behind


def offset_at(zone: ZoneInfo, instant: datetime) -> timedelta:
    offset = instant.astimezone(zone).utcoffset()
    assert offset is not None
    return offset


def listed(times: list[datetime]) -> str:
    told = [f"{time:%H:%M}" for time in times]
    if len(told) > MOST_TIMES_TOLD:
        return f"{told[0]} to {told[-1]} ({len(told)} times)"
    return f"{', '.join(told[:-1])} and {told[-1]}" if len(told) > 1 else told[0]
