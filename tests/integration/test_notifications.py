"""What changes is told once, by a tick, to whoever NOTIFY_URL names; and nothing of that harms a task."""

import base64
import hashlib
import hmac
import re
import threading
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select, text

from db.engine import transaction
from db.notifications import remove_old_notifications
from db.settle import settle
from db.tables import notifications as notifications_table
from domain.attempt import answered
from domain.run import MAX_LOST_LEASES, decide
from domain.summary import TickSummary
from domain.task import MisfirePolicy, TaskStatus
from functions import notifications
from functions.egress import Egress
from functions.notifications import NotifySettings
from tests.integration.conftest import LOOPBACK, Insignia
from tests.integration.test_missed_slots import create_late
from tests.receiver import Answer, Received, Receiver

KEY = b"a-key-that-is-no-secret-"
SECRET = "whsec_" + base64.b64encode(KEY).decode()
OTHER_SECRET = "whsec_" + base64.b64encode(KEY[::-1]).decode()
PAGE = Path(__file__).parents[2] / "docs/notifications.md"


class Person(Receiver):
    """Who is told; answers with `status`."""

    def __init__(self, insignia: Insignia) -> None:
        super().__init__(self.reply)
        self.insignia = insignia
        self.status = 200
        self.headers: dict[str, str] = {}
        self.settings = NotifySettings(url=self.url, signing_secrets=[SECRET])

    def reply(self, _: Received) -> Answer:
        return self.status, b"", self.headers

    def tick(self, egress: Egress = LOOPBACK, **limits: Any) -> TickSummary:
        return self.insignia.tick(notify=self.settings, egress=egress, **limits)

    @property
    def heard(self) -> list[tuple[str, str]]:
        """The type and the task's name of each message."""
        return [(one.json["type"], one.json["data"]["task_name"]) for one in self.requests]

    @property
    def types(self) -> list[str]:
        return [one.json["type"] for one in self.requests]

    def outbox(self, columns: str) -> list[tuple[Any, ...]]:
        with transaction(self.insignia.engine) as connection:
            order = notifications_table.c.number
            rows = connection.execute(select(text(columns)).select_from(notifications_table).order_by(order))
            return [tuple(row) for row in rows]

    def puts_off(self) -> None:
        """For so long that no tick of a test comes to it."""
        self.status, self.headers = 503, {"Retry-After": "900"}

    def let_waits_pass(self) -> None:
        self.insignia.execute(
            "UPDATE notifications SET available_at = clock_timestamp() WHERE outcome IS NULL"
        )


class Webhook(Receiver):
    """A task's, which answers with `status`."""

    def __init__(self) -> None:
        super().__init__(lambda _: (self.status, b""))
        self.status = 200


@pytest.fixture
def person(insignia: Insignia) -> Iterator[Person]:
    with Person(insignia) as person:
        yield person


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with Webhook() as webhook:
        yield webhook


def run(insignia: Insignia, person: Person, webhook: Webhook, *statuses: int) -> None:
    """Let the tasks run once for each of these answers."""
    for status in statuses:
        webhook.status = status
        make_due(insignia)
        person.tick()


def make_due(insignia: Insignia) -> None:
    """All tasks, for another slot each time, within one minute."""
    insignia.execute("UPDATE task_state SET next_run_at = clock_timestamp() WHERE status = 'active'")


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


def test_it_is_signed_by_standard_webhooks(insignia: Insignia, person: Person, webhook: Webhook) -> None:
    insignia.create(webhook.url)
    run(insignia, person, webhook, 500)
    for request in person.requests:
        signed = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode()
        mac = hmac.new(KEY, signed + request.body, hashlib.sha256).digest()
        assert request.headers["webhook-signature"] == f"v1,{base64.b64encode(mac).decode()}"
    told = {request.headers["webhook-id"] for request in person.requests}
    assert told == {str(id) for (id,) in person.outbox("id")}


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


def test_what_waits_for_the_url_of_all_tasks_is_told_the_one_that_there_is_by_then(
    insignia: Insignia, person: Person, webhook: Webhook
) -> None:
    insignia.create(webhook.url, deactivate_after=0)
    person.puts_off()
    run(insignia, person, webhook, 500)
    person.let_waits_pass()
    insignia.tick()
    with Person(insignia) as other:
        other.tick()
        assert other.types == ["task.failed"]


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


def test_a_receiver_that_fails_is_told_again_with_the_same_id(
    insignia: Insignia, person: Person, webhook: Webhook
) -> None:
    insignia.create(webhook.url, deactivate_after=0)
    person.puts_off()
    run(insignia, person, webhook, 500)
    assert person.outbox("attempts, outcome, error") == [
        (1, None, "the webhook answered HTTP 503 Service Unavailable")
    ]
    person.tick()
    assert len(person.requests) == 1, "it waits for its time"
    person.let_waits_pass()
    person.status = 200
    person.tick()
    assert person.outbox("attempts, outcome, error") == [(2, "sent", None)]
    first, second = person.requests
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body


