"""A task: what its user defined, and what the engine keeps about it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Any
from uuid import UUID

from domain import success_statuses
from domain.retry import RetryOn

DEFAULT_MAX_RETRY = 3
MAX_RETRY_LIMIT = 20
DEFAULT_TIMEOUT_SECONDS = 10
MAX_TIMEOUT_SECONDS = 45
DEFAULT_DEACTIVATE_AFTER = 1
DEFAULT_CATCHUP_WINDOW_SECONDS = 86_400
MAX_CATCHUP_WINDOW_SECONDS = 31 * 86_400
MAX_SIGNING_SECRETS = 3


class TaskStatus(StrEnum):
    """`completed`: the last slot was claimed, and its run has ended."""

    ACTIVE = "active"
    INACTIVE = "inactive"
    COMPLETED = "completed"


class Method(StrEnum):
    """POST, PUT and PATCH send the payload; GET and DELETE send no body."""

    POST = "POST"
    PUT = "PUT"
    PATCH = "PATCH"
    GET = "GET"
    DELETE = "DELETE"

    @cached_property
    def has_body(self) -> bool:
        return self not in (Method.GET, Method.DELETE)


class MisfirePolicy(StrEnum):
    """What becomes of slots that are found more than 120 s late (docs/engine.md, Missed slots)."""

    RUN_ONCE = "run_once"
    SKIP = "skip"
    RUN_ALL = "run_all"


class OverlapPolicy(StrEnum):
    """Whether a slot may run while an earlier run of its task is under way."""

    SKIP = "skip"
    ALLOW = "allow"


class TaskOrder(StrEnum):
    """How tasks are listed; `-` means descending."""

    CREATED_AT = "created_at"
    CREATED_AT_DESCENDING = "-created_at"
    NAME = "name"
    NAME_DESCENDING = "-name"
    NEXT_RUN_AT = "next_run_at"
    NEXT_RUN_AT_DESCENDING = "-next_run_at"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDefinition:
    """What the user says; ticks never change it.

    Either `schedule` or `run_at` is set. `payload` is any JSON value; `start_at` is inclusive, `end_at` is not.
    `notify_url` is told of this task in place of whoever is told of all.
    """

    name: str
    webhook_url: str
    schedule: str | None = None
    timezone: str = "UTC"
    run_at: datetime | None = None
    start_at: datetime | None = None
    end_at: datetime | None = None
    payload: Any = field(default_factory=dict)
    method: Method = Method.POST
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout_seconds: int = DEFAULT_TIMEOUT_SECONDS
    success_statuses: str = success_statuses.DEFAULT
    max_retry: int = DEFAULT_MAX_RETRY
    retry_on: RetryOn = RetryOn.ALL
    deactivate_after: int = DEFAULT_DEACTIVATE_AFTER
    misfire_policy: MisfirePolicy = MisfirePolicy.RUN_ONCE
    catchup_window_seconds: int = DEFAULT_CATCHUP_WINDOW_SECONDS
    overlap_policy: OverlapPolicy = OverlapPolicy.SKIP
    signing_secrets: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    notify_url: str | None = None


def is_same(one: Any, other: Any) -> bool:
    """Whether two values of a field are equal, also as JSON: 1 is neither true nor 1.0 to a webhook."""
    if one != other or isinstance(one, bool) != isinstance(other, bool):
        return False
    return not isinstance(one, dict | list | int | float) or json.dumps(one) == json.dumps(other)


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
