"""What is wrong is refused with a problem document that says what and where, and leaves nothing behind."""

import json
from typing import Any

import pytest

from tests.acceptance.conftest import Database
from tests.acceptance.hostile import BAD_FIELDS, LEGAL_JSON_THAT_CANNOT_BE_KEPT, MALFORMED, NOT_AN_OBJECT
from tests.acceptance.server import Api, assert_problem, pointers, task_body


def send(api: Api, body: bytes | str, **headers: str) -> Any:
    data = body.encode() if isinstance(body, str) else body
    return api("POST", "/tasks/", data=data, headers={"Content-Type": "application/json"} | headers)


@pytest.fixture(autouse=True)
def nothing_is_left_behind(api: Api, database: Database) -> Any:
    yield
    assert database.count("tasks", "task_state", "task_logs") == 0


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_what_is_not_json_is_400(api: Api, body: bytes) -> None:
    assert_problem(send(api, body), 400 if body != b"[" * 33 else 422, "MALFORMED_BODY")


@pytest.mark.parametrize(
    "payload", LEGAL_JSON_THAT_CANNOT_BE_KEPT.values(), ids=LEGAL_JSON_THAT_CANNOT_BE_KEPT
)
def test_json_that_cannot_be_kept_is_422(api: Api, payload: str) -> None:
    assert_problem(send(api, json.dumps(task_body())[:-1] + f', "payload": {payload}}}'), 422)


@pytest.mark.parametrize("body", NOT_AN_OBJECT)
def test_a_body_that_is_no_object_is_422(api: Api, body: str) -> None:
    assert_problem(send(api, body), 422)


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in BAD_FIELDS.items() for value in values],
    ids=lambda value: repr(value)[:40],
)
def test_a_bad_value_is_422_at_its_field(api: Api, name: str, value: Any) -> None:
    problem = assert_problem(api("POST", "/tasks/", json=task_body(**{name: value})), 422)
    assert pointers(problem) == [f"/{name}"]
    assert len(problem["detail"]) < 500


@pytest.mark.parametrize("name", ["name", "schedule", "webhook_url"])
def test_a_required_field_that_is_missing_is_422_at_its_field(api: Api, name: str) -> None:
    body = task_body()
    del body[name]
    assert pointers(assert_problem(api("POST", "/tasks/", json=body), 422)) == [f"/{name}"]


def test_all_faults_are_told_at_once(api: Api) -> None:
    problem = assert_problem(api("POST", "/tasks/", json={"max_retry": -1, "extra": 1}), 422)
    assert set(pointers(problem)) == {"/name", "/schedule", "/webhook_url", "/max_retry", "/extra"}


@pytest.mark.parametrize("name", ["id", "created_at", "revision", "next_run_at"])
def test_a_new_task_cannot_set_read_only_fields(api: Api, name: str) -> None:
    assert pointers(assert_problem(api("POST", "/tasks/", json=task_body(**{name: None})), 422)) == [
        f"/{name}"
    ]


@pytest.mark.parametrize("size", [256 * 1024 + 1, 300_000, 5_000_000])
def test_a_body_over_256_kib_is_413(api: Api, size: int) -> None:
    body = json.dumps(task_body(payload="")).encode()
    assert_problem(send(api, body[:-2] + b"x" * (size - len(body)) + b'"}'), 413)
    assert_problem(send(api, b" " * size), 413)


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/xml",
        "json",
    ],
)
def test_a_body_of_another_type_is_415(api: Api, content_type: str) -> None:
    assert_problem(send(api, json.dumps(task_body()), **{"Content-Type": content_type}), 415)


def test_a_compressed_body_is_415(api: Api) -> None:
    assert_problem(send(api, b"\x1f\x8b", **{"Content-Encoding": "gzip"}), 415)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("skip", value) for value in ("-1", "x", "", "1.5", "1e3", str(2**63), "9" * 5_000, "٣", "null")],
        *[("limit", value) for value in ("0", "-1", "1001", "x", "", str(2**63), "1 OR 1=1", "+1")],
        *[("status", value) for value in ("", "ACTIVE", "success", "nope")],
        *[("search", value) for value in ("\0", "a\0b", "x" * 201)],
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_bad_query_of_the_tasks_is_422_at_its_parameter(api: Api, name: str, value: str) -> None:
    problem = assert_problem(api("GET", "/tasks/", params={name: value}), 422)
    assert pointers(problem) == [f"/{name}"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("task_id", "x"), ("task_id", ""), ("status", "active"), ("skip", str(2**63)), ("limit", "0")],
)
def test_a_bad_query_of_the_task_logs_is_422_at_its_parameter(api: Api, name: str, value: str) -> None:
    assert pointers(assert_problem(api("GET", "/task-logs/", params={name: value}), 422)) == [f"/{name}"]


@pytest.mark.parametrize("query", ["skip=%", "skip=%ff", "limit=%00", "status=%zz", "status=%ed%a0%80"])
def test_a_query_with_broken_escapes_is_422(api: Api, query: str) -> None:
    assert_problem(api("GET", f"/tasks/?{query}"), 422)


def test_a_search_for_what_is_no_character_finds_nothing(api: Api) -> None:
    for search in ("%ff", "%ed%a0%80", "%c0%80"):
        assert api.ok("GET", f"/tasks/?search={search}")["total"] == 0


@pytest.mark.parametrize(
    "path", ["/tasks/?search=" + "x" * 20_000, "/tasks/" + "x" * 20_000, "/" + "x" * 300_000]
)
def test_a_long_url_is_414(api: Api, path: str) -> None:
    assert_problem(api("GET", path), 414)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/tasks/", {"GET", "HEAD", "POST", "OPTIONS"}),
        ("DELETE", "/task-logs/", {"GET", "HEAD", "POST", "OPTIONS"}),
        (
            "POST",
            f"/tasks/{'0' * 8}-0000-0000-0000-{'0' * 12}",
            {"GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"},
        ),
        ("POST", "/health", {"GET", "HEAD", "OPTIONS"}),
        ("GET", "/tick", {"POST", "OPTIONS"}),
        ("BREW", "/tasks/", {"GET", "HEAD", "POST", "OPTIONS"}),
        ("TRACE", "/docs", {"GET", "HEAD", "OPTIONS"}),
    ],
)
def test_another_method_is_405_with_those_that_there_are(
    api: Api, method: str, path: str, allowed: set[str]
) -> None:
    answer = api(method, path)
    assert_problem(answer, 405)
    assert set(answer.headers["Allow"].split(", ")) == allowed


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/tasks/a/b/c",
        "/robots.txt",
        "/favicon.ico",
        "/static/x",
        "/..%2f",
        "/%ff",
        "/task-logs/task/",
    ],
)
def test_an_unknown_path_is_404(api: Api, path: str) -> None:
    assert_problem(api("GET", path), 404)


def test_the_server_is_healthy_after_all_of_it(api: Api) -> None:
    assert api.get("/health")["status"] == "healthy"
