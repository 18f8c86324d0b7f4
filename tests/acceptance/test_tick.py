"""POST /tick: what is due is delivered, retried, logged and, when it keeps failing, switched off."""

import json
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from threading import Event
from zoneinfo import ZoneInfo

import pytest

from tests.acceptance.conftest import Database
from tests.acceptance.server import NOWHERE, Api, Json, assert_problem, wait_until
from tests.receiver import Answer, Received, Receiver

SUMMARY = {
    *("due", "started", "succeeded", "failed", "retrying", "throttled", "missed", "skipped", "cancelled"),
    *("deactivated", "late", "remaining", "lag_seconds", "duration_seconds"),
}
ENDS = ("succeeded", "failed", "retrying", "throttled", "cancelled", "late", "unsettled")
LOG = {
    *("id", "task_id", "execution_time", "status", "retry_count", "message", "created_at", "source"),
    *("scheduled_for", "finished_at", "duration_ms", "lateness_ms", "throttled_ms", "http_status", "error"),
    *("response_excerpt", "attempts"),
}
ATTEMPT = {"number", "started_at", "duration_ms", "outcome", "http_status", "error", "message", "retry_at"}
INTERNAL = ("lease", "available_at", "lost_", "claimed", "revision", "password")


def fails(times: int, status: int = 500) -> "Fails":
    return Fails(times, status)


class Fails:
    """Answers `status` to the first `times` attempts of each run."""

    def __init__(self, times: int, status: int) -> None:
        self.times, self.status = times, status

    def __call__(self, request: Received) -> Answer:
        is_failure = int(request.headers["X-Insignia-Attempt"]) <= self.times
        return (self.status, b"no") if is_failure else (200, b"ok")


def tick(api: Api) -> Json:
    """Its summary adds up, whatever happened."""
    summary = api.tick()
    assert summary.keys() >= SUMMARY
    assert summary["started"] == sum(summary.get(name, 0) for name in ENDS)
    return summary


def moment(text: str) -> datetime:
    assert text.endswith("Z")
    return datetime.fromisoformat(text)


def test_a_tick_without_work_answers_with_its_summary(api: Api) -> None:
    api.create()
    summary = tick(api)
    assert [value for name, value in summary.items() if name != "duration_seconds"] == [0] * (
        len(summary) - 1
    )


def test_a_due_task_is_called_with_its_payload_and_the_identity_of_its_run(
    api: Api, database: Database
) -> None:
    with Receiver() as receiver:
        url = f"{receiver.url}/a%20b?x=1&y=%C3%BC"
        task = api.create(webhook_url=url, payload={"z": "ü🎉", "a": [1.0, None, 1e22]})
        database.make_due(task)
        tick(api)
    (request,) = receiver.requests
    (log,) = api.logs(task)
    assert request.method == "POST"
    assert request.path == "/hook/a%20b?x=1&y=%C3%BC"
    assert request.body == '{"z":"ü🎉","a":[1.0,null,1e+22]}'.encode()
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["Content-Length"] == str(len(request.body))
    assert request.headers["User-Agent"].startswith("Insignia/")
    assert request.headers["webhook-id"] == log["id"]
    assert request.headers["X-Insignia-Task-Id"] == task["id"]
    assert request.headers["X-Insignia-Attempt"] == "1"
    assert moment(request.headers["X-Insignia-Scheduled-For"]) == moment(log["scheduled_for"])
    started = moment(log["execution_time"]).timestamp()
    assert abs(int(request.headers["webhook-timestamp"]) - started) <= 1
    assert not {"Expect", "Authorization", "Accept-Encoding"} & request.headers.keys()


@pytest.mark.parametrize("payload", [None, 0, False, "", [], {}, "text", -0.0, 10**30])
def test_any_payload_is_sent_as_compact_json(api: Api, database: Database, payload: object) -> None:
    with Receiver() as receiver:
        database.make_due(api.create(webhook_url=receiver.url, payload=payload))
        tick(api)
    assert receiver.requests[0].body == json.dumps(payload).encode()


