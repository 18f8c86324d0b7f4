"""The grammar of schedules: what is accepted, and what it means.

`Cron` and `schedules` say the grammar a second time, on purpose in another way than domain/schedule.py; the
daylight-saving tests use them too.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from itertools import islice

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from domain.errors import InvalidSchedule
from domain.schedule import ALIASES, next_run, parse_schedule, parse_timezone, runs, validate_schedule

MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
WEEKDAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]
NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)  # a Thursday


class Cron:
    """A schedule of the grammar as a predicate: which days, and which times of such a day, match."""

    def __init__(self, expression: str) -> None:
        text = {"@hourly": "0 * * * *", "@daily": "0 0 * * *", "@weekly": "0 0 * * 0"}.get(
            expression, expression
        )
        minute, hour, self._day, month, self._weekday = text.upper().split()
        self.fixed_times = minute[0] != "*" and hour[0] != "*"
        self.minutes = {n for n in range(60) if self._holds(minute, n)}
        self.hours = {n for n in range(24) if self._holds(hour, n)}
        self._months = {n + 1 for n in range(12) if self._holds(month, n + 1, names=MONTHS, first=1)}
        self._days = {n for n in range(1, 32) if self._holds(self._day, n, first=1)}
        self._weekdays = {n % 7 for n in range(8) if self._holds(self._weekday, n, names=WEEKDAYS)}
        self._known: dict[date, bool] = {}

    @staticmethod
    def _holds(field: str, n: int, names: list[str] | None = None, first: int = 0) -> bool:
        def number(text: str) -> int:
            return names.index(text) + first if names and text in names else int(text)

        for item in field.split(","):
            span, _, step = item.partition("/")
            if "#" in item or item == "L":
                continue
            low, _, high = span.replace("*", f"{first}-99").partition("-")
            end = 7 if high == "SUN" and number(low) else number(high or low)
            if names is WEEKDAYS and span == "*" and n == 7:
                continue  # the week has seven days, though Sunday has two numbers
            if number(low) <= n <= end and (n - number(low)) % int(step or 1) == 0:
                return True
        return False

    def has_day(self, day: date) -> bool:
        if day not in self._known:
            last = (day + timedelta(days=1)).day == 1
            weekday = day.isoweekday() % 7
            nth = {f"{name}#{(day.day - 1) // 7 + 1}" for name in (weekday, weekday or 7, WEEKDAYS[weekday])}
            by_month_day = day.day in self._days or (last and "L" in self._day.split(","))
            by_weekday = weekday in self._weekdays or not nth.isdisjoint(self._weekday.split(","))
            either = self._day[0] != "*" and self._weekday[0] != "*"
            self._known[day] = day.month in self._months and (
                by_month_day or by_weekday if either else by_month_day and by_weekday
            )
        return self._known[day]

    def has(self, wall: datetime) -> bool:
        return wall.minute in self.minutes and wall.hour in self.hours and self.has_day(wall.date())

    @cached_property
    def fires(self) -> bool:
        """Whether any day of 28 years matches: they begin on each weekday, with and without a leap day."""
        return any(self.has_day(date(1972, 1, 1) + timedelta(days=n)) for n in range(28 * 366))

    def after(self, moment: datetime) -> Iterator[datetime]:
        """Slots in UTC, day by day and minute by minute."""
        day = moment.date()
        while True:
            if self.has_day(day):
                for hour in sorted(self.hours):
                    for minute in sorted(self.minutes):
                        slot = datetime(day.year, day.month, day.day, hour, minute, tzinfo=UTC)
                        if slot > moment:
                            yield slot
            day += timedelta(days=1)


def _values(low: int, high: int, names: list[str]) -> st.SearchStrategy[str]:
    numbers = st.integers(low, high).map(str)
    mixed_case = st.sampled_from([*names, *(name.lower() for name in names)]) if names else numbers
    return numbers | mixed_case


@st.composite
def _ranges(draw: st.DrawFn, low: int, high: int, names: list[str]) -> str:
    first = draw(st.integers(low, high))
    last = draw(st.integers(first, high))
    step = draw(st.none() | st.integers(1, last - first + 1))
    named = bool(names) and last - low < len(names) and draw(st.booleans())
    text = f"{names[first - low]}-{names[last - low].lower()}" if named else f"{first}-{last}"
    return text if step is None else f"{text}/{step}"


def fields(low: int, high: int, *extra: str, names: list[str] | None = None) -> st.SearchStrategy[str]:
    names = names or []
    size = len(names) or high - low + 1
    stepped = st.integers(1, size).map("*/{}".format)
    item = _values(low, high, names) | _ranges(low, high, names) | stepped
    for text in extra:
        item |= st.just(text)
    return st.just("*") | stepped | item | st.lists(item, min_size=2, max_size=4).map(",".join)


_NTH = st.builds("{}#{}".format, _values(0, 7, WEEKDAYS), st.integers(1, 5))
_DAYS_OF_WEEK = fields(0, 7, names=WEEKDAYS)
MINUTES, HOURS = fields(0, 59), fields(0, 23)
DAYS = st.tuples(
    fields(1, 31, "L", "l"),
    st.just("*") | fields(1, 12, names=MONTHS),
    _DAYS_OF_WEEK | st.builds("{},{}".format, _DAYS_OF_WEEK.filter(lambda text: text != "*"), _NTH) | _NTH,
).map(" ".join)


def schedules(days: st.SearchStrategy[str] = DAYS) -> st.SearchStrategy[str]:
    return st.builds("{} {} {}".format, MINUTES, HOURS, days).filter(lambda text: len(text) <= 100)


def first_runs(expression: str, count: int = 3, after: datetime = NEW_YEAR) -> list[str]:
    return [f"{slot:%Y-%m-%d %H:%M}" for slot in islice(runs(expression, "UTC", after), count)]


def test_28_past_2_runs_at_28_past_2() -> None:
    assert first_runs("28 2 * * *", 2) == ["2026-01-01 02:28", "2026-01-02 02:28"]
    for slot in islice(runs("28 2 * * *", "Europe/Berlin", NEW_YEAR), 60):
        assert f"{slot.astimezone(parse_timezone('Europe/Berlin')):%H:%M}" == "02:28"


@settings(max_examples=500)
@given(schedules(), st.datetimes(datetime(1971, 1, 1), datetime(2150, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
@example("0 0 29 2 */7", datetime(2088, 3, 1, tzinfo=UTC))
@example("0 0 29 2 *", datetime(2096, 3, 1, tzinfo=UTC))
@example("0 0 */28 2 6#5", datetime(2026, 1, 1, tzinfo=UTC))
@example("0 0 */30 * 1#2", datetime(2026, 1, 1, tzinfo=UTC))
def test_every_schedule_of_the_grammar_runs_exactly_when_its_fields_match(
    expression: str, after: datetime
) -> None:
    cron = Cron(expression)
    if not cron.fires:
        with pytest.raises(InvalidSchedule, match="never fires"):
            validate_schedule(expression)
        return
    expected = list(islice(cron.after(after), 4))
    assert list(islice(runs(expression, "UTC", after), 4)) == expected
    assert next_run(expression, "UTC", after) == expected[0]
    assert next_run(expression, "UTC", expected[0]) == expected[1]


@pytest.mark.parametrize(
    ("expression", "same_as"),
    [
        ("5-5 * * * *", "5 * * * *"),
        ("*/1 * * * *", "* * * * *"),
        ("0-59/59 * * * *", "0,59 * * * *"),
        ("*/60 * * * *", "0 * * * *"),
        ("0 */24 * * *", "0 0 * * *"),
        ("05 009 * * *", "5 9 * * *"),
        ("5,5,5-5 9 * * *", "5 9 * * *"),
        ("0 0 * * 7", "0 0 * * 0"),
        ("0 0 * * sun", "0 0 * * SUN"),
        ("0 0 * * MON-FRI", "0 0 * * 1,2,3,4,5"),
        ("0 0 * * 5-7", "0 0 * * 5,6,0"),
        ("0 0 * * Fri-Sun", "0 0 * * 5,6,0"),
        ("0 0 * * SUN-SUN", "0 0 * * 0"),
        ("0 0 * * SUN-TUE", "0 0 * * 0,1,2"),
        ("0 0 * * 7-7", "0 0 * * 0"),
        ("0 0 * * 0-7", "0 0 * * *"),
        ("0 0 * * 0-6", "0 0 * * *"),
        ("0 0 * * */7", "0 0 * * 0"),
        ("0 0 * jan-DEC *", "0 0 * * *"),
        ("0 0 1-31 * *", "0 0 * * *"),
        ("0 0 1-31,L * *", "0 0 * * *"),
        ("0 0 * * 7#1", "0 0 * * Sun#1"),
        ("\t 0  0 \t* *\t* ", "0 0 * * *"),
        ("@DAILY", "0 0 * * *"),
        (" @Weekly ", "0 0 * * 0"),
    ],
)
def test_two_ways_to_write_a_schedule_mean_the_same(expression: str, same_as: str) -> None:
    assert first_runs(expression, 70) == first_runs(same_as, 70)


@pytest.mark.parametrize("alias", ALIASES)
def test_an_alias_means_its_five_fields(alias: str) -> None:
    assert first_runs(alias, 5) == first_runs(ALIASES[alias], 5)


def test_l_is_the_last_day_of_each_month_also_in_a_list() -> None:
    assert first_runs("0 0 L * *") == ["2026-01-31 00:00", "2026-02-28 00:00", "2026-03-31 00:00"]
    assert first_runs("0 0 1,L * *") == ["2026-01-31 00:00", "2026-02-01 00:00", "2026-02-28 00:00"]
    assert first_runs("0 0 30,l 2 *") == ["2026-02-28 00:00", "2027-02-28 00:00", "2028-02-29 00:00"]


def test_a_number_sign_is_the_nth_weekday_also_beside_plain_days() -> None:
    assert first_runs("0 0 * * MON#1") == ["2026-01-05 00:00", "2026-02-02 00:00", "2026-03-02 00:00"]
    assert first_runs("0 0 * * 1#5") == ["2026-03-30 00:00", "2026-06-29 00:00", "2026-08-31 00:00"]
    assert first_runs("0 0 * 1 1#1,1#3,fri", 4) == [
        "2026-01-02 00:00",
        "2026-01-05 00:00",
        "2026-01-09 00:00",
        "2026-01-16 00:00",
    ]


def test_a_restricted_day_of_month_and_day_of_week_match_either_way() -> None:
    assert first_runs("0 0 13 * 5") == ["2026-01-02 00:00", "2026-01-09 00:00", "2026-01-13 00:00"]
    assert first_runs("0 0 13 * 5#1") == ["2026-01-02 00:00", "2026-01-13 00:00", "2026-02-06 00:00"]
    assert first_runs("0 0 L * 1#1") == ["2026-01-05 00:00", "2026-01-31 00:00", "2026-02-02 00:00"]
    assert first_runs("0 0 31 2 1") == ["2026-02-02 00:00", "2026-02-09 00:00", "2026-02-16 00:00"]
    assert parse_schedule("0 0 13 * 5").either_day


def test_a_day_field_that_starts_with_a_star_does_not_restrict_so_both_must_match() -> None:
    assert first_runs("0 0 */2 * 5") == ["2026-01-09 00:00", "2026-01-23 00:00", "2026-02-13 00:00"]
    assert first_runs("0 0 1,15 * */2") == ["2026-01-15 00:00", "2026-02-01 00:00", "2026-02-15 00:00"]
    assert first_runs("0 0 */7 * 1#2", 2) == ["2026-06-08 00:00", "2027-02-08 00:00"]
    assert not parse_schedule("0 0 */2 * 5").either_day
    assert not parse_schedule("@monthly").either_day


def test_the_rarest_schedule_is_found_and_the_end_of_the_calendar_is_none() -> None:
    assert first_runs("0 0 29 2 */7", 1, datetime(2088, 2, 29, tzinfo=UTC)) == ["2128-02-29 00:00"]
    assert next_run("* * * * *", "UTC", datetime(9989, 12, 31, 23, 58, tzinfo=UTC)) is not None
    for zone in ("UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago", "Europe/Berlin"):
        assert next_run("0 0 29 2 */7", zone, datetime(9985, 1, 1, tzinfo=UTC)) is None
        for moment in (datetime(9989, 12, 31, 23, 59, tzinfo=UTC), datetime.max.replace(tzinfo=UTC)):
            assert next_run("* * * * *", zone, moment) is None
            assert next_run("0 0 1 1 *", zone, moment) is None


@pytest.mark.parametrize("weekday", range(7))
def test_a_leap_day_on_any_weekday_fires(weekday: int) -> None:
    slot = next_run(f"0 0 */28 2 {weekday}#5", "UTC", NEW_YEAR)
    assert slot
    assert (slot.month, slot.day, slot.isoweekday() % 7) == (2, 29, weekday)


def test_seconds_are_cut_off_only_downwards() -> None:
    assert first_runs("* * * * *", 1, datetime(2026, 1, 1, 0, 0, 59, 999_999, UTC)) == ["2026-01-01 00:01"]
    assert first_runs("* * * * *", 1, datetime(2025, 12, 31, 23, 59, 59, 999_999, UTC)) == [
        "2026-01-01 00:00"
    ]


def test_two_iterations_of_one_schedule_do_not_disturb_each_other() -> None:
    one, other = runs("*/5 * * * *", "UTC", NEW_YEAR), runs("*/5 * * * *", "UTC", NEW_YEAR)
    ahead = list(islice(one, 3))
    assert list(islice(other, 3)) == ahead
    assert next(one) == next(other)


def test_a_naive_datetime_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="aware"):
        next_run("* * * * *", "UTC", NEW_YEAR.replace(tzinfo=None))
