import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from domain import run, task
from domain.run import RunSource, RunStatus
from domain.task import TaskDefinition, TaskStatus
from functions.json_body import parse_json
from functions.list_queries import TaskLogQuery, TaskQuery
from functions.problems import InvalidRequest, problem
from functions.schemas import (
    Task,
    TaskChanges,
    TaskCreate,
    TaskLog,
    TaskLogChanges,
    TaskLogCreate,
)
from functions.validation import MAX_FAULTS, validated

ID = UUID("0b0e7a52-6d0f-4d5e-9a53-1f6d2a1c7f10")
NOON = datetime(2026, 12, 24, 12, tzinfo=UTC)
NEW_TASK = {"name": "n", "schedule": "* * * * *", "webhook_url": "https://example.com/hook"}
NEW_LOG = {"task_id": str(ID), "execution_time": "2026-12-24T12:00:00Z", "status": "success"}
TASK = task.Task(
    id=ID,
    definition=TaskDefinition(
        name="n",
        schedule="0 12 * * *",
        timezone="UTC",
        webhook_url="https://example.com/ü#f",
        payload={"b": [1.5, None, "ü"], "a": 2**70},
        max_retry=3,
    ),
    status=TaskStatus.ACTIVE,
    revision=1,
    next_run_at=NOON,
    last_run_at=None,
    last_status=None,
    consecutive_failures=0,
    deactivated_at=None,
    deactivated_reason=None,
    created_at=NOON + timedelta(microseconds=120),
    updated_at=NOON,
)
TASK_LOG = run.TaskLog(
    id=ID,
    task_id=ID,
    source=RunSource.SCHEDULE,
    status=RunStatus.SUCCESS,
    scheduled_for=NOON,
    execution_time=NOON,
    finished_at=NOON,
    retry_count=0,
    message=None,
    duration_ms=1,
    lateness_ms=0,
    throttled_ms=0,
    http_status=200,
    error=None,
    response_excerpt=None,
    attempts=[{"number": 1, "started_at": "2026-12-24T12:00:00.25+00:00", "outcome": "success"}],
    created_at=NOON,
    missed_from=None,
    missed_to=None,
    retry_of=None,
    missed_count=None,
)


def faults_of(model: type[BaseModel], value: Any) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as caught:
        validated(model, value)
    return {fault.pointer: fault.detail for fault in caught.value.faults}


def test_a_task_needs_a_name_a_schedule_and_a_webhook_url() -> None:
    assert faults_of(TaskCreate, {}) == {
        "/name": "name is required.",
        "/schedule": "schedule is required; a task that runs once has run_at in its place.",
        "/webhook_url": "webhook_url is required.",
    }


def test_everything_else_of_a_task_has_a_default() -> None:
    body = validated(TaskCreate, NEW_TASK)
    assert body.definition() == TaskDefinition(
        name=NEW_TASK["name"], schedule=NEW_TASK["schedule"], webhook_url=NEW_TASK["webhook_url"]
    )
    assert body.status == "active"


def test_a_task_has_either_a_schedule_or_one_instant() -> None:
    assert faults_of(TaskCreate, NEW_TASK | {"run_at": "2030-01-01T00:00:00Z"}) == {
        "/schedule": "schedule and run_at exclude each other; send one of them."
    }
    one_off = NEW_TASK | {"schedule": None, "run_at": "2030-01-01T00:00:00Z"}
    assert validated(TaskCreate, one_off).definition().run_at == datetime(2030, 1, 1, tzinfo=UTC)


SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.mark.parametrize(
    ("sent", "stored"), [(SECRET, (SECRET,)), ([SECRET, SECRET], (SECRET, SECRET)), (None, ()), ([], ())]
)
def test_a_signing_secret_is_one_or_a_list_while_rotating(sent: Any, stored: tuple[str, ...]) -> None:
    assert validated(TaskChanges, {"signing_secret": sent}).definition_changes() == {
        "signing_secrets": stored
    }


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("signing_secret", 5, "signing_secret must be a string such as 'whsec_…', or a list of them."),
        ("signing_secret", [SECRET] * 4, "At most 3 signing secrets are allowed; leave the oldest out."),
        ("headers", [], "headers must be an object, not an array."),
        ("timeout_seconds", 46, "timeout_seconds must be at most 45; it is 46."),
        ("status", "completed", "status must be 'active' or 'inactive', not 'completed'."),
    ],
)
def test_a_setting_of_the_engine_that_breaks_a_rule_is_refused(field: str, value: Any, sentence: str) -> None:
    assert faults_of(TaskCreate, NEW_TASK | {field: value}) == {f"/{field}": sentence}


