"""Terraform's log-based metrics read what the log says: its events and fields, as Cloud Logging parses a line."""

import json
import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from db.settle import Disposal
from domain.attempt import Attempt
from domain.errors import Unavailable
from domain.notification import EVERYBODY, ChangeKind, Notification, Outcome, Told, change_of_run
from domain.retry import RetryOn
from domain.run import ClaimedRun, Decision, decide
from domain.summary import TickKind, TickSummary
from domain.task import Method
from functions import events
from functions.logs import CloudFormatter
from tests.events import assert_is_as_documented, documented_events
from tests.infra.sources import terraform

SPECIAL = {"severity", "time", "logging.googleapis.com/trace"}
"""What Cloud Logging takes out of `jsonPayload`: https://cloud.google.com/logging/docs/structured-logging"""

SERVICES = {"log_of_tick": "insignia-tick", "log_of_calls": "insignia-tick"}
QUOTED = r'"((?:[^"\\]|\\.)*)"'
TERM = re.compile(r'([\w.]+)(=|!=|>)("[^"]*"|[0-9.]+|\("[^"]*"(?: OR "[^"]*")*\))')


class Lines(logging.Handler):
    """Keeps what is logged as Cloud Logging would."""

    def __init__(self) -> None:
        super().__init__()
        self.entries: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        line = json.loads(CloudFormatter("a-project").format(record))
        assert_is_as_documented(line)
        self.entries.append(
            {
                "severity": line["severity"],
                "resource": {
                    "type": "cloud_run_revision",
                    "labels": {"service_name": SERVICES["log_of_tick"]},
                },
                "jsonPayload": {name: value for name, value in line.items() if name not in SPECIAL},
            }
        )


@pytest.fixture(scope="module")
def entries() -> list[dict[str, Any]]:
    """Of each event that a tick writes by itself, at least one, by the code that writes it."""
    handler, level = Lines(), events.log.level
    events.log.addHandler(handler)
    events.log.setLevel(logging.INFO)
    now = datetime.now(UTC)
    run = ClaimedRun(
        id=str(uuid4()),
        lease_id=str(uuid4()),
        task_id=str(uuid4()),
        scheduled_for=now,
        started_at=now,
        number=1,
        lost_leases=0,
        throttles=0,
        destination="https://example.com:443",
        task_name="A task",
        webhook_url="https://example.com/hook",
        method=Method.POST,
        headers={},
        payload=b"{}",
        signing_secrets=(),
        timeout_seconds=10,
        success_statuses="200-299",
        max_retry=0,
        retry_on=RetryOn.ALL,
        deactivate_after=1,
        notify_url=None,
    )
    attempt = Attempt(duration_ms=3, http_status=200, error=None, message="it answered", response_excerpt="")
    decision: Decision = decide(run, attempt, 0)
    disposals = (Disposal.SUCCESS, Disposal.FAILED, Disposal.RETRYING, Disposal.LATE)
    events.log_deliveries((decision, disposal) for disposal in disposals)
    events.log_deactivations([change_of_run(decision, ChangeKind.DEACTIVATED, now)])
    for kind in TickKind:
        events.log_summary(TickSummary(due=1), kind)
        events.log_summary(TickSummary(due=5, missed=4, lag_seconds=7.5), kind)
        events.log_failed_tick(Unavailable("The database is away."), kind)
    notification = Notification(
        id=uuid4(),
        lease_id=uuid4(),
        url=EVERYBODY,
        kind=ChangeKind.FAILED,
        happened_at=now,
        claimed_at=now,
        data={},
        number=1,
    )
    for outcome in (*Outcome, None):
        events.log_notification(
            Told(notification=notification, outcome=outcome), "https://example.com/notified"
        )
    events.log.removeHandler(handler)
    events.log.setLevel(level)
    return handler.entries


def filters() -> list[str]:
    """Those of terraform/metrics.tf, as they are when nothing is set."""
    found = [
        re.sub(
            r"\$\{local\.(\w+)\}",
            lambda m: (
                f'resource.type="cloud_run_revision" AND resource.labels.service_name="{SERVICES[m[1]]}"'
            ),
            text.replace('\\"', '"'),
        )
        for text in re.findall(rf"\bfilter\s*= {QUOTED}", terraform("metrics.tf"))
    ]
    assert len(found) > 5
    return found


