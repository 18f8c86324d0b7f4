"""What a schedule or a time zone that is refused is told, and what is accepted instead."""

import re
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.errors import InvalidSchedule, InvalidTimezone
from domain.schedule import next_run, parse_timezone, runs, validate_schedule

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


def refusal(call: Callable[[str], object], text: str) -> str:
    with pytest.raises((InvalidSchedule, InvalidTimezone)) as refused:
        call(text)
    return str(refused.value)


def refusal_or_none(expression: str) -> str | None:
    try:
        validate_schedule(expression)
    except InvalidSchedule as refused:
        return str(refused)
    return None


def test_what_is_wrong_is_said_at_once_and_not_at_the_first_slot() -> None:
    with pytest.raises(InvalidSchedule):
        runs("61 * * * *", "UTC", NEW_YEAR)
    with pytest.raises(InvalidTimezone):
        runs("* * * * *", "Mars/Olympus", NEW_YEAR)


@pytest.mark.parametrize(
    ("expression", "sentence"),
    [
        ("61 * * * *", "Schedule '61 * * * *': minute 61 is out of range; use 0 to 59."),
        ("0 24 * * *", "hour 24 is out of range; use 0 to 23"),
        ("0 0 0 * *", "day of month 0 is out of range; use 1 to 31"),
        ("0 0 32 * *", "day of month 32 is out of range"),
        ("0 0 * 0 *", "month 0 is out of range; use 1 to 12 or JAN to DEC"),
        ("0 0 * 13 *", "month 13 is out of range"),
        ("0 0 * * 8", "day of week 8 is out of range; use 0 to 7 or SUN to SAT"),
        ("0 0 * * 8#1", "day of week 8 is out of range"),
        ("9" * 90 + " * * * *", "is out of range; use 0 to 59"),
        ("9" * 5000 + " * * * *", "Schedule is 5008 characters long; use at most 100"),
        ("*" + " " * 96 + "* * * *", "Schedule is 104 characters long"),
        ("", "it is empty; use five fields"),
        (" \t ", "it is empty"),
        ("5", "it has 1 field; use exactly five"),
        ("* * * *", "it has 4 fields; use exactly five"),
        ("0 * * * * *", "it has 6 fields; use exactly five"),
        ("0 * * * * * 2026", "it has 7 fields; use exactly five"),
        ("1, 2 * * * *", "it has 6 fields; use exactly five"),
        ("@reboot", "'@reboot' is not supported; use five fields or one of @hourly @daily"),
        ("@every 5m", "'@every 5m' is not supported"),
        ("@", "'@' is not supported"),
        ("R * * * *", "minute 'R' is hashed or random, which is not supported; use 0 to 59"),
        ("r/5 * * * *", "minute 'r/5' is hashed or random"),
        ("H * * * *", "minute 'H' is hashed or random"),
        ("0 h(0-5)/2 * * *", "hour 'h(0-5)/2' is hashed or random"),
        ("? * * * *", "minute '?' is not supported; use *"),
        ("0 0 ? * 1", "day of month '?' is not supported; use *"),
        ("5/15 * * * *", "minute '5/15' has a step without a range; use 5-59/15"),
        ("59/15 * * * *", "minute '59/15' has a step without a range; use 59"),
        ("0 0 * JAN/3 *", "month 'JAN/3' has a step without a range; use 1-12/3"),
        ("0 0 * * 7/2", "day of week '7/2' has a step without a range; use 7"),
        ("5/ * * * *", "minute '5/' has a step without a range; use 5"),
        ("50-10 * * * *", "minute range '50-10' runs backwards; use 50-59,0-10"),
        ("0 0 * * 5-1", "day of week range '5-1' runs backwards; use 5-6,0-1"),
        ("0 0 * * 5-0", "day of week range '5-0' runs backwards; use 5-6,0"),
        ("0 0 * * 7-1", "day of week range '7-1' runs backwards; use 0-1"),
        ("0 0 * NOV-FEB *", "month range 'NOV-FEB' runs backwards; use 11-12,1-2"),
        ("5- * * * *", "minute '5-' is not a whole range; use a first and a last value, as in 1-5"),
        ("-5 * * * *", "minute '-5' is not a whole range"),
        ("- * * * *", "minute '-' is not a whole range"),
        ("*/0 * * * *", "minute '*/0' needs a step that is a number; use 1 or more"),
        ("*/ * * * *", "minute '*/' needs a step that is a number"),
        ("*/-5 * * * *", "minute '*/-5' needs a step that is a number"),
        ("*/2/3 * * * *", "minute '*/2/3' needs a step that is a number"),
        ("*/90 * * * *", "minute step 90 is larger than its range 0-59; use at most 60"),
        ("10-20/12 * * * *", "minute step 12 is larger than its range 10-20; use at most 11"),
        ("5-5/2 * * * *", "minute step 2 is larger than its range 5-5; use at most 1"),
        ("0 0 * * */8", "day of week step 8 is larger than its range 0-6; use at most 7"),
        ("1,,2 * * * *", "minute '1,,2' has a comma with nothing beside it; remove the comma"),
        (", * * * *", "minute ',' has a comma"),
        ("1, * * * *", "minute '1,' has a comma"),
        ("5,* * * * *", "minute '5,*' has '*' in a list; use '*' alone"),
        ("*,5 * * * *", "minute '*,5' has '*' in a list"),
        ("** * * * *", "minute '**' is not understood; use 0 to 59"),
        ("*5 * * * *", "minute '*5' is not understood"),
        ("*-5 * * * *", "minute '*-5' is not understood"),
        ("1-2-3 * * * *", "minute '1-2-3' is not understood"),
        ("+5 * * * *", "minute '+5' is not understood"),
        ("1_0 * * * *", "minute '1_0' is not understood"),
        ("1.5 * * * *", "minute '1.5' is not understood"),
        ("0x5 * * * *", "minute '0x5' is not understood"),
        ("MON * * * *", "minute 'MON' is not understood"),
        ("0 0 * foo *", "month 'foo' is not understood; use 1 to 12 or JAN to DEC"),
        ("0 0 * MON *", "month 'MON' is not understood"),
        ("0 0 * * JAN", "day of week 'JAN' is not understood"),
        ("0 0 * january *", "month 'january' is not a name; use JAN"),
        ("0 0 * * mon-Friday", "day of week 'Friday' is not a name; use FRI"),
        ("0 0 * L *", "month 'L' is not supported; only 'L' alone, in the day of month, means the last day"),
        ("L * * * *", "minute 'L' is not supported"),
        ("0 0 * * L", "day of week 'L' is not supported"),
        ("0 0 * * 5L", "day of week '5L' is not supported"),
        ("0 0 L-3 * *", "day of month 'L-3' is not supported"),
        ("0 0 15-L * *", "day of month '15-L' is not supported"),
        ("0 0 LW * *", "day of month 'LW' is not supported"),
        ("0 0 15W * *", "day of month '15W' is not supported"),
        ("0 0 1#1 * *", "day of month '1#1' is not supported; '#' stands between a weekday and a number"),
        ("0 0 * * #1", "day of week '#1' is not supported"),
        ("0 0 * * 1#0", "day of week '1#0' has no such week; use 1 to 5 after the '#'"),
        ("0 0 * * 1#6", "day of week '1#6' has no such week"),
        ("0 0 * * 1#", "day of week '1#' has no such week"),
        ("0 0 * * 1#1#1", "day of week '1#1#1' has no such week"),
        ("0 0 * * 1#-1", "day of week '1#-1' has no such week"),
        ("0 0 * * 1#L", "day of week '1#L' has no such week"),
        ("0 0 * * 1-5#2", "day of week '1-5#2' has '#' behind a range; use a list, as in MON#1,TUE#1"),
        ("0 0 30 2 *", "its day of month, month and day of week never meet, so it never fires"),
        ("0 0 31 2,4 *", "never fires"),
        ("0 0 31 2,4,6,9,11 *", "never fires"),
        ("0 0 */31 * 1#2", "never fires"),
        ("0 0 */27 * 1#5", "never fires"),
        ("٣ * * * *", r"Schedule '\u0663 * * * *': it has a character that no schedule has"),
        ("５ * * * *", "it has a character that no schedule has"),
        ("*\u00a0* * * *", "it has a character that no schedule has"),
        ("* * * * *\n", r"Schedule '* * * * *\n': it has a character that no schedule has"),
        ("\r* * * * *", "it has a character that no schedule has"),
        ("*\v* * * *", "it has a character that no schedule has"),
        ("* * * * *\0", r"Schedule '* * * * *\x00': it has a character that no schedule has"),
        ("\ud800 * * * *", r"Schedule '\ud800 * * * *': it has a character that no schedule has"),
    ],
)
def test_a_refusal_names_the_field_and_says_what_to_do(expression: str, sentence: str) -> None:
    message = refusal(validate_schedule, expression)
    assert sentence in message
    assert message.isascii()
    assert message.isprintable()
    assert message.endswith(".")
    assert re.search("; (use|remove|change|only|'#') ", message)
    with pytest.raises(InvalidSchedule):
        next_run(expression, "UTC", NEW_YEAR)


