import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from openapi_spec_validator import validate

from functions.openapi import openapi_document
from functions.problems import CONTENT_TYPE, TABLE
from main import documented
from tests.openapi import SNAPSHOT, current

DOCUMENT = openapi_document(documented)
OPERATIONS = {
    operation["operationId"]: operation
    for by_method in DOCUMENT["paths"].values()
    for operation in by_method.values()
}
READING = {route.handler.__name__ for route in documented if route.method == "GET"}


def schemas(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from schemas(item)


def test_the_document_is_valid() -> None:
    validate(DOCUMENT)


def test_the_document_can_be_written_as_json() -> None:
    assert json.loads(json.dumps(DOCUMENT)) == DOCUMENT


def test_the_document_in_the_repository_is_the_current_one() -> None:
    assert SNAPSHOT.read_text() == current(), "make openapi"


def test_every_route_is_documented_under_a_name_of_its_own() -> None:
    assert len(OPERATIONS) == len(documented)
    for route in documented:
        operation = DOCUMENT["paths"][route.path][route.method.lower()]
        assert operation["operationId"] == route.handler.__name__
        assert operation["summary"]
        assert operation["description"]
        assert operation["tags"] == [route.tag]


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_error_is_listed_as_a_problem_document(name: str) -> None:
    operation = OPERATIONS[name]
    errors = {int(status) for status in operation["responses"] if status >= "400"}
    expected = {401, 414, 500, 503}
    if name not in READING:
        expected |= {403}
    if "requestBody" in operation:
        expected |= {400, 413, 415, 422}
    if any(parameter["in"] == "query" for parameter in operation.get("parameters", ())):
        expected |= {400, 422}
    if any(parameter["in"] == "path" for parameter in operation.get("parameters", ())):
        expected |= {404}
    if any(parameter["name"] == "Idempotency-Key" for parameter in operation.get("parameters", ())):
        expected |= {400, 422}
    assert expected <= errors <= {status for status, _ in TABLE.values()}
    for status in errors:
        response = operation["responses"][str(status)]
        assert response["description"]
        assert list(response["content"]) == [CONTENT_TYPE]


def test_what_only_some_routes_answer_is_listed_there() -> None:
    assert "409" in OPERATIONS["update_task_log"]["responses"]
    assert "409" in OPERATIONS["delete_task_log"]["responses"]
    assert "404" in OPERATIONS["create_task_log"]["responses"]
    assert "409" in OPERATIONS["retry_task_log"]["responses"]
    assert "Location" in OPERATIONS["create_task"]["responses"]["201"]["headers"]
    assert "Idempotency-Replayed" in OPERATIONS["run_task"]["responses"]["202"]["headers"]
    assert "parameters" not in OPERATIONS["test_task"]  # it makes nothing that a key could stand for
    unhealthy = OPERATIONS["health"]["responses"]["503"]["content"][CONTENT_TYPE]["schema"]
    assert unhealthy == {"$ref": "#/components/schemas/HealthProblem"}


def test_parameters_are_bounded_and_described() -> None:
    parameters = {parameter["name"]: parameter for parameter in OPERATIONS["list_tasks"]["parameters"]}
    assert list(parameters) == [
        *("skip", "limit", "since", "until", "status", "search", "tag", "order_by", "page_token")
    ]
    assert parameters["limit"]["schema"] == {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}
    assert parameters["skip"]["schema"]["maximum"] == 2**63 - 1
    assert all(parameter["description"] for parameter in parameters.values())


def test_fields_are_documented_with_examples_and_without_noise() -> None:
    task = DOCUMENT["components"]["schemas"]["TaskCreate"]
    assert task["required"] == ["name", "webhook_url"]
    assert task["additionalProperties"] is False
    for name, field in task["properties"].items():
        assert field["description"]
        assert name == "status" or field["examples"]
    assert "default" not in DOCUMENT["components"]["schemas"]["TaskChanges"]["properties"]["name"]
    properties = [schema for schema in schemas(DOCUMENT["components"]) if "type" in schema]
    assert not any("title" in schema for schema in properties if isinstance(schema["type"], str))
    assert not re.search(r"design/|\"(?:ge|le|min_length)\"", json.dumps(DOCUMENT))


def test_every_operation_asks_for_the_token() -> None:
    assert DOCUMENT["security"] == [{"token": []}]
    assert DOCUMENT["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    assert not any("security" in operation for operation in OPERATIONS.values())
