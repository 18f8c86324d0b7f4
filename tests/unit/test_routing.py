import inspect
import io
import json
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import flask
import pytest
from pydantic import BaseModel
from werkzeug import exceptions
from werkzeug.test import Client, TestResponse

from domain.errors import Conflict, InsigniaError, InvalidSchedule, NotFound, Unavailable
from functions import bootstrap
from functions.problems import CONTENT_TYPE, TABLE, TITLES, Unhealthy
from functions.request_body import MAX_BODY_BYTES
from functions.request_id import request_id
from functions.routing import (
    MAX_URL_LENGTH,
    HttpFunction,
    Routes,
    framework_problem,
    http_function,
)

TOKEN = "token-of-the-routing-tests"
READ_TOKEN = "read-token-of-the-routing-tests"
THING = "0b0e7a52-6d0f-4d5e-9a53-1f6d2a1c7f10"


class Thing(BaseModel):
    id: UUID
    size: int = 1
    note: str = ""


class NewThing(BaseModel):
    size: int


class ThingQuery(BaseModel):
    note: str = "none"


routes = Routes("Things")


@routes.add("POST", "/things/", status=201, location="/things/{id}")
def create_thing(body: NewThing) -> Thing:
    return Thing(id=UUID(THING), size=body.size)


@routes.add("GET", "/things/{thing_id}")
def get_thing(thing_id: UUID, query: ThingQuery) -> Thing:
    return Thing(id=thing_id, note=query.note)


@routes.add("DELETE", "/things/{thing_id}")
def delete_thing(thing_id: UUID) -> Thing:
    raise ERRORS[thing_id.int]


@routes.add("GET", "/things/own/request-id")
def read_request_id() -> Thing:
    return Thing(id=UUID(THING), note=request_id.get())


@routes.add("GET", "/page/{name}", is_public=True)
def page(request: flask.Request, name: str) -> flask.Response:
    return flask.Response(f"{name} {request.method}", content_type="text/plain")


ERRORS: list[Exception] = [
    NotFound("There is no such thing."),
    Conflict("The thing is in use."),
    Unavailable("The database is away."),
    InvalidSchedule("Schedule 'x' never fires."),
    RuntimeError("SELECT secret FROM things"),
    Unhealthy("It is ill.", members={"status": "unhealthy"}),
    InsigniaError("The setting SECRET is wrong."),
]


SETTINGS = SimpleNamespace(api_tokens=(TOKEN,), api_read_tokens=(READ_TOKEN,), cors_origins=())


@pytest.fixture(autouse=True)
def _known_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "settings", lambda: SETTINGS)


def client_of(function: HttpFunction) -> Client:
    def application(environ: dict[str, Any], start_response: Any) -> Any:
        return function(flask.Request(environ))(environ, start_response)

    return Client(application)


API = client_of(http_function(routes))
THINGS = client_of(http_function(routes, prefix="/things"))


def call(method: str, path: str, *, client: Client = API, **arguments: Any) -> TestResponse:
    headers = {"Authorization": f"Bearer {TOKEN}"} | arguments.pop("headers", {})
    return client.open(path, method=method, headers=headers, **arguments)


