"""How many workers are woken, and what Pub/Sub is sent for it."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from domain.workers import workers_to_wake
from functions.workers import SCOPE, publish
from tests.google_accounts import GoogleAccounts
from tests.receiver import Answer, Received, Receiver

TOPIC = "projects/p1-example/topics/insignia-deliver"


def needed(due: int, call_seconds: float | None, at_most: int = 100) -> int:
    return workers_to_wake(
        due, call_seconds=call_seconds, concurrency=256, budget_seconds=50, at_most=at_most
    )


@pytest.mark.parametrize(
    ("due", "call_seconds", "workers"),
    [
        (0, 1.0, 0),
        (12_800, 1.0, 0),
        (12_801, 1.0, 1),
        (128_000, 1.0, 9),
        (12_800, 10.0, 9),
        (12_800, None, 0),
        (12_801, None, 1),
        (100_000, 0.0, 0),
        (100_001, 0.001, 1),
    ],
)
def test_as_many_are_woken_as_it_takes_beside_the_tick(
    due: int, call_seconds: float | None, workers: int
) -> None:
    """By how long the last calls took, and never by more than a CPU can begin."""
    assert needed(due, call_seconds) == workers


def test_never_more_are_woken_than_there_may_be() -> None:
    assert needed(10**6, 45.0, at_most=4) == 4
    assert needed(10**6, 45.0, at_most=0) == 0


def test_a_tick_without_time_wakes_all() -> None:
    waking = workers_to_wake(7, call_seconds=1.0, concurrency=1, budget_seconds=0, at_most=4)
    assert waking == 4


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[GoogleAccounts]:
    """Google's sign-in, and credentials that it knows."""
    with GoogleAccounts() as google:
        file = tmp_path / "account.json"
        file.write_text(json.dumps(google.account_info()))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
        yield google


def pubsub(google: GoogleAccounts, topic: str = TOPIC) -> Receiver:
    """Takes what Pub/Sub takes: messages with something in them, for a topic that is there, with its access token."""

    def answer(request: Received) -> Answer:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if SCOPE not in google.access_tokens.get(token, ""):
            return 401, b'{"error": {"code": 401, "status": "UNAUTHENTICATED"}}'
        if request.path != f"/v1/{topic}:publish":
            return 404, b'{"error": {"code": 404, "status": "NOT_FOUND"}}'
        messages = request.json["messages"]
        if not messages or not all(message.get("data") or message.get("attributes") for message in messages):
            return 400, b'{"error": {"code": 400, "status": "INVALID_ARGUMENT"}}'
        return 200, json.dumps({"messageIds": [str(n) for n in range(len(messages))]}).encode()

    return Receiver(answer)


def base(receiver: Receiver) -> str:
    return receiver.url.removesuffix("/hook")


def test_each_worker_is_woken_by_a_message_of_its_own(
    google: GoogleAccounts, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with pubsub(google) as receiver:
        publish(TOPIC, 3, url=base(receiver))
    (request,) = receiver.requests
    assert len(request.json["messages"]) == 3
    assert [(record.message, vars(record)["fields"]) for record in caplog.records] == [
        ("workers: 3 woken", {"event": "workers.woken", "workers": 3})
    ]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("no topic", "HTTP 404"),
        ("no account", "DefaultCredentialsError"),
        ("no sign-in", "RefreshError"),
        ("away", "ConnectionError"),
    ],
)
def test_a_publish_that_fails_is_a_line_in_the_log_and_no_more(
    google: GoogleAccounts,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fault: str,
    reason: str,
) -> None:
    with pubsub(google, "projects/p1-example/topics/another" if fault == "no topic" else TOPIC) as receiver:
        if fault == "no account":
            monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/account.json")
        if fault == "no sign-in":
            google.status = 403
        publish(TOPIC, 2, url="http://127.0.0.1:9" if fault == "away" else base(receiver))
    (record,) = [record for record in caplog.records if record.name == "functions.events"]
    assert record.levelname == "WARNING"
    assert vars(record)["fields"] == {"event": "workers.not_woken", "workers": 2, "error": reason}
    assert "Bearer" not in caplog.text
    assert not [token for token in google.access_tokens if token in caplog.text]


def test_the_emulator_gets_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/account.json")
    with Receiver(lambda _: (200, b'{"messageIds": ["1"]}')) as emulator:
        publish(TOPIC, 1, emulator=base(emulator).removeprefix("http://"))
    (request,) = emulator.requests
    assert (request.path, "Authorization" in request.headers) == (f"/v1/{TOPIC}:publish", False)
