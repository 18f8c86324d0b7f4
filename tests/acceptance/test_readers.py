"""API_READ_TOKEN and CORS_ORIGINS: who may only read, and from which pages."""

from collections.abc import Iterator

import pytest

from tests.acceptance.server import Api, Server, assert_problem, task_body
from tests.acceptance.test_auth import operations

READ_TOKEN = "the-token-that-may-only-read"
PAGE = "https://app.example.com"
SECRETS = {
    "webhook_url": "https://hooks.example.com/secret-path?key=secret-query",
    "notify_url": "https://chat.example.com/secret-chat",
    "headers": {"Authorization": "Bearer secret-header"},
}


@pytest.fixture(scope="module")
def other_server(server_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {
        "DATABASE_URL": server_database,
        "API_READ_TOKEN": f"another-token-that-may-read,{READ_TOKEN}",
        "CORS_ORIGINS": f"https://other.example.com,{PAGE}",
    }
    server = Server(tmp_path_factory.mktemp("readers"), settings)
    try:
        server.wait_until_ready()
        yield server
    finally:
        assert server.stop() == 0


@pytest.fixture
def writer(other_server: Server, empty: None) -> Api:
    return Api(other_server.url)


@pytest.fixture
def reader(writer: Api) -> Api:
    return Api(writer.url, READ_TOKEN)


def test_a_reader_sees_everything_but_secrets(writer: Api, reader: Api) -> None:
    task = writer.create(**SECRETS)
    masked = {
        "webhook_url": "https://hooks.example.com/…",
        "notify_url": "https://chat.example.com/…",
        "headers": {"Authorization": "…"},
    }
    path = f"/tasks/{task['id']}"
    assert reader.get(path) == task | masked
    assert reader.get("/tasks/")["tasks"] == [task | masked]
    log = writer.log(task)
    assert reader.get(f"/task-logs/{log['id']}") == log
    for target in (path, "/tasks/", "/task-logs/", "/health"):
        assert "secret-" not in reader("GET", target).text
        assert reader("HEAD", target).status_code == 200
    assert reader("GET", path).headers["ETag"] != writer("GET", path).headers["ETag"]


def test_a_reader_changes_nothing(writer: Api, reader: Api) -> None:
    task = writer.create(**SECRETS)
    for method, path in operations(reader):
        if method == "GET":
            continue
        answer = reader(method, path, json={})
        problem = assert_problem(answer, 403, "FORBIDDEN")
        assert problem["detail"] == "This token may only read; use one of API_TOKEN to change something."
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="insignia", error="insufficient_scope"'
    assert writer.get("/tasks/")["tasks"] == [task]


def test_a_reader_exports_without_secrets(writer: Api, reader: Api) -> None:
    writer.create(**SECRETS, signing_secret="whsec_" + "A" * 32)
    (exported,) = reader.get("/tasks/export")["tasks"]
    assert exported["webhook_url"] == "https://hooks.example.com/…"
    assert exported["notify_url"] == "https://chat.example.com/…"
    assert (exported["headers"], exported["signing_secret"]) == ({"Authorization": "…"}, ["…"])
    assert_problem(writer("POST", "/tasks/apply", json={"tasks": [exported]}), 422)
    assert writer.get("/tasks/export")["tasks"][0].items() >= SECRETS.items()


@pytest.mark.parametrize("field", ["webhook_url", "notify_url", "headers"])
def test_what_a_reader_sees_cannot_be_sent_back(writer: Api, reader: Api, field: str) -> None:
    task = writer.create(**SECRETS)
    seen = reader.get(f"/tasks/{task['id']}")
    assert_problem(writer("PUT", f"/tasks/{task['id']}", json={field: seen[field]}), 422)
    assert_problem(writer("POST", "/tasks/", json=task_body(**{field: seen[field]})), 422)


def test_without_the_setting_no_token_may_only_read(server: Server, empty: None) -> None:
    assert_problem(Api(server.url, READ_TOKEN)("GET", "/tasks/"), 401)


@pytest.mark.parametrize(("origin", "is_allowed"), [(PAGE, True), ("https://evil.example.com", False)])
def test_a_page_may_read_answers_if_its_origin_is_listed(
    writer: Api, origin: str, *, is_allowed: bool
) -> None:
    task = writer.create()
    answers = [
        writer("GET", f"/tasks/{task['id']}", headers={"Origin": origin}),
        writer("GET", "/nowhere", headers={"Origin": origin}),
        Api(writer.url, None)("GET", "/tasks/", headers={"Origin": origin}),
    ]
    for answer in answers:
        assert answer.headers.get("Access-Control-Allow-Origin") == (origin if is_allowed else None)
        assert answer.headers["Vary"] == "Origin"
        exposed = answer.headers.get("Access-Control-Expose-Headers", "").split(", ")
        assert ({"ETag", "Location", "Link", "X-Request-Id", "Retry-After"} <= set(exposed)) == is_allowed
        assert "Access-Control-Allow-Credentials" not in answer.headers


def test_a_preflight_is_answered_without_a_token(writer: Api) -> None:
    asked = {"Origin": PAGE, "Access-Control-Request-Method": "PUT"}
    answer = Api(writer.url, None)("OPTIONS", "/tasks/0b0e7a52-6d0f-4d5e-9a53-1f6d2a1c7f10", headers=asked)
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["Access-Control-Allow-Origin"] == PAGE
    assert "PUT" in answer.headers["Access-Control-Allow-Methods"].split(", ")
    allowed = answer.headers["Access-Control-Allow-Headers"].split(", ")
    assert {"Authorization", "Content-Type", "Idempotency-Key", "If-Match", "If-None-Match"} <= set(allowed)
    assert answer.headers["Access-Control-Max-Age"] == "7200"


def test_without_the_setting_no_page_may_read(api: Api) -> None:
    answer = api("GET", "/tasks/", headers={"Origin": PAGE})
    assert not [name for name in answer.headers if name.startswith("Access-Control")]
    assert "Vary" not in answer.headers
