"""When a failed attempt is repeated (docs/engine.md, Retries)."""

import json
import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum

FIRST_DELAY_SECONDS = 1.0
MAX_DELAY_SECONDS = 300.0
MAX_JITTER = 0.1

THROTTLING = frozenset({429, 503})
"""The statuses with which a receiver may ask to be left alone for a while."""

MAX_RETRY_AFTER_SECONDS = 3600
MAX_THROTTLES = 10
"""How many waits for a Retry-After one run may have beside its retries."""

_SECONDS = re.compile(r"[0-9]{1,10}(\.[0-9]{1,20})?")
_TOO_MANY_SECONDS = 10**10  # more digits than _SECONDS has: no number of seconds that anyone means
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_MONTH = f"(?P<month>{'|'.join(_MONTHS)})"
_TIME = r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_HTTP_DATES = tuple(
    re.compile(pattern)
    for pattern in (
        rf"[A-Z][a-z]{{2}}, (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT",  # IMF-fixdate
        rf"[A-Z][a-z]{{5,8}}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT",  # RFC 850
        rf"[A-Z][a-z]{{2}} {_MONTH} (?P<day>[ 0-9][0-9]) {_TIME} (?P<year>[0-9]{{4}})",  # asctime
    )
)


class RetryOn(StrEnum):
    """Which failures are worth a retry."""

    ALL = "all"
    TRANSIENT = "transient"


def is_transient(http_status: int | None) -> bool:
    """Whether a failure may pass by itself: no whole answer (None), 408, 425, 429 or 5xx."""
    return http_status is None or http_status in (408, 425, 429) or 500 <= http_status <= 599


def retry_delay_seconds(retry: int, jitter: float) -> float:
    """Wait before retry number `retry` (from 1): 1, 2, 4, 8 s ... at most 300 s, and never less.

    `jitter` in [0, 1) adds up to 10 % (docs/engine.md, Retries); the caller draws it.
    """
    delay = min(FIRST_DELAY_SECONDS * 2.0 ** min(retry - 1, 30), MAX_DELAY_SECONDS)
    return delay * (1 + MAX_JITTER * jitter)


def retry_after_seconds(
    http_status: int | None, header: str, body: str | None, now: datetime
) -> float | None:
    """How long a 429 or a 503 asks to be left alone: 0 to 3600 s; None if it does not say, or in no known form.

    `Retry-After` (RFC 9110, 10.2.3; also with a fraction) comes first, then the `retry_after` seconds of a
    JSON body, as Discord sends them. `header` is the value of Retry-After, empty if there is none; `now` is aware.
    """
    if http_status not in THROTTLING:
        return None
    seconds = _header_seconds(header.strip(" \t"), now)
    if seconds is None:
        seconds = _body_seconds(body or "")
    return None if seconds is None else min(seconds, float(MAX_RETRY_AFTER_SECONDS))


def _header_seconds(text: str, now: datetime) -> float | None:
    if _SECONDS.fullmatch(text):
        return float(text)
    date = _http_date(text, now)
    return None if date is None else max((date - now).total_seconds(), 0.0)


def _body_seconds(body: str) -> float | None:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return None
    seconds = answer.get("retry_after") if isinstance(answer, dict) else None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return None
    return float(seconds) if 0 <= seconds < _TOO_MANY_SECONDS else None  # NaN is not in the range either


def _http_date(text: str, now: datetime) -> datetime | None:
    """An HTTP-date in one of the three formats of RFC 9110, 5.6.7; the name of the weekday is not checked."""
    match = next(filter(None, (pattern.fullmatch(text) for pattern in _HTTP_DATES)), None)
    if match is None:
        return None
    year, second = int(match["year"]), int(match["second"])
    if len(match["year"]) == 2:  # a year of the past, unless it is at most 50 years ahead
        earliest = now.year - 49
        year = earliest + (year - earliest) % 100
    try:
        minute = datetime(
            year,
            _MONTHS.index(match["month"]) + 1,
            int(match["day"]),
            int(match["hour"]),
            int(match["minute"]),
            tzinfo=UTC,
        )
        return minute + timedelta(seconds=second) if second <= 60 else None  # 60 is a leap second
    except (ValueError, OverflowError):
        return None
