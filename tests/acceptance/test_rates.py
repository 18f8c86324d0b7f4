"""DESTINATION_RATES, from the setting to what a receiver gets: by ticks, runs by hand and tests of unsaved tasks."""

from pathlib import Path

from tests.acceptance.conftest import Database
from tests.acceptance.server import Api, Server, assert_problem, task_body
from tests.receiver import Receiver


def test_whatever_calls_a_host_calls_it_no_more_often_than_its_rate(
    server_database: str, tmp_path: Path, empty: None, database: Database
) -> None:
    with Receiver() as receiver:
        rates = f"{receiver.url.split('/')[2]}=2/3600s"
        server = Server(tmp_path, {"DATABASE_URL": server_database, "DESTINATION_RATES": rates})
        try:
            server.wait_until_ready()
            api = Api(server.url)
            task, other = (api.create(webhook_url=receiver.url) for _ in range(2))
            first = api.ok("POST", f"/tasks/{task['id']}/run", status=202)
            database.make_due(task, other)
            summary = api.tick()
            second = api.ok("POST", f"/tasks/{task['id']}/run", status=202)
            test = api("POST", "/tasks/test", json=task_body(webhook_url=receiver.url))
        finally:
            server.stop()
    assert len(receiver.requests) == 2
    assert (first["status"], second["status"], second["attempts"]) == ("success", "retrying", [])
    assert (summary["succeeded"], summary["remaining"]) == (1, 1)
    problem = assert_problem(test, 503, "UNAVAILABLE")
    assert "(DESTINATION_RATES); try again in 3" in problem["detail"]
    assert int(test.headers["Retry-After"]) > 0
