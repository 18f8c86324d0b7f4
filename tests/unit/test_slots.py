"""Which slots a task has: those of its schedule or its one instant, within its range."""

from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.errors import InvalidSchedule, InvalidTimezone
from domain.slots import Timing, last_slot_before, next_slot, slots

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
INSTANT = timedelta(microseconds=1)
FIRST = datetime.min.replace(tzinfo=UTC)
LAST = datetime.max.replace(tzinfo=UTC)


def every_minute(**fields: datetime | None) -> Timing:
    return Timing(schedule="* * * * *", timezone="UTC", **fields)


def once(run_at: datetime, **fields: datetime | None) -> Timing:
    return Timing(schedule=None, timezone="UTC", run_at=run_at, **fields)


def test_slots_are_strictly_after_the_given_instant() -> None:
    assert list(islice(slots(every_minute(), NOON), 2)) == [NOON + MINUTE, NOON + 2 * MINUTE]
    assert next_slot(every_minute(), NOON - INSTANT) == NOON


def test_a_one_off_task_has_one_slot_at_its_very_instant() -> None:
    run_at = NOON + timedelta(seconds=17, microseconds=5)
    assert list(slots(once(run_at), NOON)) == [run_at]
    assert next_slot(once(run_at), run_at - INSTANT) == run_at
    assert next_slot(once(run_at), run_at) is None


def test_start_at_is_inclusive() -> None:
    assert next_slot(every_minute(start_at=NOON), NOON - timedelta(days=1)) == NOON
    assert next_slot(every_minute(start_at=NOON + INSTANT), NOON - timedelta(days=1)) == NOON + MINUTE
    assert next_slot(once(NOON, start_at=NOON), NOON - MINUTE) == NOON
    assert next_slot(once(NOON, start_at=NOON + INSTANT), NOON - MINUTE) is None


def test_start_at_in_the_past_changes_nothing() -> None:
    assert next_slot(every_minute(start_at=NOON - MINUTE), NOON) == NOON + MINUTE


def test_end_at_is_exclusive() -> None:
    assert next_slot(every_minute(end_at=NOON + MINUTE), NOON) is None
    assert list(slots(every_minute(end_at=NOON + MINUTE + INSTANT), NOON)) == [NOON + MINUTE]
    assert next_slot(once(NOON, end_at=NOON), NOON - MINUTE) is None
    assert next_slot(once(NOON, end_at=NOON + INSTANT), NOON - MINUTE) == NOON


def test_a_range_may_reach_from_the_first_to_the_last_instant_there_is() -> None:
    assert next_slot(every_minute(start_at=FIRST, end_at=LAST), NOON) == NOON + MINUTE
    assert next_slot(every_minute(start_at=LAST), NOON) is None


def test_what_cannot_be_computed_is_said_at_the_call() -> None:
    with pytest.raises(InvalidSchedule):
        slots(Timing(schedule="61 * * * *", timezone="UTC"), NOON)
    with pytest.raises(InvalidTimezone):
        slots(Timing(schedule="* * * * *", timezone="Mars/Olympus"), NOON)


def test_the_last_slot_before_an_instant_is_found_from_since_on() -> None:
    hourly = Timing(schedule="0 * * * *", timezone="UTC")
    hour = timedelta(hours=1)
    assert last_slot_before(hourly, NOON, NOON - hour) == NOON - hour
    assert last_slot_before(hourly, NOON + INSTANT, NOON - hour) == NOON
    assert last_slot_before(hourly, NOON, NOON - hour + INSTANT) is None
    assert last_slot_before(hourly, NOON, NOON) is None
    assert last_slot_before(hourly, NOON, NOON + hour) is None


def test_the_last_slot_before_an_instant_may_be_years_back() -> None:
    leap_days = Timing(schedule="0 0 29 2 *", timezone="UTC")
    assert last_slot_before(leap_days, NOON, datetime(1990, 1, 1, tzinfo=UTC)) == datetime(
        2024, 2, 29, tzinfo=UTC
    )


@settings(max_examples=60)
@given(
    schedule=st.sampled_from(["*/7 * * * *", "30 2 * * *", "0 9 * * MON", "* 0 1 * *"]),
    timezone=st.sampled_from(["UTC", "Europe/Berlin", "Pacific/Chatham"]),
    back=st.timedeltas(timedelta(0), timedelta(days=9)),
    hours=st.integers(0, 365 * 24),
)
def test_the_last_slot_before_is_the_last_of_all_slots(
    schedule: str, timezone: str, back: timedelta, hours: int
) -> None:
    timing, end = Timing(schedule=schedule, timezone=timezone), NOON + timedelta(hours=hours)
    found = list(takewhile(lambda slot: slot < end, slots(timing, end - back - INSTANT)))
    assert last_slot_before(timing, end, end - back) == (found[-1] if found else None)
