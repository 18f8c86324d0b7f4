"""A schedule in words: never wrong, and never the same words for two meanings."""

import random

import pytest

from domain.errors import InvalidSchedule
from domain.schedule import ALIASES, parse_schedule
from domain.words import in_words

TABLE = {
    "* * * * *": "Every minute",
    "*/1 * * * *": "Every minute",
    "*/5 * * * *": "Every 5 minutes",
    "0-59/15 * * * *": "Every 15 minutes",
    "*/7 * * * *": "At 0, 7, 14, 21, 28, 35, 42, 49, and 56 minutes past the hour",
    "*/60 * * * *": "Every hour",
    "0 * * * *": "Every hour",
    "30 * * * *": "At 30 minutes past the hour",
    "10-20 * * * *": "Minutes 10 through 20 past the hour",
    "5,10-20/5,59 * * * *": "At 5, 10, 15, 20, and 59 minutes past the hour",
    "0 9 * * *": "At 09:00",
    "00 09 * * *": "At 09:00",
    "10-10 9-9 * * *": "At 09:10",
    "30 9,17 * * *": "At 09:30 and 17:30",
    "0,30 9 * * *": "At 09:00 and 09:30",
    "0,30 9,11 * * *": "At 09:00, 09:30, 11:00 and 11:30",
    "* 9 * * *": "Every minute, between 09:00 and 09:59",
    "0-59 9-10 * * *": "Every minute of the hours 9 and 10",
    "* 9-12 * * *": "Every minute, between 09:00 and 12:59",
    "*/10 9-17 * * *": "Every 10 minutes, between 09:00 and 17:59",
    "*/5 9,17 * * *": "Every 5 minutes of the hours 9 and 17",
    "*/5 */6 * * *": "Every 5 minutes of the hours 0, 6, 12 and 18",
    "*/7 9,17 * * *": "At minutes 0, 7, 14, 21, 28, 35, 42, 49 and 56 of the hours 9 and 17",
    "0 9-17 * * *": "At 0 minutes past the hour, between 09:00 and 17:59",
    "0 */2 * * *": "Every 2 hours",
    "30 */2 * * *": "At 30 minutes past the hour, every 2 hours",
    "0 */7 * * *": "At 00:00, 07:00, 14:00 and 21:00",
    "0 */12 * * *": "At 00:00 and 12:00",
    "@hourly": "Every hour",
    "@daily": "At 00:00",
    "@midnight": "At 00:00",
    "@weekly": "At 00:00, only on Sunday",
    "@monthly": "At 00:00, on day 1 of the month",
    "@yearly": "At 00:00, on day 1 of the month, only in January",
    "0 9 1,15 * *": "At 09:00, on day 1 and 15 of the month",
    "0 9 1-7 * *": "At 09:00, between day 1 and 7 of the month",
    "0 9 1-31 * *": "At 09:00",
    "0 9 */10 * *": "At 09:00, on day 1, 11, 21, and 31 of the month",
    "0 9 10-20/5 * *": "At 09:00, on day 10, 15, and 20 of the month",
    "0 9 L * *": "At 09:00, on the last day of the month",
    "0 9 1,L * *": "At 09:00, on day 1 of the month and on the last day of the month",
    "0 9 * * 0": "At 09:00, only on Sunday",
    "0 9 * * 7": "At 09:00, only on Sunday",
    "0 9 * * sun": "At 09:00, only on Sunday",
    "0 9 * * SAT-SUN": "At 09:00, only on Sunday and Saturday",
    "0 9 * * 5-7": "At 09:00, only on Sunday, Friday, and Saturday",
    "0 9 * * 1-5": "At 09:00, Monday through Friday",
    "0 9 * * MON-FRI": "At 09:00, Monday through Friday",
    "0 9 * * 0-7": "At 09:00",
    "0 9 * * */2": "At 09:00, only on Sunday, Tuesday, Thursday, and Saturday",
    "0 9 * * MON#1": "At 09:00, on the first Monday of the month",
    "0 9 * * 7#5": "At 09:00, on the fifth Sunday of the month",
    "0 9 * * 1#2,3#4": "At 09:00, on the second Monday of the month and on the fourth Wednesday of the month",
    "0 9 * * MON#1,WED": "At 09:00, on a Wednesday and on the first Monday of the month",
    "0 9 1 * MON": "At 09:00, on day 1 of the month, or on a Monday",
    "0 9 1,15 * 1-5": "At 09:00, on days 1 and 15 of the month, or on a day from Monday to Friday",
    "0 9 L * 1,3": "At 09:00, on the last day of the month, or on a Monday or a Wednesday",
    "0 9 1-31 * MON": "At 09:00, every day",
    "0 9 13 * 0-6": "At 09:00, every day",
    "0 9 */10 * MON": "At 09:00, on days 1, 11, 21 and 31 of the month, if that is a Monday",
    "0 9 1-7 * */5": "At 09:00, on days 1, 2, 3, 4, 5, 6 and 7 of the month, if that is a Sunday or a Friday",
    "0 9 */10 * MON#1,TUE": "At 09:00, on days 1, 11, 21 and 31 of the month, if that is a Tuesday or the first"
    " Monday of the month",
    "0 9 * */5 *": "At 09:00, only in January, June, and November",
    "0 9 * JAN-MAR *": "At 09:00, January through March",
    "0 9 29 2 *": "At 09:00, on day 29 of the month, only in February",
    "0 9 1 6,7 MON": "At 09:00, on day 1 of the month, or on a Monday, in June and July",
    "* 9,11 * * MON": "Every minute of the hours 9 and 11, on a Monday",
}


