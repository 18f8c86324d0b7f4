"""How long an answer asks to be left alone."""

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.retry import MAX_RETRY_AFTER_SECONDS, retry_after_seconds

NOW = datetime(1994, 11, 6, 8, 49, 7, tzinfo=UTC)


def header(text: str, now: datetime = NOW) -> float | None:
    return retry_after_seconds(429, text, None, now)


def body(text: str | None) -> float | None:
    return retry_after_seconds(429, "", text, NOW)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120),
        ("0", 0),
        ("007", 7),
        ("1.5", 1.5),
        ("0.25", 0.25),
        (" 3 ", 3),
        ("\t3", 3),
        ("3600", 3600),
        ("3601", 3600),
        ("9999999999", 3600),
    ],
)
def test_retry_after_is_a_number_of_seconds_up_to_an_hour(text: str, seconds: float) -> None:
    assert header(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "  Sun, 06 Nov 1994 08:49:37 GMT ",
        "Mon, 06 Nov 1994 08:49:37 GMT",  # the wrong weekday harms nobody
    ],
)
def test_retry_after_is_a_date_in_any_of_the_three_formats_of_http(text: str) -> None:
    assert header(text) == 30


@pytest.mark.parametrize(
    "template",
    ["{:%a, %d %b %Y %H:%M:%S} GMT", "{:%A, %d-%b-%y %H:%M:%S} GMT", "{:%a %b} {:2d} {:%H:%M:%S %Y}"],
)
@given(
    date=st.datetimes(
        min_value=datetime(1994, 1, 1),  # noqa: DTZ001 - hypothesis wants naive bounds
        max_value=datetime(2043, 12, 31),  # noqa: DTZ001
    ),
    ahead=st.integers(-7200, 7200),
)
def test_a_date_means_the_seconds_until_then_from_0_to_an_hour(
    template: str, date: datetime, ahead: int
) -> None:
    date = date.replace(microsecond=0, tzinfo=UTC)
    text = template.format(date, date.day, date) if "{:2d}" in template else template.format(date)
    assert header(text, date - timedelta(seconds=ahead)) == min(max(ahead, 0), 3600)


def test_a_date_in_the_past_means_now() -> None:
    assert header("Sun, 06 Nov 1994 08:49:06 GMT") == 0
    assert header("Thu, 01 Jan 1970 00:00:00 GMT") == 0


def test_a_date_in_the_distant_future_means_an_hour() -> None:
    assert header("Fri, 31 Dec 9999 23:59:59 GMT") == 3600


def test_a_date_may_be_a_leap_second() -> None:
    assert header("Sat, 31 Dec 2016 23:59:60 GMT", datetime(2016, 12, 31, 23, 59, 50, tzinfo=UTC)) == 10


@pytest.mark.parametrize(
    ("text", "year", "seconds"),
    [
        ("Friday, 01-Jan-00 00:00:00 GMT", 2099, 1),
        ("Friday, 01-Jan-75 00:00:00 GMT", 2025, 3600),
        ("Friday, 01-Jan-76 00:00:00 GMT", 2025, 0),
    ],
)
def test_a_year_of_two_digits_is_at_most_50_years_ahead(text: str, year: int, seconds: float) -> None:
    assert header(text, datetime(year, 12, 31, 23, 59, 59, tzinfo=UTC)) == seconds


def test_now_may_be_in_any_time_zone() -> None:
    assert header("Sun, 06 Nov 1994 08:49:37 GMT", NOW.astimezone(timezone(timedelta(hours=-9)))) == 30


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "-1",
        "+1",
        "nan",
        "inf",
        "Infinity",
        "1e3",
        "0x10",
        "1,5",
        "5, 5",
        "5s",
        "1_000",
        ".",
        "1.",
        ".5",
        "1 0",
        "1\n",
        "١٢",
        "²",
        "10000000000",
        "9" * 50_000,
        "1." + "0" * 50_000,
        "soon",
        "[1]",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 CET",
        "Sun, 06 Nov 1994 08:49:37 +0100",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 06 Now 1994 08:49:37 GMT",
        "Sun, 06 Nov 0000 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Fri, 31 Dec 9999 23:59:60 GMT",
        "1994-11-06T08:49:37Z",
    ],
)
def test_a_retry_after_in_no_known_form_says_nothing(text: str) -> None:
    assert header(text) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ('{"message": "You are being rate limited.", "retry_after": 1.25, "global": false}', 1.25),
        ('{"retry_after": 0}', 0),
        ('{"retry_after": 64}', 64),
        ('{"retry_after": 3600.5}', 3600),
        (' {"retry_after": 2} \r\n', 2),
    ],
)
def test_without_the_header_the_seconds_of_a_json_body_count(text: str, seconds: float) -> None:
    assert body(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "Slow down",
        "1.25",
        "[1.25]",
        '[{"retry_after": 1}]',
        "null",
        "{}",
        '{"retry_after": null}',
        '{"retry_after": true}',
        '{"retry_after": "1.25"}',
        '{"retry_after": [1]}',
        '{"retry_after": {"retry_after": 1}}',
        '{"error": {"retry_after": 1}}',
        '{"retry_after": -1}',
        '{"retry_after": NaN}',
        '{"retry_after": Infinity}',
        '{"retry_after": -Infinity}',
        '{"retry_after": 1e400}',
        '{"retry_after": 10000000000}',
        '{"retry_after": ' + "9" * 400 + "}",
        '{"retry_after": ' + "9" * 50_000 + "}",
        '{"retry_after": 1.25',
        '{"retry_after": 1, "text": "' + "x" * 100,
        "[" * 60_000,
        '{"retry_after":' * 5_000,
    ],
)
def test_a_body_without_a_sensible_retry_after_says_nothing(text: str | None) -> None:
    assert body(text) is None


def test_the_header_comes_before_the_body() -> None:
    assert retry_after_seconds(429, "2", '{"retry_after": 1.25}', NOW) == 2


def test_the_body_counts_when_the_header_makes_no_sense() -> None:
    assert retry_after_seconds(429, "soon", '{"retry_after": 1.25}', NOW) == 1.25


@pytest.mark.parametrize("http_status", [429, 503])
def test_a_429_and_a_503_may_ask_for_a_wait(http_status: int) -> None:
    assert retry_after_seconds(http_status, "2", None, NOW) == 2


@pytest.mark.parametrize("http_status", [None, 200, 301, 408, 413, 500, 502, 504])
def test_no_other_answer_may_ask_for_a_wait(http_status: int | None) -> None:
    assert retry_after_seconds(http_status, "2", '{"retry_after": 2}', NOW) is None


@given(
    text=st.text() | st.from_regex(r"[-+]?[0-9.]+(e[0-9]+)?", fullmatch=True),
    answer=st.text()
    | st.builds(lambda value: json.dumps({"retry_after": value}), st.floats() | st.integers()),
    now=st.datetimes(timezones=st.just(UTC)),
)
def test_whatever_an_answer_says_the_wait_is_from_0_to_an_hour(text: str, answer: str, now: datetime) -> None:
    seconds = retry_after_seconds(429, text, answer, now)
    assert seconds is None or 0 <= seconds <= MAX_RETRY_AFTER_SECONDS
