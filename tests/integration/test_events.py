"""What a tick writes into the log: events by stable names, on which alerts are built."""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import pytest

from db.engine import make_engine
from domain.errors import Unavailable
from domain.summary import TickSummary
from functions import bootstrap, events
from functions.deliver import Push, deliver
from functions.logs import CloudFormatter
from functions.settings import load
from functions.tick import tick
from functions.workers import publish
from tests.events import assert_is_as_documented, documented_events, events_in_the_code
from tests.integration.conftest import LOOPBACK, Insignia
from tests.integration.test_places import Crowd
from tests.receiver import Answer, Received, Receiver

TOPIC = "projects/p1-example/topics/insignia-deliver"
PUSH = Push.model_validate(
    {
        "message": {"messageId": "1", "publishTime": "2026-11-26T19:13:55.749Z"},
        "subscription": "projects/p1-example/subscriptions/insignia-deliver",
    }
)
NOBODY = "postgresql://postgres@127.0.0.1:9/insignia"


class Log:
    """Serves ticks as the function does, and reads the JSON that the cloud would get of them."""

    def __init__(self, insignia: Insignia, patch: pytest.MonkeyPatch, captured: pytest.LogCaptureFixture):
        patch.setattr(bootstrap, "egress", lambda: LOOPBACK)
        self._patch = patch
        self._captured = captured
        self.set({})
        self.use(insignia.engine)

    def set(self, settings: Mapping[str, str]) -> None:
        self._patch.setattr(bootstrap, "settings", lambda: load(settings))

    def use(self, engine: Any) -> None:
        self._patch.setattr(bootstrap, "tick_database", lambda: engine)

    def entries(self) -> list[dict[str, Any]]:
        """The events, in their order."""
        lines = [json.loads(CloudFormatter(None).format(record)) for record in self._captured.records]
        return [line for line in lines if "event" in line]

    def events(self, name: str) -> list[dict[str, Any]]:
        return [entry for entry in self.entries() if entry["event"] == name]


