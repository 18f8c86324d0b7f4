"""How notifications are sent: signed, again and again, in their order, many as one; and nothing of it harms a task."""

import base64
import hashlib
import hmac
import re
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from db.engine import transaction
from db.notifications import MOST_LOOKED_AT, claim_notifications, remove_old_notifications
from functions import notifications
from functions.egress import Egress
from functions.notifications import NotifySettings
from tests.integration.conftest import Insignia
from tests.integration.notified import KEY, OTHER_SECRET, SECRET, Person, Webhook, run
from tests.receiver import Answer, Received, Receiver

PAGE = Path(__file__).parents[2] / "docs/notifications.md"


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
    assert vars(caplog.records[-1])["fields"]["event"] == "notification.dropped"
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


def test_a_call_under_way_is_not_made_again_when_its_lease_has_ended(
    insignia: Insignia, person: Person, webhook: Webhook
) -> None:
    """The second failure, a second later, has the tick look for what is due."""

    def answer_after_the_next_claim(_: Received) -> Answer:
        if len(told.requests) == 1:
            person.let_waits_pass()
            deadline = time.monotonic() + 10
            while person.outbox("attempts")[0] != (2,) and time.monotonic() < deadline:
                webhook.wait_for(3)
        return 200, b""

    webhook.status = 500
    insignia.create_due(webhook.url, deactivate_after=0)
    insignia.create_due(webhook.url, deactivate_after=0, max_retry=1)
    with Receiver(answer_after_the_next_claim) as told:
        insignia.tick(notify=NotifySettings(url=told.url))
        assert len({one.headers["webhook-id"] for one in told.requests}) == len(told.requests) == 2
    assert person.outbox("outcome, attempts") == [("sent", 2), ("sent", 1)]


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


def test_a_receiver_is_told_one_thing_after_another_by_ticks_that_run_at_once(insignia: Insignia) -> None:
    insignia.execute(
        "INSERT INTO notifications (id, url, kind, happened_at, data, attempts)"
        " SELECT gen_random_uuid(), '', 'task.failed', clock_timestamp(), '{}', (n = 1)::int"
        " FROM generate_series(1, :number) n",
        number=MOST_LOOKED_AT + 1,
    )
    with insignia.engine.connect() as one, insignia.engine.connect() as other:
        assert len(claim_notifications(one, 9, lease_seconds=9, is_for_everybody=True) or ()) == 1
        assert claim_notifications(other, 9, lease_seconds=9, is_for_everybody=True) is None
        one.commit()
        assert claim_notifications(other, 9, lease_seconds=9, is_for_everybody=True) == []


def test_it_is_signed_by_standard_webhooks(insignia: Insignia, person: Person, webhook: Webhook) -> None:
    insignia.create(webhook.url)
    run(insignia, person, webhook, 500)
    for request in person.requests:
        signed = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode()
        mac = hmac.new(KEY, signed + request.body, hashlib.sha256).digest()
        assert request.headers["webhook-signature"] == f"v1,{base64.b64encode(mac).decode()}"
    told = {request.headers["webhook-id"] for request in person.requests}
    assert told == {str(id) for (id,) in person.outbox("id")}


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