def value_at(entry: Mapping[str, Any], path: str) -> Any:
    for name in path.split("."):
        entry = entry.get(name, {}) if isinstance(entry, Mapping) else {}
    return entry


def matches(text: str, entry: Mapping[str, Any]) -> bool:
    """The part of Cloud Logging's query language that the metrics use; anything else is an error."""
    rest = TERM.sub("", text)
    assert set(rest.split()) <= {"AND"}, f"this test cannot read {rest!r}"
    for path, operator, wanted in TERM.findall(text):
        value = value_at(entry, path)
        if operator == ">":
            if not (isinstance(value, int | float) and value > float(wanted)):
                return False
        elif (value in re.findall(r'"([^"]*)"', wanted)) is (operator == "!="):
            return False
    return True


def fields_read() -> set[str]:
    text = terraform("metrics.tf")
    return set(re.findall(r"jsonPayload\.(\w+)", text)) | set(re.findall(r'field = "(\w+)"', text))


def matched_by(text: str, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [entry["jsonPayload"] for entry in entries if matches(text, entry)]


def test_the_lines_are_those_of_every_event_that_a_metric_may_count(entries: list[dict[str, Any]]) -> None:
    written = {entry["jsonPayload"]["event"] for entry in entries}
    assert written == {
        name for name in documented_events() if not name.startswith(("heartbeat.", "workers."))
    }


def test_a_metric_matches_lines_of_the_log_and_not_all(entries: list[dict[str, Any]]) -> None:
    for text in filters():
        assert 0 < len(matched_by(text, entries)) < len(entries), text


def test_a_metric_names_events_that_are_documented() -> None:
    for text in filters():
        (events_named,) = (wanted for path, _, wanted in TERM.findall(text) if path == "jsonPayload.event")
        assert set(re.findall(r'"([^"]*)"', events_named)) <= documented_events().keys(), text


def test_a_field_that_a_metric_reads_is_documented() -> None:
    assert {"event", "status", "lag_seconds", "duration_seconds", "missed"} <= fields_read()
    assert fields_read() - {"event"} <= set().union(*documented_events().values())


def test_what_a_metric_measures_is_a_number_in_every_line_it_counts(entries: list[dict[str, Any]]) -> None:
    (of_durations,) = {one for one in filters() if "tick.summary" in one and "missed" not in one}
    measured = re.findall(r'field = "(\w+)"', terraform("metrics.tf"))
    assert measured == ["lag_seconds", "duration_seconds"]
    for line in matched_by(of_durations, entries):
        assert all(isinstance(line[name], int | float) for name in measured)


def test_the_label_of_deliveries_has_a_value_in_every_line(entries: list[dict[str, Any]]) -> None:
    (of_deliveries,) = {one for one in filters() if "run.finished" in one}
    lines = matched_by(of_deliveries, entries)
    assert {line["status"] for line in lines} == {"success", "failed", "retrying", "late"}


def test_only_ticks_that_missed_something_are_counted_as_such(entries: list[dict[str, Any]]) -> None:
    (of_missed,) = {one for one in filters() if "missed" in one}
    assert {line["missed"] for line in matched_by(of_missed, entries)} == {4}


def test_an_alert_or_a_chart_is_built_on_a_metric_that_there_is() -> None:
    keys = set(re.findall(r"^    (\w+)\s+= \{ (?:title|field) = ", terraform("metrics.tf"), re.MULTILINE)) | {
        "delivery"
    }
    for file in ("alerts.tf", "dashboard.tf"):
        used = set(re.findall(r'local\.metric_filters\["(\w+)"\]', terraform(file)))
        assert used, file
        assert used <= keys, file


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("jsonPayload.event", "textPayload.event"),
        ("tick.summary", "tick.sumary"),
        ("jsonPayload.missed", "jsonPayload.misses"),
    ],
)
def test_a_metric_that_counts_nothing_would_be_found(
    right: str, wrong: str, entries: list[dict[str, Any]]
) -> None:
    (of_missed,) = {one for one in filters() if "missed" in one}
    broken = of_missed.replace(right, wrong).replace("worker.summary", wrong)
    assert matched_by(of_missed, entries)
    assert not matched_by(broken, entries)
