"""After each tick the monitor is called: nothing that it does, or fails to do, harms the tick."""

import logging
import threading
from collections.abc import Iterator

import pytest

from db.engine import Engine, make_engine
from domain.errors import Unavailable
from domain.summary import TickKind
from functions import bootstrap, heartbeat
from functions.egress import Egress
from functions.heartbeat import with_fail
from functions.settings import load
from functions.tick import serve
from tests.integration.conftest import LOOPBACK
from tests.receiver import Answer, Received, Receiver

NOBODY = "postgresql://postgres@127.0.0.1:9/insignia"
PATH = "/ping/0000-fake-0000"


class Monitor(Receiver):
    """Where ticks of this process call."""

    def __init__(self, patch: pytest.MonkeyPatch, engine: Engine) -> None:
        super().__init__(self.reply)
        self.lets_go = threading.Event()
        self.is_silent = False
        url = self.url.replace("/hook", PATH)
        patch.setattr(bootstrap, "settings", lambda: load({"HEARTBEAT_URL": url}))
        patch.setattr(bootstrap, "egress", lambda: LOOPBACK)
        patch.setattr(bootstrap, "tick_database", lambda: engine)

    def reply(self, _: Received) -> Answer:
        if self.is_silent:
            self.lets_go.wait(30)
        return 200, b""

    @property
    def calls(self) -> list[tuple[str, str, bytes]]:
        return [(one.method, one.path, one.body) for one in self.requests]


@pytest.fixture
def monitor(monkeypatch: pytest.MonkeyPatch, engine: Engine) -> Iterator[Monitor]:
    with Monitor(monkeypatch, engine) as monitor:
        yield monitor
        monitor.lets_go.set()


def test_a_good_tick_calls_the_monitor_once(monitor: Monitor) -> None:
    serve(TickKind.TICK)
    assert monitor.calls == [("POST", PATH, b"")]


def test_a_worker_does_not_call_it(monitor: Monitor) -> None:
    serve(TickKind.WORKER)
    assert monitor.calls == []


def test_a_tick_without_a_database_says_that_it_failed(
    monitor: Monitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "tick_database", lambda: make_engine(NOBODY))
    with pytest.raises(Unavailable):
        serve(TickKind.TICK)
    assert monitor.calls == [("POST", f"{PATH}/fail", b"")]


def test_a_process_that_must_end_does_not_call_it(monitor: Monitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "is_stopping", lambda: True)
    serve(TickKind.TICK)
    assert monitor.calls == []


def test_a_monitor_that_is_silent_holds_nothing_up(
    monitor: Monitor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(heartbeat, "SECONDS", 0.1)
    monitor.is_silent = True
    serve(TickKind.TICK)
    assert "no complete answer within 0.1 s" in caplog.text
    assert PATH not in caplog.text


def test_the_guard_of_webhooks_holds_for_it(
    monitor: Monitor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(bootstrap, "egress", lambda: Egress((), ()))
    serve(TickKind.TICK)
    assert monitor.calls == []
    assert "which webhooks may not reach" in caplog.text


@pytest.mark.parametrize(
    ("url", "failed"),
    [
        ("https://monitor.example.com/ping/1", "https://monitor.example.com/ping/1/fail"),
        ("https://monitor.example.com/ping/1/", "https://monitor.example.com/ping/1/fail"),
        ("https://monitor.example.com/ping?key=1", "https://monitor.example.com/ping/fail?key=1"),
    ],
)
def test_fail_stands_at_the_end_of_the_path(url: str, failed: str) -> None:
    assert with_fail(url) == failed
