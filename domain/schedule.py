"""Cron schedules and the instants they mean.

The grammar is ours; croniter only walks the calendar. Five fields (minute, hour, day of month, month, day of
week) or one of ALIASES. A field is `*`, a number, a name (JAN, MON), a range `a-b`, a step `*/n` or `a-b/n`,
or a list of these; `L` is the last day of the month, `d#n` the n-th weekday of the month; Sunday is 0 or 7.
If neither day of month nor day of week starts with `*`, either may match; otherwise both must.

Daylight saving: if neither the minute nor the hour field starts with `*`, the schedule has fixed times: one
that the clocks skip runs at the first instant after the gap, one that comes twice runs the first time. Every
other schedule follows elapsed time: nothing runs in a gap, both passes of a repeated hour run.
"""

import calendar
import copy
import heapq
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from functools import cache, lru_cache
from zoneinfo import ZoneInfo, available_timezones

from croniter import croniter

from domain.errors import InvalidSchedule, InvalidTimezone

MAX_LENGTH = 100
ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}

_EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
_LATEST = datetime(9990, 1, 1, tzinfo=UTC)
_RAREST_YEARS = 40  # 29 February on a given weekday, across a century without a leap day


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    low: int
    high: int
    names: str = ""  # in order, from `low`
    sunday: int | None = None  # the second number of Sunday, in the day of week

    @property
    def all_values(self) -> frozenset[str]:
        return frozenset(map(str, range(self.low, self.high + 1)))

    @property
    def advice(self) -> str:
        numbers = f"{self.low} to {self.sunday or self.high}"
        return f"use {numbers} or {self.names[:3]} to {self.names[-3:]}" if self.names else f"use {numbers}"


_MINUTE = _Field("minute", 0, 59)
_HOUR = _Field("hour", 0, 23)
_DAY_OF_MONTH = _Field("day of month", 1, 31)
_MONTH = _Field("month", 1, 12, "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC")
_DAY_OF_WEEK = _Field("day of week", 0, 6, "SUN MON TUE WED THU FRI SAT", sunday=7)
_FIELDS = (_MINUTE, _HOUR, _DAY_OF_MONTH, _MONTH, _DAY_OF_WEEK)


@dataclass(frozen=True, slots=True)
class Schedule:
    """A parsed schedule; `runs` says what it means.

    `values` are those of the five fields, as numbers, with 'L' for the last day and '1#2' for the second Monday;
    Sunday is 0. `either_day`: day of month and day of week are both restricted, and either matches.
    `walkers` are templates, one per way in which a day can match: copy them, never advance them.
    """

    values: tuple[frozenset[str], ...]
    fixed_times: bool
    either_day: bool
    walkers: tuple["croniter[datetime]", ...]


def validate_schedule(expression: str) -> None:
    """Raise InvalidSchedule unless the expression is of the grammar and fires at least once."""
    parse_schedule(expression)


@lru_cache(maxsize=4096)
def parse_schedule(expression: str) -> Schedule:
    """The schedule; raises InvalidSchedule as `validate_schedule` does."""
    if len(expression) > MAX_LENGTH:
        raise InvalidSchedule(
            f"Schedule is {len(expression)} characters long; use at most {MAX_LENGTH}, with ranges and steps "
            "in place of long lists."
        )
    try:
        return _compile(_split(expression))
    except InvalidSchedule as problem:
        raise InvalidSchedule(f"Schedule {expression!a}: {problem}.") from None


@cache
def parse_timezone(name: str) -> ZoneInfo:
    """The IANA time zone of exactly this name; raises InvalidTimezone."""
    if name in timezone_names():
        return ZoneInfo(name)
    if not name:
        raise InvalidTimezone("Time zone is empty; use an IANA name such as 'Europe/Berlin' or 'UTC'.")
    if len(name) > MAX_LENGTH:
        raise InvalidTimezone(f"Time zone is longer than {MAX_LENGTH} characters; use an IANA name.")
    likely = _likely_timezone(name.strip().lower().replace(" ", "_"))
    hint = f"did you mean '{likely}'?" if likely else "use an IANA name such as 'Europe/Berlin'."
    raise InvalidTimezone(f"Time zone {name!a} is unknown; {hint}")


