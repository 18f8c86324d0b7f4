"""The values on the wire, by meaning: what each field of a request may be, and how it is documented.

Odd but legal JSON is accepted (3.0 for 3), and nothing that has to be guessed ("3", true).
"""

import re
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from domain.errors import InvalidInput
from domain.retry import RetryOn
from domain.schedule import parse_timezone, validate_schedule
from domain.signature import parse_signing_secret
from domain.success_statuses import parse_success_statuses
from domain.task import (
    MAX_CATCHUP_WINDOW_SECONDS,
    MAX_RETRY_LIMIT,
    MAX_SIGNING_SECRETS,
    MAX_TIMEOUT_SECONDS,
    MisfirePolicy,
    OverlapPolicy,
    TaskStatus,
)
from domain.task import Method as TaskMethod
from domain.webhook_headers import validate_headers
from domain.webhook_url import MAX_LENGTH as MAX_URL_LENGTH
from domain.webhook_url import parse_webhook_url

MAX_INTEGER = 2**31 - 1
MAX_QUERY_INTEGER = 2**63 - 1
MAX_TAGS = 10
MAX_NAME_LENGTH = 200
MASK = "…"
"""Takes the place of a secret for those who may only read; it is refused when it is sent back."""

TAG_PATTERN = r"^[A-Za-z0-9._:/-]{1,50}$"

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_DATE_AND_TIME = re.compile(r"[0-9W-]+(?:[Tt ][0-9:.,]+(?:[Zz]|[+-][0-9:.]+)?)?")


