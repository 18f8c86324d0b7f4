"""When a task of the model fires, by brute force: every minute is looked at on the local clock."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
HORIZON = 4 * DAY
"""Every timetable of the model fires within such a time, or never again."""


@dataclass(frozen=True, slots=True, repr=False)
class Cron:
    """The minutes and hours at which a schedule matches; `fixed`: neither of its fields starts with `*`."""

    schedule: str
    timezone: str
    minutes: range | tuple[int, ...]
    hours: range | tuple[int, ...]
    fixed: bool = False

    def __repr__(self) -> str:
        return f"<'{self.schedule}' {self.timezone}>"

    def _repr_pretty_(self, printer: Any, _: bool) -> None:
        """How hypothesis prints it."""
        printer.text(repr(self))

    def matches(self, wall: datetime) -> bool:
        return wall.minute in self.minutes and wall.hour in self.hours


ALL_HOURS = range(24)
EVERY_MINUTE = Cron("* * * * *", "UTC", range(60), ALL_HOURS)
CRONS = (
    EVERY_MINUTE,
    Cron("*/5 * * * *", "UTC", range(0, 60, 5), ALL_HOURS),
    Cron("0 * * * *", "Europe/Berlin", (0,), ALL_HOURS),
    Cron("*/30 * * * *", "Australia/Lord_Howe", range(0, 60, 30), ALL_HOURS),
    Cron("30 2 * * *", "Europe/Berlin", (30,), (2,), fixed=True),
    Cron("0,30 1-3 * * *", "Europe/Berlin", (0, 30), range(1, 4), fixed=True),
)


@dataclass(frozen=True, slots=True)
class Timetable:
    """A cron schedule or one instant, from `start_at` (inclusive) to `end_at` (exclusive)."""

    cron: Cron | None = None
    run_at: datetime | None = None
    start_at: datetime | None = None
    end_at: datetime | None = None

    def fields(self) -> dict[str, object]:
        """The fields of a task's definition that say the same."""
        return {
            "schedule": self.cron.schedule if self.cron else None,
            "timezone": self.cron.timezone if self.cron else "UTC",
            "run_at": self.run_at,
            "start_at": self.start_at,
            "end_at": self.end_at,
        }

    def slots(self, after: datetime, until: datetime) -> list[datetime]:
        """The slots after `after`, up to and with `until`."""
        slots = [self.run_at] if self.run_at else []
        if self.cron:
            day = after.replace(hour=0, minute=0, second=0, microsecond=0)
            while day <= until:
                slots += slots_of_day(self.cron, day)
                day += DAY
        return [slot for slot in slots if after < slot <= until and self._is_in_range(slot)]

    def next(self, after: datetime) -> datetime | None:
        return next(iter(self.slots(after, after + HORIZON)), None)

    def _is_in_range(self, slot: datetime) -> bool:
        return (not self.start_at or slot >= self.start_at) and (not self.end_at or slot < self.end_at)

    def __str__(self) -> str:
        text = (
            f"'{self.cron.schedule}' {self.cron.timezone}"
            if self.cron
            else f"once at {self.run_at:%d %H:%M:%S}"
        )
        text += f" from {self.start_at:%d %H:%M:%S}" if self.start_at else ""
        return text + (f" until {self.end_at:%d %H:%M:%S}" if self.end_at else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """A timetable as a user has it in mind: minutes from now."""

    cron: Cron | None = None
    run_in: int | None = None
    start_in: int | None = None
    end_in: int | None = None

    def from_now(self, now: datetime) -> Timetable:
        def later(minutes: int | None) -> datetime | None:
            return now + minutes * MINUTE if minutes else None

        return Timetable(self.cron, later(self.run_in), later(self.start_in), later(self.end_in))


@cache
def slots_of_day(cron: Cron, day: datetime) -> list[datetime]:
    zone, slots = ZoneInfo(cron.timezone), []
    before = (day - MINUTE).astimezone(zone)
    for minute in range(24 * 60):
        instant = day + minute * MINUTE
        local = instant.astimezone(zone)
        skipped = (local.replace(tzinfo=None) - before.replace(tzinfo=None)) // MINUTE - 1
        if cron.fixed:
            walls = [before.replace(tzinfo=None) + step * MINUTE for step in range(1, skipped + 1)]
            if not local.fold:
                walls.append(local)
        else:
            walls = [local]
        if any(cron.matches(wall) for wall in walls):
            slots.append(instant)
        before = local
    return slots
