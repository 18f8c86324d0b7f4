"""Every route asks for the token; the documentation does not."""

import re

import pytest

from tests.acceptance.conftest import Database
from tests.acceptance.server import TOKEN, Api, Server, assert_problem, task_body

BAD_AUTHORIZATIONS = {
    "none": None,
    "empty": "",
    "only the scheme": "Bearer",
    "an empty token": "Bearer  ",
    "another token": "Bearer another-token-of-the-right-length!",
    "the beginning of the token": f"Bearer {TOKEN[:-1]}",
    "more than the token": f"Bearer {TOKEN}x",
    "the token twice": f"Bearer {TOKEN} {TOKEN}",
    "another scheme": f"Basic {TOKEN}",
    "no scheme": TOKEN,
    "a quoted token": f'Bearer "{TOKEN}"',
    "the token in other letters": f"Bearer {TOKEN.upper()}",
    "not ASCII": "Bearer tökén",
    "a long one": "Bearer " + "x" * 7_000,
}
DOCUMENTATION = ("/docs", "/redoc", "/openapi.json")


@pytest.fixture
def stranger(server: Server, empty: None) -> Api:
    return Api(server.url, token=None)


def operations(stranger: Api) -> list[tuple[str, str]]:
    """Every operation of the OpenAPI document, with any id in its path, and the tick."""
    paths = stranger.get("/openapi.json")["paths"]
    documented = [
        (method.upper(), re.sub(r"\{\w+\}", "0b0e7a52-6d0f-4d5e-9a53-1f6d2a1c7f10", path))
        for path, methods in paths.items()
        for method in methods
    ]
    return [*documented, ("POST", "/tick")]


def test_the_document_lists_the_routes_of_the_seed(stranger: Api) -> None:
    paths = {path.rstrip("/") for path in stranger.get("/openapi.json")["paths"]}
    seed = {"/tasks", "/tasks/{task_id}", "/task-logs", "/task-logs/task/{task_id}", "/health"}
    assert seed <= paths
    assert len(operations(stranger)) >= 13


@pytest.mark.parametrize("authorization", BAD_AUTHORIZATIONS.values(), ids=BAD_AUTHORIZATIONS)
def test_every_route_answers_401_without_the_token(stranger: Api, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization.encode()}
    for method, path in operations(stranger):
        answer = stranger(method, path, headers=headers, json={})
        problem = assert_problem(answer, 401, "UNAUTHORIZED")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert TOKEN not in answer.text
        assert "token" in problem["detail"].lower()


def test_the_token_is_asked_for_before_the_body_is_judged(stranger: Api, database: Database) -> None:
    assert_problem(stranger("POST", "/tasks/", data=b"{not json"), 401)
    assert_problem(stranger("POST", "/tasks/", json=task_body()), 401)
    assert database.count("tasks") == 0


@pytest.mark.parametrize("authorization", [f"bearer {TOKEN}", f"BEARER {TOKEN}", f"Bearer   {TOKEN} "])
def test_the_scheme_is_read_in_any_case_and_blanks_are_ignored(stranger: Api, authorization: str) -> None:
    assert stranger("GET", "/tasks/", headers={"Authorization": authorization}).status_code == 200


def test_a_token_in_the_query_does_not_count(stranger: Api) -> None:
    assert_problem(stranger("GET", f"/tasks/?access_token={TOKEN}&token={TOKEN}"), 401)


@pytest.mark.parametrize("path", [*DOCUMENTATION, "/docs/", "/redoc/"])
def test_the_documentation_needs_no_token(stranger: Api, path: str) -> None:
    answer = stranger("GET", path)
    assert answer.status_code == 200
    assert TOKEN not in answer.text


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/docs/", "/redoc/"])
def test_the_pages_load_their_assets_from_here_only(stranger: Api, path: str) -> None:
    page = stranger("GET", path)
    urls = re.findall(r'(?:src|href|data-openapi)="([^"]+)"', page.text)
    assert len(urls) >= 3
    for url in urls:
        if url == "data:,":
            continue
        base = path if path.endswith("/") else "/"
        answer = stranger("GET", re.sub(r"/\w+/\.\./", "/", base + url))
        assert answer.status_code == 200, url
        assert answer.content
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]


def test_an_unknown_asset_is_404(stranger: Api) -> None:
    for path in (
        "/docs/x.js",
        "/docs/..%2f..%2fauth.py",
        "/redoc/../../main.py",
        "/docs/%2e%2e/%2e%2e/main.py",
    ):
        assert_problem(stranger("GET", path), 404)
