"""GET /tasks/export and POST /tasks/apply: tasks as code."""

import json
from typing import Any

import pytest

from tests.acceptance.conftest import Database
from tests.acceptance.server import Api, Json, assert_problem, pointers, task_body

SECRET = "whsec_" + "A" * 32
FULL = {
    "timezone": "Europe/Berlin",
    "payload": {"b": 1, "a": [None]},
    "headers": {"Authorization": "Bearer of-the-receiver"},
    "signing_secret": [SECRET],
    "tags": ["billing"],
    "max_retry": 7,
    "success_statuses": "200,304",
    "overlap_policy": "allow",
    "start_at": "2030-01-01T00:00:00Z",
    "notify_url": "http://127.0.0.1:9/hidden-path",
}


def apply(api: Api, *tasks: Json, **options: Any) -> Json:
    return api.ok("POST", "/tasks/apply", json={"tasks": list(tasks)} | options)


def actions(applied: Json) -> dict[str, str]:
    return {change["name"]: change["action"] for change in applied["tasks"]}


def test_a_file_is_applied_once_and_then_changes_nothing(api: Api) -> None:
    tasks = [task_body(name="One", **FULL), task_body(name="Two", status="inactive")]
    applied = apply(api, *tasks)
    assert (applied["created"], applied["dry_run"]) == (2, False)
    stored = api.get("/tasks/", order_by="name")["tasks"]
    assert [change["id"] for change in applied["tasks"]] == [task["id"] for task in stored]
    assert [task["status"] for task in stored] == ["active", "inactive"]
    assert actions(apply(api, *tasks, prune=True)) == {"One": "unchanged", "Two": "unchanged"}
    assert api.get("/tasks/", order_by="name")["tasks"] == stored


def test_an_export_makes_the_same_tasks_elsewhere(api: Api) -> None:
    apply(api, task_body(name="One", **FULL), task_body(name="Two", status="inactive"))
    exported = api.get("/tasks/export")
    assert exported["tasks"][0].items() >= FULL.items()
    assert list(exported["tasks"][0]["payload"]) == ["b", "a"]
    assert apply(api, *exported["tasks"], prune=True)["unchanged"] == 2
    for task in api.get("/tasks/")["tasks"]:
        api.delete(f"/tasks/{task['id']}")
    assert apply(api, *exported["tasks"])["created"] == 2
    assert api.get("/tasks/export") == exported


def test_changes_are_told_without_secrets(api: Api) -> None:
    apply(api, task_body(name="One", **FULL))
    changed = task_body(
        name="One", webhook_url="http://127.0.0.1:9/hidden", headers={"Authorization": "hidden"}
    )
    answer = api("POST", "/tasks/apply", json={"tasks": [changed]})
    assert "hidden" not in answer.text
    assert "of-the-receiver" not in answer.text
    (change,) = answer.json()["tasks"]
    told = {one["field"]: (one["before"], one["after"]) for one in change["changes"]}
    assert told["max_retry"] == (7, 3)
    assert told["headers"] == ({"Authorization": "…"}, {"Authorization": "… (changed)"})
    assert "signing_secret" not in told, "it was not named"
    assert apply(api, changed | {"signing_secret": None})["updated"] == 1
    assert api.get("/tasks/export")["tasks"][0]["signing_secret"] == []


def test_a_payload_changes_as_json_does(api: Api) -> None:
    apply(api, task_body(name="One", payload={"a": 1}))
    for payload in ({"a": True}, {"a": 1.0}, 1, True):
        assert apply(api, task_body(name="One", payload=payload))["updated"] == 1
        (task,) = api.get("/tasks/")["tasks"]
        assert json.dumps(task["payload"]) == json.dumps(payload)
        assert apply(api, task_body(name="One", payload=payload))["unchanged"] == 1


def test_prune_deletes_and_a_dry_run_does_nothing(api: Api) -> None:
    kept, other = api.create(name="Kept"), api.create(name="Other")
    tasks = [task_body(name="Kept", max_retry=0), task_body(name="New")]
    expected = {"Kept": "update", "New": "create", "Other": "delete"}
    plan = apply(api, *tasks, prune=True, dry_run=True)
    assert actions(plan) == expected
    assert plan["tasks"][1]["id"] is None
    assert api.get("/tasks/")["tasks"] == [kept, other]
    assert actions(apply(api, *tasks, prune=True)) == expected
    assert {task["name"] for task in api.get("/tasks/")["tasks"]} == {"Kept", "New"}


