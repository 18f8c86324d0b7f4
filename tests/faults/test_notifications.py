"""A tick dies between a change and its notification, or between telling that and writing it down.

The change is told at least once, by one webhook-id, and has one row, wherever the tick has died.
"""

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine

import functions.notifications
from db.engine import make_tick_engine
from functions.limits import Limits
from functions.notifications import Notifier, NotifySettings
from functions.ticking import run_tick
from tests.faults.processes import PROCESSES
from tests.integration.conftest import LOOPBACK, Insignia
from tests.receiver import Receiver

POINTS = {
    "before it is written": ("write_notifications", False, 1),
    "written with its change": ("write_notifications", True, 1),
    "its change committed": ("_claim", False, 1),
    "claimed": ("call_of", False, 1),
    "told": ("record_told", False, 2),
    "told, and that written": ("record_told", True, 2),
}
"""Where: the call of this function, or the return from it; and how often a receiver hears of it then."""


def killed(function: Callable[..., Any], *, is_after: bool) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        if is_after:
            function(*arguments, **named)
        os.kill(os.getpid(), signal.SIGKILL)

    return call


def tick(database_url: str, notify_url: str, point: str | None) -> None:
    """In a process of its own."""
    engine = make_tick_engine(database_url)
    limits = Limits(budget_seconds=15, concurrency=9, per_destination=9)
    with pytest.MonkeyPatch.context() as patch:
        if point is not None:
            name, is_after, _ = POINTS[point]
            owner: Any = Notifier if hasattr(Notifier, name) else functions.notifications
            patch.setattr(owner, name, killed(getattr(owner, name), is_after=is_after))
        run_tick(engine, LOOPBACK, limits, notify=NotifySettings(url=notify_url))


def tick_in_a_process(engine: Engine, notify_url: str, point: str | None = None) -> int | None:
    """How it ended: the negative number of a signal, or 0."""
    url = engine.url.render_as_string(hide_password=False)
    process = PROCESSES.Process(target=tick, args=(url, notify_url, point))
    process.start()
    process.join()
    return process.exitcode


@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.replace(" ", "-"))
def test_a_change_is_told_and_written_once_whenever_a_tick_dies(engine: Engine, point: str) -> None:
    insignia = Insignia(engine)
    with Receiver(lambda _: (500, b"")) as webhook, Receiver() as person:
        insignia.create_due(webhook.url, deactivate_after=0)
        assert tick_in_a_process(engine, person.url, point) == -signal.SIGKILL
        insignia.end_leases_and_waits()
        insignia.execute("UPDATE notifications SET available_at = clock_timestamp() WHERE outcome IS NULL")
        assert tick_in_a_process(engine, person.url) == 0
    (row,) = insignia.execute("SELECT id, kind, outcome FROM notifications").all()
    assert (row.kind, row.outcome) == ("task.failed", "sent")
    assert [one.headers["webhook-id"] for one in person.requests] == [str(row.id)] * POINTS[point][2]
