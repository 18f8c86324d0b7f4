"""What becomes of slots that are found late (docs/engine.md, Missed slots)."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice, takewhile
from typing import assert_never

from domain.slots import INSTANT, Timing, last_slot_before, next_slot, slots
from domain.task import MisfirePolicy

FRESH = timedelta(seconds=120)
"""A slot of this age is simply run, late."""

MAX_COUNTED = 10_000
MAX_RUN_ALL = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Slots that will not run: the first, the last, and how many, or at least how many."""

    first: datetime
    last: datetime
    count: int
    is_at_least: bool

    def __str__(self) -> str:
        if self.count == 1:
            return "1 slot"
        return f"{'at least ' if self.is_at_least else ''}{self.count:,} slots"


@dataclass(frozen=True, slots=True, kw_only=True)
class CatchUp:
    """What to do with the due slots of a task: miss some, run one, and go on with `next_run_at`.

    `waits`: the run is one of several that are made up for, one after another.
    """

    missed: Stretch | None
    run: datetime | None
    next_run_at: datetime | None
    waits: bool = False


def on_time(timing: Timing, slot: datetime) -> CatchUp:
    """A fresh slot runs, and the one after it is next, even if that is in the past."""
    return CatchUp(missed=None, run=slot, next_run_at=next_slot(timing, slot))


def catch_up(
    timing: Timing, due: datetime, now: datetime, policy: MisfirePolicy, window: timedelta
) -> CatchUp:
    """The plan for a task whose oldest unclaimed slot is `due`, at most one run at a time.

    Slots older than `window` are always missed. Of the later ones that are no longer fresh, `run_once` runs the
    latest unless a fresh slot runs anyway, `run_all` the last 100 from the oldest on, `skip` none.
    """
    if now - due <= FRESH:
        return on_time(timing, due)
    fresh_from = now - FRESH
    late_from = max(due, now - window)
    fresh = next_slot(timing, fresh_from - INSTANT)
    run = fresh if fresh is not None and fresh <= now else None
    waits = False
    match policy:
        case MisfirePolicy.SKIP:
            pass
        case MisfirePolicy.RUN_ONCE:
            if run is None:
                run = last_slot_before(timing, fresh_from, late_from)
        case MisfirePolicy.RUN_ALL:
            late = list(_late_slots(timing, late_from, fresh_from))
            if late:
                run, waits = late[-MAX_RUN_ALL:][0], True
        case _:
            assert_never(policy)
    return CatchUp(
        missed=stretch(timing, due, run or fresh_from),
        run=run,
        next_run_at=fresh if run is None else next_slot(timing, run),
        waits=waits,
    )


def _late_slots(timing: Timing, start: datetime, end: datetime) -> list[datetime]:
    """The last slots in [start, end): all that matter for `run_all`, without counting a long stretch."""
    last = last_slot_before(timing, end, start)
    if last is None:
        return []
    reach = timedelta(hours=1)
    while True:
        begin = max(start, last - reach)
        found = list(takewhile(lambda slot: slot < end, slots(timing, begin - INSTANT)))
        if len(found) >= MAX_RUN_ALL or begin == start:
            return found
        reach *= 4


def stretch(timing: Timing, first: datetime, end: datetime, most: int = MAX_COUNTED) -> Stretch | None:
    """The slots in [first, end), where `first` is one of them if there are any; counted up to `most`."""
    if first >= end:
        return None
    counted = takewhile(lambda slot: slot < end, slots(timing, first))
    last, count = first, 1
    for slot in islice(counted, most - 1):
        last, count = slot, count + 1
    is_at_least = count == most and next(counted, None) is not None
    if is_at_least:
        last = last_slot_before(timing, end, first) or last
    return Stretch(first=first, last=last, count=count, is_at_least=is_at_least)
