"""The wire models of what is worked out on demand and stored nowhere: previews, tests, statistics, health."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from functions.cloud_scheduler import State
from functions.fields import Instant, Timezone, checked_schedule, whole_number_in_query
from functions.schemas import Answer, Problem

MAX_PREVIEWED_RUNS = 100
MAX_HOURS = 7 * 24


class ScheduleQuery(BaseModel):
    schedule: Annotated[
        str,
        AfterValidator(checked_schedule),
        Field(
            description="Five cron fields, or @hourly @daily @midnight @weekly @monthly @yearly @annually.",
            examples=["30 2 * * *"],
        ),
    ]
    timezone: Timezone = "UTC"
    count: Annotated[
        int,
        Field(ge=1, le=MAX_PREVIEWED_RUNS, description="How many runs to tell."),
        BeforeValidator(whole_number_in_query),
    ] = 5


class PlannedRun(Answer):
    """A run that a schedule will make."""

    utc: Instant
    local: datetime = Field(description="In the time zone.", examples=["2027-03-28T03:00:00+02:00"])
    note: str | None = Field(
        description="What a clock change has to do with this run: it is moved, or others were dropped before it.",
        examples=["On 2027-03-28 the clocks in Europe/Berlin skip 02:30: the run is at 03:00."],
    )


class SchedulePreview(Answer):
    """What a schedule means."""

    schedule: str = Field(examples=["30 2 * * *"])
    timezone: str = Field(examples=["Europe/Berlin"])
    words: str = Field(description="The schedule in words.", examples=["At 02:30"])
    runs: list[PlannedRun] = Field(description="The next runs; fewer than asked for if there are no more.")
    warnings: list[str] = Field(
        description="What is easily overlooked: a day that either of two fields decides, and what clock changes "
        "do within the next year.",
        examples=[["On 2027-03-28 the clocks in Europe/Berlin skip 02:30: the run is at 03:00."]],
    )


class TestedCall(Answer):
    """What came of the one call of a test."""

    status: Literal["success", "failed"]
    http_status: int | None = Field(examples=[200])
    duration_ms: int = Field(examples=[182])
    error: str | None = Field(description="Kind of failure, as in a task log.", examples=[None])
    message: str = Field(examples=["The webhook answered HTTP 200 OK."])
    response_excerpt: str | None = Field(
        description="Beginning of the webhook's answer, at most 2 KiB.", examples=["ok"]
    )
    response_headers: dict[str, str] = Field(
        description="Headers of the answer, the first 8 KiB of them.",
        examples=[{"Content-Type": "text/plain"}],
    )


class StatsQuery(BaseModel):
    hours: Annotated[
        int,
        Field(ge=1, le=MAX_HOURS, description="How many hours of the clock, with the present one."),
        BeforeValidator(whole_number_in_query),
    ] = 24


class Hour(Answer):
    """What came of the logs that were begun in an hour."""

    start: Instant
    success: int = Field(examples=[59])
    failed: int = Field(examples=[1])
    missed: int = Field(description="Slots, not logs.", examples=[0])
    skipped: int = Field(examples=[0])
    cancelled: int = Field(description="Slots, not logs.", examples=[0])


class Percentiles(Answer):
    """Half, and 95 % of the values are at most this large; null without values."""

    p50: int | None = Field(examples=[182])
    p95: int | None = Field(examples=[640])


class TaskCounts(Answer):
    """How many tasks there are of each kind."""

    active: int = Field(examples=[12])
    inactive: int = Field(description="Switched off by a user.", examples=[1])
    deactivated: int = Field(description="Switched off by Insignia.", examples=[0])
    completed: int = Field(examples=[2])


class Stats(Answer):
    """How things went, and how many tasks there are."""

    hours: list[Hour] = Field(description="Each hour in UTC, oldest first, also those without a log.")
    success_rate: float | None = Field(
        description="Successes among the runs that have ended, from 0 to 1; null without any.",
        examples=[0.9833],
    )
    duration_ms: Percentiles = Field(description="Of the last attempts of runs that have ended.")
    lateness_ms: Percentiles = Field(description="From the slot to the first attempt, of scheduled runs.")
    tasks: TaskCounts


class Health(Answer):
    """Whether Insignia can work, and what there is to do. Counts stop at 10,000, `running` and `waiting` together."""

    status: Literal["healthy", "degraded"] = Field(description="`degraded`: webhooks are called late.")
    version: str = Field(description="Of the code.", examples=["0.1.0"])
    database: Literal["ok"]
    read_only: Literal[False] = Field(description="Whether the database takes no writes.")
    schema_revision: str | None = Field(description="Of the database.", examples=["0005"])
    expected_schema_revision: str = Field(
        description="What the code needs: this one or a later one.", examples=["0005"]
    )
    last_tick_at: Instant | None = Field(description="End of the last tick that could record all it did.")
    tick_age_seconds: float | None = Field(description="Since then.", examples=[21.4])
    tick_lag_seconds: float | None = Field(description="Age of the oldest due slot at the last tick.")
    tick: Literal["ok", "pending", "late"] = Field(
        description="`pending`: there was none yet. `late`: the last one was more than 4 minutes ago."
    )
    lag_seconds: float = Field(description="Age of the oldest due slot now; 0 if none is due.", examples=[0])
    due: int = Field(description="Slots that are due now and not taken up.", examples=[0])
    running: int = Field(description="Runs that are being called.", examples=[3])
    waiting: int = Field(description="Runs that wait for a retry.", examples=[1])
    deactivated: int = Field(description="Tasks that Insignia has switched off.", examples=[0])
    scheduler: State | None = Field(
        description="The job of Cloud Scheduler in SCHEDULER_JOB; null without that setting."
    )


class HealthProblem(Problem):
    """As Health, when Insignia cannot work; `status` is a word here, as in Health. What is not known is null."""

    status: Literal["unhealthy"]  # type: ignore[assignment]
    version: str
    database: Literal["unavailable", "outdated"]
    read_only: bool | None
    schema_revision: str | None
    expected_schema_revision: str
