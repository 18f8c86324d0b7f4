"""A task: what its user defined, and what the engine keeps about it."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

DEFAULT_MAX_RETRY = 3
MAX_RETRY_LIMIT = 20
TIMEOUT_SECONDS = 10.0
"""Wall-clock deadline of one attempt."""


class TaskStatus(StrEnum):
    ACTIVE = "active"
    INACTIVE = "inactive"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDefinition:
    """What the user says; ticks never change it. `payload` is any JSON value."""

    name: str
    schedule: str
    timezone: str
    webhook_url: str
    payload: Any
    max_retry: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A definition with its identity and the engine's state; all instants are aware, in UTC."""

    id: UUID
    definition: TaskDefinition
    status: TaskStatus
    revision: int
    next_run_at: datetime | None
    last_run_at: datetime | None
    last_status: str | None
    consecutive_failures: int
    deactivated_at: datetime | None
    deactivated_reason: str | None
    created_at: datetime
    updated_at: datetime
