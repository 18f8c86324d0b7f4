"""Each way in which a run can end has a cause in plain words."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from domain.attempt import AttemptError
from domain.diagnosis import Diagnosis, diagnose
from domain.run import RunSource, RunStatus, TaskLog

FAILED = TaskLog(
    id=UUID(int=1),
    task_id=UUID(int=2),
    source=RunSource.SCHEDULE,
    status=RunStatus.FAILED,
    scheduled_for=datetime(2026, 11, 26, tzinfo=UTC),
    execution_time=datetime(2026, 11, 26, tzinfo=UTC),
    finished_at=datetime(2026, 11, 26, tzinfo=UTC),
    retry_count=0,
    message=None,
    duration_ms=1,
    lateness_ms=0,
    throttled_ms=0,
    http_status=None,
    error=None,
    response_excerpt=None,
    attempts=[{"number": 1, "outcome": "failed"}],
    missed_from=None,
    missed_to=None,
    missed_count=None,
    retry_of=None,
    created_at=datetime(2026, 11, 26, tzinfo=UTC),
)


def of(**changes: Any) -> Diagnosis:
    found = diagnose(replace(FAILED, **changes))
    assert found is not None
    return found


def of_status(http_status: int) -> Diagnosis:
    return of(error="http", http_status=http_status)


@pytest.mark.parametrize("error", [error for error in AttemptError if error is not AttemptError.HTTP])
def test_each_error_has_a_cause_of_its_own_and_an_advice(error: AttemptError) -> None:
    found = of(error=error.value)
    assert found.advice
    assert [other for other in AttemptError if other != AttemptError.HTTP and of(error=other) == found] == [
        error
    ]
    assert of(error=error.value, status=RunStatus.RETRYING) == found


def test_https_to_a_port_without_it_is_one_of_the_causes() -> None:
    found = of(error=AttemptError.TLS.value)
    assert "plain HTTP" in found.cause
    assert "http://" in str(found.advice)


@pytest.mark.parametrize(
    ("http_status", "part"),
    [
        (204, "success_statuses"),
        (302, "final URL"),
        (400, "payload"),
        (401, "token"),
        (403, "token"),
        (404, "path"),
        (405, "method"),
        (408, "pass"),
        (410, "new URL"),
        (413, "less"),
        (415, "Content-Type"),
        (418, "documentation"),
        (422, "payload"),
        (429, "less often"),
        (500, "its log"),
        (502, "behind that address"),
        (503, "pass"),
        (504, "behind that address"),
        (599, "its log"),
    ],
)
def test_each_kind_of_status_has_its_own_advice(http_status: int, part: str) -> None:
    assert part in (of_status(http_status).advice or "")


def test_a_lost_process_is_told_from_an_answer_that_could_not_be_recorded() -> None:
    lost = of(attempts=[{"number": 1, "outcome": "failed"}, {"number": 2, "outcome": "unknown"}])
    assert "process that made the call ended" in lost.cause
    assert "could not record its answer" in of().cause
    assert lost == of(error="dns", attempts=[{"number": 1, "outcome": "unknown"}], status=RunStatus.RETRYING)


@pytest.mark.parametrize(
    ("status", "part"),
    [
        (RunStatus.MISSED, "No call could be made in time"),
        (RunStatus.SKIPPED, "still under way"),
        (RunStatus.CANCELLED, "switched off or changed"),
        (RunStatus.RUNNING, "under way"),
    ],
)
def test_what_did_not_run_has_a_cause_too(status: RunStatus, part: str) -> None:
    assert part in of(status=status, attempts=[]).cause


def test_a_run_that_has_not_been_tried_waits_for_a_tick() -> None:
    assert "next tick" in (of(status=RunStatus.RETRYING, attempts=[]).advice or "")


def test_a_success_has_no_cause_and_a_recorded_failure_is_not_explained() -> None:
    assert diagnose(replace(FAILED, status=RunStatus.SUCCESS)) is None
    assert "recorded this run" in of(source=RunSource.API, attempts=[]).cause
