"""Each entry point alone, as it is deployed: what it answers, and what it does not."""

import json
from collections.abc import Iterator
from datetime import datetime

import pytest

from tests.acceptance.conftest import Database
from tests.acceptance.server import TOKEN, Api, Server, assert_problem, task_body
from tests.events import assert_is_as_documented
from tests.receiver import Receiver

FUNCTIONS = ("api", "tasks", "task_logs", "health", "tick", "deliver", "migrate")
WITHOUT_DATABASE = "without a database"
PASSWORD = "the-password-of-the-database"
PROJECT = "a-project"
TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture(scope="module")
def servers(server_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """All of them under the rules of the cloud; they start at the same time."""
    settings = {
        "K_SERVICE": "insignia",
        "GOOGLE_CLOUD_PROJECT": PROJECT,
        "DATABASE_URL": server_database,
        "EGRESS_ALLOW": "127.0.0.1/32",
        "LOG_FILE": "",
    }
    directory = tmp_path_factory.mktemp("functions")
    servers = {name: Server(directory / name, settings, name) for name in FUNCTIONS}
    away = {"DATABASE_URL": f"postgresql://nobody:{PASSWORD}@127.0.0.1:9/x"}
    servers[WITHOUT_DATABASE] = Server(directory / WITHOUT_DATABASE, settings | away, "local")
    try:
        for server in servers.values():
            server.wait_until_ready()
        yield servers
    finally:
        for server in servers.values():
            server.begin_to_stop()
        codes = [server.stop() for server in servers.values()]
    assert set(codes) == {0}


@pytest.fixture
def apis(servers: dict[str, Server], empty: None) -> dict[str, Api]:
    return {name: Api(server.url) for name, server in servers.items()}


def test_api_serves_the_resources_but_not_tick_and_migrate(apis: dict[str, Api]) -> None:
    api = apis["api"]
    task = api.create()
    assert api.get("/tasks/")["tasks"] == [task]
    assert api.get("/task-logs/")["total"] == 0
    assert api.get("/health")["status"] == "healthy"
    assert api("GET", "/docs").status_code == 200
    for path in ("/tick", "/deliver", "/migrate"):
        assert_problem(api("POST", path), 404)


@pytest.mark.parametrize("prefix", ["/tasks", ""])
def test_tasks_answers_with_and_without_its_name(apis: dict[str, Api], prefix: str) -> None:
    api = apis["tasks"]
    task = api.post(f"{prefix}/", task_body())
    path = f"{prefix}/{task['id']}"
    assert api.get(path) == api.get(f"{path}/") == task
    assert api.put(path, {"name": "New"})["name"] == "New"
    assert api.get(f"{prefix}/", search="new")["total"] == 1
    api.delete(path)
    assert_problem(api("GET", path), 404, "NOT_FOUND")
    for other in ("/task-logs/", "/health", "/docs", "/tick"):
        assert_problem(api("GET", other), 404)


@pytest.mark.parametrize("prefix", ["/task-logs", ""])
def test_task_logs_answers_with_and_without_its_name(apis: dict[str, Api], prefix: str) -> None:
    task, api = apis["api"].create(), apis["task_logs"]
    body = {"task_id": task["id"], "execution_time": "2026-11-23T12:00:00Z", "status": "success"}
    log = api.post(f"{prefix}/", body)
    assert api.get(f"{prefix}/{log['id']}") == log
    assert api.get(f"{prefix}/task/{task['id']}")["task_logs"] == api.get(f"{prefix}/")["task_logs"] == [log]
    assert_problem(api("GET", "/tasks/"), 404)


@pytest.mark.parametrize("path", ["/health", "/health/", "/"])
def test_health_answers_with_and_without_its_name(apis: dict[str, Api], path: str) -> None:
    assert apis["health"].get(path)["status"] == "healthy"


@pytest.mark.parametrize("path", ["/tick", "/tick/", "/"])
def test_tick_answers_with_and_without_its_name(apis: dict[str, Api], database: Database, path: str) -> None:
    with Receiver() as receiver:
        task = apis["api"].create(webhook_url=receiver.url)
        database.make_due(task)
        assert apis["tick"].ok("POST", path)["succeeded"] == 1
    assert len(receiver.requests) == 1
    assert_problem(apis["tick"]("GET", path), 405)


@pytest.mark.parametrize("path", ["/migrate", "/migrate/", "/"])
def test_migrate_tells_the_revision_of_the_schema(apis: dict[str, Api], path: str) -> None:
    revision = apis["migrate"].ok("POST", path)["schema_revision"]
    assert revision == apis["health"].get("/health")["schema_revision"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_function_asks_for_the_token(servers: dict[str, Server], name: str) -> None:
    stranger = Api(servers[name].url, token=None)
    posts = {name: ("POST", f"/{name}") for name in ("tick", "deliver", "migrate")}
    method, path = posts.get(name, ("GET", "/health" if name in ("api", "health") else "/"))
    answer = stranger(method, path)
    assert_problem(answer, 401)
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_function_answers_an_unknown_path_with_a_problem(apis: dict[str, Api], name: str) -> None:
    for path in ("/a/b/c/d", "/robots.txt", "/favicon.ico"):
        assert_problem(apis[name]("GET", path), 404, "UNKNOWN_PATH")


def test_in_the_cloud_every_line_of_the_log_is_json(apis: dict[str, Api], servers: dict[str, Server]) -> None:
    answer = apis["migrate"]("POST", "/migrate", headers={"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"})
    assert answer.status_code == 200
    for server in servers.values():
        for line in server.output.read_text().splitlines():
            entry = json.loads(line)
            assert {"severity", "message", "time"} <= entry.keys()
            assert datetime.fromisoformat(entry["time"]).tzinfo is not None


def test_in_the_cloud_a_failed_delivery_is_one_json_line_without_the_url(
    apis: dict[str, Api], servers: dict[str, Server], database: Database
) -> None:
    task = apis["api"].create(webhook_url="http://127.0.0.1:9/secret-path?key=hidden", max_retry=0)
    database.make_due(task)
    trace = {"X-Cloud-Trace-Context": f"{TRACE}/1;o=1"}
    assert apis["tick"]("POST", "/tick", headers=trace).json()["started"] == 1
    lines = servers["tick"].output.read_text().splitlines()
    entry, deactivation = (entry for entry in map(json.loads, lines) if entry.get("task_id") == task["id"])
    assert (entry["event"], entry["status"]) == ("run.finished", "failed")
    assert_is_as_documented(entry)
    assert_is_as_documented(deactivation)
    assert deactivation["event"] == "task.deactivated"
    assert entry["severity"] == "WARNING"
    assert entry["run_id"] == apis["api"].logs(task)[0]["id"]
    assert entry["logging.googleapis.com/trace"] == f"projects/{PROJECT}/traces/{TRACE}"
    assert "secret-path" not in "".join(lines)
    assert "hidden" not in "".join(lines)
    assert TOKEN not in "".join(lines)


def test_a_database_that_is_away_is_503_with_an_advice(
    apis: dict[str, Api], servers: dict[str, Server]
) -> None:
    api = apis[WITHOUT_DATABASE]
    for method, path in (("GET", "/tasks/"), ("POST", "/tasks/"), ("POST", "/tick"), ("GET", "/task-logs/")):
        answer = api(method, path, json=task_body())
        assert_problem(answer, 503, "UNAVAILABLE")
        assert int(answer.headers["Retry-After"]) > 0
    health = api("GET", "/health")
    assert (health.status_code, health.headers["Content-Type"]) == (503, "application/problem+json")
    assert health.json()["status"] == "unhealthy"
    assert PASSWORD not in servers[WITHOUT_DATABASE].output.read_text() + health.text
    assert api("GET", "/docs").status_code == 200
