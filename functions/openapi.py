"""The OpenAPI 3.1 document, made of the same declarations that serve the requests."""

import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue, models_json_schema
from pydantic_core.core_schema import ModelSchema

from functions import VERSION
from functions.auth import READING
from functions.declared import TasksApply
from functions.entity_tags import EXAMPLE_TAG, TAGS_PATTERN
from functions.fields import EXAMPLE_INSTANT, EXAMPLE_UUID
from functions.idempotency import KEY_PATTERN
from functions.problems import CONTENT_TYPE, TABLE, TITLES
from functions.request_body import MAX_BODY_BYTES
from functions.routing import Route
from functions.schemas import Problem, Task, TaskChanges, TaskCreate, TaskLog, TaskLogChanges, TaskLogCreate

REFERENCE = "#/components/schemas/{model}"

DESCRIPTION = """Cron for webhooks. A task has a schedule and a webhook URL; at each time of the schedule its
payload is sent there, is retried when that fails, and a task log says what happened.

Send the header `Authorization: Bearer <token>` with every request. Every path answers with and without a
slash at its end. Instants are UTC (`2026-12-24T18:00:00Z`). Every error is a problem document (RFC 9457), its
`detail` says what is wrong and what to do. `X-Request-Id` is accepted, and returned with every answer.

A token of API_READ_TOKEN may only read, and sees webhook URLs and headers masked."""

TAGS = {
    "Tasks": "What is to be called, and when.",
    "Task logs": "What became of each run.",
    "Schedules": "What a schedule means.",
    "Stats": "How things went.",
    "Health": "Whether Insignia can work, and whether it does.",
}

ERRORS = {
    400: "The body is not JSON, the query is not UTF-8, or a header is malformed.",
    401: "The token is missing or not valid.",
    403: "The token may only read.",
    404: "Nothing has this id.",
    409: "The run is under way, or two tasks have the same name.",
    412: "The task was changed since it was read.",
    413: f"The body is larger than {MAX_BODY_BYTES // 1024} KiB, or 16 MiB for /tasks/apply.",
    414: "The URL is too long.",
    415: "The body is not sent as JSON.",
    422: "A value breaks a rule; `errors` says which and where.",
    500: "A bug in Insignia.",
    503: "The database is away or busy; try again later.",
}

ERROR_HEADERS = {
    status: {name: {"description": description, "schema": {"type": kind}}}
    for status, name, description, kind in (
        (401, "WWW-Authenticate", "The scheme, Bearer.", "string"),
        (403, "WWW-Authenticate", "The scheme, Bearer.", "string"),
        (503, "Retry-After", "Seconds to wait.", "integer"),
    )
}


HEADERS = {
    "X-Request-Id": "The id of the request: as it was sent, or a new one.",
    "Location": "Path of what was made.",
    "ETag": "The revision, and a hash of what is shown.",
    "Link": 'The next page, relative to this one (`rel="next"`); absent on the last page.',
    "Idempotency-Replayed": "`true` for the kept answer to an earlier request with this Idempotency-Key.",
}

IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Makes it safe to repeat a request: for 24 hours the same key and body get the first answer again, "
    "or the log of the first run as it is by then, and another body is refused with 422.",
    "schema": {"type": "string", "pattern": KEY_PATTERN, "examples": [EXAMPLE_UUID]},
}
IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "description": "ETags that were read, or `*`: 412 if the task has another revision by now. Runs do not count.",
    "schema": {"type": "string", "pattern": TAGS_PATTERN, "examples": [EXAMPLE_TAG]},
}
IF_NONE_MATCH = {
    "name": "If-None-Match",
    "in": "header",
    "description": "ETags that were read, or `*`: 304 if the task still looks like that.",
    "schema": {"type": "string", "pattern": TAGS_PATTERN, "examples": [EXAMPLE_TAG]},
}
EXAMPLES: Mapping[type[BaseModel], dict[str, Any]] = {
    TaskCreate: {
        "name": "Daily report",
        "schedule": "30 8 * * MON-FRI",
        "timezone": "Europe/Berlin",
        "webhook_url": "https://hooks.example.com/daily-report",
        "payload": {"report": "daily"},
        "tags": ["billing"],
    },
    TaskChanges: {"schedule": "0 9 * * *", "status": "active"},
    TasksApply: {
        "tasks": [
            {
                "name": "Daily report",
                "schedule": "30 8 * * MON-FRI",
                "webhook_url": "https://hooks.example.com/daily-report",
            }
        ],
        "prune": False,
        "dry_run": True,
    },
    TaskLogCreate: {
        "task_id": EXAMPLE_UUID,
        "execution_time": EXAMPLE_INSTANT,
        "status": "success",
        "message": "Took 2 s.",
    },
    TaskLogChanges: {"status": "failed", "message": "The report was empty."},
}
"""Whole bodies: the examples of all fields together would contradict each other."""

