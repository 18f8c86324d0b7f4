"""A schedule in words.

cron-descriptor has the words, for what it is right about. It is wrong about steps that do not go round evenly
("every 7 minutes" for minutes 0, 7 ... 56), about several minutes in some hours, and about days of which several
rules decide; these get a plainer sentence of ours. So fields are given to it as the values that they mean, never
as they were written.
"""

from collections.abc import Sequence

from domain.schedule import Schedule, parse_schedule

MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
WEEKDAYS = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]
ORDINALS = ["first", "second", "third", "fourth", "fifth"]

EVERY_MINUTE, EVERY_HOUR, EVERY_DAY, EVERY_MONTH, EVERY_WEEKDAY = 60, 24, 31, 12, 7
MOST_TIMES = 12
"""So many times of day are listed; of more, minutes and hours are told apart."""


def in_words(expression: str) -> str:
    """What a schedule means, in English and without a full stop; raises InvalidSchedule."""
    schedule = parse_schedule(expression)
    minutes, hours, days, months, weekdays = schedule.values
    fields = (
        canonical(numbers(minutes), EVERY_MINUTE, may_step=True),
        canonical(numbers(hours), EVERY_HOUR, may_step=len(minutes) == 1),
        canonical_days(days, EVERY_DAY),
        canonical(numbers(months), EVERY_MONTH),
        canonical_days(weekdays, EVERY_WEEKDAY),
    )
    if not schedule.either_day and is_described_well(fields):
        return described(" ".join(fields))
    parts = (time_of(fields[0], numbers(minutes), numbers(hours)), days_of(schedule), months_of(months))
    return ", ".join(filter(None, parts))


def described(expression: str) -> str:
    from cron_descriptor import ExpressionDescriptor, Options  # 50 ms, only for those who ask

    options = Options()
    options.locale_code = "en_US"
    options.use_24hour_time_format = True
    words: str = ExpressionDescriptor(expression, options).get_description()
    return words


def is_described_well(fields: Sequence[str]) -> bool:
    minutes, hours, days, _, weekdays = fields
    is_one_minute, is_list = minutes.isdigit(), "," in minutes
    hours_are_apart = "," in hours or "/" in hours
    return (
        (is_one_minute or not hours_are_apart)
        and not (is_list and hours.isdigit())
        and "*" in (days, weekdays)
        and "?" not in (days, weekdays)
    )


def numbers(values: frozenset[str]) -> list[int]:
    return sorted(int(value) for value in values if value.isdigit())


def canonical(values: Sequence[int], every: int, *, may_step: bool = False) -> str:
    """Values as a field: all, an even step, a range of three or more, or a list."""
    first, last, count = values[0], values[-1], len(values)
    if count == every:
        return "*"
    if may_step and count > 2 and every % count == 0 and [*values] == [*range(0, every, every // count)]:
        return f"*/{every // count}"
    if count > 2 and last - first == count - 1:
        return f"{first}-{last}"
    return ",".join(map(str, values))


def canonical_days(values: frozenset[str], every: int) -> str:
    """The same for days: `L` and `1#2` stand alone; '?' for what cron-descriptor has no words for."""
    if len(values) == 1:
        return next(iter(values))
    return canonical(numbers(values), every) if all(value.isdigit() for value in values) else "?"


def time_of(field: str, minutes: Sequence[int], hours: Sequence[int]) -> str:
    if len(minutes) * len(hours) <= MOST_TIMES:
        return f"At {listed([f'{hour:02}:{minute:02}' for hour in hours for minute in minutes])}"
    if field == "*":
        start = "Every minute"
    elif field.startswith("*/"):
        start = f"Every {field.removeprefix('*/')} minutes"
    else:
        start = f"At {counted('minute', minutes)}"
    of_hours = "every hour" if len(hours) == EVERY_HOUR else f"the {counted('hour', hours)}"
    return f"{start} of {of_hours}"


def days_of(schedule: Schedule) -> str:
    _, _, days, _, weekdays = schedule.values
    is_every_day, is_every_weekday = len(numbers(days)) == EVERY_DAY, len(numbers(weekdays)) == EVERY_WEEKDAY
    if schedule.either_day and (is_every_day or is_every_weekday):
        return "every day"
    of_month = [f"on {counted('day', numbers(days))} of the month"] if numbers(days) else []
    of_month += ["on the last day of the month"] if "L" in days else []
    of_week = [f"on {weekdays_of(numbers(weekdays))}"] if numbers(weekdays) else []
    of_week += [f"on {nth}" for nth in nth_weekdays(weekdays)]
    in_month, in_week = listed(of_month), listed(of_week)
    if schedule.either_day:
        return f"{in_month}, or {in_week}"
    if is_every_day and is_every_weekday:
        return ""
    if is_every_day or is_every_weekday:
        return in_week if is_every_day else in_month
    matching = [weekdays_of(numbers(weekdays))] if numbers(weekdays) else []
    return f"{in_month}, if that is {listed([*matching, *nth_weekdays(weekdays)], 'or')}"


def weekdays_of(days: Sequence[int]) -> str:
    if "-" in canonical(days, EVERY_WEEKDAY):
        return f"a day from {WEEKDAYS[days[0]]} to {WEEKDAYS[days[-1]]}"
    return listed([f"a {WEEKDAYS[day]}" for day in days], "or")


def nth_weekdays(values: frozenset[str]) -> list[str]:
    nth = sorted(value.split("#") for value in values if "#" in value)
    return [f"the {ORDINALS[int(n) - 1]} {WEEKDAYS[int(day)]} of the month" for day, n in nth]


def months_of(values: frozenset[str]) -> str:
    months = [MONTHS[month - 1] for month in numbers(values)]
    return "" if len(months) == EVERY_MONTH else f"in {listed(months)}"


def counted(noun: str, values: Sequence[int]) -> str:
    return f"{noun}{'s' if len(values) > 1 else ''} {listed([str(value) for value in values])}"


def listed(texts: Sequence[str], word: str = "and") -> str:
    return f"{', '.join(texts[:-1])} {word} {texts[-1]}" if len(texts) > 1 else "".join(texts)
