"""The wire models: what bodies may say and what answers look like; list_queries.py has the lists' parameters."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from domain import success_statuses, task
from domain.retry import RetryOn
from domain.run import RunSource, RunStatus
from domain.task import (
    DEFAULT_CATCHUP_WINDOW_SECONDS,
    DEFAULT_DEACTIVATE_AFTER,
    DEFAULT_MAX_RETRY,
    DEFAULT_TIMEOUT_SECONDS,
    MisfirePolicy,
    OverlapPolicy,
    TaskDefinition,
    TaskStatus,
)
from domain.webhook_url import redacted
from functions.fields import (
    ABSENT,
    MASK,
    CatchupWindowSeconds,
    DeactivateAfter,
    EndAt,
    ExecutionTime,
    Headers,
    Id,
    Instant,
    MaxRetry,
    Message,
    Method,
    Misfire,
    Name,
    NotifyUrl,
    Overlap,
    Payload,
    Retries,
    RetryCount,
    RunAt,
    Schedule,
    SentId,
    SigningSecret,
    StartAt,
    Status,
    SuccessStatuses,
    Tags,
    TimeoutSeconds,
    Timezone,
    WebhookUrl,
    without_default,
)


class Answer(BaseModel):
    model_config = ConfigDict(frozen=True, from_attributes=True)

    def masked(self) -> Self:
        """As those see it who may only read: without the secrets."""
        return self


class Task(Answer):
    """A task: what its user defined, and how it is doing."""

    id: Id
    name: str = Field(examples=["Daily report"])
    schedule: str | None = Field(examples=["30 8 * * MON-FRI"])
    timezone: str = Field(examples=["Europe/Berlin"])
    run_at: Instant | None = Field(description="The one instant of a task without a schedule.")
    start_at: Instant | None
    end_at: Instant | None
    webhook_url: str = Field(examples=["https://hooks.example.com/daily-report"])
    method: Method
    headers: dict[str, str]
    payload: Payload
    tags: list[str] = Field(examples=[["billing", "env:production"]])
    timeout_seconds: int = Field(examples=[10])
    success_statuses: str = Field(examples=["200-299"])
    max_retry: int = Field(examples=[3])
    retry_on: RetryOn
    deactivate_after: int = Field(examples=[1])
    misfire_policy: MisfirePolicy
    catchup_window_seconds: int = Field(examples=[86400])
    overlap_policy: OverlapPolicy
    notify_url: str | None = Field(examples=["https://chat.example.com/alerts"])
    status: TaskStatus = Field(description="`completed`: the last run that its time allows has ended.")
    created_at: Instant
    updated_at: Instant = Field(description="Last change by a user; runs do not count.")
    revision: int = Field(description="Grows by one with each change by a user.", examples=[1])
    next_run_at: Instant | None = Field(description="Null while the task is not active.")
    last_run_at: Instant | None
    last_status: str | None = Field(description="How the last finished run ended.", examples=["success"])
    consecutive_failures: int = Field(examples=[0])
    deactivated_at: Instant | None = Field(description="When Insignia switched the task off.")
    deactivated_reason: str | None = Field(description="Why, in a plain sentence.")

    @classmethod
    def of(cls, value: task.Task) -> Self:
        parts = (value, value.definition)
        return cls(
            **{name: getattr(part, name) for part in parts for name in part.__slots__ if name in FIELDS}
        )

    def masked(self) -> Self:
        return self.model_copy(
            update={
                "webhook_url": masked_url(self.webhook_url),
                "notify_url": self.notify_url and masked_url(self.notify_url),
                "headers": dict.fromkeys(self.headers, MASK),
            }
        )


FIELDS = Task.model_fields.keys()


def masked_url(url: str) -> str:
    return f"{redacted(url).split()[0]}/{MASK}"


Total = Annotated[
    int | None,
    Field(description="How many match, on all pages; null for a page by page_token.", examples=[1]),
]
NextPageToken = Annotated[
    str | None, Field(description="Send it as page_token for the next page; null on the last page.")
]


class TaskList(Answer):
    """A page of tasks."""

    tasks: list[Task]
    total: Total
    skip: int = Field(examples=[0])
    limit: int = Field(examples=[100])
    next_page_token: NextPageToken

    def masked(self) -> Self:
        return self.model_copy(update={"tasks": [task.masked() for task in self.tasks]})


def masked(answer: BaseModel) -> BaseModel:
    """An answer as those see it who may only read."""
    return answer.masked() if isinstance(answer, Answer) else answer


class Attempt(Answer):
    """One HTTP call of a run."""

    number: int = Field(examples=[1])
    started_at: Instant
    duration_ms: int | None = Field(None, examples=[182])
    outcome: str | None = Field(
        None,
        description="`success`, `failed`, `throttled` (a Retry-After wait), `unknown` (its process ended) or "
        "`late` (its lease was lost); null while it is under way.",
        examples=["success"],
    )
    http_status: int | None = Field(None, examples=[200])
    error: str | None = Field(None, description="As in the task log.")
    message: str | None = None
    retry_at: Instant | None = None


class TaskLog(Answer):
    """The record of a run, from its claim to its end."""

    id: Id
    task_id: Id
    execution_time: Instant = Field(description="Start of the first attempt.")
    status: RunStatus
    retry_count: int = Field(examples=[0])
    message: str | None = Field(examples=["The webhook answered HTTP 200 OK."])
    created_at: Instant
    source: RunSource = Field(
        description="`schedule`: of a slot. `manual`: asked for by hand. `api`: recorded, not made by Insignia."
    )
    retry_of: Id | None = Field(description="The log that this run makes up for.")
    scheduled_for: Instant | None = Field(
        description="The slot: when the schedule fired. Of a manual run, when it was asked for, or what its "
        "`retry_of` was for."
    )
    finished_at: Instant | None
    duration_ms: int | None = Field(examples=[182])
    lateness_ms: int | None = Field(description="From the slot to the first attempt.", examples=[340])
    throttled_ms: int = Field(
        description="For how long it was due and its destination allowed no call: by `DESTINATION_CONCURRENCY`, "
        "`DESTINATION_RATES`, or a `Retry-After` that another run was given.",
        examples=[0],
    )
    http_status: int | None = Field(examples=[200])
    error: str | None = Field(
        description="Kind of failure: `dns`, `connect`, `tls`, `timeout`, `http`, `blocked`, `too_large` or "
        "`protocol`."
    )
    response_excerpt: str | None = Field(description="Beginning of the webhook's last answer.")
    attempts: list[Attempt]
    missed_from: Instant | None = Field(description="First of the slots that did not run.")
    missed_to: Instant | None = Field(description="Last of them.")
    missed_count: int | None = Field(description="How many they are.", examples=[None])


class TaskLogList(Answer):
    """A page of task logs."""

    task_logs: list[TaskLog]
    total: Total
    skip: int = Field(examples=[0])
    limit: int = Field(examples=[100])
    next_page_token: NextPageToken


class Done(Answer):
    """What was done, for people."""

    message: str = Field(examples=["The task was deleted."])


class TickSummary(Answer):
    """What a tick did: started = succeeded + failed + retrying + throttled + cancelled + late + unsettled."""

    due: int = Field(description="What was due at its start: slots, retries, and runs whose process died.")
    started: int = Field(description="Runs it took up, by an attempt or by ending them.")
    succeeded: int
    failed: int
    retrying: int = Field(
        description="Attempts that failed and will be retried, in this tick or a later one."
    )
    throttled: int
    missed: int
    skipped: int
    cancelled: int
    deactivated: int = Field(description="Tasks it switched off because they kept failing.")
    late: int = Field(description="Answers that came after their lease was lost to another tick.")
    unsettled: int
    remaining: int = Field(description="What was due at its end.")
    lag_seconds: float = Field(description="Age of the oldest due slot at its start.")
    duration_seconds: float


class Migration(Answer):
    """What a migration came to."""

    schema_revision: str


class ProblemFault(Answer):
    """One thing that is wrong in a request."""

    pointer: str = Field(description="JSON pointer into the body or the parameters.", examples=["/schedule"])
    detail: str = Field(examples=["Schedule '61 * * * *': minute 61 is out of range; use 0 to 59."])


class Problem(Answer):
    """What went wrong and what to do (RFC 9457)."""

    type: str = Field(examples=["about:blank"])
    title: str = Field(examples=["Unprocessable Content"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["Schedule '61 * * * *': minute 61 is out of range; use 0 to 59."])
    code: str = Field(description="Stable name of the kind of problem.", examples=["INVALID_SCHEDULE"])
    request_id: str = Field(examples=["0f8fad5bd9cb469fa16570867728950e"])
    errors: list[ProblemFault] | None = Field(
        None, description="Each fault with its place, where there is one."
    )


class Sent(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Changes(Sent):
    """A body that names what is to change; read-only fields are ignored, so that get, edit, put works."""

    _whole: ClassVar[type[Answer]]

    @model_validator(mode="before")
    @classmethod
    def _without_read_only(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        read_only = cls._whole.model_fields.keys() - cls.model_fields.keys()
        return {name: item for name, item in value.items() if name not in read_only}

    def changes(self) -> dict[str, Any]:
        """The named fields with their values."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class TaskCreate(Sent):
    """A new task: a name, a webhook, and either a schedule or the one instant at which it runs."""

    name: Name
    run_at: RunAt = None
    schedule: Annotated[Schedule, Field(validate_default=True)] = None
    webhook_url: WebhookUrl
    payload: Payload = {}
    max_retry: MaxRetry = DEFAULT_MAX_RETRY
    status: Annotated[Literal["active", "inactive"], Field(description="Only active tasks run.")] = "active"
    timezone: Timezone = "UTC"
    start_at: StartAt = None
    end_at: EndAt = None
    method: Method = task.Method.POST
    headers: Headers = {}
    timeout_seconds: TimeoutSeconds = DEFAULT_TIMEOUT_SECONDS
    success_statuses: SuccessStatuses = success_statuses.DEFAULT
    retry_on: Retries = RetryOn.ALL
    deactivate_after: DeactivateAfter = DEFAULT_DEACTIVATE_AFTER
    misfire_policy: Misfire = MisfirePolicy.RUN_ONCE
    catchup_window_seconds: CatchupWindowSeconds = DEFAULT_CATCHUP_WINDOW_SECONDS
    overlap_policy: Overlap = OverlapPolicy.SKIP
    signing_secret: Annotated[SigningSecret, Field(json_schema_extra=without_default)] = ()
    tags: Tags = ()
    notify_url: NotifyUrl = None

    @field_validator("schedule")
    @classmethod
    def _schedule_or_run_at(cls, schedule: str | None, info: ValidationInfo) -> str | None:
        if "run_at" in info.data and (schedule is None) == (info.data["run_at"] is None):
            raise PydanticCustomError("neither" if schedule is None else "both", "schedule or run_at")
        return schedule

    def definition(self) -> TaskDefinition:
        return TaskDefinition(**stored(dict(self)))


