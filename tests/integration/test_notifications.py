"""What changes is told once, by a tick, to whoever NOTIFY_URL or the task names."""

from collections.abc import Sequence
from datetime import timedelta

import pytest
from sqlalchemy import event

from db.engine import transaction
from db.settle import Refused, end_unrecordable, settle
from domain.attempt import answered
from domain.run import MAX_LOST_LEASES, decide
from domain.summary import TickKind
from domain.task import MisfirePolicy, TaskStatus
from functions import bootstrap
from functions.notifications import NotifySettings
from functions.settings import load
from functions.tick import serve
from tests.integration.conftest import LOOPBACK, Insignia
from tests.integration.notified import SECRET, Person, Webhook, make_due, run
from tests.integration.test_missed_slots import create_late


def test_a_streak_of_failures_is_told_at_its_beginning_and_at_its_end(
    insignia: Insignia, person: Person, webhook: Webhook
) -> None:
    insignia.create(webhook.url, name="Nightly", deactivate_after=0)
    run(insignia, person, webhook, 200, 500, 500, 500, 200, 200, 500)
    assert person.heard == [
        ("task.failed", "Nightly"),
        ("task.recovered", "Nightly"),
        ("task.failed", "Nightly"),
    ]
    assert person.outbox("kind, outcome, attempts") == [
        ("task.failed", "sent", 1),
        ("task.recovered", "sent", 1),
        ("task.failed", "sent", 1),
    ]


def test_a_message_says_which_run_of_which_task_and_what_happened(
    insignia: Insignia, person: Person, webhook: Webhook
) -> None:
    task = insignia.create(webhook.url, name="Nightly", deactivate_after=0)
    run(insignia, person, webhook, 503)
    (log,) = insignia.logs(task.id)
    ((happened_at,),) = person.outbox("happened_at")
    assert log.scheduled_for is not None
    assert person.requests[0].json == {
        "type": "task.failed",
        "timestamp": happened_at.isoformat().replace("+00:00", "Z"),
        "data": {
            "task_id": str(task.id),
            "task_name": "Nightly",
            "run_id": str(log.id),
            "scheduled_for": log.scheduled_for.isoformat().replace("+00:00", "Z"),
            "status": "failed",
            "message": "Failed after 1 attempt: the webhook answered HTTP 503 Service Unavailable.",
        },
    }


def test_a_deactivation_is_told_beside_the_failure_that_led_to_it(
    insignia: Insignia, person: Person, webhook: Webhook
) -> None:
    task = insignia.create(webhook.url, deactivate_after=2)
    run(insignia, person, webhook, 500)
    assert person.types == ["task.failed"]
    run(insignia, person, webhook, 500)
    assert person.types == ["task.failed", "task.deactivated"]
    said = person.requests[1].json["data"]
    assert said["message"] == insignia.task(task.id).deactivated_reason
    assert said["run_id"] == str(insignia.logs(task.id)[0].id)


def test_a_success_after_a_task_was_switched_on_again_is_told(
    insignia: Insignia, person: Person, webhook: Webhook
) -> None:
    task = insignia.create(webhook.url)
    run(insignia, person, webhook, 500)
    insignia.update(task.id, TaskStatus.ACTIVE)
    run(insignia, person, webhook, 200)
    assert person.types == ["task.failed", "task.deactivated", "task.recovered"]


def test_a_url_of_the_task_is_told_in_place_of_the_one_of_all_tasks(
    insignia: Insignia, person: Person, webhook: Webhook
) -> None:
    with Person(insignia) as owner:
        insignia.create(webhook.url, name="Owned", notify_url=owner.url)
        insignia.create(webhook.url, name="Common")
        run(insignia, person, webhook, 500)
        assert owner.heard == [("task.failed", "Owned"), ("task.deactivated", "Owned")]
        assert person.heard == [("task.failed", "Common"), ("task.deactivated", "Common")]


def test_a_url_of_the_task_is_told_where_there_is_none_of_all_tasks(
    insignia: Insignia, webhook: Webhook
) -> None:
    webhook.status = 500
    with Person(insignia) as owner:
        insignia.create_due(webhook.url, name="Common")
        insignia.create_due(webhook.url, name="Owned", notify_url=owner.url)
        insignia.tick()
        assert owner.heard == [("task.failed", "Owned"), ("task.deactivated", "Owned")]
        assert len(owner.outbox("id")) == 2


