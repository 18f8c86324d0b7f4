"""What becomes of slots that are found late."""

import time
from datetime import UTC, datetime, timedelta
from itertools import takewhile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.misfire import FRESH, MAX_RUN_ALL, CatchUp, Stretch, catch_up, stretch
from domain.slots import INSTANT, Timing, next_slot, slots
from domain.task import MisfirePolicy

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

MINUTELY = Timing(schedule="* * * * *", timezone="UTC")
HOURLY = Timing(schedule="0 * * * *", timezone="UTC")


def plan(
    timing: Timing, due: datetime, now: datetime, policy: MisfirePolicy, window: timedelta = DAY
) -> CatchUp:
    return catch_up(timing, due, now, policy, window)


def stretch_of(first: datetime, last: datetime, count: int) -> Stretch:
    return Stretch(first=first, last=last, count=count, is_at_least=False)


@pytest.mark.parametrize("policy", MisfirePolicy)
def test_a_slot_that_is_120_s_old_simply_runs_under_every_policy(policy: MisfirePolicy) -> None:
    assert plan(HOURLY, NOON, NOON + FRESH, policy) == CatchUp(missed=None, run=NOON, next_run_at=NOON + HOUR)


def test_a_fresh_slot_runs_even_if_the_next_one_is_due_too() -> None:
    assert plan(MINUTELY, NOON, NOON + FRESH, MisfirePolicy.SKIP).next_run_at == NOON + MINUTE


def test_skip_misses_all_that_is_older() -> None:
    assert plan(HOURLY, NOON, NOON + 3 * HOUR + FRESH + SECOND, MisfirePolicy.SKIP) == CatchUp(
        missed=stretch_of(NOON, NOON + 3 * HOUR, 4), run=None, next_run_at=NOON + 4 * HOUR
    )


def test_skip_runs_the_first_fresh_slot() -> None:
    assert plan(MINUTELY, NOON, NOON + HOUR, MisfirePolicy.SKIP) == CatchUp(
        missed=stretch_of(NOON, NOON + 57 * MINUTE, 58),
        run=NOON + 58 * MINUTE,
        next_run_at=NOON + 59 * MINUTE,
    )


def test_run_once_runs_the_latest_and_misses_the_earlier_ones() -> None:
    assert plan(HOURLY, NOON, NOON + 3 * HOUR + 30 * MINUTE, MisfirePolicy.RUN_ONCE) == CatchUp(
        missed=stretch_of(NOON, NOON + 2 * HOUR, 3), run=NOON + 3 * HOUR, next_run_at=NOON + 4 * HOUR
    )


def test_run_once_misses_nothing_if_only_one_slot_is_late() -> None:
    assert plan(HOURLY, NOON, NOON + 30 * MINUTE, MisfirePolicy.RUN_ONCE) == CatchUp(
        missed=None, run=NOON, next_run_at=NOON + HOUR
    )


def test_run_once_makes_up_for_nothing_if_a_fresh_slot_runs_anyway() -> None:
    assert plan(HOURLY, NOON, NOON + 3 * HOUR + MINUTE, MisfirePolicy.RUN_ONCE) == CatchUp(
        missed=stretch_of(NOON, NOON + 2 * HOUR, 3), run=NOON + 3 * HOUR, next_run_at=NOON + 4 * HOUR
    )


def test_run_all_runs_the_oldest_and_goes_on_with_the_next_which_waits() -> None:
    assert plan(HOURLY, NOON, NOON + 3 * HOUR + 30 * MINUTE, MisfirePolicy.RUN_ALL) == CatchUp(
        missed=None, run=NOON, next_run_at=NOON + HOUR, waits=True
    )


def test_run_all_runs_the_last_100_of_more() -> None:
    now = NOON + 5 * HOUR + 30 * SECOND
    found = plan(MINUTELY, NOON, now, MisfirePolicy.RUN_ALL)
    late = [NOON + n * MINUTE for n in range(299)]  # 16:58 is 150 s old, 16:59 is fresh
    assert found.run == late[-MAX_RUN_ALL]
    assert found.missed == stretch_of(NOON, late[-MAX_RUN_ALL - 1], 199)
    assert found.next_run_at == late[-MAX_RUN_ALL + 1]


@pytest.mark.parametrize("policy", [MisfirePolicy.RUN_ONCE, MisfirePolicy.RUN_ALL])
def test_slots_older_than_the_window_are_always_missed(policy: MisfirePolicy) -> None:
    assert plan(HOURLY, NOON, NOON + 3 * HOUR + 30 * MINUTE, policy, window=20 * MINUTE) == CatchUp(
        missed=stretch_of(NOON, NOON + 3 * HOUR, 4), run=None, next_run_at=NOON + 4 * HOUR
    )
    found = plan(HOURLY, NOON, NOON + 3 * HOUR + 30 * MINUTE, policy, window=90 * MINUTE)
    assert found.run == NOON + (3 if policy is MisfirePolicy.RUN_ONCE else 2) * HOUR


def test_a_slot_of_just_the_age_of_the_window_is_made_up_for() -> None:
    assert plan(HOURLY, NOON, NOON + 10 * MINUTE, MisfirePolicy.RUN_ALL, window=10 * MINUTE).run == NOON


def test_a_window_of_nothing_leaves_the_fresh_slots() -> None:
    found = plan(MINUTELY, NOON, NOON + HOUR, MisfirePolicy.RUN_ONCE, window=timedelta(0))
    assert found.run == NOON + 58 * MINUTE


