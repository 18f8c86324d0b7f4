"""What befalls a tick at a named point: it dies, its connections are cut, an acknowledgement is lost, time jumps.

The tick runs in this process. Its functions are wrapped, so that each thread can have a Mischief of its own.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import pytest

import functions.claiming
import functions.lookout
import functions.ticking
from db.engine import Connection, Engine, transaction
from domain.errors import Unavailable
from functions.delivery import Deliveries


class Killed(BaseException):
    """The process of the tick is gone: nothing in the product may catch this."""


class Point(StrEnum):
    """Where; the first of each pair is inside the transaction, the second right after its commit."""

    SWEPT = "swept"
    SWEEP_COMMITTED = "sweep committed"
    SLOTS_WRITTEN = "slots written"
    SLOTS_COMMITTED = "slots committed"
    RETRIES_WRITTEN = "retries written"
    RETRIES_COMMITTED = "retries committed"
    BEFORE_SEND = "before send"
    SENT = "sent"
    ANSWERED = "answered"
    RESULTS_WRITTEN = "results written"
    RESULTS_COMMITTED = "results committed"
    SUMMARY_WRITTEN = "summary written"


AFTER_COMMIT_OF = {
    Point.SWEPT: Point.SWEEP_COMMITTED,
    Point.SLOTS_WRITTEN: Point.SLOTS_COMMITTED,
    Point.RETRIES_WRITTEN: Point.RETRIES_COMMITTED,
    Point.RESULTS_WRITTEN: Point.RESULTS_COMMITTED,
}

AFTER_COMMITS = tuple(AFTER_COMMIT_OF.values())

WRAPPED = {
    "sweep": Point.SWEPT,
    "claim_slots": Point.SLOTS_WRITTEN,
    "claim_long_late_slots": Point.SLOTS_WRITTEN,
    "claim_due_runs": Point.RETRIES_WRITTEN,
    "settle": Point.RESULTS_WRITTEN,
    "record_tick": Point.SUMMARY_WRITTEN,
}


@dataclass(slots=True)
class Mischief:
    """`befall` is called when the tick comes to `point` for the given time, once."""

    text: str
    point: Point
    befall: Callable[[], None]
    time: int = 1
    passed: int = 0
    has_happened: bool = False

    def __str__(self) -> str:
        return f"it {self.text} at the point '{self.point}'{', the second time' if self.time > 1 else ''}"

    def at(self, point: Point) -> None:
        if point is self.point and not self.has_happened:
            self.passed += 1
            if self.passed == self.time:
                self.has_happened = True
                self.befall()


def kill() -> None:
    raise Killed


def lose_acknowledgement() -> None:
    raise Unavailable("The connection broke.")


class Stage(threading.local):
    """What a thread's tick has before it."""

    mischief: Mischief | None = None
    engine: Engine | None = None
    written: Point | None = None
    held_during_calls: int = 0


stage = Stage()


def at(point: Point) -> None:
    if stage.mischief is not None:
        stage.mischief.at(point)


@contextmanager
def performed(engine: Engine, mischief: Mischief | None) -> Iterator[Stage]:
    """The tick that runs in this block, on `engine`, meets `mischief`."""
    before = (stage.mischief, stage.engine, stage.written, stage.held_during_calls)
    stage.mischief, stage.engine, stage.written, stage.held_during_calls = mischief, engine, None, 0
    try:
        yield stage
    finally:
        stage.mischief, stage.engine, stage.written, stage.held_during_calls = before


def wrap_ticks(patch: pytest.MonkeyPatch) -> None:
    """Let every tick of this process come by the points, and make short pauses."""
    for module in (functions.ticking, functions.claiming, functions.lookout):
        for name, seconds in (("PAUSE_SECONDS", 0.05), ("BATCH_SECONDS", 0.01)):
            patch.setattr(module, name, seconds, raising=False)
    for module in (functions.ticking, functions.claiming):
        for name in WRAPPED.keys() & vars(module).keys():
            patch.setattr(module, name, wrapped(vars(module)[name], WRAPPED[name]))
        patch.setattr(module, "transaction", wrapped_transaction)
    patch.setattr(Deliveries, "start", wrapped_start(Deliveries.start))
    patch.setattr(Deliveries, "wait", wrapped_wait(Deliveries.wait))


def wrapped(function: Callable[..., Any], point: Point) -> Callable[..., Any]:
    def write(*arguments: Any, **named: Any) -> Any:
        result = function(*arguments, **named)
        stage.written = point
        at(point)
        return result

    return write


@contextmanager
def wrapped_transaction(engine: Engine) -> Iterator[Connection]:
    try:
        with transaction(engine) as connection:
            yield connection
        committed = AFTER_COMMIT_OF.get(stage.written) if stage.written else None
    finally:
        stage.written = None
    if committed is not None:
        at(committed)


def wrapped_start(start: Callable[..., None]) -> Callable[..., None]:
    def start_call(*arguments: Any) -> None:
        at(Point.BEFORE_SEND)
        start(*arguments)

    return start_call


def wrapped_wait(wait: Callable[..., Any]) -> Callable[..., Any]:
    """Counts connections that are in use while calls are driven: invariant I4."""

    def drive(deliveries: Deliveries, timeout: float) -> Any:
        if deliveries.in_flight:
            assert stage.engine is not None
            stage.held_during_calls += stage.engine.pool.checkedout()  # type: ignore[attr-defined]
            if stage.mischief is not None and stage.mischief.point is Point.SENT:
                finished = wait(deliveries, 0.005)
                at(Point.SENT)
                return finished
        finished = wait(deliveries, timeout)
        if finished:
            at(Point.ANSWERED)
        return finished

    return drive