@pytest.mark.parametrize("schedule", TABLE)
def test_the_words_say_what_the_schedule_means(schedule: str) -> None:
    assert in_words(schedule) == TABLE[schedule]


def test_every_alias_has_words() -> None:
    assert ALIASES.keys() - TABLE.keys() == {"@annually"}
    assert in_words("@annually") == in_words("@yearly")


def test_what_is_refused_has_no_words() -> None:
    with pytest.raises(InvalidSchedule, match="minute 61 is out of range"):
        in_words("61 * * * *")


@pytest.mark.parametrize("seed", range(4))
def test_the_same_words_never_stand_for_two_meanings(seed: int) -> None:
    draw, meanings = random.Random(seed), dict[str, set[object]]()
    for _ in range(2_500):
        expression = " ".join(some_field(draw, *limits) for limits in LIMITS)
        try:
            meaning = meaning_of(expression)
        except InvalidSchedule:  # its days never meet
            continue
        meanings.setdefault(in_words(expression), set()).add(meaning)
    assert len(meanings) > 1_000
    assert not {words: found for words, found in meanings.items() if len(found) > 1}


LIMITS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
FEW = 4
"""Only so many different numbers a field has here, so that schedules meet."""


def some_field(draw: random.Random, low: int, high: int) -> str:
    def number() -> int:
        return low + draw.randrange(FEW) * ((high - low) // FEW)

    def item() -> str:
        first, last = sorted((number(), number()))
        kinds = [f"{number()}", f"{first}-{last}", f"{low}-{high}/{draw.choice((2, 3, 5, 7))}"]
        kinds += ["L"] * (high == 31) + [f"{number()}#{draw.randint(1, 5)}"] * (high == 6)
        return draw.choice(kinds)

    stars = ["*", f"*/{draw.choice((2, 3, 5, 7))}", f"{low}-{high}"]
    return draw.choice([*stars, item(), item(), f"{item()},{item()}"])


def meaning_of(expression: str) -> object:
    """What decides when it runs: which days match one way or the other, or all."""
    schedule = parse_schedule(expression)
    minutes, hours, days, months, weekdays = schedule.values
    is_every_day = all(str(day) in days for day in range(1, 32))
    is_every_weekday = all(str(day) in weekdays for day in range(7))
    if (is_every_day and is_every_weekday) or (schedule.either_day and (is_every_day or is_every_weekday)):
        return minutes, hours, months
    if is_every_day:
        return minutes, hours, months, weekdays
    if is_every_weekday:
        return minutes, hours, months, days
    return minutes, hours, months, days, weekdays, schedule.either_day
