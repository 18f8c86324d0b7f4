"""Runs that a user asks for over HTTP: now, once more, and as a test of a task that is not stored."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from tests.acceptance.conftest import Database
from tests.acceptance.server import NOWHERE, Api, Json, assert_problem, pointers, task_body
from tests.receiver import Answer, Received, Receiver

KEY = {"Idempotency-Key": "b4c4c8a4-4a5f-4f0c-9d0f-3d5f0a9c1f52"}
UNKNOWN = "0b0e7a52-6d0f-4d5e-9a53-1f6d2a1c7f10"


def run(api: Api, task: Json) -> Json:
    return api.ok("POST", f"/tasks/{task['id']}/run", status=202)


def retry(api: Api, log: Json) -> Json:
    return api.ok("POST", f"/task-logs/{log['id']}/retry", status=202)


def call_once(api: Api, **fields: Any) -> Json:
    return api.ok("POST", "/tasks/test", json=task_body(**fields))


@pytest.mark.parametrize("status", ["active", "inactive"])
def test_a_task_is_run_now_and_nothing_about_it_changes(api: Api, status: str) -> None:
    with Receiver() as receiver:
        task = api.create(webhook_url=receiver.url, payload={"a": [1]}, status=status)
        answer = api("POST", f"/tasks/{task['id']}/run")
    log, (request,) = answer.json(), receiver.requests
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/task-logs/{log['id']}"
    assert (log["status"], log["source"], log["http_status"], log["retry_of"]) == (
        *("success", "manual", 200, None),
    )
    assert log["scheduled_for"] == log["execution_time"]
    assert (request.json, request.headers["webhook-id"]) == ({"a": [1]}, log["id"])
    assert api.get(answer.headers["Location"]) == log
    assert api.get("/task-logs/", source="manual")["task_logs"] == [log]
    assert api.get(f"/tasks/{task['id']}") == task


def test_a_run_that_fails_is_retried_by_ticks_and_deactivates_nothing(api: Api) -> None:
    answers = [500, 500]
    with Receiver(lambda _: (answers.pop(0), b"")) as receiver:
        task = api.create(webhook_url=receiver.url, max_retry=1)
        log = run(api, task)
        assert (log["status"], log["retry_count"]) == ("retrying", 0)
        assert log["message"] == (
            "Attempt 1 failed: the webhook answered HTTP 500 Internal Server Error. Next attempt in 1 s."
        )
        summary = api.tick()
    assert (summary["failed"], summary["deactivated"]) == (1, 0)
    log = api.get(f"/task-logs/{log['id']}")
    assert (log["status"], log["retry_count"]) == ("failed", 1)
    assert api.get(f"/tasks/{task['id']}") == task


def test_a_run_leaves_alone_who_has_asked_for_it(api: Api, database: Database) -> None:
    with Receiver(lambda _: (503, b"", {"Retry-After": "3600"})) as receiver:
        task = api.create(webhook_url=receiver.url)
        database.make_due(task)
        api.tick()
        log = run(api, task)
    assert len(receiver.requests) == 1
    assert (log["status"], log["attempts"]) == ("retrying", [])
    assert log["message"].startswith("Put off: its destination asked to be left alone.")


def test_what_is_not_there_cannot_be_run(api: Api) -> None:
    assert_problem(api("POST", f"/tasks/{UNKNOWN}/run"), 404, "NOT_FOUND")
    assert_problem(api("POST", f"/task-logs/{UNKNOWN}/retry"), 404, "NOT_FOUND")
    assert_problem(api("POST", "/tasks/no-id/run"), 404, "NOT_FOUND")
    for path in (f"/tasks/{UNKNOWN}/run", f"/task-logs/{UNKNOWN}/retry", "/tasks/test", "/tasks/test/"):
        for method in ("GET", "PUT", "DELETE"):
            answer = api(method, path)
            assert_problem(answer, 405, "METHOD_NOT_ALLOWED")
            assert answer.headers["Allow"] == "OPTIONS, POST"
        assert api("OPTIONS", path).headers["Allow"] == "OPTIONS, POST"


def test_a_log_is_retried_for_the_same_instant_by_the_task_as_it_is_now(api: Api, database: Database) -> None:
    answers = [500, 200]
    with Receiver(lambda _: (answers.pop(0), b"")) as receiver:
        task = api.create(webhook_url=receiver.url, max_retry=0, payload=1)
        database.make_due(task)
        api.tick()
        (failed,) = api.logs(task)
        before = api.put(f"/tasks/{task['id']}", {"payload": 2})
        answer = api("POST", f"/task-logs/{failed['id']}/retry")
    log = answer.json()
    assert (answer.status_code, answer.headers["Location"]) == (202, f"/task-logs/{log['id']}")
    assert (log["status"], log["source"], log["retry_of"]) == ("success", "manual", failed["id"])
    assert log["scheduled_for"] == failed["scheduled_for"]
    assert [request.json for request in receiver.requests] == [1, 2]
    assert api.get(f"/task-logs/{failed['id']}") == failed
    assert api.get(f"/tasks/{task['id']}") == before
    assert before["status"] == "inactive"


def test_a_recorded_log_is_retried_for_its_execution_time(api: Api) -> None:
    with Receiver() as receiver:
        recorded = api.log(api.create(webhook_url=receiver.url), status="failed")
        log = retry(api, recorded)
    assert log["scheduled_for"] == recorded["execution_time"]
    assert receiver.requests[0].headers["X-Insignia-Scheduled-For"] == recorded["execution_time"]


def test_what_is_under_way_is_not_retried(api: Api) -> None:
    log = run(api, api.create())
    assert log["status"] == "retrying"
    problem = assert_problem(api("POST", f"/task-logs/{log['id']}/retry"), 409, "CONFLICT")
    assert problem["detail"] == f"The run {log['id']} is under way; retry after it has ended."


@pytest.mark.parametrize("path", ["/tasks/{task}/run", "/task-logs/{log}/retry"])
def test_a_repeated_request_starts_no_second_run_and_tells_of_the_first(api: Api, path: str) -> None:
    answers = [500, 200]
    with Receiver(lambda _: (answers.pop(0), b"")) as receiver:
        task = api.create(webhook_url=receiver.url, max_retry=1)
        path = path.format(task=task["id"], log=api.log(task)["id"])
        first = api("POST", path, headers=KEY)
        api.tick()
        second = api("POST", f"{path}/", headers=KEY)
    assert (first.status_code, first.json()["status"]) == (202, "retrying")
    assert (second.status_code, second.json()["status"]) == (202, "success")
    assert first.headers["Location"] == second.headers["Location"]
    assert "Idempotency-Replayed" not in first.headers
    assert second.headers["Idempotency-Replayed"] == "true"
    assert len(receiver.requests) == 2


def test_equal_requests_at_once_make_one_call(api: Api) -> None:
    def send(_: int) -> requests.Response:
        return Api(api.url)("POST", f"/tasks/{task['id']}/run", headers=KEY)

    with Receiver() as receiver, ThreadPoolExecutor(8) as threads:
        task = api.create(webhook_url=receiver.url)
        answers = list(threads.map(send, range(8)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("Idempotency-Replayed" not in answer.headers for answer in answers) == 1
    assert len(receiver.requests) == 1


def test_the_key_of_a_run_belongs_to_it(api: Api) -> None:
    task = api.create()
    run_path = f"/tasks/{task['id']}/run"
    first = api("POST", run_path, headers=KEY).json()
    for path in (f"/tasks/{api.create()['id']}/run", f"/task-logs/{first['id']}/retry"):
        assert_problem(api("POST", path, headers=KEY), 422, "INVALID_INPUT")
    assert_problem(api("POST", "/tasks/", json=task_body(), headers=KEY), 422, "INVALID_INPUT")
    assert_problem(api("POST", run_path, headers={"Idempotency-Key": "a b"}), 400, "BAD_REQUEST")
    assert api.get("/task-logs/")["total"] == 1


def test_a_refused_run_leaves_its_key_free(api: Api) -> None:
    assert_problem(api("POST", f"/tasks/{UNKNOWN}/run", headers=KEY), 404)
    log = run(api, api.create(max_retry=0))
    other = api("POST", f"/task-logs/{log['id']}/retry", headers=KEY)
    assert (other.status_code, other.json()["retry_of"]) == (202, log["id"])


def test_no_connection_to_the_database_is_held_during_a_call(api: Api) -> None:
    """More calls than the pool has connections, and yet the API answers."""
    calls, may_answer = threading.Semaphore(0), threading.Event()

    def wait(_: Received) -> Answer:
        calls.release()
        assert may_answer.wait(30)
        return 200, b""

    with Receiver(wait) as receiver, ThreadPoolExecutor(6) as threads:
        task = api.create(webhook_url=receiver.url)
        answers = [threads.submit(run, Api(api.url), task) for _ in range(6)]
        try:
            assert all(calls.acquire(timeout=30) for _ in range(6))
            assert api.get("/task-logs/", status="running")["total"] == 6
        finally:
            may_answer.set()
        assert {answer.result()["status"] for answer in answers} == {"success"}


def test_a_test_calls_once_tells_what_came_back_and_stores_nothing(api: Api, database: Database) -> None:
    headers = {"X-Limit": "9", "Content-Type": "text/plain"}
    with Receiver(lambda _: (418, b"short and stout", headers)) as receiver:
        answer = call_once(
            api,
            webhook_url=receiver.url,
            payload={"a": 1},
            headers={"X-Own": "value"},
            signing_secret="whsec_bm90LWEtc2VjcmV0LWJ1dC1hbi1leGFtcGxl",
            max_retry=3,
        )
    (request,) = receiver.requests
    assert request.json == {"a": 1}
    assert request.headers["X-Own"] == "value"
    assert request.headers["X-Insignia-Attempt"] == "1"
    assert request.headers["webhook-signature"].startswith("v1,")
    assert (answer["status"], answer["http_status"], answer["error"]) == ("failed", 418, "http")
    assert answer["message"] == "The webhook answered HTTP 418 I'm a Teapot."
    assert answer["response_excerpt"] == "short and stout"
    assert headers.items() <= answer["response_headers"].items()
    assert 0 <= answer["duration_ms"] < 10_000
    assert database.count("tasks", "task_state", "task_logs", "throttled_destinations") == 0


def test_a_test_succeeds_by_the_statuses_of_the_task(api: Api) -> None:
    with Receiver(lambda _: (304, b"")) as receiver:
        answer = call_once(api, webhook_url=receiver.url, success_statuses="304", method="GET")
    assert (answer["status"], answer["error"], answer["message"]) == (
        *("success", None, "The webhook answered HTTP 304 Not Modified."),
    )


def test_a_test_keeps_the_deadline_of_the_task(api: Api) -> None:
    may_answer = threading.Event()

    def wait(_: Received) -> Answer:
        may_answer.wait(30)
        return 200, b""

    with Receiver(wait) as receiver:
        try:
            answer = call_once(api, webhook_url=receiver.url, timeout_seconds=1)
        finally:
            may_answer.set()
    assert (answer["status"], answer["error"], answer["http_status"]) == ("failed", "timeout", None)
    assert answer["message"] == "There was no complete answer within 1 s."
    assert 900 <= answer["duration_ms"] < 2_000
    assert answer["response_headers"] == {}


def test_only_the_beginning_of_an_answer_is_told(api: Api) -> None:
    headers = {f"X-{number}": "v" * 1_000 for number in range(20)}
    with Receiver(lambda _: (200, b"\xff\0<" + b"x" * 100_000, headers)) as receiver:
        answer = call_once(api, webhook_url=receiver.url)
    assert len(answer["response_excerpt"]) == 2_048
    assert "\0" not in answer["response_excerpt"]
    assert 4 <= len(answer["response_headers"]) <= 12


def test_a_header_that_comes_twice_is_told_as_one(api: Api) -> None:
    """It is one by RFC 9110, but for cookies, which nobody here reads."""
    with Receiver(lambda _: (200, b"", {"X-A": "1", "x-a": "2"})) as receiver:
        assert call_once(api, webhook_url=receiver.url)["response_headers"]["X-A"] == "1, 2"


@pytest.mark.parametrize(
    ("fields", "code", "pointer"),
    [
        ({"schedule": "61 * * * *"}, "INVALID_SCHEDULE", "/schedule"),
        ({"timezone": "Mars/Olympus"}, "INVALID_TIMEZONE", "/timezone"),
        ({"webhook_url": "ftp://example.com"}, "INVALID_WEBHOOK_URL", "/webhook_url"),
        ({"headers": {"Host": "a"}}, "INVALID_INPUT", "/headers"),
        ({"run_at": "2001-01-01T00:00:00Z", "schedule": None}, "INVALID_INPUT", None),
        ({"unknown": 1}, "INVALID_INPUT", "/unknown"),
    ],
)
def test_what_could_not_be_stored_is_not_called(
    api: Api, fields: Json, code: str, pointer: str | None
) -> None:
    with Receiver() as receiver:
        body = task_body(**{"webhook_url": receiver.url} | fields)
        problem = assert_problem(api("POST", "/tasks/test", json=body), 422, code)
    assert pointers(problem) == ([pointer] if pointer else [])
    assert receiver.connections == 0


def test_a_redirect_to_a_refused_address_is_not_followed(api: Api) -> None:
    with Receiver() as hidden:
        with Receiver(lambda _: (302, b"", {"Location": hidden.url})) as receiver:
            answer = call_once(api, webhook_url=receiver.url)
        assert (answer["status"], answer["http_status"]) == ("failed", 302)
        assert hidden.connections == 0


def test_nobody_listens(api: Api) -> None:
    answer = call_once(api, webhook_url=NOWHERE)
    assert (answer["status"], answer["error"], answer["http_status"]) == ("failed", "connect", None)
