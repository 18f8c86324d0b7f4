"""A worker as Pub/Sub meets it: what wakes it, what it answers, and what it leaves to the tick."""

import base64
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, text

from tests.acceptance.conftest import Database
from tests.acceptance.server import Api, Json, Server, assert_problem, pointers
from tests.receiver import Receiver

CLOUD = {"K_SERVICE": "insignia", "EGRESS_ALLOW": "127.0.0.1/32", "LOG_FILE": ""}


def push(**message: Any) -> Json:
    """What a push subscription sends; a member of the message that is None is left out."""
    sent = {
        "attributes": {"reason": "due"},
        "messageId": "2070443601311540",
        "message_id": "2070443601311540",
        "publishTime": "2026-11-26T19:13:55.749Z",
        "publish_time": "2026-11-26T19:13:55.749Z",
    }
    return {
        "message": {name: value for name, value in (sent | message).items() if value is not None},
        "subscription": "projects/p/subscriptions/insignia-deliver",
    }


@pytest.fixture(scope="module")
def server_of_workers(server_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = CLOUD | {"DATABASE_URL": server_database}
    server = Server(tmp_path_factory.mktemp("deliver"), settings, "deliver")
    try:
        server.wait_until_ready()
        yield server
    finally:
        code = server.stop()
    assert code == 0


@pytest.fixture
def worker(server_of_workers: Server) -> Api:
    return Api(server_of_workers.url)


@pytest.mark.parametrize("path", ["/deliver", "/deliver/", "/"])
def test_a_worker_delivers_what_is_due_and_leaves_no_trace_in_the_health(
    api: Api, database: Database, worker: Api, rows: Engine, path: str
) -> None:
    with Receiver() as receiver:
        tasks = [api.create(webhook_url=receiver.url) for _ in range(3)]
        database.make_due(*tasks)
        summary = worker.ok("POST", path, json=push())
        again = worker.ok("POST", path, json=push())
    assert (summary["due"], summary["succeeded"], summary["remaining"]) == (3, 3, 0)
    assert (again["started"], len(receiver.requests)) == (0, 3)
    assert api.get("/health")["tick"] == "pending"
    with rows.connect() as connection:
        assert connection.execute(text("SELECT kind, started FROM ticks ORDER BY id")).all() == [
            ("worker", 3),
            ("worker", 0),
        ]
    api.tick()
    assert api.get("/health")["tick"] == "ok"


@pytest.mark.parametrize(
    "body",
    [
        push(),
        push(attributes=None),
        push(data=base64.b64encode(b"{}").decode(), orderingKey="", somethingNew=[1]),
        push() | {"deliveryAttempt": 5},
        push() | {"somethingNew": True},
    ],
    ids=["attributes", "nothing", "data", "delivered before", "a member that is new"],
)
def test_what_pubsub_may_send_wakes_a_worker(empty: None, worker: Api, body: Json) -> None:
    assert worker.ok("POST", "/deliver", json=body)["started"] == 0


@pytest.mark.parametrize(
    ("body", "at"),
    [
        ({}, ["/message", "/subscription"]),
        (push() | {"message": None}, ["/message"]),
        (push() | {"message": "due"}, ["/message"]),
        (push(messageId=None), ["/message/messageId"]),
        (push(messageId=""), ["/message/messageId"]),
        (push(messageId=1), ["/message/messageId"]),
        (push(publishTime="yesterday"), ["/message/publishTime"]),
        (push(data="%%%"), ["/message/data"]),
        (push(data="e30"), ["/message/data"]),
        (push(data={}), ["/message/data"]),
        (push(attributes=[]), ["/message/attributes"]),
        (push(attributes={"reason": 1}), ["/message/attributes/reason"]),
        (push() | {"subscription": "insignia-deliver"}, ["/subscription"]),
        (push() | {"deliveryAttempt": "1"}, ["/deliveryAttempt"]),
        (push() | {"deliveryAttempt": 0}, ["/deliveryAttempt"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_what_pubsub_does_not_send_wakes_nobody(
    api: Api, database: Database, worker: Api, body: Json, at: list[str]
) -> None:
    with Receiver() as receiver:
        database.make_due(api.create(webhook_url=receiver.url))
        problem = assert_problem(worker("POST", "/deliver", json=body), 422)
    assert pointers(problem) == at
    assert receiver.requests == []


def test_a_worker_whose_database_is_away_has_the_message_sent_again(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    away = CLOUD | {"DATABASE_URL": "postgresql://nobody@127.0.0.1:9/x"}
    server = Server(tmp_path_factory.mktemp("away"), away, "deliver")
    try:
        server.wait_until_ready()
        assert_problem(Api(server.url)("POST", "/deliver", json=push()), 503, "UNAVAILABLE")
    finally:
        code = server.stop()
    assert code == 0
    assert '"event":"worker.failed"' in server.output.read_text()


@pytest.fixture(scope="module")
def pubsub() -> Iterator[Receiver]:
    with Receiver(lambda _: (200, b'{"messageIds": []}')) as receiver:
        yield receiver


@pytest.fixture(scope="module")
def waking_tick(
    server_database: str, pubsub: Receiver, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Api]:
    """A tick of one call at a time, which reckons that 15 of a second each fit into its budget."""
    waking = {
        "DATABASE_URL": server_database,
        "DELIVER_WORKERS": "3",
        "DELIVER_TOPIC": "projects/p/topics/insignia-deliver",
        "PUBSUB_EMULATOR_HOST": pubsub.url.removeprefix("http://").removesuffix("/hook"),
        "DELIVERY_CONCURRENCY": "1",
        "TICK_BUDGET_SECONDS": "15",
    }
    server = Server(tmp_path_factory.mktemp("waking"), CLOUD | waking, "tick")
    try:
        server.wait_until_ready()
        yield Api(server.url)
    finally:
        code = server.stop()
    assert code == 0


def test_a_tick_wakes_as_many_workers_as_it_needs_and_delivers_by_itself(
    api: Api, database: Database, waking_tick: Api, pubsub: Receiver
) -> None:
    with Receiver() as receiver:
        tasks = [api.create(webhook_url=receiver.url) for _ in range(40)]
        database.make_due(*tasks)
        assert waking_tick.tick()["succeeded"] == 40
    (request,) = pubsub.wait_for(1)
    assert request.path == "/v1/projects/p/topics/insignia-deliver:publish"
    assert len(request.json["messages"]) == 2


def test_how_many_a_tick_can_deliver_is_reckoned_by_the_last_calls(
    api: Api, database: Database, waking_tick: Api, pubsub: Receiver, rows: Engine
) -> None:
    """Without any log it wakes one worker for 20, and with the logs of these calls none, until they are gone."""
    before = len(pubsub.requests)
    with Receiver() as receiver:
        tasks = [api.create(webhook_url=receiver.url) for _ in range(20)]
        for _ in range(3):
            database.make_due(*tasks)
            assert waking_tick.tick()["succeeded"] == 20
        with rows.begin() as connection:
            connection.execute(text("DELETE FROM task_logs"))
        database.make_due(*tasks)
        waking_tick.tick()
    first, second = pubsub.wait_for(before + 2)[before:]
    assert len(first.json["messages"]) == len(second.json["messages"]) == 1
    assert len(pubsub.requests) == before + 2