@pytest.mark.parametrize("payload", [None, True, 0, 1.5, "", [], {"a": None}])
def test_a_payload_is_any_json_value(payload: Any) -> None:
    assert validated(TaskCreate, NEW_TASK | {"payload": payload}).payload == payload
    assert validated(TaskChanges, {"payload": payload}).changes() == {"payload": payload}


def test_a_webhook_url_is_kept_exactly_as_it_was_sent() -> None:
    url = "HTTPS://Example.com/ü#part"
    assert validated(TaskCreate, NEW_TASK | {"webhook_url": url}).webhook_url == url


@pytest.mark.parametrize("value", [3, 3.0])
def test_a_whole_number_may_be_written_with_a_point(value: float) -> None:
    retries = validated(TaskCreate, NEW_TASK | {"max_retry": value}).max_retry
    assert (retries, type(retries)) == (3, int)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(True, "true"), ("3", "'3'"), (3.5, "3.5"), (None, "null"), ([], "an array"), ({}, "an object")],
)
def test_nothing_else_is_a_whole_number(value: Any, shown: str) -> None:
    assert faults_of(TaskCreate, NEW_TASK | {"max_retry": value}) == {
        "/max_retry": f"max_retry must be a whole number, not {shown}."
    }


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("name", "", "name must not be empty."),
        ("name", "x" * 201, "name has 201 characters; at most 200 are allowed."),
        ("name", None, "name must be a string, not null."),
        ("name", 5, "name must be a string, not a number."),
        ("schedule", ["* * * * *"], "schedule must be a string, not an array."),
        ("max_retry", 21, "max_retry must be at most 20; it is 21."),
        ("max_retry", -1, "max_retry must be at least 0; it is -1."),
        ("max_retry", 1e300, None),
        ("status", "on", "status must be 'active' or 'inactive', not 'on'."),
        ("status", None, "status must be 'active' or 'inactive', not null."),
        ("status", True, "status must be 'active' or 'inactive', not true."),
        ("status", {"a": 1}, "status must be 'active' or 'inactive', not an object."),
        ("webhook_url", "example.com", "The webhook URL must begin with http:// or https://."),
        ("notify_url", "example.com", "The notify URL must begin with http:// or https://."),
        ("notify_url", "https://:1/", "The notify URL has no host; use a name such as hooks.example.com."),
        ("tags", "billing", 'tags must be an array of strings such as ["billing"].'),
        ("timezone", None, "timezone must be a string, not null."),
        ("timezone", "Mars/Olympus", None),
        ("schedule", "61 * * * *", None),
        ("schedule", "0 0 30 2 *", None),
        ("colour", [], "'colour' is not a field of this request; remove it."),
        ("max_retries", 3, "'max_retries' is not a field of this request; did you mean 'max_retry'?"),
    ],
)
@pytest.mark.parametrize("model", [TaskCreate, TaskChanges])
def test_a_value_that_breaks_a_rule_is_refused_with_a_sentence(
    model: type[BaseModel], field: str, value: Any, sentence: str | None
) -> None:
    faults = faults_of(model, NEW_TASK | {field: value})
    assert list(faults) == [f"/{field}"]
    assert faults[f"/{field}"].endswith((".", "?"))
    assert len(faults[f"/{field}"]) < 250
    if model is TaskChanges and sentence is not None:  # a completed task may be sent back as it is
        sentence = sentence.replace("'active' or 'inactive'", "'active', 'inactive' or 'completed'")
    assert sentence in (None, faults[f"/{field}"])