def test_runs_by_hand_are_not_told(insignia: Insignia, person: Person, webhook: Webhook) -> None:
    task = insignia.create(webhook.url)
    webhook.status = 500
    insignia.run(task.id)
    person.tick()
    assert person.outbox("kind") == []


@pytest.mark.parametrize(
    ("statuses", "kinds"),
    [
        ((500, 200, 500), ["task.failed", "task.recovered", "task.failed"]),
        ((500, 500, 200), ["task.failed", "task.recovered"]),
        ((200, 200, 500), ["task.failed"]),
        ((200, 200, 200), []),
    ],
)
def test_runs_that_are_recorded_together_are_told_as_if_one_after_another(
    insignia: Insignia, statuses: Sequence[int], kinds: list[str]
) -> None:
    insignia.create("http://127.0.0.1:9/hook", overlap_policy="allow", deactivate_after=0)
    decisions = []
    for status in statuses:
        make_due(insignia)
        (claimed,) = insignia.claim()
        attempt = answered(status, duration_ms=1, success_statuses=[range(200, 300)])
        decisions.append(decide(claimed, attempt, 0))
    with transaction(insignia.engine) as connection:
        changes = settle(connection, decisions).changes
        repeated = settle(connection, decisions).changes
    assert [change.kind for change in changes] == kinds
    assert repeated == []


def test_where_nobody_is_to_be_told_nothing_is_written_and_no_statement_is_sent(
    insignia: Insignia, webhook: Webhook
) -> None:
    statements: list[str] = []
    event.listen(insignia.engine, "before_cursor_execute", lambda *call: statements.append(call[2]))
    insignia.create_due(webhook.url)
    webhook.status = 500
    insignia.tick()
    assert [one for one in statements if "INTO notifications" in one or "UPDATE notifications" in one] == []
    assert insignia.execute("SELECT count(*) FROM notifications").scalar_one() == 0


def test_slots_that_were_missed_are_told_as_one_stretch(
    insignia: Insignia, person: Person, webhook: Webhook
) -> None:
    task, late = create_late(insignia, webhook.url, misfire_policy=MisfirePolicy.SKIP)
    person.tick()
    (log,) = insignia.logs(task.id)
    (request,) = person.requests
    said = request.json["data"]
    assert (request.json["type"], said["run_id"], said["status"]) == ("task.missed", str(log.id), "missed")
    assert said["message"] == log.message
    assert said["scheduled_for"] == late[0].isoformat().replace("+00:00", "Z")
    person.tick()
    assert len(person.requests) == 1