def next_run(expression: str, timezone: str, after: datetime) -> datetime | None:
    """The first slot strictly after `after` (aware), in UTC; None when there is none before the year 9990.

    Raises InvalidSchedule or InvalidTimezone, as `runs` does.
    """
    return next(runs(expression, timezone, after), None)


def runs(expression: str, timezone: str, after: datetime) -> Iterator[datetime]:
    """All slots strictly after `after` (aware; before 1900 counts as 1900), in UTC, in order, lazily."""
    schedule, zone = parse_schedule(expression), parse_timezone(timezone)
    if after.tzinfo is None:
        raise ValueError("after must be an aware datetime")
    if after >= _LATEST:
        return iter(())
    after = max(after, _EARLIEST).astimezone(UTC)
    instants = _fixed_instants if schedule.fixed_times else _elapsed_instants
    return _strictly_increasing(instants(schedule, zone, after), after)


def _strictly_increasing(instants: Iterator[datetime], after: datetime) -> Iterator[datetime]:
    for instant in instants:
        if instant >= _LATEST:
            return
        if instant > after:
            yield instant
            after = instant


def _fixed_instants(schedule: Schedule, zone: ZoneInfo, after: datetime) -> Iterator[datetime]:
    for wall in _walls(schedule, after.astimezone(zone).replace(tzinfo=None)):
        first, second = _both_passes(wall, zone)
        yield first if first <= second else _end_of_gap(wall, zone, second, first)


def _elapsed_instants(schedule: Schedule, zone: ZoneInfo, after: datetime) -> Iterator[datetime]:
    start = after.astimezone(zone).replace(tzinfo=None)
    first, second = _both_passes(start, zone)
    repeated: deque[datetime] = deque()  # second passes, held back until the first passes are over
    for wall in _walls(schedule, start - max(second - first, timedelta())):
        first, second = _both_passes(wall, zone)
        while repeated and repeated[0] < first:
            yield repeated.popleft()
        if first <= second:
            yield first
        if first < second:
            repeated.append(second)
    yield from repeated


