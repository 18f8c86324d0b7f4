"""Routes and their dispatch: a path and a method to a plain function, JSON in and out, errors as problems.

    routes = Routes("Tasks")

    @routes.add("PUT", "/tasks/{task_id}")
    def update_task(task_id: UUID, body: TaskChanges) -> Task:
        '''Change a task.

        What the documentation says about it.
        '''

The signature is the declaration: parameters named in the path (a UUID, or a str), `body` and `query` (wire
models), `revisions` (what If-Match accepts), `connection` (a transaction, in which a repeated Idempotency-Key is
answered once), `once` (the run that a repeated Idempotency-Key stands for, where a webhook is called), `form`
(what a page of ours sends), `request` for what else a handler has to see, and the answer's model; the docstring is
the summary and the description in the OpenAPI document. A handler may also return a whole `flask.Response`, and
raises the errors of the table in functions/problems.py.

An answer that has a `revision` gets an ETag, and one that has a `next_page_token` a Link.
"""

import logging
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any
from uuid import UUID

import flask
from pydantic import BaseModel
from pydantic_core import PydanticCustomError
from werkzeug.exceptions import HTTPException
from werkzeug.exceptions import MethodNotAllowed as NoRuleForMethod
from werkzeug.exceptions import NotFound as NoRuleForPath
from werkzeug.routing import Map, MapAdapter, Rule

from domain.errors import InsigniaError, NotFound, Unavailable
from functions import bootstrap
from functions.auth import READING, Caller, audiences, may_only_read, require_token
from functions.cors import share
from functions.entity_tags import is_known, revisions_expected, tag_of
from functions.fields import EXAMPLE_UUID, canonical_uuid
from functions.idempotency import REPLAYED, answered_once, run_once
from functions.json_body import parse_json
from functions.paging import link_to_next
from functions.problems import (
    EXPECTED,
    BadRequest,
    HttpError,
    InternalError,
    MethodNotAllowed,
    UnknownPath,
    UrlTooLong,
    problem,
)
from functions.request_body import MAX_BODY_BYTES, RequestBody
from functions.request_id import HEADER, known_by, request_id
from functions.schemas import masked
from functions.settings import Settings
from functions.validation import shown, validated

MAX_URL_LENGTH = 8 * 1024
UNKNOWN_PATH = "Nothing has this path; /openapi.json lists what there is."
INTERNAL_ERROR = InternalError("Insignia failed; its log says why, under the request_id of this answer.")
FRAMEWORK_ERRORS: Mapping[int | None, HttpError] = {
    400: BadRequest("This is not a valid HTTP request; look at its headers."),
    404: UnknownPath(UNKNOWN_PATH),
}

HttpFunction = Callable[[flask.Request], flask.Response]
Handler = Callable[..., BaseModel | flask.Response]
Refusal = Callable[[flask.Request, InsigniaError], flask.Response]
AnyHandler = typing.TypeVar("AnyHandler", bound=Handler)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Route:
    """One operation of the API, as declared."""

    method: str
    path: str
    handler: Handler
    tag: str
    status: int
    location: str | None
    is_public: bool
    caller: Callable[[Settings], Caller | None]
    errors: Mapping[int, type[BaseModel]]
    max_body_bytes: int
    takes_request: bool
    takes_form: bool
    takes_connection: bool
    takes_once: bool
    takes_revisions: bool
    path_parameters: Mapping[str, type]
    body: type[BaseModel] | None
    query: type[BaseModel] | None
    answer: type[BaseModel] | None

    @property
    def takes_key(self) -> bool:
        """Whether a repeated Idempotency-Key is answered as the first request with it."""
        return self.takes_connection or self.takes_once