def test_what_is_new_waits_behind_what_a_receiver_has_not_taken(
    insignia: Insignia, person: Person, webhook: Webhook
) -> None:
    insignia.create(webhook.url, deactivate_after=0)
    person.puts_off()
    run(insignia, person, webhook, 500, 200, 500)
    assert person.types == ["task.failed"]
    person.let_waits_pass()
    person.status = 200
    person.tick()
    assert person.types == ["task.failed", "task.failed", "task.recovered", "task.failed"]


def test_a_receiver_that_asks_for_time_gets_it(insignia: Insignia, person: Person, webhook: Webhook) -> None:
    insignia.create(webhook.url, deactivate_after=0)
    person.puts_off()
    run(insignia, person, webhook, 500)
    (waits,) = insignia.execute("SELECT available_at - clock_timestamp() FROM notifications").scalars()
    assert timedelta(minutes=14) < waits <= timedelta(minutes=15)


@pytest.mark.parametrize(("status", "age"), [(410, timedelta(0)), (500, timedelta(days=1))])
def test_a_receiver_that_is_gone_or_fails_for_a_day_is_not_told_any_more(
    insignia: Insignia,
    person: Person,
    webhook: Webhook,
    caplog: pytest.LogCaptureFixture,
    status: int,
    age: timedelta,
) -> None:
    insignia.create(webhook.url, deactivate_after=0)
    person.status = 500
    run(insignia, person, webhook, 500)
    insignia.execute("UPDATE notifications SET happened_at = happened_at - CAST(:age AS interval)", age=age)
    person.let_waits_pass()
    person.status = status
    person.tick()
    assert person.outbox("attempts, outcome") == [(2, "dropped")]
    assert caplog.records[-1].__dict__["event"] == "notification.dropped"
    assert person.url not in caplog.text


