"""The slots of a task: those of its schedule, or its one instant, within its range."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import takewhile

from domain.schedule import runs

INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """When a task fires: `schedule` in `timezone`, or once at `run_at`; from `start_at`, before `end_at`."""

    schedule: str | None
    timezone: str
    run_at: datetime | None = None
    start_at: datetime | None = None
    end_at: datetime | None = None


def slots(timing: Timing, after: datetime) -> Iterator[datetime]:
    """The slots strictly after `after`, in order; raises InvalidSchedule or InvalidTimezone at the call."""
    if timing.start_at is not None and timing.start_at > after:
        after = timing.start_at - INSTANT
    if timing.schedule is not None:
        found = runs(timing.schedule, timing.timezone, after)
    else:
        found = iter([timing.run_at] if timing.run_at is not None and timing.run_at > after else [])
    return takewhile(lambda slot: timing.end_at is None or slot < timing.end_at, found)


@lru_cache(maxsize=2_048)  # many tasks have the same schedule
def next_slot(timing: Timing, after: datetime) -> datetime | None:
    """The first slot strictly after `after`; None when there is none."""
    return next(slots(timing, after), None)


def last_slot_before(timing: Timing, before: datetime, since: datetime) -> datetime | None:
    """The last slot in [since, before), found by looking back ever further, without counting a long stretch."""
    reach = timedelta(hours=1)
    while True:
        start = max(since, before - reach)
        last = None
        for slot in takewhile(lambda slot: slot < before, slots(timing, start - INSTANT)):
            last = slot
        if last is not None or start == since:
            return last
        reach *= 24