def test_a_delivery_is_logged_with_its_attempt(api: Api, database: Database) -> None:
    with Receiver(lambda _: (202, "thanks 🎉\0".encode())) as receiver:
        task = api.create(webhook_url=receiver.url)
        database.make_due(task, seconds_ago=5)
        summary = tick(api)
    assert (summary["due"], summary["started"], summary["succeeded"], summary["remaining"]) == (1, 1, 1, 0)
    assert 4.5 < summary["lag_seconds"] < 60
    (log,) = api.logs(task)
    assert log == api.get(f"/task-logs/{log['id']}") == api.get("/task-logs/")["task_logs"][0]
    assert log.keys() >= LOG
    assert not [name for name in log if any(word in name for word in INTERNAL)]
    expected = {
        "status": "success",
        "source": "schedule",
        "retry_count": 0,
        "http_status": 202,
        "error": None,
    }
    assert {name: log[name] for name in expected} == expected
    assert log["task_id"] == task["id"]
    assert log["response_excerpt"] == "thanks 🎉\N{REPLACEMENT CHARACTER}"
    assert log["message"].endswith(".")
    assert moment(log["scheduled_for"]) < moment(log["execution_time"]) <= moment(log["finished_at"])
    assert 5_000 <= log["lateness_ms"] < 60_000
    (attempt,) = log["attempts"]
    assert attempt.keys() >= ATTEMPT
    assert not [name for name in attempt if any(word in name for word in INTERNAL)]
    expected = {"number": 1, "outcome": "success", "http_status": 202, "error": None, "retry_at": None}
    assert {name: attempt[name] for name in expected} == expected
    assert attempt["started_at"] == log["execution_time"]
    assert 0 <= attempt["duration_ms"] <= log["duration_ms"] + 1


def test_a_run_moves_the_task_on_and_leaves_its_definition(api: Api, database: Database) -> None:
    with Receiver() as receiver:
        before = api.create(webhook_url=receiver.url)
        database.make_due(before)
        tick(api)
    after = api.get(f"/tasks/{before['id']}")
    (log,) = api.logs(before)
    assert after | {"last_run_at": None, "last_status": None} == before
    assert (after["last_status"], after["last_run_at"]) == ("success", log["execution_time"])


def test_a_receiver_that_fails_three_times_sees_attempts_1_2_and_4_s_apart(
    api: Api, database: Database
) -> None:
    with Receiver(fails(3)) as receiver:
        task = api.create(webhook_url=receiver.url)
        database.make_due(task)
        summary = tick(api)
    assert (summary["succeeded"], summary["retrying"], summary["deactivated"]) == (1, 3, 0)
    times = [request.at for request in receiver.requests]
    gaps = [after - before for before, after in pairwise(times)]
    for gap, delay in zip(gaps, (1, 2, 4), strict=True):
        assert delay <= gap < delay * 1.1 + 1
    assert [request.headers["X-Insignia-Attempt"] for request in receiver.requests] == ["1", "2", "3", "4"]
    assert len({request.headers["webhook-id"] for request in receiver.requests}) == 1
    assert len({request.body for request in receiver.requests}) == 1
    (log,) = api.logs(task)
    assert (log["status"], log["retry_count"], log["http_status"]) == ("success", 3, 200)
    attempts = log["attempts"]
    assert [attempt["outcome"] for attempt in attempts] == ["failed"] * 3 + ["success"]
    assert [attempt["http_status"] for attempt in attempts] == [500] * 3 + [200]
    for failed, retried in pairwise(attempts):
        assert moment(failed["retry_at"]) <= moment(retried["started_at"])
    after = api.get(f"/tasks/{task['id']}")
    assert (after["status"], after["last_status"], after["consecutive_failures"]) == ("active", "success", 0)


def test_a_task_that_exceeds_max_retry_is_deactivated_and_not_called_again(
    api: Api, database: Database
) -> None:
    with Receiver(fails(99, 503)) as receiver:
        task = api.create(webhook_url=receiver.url, max_retry=1)
        database.make_due(task)
        summary = tick(api)
        assert (summary["retrying"], summary["failed"], summary["deactivated"]) == (1, 1, 1)
        after = api.get(f"/tasks/{task['id']}")
        database.make_due(task)
        assert tick(api)["started"] == 0
    assert len(receiver.requests) == 2
    assert (after["status"], after["next_run_at"], after["last_status"]) == ("inactive", None, "failed")
    assert after["consecutive_failures"] == 1
    assert after["deactivated_at"] is not None
    assert "503" in after["deactivated_reason"]
    (log,) = api.logs(task)
    assert (log["status"], log["retry_count"], log["http_status"], log["error"]) == ("failed", 1, 503, "http")


