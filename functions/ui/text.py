"""Figures and instants as the pages write them."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from domain.attempt import PHRASES
from domain.run import sentence
from domain.task import Task
from domain.webhook_url import parse_webhook_url
from domain.words import in_words

LONGEST_SHOWN = 10_000
UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def milliseconds(value: int | None) -> str:
    """182 ms, 1.2 s, 12 s, 2 min 5 s."""
    if value is None:
        return "–"
    if value < 1_000:
        return f"{value} ms"
    return f"{value / 1_000:.1f} s" if value < 10_000 else seconds(value / 1_000)


def seconds(value: float | None) -> str:
    """A duration by its two largest units."""
    if value is None:
        return "–"
    rest = round(value)
    parts: list[str] = []
    for unit, size in UNITS:
        count, rest = divmod(rest, size)
        if count or parts:
            parts.append(f"{count} {unit}")
    return " ".join(part for part in parts[:2] if not part.startswith("0 ")) or "0 s"


def percent(value: float | None) -> str:
    """100 % only of what has no exception."""
    if value is None:
        return "–"
    return f"{min(value * 100, 99.9) if value < 1 else 100:.3g} %"


def utc(instant: datetime) -> str:
    return f"{day_and_time(instant.astimezone(UTC))} UTC"


def local(instant: datetime, zone: str) -> str:
    return day_and_time(instant.astimezone(ZoneInfo(zone)))


def day_and_time(there: datetime) -> str:
    """With its year, if that is not the present one."""
    return f"{there:%d %b %H:%M}" if there.year == datetime.now(UTC).year else f"{there:%d %b %Y %H:%M}"


def rfc3339(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def stored_within(start: datetime, hours: int) -> str:
    """The part of a URL of logs that names those of so many hours."""
    since, until = (f"{instant:%Y-%m-%dT%H:%MZ}" for instant in (start, start + timedelta(hours=hours)))
    return f"since={since}&until={until}"


def relative(instant: datetime, now: datetime) -> str:
    """In 5 min, 2 h ago; the smallest unit is a minute unless it is nearer."""
    away = instant - now
    size = seconds(abs(away).total_seconds()) if abs(away) >= timedelta(seconds=1) else "now"
    if size == "now":
        return size
    return f"in {size}" if away > timedelta(0) else f"{size} ago"


def state(task: Task) -> str:
    """The status of a task; `deactivated` if Insignia has switched it off."""
    return "deactivated" if task.deactivated_at is not None else task.status.value


def schedule(task: Task) -> str:
    """When a task runs, in words."""
    definition = task.definition
    if definition.schedule is None:
        return f"Once, on {utc(definition.run_at)}" if definition.run_at else "Never"
    return in_words(definition.schedule)


def pretty_json(value: Any) -> str:
    """For people to read; of what is long, its beginning."""
    whole = json.dumps(value, ensure_ascii=False, indent=2)
    if len(whole) <= LONGEST_SHOWN:
        return whole
    return f"{whole[:LONGEST_SHOWN]}\n… ({len(whole):,} characters; the API has the rest)"


def phrase(http_status: int) -> str:
    """HTTP 404 Not Found."""
    return f"HTTP {http_status} {PHRASES.get(http_status, '')}".rstrip()


def host(task: Task) -> str:
    """Where the webhook of a task is: the rest of its URL is a secret."""
    return parse_webhook_url(task.definition.webhook_url).host


FILTERS: Mapping[str, Callable[..., Any]] = {
    "milliseconds": milliseconds,
    "seconds": seconds,
    "percent": percent,
    "utc": utc,
    "local": local,
    "rfc3339": rfc3339,
    "stored_within": stored_within,
    "relative": relative,
    "state": state,
    "schedule": schedule,
    "host": host,
    "sentence": sentence,
    "phrase": phrase,
    "pretty_json": pretty_json,
}