class Routes(list[Route]):
    """The routes of one file, under one tag of the documentation."""

    def __init__(self, tag: str) -> None:
        super().__init__()
        self.tag = tag

    def add(
        self,
        method: str,
        path: str,
        *,
        status: int = 200,
        location: str | None = None,
        is_public: bool = False,
        caller: Callable[[Settings], Caller | None] = lambda _: None,
        errors: Mapping[int, type[BaseModel]] | None = None,
        max_body_bytes: int = MAX_BODY_BYTES,
    ) -> Callable[[AnyHandler], AnyHandler]:
        """Declare the decorated function as the handler of `method` on `path`.

        `status` is that of a success; `location` is a path made of the answer's fields ("/tasks/{id}").
        `caller` tells of the settings whose identity tokens open it, besides the tokens of the API.
        `errors` are those that its parameters do not imply, with the model of their documents.
        """

        def declare(handler: AnyHandler) -> AnyHandler:
            hints = typing.get_type_hints(handler)
            answer, body, query = hints.pop("return"), hints.pop("body", None), hints.pop("query", None)
            takes_request = hints.pop("request", None) is not None
            takes_form = hints.pop("form", None) is not None
            takes_connection = hints.pop("connection", None) is not None
            takes_once = hints.pop("once", None) is not None
            takes_revisions = hints.pop("revisions", None) is not None
            self.append(
                Route(
                    method=method,
                    path=path,
                    handler=handler,
                    tag=self.tag,
                    status=status,
                    location=location,
                    is_public=is_public,
                    caller=caller,
                    errors=errors or {},
                    max_body_bytes=max_body_bytes,
                    takes_request=takes_request,
                    takes_form=takes_form,
                    takes_connection=takes_connection,
                    takes_once=takes_once,
                    takes_revisions=takes_revisions,
                    path_parameters=hints,
                    body=body,
                    query=query,
                    answer=answer if issubclass(answer, BaseModel) else None,
                )
            )
            return handler

        return declare


def problem_document(_: flask.Request, error: InsigniaError) -> flask.Response:
    return problem(error)


def http_function(
    routes: Sequence[Route], *, prefix: str = "", refuse: Refusal = problem_document
) -> HttpFunction:
    """A plain function, as functions-framework wants it, that serves `routes`, and tells errors by `refuse`.

    With a `prefix`, paths are answered with and without it: the function of one resource may be reached
    under a URL that already names the resource.
    """

    @cache  # compiled by the first request: of the functions of main.py, a process serves one
    def adapter() -> MapAdapter:
        rules = [rule for route in routes for rule in _rules(route, prefix)]
        rules += _refusals(rules)
        return Map(rules, strict_slashes=False, merge_slashes=False, redirect_defaults=False).bind("")

    def function(request: flask.Request) -> flask.Response:
        return _serve(adapter(), request, refuse)

    return function


def _rules(route: Route, prefix: str) -> Iterator[Rule]:
    path = route.path.replace("{", "<").replace("}", ">").rstrip("/")
    for served in {path, path.removeprefix(prefix)}:
        yield Rule(served or "/", endpoint=route, methods=[route.method])


def _refusals(rules: Sequence[Rule]) -> Iterator[Rule]:
    """For paths without a parameter: other methods are refused, and not answered by a path with one."""
    methods: dict[str, set[str]] = {}
    for rule in rules:
        if "<" not in rule.rule:
            methods.setdefault(rule.rule, set()).update(rule.methods or ())
    for path, allowed in methods.items():
        yield Rule(path, endpoint=frozenset(allowed))


def _serve(adapter: MapAdapter, request: flask.Request, refuse: Refusal) -> flask.Response:
    with known_by(request.headers):
        body = RequestBody(request)
        response = _answer_or_refusal(adapter, request, body, refuse)
        body.discard()
        return _with_headers(request, response)


def framework_problem(error: HTTPException) -> flask.Response:
    """The answer for an error that functions-framework raises before or around our function."""
    with known_by(flask.request.headers):
        return _with_headers(flask.request, problem(FRAMEWORK_ERRORS.get(error.code, INTERNAL_ERROR)))


def _with_headers(request: flask.Request, response: flask.Response) -> flask.Response:
    response.headers[HEADER] = request_id.get()
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers["X-Content-Type-Options"] = "nosniff"
    share(request, response, bootstrap.settings().cors_origins)
    return response


def _answer_or_refusal(
    adapter: MapAdapter, request: flask.Request, body: RequestBody, refuse: Refusal
) -> flask.Response:
    try:
        return _answer(adapter, request, body)
    except EXPECTED as error:
        if isinstance(error, Unavailable):
            logger.warning("%s (%s)", error, type(error.__cause__).__name__)
        return refuse(request, error)
    except Exception:
        logger.exception("Unexpected error in %s %r", request.method, request.path)
        return refuse(request, INTERNAL_ERROR)


