"""The daylight-saving contract of schedules, against a scan of each real minute and against cronsim."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice, takewhile
from zoneinfo import ZoneInfo, available_timezones

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.schedule import next_run, runs
from tests.unit.test_schedule_grammar import DAYS, Cron, schedules

ZONES = [
    "America/New_York",
    "Europe/Berlin",
    "Europe/Dublin",
    "Australia/Lord_Howe",
    "Pacific/Chatham",
    "America/Santiago",
    "Africa/Cairo",
    "Africa/Casablanca",
    "Asia/Beirut",
    "America/St_Johns",
    "America/Nuuk",
]
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@cache
def transitions(zone: str) -> Sequence[datetime]:
    """All changes of the offset from 2026 to 2030, to the minute, found by asking the zone day by day."""
    tz = ZoneInfo(zone)
    days = [utc("2026-01-01") + n * 24 * HOUR for n in range(5 * 365 + 2)]
    offsets = [day.astimezone(tz).utcoffset() for day in days]
    found = []
    for day, before, behind in zip(days, offsets, offsets[1:], strict=False):
        if before != behind:
            minutes = (day + n * MINUTE for n in range(24 * 60 + 1))
            found.append(next(minute for minute in minutes if minute.astimezone(tz).utcoffset() == behind))
    return found


# Where the clocks of a zone change; and a zone that skipped a whole day once and changes them no more.
CHANGES = [(zone, moment) for zone in ZONES for moment in transitions(zone)]
CHANGES += [("Pacific/Apia", utc("2011-12-30T10:00")), ("Pacific/Apia", utc("2027-09-25T14:00"))]


def test_the_zones_do_change_their_clocks() -> None:
    assert all(len(transitions(zone)) >= 2 for zone in ZONES)


class Scan:
    """Each real minute around a moment with its local time, and what the contract says of them."""

    def __init__(self, zone: str, moment: datetime, reach: timedelta) -> None:
        tz = ZoneInfo(zone)
        self.start, self.end = moment - reach, moment + reach
        minutes = (self.start + n * MINUTE for n in range(2 * reach // MINUTE + 1))
        self.minutes = [(minute, minute.astimezone(tz).replace(tzinfo=None)) for minute in minutes]

    def expected(self, cron: Cron) -> list[datetime]:
        slots = (
            self._fixed(cron) if cron.fixed_times else {real for real, wall in self.minutes if cron.has(wall)}
        )
        return sorted(slot for slot in slots if slot > self.start)

    def _fixed(self, cron: Cron) -> set[datetime]:
        first: dict[datetime, datetime] = {}
        for real, wall in self.minutes:
            first.setdefault(wall, real)
        slots, wall = set(), self.minutes[0][1]
        while wall <= self.minutes[-1][1]:
            if cron.has(wall):
                slots.add(first.get(wall) or next(real for real, later in self.minutes if later > wall))
            wall += MINUTE
        return slots

    def actual(self, expression: str, zone: str) -> list[datetime]:
        return list(takewhile(lambda slot: slot <= self.end, runs(expression, zone, self.start)))


@cache
def scan_around(zone: str, moment: datetime, hours: int) -> Scan:
    return Scan(zone, moment, hours * HOUR)


def schedules_around(zone: str, moment: datetime) -> list[str]:
    """Schedules that touch the hour in which the clocks change, as a local clock shows it just before."""
    wall = (moment - MINUTE).astimezone(ZoneInfo(zone)) + 30 * MINUTE
    before, hour, behind = (wall.hour - 1) % 24, wall.hour, (wall.hour + 1) % 24
    day, month, weekday = wall.day, wall.month, wall.isoweekday()
    nth = (day - 1) // 7 + 1
    return [
        "28 2 * * *",
        "0 0 * * *",
        "59 23 * * *",
        f"0 {hour} * * *",
        f"29 {hour} * * *",
        f"30 {hour} * * *",
        f"5,20,45 {hour} * * *",
        f"0,40 {before},{hour},{behind} * * *",
        f"0-59/9 {hour} * * *",
        f"17 {hour} {day} {month} *",
        f"17 {hour} * * {weekday}",
        f"17 {hour} 1 * {weekday}#{nth},{(weekday + 1) % 7}",
        f"45 {hour},{behind} L,{day} * *",
        "7 0-23 * * *",
        "7-57/25 0-23/2 * * *",
        "@hourly",
        "30 * * * *",
        "*/15 * * * *",
        f"*/20 {hour} * * *",
        f"*/10 {behind} {day} {month} *",
        "11,41 */2 * * *",
        f"*/7 */3 */2 * {weekday}",
        f"50 * {day} * {weekday}",
    ]


@pytest.mark.parametrize("zone", sorted({zone for zone, _ in CHANGES}))
def test_slots_around_each_change_of_the_clocks_are_those_of_a_scan_of_each_minute(zone: str) -> None:
    for moment in (moment for changed, moment in CHANGES if changed == zone):
        wide, narrow = scan_around(zone, moment, 27), scan_around(zone, moment, 3)
        for expression in schedules_around(zone, moment):
            assert wide.actual(expression, zone) == wide.expected(Cron(expression)), (expression, moment)
        for expression in ("* * * * *", "0-59 0-23 * * *", "*/2 * * * *"):
            assert narrow.actual(expression, zone) == narrow.expected(Cron(expression)), (expression, moment)


@pytest.mark.parametrize("zone", sorted({zone for zone, _ in CHANGES}))
def test_the_next_run_does_not_depend_on_where_in_the_change_one_asks(zone: str) -> None:
    seconds = (-5400, -3599, -1800, -61, -60, -1, 0, 1, 59, 1799, 1800, 3540, 3600, 5430, 7201)
    for moment in [moment for changed, moment in CHANGES if changed == zone][:4]:
        for expression in schedules_around(zone, moment):
            expected = scan_around(zone, moment, 27).expected(Cron(expression))
            for second in seconds:
                after = moment + timedelta(seconds=second, microseconds=-second % 7)
                slot = next((slot for slot in expected if slot > after), None)
                if slot:
                    assert next_run(expression, zone, after) == slot, (expression, after)


_BROAD_DAYS = st.just("* * *") | st.just("* * *") | DAYS


@settings(max_examples=300)
@given(st.sampled_from(CHANGES), schedules(_BROAD_DAYS))
def test_any_schedule_around_any_change_of_the_clocks_runs_as_a_scan_says(
    change: tuple[str, datetime], expression: str
) -> None:
    cron = Cron(expression)
    if cron.fires:
        scan = scan_around(*change, 7)
        assert scan.actual(expression, change[0]) == scan.expected(cron)


@pytest.mark.parametrize(
    "zone", [zone for zone in ZONES if zone not in ("Pacific/Chatham", "Australia/Lord_Howe")]
)
def test_fixed_times_agree_with_cronsim(zone: str) -> None:
    # Two zones are left out: cronsim misses runs where the clocks move by half an hour and may loop for ever
    # where the offset is not of whole half hours.
    for moment in transitions(zone):
        start = moment - 26 * HOUR
        for expression in schedules_around(zone, moment):
            if Cron(expression).fixed_times:
                oracle = islice(CronSim(expression, start.astimezone(ZoneInfo(zone))), 8)
                theirs = sorted({slot.astimezone(UTC) for slot in oracle})
                assert list(islice(runs(expression, zone, start), len(theirs))) == theirs, expression


def first_runs(expression: str, zone: str, after: str, count: int) -> list[str]:
    return [f"{slot:%m-%d %H:%M}" for slot in islice(runs(expression, zone, utc(after)), count)]


# Europe/Berlin, 2026: from 2:00 to 3:00 on 29 March, from 3:00 to 2:00 on 25 October, both at 1:00 UTC.
GAP, FOLD = "2026-03-29T00:00", "2026-10-24T22:00"


def test_a_fixed_time_inside_the_gap_runs_once_at_the_first_instant_after_it() -> None:
    assert first_runs("28 2 * * *", "Europe/Berlin", GAP, 2) == ["03-29 01:00", "03-30 00:28"]


def test_several_fixed_times_inside_one_gap_run_once() -> None:
    assert first_runs("0,10,59 2 * * *", "Europe/Berlin", GAP, 2) == ["03-29 01:00", "03-30 00:00"]


def test_a_fixed_time_at_the_end_of_the_gap_and_one_inside_it_are_one_slot() -> None:
    assert first_runs("30 2,3 * * *", "Europe/Berlin", GAP, 2) == ["03-29 01:00", "03-29 01:30"]
    assert first_runs("0 2,3 * * *", "Europe/Berlin", GAP, 2) == ["03-29 01:00", "03-30 00:00"]


def test_a_fixed_time_that_comes_twice_runs_the_first_time_only() -> None:
    assert first_runs("30 2 * * *", "Europe/Berlin", FOLD, 2) == ["10-25 00:30", "10-26 01:30"]
    assert first_runs("30 2 * * *", "Europe/Berlin", "2026-10-25T00:45", 1) == ["10-26 01:30"]


def test_a_schedule_of_elapsed_time_skips_the_gap() -> None:
    assert first_runs("*/20 2 * * *", "Europe/Berlin", GAP, 1) == ["03-30 00:00"]
    assert first_runs("30 * * * *", "Europe/Berlin", GAP, 3) == ["03-29 00:30", "03-29 01:30", "03-29 02:30"]


def test_a_schedule_of_elapsed_time_runs_in_both_passes_of_a_repeated_hour() -> None:
    slots = ["10-25 00:00", "10-25 00:30", "10-25 01:00", "10-25 01:30", "10-26 01:00"]
    assert first_runs("*/30 2 * * *", "Europe/Berlin", FOLD, 5) == slots
    assert first_runs("*/30 2 * * *", "Europe/Berlin", "2026-10-25T00:45", 3) == slots[2:]


def test_hourly_runs_25_times_on_the_day_of_25_hours_and_23_times_on_the_day_of_23() -> None:
    for day, hours in (("2026-10-24T22:00", 25), ("2026-03-28T23:00", 23)):
        tomorrow = utc(day) + hours * HOUR
        slots = list(islice(runs("@hourly", "Europe/Berlin", utc(day) - MINUTE), hours + 1))
        assert slots[hours] == tomorrow
        assert f"{tomorrow.astimezone(ZoneInfo('Europe/Berlin')):%d %H:%M}" in ("26 00:00", "30 00:00")


def test_midnight_that_is_skipped_runs_at_the_first_instant_of_the_day() -> None:
    assert first_runs("@daily", "America/Santiago", "2026-09-05T12:00", 2) == ["09-06 04:00", "09-07 03:00"]


def test_a_gap_of_half_an_hour_is_a_gap() -> None:
    assert first_runs("10 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00", 2) == [
        "10-03 15:30",
        "10-04 15:10",
    ]


def test_a_day_that_a_country_skipped_runs_once_when_the_next_day_begins() -> None:
    assert first_runs("0 12 * * *", "Pacific/Apia", "2011-12-29T00:00", 3) == [
        "12-29 22:00",
        "12-30 10:00",
        "12-30 22:00",
    ]
    assert first_runs("* 12 30 12 *", "Pacific/Apia", "2011-12-29T00:00", 1) == ["12-29 22:00"]


def test_no_zone_and_no_moment_of_its_history_makes_a_schedule_fail() -> None:
    moments = [
        datetime.min.replace(tzinfo=UTC),
        *(utc(f"{year}-10-30") for year in (1883, 1911, 1941, 1969, 1995)),
    ]
    for zone in sorted(available_timezones() - {"localtime", "Factory"}):
        for moment in moments:
            for expression in ("30 2 * * *", "*/30 2 * * *"):
                slots = list(islice(runs(expression, zone, moment), 3))
                assert slots == sorted(set(slots))
                assert len(slots) == 3
                assert slots[0] > moment