def test_a_task_that_is_set_active_again_runs_again(api: Api, database: Database) -> None:
    with Receiver(fails(99)) as receiver:
        task = api.create(webhook_url=receiver.url, max_retry=0)
        database.make_due(task)
        tick(api)
    with Receiver() as receiver:
        body = api.get(f"/tasks/{task['id']}") | {"status": "active", "webhook_url": receiver.url}
        after = api.put(f"/tasks/{task['id']}", body)
        assert after["next_run_at"] == task["next_run_at"]
        assert (after["status"], after["consecutive_failures"]) == ("active", 0)
        assert (after["deactivated_at"], after["deactivated_reason"]) == (None, None)
        database.make_due(task)
        tick(api)
    assert [log["status"] for log in api.logs(task)] == ["success", "failed"]


@pytest.mark.parametrize("status", [301, 404, 500, 999])
def test_every_answer_but_2xx_is_a_failure(api: Api, database: Database, status: int) -> None:
    with Receiver(lambda _: (status, b"")) as receiver:
        task = api.create(webhook_url=receiver.url, max_retry=0)
        database.make_due(task)
        tick(api)
    (log,) = api.logs(task)
    assert (log["status"], log["http_status"], log["error"]) == ("failed", status, "http")


def test_a_429_does_not_deactivate(api: Api, database: Database) -> None:
    with Receiver(lambda _: (429, b"")) as receiver:
        task = api.create(webhook_url=receiver.url, max_retry=0)
        database.make_due(task)
        assert tick(api)["deactivated"] == 0
    assert api.get(f"/tasks/{task['id']}")["status"] == "active"


def test_a_webhook_that_nobody_answers_is_a_failure_in_words(api: Api, database: Database) -> None:
    task = api.create(webhook_url=NOWHERE, max_retry=0)
    database.make_due(task)
    assert tick(api)["failed"] == 1
    (log,) = api.logs(task)
    assert (log["status"], log["error"], log["http_status"]) == ("failed", "connect", None)
    assert log["message"].endswith(".")
    assert NOWHERE not in log["message"]


def test_an_inactive_task_is_not_called(api: Api, database: Database) -> None:
    with Receiver() as receiver:
        task = api.create(webhook_url=receiver.url)
        database.make_due(task)
        api.put(f"/tasks/{task['id']}", {"status": "inactive"})
        tick(api)
    assert receiver.requests == []
    (log,) = api.logs(task)
    assert log["status"] == "cancelled"


def test_a_deleted_task_is_not_called(api: Api, database: Database) -> None:
    with Receiver() as receiver:
        task = api.create(webhook_url=receiver.url)
        database.make_due(task)
        api.delete(f"/tasks/{task['id']}")
        assert tick(api)["started"] == 0
    assert receiver.requests == []


def test_a_task_deleted_during_its_call_leaves_nothing(api: Api, database: Database) -> None:
    is_deleted = Event()

    def answer(_: Received) -> Answer:
        assert is_deleted.wait(30)
        return 200, b""

    with Receiver(answer) as receiver, ThreadPoolExecutor(1) as pool:
        task = api.create(webhook_url=receiver.url)
        database.make_due(task)
        ticking = pool.submit(tick, Api(api.url))
        receiver.wait_for(1)
        api.delete(f"/tasks/{task['id']}")
        is_deleted.set()
        ticking.result()
    assert database.count("tasks", "task_state", "task_logs") == 0