def test_a_task_whose_schedule_cannot_be_computed_is_told_to_be_off(
    insignia: Insignia, person: Person, webhook: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    task = insignia.create_due(webhook.url)
    insignia.execute("UPDATE tasks SET schedule = '61 * * * *'")
    person.tick()
    (log,) = insignia.logs(task.id)
    (request,) = person.requests
    assert request.json["type"] == "task.deactivated"
    assert request.json["data"]["message"] == log.message == insignia.task(task.id).deactivated_reason
    fields = [vars(record).get("fields", {}) for record in caplog.records]
    (told,) = [one for one in fields if one.get("event") == "task.deactivated"]
    assert (told["task_id"], told["run_id"]) == (str(task.id), str(log.id))


def test_a_run_that_is_given_up_begins_a_streak(insignia: Insignia, person: Person, webhook: Webhook) -> None:
    task = insignia.create_due(webhook.url, name="Deadly")
    (claimed,) = insignia.claim()
    for _ in range(MAX_LOST_LEASES - 1):
        insignia.end_leases_and_waits()
        insignia.claim_due_runs()
    insignia.end_leases_and_waits()
    person.tick()
    assert person.heard == [("task.failed", "Deadly")]
    assert person.requests[0].json["data"] | {"scheduled_for": None} == {
        "task_id": str(task.id),
        "task_name": "Deadly",
        "run_id": claimed.id,
        "scheduled_for": None,
        "status": "failed",
        "message": "Failed: its process died during the call 3 times.",
    }
    person.tick()
    assert len(person.requests) == 1


def test_an_answer_that_cannot_be_recorded_begins_a_streak(insignia: Insignia) -> None:
    insignia.create_due("http://127.0.0.1:9/hook")
    (claimed,) = insignia.claim()
    answer = answered(200, duration_ms=1, success_statuses=[range(200, 300)], response_excerpt="\0")
    decision = decide(claimed, answer, 0)
    with pytest.raises(Refused) as refused, transaction(insignia.engine) as connection:
        settle(connection, [decision])
    with transaction(insignia.engine) as connection:
        (change,) = end_unrecordable(connection, decision, refused.value).changes
    assert (change.kind, change.data["status"]) == ("task.failed", "failed")
    assert change.data["message"] == insignia.logs()[0].message


def test_a_late_tick_is_told_once(insignia: Insignia, person: Person) -> None:
    def stop_ticks_for(minutes: int) -> None:
        insignia.execute(
            "UPDATE ticks SET started_at = started_at - CAST(:long AS interval),"
            " finished_at = finished_at - CAST(:long AS interval)",
            long=timedelta(minutes=minutes),
        )

    person.tick()
    stop_ticks_for(3)
    person.tick()
    assert person.requests == [], "by the rule of /health it is not late yet"
    stop_ticks_for(5)
    last_tick_at = insignia.execute("SELECT max(finished_at) FROM ticks").scalar_one()
    before = insignia.execute("SELECT max(id) FROM ticks").scalar_one()
    person.tick()
    insignia.execute(
        "DELETE FROM ticks WHERE id > :before", before=before
    )  # as if it had not come to its end
    person.tick()
    person.tick()
    (request,) = person.requests
    assert request.json["type"] == "tick.late"
    assert request.json["data"] == {
        "last_tick_at": last_tick_at.isoformat().replace("+00:00", "Z"),
        "message": "There was no tick for 5 minutes: whatever was due meanwhile is late or missed.",
    }


def test_a_message_leads_to_the_dashboard_where_its_url_is_known(
    insignia: Insignia, person: Person, webhook: Webhook
) -> None:
    person.settings = NotifySettings(url=person.url, dashboard_url="https://insignia.example.com")
    task = insignia.create(webhook.url, deactivate_after=0)
    run(insignia, person, webhook, 500)
    (log,) = insignia.logs(task.id)
    assert person.requests[0].json["data"]["url"] == f"https://insignia.example.com/ui/runs/{log.id}"


def test_a_worker_tells_what_has_changed_and_expects_no_ticks(
    insignia: Insignia, person: Person, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    person.tick()
    insignia.execute("UPDATE ticks SET finished_at = finished_at - interval '1 hour'")
    webhook.status = 500
    insignia.create_due(webhook.url)
    serve_by(person, monkeypatch, TickKind.WORKER)
    assert person.types == ["task.failed", "task.deactivated"]
    serve_by(person, monkeypatch, TickKind.TICK)
    assert person.types[2:] == ["tick.late"]


def test_the_settings_say_whom_to_tell_how_to_sign_and_where_the_dashboard_is(
    insignia: Insignia, person: Person, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    webhook.status = 500
    task = insignia.create_due(webhook.url)
    settings = {"NOTIFY_SIGNING_SECRET": SECRET, "INSIGNIA_URL": "https://insignia.example.com/"}
    serve_by(person, monkeypatch, TickKind.TICK, **settings)
    failed, deactivated = person.requests
    assert failed.headers["webhook-signature"].startswith("v1,")
    assert deactivated.json["data"]["url"] == f"https://insignia.example.com/ui/tasks/{task.id}"


def serve_by(person: Person, patch: pytest.MonkeyPatch, kind: TickKind, **settings: str) -> None:
    """A tick or a worker as the function runs it, by its settings."""
    patch.setattr(bootstrap, "settings", lambda: load({"NOTIFY_URL": person.url} | settings))
    patch.setattr(bootstrap, "egress", lambda: LOOPBACK)
    patch.setattr(bootstrap, "tick_database", lambda: person.insignia.engine)
    serve(kind)