@settings(max_examples=150)
@given(st.integers(0, 59), st.integers(0, 59), st.integers(0, 7), st.integers(0, 7))
def test_what_a_refusal_proposes_is_accepted(a: int, b: int, c: int, d: int) -> None:
    for number, value in enumerate((f"{a}/{b}", f"{a}-{b}", f"{c}/{d}", f"{c}-{d}")):
        before, behind = ("", " * * * *") if number < 2 else ("* * * * ", "")
        message = refusal_or_none(before + value + behind)
        if message:
            proposal = re.search(r"; use (\S+)\.$", message)
            assert proposal, message
            assert refusal_or_none(before + proposal[1] + behind) is None


@settings(max_examples=300)
@given(st.text(st.sampled_from("0123456789*/-,#L?HR@ \tMONJAN\n\0é"), max_size=30) | st.text(max_size=120))
def test_any_text_is_accepted_or_refused_with_one_printable_sentence(text: str) -> None:
    message = refusal_or_none(text)
    if message is None:
        assert next_run(text, "Europe/Berlin", NEW_YEAR)
    else:
        assert message.startswith("Schedule ")
        assert message.isprintable()


@pytest.mark.parametrize(
    "name", ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+5", "Asia/Kathmandu"]
)
def test_an_iana_name_is_a_time_zone(name: str) -> None:
    assert parse_timezone(name).key == name


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("", "Time zone is empty; use an IANA name such as 'Europe/Berlin' or 'UTC'."),
        ("Europe/Berln", "Time zone 'Europe/Berln' is unknown; did you mean 'Europe/Berlin'?"),
        ("europe/berlin", "did you mean 'Europe/Berlin'?"),
        ("utc", "did you mean 'UTC'?"),
        (" UTC ", "did you mean 'UTC'?"),
        ("New York", "did you mean 'America/New_York'?"),
        ("berlin", "did you mean 'Europe/Berlin'?"),
        ("Europe/Berlin\n", r"Time zone 'Europe/Berlin\n' is unknown; did you mean 'Europe/Berlin'?"),
        ("PST", "Time zone 'PST' is unknown; use an IANA name such as 'Europe/Berlin'."),
        ("GMT+3", "use an IANA name"),
        ("+02:00", "use an IANA name"),
        ("localtime", "Time zone 'localtime' is unknown"),
        ("Factory", "Time zone 'Factory' is unknown"),
        ("America", "Time zone 'America' is unknown"),
        ("America/", "Time zone 'America/' is unknown"),
        ("zone.tab", "Time zone 'zone.tab' is unknown"),
        ("posix/UTC", "Time zone 'posix/UTC' is unknown"),
        (".", "Time zone '.' is unknown"),
        ("../etc/passwd", "Time zone '../etc/passwd' is unknown"),
        ("America/../UTC", "Time zone 'America/../UTC' is unknown"),
        ("./UTC", "Time zone './UTC' is unknown"),
        ("/etc/localtime", "Time zone '/etc/localtime' is unknown"),
        ("\0", r"Time zone '\x00' is unknown"),
        ("UTC\0", r"Time zone 'UTC\x00' is unknown"),
        ("\ud800", r"Time zone '\ud800' is unknown"),
        ("x" * 10_000, "Time zone is longer than 100 characters; use an IANA name."),
    ],
)
def test_a_name_that_is_no_time_zone_is_refused_with_a_hint(name: str, sentence: str) -> None:
    message = refusal(parse_timezone, name)
    assert sentence in message
    assert message.isascii()
    assert message.isprintable()