def problem_of(response: TestResponse, status: int, code: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(response.data)
    assert response.status_code == status
    assert response.content_type == CONTENT_TYPE
    assert response.headers["X-Request-Id"] == document["request_id"]
    assert document["code"] == code
    assert document["title"] == TITLES[status]
    return document


@pytest.mark.parametrize("path", ["/things", "/things/"])
def test_a_path_answers_with_and_without_a_slash_at_its_end(path: str) -> None:
    assert call("POST", path, data='{"size": 3}').status_code == 201
    assert call("GET", f"/things/{THING}").status_code == call("GET", f"/things/{THING}/").status_code == 200


@pytest.mark.parametrize("path", [f"/things/{THING}", f"/{THING}", f"/{THING}/"])
def test_the_function_of_one_resource_answers_with_and_without_its_prefix(path: str) -> None:
    assert call("GET", path, client=THINGS).json == {"id": THING, "size": 1, "note": "none"}
    assert call("POST", "/", client=THINGS, data='{"size": 3}').status_code == 201


def test_the_function_of_everything_needs_the_prefix() -> None:
    problem_of(call("GET", f"/{THING}"), 404, "UNKNOWN_PATH")


def test_an_answer_is_compact_utf_8_json_that_nobody_keeps() -> None:
    response = call("GET", f"/things/{THING}?note=ü")
    assert response.data == f'{{"id":"{THING}","size":1,"note":"ü"}}'.encode()
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_what_was_made_has_a_location() -> None:
    assert call("POST", "/things/", data='{"size": 3}').headers["Location"] == f"/things/{THING}"


def test_head_is_answered_as_get_without_a_body() -> None:
    got, head = call("GET", f"/things/{THING}"), call("HEAD", f"/things/{THING}")
    assert head.status_code == 200
    assert head.data == b""
    assert head.headers["Content-Length"] == got.headers["Content-Length"]


@pytest.mark.parametrize("headers", [{}, {"Authorization": ""}])
def test_options_tells_the_methods_without_a_token(headers: dict[str, str]) -> None:
    response = call("OPTIONS", "/things/", headers=headers)
    assert response.status_code == 204
    assert response.headers["Allow"] == "OPTIONS, POST"
    assert "Content-Type" not in response.headers


@pytest.mark.parametrize("method", ["PUT", "HEAD", "TRACE", "BREW"])
def test_another_method_is_refused_with_those_that_are_answered(method: str) -> None:
    response = call(method, "/things/")
    assert response.status_code == 405
    assert response.headers["Allow"] == "OPTIONS, POST"


@pytest.mark.parametrize("path", ["/", "/thing", "/things//", "/things/a/b/c", "/%00"])
def test_an_unknown_path_is_404_also_without_a_token(path: str) -> None:
    problem_of(call("GET", path, headers={"Authorization": ""}), 404, "UNKNOWN_PATH")


def test_a_token_is_asked_for_before_anything_that_was_sent_is_looked_at() -> None:
    for path, arguments in (
        ("/things/", {"data": b"x" * (MAX_BODY_BYTES + 1), "content_type": "text/plain"}),
        ("/things/", {"data": b"{"}),
    ):
        response = call("POST", path, headers={"Authorization": "Bearer wrong"}, **arguments)
        assert response.headers["WWW-Authenticate"] == 'Bearer realm="insignia", error="invalid_token"'
        problem_of(response, 401, "UNAUTHORIZED")
    problem_of(call("GET", "/things/1", headers={"Authorization": ""}), 401, "UNAUTHORIZED")


def test_a_public_route_needs_no_token_and_may_answer_what_it_likes() -> None:
    response = call("GET", "/page/one", headers={"Authorization": ""})
    assert response.data == b"one GET"
    assert response.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "identity", ["1", "x" * 36, THING.replace("-", ""), f"{{{THING}}}", f"urn:uuid:{THING}"]
)
def test_an_id_that_is_no_canonical_uuid_is_not_found(identity: str) -> None:
    document = problem_of(call("GET", f"/things/{identity}"), 404, "NOT_FOUND")
    assert "thing" in document["detail"]


def test_an_id_may_be_written_in_capitals() -> None:
    assert call("GET", f"/things/{THING.upper()}").json["id"] == THING  # type: ignore[index]


@pytest.mark.parametrize(
    "content_type",
    [None, "application/json", "Application/JSON; charset=utf-8", "application/merge-patch+json"],
)
def test_a_body_is_json_if_it_says_so_or_says_nothing(content_type: str | None) -> None:
    assert call("POST", "/things/", data='{"size": 3}', content_type=content_type).status_code == 201


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": "application/jsonp"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ],
)
def test_a_body_that_says_it_is_something_else_is_refused(headers: dict[str, str]) -> None:
    problem_of(call("POST", "/things/", data='{"size": 3}', headers=headers), 415, "UNSUPPORTED_MEDIA_TYPE")


def test_a_body_may_have_256_kib() -> None:
    padded = b'{"size": 3}'.ljust(MAX_BODY_BYTES)
    assert call("POST", "/things/", data=padded).status_code == 201
    problem_of(call("POST", "/things/", data=padded + b" "), 413, "BODY_TOO_LARGE")


def streamed(body: io.RawIOBase) -> dict[str, Any]:
    """The environment of a request whose end only its server knows, as with chunks."""
    return {"wsgi.input": body, "wsgi.input_terminated": True, "CONTENT_LENGTH": ""}


class Endless(io.RawIOBase):
    """A body without an end; counts what is read of it."""

    def __init__(self) -> None:
        self.count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = min(len(buffer), 1000)
        self.count += size
        buffer[:size] = b" " * size
        return size


@pytest.mark.parametrize(("path", "status"), [("/things/", 413), ("/nothing", 404), ("/page/one", 405)])
def test_of_a_body_without_a_length_no_more_than_the_limit_is_read(path: str, status: int) -> None:
    body = Endless()
    response = call("POST", path, environ_overrides=streamed(body))
    assert response.status_code == status
    assert body.count <= MAX_BODY_BYTES + 1


def test_nothing_is_left_of_a_body_for_the_framework_to_read() -> None:
    seen: list[flask.Request] = []

    def function(request: flask.Request) -> flask.Response:
        seen.append(request)
        return http_function(routes)(request)

    call("POST", "/nothing", client=client_of(function), data=b"x" * 1000)
    assert seen[0].get_data() == b""


class Broken(io.RawIOBase):
    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ARG002
        raise OSError("the client went away")


@pytest.mark.parametrize(
    "arguments",
    [
        {"data": b'{"size": 3}', "environ_overrides": {"CONTENT_LENGTH": "100"}},
        {"environ_overrides": streamed(Broken())},
    ],
)
def test_a_body_that_ends_too_early_is_a_bad_request(arguments: dict[str, Any]) -> None:
    problem_of(call("POST", "/things/", **arguments), 400, "MALFORMED_BODY")


