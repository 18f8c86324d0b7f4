"""The model of the stateful test: what users did to each task, and what was found about it.

It shares no code with the engine.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from tests.faults.timetable import Timetable

NOBODY = UUID(int=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """What the user says; the rest of a task does not matter here."""

    timetable: Timetable
    receiver: int = 0
    misfire_policy: str = "run_once"
    catchup_window_seconds: int = 86_400
    overlap_policy: str = "skip"
    max_retry: int = 1
    deactivate_after: int = 1

    def __str__(self) -> str:
        days, seconds = divmod(self.catchup_window_seconds, 86_400)
        window = f"{days} d" if not seconds else f"{self.catchup_window_seconds} s"
        return (
            f"{self.timetable}, {self.misfire_policy} within {window}, overlap {self.overlap_policy}, "
            f"max_retry {self.max_retry}, deactivate_after {self.deactivate_after}"
        )


@dataclass(slots=True)
class Epoch:
    """A time in which a task was active with one timetable: its slots after `after`, up to and with `until`."""

    after: datetime
    timetable: Timetable
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What the database says about a task."""

    status: str
    revision: int
    next_run_at: datetime | None
    consecutive_failures: int
    deactivated_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What the database says about a run, or about a slot or stretch that did not run."""

    id: UUID
    task_id: UUID
    status: str
    scheduled_for: datetime
    execution_time: datetime
    created_at: datetime
    finished_at: datetime | None
    retry_count: int
    http_status: int | None
    revision: int
    attempts: list[dict[str, Any]]
    missed_from: datetime | None
    missed_to: datetime | None
    missed_count: int | None

    @property
    def last_outcome(self) -> str | None:
        return self.attempts[-1].get("outcome") if self.attempts else None


@dataclass(frozen=True, slots=True)
class Call:
    """What a receiver got, and what it answered; `status` is None if it hung up or took too long."""

    task_id: UUID
    run_id: UUID
    attempt: int
    claimed_at: int
    status: int | None


@dataclass(slots=True)
class Task:
    """A task of the model, and what was found about it when it was last looked at."""

    number: int
    definitions: dict[int, Definition]
    id: UUID = NOBODY
    epochs: list[Epoch] = field(default_factory=list)
    status: str = "active"
    deleted_at: datetime | None = None
    calls_before: int = 0
    was_active: bool = True
    was_changed: bool = False
    failures: int = 0
    rows: dict[UUID, Row] = field(default_factory=dict)

    @property
    def definition(self) -> Definition:
        return self.definitions[max(self.definitions)]

    def open_epoch(self, now: datetime) -> None:
        """Active from now on; what was accounted for before a clock stepped back is not due again."""
        self.epochs.append(Epoch(max([now, *self.due_slots(None)[-1:]]), self.definition.timetable))

    def close_epoch(self, now: datetime, claimed_to: datetime | None) -> None:
        """No longer active: what is due by now, or was claimed before a clock stepped back, is accounted for."""
        self.epochs[-1].until = max(now, claimed_to or now)

    def due_slots(self, state: State | None) -> list[datetime]:
        """All slots that must stand in exactly one row or stretch."""
        slots: set[datetime] = set()
        for epoch in self.epochs:
            until = epoch.until
            if until is None:
                following = state.next_run_at if state else None
                end = epoch.timetable.run_at or epoch.timetable.end_at
                until = following - timedelta(microseconds=1) if following else end
            if until is not None:
                slots.update(epoch.timetable.slots(epoch.after, until))
        return sorted(slots)