def _both_passes(wall: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The instants of a local time: equal; first < second if it comes twice; first > second if skipped."""
    local = wall.replace(tzinfo=zone, fold=0)
    return local.astimezone(UTC), local.replace(fold=1).astimezone(UTC)


def _end_of_gap(wall: datetime, zone: ZoneInfo, before: datetime, behind: datetime) -> datetime:
    """The first instant, to the second, that shows a later local time than one that is skipped."""
    while (span := (behind - before) // timedelta(seconds=1)) > 1:
        middle = before + timedelta(seconds=span // 2)
        if middle.astimezone(zone).replace(tzinfo=None) > wall:
            behind = middle
        else:
            before = middle
    return behind


def _walls(schedule: Schedule, start: datetime) -> Iterator[datetime]:
    """Matching local times after `start`, in the order of the calendar, some of them twice; all naive."""
    return heapq.merge(*(_walk(walker, start) for walker in schedule.walkers))


def _walk(template: "croniter[datetime]", start: datetime) -> Iterator[datetime]:
    walker = copy.copy(template)
    walker.set_current(start)
    while True:
        try:
            wall = walker.get_next()
        except (ValueError, OverflowError):  # nothing for _RAREST_YEARS, or the calendar ends
            return
        yield wall


@cache
def timezone_names() -> frozenset[str]:
    """The IANA names that a task may have."""
    return frozenset(available_timezones() - {"localtime", "posixrules", "Factory"})


def _likely_timezone(name: str) -> str | None:
    """What a name in lower case was meant to be; abbreviations and offsets are too easy to get wrong."""
    names = {known.lower(): known for known in sorted(timezone_names())}
    if name in names:
        return names[name]
    places = {text: known for text, known in names.items() if "/" in text and not text.startswith("etc/")}
    places |= {text.rpartition("/")[2]: known for text, known in places.items()}
    close = get_close_matches(name, places, n=1, cutoff=0.8)
    return places[close[0]] if close else None


def _split(expression: str) -> list[str]:
    if re.search(r"[^\t -~]", expression):
        raise InvalidSchedule(
            "it has a character that no schedule has; use one line of letters, digits, blanks and * , - / #"
        )
    text = expression.strip()
    if text.startswith("@"):
        if text.lower() not in ALIASES:
            raise InvalidSchedule(f"{text!r} is not supported; use five fields or one of {' '.join(ALIASES)}")
        text = ALIASES[text.lower()]
    fields = text.split()
    if not fields:
        raise InvalidSchedule(
            "it is empty; use five fields, such as '0 9 * * MON-FRI' for 9:00 on working days"
        )
    if len(fields) != len(_FIELDS):
        count = "1 field" if len(fields) == 1 else f"{len(fields)} fields"
        raise InvalidSchedule(
            f"it has {count}; use exactly five: minute, hour, day of month, month, day of week "
            "(no seconds, no year, no blanks within a field)"
        )
    return fields


def _compile(fields: list[str]) -> Schedule:
    minutes, hours, days, months, weekdays = (
        frozenset().union(*(_item(item, text, field) for item in text.split(",")))
        for text, field in zip(fields, _FIELDS, strict=True)
    )
    either_day = not fields[2].startswith("*") and not fields[4].startswith("*")
    # croniter neither mixes plain and n-th weekdays nor lets a day of month or an n-th weekday match: split.
    nth = frozenset(day for day in weekdays if "#" in day)
    by_weekday = [part for part in (weekdays - nth, nth) if part]
    if either_day:
        pairs = [(days, _DAY_OF_WEEK.all_values)] + [(_DAY_OF_MONTH.all_values, part) for part in by_weekday]
    else:
        pairs = [(days, part) for part in by_weekday]
    walkers = tuple(
        croniter(
            " ".join(
                "*" if field.all_values <= values else ",".join(sorted(values))
                for field, values in zip(_FIELDS, (minutes, hours, days, months, weekdays), strict=True)
            ),
            datetime(2000, 1, 1),  # noqa: DTZ001 - replaced in every copy; croniter walks local time
            ret_type=datetime,
            day_or=False,
            max_years_between_matches=_RAREST_YEARS,
        )
        for days, weekdays in pairs
        if _ever_matches(days, months, weekdays)
    )
    if not walkers:
        raise InvalidSchedule(
            "its day of month, month and day of week never meet, so it never fires; change one of them"
        )
    return Schedule(
        values=(minutes, hours, days, months, weekdays),
        fixed_times=not fields[0].startswith("*") and not fields[1].startswith("*"),
        either_day=either_day,
        walkers=walkers,
    )


def _ever_matches(days: frozenset[str], months: frozenset[str], weekdays: frozenset[str]) -> bool:
    """Tried on 28 years without a skipped leap day: they hold every kind of year there is."""
    for year in range(2000, 2028):
        for month in map(int, months):
            first_weekday, length = calendar.monthrange(year, month)
            for day in range(1, length + 1):
                weekday = (first_weekday + day) % 7
                if (str(day) in days or (day == length and "L" in days)) and (
                    str(weekday) in weekdays or f"{weekday}#{(day + 6) // 7}" in weekdays
                ):
                    return True
    return False


def _item(item: str, text: str, field: _Field) -> frozenset[str]:
    """The values of one item of a field's list, as croniter writes them: '5', 'L', '1#2'."""
    if not item:
        raise InvalidSchedule(f"{field.name} {text!r} has a comma with nothing beside it; remove the comma")
    if field is _DAY_OF_MONTH and item in ("L", "l"):
        return frozenset("L")
    if field is _DAY_OF_WEEK and "#" in item:
        return _nth_weekday(item)
    span, slash, step = item.partition("/")
    if span == "*":
        if not slash and item != text:
            raise InvalidSchedule(
                f"{field.name} {text!r} has '*' in a list; use '*' alone, it covers the list"
            )
        low, high = field.low, field.high
    elif "-" in span:
        low, high = _range(span, item, field)
    else:
        low = high = _number(span, item, field)
        if slash:
            top = field.sunday or field.high
            better = f"{low}-{top}/{step}" if step.isdigit() and 0 < int(step) <= top - low else f"{low}"
            raise InvalidSchedule(f"{field.name} {item!r} has a step without a range; use {better}")
    every = _step(step, low, high, item, field) if slash else 1
    return frozenset(str(0 if value == field.sunday else value) for value in range(low, high + 1, every))


def _range(span: str, item: str, field: _Field) -> tuple[int, int]:
    first, last = span.split("-", 1)
    if not first or not last:
        raise InvalidSchedule(
            f"{field.name} {item!r} is not a whole range; use a first and a last value, as in 1-5"
        )
    low, high = _number(first, item, field), _number(last, item, field)
    if last.upper() == "SUN" and low > 0:
        high = 7
    if low > high:
        wrapped = [(low, field.high)] if low <= field.high else []
        parts = ",".join(f"{a}-{b}" if a < b else f"{a}" for a, b in [*wrapped, (field.low, high)])
        raise InvalidSchedule(f"{field.name} range {span!r} runs backwards; use {parts}")
    return low, high


def _step(step: str, low: int, high: int, item: str, field: _Field) -> int:
    if not step.isdigit() or int(step) == 0:
        raise InvalidSchedule(
            f"{field.name} {item!r} needs a step that is a number; use 1 or more after the '/'"
        )
    if int(step) > high - low + 1:
        raise InvalidSchedule(
            f"{field.name} step {step} is larger than its range {low}-{high}; use at most {high - low + 1}"
        )
    return int(step)


def _nth_weekday(item: str) -> frozenset[str]:
    name, n = item.split("#", 1)
    if "-" in name or name == "*":
        raise InvalidSchedule(f"day of week {item!r} has '#' behind a range; use a list, as in MON#1,TUE#1")
    weekday = _number(name, item, _DAY_OF_WEEK) % 7
    if not re.fullmatch("[1-5]", n):
        raise InvalidSchedule(f"day of week {item!r} has no such week; use 1 to 5 after the '#'")
    return frozenset([f"{weekday}#{n}"])


def _number(text: str, item: str, field: _Field) -> int:
    names = field.names.split()
    if text.upper() in names:
        return field.low + names.index(text.upper())
    if text.isdigit():  # ASCII digits: _split has refused all others
        number = int(text)
        if not field.low <= number <= (field.sunday or field.high):
            raise InvalidSchedule(f"{field.name} {text} is out of range; {field.advice}")
        return number
    if item == "?":
        raise InvalidSchedule(f"{field.name} '?' is not supported; use *")
    if re.match(r"[HhRr]\b", item):
        raise InvalidSchedule(
            f"{field.name} {item!r} is hashed or random, which is not supported; {field.advice}"
        )
    if "#" in item:
        raise InvalidSchedule(
            f"{field.name} {item!r} is not supported; '#' stands between a weekday and a number, as in MON#1"
        )
    if re.fullmatch("[Ll]|[Ll][Ww0-9-].*|[0-9]+[LlWw]|[0-9]+-[Ll]", item):
        raise InvalidSchedule(
            f"{field.name} {item!r} is not supported; only 'L' alone, in the day of month, means the last day"
        )
    if text[:3].upper() in names:
        raise InvalidSchedule(f"{field.name} {text!r} is not a name; use {text[:3].upper()}")
    raise InvalidSchedule(f"{field.name} {item!r} is not understood; {field.advice}")