def whole_number(value: Any) -> int:
    """3 and 3.0, but not true or "3"."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise PydanticCustomError("whole_number", "not a whole number")


def whole_number_in_query(value: Any) -> int:
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,40}", value):
        return int(value)
    return whole_number(value)


def canonical_uuid(value: Any) -> UUID:
    """A UUID written as 8-4-4-4-12 hexadecimal digits, in either case."""
    if isinstance(value, UUID):
        return value
    if isinstance(value, str) and _UUID.fullmatch(value):
        return UUID(value)
    raise PydanticCustomError("uuid", "not a UUID")


def instant(value: Any) -> datetime:
    """An ISO 8601 or RFC 3339 text as an aware datetime in UTC; without an offset it means UTC."""
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str) or not _DATE_AND_TIME.fullmatch(value):
        raise PydanticCustomError("instant", "not a date and time")
    try:
        parsed = datetime.fromisoformat(value.upper())
    except ValueError:
        raise PydanticCustomError("instant", "not a date and time") from None
    try:
        return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    except OverflowError:
        raise PydanticCustomError("instant_range", "out of range") from None


def checked_schedule(text: str) -> str:
    """A schedule as it was written; raises InvalidSchedule."""
    validate_schedule(text)
    return text


def _checked_timezone(text: str) -> str:
    parse_timezone(text)
    return text


def _checked_webhook_url(text: str) -> str:
    if text.endswith(f"/{MASK}"):
        raise InvalidInput("The webhook URL is masked; send the real one, or leave it out to keep it.")
    parse_webhook_url(text)
    return text


def _checked_notify_url(text: str) -> str:
    try:
        return _checked_webhook_url(text)
    except InvalidInput as error:
        raise type(error)(str(error).replace("webhook URL", "notify URL")) from None


def _checked_headers(headers: dict[str, str]) -> dict[str, str]:
    validate_headers(headers)
    return headers


def _checked_success_statuses(text: str) -> str:
    parse_success_statuses(text)
    return text


def _signing_secrets(value: Any) -> tuple[str, ...]:
    """One secret, or a list of them while rotating; null is none."""
    secrets = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(secrets, list) or not all(isinstance(secret, str) for secret in secrets):
        raise PydanticCustomError("signing_secret", "not a secret")
    if len(secrets) > MAX_SIGNING_SECRETS:
        raise InvalidInput(
            f"At most {MAX_SIGNING_SECRETS} signing secrets are allowed; leave the oldest out."
        )
    for secret in secrets:
        parse_signing_secret(secret)
    return tuple(secrets)


def _tags(value: Any) -> tuple[str, ...]:
    """Words without blanks, each once."""
    if not isinstance(value, list) or not all(isinstance(tag, str) for tag in value):
        raise PydanticCustomError("tags", "not a list of words")
    for tag in value:
        if not re.fullmatch(TAG_PATTERN, tag, re.ASCII):
            raise InvalidInput(
                f"'{tag[:60]}' is not a tag; use up to 50 letters, digits, and the characters . _ : / -"
            )
    tags = tuple(dict.fromkeys(value))
    if len(tags) > MAX_TAGS:
        raise InvalidInput(f"At most {MAX_TAGS} tags are allowed; leave some out.")
    return tags


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise PydanticCustomError("nul", "NUL")
    return text


def without_default(schema: dict[str, Any]) -> None:
    schema.pop("default", None)


ABSENT: Any = Field(default=None, json_schema_extra=without_default)
"""Default of a field that is left as it is when a partial update does not name it; null is not the same."""

EXAMPLE_UUID = "0b0e7a52-6d0f-4d5e-9a53-1f6d2a1c7f10"
EXAMPLE_INSTANT = "2026-12-24T18:00:00Z"

Id = Annotated[UUID, Field(examples=[EXAMPLE_UUID])]
Instant = Annotated[datetime, Field(examples=[EXAMPLE_INSTANT])]
SentId = Annotated[Id, BeforeValidator(canonical_uuid)]
SentInstant = Annotated[Instant, BeforeValidator(instant)]
Name = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_NAME_LENGTH,
        description="What people call the task.",
        examples=["Daily report"],
    ),
]
Schedule = Annotated[
    Annotated[str, AfterValidator(checked_schedule)] | None,
    Field(
        description="Five cron fields, or @hourly @daily @midnight @weekly @monthly @yearly @annually.",
        examples=["30 8 * * MON-FRI"],
    ),
]
Timezone = Annotated[
    str,
    AfterValidator(_checked_timezone),
    Field(description="IANA name of the time zone that the schedule is read in.", examples=["Europe/Berlin"]),
]
WebhookUrl = Annotated[
    str,
    AfterValidator(_checked_webhook_url),
    Field(
        description=f"Where the payload is sent: http or https, at most {MAX_URL_LENGTH:,} characters.",
        examples=["https://hooks.example.com/daily-report"],
    ),
]
NotifyUrl = Annotated[
    Annotated[str, AfterValidator(_checked_notify_url)] | None,
    Field(
        description="Who is told when the task fails, recovers, is deactivated or misses slots, in place of "
        "`NOTIFY_URL`.",
        examples=["https://chat.example.com/alerts"],
    ),
]
Payload = Annotated[
    Any,
    Field(
        description="Any JSON value; sent as compact UTF-8 JSON with its key order kept.",
        examples=[{"report": "daily"}],
    ),
]
MaxRetry = Annotated[
    int,
    Field(ge=0, le=MAX_RETRY_LIMIT, description="How often a failed run is attempted again.", examples=[3]),
    BeforeValidator(whole_number),
]
RunAt = Annotated[
    SentInstant | None,
    Field(
        description="The one instant at which the task runs, in place of a schedule.",
        examples=[EXAMPLE_INSTANT],
    ),
]
StartAt = Annotated[
    SentInstant | None, Field(description="No run before this instant.", examples=[EXAMPLE_INSTANT])
]
EndAt = Annotated[
    SentInstant | None, Field(description="No run at this instant or later.", examples=[EXAMPLE_INSTANT])
]
Method = Annotated[
    TaskMethod,
    Field(description="POST, PUT and PATCH send the payload; GET and DELETE no body.", examples=["POST"]),
]
Headers = Annotated[
    dict[str, str],
    AfterValidator(_checked_headers),
    Field(
        description="Headers of each call, at most 20 and 8 KiB; their values are secrets.",
        examples=[{"Authorization": "Bearer a-secret-of-the-receiver"}],
    ),
]
TimeoutSeconds = Annotated[
    int,
    Field(
        ge=1,
        le=MAX_TIMEOUT_SECONDS,
        description="Deadline of one attempt, from DNS to the last byte.",
        examples=[10],
    ),
    BeforeValidator(whole_number),
]
SuccessStatuses = Annotated[
    str,
    AfterValidator(_checked_success_statuses),
    Field(description="HTTP statuses that count as a success.", examples=["200-299,304"]),
]
Retries = Annotated[
    RetryOn,
    Field(
        description="`transient`: only network errors, time-outs, 408, 425, 429 and 5xx are retried.",
        examples=["transient"],
    ),
]
DeactivateAfter = Annotated[
    int,
    Field(
        ge=0,
        le=MAX_INTEGER,
        description="Failed runs in a row that deactivate the task; 0 means never.",
        examples=[3],
    ),
    BeforeValidator(whole_number),
]
Misfire = Annotated[
    MisfirePolicy,
    Field(
        description="What becomes of slots that are more than 120 s late: the latest runs, none, or each.",
        examples=["run_once"],
    ),
]
CatchupWindowSeconds = Annotated[
    int,
    Field(
        ge=0,
        le=MAX_CATCHUP_WINDOW_SECONDS,
        description="Slots older than this are always missed.",
        examples=[86_400],
    ),
    BeforeValidator(whole_number),
]
Overlap = Annotated[
    OverlapPolicy,
    Field(description="Whether a slot may run while an earlier run is still under way.", examples=["skip"]),
]
SigningSecret = Annotated[
    tuple[str, ...],
    BeforeValidator(_signing_secrets),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": "string"}, "maxItems": MAX_SIGNING_SECRETS},
                {"type": "null"},
            ],
            "writeOnly": True,
            "description": "`whsec_` and base64: signs each call by Standard Webhooks; a list while rotating.",
            "examples": ["whsec_bm90LWEtc2VjcmV0LWJ1dC1hbi1leGFtcGxl"],
        }
    ),
]
Tags = Annotated[
    tuple[str, ...],
    BeforeValidator(_tags),
    WithJsonSchema(
        {
            "type": "array",
            "items": {"type": "string", "pattern": TAG_PATTERN},
            "maxItems": MAX_TAGS,
            "description": "Words to find tasks by.",
            "examples": [["billing", "env:production"]],
        }
    ),
]
Tag = Annotated[
    Annotated[str, Field(max_length=200), AfterValidator(_without_nul)] | None,
    Field(description="Only tasks with this tag.", examples=["billing"]),
]
Status = Annotated[
    TaskStatus, Field(description="Only active tasks run; setting `active` forgets past failures.")
]
RetryCount = Annotated[
    int,
    Field(ge=0, le=MAX_INTEGER, description="Retries after the first attempt.", examples=[0]),
    BeforeValidator(whole_number),
]
Message = Annotated[
    Annotated[str, Field(max_length=10_000)] | None,
    Field(description="What happened, in a plain sentence.", examples=["Took 2 s."]),
]
ExecutionTime = Annotated[
    SentInstant, Field(description="Start of the first attempt; ISO 8601, and UTC if it names no offset.")
]
Search = Annotated[
    Annotated[str, Field(max_length=200), AfterValidator(_without_nul)] | None,
    Field(description="Only tasks whose name contains this, in upper or lower case.", examples=["report"]),
]
Since = Annotated[SentInstant | None, Field(description="Only what was created at this instant or later.")]
Until = Annotated[SentInstant | None, Field(description="Only what was created before this instant.")]
PageToken = Annotated[
    Annotated[str, Field(max_length=2_000)] | None,
    Field(
        description="Where the page begins: `next_page_token` of the page before, or empty for the first page. "
        "Such pages have no `total`, and cost the same at any depth.",
    ),
]
Skip = Annotated[
    int,
    Field(ge=0, le=MAX_QUERY_INTEGER, description="How many to leave out at the start."),
    BeforeValidator(whole_number_in_query),
]
Limit = Annotated[
    int,
    Field(ge=1, le=1000, description="How many to return at most."),
    BeforeValidator(whole_number_in_query),
]
