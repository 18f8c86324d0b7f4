"""The next runs of a schedule, with what clock changes do to them."""

from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest

from domain.errors import InvalidSchedule, InvalidTimezone
from domain.preview import PlannedRun, planned_runs, preview
from domain.schedule import parse_schedule, runs
from domain.slots import Timing

BERLIN = "Europe/Berlin"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def planned(schedule: str, after: str, count: int = 3, timezone: str = BERLIN) -> list[PlannedRun]:
    return preview(schedule, timezone, at(after), count).runs


def noted(schedule: str, after: str, count: int = 3, timezone: str = BERLIN) -> dict[str, str | None]:
    return {
        f"{run.local:%m-%d %H:%M%z}": run.note and run.note.split(f" in {timezone} ")[1]
        for run in planned(schedule, after, count, timezone)
    }


def warnings(schedule: str, after: str = "2027-01-01", timezone: str = BERLIN) -> list[str]:
    return preview(schedule, timezone, at(after), 1).warnings


def test_the_runs_are_those_of_the_engine_in_utc_and_local_time() -> None:
    found = planned("*/20 9 * * *", "2027-07-01T12:00", 4)
    assert [run.utc for run in found] == [*islice(runs("*/20 9 * * *", BERLIN, at("2027-07-01T12:00")), 4)]
    assert found[0].local.isoformat() == "2027-07-02T09:00:00+02:00"
    assert {run.note for run in found} == {None}


def test_a_fixed_time_that_the_clocks_skip_is_moved() -> None:
    assert noted("30 2 * * *", "2027-03-27") == {
        "03-27 02:30+0100": None,
        "03-28 03:00+0200": "skip 02:30: the run is at 03:00.",
        "03-29 02:30+0200": None,
    }


def test_several_fixed_times_that_the_clocks_skip_become_one_run() -> None:
    assert noted("0,30 2,3 * * *", "2027-03-28", 2) == {
        "03-28 03:00+0200": "skip 02:00 and 02:30: the run is at 03:00.",
        "03-28 03:30+0200": None,
    }


def test_a_fixed_time_that_comes_twice_runs_once() -> None:
    assert noted("30 2 * * *", "2027-10-31", 2) == {
        "10-31 02:30+0200": "show 02:30 twice: it runs the first time only.",
        "11-01 02:30+0100": None,
    }


def test_other_times_that_the_clocks_skip_are_dropped() -> None:
    assert noted("*/30 2 * * *", "2027-03-27T02:00", 2) == {
        "03-29 02:00+0200": "skip 02:00 and 02:30: nothing runs then.",
        "03-29 02:30+0200": None,
    }


def test_other_times_that_come_twice_run_twice() -> None:
    both = "show 02:00 and 02:30 twice: it runs both times."
    assert noted("*/30 2 * * *", "2027-10-30T23:30", 5) == {
        "10-31 02:00+0200": both,
        "10-31 02:30+0200": both,
        "10-31 02:00+0100": both,
        "10-31 02:30+0100": both,
        "11-01 02:00+0100": None,
    }


def test_many_times_are_counted() -> None:
    assert noted("* 2 * * *", "2027-03-27T02:00", 1) == {
        "03-29 02:00+0200": "skip 02:00 to 02:59 (60 times): nothing runs then."
    }


@pytest.mark.parametrize("schedule", ["* * * * *", "*/5 * * * SUN", "30 * * * *", "@hourly"])
def test_what_runs_in_every_hour_goes_on_evenly_and_needs_no_words(schedule: str) -> None:
    assert warnings(schedule) == []
    assert {run.note for run in planned(schedule, "2027-03-28", 50)} == {None}
    assert {run.note for run in planned(schedule, "2027-10-31", 50)} == {None}


def test_a_clock_change_of_half_an_hour_drops_a_run_of_every_hour() -> None:
    assert noted("0 * * * *", "2026-10-03T14:30", 2, "Australia/Lord_Howe") == {
        "10-04 03:00+1100": "skip 02:00: nothing runs then.",
        "10-04 04:00+1100": None,
    }


def test_a_rare_run_tells_of_the_change_that_dropped_the_one_before() -> None:
    (run,) = planned("*/30 2 28 3 *", "2026-03-29", 1)
    assert run.local.isoformat() == "2028-03-28T02:00:00+02:00"
    assert run.note == "On 2027-03-28 the clocks in Europe/Berlin skip 02:00 and 02:30: nothing runs then."


def test_warnings_look_a_year_ahead() -> None:
    assert warnings("30 2 * * *") == [
        "On 2027-03-28 the clocks in Europe/Berlin skip 02:30: the run is at 03:00.",
        "On 2027-10-31 the clocks in Europe/Berlin show 02:30 twice: it runs the first time only.",
    ]
    assert warnings("30 2 28 3 *") == [
        "On 2027-03-28 the clocks in Europe/Berlin skip 02:30: the run is at 03:00."
    ]
    assert warnings("30 2 28 3 *", "2027-04-01") == []
    assert warnings("30 2 * * *", timezone="UTC") == []
    assert warnings("0 9 * * *") == []


def test_two_restricted_day_fields_are_worth_a_warning() -> None:
    assert warnings("0 9 13 * FRI") == [
        "Day of month and day of week are both restricted: a day that matches either of them matches, "
        "not only one that matches both."
    ]
    assert warnings("0 9 */2 * FRI") == []


@pytest.mark.parametrize("timezone", ["America/Havana", "Australia/Lord_Howe", "Pacific/Chatham", BERLIN])
def test_each_fixed_run_at_another_time_than_its_schedule_has_a_note(timezone: str) -> None:
    moved = []
    for schedule in ("0 0 * * *", "15 2 * * *", "50 2 * * *"):
        minutes, hours, *_ = parse_schedule(schedule).values
        for days in range(0, 400, 50):
            found = planned(schedule, f"{at('2027-01-01') + timedelta(days):%Y-%m-%d}", 50, timezone)
            moved += [
                run
                for run in found
                if str(run.local.minute) not in minutes or str(run.local.hour) not in hours
            ]
    assert moved
    assert all(run.note and " skip " in run.note for run in moved)


def test_what_is_not_valid_is_refused() -> None:
    with pytest.raises(InvalidSchedule):
        preview("61 * * * *", BERLIN, at("2027-01-01"), 1)
    with pytest.raises(InvalidTimezone):
        preview("* * * * *", "Mars/Olympus", at("2027-01-01"), 1)


def test_the_runs_of_a_task_begin_with_its_next_one_and_end_with_its_range() -> None:
    first = at("2027-03-27T01:30")
    timing = Timing(schedule="30 2 * * *", timezone=BERLIN, end_at=at("2027-03-29T00:30"))
    assert [run.utc for run in planned_runs(timing, first, 5)] == [first, at("2027-03-28T01:00")]
    assert [run.utc for run in planned_runs(timing, first, 1)] == [first]
    once = Timing(schedule=None, timezone=BERLIN, run_at=first)
    (run,) = planned_runs(once, first, 5)
    assert (run.utc, run.local.isoformat(), run.note) == (first, "2027-03-27T02:30:00+01:00", None)
