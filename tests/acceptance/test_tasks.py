"""/tasks: the contract of the seed."""

import uuid
from datetime import datetime

import pytest

from tests.acceptance.server import NOWHERE, YEARLY, Api, Json, assert_problem, pointers, task_body

SEED_FIELDS = {
    "id",
    "name",
    "schedule",
    "webhook_url",
    "payload",
    "max_retry",
    "status",
    "created_at",
    "updated_at",
}
READ_ONLY_FIELDS = {
    "revision",
    "next_run_at",
    "last_run_at",
    "last_status",
    "consecutive_failures",
    "deactivated_at",
    "deactivated_reason",
}


def names(page: Json) -> list[str]:
    return [task["name"] for task in page["tasks"]]


def test_a_task_is_created_with_the_defaults(api: Api) -> None:
    answer = api("POST", "/tasks/", json={"name": "A task", "schedule": YEARLY, "webhook_url": NOWHERE})
    assert answer.status_code == 201
    task = answer.json()
    assert answer.headers["Location"] == f"/tasks/{task['id']}"
    assert SEED_FIELDS | READ_ONLY_FIELDS | {"timezone"} <= task.keys()
    assert str(uuid.UUID(task["id"])) == task["id"]
    expected = task_body(payload={}, max_retry=3, status="active", timezone="UTC")
    assert {name: task[name] for name in expected} == expected
    assert task["created_at"] == task["updated_at"]
    assert task["next_run_at"].endswith("-01-01T00:00:00Z")
    assert datetime.fromisoformat(task["next_run_at"]) > datetime.fromisoformat(task["created_at"])
    unset = ("last_run_at", "last_status", "deactivated_at", "deactivated_reason")
    assert [task[name] for name in unset] == [None] * 4
    assert task["consecutive_failures"] == 0


def test_a_created_task_can_be_read_at_its_location(api: Api) -> None:
    answer = api("POST", "/tasks/", json=task_body(payload={"a": 1}, max_retry=0, status="inactive"))
    assert api.get(answer.headers["Location"]) == answer.json()


def test_an_inactive_task_has_no_next_run(api: Api) -> None:
    task = api.create(status="inactive")
    assert (task["status"], task["next_run_at"]) == ("inactive", None)


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_an_update_changes_what_it_names_and_leaves_the_rest(api: Api, method: str) -> None:
    before = api.create(payload={"old": True})
    after = api.ok(method, f"/tasks/{before['id']}", json={"name": "Renamed", "max_retry": 0})
    assert after == api.get(f"/tasks/{before['id']}")
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"name", "max_retry", "updated_at", "revision"}
    assert (after["name"], after["max_retry"]) == ("Renamed", 0)
    assert after["updated_at"] > before["updated_at"]


def test_every_field_of_the_user_can_be_changed(api: Api) -> None:
    task = api.create()
    changes = {
        "name": "Other",
        "schedule": "30 4 * * *",
        "webhook_url": "https://example.com/other",
        "payload": [1, None],
        "max_retry": 7,
        "status": "inactive",
        "timezone": "Europe/Berlin",
    }
    after = api.put(f"/tasks/{task['id']}", changes)
    assert {name: after[name] for name in changes} == changes


def test_get_edit_put_works_because_read_only_fields_are_ignored(api: Api) -> None:
    before = api.create()
    edited = before | {"name": "Edited", "id": str(uuid.uuid4()), "created_at": "2000-01-01T00:00:00Z"}
    after = api.put(f"/tasks/{before['id']}", edited | {"next_run_at": None, "revision": 99})
    assert after["name"] == "Edited"
    for name in ("id", "created_at", "next_run_at"):
        assert after[name] == before[name]
    assert api.put(f"/tasks/{before['id']}", after) == after


def test_an_unknown_field_is_refused_and_named(api: Api) -> None:
    task = api.create()
    for method, path, body in (
        ("POST", "/tasks/", task_body(webhok_url="x")),
        ("PUT", f"/tasks/{task['id']}", {"webhok_url": "x"}),
    ):
        problem = assert_problem(api(method, path, json=body), 422)
        assert pointers(problem) == ["/webhok_url"]
        assert "webhook_url" in problem["detail"]
    assert api.get("/tasks/")["tasks"] == [task]


def test_a_field_that_cannot_be_null_refuses_null_in_an_update(api: Api) -> None:
    task = api.create(payload={"keep": True})
    for name in ("name", "webhook_url", "max_retry", "status", "timezone"):
        problem = assert_problem(api("PUT", f"/tasks/{task['id']}", json={name: None}), 422)
        assert pointers(problem) == [f"/{name}"]
    assert_problem(api("PUT", f"/tasks/{task['id']}", json={"schedule": None}), 422)
    assert api.get(f"/tasks/{task['id']}") == task
    assert api.put(f"/tasks/{task['id']}", {"payload": None})["payload"] is None


