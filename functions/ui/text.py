"""Figures and instants as the pages write them."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

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
    return f"{instant.astimezone(UTC):%d %b %H:%M} UTC"


def local(instant: datetime, zone: str) -> str:
    return f"{instant.astimezone(ZoneInfo(zone)):%d %b %H:%M}"


def rfc3339(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def relative(instant: datetime, now: datetime) -> str:
    """In 5 min, 2 h ago; the smallest unit is a minute unless it is nearer."""
    away = instant - now
    size = seconds(abs(away).total_seconds()) if abs(away) >= timedelta(seconds=1) else "now"
    if size == "now":
        return size
    return f"in {size}" if away > timedelta(0) else f"{size} ago"


FILTERS: Mapping[str, Callable[..., Any]] = {
    "milliseconds": milliseconds,
    "seconds": seconds,
    "percent": percent,
    "utc": utc,
    "local": local,
    "rfc3339": rfc3339,
    "relative": relative,
}