def test_a_task_that_insignia_deactivated_is_made_active_only_if_the_file_says_so(api: Api) -> None:
    task = api.create(name="One", status="inactive")
    assert apply(api, task_body(name="One"))["unchanged"] == 1
    assert apply(api, task_body(name="One", status="active"))["updated"] == 1
    assert api.get(f"/tasks/{task['id']}")["status"] == "active"


def test_a_completed_task_is_not_run_again(api: Api, database: Database) -> None:
    once = {
        "name": "Once",
        "webhook_url": "http://127.0.0.1:9/",
        "run_at": "2100-01-01T00:00:00Z",
        "max_retry": 0,
    }
    apply(api, once)
    (task,) = api.get("/tasks/")["tasks"]
    database.make_due(task)
    api.tick()
    assert api.get(f"/tasks/{task['id']}")["status"] in ("completed", "inactive")
    assert apply(api, once)["unchanged"] == 1
    assert apply(api, *api.get("/tasks/export")["tasks"])["unchanged"] == 1


def test_all_or_nothing(api: Api) -> None:
    past = {"name": "Past", "webhook_url": "http://127.0.0.1:9/", "run_at": "2020-01-01T00:00:00Z"}
    for dry_run in (False, True):
        answer = api(
            "POST", "/tasks/apply", json={"tasks": [task_body(name="One"), past], "dry_run": dry_run}
        )
        problem = assert_problem(answer, 422)
        assert problem["detail"] == "Task 'Past': run_at is in the past; choose an instant in the future."
    assert api.get("/tasks/")["total"] == 0


def test_a_name_of_two_tasks_is_refused(api: Api) -> None:
    api.create(name="Twin")
    api.create(name="Twin")
    problem = assert_problem(
        api("POST", "/tasks/apply", json={"tasks": [task_body(name="Twin")]}), 409, "CONFLICT"
    )
    assert "2 tasks are named 'Twin'" in problem["detail"]
    assert_problem(api("GET", "/tasks/export"), 409, "CONFLICT")
    assert apply(api, task_body(name="Another"))["created"] == 1
    assert apply(api, prune=True)["deleted"] == 3


@pytest.mark.parametrize(
    ("body", "pointer", "detail"),
    [
        ({}, "/tasks", "tasks is required."),
        ({"tasks": {}}, "/tasks", "tasks must be an array, not an object."),
        ({"tasks": [], "prune": "yes"}, "/prune", "prune must be true or false, not 'yes'."),
        ({"tasks": ["One"]}, "/tasks/0", "tasks/0 must be a JSON object, not a string."),
        ({"tasks": [task_body(shedule="")]}, "/tasks/0/shedule", "did you mean 'schedule'?"),
        (
            {"tasks": [task_body(), task_body(name="Two", schedule="61 * * * *")]},
            "/tasks/1/schedule",
            "minute 61",
        ),
        ({"tasks": [task_body(), task_body()]}, "/tasks", "2 tasks are named 'A task'"),
        ({"tasks": [task_body(payload="x" * 262_144)]}, "/tasks", "larger than 256 KiB"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(api: Api, body: Json, pointer: str, detail: str) -> None:
    problem = assert_problem(api("POST", "/tasks/apply", json=body), 422)
    assert pointers(problem)[0] == pointer
    assert detail in problem["errors"][0]["detail"]
    assert api.get("/tasks/")["total"] == 0


def test_a_file_may_be_larger_than_a_task(api: Api) -> None:
    tasks = [task_body(name=f"Task {number}", payload="x" * 5_000) for number in range(100)]
    assert apply(api, *tasks)["created"] == 100
    assert_problem(
        api(
            "POST", "/tasks/apply", data=b"[" * (16 * 2**20 + 1), headers={"Content-Type": "application/json"}
        ),
        413,
    )