def _answer(adapter: MapAdapter, request: flask.Request, body: RequestBody) -> flask.Response:
    """The order of the checks is part of the contract: URL, path, method, token, then what was sent."""
    _check_url(request)
    try:
        route, path_values = adapter.match(request.path, request.method)
        if not isinstance(route, Route):
            raise NoRuleForMethod(route)
    except NoRuleForPath:
        raise UnknownPath(UNKNOWN_PATH) from None
    except NoRuleForMethod as error:
        allow = ", ".join(sorted({*(error.valid_methods or ()), "OPTIONS"}))
        if request.method == "OPTIONS":
            return _options(allow)
        raise MethodNotAllowed(
            f"This path does not answer {shown(request.method)}; use {allow}.", headers={"Allow": allow}
        ) from None
    is_reader = not route.is_public and may_only_read(request, bootstrap.settings().api_read_tokens)
    if not route.is_public and not is_reader:
        _check_caller(route, request)
    arguments = _arguments(route, request, path_values, body)
    if route.takes_once:
        arguments["once"] = run_once(request, body.content)

    def answered(**more: Any) -> flask.Response:
        answer = route.handler(**arguments, **more)
        if isinstance(answer, flask.Response):
            return answer
        return _json(route, request, masked(answer) if is_reader else answer)

    if route.takes_connection:
        return answered_once(request, body.content, lambda connection: answered(connection=connection))
    response = answered()
    if route.takes_once and arguments["once"].is_repeated:
        response.headers[REPLAYED] = "true"
    return response


def _check_caller(route: Route, request: flask.Request) -> None:
    settings = bootstrap.settings()
    if (caller := route.caller(settings)) is None:
        require_token(request, settings.api_tokens)
        return
    # Cloud Run ends TLS, and leads a request here by its host: another host cannot be pretended.
    scheme = "https" if settings.in_cloud else request.scheme
    expected = audiences(caller, f"{scheme}://{request.host}", route.path)
    require_token(
        request,
        settings.api_tokens,
        partial(bootstrap.identity_verifier().verify, emails=caller.emails, audiences=expected),
    )


def _check_url(request: flask.Request) -> None:
    if len(request.path) + len(request.query_string) > MAX_URL_LENGTH:
        raise UrlTooLong(f"The URL is longer than {MAX_URL_LENGTH:,} characters; shorten it.")
    try:
        request.query_string.decode()
    except UnicodeDecodeError:
        raise BadRequest("The query is not UTF-8; percent-encode it as UTF-8.") from None


def _options(allow: str) -> flask.Response:
    response = flask.Response(status=204, headers={"Allow": allow})
    del response.headers["Content-Type"]
    return response


def _arguments(
    route: Route, request: flask.Request, path_values: Mapping[str, str], body: RequestBody
) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        name: _path_id(name, value) if route.path_parameters[name] is UUID else value
        for name, value in path_values.items()
    }
    if route.takes_request:
        arguments["request"] = request
    if route.takes_revisions:
        arguments["revisions"] = revisions_expected(request)
    if route.query is not None:
        arguments["query"] = validated(route.query, request.args.to_dict())
    if route.takes_form:
        arguments["form"] = body.read_form(route.max_body_bytes)
    if route.body is not None:
        arguments["body"] = validated(route.body, parse_json(body.read_json(route.max_body_bytes)))
    return arguments


def _path_id(name: str, text: str) -> UUID:
    try:
        return canonical_uuid(text)
    except PydanticCustomError:
        noun = name.removesuffix("_id").replace("_", " ")
        raise NotFound(
            f"There is no {noun} with the id {shown(text)}; ids are UUIDs such as {EXAMPLE_UUID}."
        ) from None


def _json(route: Route, request: flask.Request, answer: BaseModel) -> flask.Response:
    body = answer.model_dump_json()
    response = flask.Response(body, route.status, content_type="application/json")
    if (revision := getattr(answer, "revision", None)) is not None:
        response.headers["ETag"] = tag_of(revision, body)
        if request.method in READING and is_known(request, response.headers["ETag"]):
            return _not_modified(response)
    if route.location is not None:
        response.headers["Location"] = route.location.format_map(vars(answer))
    if token := getattr(answer, "next_page_token", None):
        response.headers["Link"] = link_to_next(request, token)
    return response


def _not_modified(response: flask.Response) -> flask.Response:
    known = flask.Response(status=304, headers={"ETag": response.headers["ETag"]})
    del known.headers["Content-Type"]
    return known