class TaskChanges(_Changes):
    """What is to change of a task."""

    _whole = Task

    name: Name = ABSENT
    schedule: Schedule = ABSENT
    run_at: RunAt = ABSENT
    webhook_url: WebhookUrl = ABSENT
    payload: Payload = ABSENT
    max_retry: MaxRetry = ABSENT
    status: Status = ABSENT
    timezone: Timezone = ABSENT
    start_at: StartAt = ABSENT
    end_at: EndAt = ABSENT
    method: Method = ABSENT
    headers: Headers = ABSENT
    timeout_seconds: TimeoutSeconds = ABSENT
    success_statuses: SuccessStatuses = ABSENT
    retry_on: Retries = ABSENT
    deactivate_after: DeactivateAfter = ABSENT
    misfire_policy: Misfire = ABSENT
    catchup_window_seconds: CatchupWindowSeconds = ABSENT
    overlap_policy: Overlap = ABSENT
    signing_secret: SigningSecret = ABSENT
    tags: Tags = ABSENT
    notify_url: NotifyUrl = ABSENT

    def definition_changes(self) -> dict[str, Any]:
        """The named fields that belong to the definition."""
        return stored(self.changes())


def stored(fields: dict[str, Any]) -> dict[str, Any]:
    """Fields of a request by their names in TaskDefinition; the status is no part of that."""
    names = {"signing_secret": "signing_secrets"}
    return {names.get(name, name): value for name, value in fields.items() if name != "status"}


class TaskLogCreate(Sent):
    """An execution that something else made."""

    task_id: SentId
    execution_time: ExecutionTime
    status: Literal["success", "failed"]
    retry_count: RetryCount = 0
    message: Message = None


class TaskLogChanges(_Changes):
    """What is to change of a task log."""

    _whole = TaskLog

    status: RunStatus = ABSENT
    message: Message = ABSENT
    retry_count: RetryCount = ABSENT
    execution_time: ExecutionTime = ABSENT
