"""All of tests/acceptance/hostile.py, sent to every route.

No answer is a 5xx, each refusal is a problem document, none takes long, and nobody is called who must not be.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests

import main
from functions import tick
from functions.routing import Route
from functions.schemas import TaskCreate, TaskLogCreate
from tests.acceptance.hostile import (
    HERE,
    LEGAL_JSON_THAT_CANNOT_BE_KEPT,
    MALFORMED,
    NOT_AN_OBJECT,
    OWN_HEADERS,
    QUERY_VALUES,
    REQUEST_HEADERS,
    SCHEDULES,
    SEGMENTS,
    VALUES,
    WEBHOOK_URLS,
    ZONES,
)
from tests.acceptance.server import NOWHERE, Api, Json, assert_problem, task_body
from tests.receiver import Receiver

ROUTES = [*main.documented, *tick.routes]
LONGEST_SECONDS = 10
LOG_BODY = {"execution_time": "2026-11-23T12:00:00Z", "status": "success"}
OF_FIELDS: dict[str, list[Any]] = {
    **dict.fromkeys(TaskCreate.model_fields, VALUES),
    "schedule": [*SCHEDULES, *VALUES],
    "timezone": [*ZONES, *VALUES],
    "webhook_url": [*WEBHOOK_URLS, *VALUES],
    "headers": [*OWN_HEADERS, *VALUES],
}


def named(route: Route) -> str:
    return route.handler.__name__


class Attacker:
    """Sends, and looks at each answer; what is attacked is there again for each request."""

    def __init__(self, api: Api) -> None:
        self._api = api
        api.session.headers["Connection"] = "keep-alive"
        api.session.headers["Content-Type"] = "application/json"

    def path_of(self, route: Route) -> str:
        """With ids of things that are there."""
        if not route.path_parameters:
            return route.path
        task = self._api.create(webhook_url=NOWHERE, max_retry=0)
        ids = {"task_id": task["id"], "task_log_id": ""}
        if "task_log_id" in route.path_parameters:
            ids["task_log_id"] = self._api.log(task)["id"]
        return route.path.format_map(ids)

    def send(self, method: str, path: str, **options: Any) -> requests.Response:
        """The path is sent as it is written."""
        request = requests.Request(method, self._api.url + path, **options)
        prepared = self._api.session.prepare_request(request)
        if "params" not in options:
            prepared.url = self._api.url + path
        answer = self._api.session.send(prepared, timeout=LONGEST_SECONDS, allow_redirects=False)
        assert answer.status_code < 500, (method, path[:200], options, answer.text)
        if answer.status_code >= 400:
            assert_problem(answer, answer.status_code)
        return answer


@pytest.fixture
def attacker(guarded: Api) -> Iterator[Attacker]:
    """What it has left behind must be readable afterwards."""
    yield Attacker(guarded)
    for path in ("/tasks/", "/task-logs/"):
        token: str | None = ""
        while token is not None:
            token = guarded.get(path, page_token=token)["next_page_token"]
    assert len(guarded.get("/stats", hours=168)["hours"]) == 168
    assert guarded.get("/health")["status"] == "healthy"


def bodies() -> Iterator[bytes]:
    yield from MALFORMED.values()
    yield from (text.encode() for text in NOT_AN_OBJECT)
    for field, value in LEGAL_JSON_THAT_CANNOT_BE_KEPT.items():
        yield f'{{"name": "{field}", "payload": {value}}}'.encode()
        yield value.encode()
    yield b" " * (256 * 1024 + 1)


@pytest.mark.parametrize("route", ROUTES, ids=named)
def test_a_body_that_is_none(attacker: Attacker, route: Route) -> None:
    """Where none is expected it is not looked at."""
    path = attacker.path_of(route)
    for body in bodies():
        answer = attacker.send(route.method, path, data=body)
        assert route.body is None or answer.status_code in (400, 413, 422)


@pytest.mark.parametrize("field", OF_FIELDS)
def test_a_value_of_a_task(attacker: Attacker, field: str) -> None:
    """Stored or refused, and then a test of it called or refused; tasks are inactive, so that nobody is called."""
    path = attacker.path_of(next(route for route in ROUTES if named(route) == "update_task"))
    for value in OF_FIELDS[field]:
        body = json.dumps(task_body(status="inactive") | {field: value})
        created = attacker.send("POST", "/tasks/", data=body)
        changed = attacker.send("PATCH", path, data=json.dumps({field: value}))
        assert {created.status_code, changed.status_code} <= {200, 201, 422}, (field, value)
        if field != "webhook_url":
            assert attacker.send("POST", "/tasks/test", data=body).status_code in (200, 422)


@pytest.mark.parametrize("field", TaskLogCreate.model_fields)
def test_a_value_of_a_log(attacker: Attacker, field: str) -> None:
    path = attacker.path_of(next(route for route in ROUTES if named(route) == "update_task_log"))
    task_id = attacker.send("GET", path).json()["task_id"]
    for value in [*VALUES, *QUERY_VALUES]:
        attacker.send(
            "POST", "/task-logs/", data=json.dumps(LOG_BODY | {"task_id": task_id} | {field: value})
        )
        attacker.send("PUT", path, data=json.dumps({field: value}))


@pytest.mark.parametrize("host", HERE)
def test_no_way_to_write_this_machine_gets_a_test_or_a_run_dialled(guarded: Api, host: str) -> None:
    """As the webhook of a test and of a run, with a receiver that would notice."""
    attacker = Attacker(guarded)
    with Receiver() as receiver:
        body = task_body(webhook_url=receiver.url.replace("127.0.0.1", host), max_retry=0)
        tested = attacker.send("POST", "/tasks/test", json=body)
        created = attacker.send("POST", "/tasks/", json=body)
        assert (tested.status_code, created.status_code) in ((200, 201), (422, 422))
        if created.status_code == 201:
            log = attacker.send("POST", f"/tasks/{created.json()['id']}/run").json()
            for came_of_it in (tested.json(), log):
                assert (came_of_it["status"], came_of_it["error"]) in (
                    ("failed", "blocked"),
                    ("failed", "dns"),
                )
    assert receiver.connections == 0


@pytest.mark.parametrize("route", [route for route in ROUTES if route.path_parameters], ids=named)
def test_a_path_that_has_no_id(attacker: Attacker, route: Route) -> None:
    (parameter,) = route.path_parameters
    for segment in SEGMENTS:
        path = route.path.replace(f"{{{parameter}}}", segment)
        for method in {route.method, "GET", "POST", "DELETE", "OPTIONS"}:
            assert attacker.send(method, path).status_code in (200, 204, 400, 404, 405), (method, path)


@pytest.mark.parametrize("route", [route for route in ROUTES if route.query], ids=named)
def test_a_value_of_a_query(attacker: Attacker, route: Route) -> None:
    assert route.query is not None
    path = attacker.path_of(route)
    for name in [*route.query.model_fields, "", "page[size]", "__proto__"]:
        for value in QUERY_VALUES:
            needed = {"schedule": "@daily"} if "schedule" in route.query.model_fields else {}
            answer = attacker.send("GET", path, params=needed | {name: value})
            assert answer.status_code in (200, 414, 422), (name, value)


@pytest.mark.parametrize("values", [SCHEDULES, ZONES], ids=["schedules", "zones"])
def test_a_preview_of_what_no_task_could_have(attacker: Attacker, values: list[Any]) -> None:
    name = "schedule" if values is SCHEDULES else "timezone"
    for value in values:
        query: Json = {"schedule": "30 2 * * *", "count": 100} | {name: value}
        answer = attacker.send("GET", "/schedules/preview", params=query)
        assert answer.status_code in (200, 422), value


@pytest.mark.parametrize("route", ROUTES, ids=named)
def test_a_header(attacker: Attacker, route: Route) -> None:
    path = attacker.path_of(route)
    body = json.dumps(task_body(status="inactive"))
    for name, values in REQUEST_HEADERS.items():
        for value in values:
            answer = attacker.send(route.method, path, data=body, headers={name: value})
            assert name != "Authorization" or answer.status_code in (400, 401)