def test_malformed_json_is_400_and_json_that_breaks_a_rule_is_422() -> None:
    problem_of(call("POST", "/things/", data=b"{"), 400, "MALFORMED_BODY")
    problem_of(call("POST", "/things/"), 400, "MALFORMED_BODY")
    document = problem_of(call("POST", "/things/", data=b"{}"), 422, "INVALID_INPUT")
    assert document["errors"] == [{"pointer": "/size", "detail": "size is required."}]


@pytest.mark.parametrize("path", [f"/things/{THING}?note=", "/things/"])
def test_a_url_may_not_be_longer_than_its_limit(path: str) -> None:
    problem_of(call("GET", path + "x" * MAX_URL_LENGTH), 414, "URL_TOO_LONG")


def test_a_query_that_is_not_utf_8_is_a_bad_request() -> None:
    response = call("GET", f"/things/{THING}", environ_overrides={"QUERY_STRING": "note=\xff"})
    problem_of(response, 400, "BAD_REQUEST")
    assert call("GET", f"/things/{THING}?note=%ff").status_code == 200


@pytest.mark.parametrize(
    ("number", "status", "code"),
    [(0, 404, "NOT_FOUND"), (1, 409, "CONFLICT"), (2, 503, "UNAVAILABLE"), (3, 422, "INVALID_SCHEDULE")],
)
def test_an_expected_error_is_answered_by_the_table(number: int, status: int, code: str) -> None:
    document = problem_of(call("DELETE", f"/things/{UUID(int=number)}"), status, code)
    assert document["detail"] == str(ERRORS[number])
    assert document["status"] == status
    assert document["type"] == "about:blank"


def test_unavailable_says_when_to_try_again() -> None:
    assert int(call("DELETE", f"/things/{UUID(int=2)}").headers["Retry-After"]) > 0


def test_a_rule_found_broken_later_still_names_its_field() -> None:
    document = problem_of(call("DELETE", f"/things/{UUID(int=3)}"), 422, "INVALID_SCHEDULE")
    assert document["errors"] == [{"pointer": "/schedule", "detail": "Schedule 'x' never fires."}]


def test_an_error_may_add_members_to_its_document() -> None:
    document = problem_of(call("DELETE", f"/things/{UUID(int=5)}"), 503, "UNHEALTHY")
    assert document["status"] == "unhealthy"


@pytest.mark.parametrize("number", [4, 6])
def test_an_unexpected_error_is_logged_and_tells_nothing(
    number: int, caplog: pytest.LogCaptureFixture
) -> None:
    response = call("DELETE", f"/things/{UUID(int=number)}")
    problem_of(response, 500, "INTERNAL_ERROR")
    assert str(ERRORS[number]).encode() not in response.data
    assert b"RuntimeError" not in response.data
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert record.exc_info is not None
    assert record.exc_info[1] is ERRORS[number]


@pytest.mark.parametrize("identity", ["a", "x" * 128, "Root=1-5759e988:a/b@c+d~e_f.g"])
def test_a_sane_request_id_is_taken_over(identity: str) -> None:
    response = call("GET", "/things/own/request-id", headers={"X-Request-Id": identity})
    assert response.headers["X-Request-Id"] == identity
    assert response.json["note"] == identity  # type: ignore[index]


@pytest.mark.parametrize("identity", ["", "x" * 129, "a b", "<script>", 'a"b', "ü"])
def test_any_other_request_id_is_replaced(identity: str) -> None:
    response = call("GET", "/things/own/request-id", headers={"X-Request-Id": identity})
    assert response.headers["X-Request-Id"] not in ("", identity)
    assert response.json["note"] == response.headers["X-Request-Id"]  # type: ignore[index]


def test_outside_of_a_request_there_is_no_request_id() -> None:
    call("GET", "/things/own/request-id")
    assert request_id.get() == ""


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (exceptions.NotFound(), 404, "UNKNOWN_PATH"),
        (exceptions.SecurityError(), 400, "BAD_REQUEST"),
        (exceptions.InternalServerError(), 500, "INTERNAL_ERROR"),
        (exceptions.ImATeapot(), 500, "INTERNAL_ERROR"),
    ],
)
def test_an_error_of_the_framework_is_a_problem_document_too(
    error: exceptions.HTTPException, status: int, code: str
) -> None:
    with flask.Flask(__name__).test_request_context(headers={"X-Request-Id": "one"}):
        document = json.loads(framework_problem(error).data)
    assert (document["status"], document["code"], document["request_id"]) == (status, code, "one")


def test_a_function_is_a_plain_function_as_the_framework_wants_it() -> None:
    assert inspect.isfunction(http_function(routes))


def test_every_status_of_the_table_has_a_title() -> None:
    assert {status for status, _ in TABLE.values()} == set(TITLES)
