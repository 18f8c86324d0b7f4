"""/task-logs: the contract of the seed."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest

from tests.acceptance.conftest import Database
from tests.acceptance.server import Api, Json, assert_problem, pointers, wait_until
from tests.receiver import Answer, Received, Receiver

FIELDS = {
    *("id", "task_id", "execution_time", "status", "retry_count", "message", "created_at"),  # the seed's
    *("source", "scheduled_for", "finished_at", "duration_ms", "lateness_ms", "throttled_ms"),
    *("http_status", "error", "response_excerpt", "attempts"),
}
UNKNOWN = str(uuid.UUID(int=7))
WHEN = "2026-11-23T12:00:00Z"
BAD_FIELDS: dict[str, list[Any]] = {
    "task_id": [None, "", "x", 1, "0" * 32, f"urn:uuid:{UNKNOWN}"],
    "execution_time": [
        *(None, "", "now", 0, "12:00", "2026-13-01T00:00:00Z", "x" * 9999),
        *("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"),
    ],
    "status": [None, "", "running", "retrying", "cancelled", "SUCCESS", 1],
    "retry_count": [None, "1", -1, 1.5, 2**31, True],
    "message": [1, [], {}, "x" * 10_001],
    "source": ["schedule"],
    "id": [UNKNOWN],
    "attempts": [[]],
}


def messages(page: Json) -> list[str]:
    return [log["message"] for log in page["task_logs"]]


def test_a_task_log_is_created_with_the_defaults(api: Api) -> None:
    task = api.create()
    body = {"task_id": task["id"], "execution_time": WHEN, "status": "failed"}
    answer = api("POST", "/task-logs/", json=body)
    assert answer.status_code == 201
    log = answer.json()
    assert answer.headers["Location"] == f"/task-logs/{log['id']}"
    assert log.keys() >= FIELDS
    assert {name: log[name] for name in body} == body
    assert (log["retry_count"], log["message"], log["source"], log["attempts"]) == (0, None, "api", [])
    assert api.get(answer.headers["Location"]) == log


def test_a_task_log_keeps_what_it_was_given(api: Api) -> None:
    fields = {"retry_count": 2, "message": "Took 2 s. ü🎉\n", "execution_time": "1999-12-31T23:59:59.123456Z"}
    log = api.log(api.create(), **fields)
    assert {name: log[name] for name in fields} == fields


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("2026-11-23T13:00:00+01:00", WHEN),
        ("2026-11-23T12:00:00", WHEN),
        ("2026-11-23 12:00:00Z", WHEN),
        ("2026-11-23t12:00:00z", WHEN),
        ("2026-11-23T12:00:00.000Z", WHEN),
        ("2026-11-23", "2026-11-23T00:00:00Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
    ],
)
def test_a_time_is_kept_as_utc(api: Api, sent: str, kept: str) -> None:
    assert api.log(api.create(), execution_time=sent)["execution_time"] == kept


def test_a_log_changes_nothing_about_its_task(api: Api) -> None:
    task = api.create()
    api.log(task, status="failed")
    assert api.get(f"/tasks/{task['id']}") == task


def test_a_log_of_an_unknown_task_is_404(api: Api, database: Database) -> None:
    body = {"task_id": UNKNOWN, "execution_time": WHEN, "status": "success"}
    assert_problem(api("POST", "/task-logs/", json=body), 404, "NOT_FOUND")
    assert database.count("task_logs") == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in BAD_FIELDS.items() for value in values],
    ids=lambda value: repr(value)[:30],
)
def test_a_bad_value_is_422_at_its_field(api: Api, database: Database, name: str, value: Any) -> None:
    body = {"task_id": api.create()["id"], "execution_time": WHEN, "status": "success"} | {name: value}
    problem = assert_problem(api("POST", "/task-logs/", json=body), 422)
    assert pointers(problem) == [f"/{name}"]
    assert database.count("task_logs") == 0


@pytest.mark.parametrize("name", ["task_id", "execution_time", "status"])
def test_a_required_field_that_is_missing_is_422_at_its_field(api: Api, name: str) -> None:
    body = {"task_id": UNKNOWN, "execution_time": WHEN, "status": "success"}
    del body[name]
    assert pointers(assert_problem(api("POST", "/task-logs/", json=body), 422)) == [f"/{name}"]


def test_an_update_changes_what_it_names_and_leaves_the_rest(api: Api) -> None:
    before = api.log(api.create(), message="Old")
    path = f"/task-logs/{before['id']}"
    assert api.put(path, {"status": "failed"}) == before | {"status": "failed"}
    changes = {
        "message": None,
        "retry_count": 4,
        "execution_time": "2026-01-01T00:00:00Z",
        "status": "success",
    }
    assert api.put(path, changes) == api.get(path) == before | changes


def test_get_edit_put_works_because_read_only_fields_are_ignored(api: Api) -> None:
    before = api.log(api.create())
    sent = before | {"message": "Edited", "task_id": UNKNOWN, "id": UNKNOWN, "created_at": None}
    assert api.put(f"/task-logs/{before['id']}", sent) == before | {"message": "Edited"}


def test_a_refused_update_changes_nothing(api: Api) -> None:
    before = api.log(api.create())
    path = f"/task-logs/{before['id']}"
    for body in (
        {"status": "running"},
        {"status": "cancelled"},
        {"status": None},
        {"retry_count": None},
        {"execution_time": None},
        {"message": "New", "retry_count": -1},
        {"unknown": 1},
    ):
        assert_problem(api("PUT", path, json=body), 422)
    assert api.get(path) == before


def test_a_deleted_log_is_gone(api: Api) -> None:
    task = api.create()
    log = api.log(task)
    path = f"/task-logs/{log['id']}"
    assert list(api.delete(path)) == ["message"]
    for method in ("GET", "PUT", "DELETE"):
        assert_problem(api(method, path, json={}), 404, "NOT_FOUND")
    assert api.logs(task) == []


def test_the_list_is_an_envelope_with_the_newest_first(api: Api) -> None:
    task = api.create()
    times = ("2026-01-03T00:00:00Z", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z")
    logs = [api.log(task, execution_time=time) for time in times]
    page = api.get("/task-logs/")
    assert {"task_logs", "total", "skip", "limit"} <= page.keys()
    assert page["task_logs"] == logs[::-1]
    assert (page["total"], page["skip"], page["limit"]) == (3, 0, 100)


def test_skip_and_limit_cut_a_page_and_total_counts_all(api: Api) -> None:
    task = api.create()
    for number in range(5):
        api.log(task, message=str(number))
    for path in ("/task-logs/", f"/task-logs/task/{task['id']}"):
        page = api.get(path, skip=1, limit=2)
        assert (messages(page), page["total"], page["skip"], page["limit"]) == (["3", "2"], 5, 1, 2)
        assert api.get(path, skip=2**63 - 1)["task_logs"] == []


def test_logs_are_filtered_by_task_and_status(api: Api) -> None:
    task, other = api.create(), api.create()
    failed = api.log(task, status="failed")
    success = api.log(task)
    others = api.log(other, status="failed")
    for query, expected in (
        ({"task_id": task["id"]}, [success, failed]),
        ({"task_id": task["id"].upper(), "status": "failed"}, [failed]),
        ({"status": "failed"}, [others, failed]),
        ({"status": "success"}, [success]),
        ({"task_id": other["id"], "status": "success"}, []),
        ({"status": "running"}, []),
        ({"status": "retrying"}, []),
        ({"status": "cancelled"}, []),
        ({"task_id": UNKNOWN}, []),
    ):
        page = api.get("/task-logs/", **query)
        assert (page["task_logs"], page["total"]) == (expected, len(expected))


def test_the_logs_of_a_task_are_listed_by_its_id(api: Api) -> None:
    task, other = api.create(), api.create()
    logs = [api.log(task, status="failed"), api.log(task)]
    api.log(other)
    for path in (f"/task-logs/task/{task['id']}", f"/task-logs/task/{task['id']}/"):
        page = api.get(path)
        assert (page["task_logs"], page["total"], page["skip"], page["limit"]) == (logs[::-1], 2, 0, 100)
        assert api.get(path, status="failed")["task_logs"] == logs[:1]


def test_the_logs_of_an_unknown_task_are_404(api: Api) -> None:
    for identity in (UNKNOWN, "x"):
        assert_problem(api("GET", f"/task-logs/task/{identity}"), 404)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@pytest.mark.parametrize("identity", [UNKNOWN, "1", "%00", "ü"])
def test_an_unknown_id_is_404(api: Api, method: str, identity: str) -> None:
    assert_problem(api(method, f"/task-logs/{identity}", json={}), 404)


def test_the_log_of_a_run_that_has_ended_can_be_corrected_and_deleted(api: Api, database: Database) -> None:
    with Receiver() as receiver:
        task = api.create(webhook_url=receiver.url)
        database.make_due(task)
        api.tick()
    (log,) = api.logs(task)
    path = f"/task-logs/{log['id']}"
    assert api.put(path, log) == log
    changes = {"status": "failed", "message": "It did not arrive after all.", "retry_count": 1}
    assert api.put(path, changes) == log | changes
    api.delete(path)
    assert api.logs(task) == []


def test_the_log_of_a_run_that_is_under_way_cannot_be_changed(api: Api, database: Database) -> None:
    may_answer, may_succeed = Event(), Event()

    def answer(_: Received) -> Answer:
        assert may_answer.wait(30)
        return (200, b"") if may_succeed.is_set() else (500, b"")

    def assert_unchangeable(status: str) -> None:
        wait_until(lambda: api.logs(task)[0]["status"] == status, 10, status)
        path = f"/task-logs/{api.logs(task)[0]['id']}"
        for method in ("PUT", "DELETE"):
            assert_problem(api(method, path, json={"status": "failed"}), 409, "CONFLICT")

    with Receiver(answer) as receiver, ThreadPoolExecutor(1) as pool:
        task = api.create(webhook_url=receiver.url)
        database.make_due(task)
        ticking = pool.submit(Api(api.url).tick)
        receiver.wait_for(1)
        assert_unchangeable("running")
        may_answer.set()
        assert_unchangeable("retrying")
        may_succeed.set()
        ticking.result()
    (log,) = api.logs(task)
    assert (log["status"], log["retry_count"]) == ("success", len(receiver.requests) - 1)