@pytest.fixture
def log(insignia: Insignia, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Log:
    caplog.set_level(logging.INFO)
    return Log(insignia, monkeypatch, caplog)


def test_a_tick_is_one_event_with_all_of_its_summary(insignia: Insignia, log: Log) -> None:
    with Receiver() as receiver:
        insignia.create_due(receiver.url)
        answer = tick()
    (event,) = log.events("tick.summary")
    assert {name: event[name] for name in asdict(TickSummary())} == answer.model_dump()
    assert event["severity"] == "INFO"
    assert event["message"] == "tick: 1 due, 1 started, 1 succeeded"


def test_a_tick_without_work_says_so(insignia: Insignia, log: Log) -> None:
    tick()
    (event,) = log.events("tick.summary")
    assert (event["message"], event["due"]) == ("tick: nothing was due", 0)


def test_a_tick_without_a_database_is_an_error(log: Log) -> None:
    log.use(make_engine(NOBODY))
    with pytest.raises(Unavailable):
        tick()
    (event,) = log.events("tick.failed")
    assert event["severity"] == "ERROR"
    assert log.events("tick.summary") == []


def test_each_delivery_is_an_event(insignia: Insignia, log: Log) -> None:
    with Receiver(lambda _: (418, b"")) as receiver:
        task = insignia.create_due(receiver.url, deactivate_after=0)
        tick()
    (event,) = log.events("run.finished")
    (run,) = insignia.logs()
    assert (event["task_id"], event["run_id"], event["attempt"]) == (str(task.id), str(run.id), 1)
    assert (event["status"], event["http_status"], event["severity"]) == ("failed", 418, "WARNING")
    assert (event["trace_id"], event["destination"]) == (run.id.hex, receiver.url.rsplit("/", 1)[0])
    assert run.lateness_ms is not None
    assert abs(event["lateness_ms"] - run.lateness_ms) <= 1  # PostgreSQL rounds halves another way
    assert log.events("task.deactivated") == []


def test_a_deactivation_is_one_event_however_many_runs_failed_with_it(insignia: Insignia, log: Log) -> None:
    crowd = Crowd(2)  # so that the runs end in one batch
    with Receiver(lambda request: (500, crowd(request)[1])) as receiver:
        task = insignia.create_due(receiver.url, overlap_policy="allow", schedule="* * * * *")
        insignia.execute("UPDATE task_state SET next_run_at = next_run_at - interval '1 minute'")
        tick()
    assert len(log.events("run.finished")) == 2
    (event,) = log.events("task.deactivated")
    assert (event["task_id"], event["severity"]) == (str(task.id), "WARNING")


def succeed(insignia: Insignia, _: Log) -> None:
    with Receiver() as receiver:
        insignia.create_due(receiver.url)
        tick()


def fail_and_deactivate(insignia: Insignia, _: Log) -> None:
    with Receiver(lambda _: (500, b"")) as receiver:
        insignia.create_due(receiver.url)
        tick()


def be_sent_away(insignia: Insignia, _: Log) -> None:
    with Receiver(lambda _: (429, b"", {"Retry-After": "3000"})) as receiver:
        insignia.create_due(receiver.url)
        tick()


def get_no_answer(insignia: Insignia, _: Log) -> None:
    with Receiver() as receiver:
        nobody = receiver.url
    insignia.create_due(nobody, max_retry=1)
    tick()


def lose_the_lease(insignia: Insignia, _: Log) -> None:
    def answer(_: Received) -> Answer:
        insignia.end_leases_and_waits()
        insignia.claim_due_runs()
        return 200, b""

    with Receiver(answer) as receiver:
        insignia.create_due(receiver.url)
        tick()


def be_without_a_database(_: Insignia, log: Log) -> None:
    log.use(make_engine(NOBODY))
    with pytest.raises(Unavailable):
        tick()


def be_woken(insignia: Insignia, _: Log) -> None:
    with Receiver() as receiver:
        insignia.create_due(receiver.url)
        deliver(PUSH)


def be_woken_without_a_database(_: Insignia, log: Log) -> None:
    log.use(make_engine(NOBODY))
    with pytest.raises(Unavailable):
        deliver(PUSH)


def wake_workers(_: Insignia, __: Log) -> None:
    with Receiver() as emulator:
        publish(TOPIC, 2, emulator=emulator.url.removeprefix("http://").removesuffix("/hook"))


def wake_workers_in_vain(_: Insignia, __: Log) -> None:
    publish(TOPIC, 2, emulator="127.0.0.1:9")


def have_no_monitor(_: Insignia, log: Log) -> None:
    log.set({"HEARTBEAT_URL": "http://127.0.0.1:9/ping"})
    tick()


def tell_and_be_heard(insignia: Insignia, log: Log) -> None:
    with Receiver() as person:
        log.set({"NOTIFY_URL": person.url})
        fail_and_deactivate(insignia, log)


def tell_in_vain(insignia: Insignia, log: Log) -> None:
    with Receiver(lambda _: (500, b"")) as person:
        log.set({"NOTIFY_URL": person.url})
        fail_and_deactivate(insignia, log)


def tell_for_the_last_time(insignia: Insignia, log: Log) -> None:
    with Receiver(lambda _: (410, b"")) as person:
        log.set({"NOTIFY_URL": person.url})
        fail_and_deactivate(insignia, log)


STORIES: dict[Callable[[Insignia, Log], None], set[str]] = {
    succeed: {"tick.summary", "run.finished"},
    fail_and_deactivate: {"tick.summary", "run.finished", "task.deactivated"},
    be_sent_away: {"tick.summary", "run.retrying"},
    get_no_answer: {"tick.summary", "run.retrying", "run.finished", "task.deactivated"},
    lose_the_lease: {"tick.summary", "run.late"},
    be_without_a_database: {"tick.failed"},
    be_woken: {"worker.summary", "run.finished"},
    be_woken_without_a_database: {"worker.failed"},
    tell_and_be_heard: {"tick.summary", "run.finished", "task.deactivated", "notification.sent"},
    tell_in_vain: {"tick.summary", "run.finished", "task.deactivated", "notification.retrying"},
    tell_for_the_last_time: {"tick.summary", "run.finished", "task.deactivated", "notification.dropped"},
    have_no_monitor: {"tick.summary", "heartbeat.lost"},
    wake_workers: {"workers.woken"},
    wake_workers_in_vain: {"workers.not_woken"},
}
"""What happens in a real tick, and the events that it writes."""


@pytest.mark.parametrize(
    ("story", "names"), STORIES.items(), ids=lambda value: getattr(value, "__name__", "")
)
def test_an_event_has_exactly_the_fields_that_are_documented(
    story: Callable[[Insignia, Log], None], names: set[str], insignia: Insignia, log: Log
) -> None:
    story(insignia, log)
    entries = log.entries()
    assert {entry["event"] for entry in entries} == names
    for entry in entries:
        assert_is_as_documented(entry)


def test_every_documented_event_is_written_in_one_of_these_stories() -> None:
    assert set().union(*STORIES.values()) == documented_events().keys()


def test_every_event_of_the_code_is_documented() -> None:
    assert events_in_the_code() == documented_events().keys()


def test_a_run_that_is_called_is_one_line_each_attempt_and_finished_once(
    insignia: Insignia, log: Log
) -> None:
    get_no_answer(insignia, log)
    (retrying,), (finished,) = log.events("run.retrying"), log.events("run.finished")
    assert (retrying["attempt"], retrying["status"], retrying["error"]) == (1, "retrying", "connect")
    assert (finished["attempt"], finished["status"], finished["http_status"]) == (2, "failed", None)
    assert retrying["run_id"] == finished["run_id"]


def test_a_delivery_costs_nothing_in_the_log_when_its_level_is_off(
    insignia: Insignia, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    logging.getLogger("functions.events").setLevel(logging.ERROR)
    shown: list[str] = []
    monkeypatch.setattr(events, "redacted", shown.append)
    try:
        succeed(insignia, log)
    finally:
        logging.getLogger("functions.events").setLevel(logging.NOTSET)
    assert (shown, log.entries()) == ([], [])