LINKS: Mapping[type[BaseModel], dict[str, tuple[str, ...]]] = {
    Task: {
        "task_id": (
            "get_task",
            "update_task",
            "patch_task",
            "run_task",
            "delete_task",
            "list_task_logs_of_task",
        ),
    },
    TaskLog: {"task_log_id": ("get_task_log", "update_task_log", "retry_task_log", "delete_task_log")},
}
"""Under what has been made: where its id leads, as which parameter."""


class _Schemas(GenerateJsonSchema):
    """JSON schemas without titles, which only repeat names."""

    def field_title_should_be_set(self, schema: object) -> bool:  # noqa: ARG002
        return False

    def model_schema(self, schema: ModelSchema) -> JsonSchemaValue:
        return without(super().model_schema(schema), "title")


def openapi_document(routes: Iterable[Route]) -> dict[str, Any]:
    """The document for `routes`, in their order."""
    routes = list(routes)
    references, definitions = models_json_schema(
        models_of(routes), ref_template=REFERENCE, schema_generator=_Schemas
    )
    schema_of = {model: schema for (model, _), schema in references.items()}
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = operation(route, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Insignia",
            "version": VERSION,
            "summary": "A self-hosted, serverless cron for webhooks.",
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "tags": [
            {"name": tag, "description": TAGS[tag]} for tag in dict.fromkeys(route.tag for route in routes)
        ],
        "paths": paths,
        "components": {
            "schemas": {
                name: without(schema, "title", "description") if "enum" in schema else schema
                for name, schema in definitions["$defs"].items()
            },
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "One of API_TOKEN, or to read also one of API_READ_TOKEN.",
                }
            },
        },
    }


def models_of(routes: Iterable[Route]) -> list[tuple[type[BaseModel], JsonSchemaMode]]:
    models: dict[tuple[type[BaseModel], JsonSchemaMode], None] = {(Problem, "serialization"): None}
    for route in routes:
        if route.body is not None:
            models[route.body, "validation"] = None
        for answer in (route.answer, *route.errors.values()):
            if answer is not None:
                models[answer, "serialization"] = None
    return list(models)


def operation(route: Route, schema_of: Mapping[Any, JsonSchemaValue]) -> dict[str, Any]:
    summary, _, description = inspect.cleandoc(route.handler.__doc__ or "").partition("\n")
    result: dict[str, Any] = {
        "operationId": route.handler.__name__,
        "tags": [route.tag],
        "summary": summary.rstrip("."),
        "description": " ".join(description.split()) or summary,
    }
    if parameters := [*path_parameters(route), *query_parameters(route), *header_parameters(route)]:
        result["parameters"] = parameters
    if route.body is not None:
        result["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema_of[route.body]} | example_of_body(route.body)},
        }
    result["responses"] = {str(route.status): success(route, schema_of)} | {
        str(status): {
            "description": ERRORS[status],
            "headers": header("X-Request-Id") | ERROR_HEADERS.get(status, {}),
            "content": {CONTENT_TYPE: {"schema": schema_of[model]} | example_of(status, model)},
        }
        for status, model in sorted(errors_of(route).items())
    }
    if is_versioned(route) and route.method == "GET":
        result["responses"]["304"] = {
            "description": "It still looks as it was read.",
            "headers": header("ETag", "X-Request-Id"),
        }
    if route.is_public:
        result["security"] = []
    return result