def test_a_refused_update_changes_nothing(api: Api) -> None:
    task = api.create()
    assert_problem(api("PUT", f"/tasks/{task['id']}", json={"name": "New", "schedule": "61 * * * *"}), 422)
    assert api.get(f"/tasks/{task['id']}") == task


def test_a_deleted_task_is_gone_with_its_logs(api: Api) -> None:
    task, other = api.create(), api.create()
    log, kept = api.log(task), api.log(other)
    assert list(api.delete(f"/tasks/{task['id']}")) == ["message"]
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        assert_problem(api(method, f"/tasks/{task['id']}", json={}), 404, "NOT_FOUND")
    assert_problem(api("GET", f"/task-logs/{log['id']}"), 404)
    assert api.get("/tasks/")["tasks"] == [other]
    assert api.get("/task-logs/")["task_logs"] == [kept]


def test_the_list_is_an_envelope_in_order_of_creation(api: Api) -> None:
    tasks = [api.create(name=f"Task {number}") for number in range(3)]
    page = api.get("/tasks/")
    assert {"tasks", "total", "skip", "limit"} <= page.keys()
    assert page["tasks"] == tasks
    assert (page["total"], page["skip"], page["limit"]) == (3, 0, 100)


def test_an_empty_list_is_an_envelope_too(api: Api) -> None:
    page = api.get("/tasks/")
    assert (page["tasks"], page["total"], page["skip"], page["limit"]) == ([], 0, 0, 100)


def test_skip_and_limit_cut_a_page_and_total_counts_all(api: Api) -> None:
    for number in range(5):
        api.create(name=f"Task {number}")
    page = api.get("/tasks/", skip=1, limit=2)
    assert (names(page), page["total"], page["skip"], page["limit"]) == (["Task 1", "Task 2"], 5, 1, 2)
    assert names(api.get("/tasks/", skip=4, limit=1000)) == ["Task 4"]
    assert (api.get("/tasks/", skip=2**63 - 1)["tasks"], api.get("/tasks/", skip=5)["total"]) == ([], 5)


def test_the_status_filter_selects_tasks(api: Api) -> None:
    active, inactive = api.create(), api.create(status="inactive")
    for status, expected in (("active", active), ("inactive", inactive)):
        page = api.get("/tasks/", status=status)
        assert (page["tasks"], page["total"]) == ([expected], 1)


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("report", ["Daily REPORT", "report 50%"]),
        ("50%", ["report 50%"]),
        ("%", ["report 50%"]),
        ("_", ["snake_case"]),
        ("\\", ["back\\slash"]),
        ("k\\s", ["back\\slash"]),
        ("äÖ", ["ÄÖÜ"]),
        ("пр", ["ПРИВЕТ"]),
        ("🎉", ["party 🎉"]),
        (" ", ["Daily REPORT", "report 50%", "party 🎉"]),
        ("'; DROP TABLE tasks; --", []),
        ("", ["Daily REPORT", "report 50%", "snake_case", "back\\slash", "ÄÖÜ", "ПРИВЕТ", "party 🎉"]),
    ],
)
def test_search_is_a_literal_part_of_the_name_in_any_case(api: Api, search: str, found: list[str]) -> None:
    for name in ("Daily REPORT", "report 50%", "snake_case", "back\\slash", "ÄÖÜ", "ПРИВЕТ", "party 🎉"):
        api.create(name=name)
    page = api.get("/tasks/", search=search)
    assert (names(page), page["total"]) == (found, len(found))


def test_filters_and_pages_work_together(api: Api) -> None:
    for number in range(4):
        api.create(name=f"report {number}", status="inactive" if number % 2 else "active")
    page = api.get("/tasks/", search="report", status="inactive", skip=1, limit=1)
    assert (names(page), page["total"]) == (["report 3"], 2)
    page = api.get("/tasks/", search="report", status="active", skip=1, limit=1)
    assert (names(page), page["total"]) == (["report 2"], 2)


def test_paths_answer_with_and_without_a_trailing_slash(api: Api) -> None:
    task = api.post("/tasks", task_body())
    for path in ("/tasks", "/tasks/"):
        assert api.get(path)["tasks"] == [task]
    for path in (f"/tasks/{task['id']}", f"/tasks/{task['id']}/", f"/tasks/{task['id'].upper()}"):
        assert api.get(path) == task


def test_head_follows_get_and_options_tells_the_methods(api: Api) -> None:
    task = api.create()
    head = api("HEAD", f"/tasks/{task['id']}")
    assert (head.status_code, head.content, head.headers["Content-Type"]) == (200, b"", "application/json")
    options = api("OPTIONS", "/tasks/")
    assert (options.status_code, options.content) == (204, b"")
    assert {"GET", "POST", "HEAD", "OPTIONS"} <= set(options.headers["Allow"].split(", "))


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    "identity", [str(uuid.UUID(int=7)), "1", "not-a-uuid", "0" * 32, "%00", "ü", "{" + "0" * 8 + "}"]
)
def test_an_unknown_id_is_404(api: Api, method: str, identity: str) -> None:
    assert_problem(api(method, f"/tasks/{identity}", json={}), 404)