@pytest.mark.parametrize(
    ("field", "code"), [("schedule", "INVALID_SCHEDULE"), ("timezone", "INVALID_TIMEZONE")]
)
def test_the_code_names_the_rule_that_was_broken_first(field: str, code: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        validated(TaskCreate, NEW_TASK | {field: "nonsense"})
    assert problem(caught.value).json["code"] == code  # type: ignore[index]


@pytest.mark.parametrize("value", [None, 5, "text", [], [NEW_TASK], True])
@pytest.mark.parametrize("model", [TaskCreate, TaskChanges, TaskLogCreate, TaskLogChanges])
def test_a_body_is_an_object(model: type[BaseModel], value: Any) -> None:
    faults = faults_of(model, value)
    assert list(faults) == [""]
    assert faults[""].startswith("The body must be a JSON object, not ")


def test_the_first_sentence_stands_for_all() -> None:
    with pytest.raises(InvalidRequest, match=r"^name is required\. \(and 2 more\)$"):
        validated(TaskCreate, {})


def test_a_body_full_of_faults_is_told_the_first_of_them() -> None:
    assert len(faults_of(TaskCreate, {f"field{number}": 1 for number in range(1000)})) == MAX_FAULTS


def test_an_unknown_field_with_an_odd_name_is_pointed_to() -> None:
    assert list(faults_of(TaskCreate, NEW_TASK | {"a/b~c": 1})) == ["/a~1b~0c"]
    assert list(faults_of(TaskCreate, NEW_TASK | {"": 1})) == ["/"]
    assert list(faults_of(TaskCreate, NEW_TASK | {"x" * 5000: 1})) == [""]


def test_a_change_names_only_what_it_contains() -> None:
    assert validated(TaskChanges, {}).changes() == {}
    assert validated(TaskChanges, {"name": "m", "max_retry": 0.0}).changes() == {"name": "m", "max_retry": 0}


def test_an_answer_can_be_sent_back_as_a_change() -> None:
    answer = Task.of(TASK).model_dump_json().encode()
    changes = validated(TaskChanges, parse_json(answer)).changes()
    assert changes.pop("status") is TaskStatus.ACTIVE
    assert TaskDefinition(**changes) == TASK.definition

    log = TaskLog.model_validate(TASK_LOG).model_dump_json().encode()
    assert validated(TaskLogChanges, parse_json(log)).changes() == {
        "status": RunStatus.SUCCESS,
        "message": None,
        "retry_count": 0,
        "execution_time": NOON,
    }


def test_an_answer_shows_instants_in_utc_with_their_microseconds() -> None:
    answer = Task.of(TASK).model_dump_json()
    assert '"updated_at":"2026-12-24T12:00:00Z"' in answer
    assert '"created_at":"2026-12-24T12:00:00.000120Z"' in answer
    assert '"started_at":"2026-12-24T12:00:00.250000Z"' in TaskLog.model_validate(TASK_LOG).model_dump_json()


def test_an_answer_keeps_the_payload_as_it_is() -> None:
    answer = Task.of(TASK).model_dump_json()
    assert '"payload":{"b":[1.5,null,"ü"],"a":1180591620717411303424}' in answer
    assert json.loads(answer)["webhook_url"] == "https://example.com/ü#f"


def test_a_log_needs_a_task_a_time_and_a_status() -> None:
    assert list(faults_of(TaskLogCreate, {})) == ["/task_id", "/execution_time", "/status"]
    body = validated(TaskLogCreate, NEW_LOG)
    assert (body.retry_count, body.message) == (0, None)


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-12-24T12:00:00Z", NOON),
        ("2026-12-24t12:00:00z", NOON),
        ("2026-12-24 12:00:00", NOON),
        ("2026-12-24T12:00:00", NOON),
        ("2026-12-24T12:00", NOON),
        ("2026-12-24T14:00:00+02:00", NOON),
        ("2026-12-24T12:00:00-00:00", NOON),
        ("20261224T120000Z", NOON),
        ("2026-12-24", NOON.replace(hour=0)),
        ("2026-12-24T12:00:00.5Z", NOON.replace(microsecond=500_000)),
        ("2026-12-24T12:00:00.123456789Z", NOON.replace(microsecond=123_456)),
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
        ("9999-12-31T23:59:59.999999Z", datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
    ],
)
def test_a_time_without_an_offset_is_utc_and_every_other_is_converted(text: str, instant: datetime) -> None:
    time = validated(TaskLogCreate, NEW_LOG | {"execution_time": text}).execution_time
    assert time == instant
    assert time.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "value",
    [
        1_700_000_000,
        1.5,
        "1700000000",
        "",
        "now",
        "12:00",
        "2026-13-01T00:00:00Z",
        "2026-12-24X12:00:00",
        None,
        True,
        {},
        "2026-02-30",
        "2026-12-24T12:00:00Z ",
        "2026-12-24T12:00:00+99:00",
        "٢٠٢٦-12-24T12:00:00Z",
        "-1-01-01",
    ],
)
def test_what_is_no_date_and_time_is_refused(value: Any) -> None:
    (fault,) = faults_of(TaskLogCreate, NEW_LOG | {"execution_time": value}).items()
    assert fault[0] == "/execution_time"
    assert "must be a date and time such as '2026-12-24T18:00:00Z'" in fault[1]