def example_of(status: int, model: type[BaseModel]) -> dict[str, Any]:
    if model is not Problem:
        return {}
    code = next(code for known, code in TABLE.values() if known == status)
    example = {"type": "about:blank", "title": TITLES[status], "status": status, "detail": ERRORS[status]}
    return {"example": example | {"code": code, "request_id": EXAMPLE_UUID.replace("-", "")}}


def example_of_body(model: type[BaseModel]) -> dict[str, Any]:
    return {"example": EXAMPLES[model]} if model in EXAMPLES else {}


def path_parameters(route: Route) -> Iterator[dict[str, Any]]:
    for name in route.path_parameters:
        schema = {"type": "string", "format": "uuid", "examples": [EXAMPLE_UUID]}
        yield {"name": name, "in": "path", "required": True, "schema": schema}


def query_parameters(route: Route) -> Iterator[dict[str, Any]]:
    if route.query is None:
        return
    schema = route.query.model_json_schema(ref_template=REFERENCE, schema_generator=_Schemas)
    for name, parameter in schema["properties"].items():
        # Absent is the only null of a query.
        variants = [variant for variant in parameter.pop("anyOf", []) if variant != {"type": "null"}]
        result = {"name": name, "in": "query", "description": parameter.pop("description")}
        if variants:
            parameter = without(parameter, "default") | variants[0]
        if reference := parameter.pop("$ref", None):
            named = schema["$defs"][reference.rpartition("/")[2]]
            parameter = without(named, "title", "description") | parameter
        yield result | {"schema": parameter}


def header_parameters(route: Route) -> Iterator[dict[str, Any]]:
    if route.takes_key:
        yield IDEMPOTENCY_KEY
    if route.takes_revisions:
        yield IF_MATCH
    if is_versioned(route) and route.method == "GET":
        yield IF_NONE_MATCH


def is_versioned(route: Route) -> bool:
    return route.answer is not None and "revision" in route.answer.model_fields


def header(*names: str) -> dict[str, Any]:
    return {name: {"description": HEADERS[name], "schema": {"type": "string"}} for name in names}


def success(route: Route, schema_of: Mapping[Any, JsonSchemaValue]) -> dict[str, Any]:
    result: dict[str, Any] = {"description": inspect.getdoc(route.answer) or ""}
    names = ["X-Request-Id"]
    if route.location is not None:
        names.append("Location")
    if is_versioned(route):
        names.append("ETag")
    if route.takes_key:
        names.append("Idempotency-Replayed")
    if route.answer is not None and "next_page_token" in route.answer.model_fields:
        names.append("Link")
    result["headers"] = header(*names)
    if route.location is not None and route.answer is not None:
        result["links"] = {
            operation_id: {
                "operationId": operation_id,
                "parameters": {parameter: "$response.body#/id"},
            }
            for parameter, operation_ids in LINKS[route.answer].items()
            for operation_id in operation_ids
        }
    if route.answer is not None:
        result["content"] = {"application/json": {"schema": schema_of[route.answer]}}
    return result


def errors_of(route: Route) -> dict[int, type[BaseModel]]:
    """What the declaration of a route implies, and what it adds."""
    statuses = [414, 500, 503]
    if not route.is_public:
        statuses.append(401)
        if route.method not in READING:
            statuses.append(403)
    if route.path_parameters:
        statuses.append(404)
    if any(header_parameters(route)):
        statuses.append(400)
    if route.takes_revisions:
        statuses.append(412)
    if route.takes_key:
        statuses.append(422)
    if route.query is not None:
        statuses += [400, 422]
    if route.body is not None:
        statuses += [400, 413, 415, 422]
    return {**dict.fromkeys(statuses, Problem), **route.errors}


def without(schema: JsonSchemaValue, *keys: str) -> JsonSchemaValue:
    return {key: value for key, value in schema.items() if key not in keys}