def test_a_receiver_that_is_silent_holds_up_no_task(
    insignia: Insignia, person: Person, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers when a retry was made that comes a second after the failure that it is told of."""
    monkeypatch.setattr(notifications, "SECONDS", 20)
    webhook.status = 500
    insignia.create_due(webhook.url, deactivate_after=0)
    insignia.create_due(webhook.url, deactivate_after=0, max_retry=1)
    with Receiver(lambda _: (200 if webhook.wait_for(3) else 0, b"")) as silent:
        insignia.tick(notify=NotifySettings(url=silent.url))
    assert person.outbox("kind, outcome, attempts") == [("task.failed", "sent", 1)] * 2


def test_a_receiver_that_stays_silent_is_not_waited_for(
    insignia: Insignia, person: Person, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifications, "SECONDS", 0.2)
    webhook.status = 500
    insignia.create_due(webhook.url, deactivate_after=0)
    told = threading.Event()
    with Receiver(lambda _: (200 if told.wait(30) else 0, b"")) as silent:
        insignia.tick(notify=NotifySettings(url=silent.url))
        told.set()
    assert person.outbox("outcome, error") == [(None, "there was no complete answer within 0.2 s")]


def test_the_guard_of_webhooks_holds_for_it(insignia: Insignia, person: Person, webhook: Webhook) -> None:
    insignia.create_due(webhook.url)
    person.tick(egress=Egress((), ()))
    assert person.requests == []
    assert "which webhooks may not reach" in person.outbox("error")[0][0]


def test_a_process_that_must_end_tells_nobody(insignia: Insignia, person: Person, webhook: Webhook) -> None:
    insignia.create(webhook.url, deactivate_after=0)
    person.puts_off()
    run(insignia, person, webhook, 500)
    person.let_waits_pass()
    person.tick(is_stopping=lambda: True)
    assert len(person.requests) == 1


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
    (told,) = [one.__dict__ for one in caplog.records if one.__dict__.get("event") == "task.deactivated"]
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
    with transaction(insignia.engine) as connection:
        (change,) = settle(connection, [decide(claimed, answer, 0)]).changes
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


def test_many_changes_at_once_are_one_digest(
    insignia: Insignia, person: Person, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(25):
        insignia.create(webhook.url, name=f"Task {number}", deactivate_after=0 if number else 1)
    with monkeypatch.context() as patch:
        patch.setattr(notifications, "SECONDS", 1_000)  # which no tick has left: everything waits
        run(insignia, person, webhook, 500)
    person.tick()
    (request,) = person.requests
    assert request.json["type"] == "digest"
    said = request.json["data"]
    assert said["message"] == "26 changes: 25 failed, 1 deactivated."
    assert said["counts"] == {"task.failed": 25, "task.deactivated": 1}
    assert len(said["changes"]) == 20
    assert len({(one["type"], one["data"]["task_name"]) for one in said["changes"]}) == 20
    counts = insignia.execute("SELECT outcome, count(*) FROM notifications GROUP BY outcome ORDER BY outcome")
    assert [tuple(row) for row in counts] == [("digested", 26), ("sent", 1)]
    members = insignia.execute("SELECT DISTINCT digest_id FROM notifications WHERE outcome = 'digested'")
    assert str(members.scalar_one()) == request.headers["webhook-id"]


def test_thousands_of_changes_are_one_digest_too(insignia: Insignia, person: Person) -> None:
    insignia.execute(
        "INSERT INTO notifications (id, url, kind, happened_at, data)"
        " SELECT gen_random_uuid(), '', CASE WHEN n % 2 = 0 THEN 'task.failed' ELSE 'task.missed' END,"
        " clock_timestamp(), json_build_object('task_name', n, 'message', '-') FROM generate_series(1, 3000) n"
    )
    person.tick()
    (request,) = person.requests
    assert request.json["data"]["message"] == "3,000 changes: 1,500 failed, 1,500 missed slots."
    assert [one["data"]["task_name"] for one in request.json["data"]["changes"]] == list(range(1, 21))


def test_after_an_outage_of_the_receiver_one_digest_follows_what_it_has_not_taken(
    insignia: Insignia, person: Person, webhook: Webhook
) -> None:
    insignia.create(webhook.url, deactivate_after=0)
    person.puts_off()
    run(insignia, person, webhook, 500, 200, 500, 200, 500, 200)
    person.status = 200
    person.let_waits_pass()
    person.tick()
    assert person.types == ["task.failed", "task.failed", "digest"]
    first, second, digest = person.requests
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert digest.json["data"]["counts"] == {"task.recovered": 3, "task.failed": 2}
    told = [one["timestamp"] for one in digest.json["data"]["changes"]]
    assert told == sorted(told)


def test_each_url_has_a_digest_of_its_own(
    insignia: Insignia, person: Person, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Person(insignia) as owner:
        for url in (None, owner.url):
            for number in range(4):
                insignia.create(webhook.url, name=f"Task {number}", notify_url=url, deactivate_after=0)
        with monkeypatch.context() as patch:
            patch.setattr(notifications, "SECONDS", 1_000)
            run(insignia, person, webhook, 500)
        person.tick()
        assert (person.types, owner.types) == (["digest"], ["digest"])
        assert owner.requests[0].json["data"]["message"] == "4 changes: 4 failed."


def test_what_is_a_week_old_is_removed(insignia: Insignia, person: Person, webhook: Webhook) -> None:
    insignia.create(webhook.url, deactivate_after=0)
    run(insignia, person, webhook, 500, 200)
    insignia.execute("UPDATE notifications SET happened_at = happened_at - interval '6 days 23 hours'")
    insignia.execute(
        "UPDATE notifications SET happened_at = happened_at - interval '1 hour' WHERE kind = 'task.failed'"
    )
    person.tick()
    assert person.outbox("kind") == [("task.recovered",)]
    assert len(person.requests) == 2


def test_old_ones_are_removed_in_batches(insignia: Insignia) -> None:
    insignia.execute(
        "INSERT INTO notifications (id, url, kind, happened_at, data)"
        " SELECT gen_random_uuid(), '', 'task.failed', clock_timestamp() - interval '8 days', '{}'"
        " FROM generate_series(1, 5)"
    )
    with transaction(insignia.engine) as connection:
        assert [remove_old_notifications(connection, 2) for _ in range(3)] == [True, True, False]
    assert insignia.execute("SELECT count(*) FROM notifications").scalar_one() == 0


def test_the_documented_way_to_verify_a_message_works(
    insignia: Insignia, person: Person, webhook: Webhook
) -> None:
    insignia.create(webhook.url, deactivate_after=0)
    run(insignia, person, webhook, 500)
    (request,) = person.requests
    (sample,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(sample, names)  # noqa: S102 - it is our own
    is_genuine, now = names["is_genuine"], int(request.headers["webhook-timestamp"])
    assert is_genuine(SECRET, request.headers, request.body, now)
    assert is_genuine(SECRET, request.headers, request.body, now + 299)
    assert not is_genuine(SECRET, request.headers, request.body, now + 301)
    assert not is_genuine(SECRET, request.headers, request.body + b" ", now)
    assert not is_genuine(OTHER_SECRET, request.headers, request.body, now)
    both = NotifySettings(url=person.url, signing_secrets=[OTHER_SECRET, SECRET])
    person.settings = both
    run(insignia, person, webhook, 200)
    changed = person.requests[1]
    for secret in (SECRET, OTHER_SECRET):
        assert is_genuine(secret, changed.headers, changed.body, int(changed.headers["webhook-timestamp"]))


def test_a_message_leads_to_the_dashboard_where_its_url_is_known(
    insignia: Insignia, person: Person, webhook: Webhook
) -> None:
    person.settings = NotifySettings(url=person.url, dashboard_url="https://insignia.example.com")
    task = insignia.create(webhook.url, deactivate_after=0)
    run(insignia, person, webhook, 500)
    (log,) = insignia.logs(task.id)
    assert person.requests[0].json["data"]["url"] == f"https://insignia.example.com/ui/runs/{log.id}"