@pytest.mark.parametrize("policy", MisfirePolicy)
def test_the_last_slot_leaves_no_next_run(policy: MisfirePolicy) -> None:
    ending = Timing(schedule="0 * * * *", timezone="UTC", end_at=NOON + INSTANT)
    assert plan(ending, NOON, NOON + HOUR, policy).next_run_at is None
    once = Timing(schedule=None, timezone="UTC", run_at=NOON)
    late = plan(once, NOON, NOON + HOUR, policy)
    assert late.next_run_at is None
    if policy is MisfirePolicy.SKIP:
        assert (late.run, late.missed) == (None, stretch_of(NOON, NOON, 1))
    else:
        assert (late.run, late.missed) == (NOON, None)


def test_10_000_slots_are_counted_exactly_and_more_are_counted_as_at_least() -> None:
    end = NOON + 10_000 * MINUTE
    assert stretch(MINUTELY, NOON, end) == stretch_of(NOON, end - MINUTE, 10_000)
    more = stretch(MINUTELY, NOON, end + 5_000 * MINUTE)
    assert more is not None
    assert (more.count, more.is_at_least) == (10_000, True)
    assert (more.first, more.last) == (NOON, end + 4_999 * MINUTE)
    assert str(more) == "at least 10,000 slots"


@pytest.mark.parametrize("policy", MisfirePolicy)
def test_a_task_that_was_off_for_a_year_is_planned_in_well_under_a_second(policy: MisfirePolicy) -> None:
    began_at = time.process_time()
    found = plan(MINUTELY, NOON - 365 * DAY, NOON, policy, window=31 * DAY)
    assert time.process_time() - began_at < 1
    assert found.missed is not None
    assert found.missed.is_at_least


TIMINGS = st.builds(
    Timing,
    schedule=st.sampled_from(["* * * * *", "*/7 * * * *", "0 * * * *", "30 2 * * *", "*/20 1-3 * * *"]),
    timezone=st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe"]),
    start_at=st.none() | st.integers(-100, 5_000).map(lambda minutes: NOON + minutes * MINUTE),
    end_at=st.none() | st.integers(0, 10_000).map(lambda minutes: NOON + minutes * MINUTE),
) | st.builds(
    Timing,
    schedule=st.none(),
    timezone=st.just("UTC"),
    run_at=st.integers(1, 200_000).map(lambda seconds: NOON + seconds * SECOND),
)
PAUSES = st.lists(
    st.integers(0, 300).map(lambda seconds: seconds * SECOND)
    | st.integers(0, 1_500).map(lambda minutes: minutes * MINUTE),
    min_size=1,
    max_size=5,
)
WINDOWS = st.sampled_from([timedelta(0), 90 * SECOND, HOUR, DAY])


@settings(max_examples=60)
@given(timing=TIMINGS, pauses=PAUSES, policy=st.sampled_from(MisfirePolicy), window=WINDOWS)
def test_every_due_slot_ends_in_exactly_one_stretch_or_run(
    timing: Timing, pauses: list[timedelta], policy: MisfirePolicy, window: timedelta
) -> None:
    now, following = NOON, next_slot(timing, NOON)
    ends: list[datetime] = []
    for pause in pauses:
        now += pause
        while following is not None and following <= now:
            found = catch_up(timing, following, now, policy, window)
            if found.missed:
                ends += stretched(timing, found.missed)
            if found.run:
                ends.append(found.run)
                assert found.run <= now
            following = found.next_run_at
            if found.waits:
                break
    until = following or datetime.max.replace(tzinfo=UTC)
    assert ends == list(takewhile(lambda slot: slot < until, slots(timing, NOON)))
    assert following is None or following > now or policy is MisfirePolicy.RUN_ALL


@settings(max_examples=60)
@given(timing=TIMINGS, late=st.integers(121, 200_000), policy=st.sampled_from(MisfirePolicy), window=WINDOWS)
def test_a_plan_is_what_the_words_of_the_policy_say(
    timing: Timing, late: int, policy: MisfirePolicy, window: timedelta
) -> None:
    due = next_slot(timing, NOON)
    if due is None:
        return
    now = due + late * SECOND
    all_due = list(takewhile(lambda slot: slot <= now, slots(timing, NOON)))
    fresh = [slot for slot in all_due if now - slot <= FRESH]
    made_up_for = [slot for slot in all_due if FRESH < now - slot <= window]
    match policy:
        case MisfirePolicy.SKIP:
            runs = fresh
        case MisfirePolicy.RUN_ONCE:
            runs = fresh or made_up_for[-1:]
        case MisfirePolicy.RUN_ALL:
            runs = made_up_for[-MAX_RUN_ALL:] + fresh
    found = catch_up(timing, due, now, policy, window)
    assert found.run == (runs[0] if runs else None)
    missed = [slot for slot in all_due if not runs or slot < runs[0]]
    assert (stretched(timing, found.missed) if found.missed else []) == missed
    assert found.waits == (
        policy is MisfirePolicy.RUN_ALL and runs[:1] == made_up_for[-MAX_RUN_ALL:][:1] != []
    )


def stretched(timing: Timing, missed: Stretch) -> list[datetime]:
    """The slots that a stretch stands for; it says truly how many they are."""
    found = list(takewhile(lambda slot: slot <= missed.last, slots(timing, missed.first - INSTANT)))
    assert not missed.is_at_least
    assert (found[0], found[-1], len(found)) == (missed.first, missed.last, missed.count)
    return found