def test_an_edit_during_a_call_takes_effect_from_the_next_run(api: Api, database: Database) -> None:
    is_edited = Event()

    def answer(_: Received) -> Answer:
        assert is_edited.wait(30)
        return 200, b""

    with Receiver(answer) as receiver, ThreadPoolExecutor(1) as pool:
        task = api.create(webhook_url=receiver.url, payload="old")
        database.make_due(task)
        ticking = pool.submit(tick, Api(api.url))
        receiver.wait_for(1)
        api.put(f"/tasks/{task['id']}", {"payload": "new", "name": "Renamed"})
        is_edited.set()
        ticking.result()
        database.make_due(task)
        tick(api)
    assert [request.json for request in receiver.requests] == ["old", "new"]


def test_two_ticks_at_once_deliver_each_of_500_slots_once(api: Api, database: Database) -> None:
    with Receiver() as receiver, ThreadPoolExecutor(4) as pool:
        number = 500
        tasks = list(
            pool.map(lambda n: api.create(name=f"{n}", webhook_url=f"{receiver.url}/{n}"), range(number))
        )
        database.make_due(*tasks)
        summaries = list(pool.map(tick, [Api(api.url), Api(api.url)]))
    assert Counter(request.path for request in receiver.requests) == {f"/hook/{n}": 1 for n in range(number)}
    assert sum(summary["succeeded"] for summary in summaries) == number
    # One of them may find no place at the destination, and leave what waits to the other.
    assert 0 in [summary["remaining"] for summary in summaries]
    page = api.get("/task-logs/", status="success", limit=1000)
    assert page["total"] == number
    assert {log["task_id"] for log in page["task_logs"]} == {task["id"] for task in tasks}


def test_2_28_in_the_morning_runs_at_2_28(api: Api) -> None:
    utc = moment(api.create(schedule="28 2 * * *")["next_run_at"])
    assert (utc.hour, utc.minute, utc.second, utc.microsecond) == (2, 28, 0, 0)
    assert timedelta(0) < utc - datetime.now(UTC) <= timedelta(days=1)
    zone = ZoneInfo("Europe/Berlin")
    berlin = moment(api.create(schedule="28 2 * * *", timezone="Europe/Berlin")["next_run_at"]).astimezone(
        zone
    )
    in_the_gap = berlin.utcoffset() != (berlin - timedelta(hours=3)).utcoffset() and berlin.month == 3
    assert (berlin.hour, berlin.minute) == ((3, 0) if in_the_gap else (2, 28))


def test_a_new_schedule_counts_from_now(api: Api, database: Database) -> None:
    task = api.create()
    database.make_due(task)
    after = api.put(f"/tasks/{task['id']}", {"schedule": "28 2 * * *"})
    assert moment(after["next_run_at"]) > datetime.now(UTC)
    assert [log["status"] for log in api.logs(task)] == ["cancelled"]


def test_health_tells_of_the_tick(api: Api) -> None:
    before = api.get("/health")
    assert (before["status"], before["database"], before["tick"]) == ("healthy", "ok", "pending")
    assert (before["last_tick_at"], before["tick_lag_seconds"]) == (None, None)
    assert before["schema_revision"]
    tick(api)
    after = api.get("/health")
    assert (after["tick"], after["tick_lag_seconds"]) == ("ok", 0)
    assert abs(moment(after["last_tick_at"]) - datetime.now(UTC)) < timedelta(minutes=1)


def test_a_tick_needs_no_body_and_ignores_one(api: Api) -> None:
    for options in ({}, {"data": b"{"}, {"json": {"a": 1}}, {"data": b"x" * 300_000}):
        assert api("POST", "/tick", **options).status_code == 200


def test_the_api_answers_while_a_tick_waits(api: Api, database: Database) -> None:
    may_answer = Event()

    def answer(_: Received) -> Answer:
        assert may_answer.wait(30)
        return 200, b""

    with Receiver(answer) as receiver, ThreadPoolExecutor(1) as pool:
        task = api.create(webhook_url=receiver.url)
        database.make_due(task)
        ticking = pool.submit(tick, Api(api.url))
        receiver.wait_for(1)
        wait_until(lambda: api.logs(task)[0]["status"] == "running", 10, "running")
        assert_problem(api("GET", f"/tasks/{uuid.uuid4()}"), 404)
        assert api.get("/tasks/")["total"] == 1
        may_answer.set()
        assert ticking.result()["succeeded"] == 1