@pytest.mark.parametrize("value", ["0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"])
def test_a_time_outside_of_the_years_of_utc_is_refused(value: str) -> None:
    assert (
        "years 1 to 9999" in faults_of(TaskLogCreate, NEW_LOG | {"execution_time": value})["/execution_time"]
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("status", "running"),
        ("status", "SUCCESS"),
        ("retry_count", -1),
        ("retry_count", 2**31),
        ("retry_count", None),
        ("message", "x" * 10_001),
        ("message", 5),
        ("task_id", "1"),
        ("task_id", ID.hex),
        ("task_id", f"{{{ID}}}"),
        ("task_id", 5),
        ("source", "api"),
    ],
)
def test_a_log_with_a_value_that_breaks_a_rule_is_refused(field: str, value: Any) -> None:
    assert list(faults_of(TaskLogCreate, NEW_LOG | {field: value})) == [f"/{field}"]


def test_a_log_may_carry_what_is_at_the_edge() -> None:
    edge = {"retry_count": 2**31 - 1, "message": "x" * 10_000, "task_id": str(ID).upper()}
    body = validated(TaskLogCreate, NEW_LOG | edge)
    assert (body.retry_count, body.task_id) == (2**31 - 1, ID)
    assert validated(TaskLogCreate, NEW_LOG | {"message": None}).message is None


def test_a_log_may_be_sent_back_with_any_status_and_unknown_fields_are_refused() -> None:
    assert validated(TaskLogChanges, {"status": "cancelled"}).status is RunStatus.CANCELLED
    assert list(faults_of(TaskLogChanges, {"status": "done", "other": 1})) == ["/status", "/other"]
    assert list(faults_of(TaskLogChanges, {"execution_time": None, "retry_count": None})) == [
        "/retry_count",
        "/execution_time",
    ]


def test_a_query_has_defaults_and_ignores_what_it_does_not_know() -> None:
    query = validated(TaskQuery, {"unknown": "x"})
    assert (query.skip, query.limit, query.status, query.search) == (0, 100, None, None)


def test_a_query_is_read_from_texts() -> None:
    query = validated(
        TaskLogQuery, {"skip": str(2**63 - 1), "limit": "1000", "status": "retrying", "task_id": str(ID)}
    )
    assert (query.skip, query.limit, query.status, query.task_id) == (2**63 - 1, 1000, RunStatus.RETRYING, ID)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("skip", text)
        for text in ("-1", str(2**63), "9" * 5000, "", "1.0", " 1", "1_0", "+1", "٣", "x", "true")
    ]
    + [("limit", text) for text in ("0", "1001", "", "all")]
    + [("status", text) for text in ("", "ACTIVE", "running")]
    + [("search", "x" * 201), ("search", "a\0b")],
)
def test_a_query_parameter_that_breaks_a_rule_is_refused(name: str, text: str) -> None:
    (fault,) = faults_of(TaskQuery, {name: text}).items()
    assert fault[0] == f"/{name}"
    assert len(fault[1]) < 200


def test_a_task_id_to_filter_by_is_a_uuid() -> None:
    assert "must be a UUID such as" in faults_of(TaskLogQuery, {"task_id": "1"})["/task_id"]


def test_a_time_in_another_zone_is_answered_in_utc() -> None:
    time = validated(TaskLogCreate, NEW_LOG | {"execution_time": "2026-12-24T14:00:00+02:00"}).execution_time
    assert time.tzinfo is UTC
    assert time == datetime(2026, 12, 24, 14, tzinfo=timezone(timedelta(hours=2)))
