"""What runs in the process of a tick: the product, wrapped so that something befalls it at a named point.

The product knows nothing of it. The child reports that it has come to the point right before it is killed,
frozen, or loses its connections.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context
from dataclasses import asdict
from datetime import datetime, timedelta, tzinfo
from io import BytesIO
from ipaddress import ip_network
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import create_engine, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

import db.manual_runs
import db.run_claims
import db.settle
import db.slot_claims
import functions.claiming
import functions.delivery
import functions.manual_runs
import functions.ticking
import functions.transfer
from db.claiming import Claimed
from db.engine import Connection, Engine, make_tick_engine
from domain.errors import Unavailable
from functions.delivery import Deliveries
from functions.egress import Egress
from functions.idempotency import RunOnce
from functions.ticking import Tick, run_tick
from functions.transfer import Call, Transfer
from tests.faults.tick_process import Fault, Manual, Orders, Point

LOOPBACK = Egress(allow=(ip_network("127.0.0.0/8"),))
AWAY_SECONDS = 30
"""For so long a frozen tick finds that it was away: longer than the leases of tasks with timeout_seconds 5."""

WRITES = {
    "sweep": (Point.IN_THE_SWEEP, None, None),
    "claim_due_runs": (Point.RETRY_CLAIMED, None, Point.RETRY_COMMITTED),
    "claim_slots": (Point.CLAIM_WRITTEN, Point.CLAIM_ACKNOWLEDGEMENT_LOST, Point.CLAIM_COMMITTED),
    "settle": (Point.SETTLE_WRITTEN, Point.SETTLE_ACKNOWLEDGEMENT_LOST, Point.SETTLE_COMMITTED),
}
"""After these: inside the transaction, after its commit but before that is known here, and after it is known."""

CHUNKS_BEFORE_PARTLY_SENT = 3

Function = Callable[..., Any]


def perform(orders: Orders) -> None:
    """One tick, and what befalls it."""
    child = Child(orders)
    with pytest.MonkeyPatch.context() as patch:
        child.wrap(patch)
        child.run()


class Child:
    """The tick's process: its orders, its report, and what the wraps have to know of one another."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._report = os.open(orders.report, os.O_WRONLY | os.O_APPEND)
        self._has_happened = False
        self._away_seconds = 0
        self._backends: list[int] = []
        self._written: tuple[Point | None, Point | None] = (None, None)
        self._engine = make_tick_engine(orders.database_url)

    def run(self) -> None:
        event.listen(self._engine, "connect", self._note_backend)
        try:
            if self._orders.manual is not None:
                self._make_manual_run(self._orders.manual)
                return
            summary = run_tick(self._engine, LOOPBACK, self._orders.limits, kind=self._orders.kind)
        except Unavailable as error:
            self._tell("unavailable", str(error))
        except BaseException as error:
            self._tell("crashed", repr(error))
            raise
        else:
            self._tell("returned", asdict(summary))

    def _make_manual_run(self, manual: Manual) -> None:
        """As the API does for a request, on the connections of this process."""

        def begin(connection: Connection, run_id: UUID) -> Claimed:
            if manual.task_id is not None:
                return db.manual_runs.begin_run(
                    connection,
                    run_id=run_id,
                    task_id=manual.task_id,
                    per_destination=64,
                    rates=self._orders.limits.rates,
                )
            assert manual.log_id is not None
            return db.manual_runs.begin_retry(
                connection,
                run_id=run_id,
                log_id=manual.log_id,
                per_destination=64,
                rates=self._orders.limits.rates,
            )

        begin = self._writing(begin, *WRITES["claim_slots"])
        once = RunOnce(key=manual.key, fingerprint=f"{manual.task_id} {manual.log_id}")
        functions.manual_runs.attempt(
            self._engine,
            LOOPBACK,
            lambda connection: functions.manual_runs.begin_once(begin, once, connection),
        )

    def wrap(self, patch: pytest.MonkeyPatch) -> None:
        """Let the tick of this process come by the points."""
        deliveries = vars(Deliveries)
        for module in (functions.ticking, functions.claiming):
            for name in WRITES.keys() & vars(module).keys():
                patch.setattr(module, name, self._writing(vars(module)[name], *WRITES[name]))
            patch.setattr(module, "transaction", self._transaction(vars(module)["transaction"]))
        for module, name, point in (
            (db.slot_claims, "open_places", Point.CLAIM_LOCKED),
            (db.manual_runs, "lock_places", Point.CLAIM_LOCKED),
            (db.run_claims, "open_places", Point.RETRY_LOCKED),
            (db.settle, "settle_batch", Point.BEFORE_SETTLE),
            (db.settle, "cancel_with_deactivation", Point.BEFORE_CANCELLING),
        ):
            patch.setattr(module, name, self._after(point, vars(module)[name]))
        patch.setattr(self._engine.dialect, "do_commit", self._commit(self._engine.dialect.do_commit))
        patch.setattr(Tick, "deliver", self._deliver(Tick.deliver))
        patch.setattr(Deliveries, "start", self._start(deliveries["start"]))
        patch.setattr(Deliveries, "wait", self._wait(deliveries["wait"]))
        patch.setattr(Deliveries, "_drive", self._drive(deliveries["_drive"]))
        patch.setattr(Transfer, "prepare", self._prepare(Transfer.prepare))
        patch.setattr(Transfer, "_read_header", self._read_header(vars(Transfer)["_read_header"]))
        monotonic = functions.transfer.monotonic
        for module in (functions.transfer, functions.delivery, functions.ticking, functions.claiming):
            patch.setattr(module, "monotonic", lambda: monotonic() + self._away_seconds)
        if self._orders.clock_ahead_seconds:
            shift_clock(patch, self._orders.clock_ahead_seconds)

    def _tell(self, kind: str, value: object) -> None:
        os.write(self._report, json.dumps((kind, value)).encode() + b"\n")

    def _at(self, point: Point | None, task_id: UUID | None = None) -> bool:
        """Let it happen, if this is the point; whether it just did."""
        orders = self._orders
        if self._has_happened or point is None or point is not orders.point:
            return False
        if task_id is not None and orders.task_id not in (None, task_id):
            return False
        self._has_happened = True
        self._tell("reached", point)
        match orders.fault:
            case Fault.KILL:
                os.kill(os.getpid(), signal.SIGKILL)
            case Fault.FREEZE:
                os.kill(os.getpid(), signal.SIGSTOP)
                self._away_seconds = AWAY_SECONDS
            case Fault.CUT:
                Context().run(self._cut)  # nothing else may go on while it waits for the database
        return True

    def _note_backend(self, connection: Any, _: object) -> None:
        cursor = connection.cursor()
        cursor.execute("SELECT pg_backend_pid()")
        self._backends.append(cursor.fetchone()[0])
        connection.rollback()

    def _cut(self) -> None:
        engine = create_engine(self._engine.url, poolclass=NullPool)
        with engine.connect() as connection:
            connection.execute(
                text("SELECT pg_terminate_backend(pid, 5000) FROM unnest(CAST(:pids AS int[])) pid"),
                {"pids": self._backends},
            )

    def _after(self, point: Point, function: Function) -> Function:
        """A function at whose call the tick has come to the point."""

        def call(*arguments: Any) -> Any:
            self._at(point)
            return function(*arguments)

        return call

    def _writing(
        self, function: Function, written: Point, lost: Point | None, committed: Point | None
    ) -> Function:
        def write(*arguments: Any, **named: Any) -> Any:
            try:
                result = function(*arguments, **named)
            except DBAPIError:
                self._tell("refused", function.__name__)
                raise
            if getattr(result, "runs", True):  # a claim of nothing is not meant
                self._written = (lost, committed)
                self._at(written)
            return result

        return write

    def _transaction(self, transaction: Function) -> Function:
        @contextmanager
        def wrapped(engine: Engine) -> Iterator[Connection]:
            self._written = (None, None)
            with transaction(engine) as connection:
                yield connection
            self._at(self._written[1])

        return wrapped

    def _commit(self, commit: Function) -> Function:
        def wrapped(connection: Any) -> None:
            commit(connection)
            if self._at(self._written[0]) and self._orders.fault is Fault.CUT:
                raise self._engine.dialect.loaded_dbapi.InterfaceError("network error")

        return wrapped

    def _deliver(self, deliver: Function) -> Function:
        def wrapped(tick: Any) -> None:
            if not (tick._deliveries.in_flight or tick._held.unrecorded) and tick.goes_on():
                self._at(Point.IN_THE_WAIT)
            deliver(tick)

        return wrapped

    def _start(self, start: Function) -> Function:
        def wrapped(deliveries: Deliveries, call: Call) -> None:
            self._at(Point.BEFORE_SEND, UUID(call.headers["X-Insignia-Task-Id"]))
            start(deliveries, call)

        return wrapped

    def _wait(self, wait: Function) -> Function:
        def wrapped(deliveries: Deliveries, timeout: float) -> Any:
            if self._engine.pool.checkedout():  # type: ignore[attr-defined]
                self._tell("held", "a connection was in use while calls were waited for")
            finished = wait(deliveries, timeout)
            if finished:
                self._at(Point.ANSWER_READ)
            return finished

        return wrapped

    def _drive(self, drive: Function) -> Function:
        def wrapped(deliveries: Any, *arguments: Any) -> Any:
            is_answered = drive(deliveries, *arguments)
            for transfer in deliveries._transfers.values():
                if transfer.is_sent and transfer.body.tell() == len(transfer.call.body):
                    self._at(Point.SENT, UUID(transfer.call.headers["X-Insignia-Task-Id"]))
            return is_answered

        return wrapped

    def _read_header(self, read_header: Function) -> Function:
        """The answer may come so fast that `_drive` has it all before it returns; but first it has begun to come."""

        def wrapped(transfer: Any, line: bytes) -> Any:
            self._at(Point.SENT, UUID(transfer.call.headers["X-Insignia-Task-Id"]))
            return read_header(transfer, line)

        return wrapped

    def _prepare(self, prepare: Function) -> Function:
        def wrapped(transfer: Any) -> None:
            transfer.body = Body(transfer.call.body, lambda: self._at(Point.PARTLY_SENT))
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(functions.transfer, "io", SimpleNamespace(BytesIO=lambda _: transfer.body))
                prepare(transfer)

        return wrapped


class Body(BytesIO):
    """The body of a call, which tells when a large one has been sent in part."""

    def __init__(self, body: bytes, partly_sent: Callable[[], object]) -> None:
        super().__init__(body)
        self._chunks = 0
        self._partly_sent = partly_sent

    def read(self, size: int | None = -1) -> bytes:
        self._chunks += 1
        if self._chunks > CHUNKS_BEFORE_PARTLY_SENT:
            self._partly_sent()
        return super().read(size)


def shift_clock(patch: pytest.MonkeyPatch, seconds: float) -> None:
    """Set the clock of this process, as far as the product can see it, ahead (or behind)."""
    real = time.time

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Shifted":
            return super().now(tz) + timedelta(seconds=seconds)

    patch.setattr(time, "time", lambda: real() + seconds)
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] in ("functions", "domain", "db") and vars(module).get("datetime") is datetime:
            patch.setattr(module, "datetime", Shifted)
