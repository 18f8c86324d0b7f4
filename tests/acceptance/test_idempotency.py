"""Idempotency-Key over HTTP: a request that is repeated makes one thing and gets one answer."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from sqlalchemy import Engine, text

from tests.acceptance.conftest import Database
from tests.acceptance.server import Api, assert_problem, task_body

KEY = {"Idempotency-Key": "8e03978e-40d5-43dd-bc93-6894a57f9324"}


def same(first: requests.Response, second: requests.Response) -> bool:
    names = ("Content-Type", "Location", "ETag")
    return (first.status_code, first.content, [first.headers.get(name) for name in names]) == (
        second.status_code,
        second.content,
        [second.headers.get(name) for name in names],
    )


def test_a_repeated_request_gets_the_first_answer_and_makes_nothing(api: Api, database: Database) -> None:
    first = api("POST", "/tasks/", json=task_body(), headers=KEY)
    api.put(f"/tasks/{first.json()['id']}", {"name": "Renamed meanwhile"})
    second = api("POST", "/tasks", json=task_body(), headers=KEY)
    assert first.status_code == 201
    assert same(first, second)
    assert "Idempotency-Replayed" not in first.headers
    assert second.headers["Idempotency-Replayed"] == "true"
    assert database.count("tasks") == 1


def test_a_log_is_recorded_once_too(api: Api, database: Database) -> None:
    body = {"task_id": api.create()["id"], "execution_time": "2026-11-23T12:00:00Z", "status": "success"}
    first, second = (api("POST", "/task-logs/", json=body, headers=KEY) for _ in range(2))
    assert first.status_code == 201
    assert same(first, second)
    assert database.count("task_logs") == 1


def test_equal_requests_at_once_make_one_task_and_get_one_answer(api: Api, database: Database) -> None:
    def send(_: int) -> requests.Response:
        return Api(api.url)("POST", "/tasks/", json=task_body(), headers=KEY)

    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(send, range(16)))
    assert all(same(answers[0], answer) for answer in answers), [answer.text for answer in answers]
    assert sum("Idempotency-Replayed" not in answer.headers for answer in answers) == 1
    assert database.count("tasks") == 1


@pytest.mark.parametrize(
    ("path", "body"), [("/tasks/", task_body(name="Another")), ("/task-logs/", task_body())]
)
def test_a_key_belongs_to_one_request(api: Api, database: Database, path: str, body: object) -> None:
    api("POST", "/tasks/", json=task_body(), headers=KEY)
    if path == "/task-logs/":
        task = api.get("/tasks/")["tasks"][0]["id"]
        body = {"task_id": task, "execution_time": "2026-11-23T12:00:00Z", "status": "success"}
    problem = assert_problem(api("POST", path, json=body, headers=KEY), 422, "INVALID_INPUT")
    assert "use a new key" in problem["detail"]
    assert database.count("tasks", "task_logs") == 1


def test_a_refused_request_leaves_its_key_free(api: Api) -> None:
    past = {"name": "a", "webhook_url": "http://127.0.0.1:9/", "run_at": "2001-01-01T00:00:00Z"}
    assert_problem(api("POST", "/tasks/", json=past, headers=KEY), 422)
    assert api("POST", "/tasks/", json=task_body(), headers=KEY).status_code == 201


def test_a_key_is_the_same_in_quotes(api: Api, database: Database) -> None:
    for key in ("a", '"a"'):
        assert api("POST", "/tasks/", json=task_body(), headers={"Idempotency-Key": key}).status_code == 201
    assert database.count("tasks") == 1


@pytest.mark.parametrize("key", ["", "a b", '"', '""', '"a', 'a"', "a\\b", "ä", "x" * 129])
def test_what_is_no_key_is_a_bad_request(api: Api, database: Database, key: str) -> None:
    headers = {"Idempotency-Key": key.encode()}
    problem = assert_problem(api("POST", "/tasks/", json=task_body(), headers=headers), 400, "BAD_REQUEST")
    assert problem["detail"].startswith("Idempotency-Key must have 1 to 128 visible ASCII characters")
    assert database.count("tasks") == 0


def test_after_a_day_a_key_is_new_and_a_tick_forgets_it(api: Api, database: Database, rows: Engine) -> None:
    first = api("POST", "/tasks/", json=task_body(), headers=KEY).json()
    age(rows)
    second = api("POST", "/tasks/", json=task_body(), headers=KEY).json()
    assert first["id"] != second["id"]
    api.tick()
    assert database.count("idempotency_keys") == 1
    age(rows)
    api.tick()
    assert database.count("idempotency_keys") == 0


def age(rows: Engine) -> None:
    with rows.begin() as connection:
        connection.execute(text("UPDATE idempotency_keys SET created_at = created_at - interval '24 hours'"))
