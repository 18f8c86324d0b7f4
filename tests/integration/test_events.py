"""What a tick writes into the log: events by stable names, on which alerts are built."""

import json
import logging
from dataclasses import asdict
from typing import Any

import pytest

from db.engine import make_engine
from domain.errors import Unavailable
from domain.summary import TickSummary
from functions import bootstrap
from functions.logs import CloudFormatter
from functions.settings import load
from functions.tick import tick
from tests.integration.conftest import LOOPBACK, Insignia
from tests.integration.test_places import Crowd
from tests.receiver import Receiver

NOBODY = "postgresql://postgres@127.0.0.1:9/insignia"


class Log:
    """Serves ticks as the function does, and reads the JSON that the cloud would get of them."""

    def __init__(self, insignia: Insignia, patch: pytest.MonkeyPatch, captured: pytest.LogCaptureFixture):
        patch.setattr(bootstrap, "settings", lambda: load({}))
        patch.setattr(bootstrap, "egress", lambda: LOOPBACK)
        self._patch = patch
        self._captured = captured
        self.use(insignia.engine)

    def use(self, engine: Any) -> None:
        self._patch.setattr(bootstrap, "tick_database", lambda: engine)

    def events(self, name: str) -> list[dict[str, Any]]:
        entries = [json.loads(CloudFormatter(None).format(record)) for record in self._captured.records]
        return [entry for entry in entries if entry.get("event") == name]


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
    (event,) = log.events("delivery")
    (run,) = insignia.logs()
    assert (event["task_id"], event["run_id"], event["attempt"]) == (str(task.id), str(run.id), 1)
    assert (event["status"], event["http_status"], event["severity"]) == ("failed", 418, "WARNING")
    assert log.events("task.deactivated") == []


def test_a_deactivation_is_one_event_however_many_runs_failed_with_it(insignia: Insignia, log: Log) -> None:
    crowd = Crowd(2)  # so that the runs end in one batch
    with Receiver(lambda request: (500, crowd(request)[1])) as receiver:
        task = insignia.create_due(receiver.url, overlap_policy="allow", schedule="* * * * *")
        insignia.execute("UPDATE task_state SET next_run_at = next_run_at - interval '1 minute'")
        tick()
    assert len(log.events("delivery")) == 2
    (event,) = log.events("task.deactivated")
    assert (event["task_id"], event["severity"]) == (str(task.id), "WARNING")
