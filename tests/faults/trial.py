"""A trial: tasks that are due, ticks to which something happens, later ticks until nothing is due, the invariants."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import Engine

from db.backlog import read_backlog
from db.child_process import wait_until
from db.engine import transaction
from db.tasks import timing_of
from domain.rate import Rate
from domain.slots import INSTANT
from domain.summary import TickKind, TickSummary
from domain.task import Task
from functions.limits import Limits
from tests.copies import copy_task
from tests.faults.durable_receiver import DurableReceiver
from tests.faults.invariants import Due, assert_invariants, gather
from tests.faults.tick_process import Fault, Manual, Orders, Point, TickProcess
from tests.integration.conftest import Insignia

TIMEOUT_SECONDS = 5
SHORT_BUDGET_SECONDS = TIMEOUT_SECONDS + 2 + 0.9
"""Too short for a tick to wait for a retry after one of its own calls: the next tick has to do that."""

MAX_RECOVERY_TICKS = 20


class Trial:
    """The engine of a test, its receiver and its ticks, each in processes of their own."""

    def __init__(self, engine: Engine, receiver: DurableReceiver, directory: Path) -> None:
        self.insignia = Insignia(engine)
        self.receiver = receiver
        self.due: dict[UUID, list[Due]] = {}
        self.rates: Mapping[str, Rate] = {}
        self._engine = engine
        self._directory = directory
        self._numbers = count(1)
        self._ticks: list[TickProcess] = []

    def create(self, path: str = "/ok", *, destination: int = 0, **fields: Any) -> Task:
        definition = {"timeout_seconds": TIMEOUT_SECONDS, "max_retry": 2} | fields
        return self.insignia.create(self.receiver.urls[destination] + path, **definition)

    def create_due(
        self, path: str = "/ok", *, destination: int = 0, ago: timedelta = timedelta(0), **fields: Any
    ) -> Task:
        return self.make_due(self.create(path, destination=destination, **fields), ago=ago)

    def make_due(self, task: Task, *, ago: timedelta = timedelta(0)) -> Task:
        """The task with a slot that is due; what it accounts for begins there."""
        self.insignia.make_due(task.id, ago=ago)
        task = self.insignia.task(task.id)
        assert task.next_run_at is not None
        self.due.setdefault(task.id, []).append(Due(timing_of(task.definition), task.next_run_at))
        return task

    def create_many_due(self, number: int, path: str = "/ok", **options: Any) -> list[UUID]:
        """Copies of one due task, made in the database."""
        task = self.create_due(path, **options)
        with transaction(self._engine) as connection:
            copies = copy_task(connection, task.id, number - 1)
        ids = [task.id, *copies]
        self.due |= dict.fromkeys(ids, self.due[task.id])
        return ids

    def end_slots(self, task: Task) -> None:
        """A user's change of its timing or status: its slots that were due end there, recorded as cancelled."""
        (due,) = self.due[task.id]
        self.due[task.id] = [replace(due, until=task.updated_at + INSTANT)]

    def start_tick(
        self,
        point: Point | None = None,
        fault: Fault = Fault.KILL,
        *,
        kind: TickKind = TickKind.TICK,
        task_id: UUID | None = None,
        budget_seconds: float = 50,
        concurrency: int = 256,
        per_destination: int = 64,
        clock_ahead: timedelta = timedelta(0),
        manual: Manual | None = None,
    ) -> TickProcess:
        """A tick (or a worker) in a process of its own, or a manual run."""
        tick = TickProcess(
            Orders(
                database_url=self._engine.url.render_as_string(hide_password=False),
                report=self._directory / f"tick-{next(self._numbers)}",
                limits=Limits(
                    budget_seconds=budget_seconds,
                    concurrency=concurrency,
                    per_destination=per_destination,
                    rates=self.rates,
                ),
                kind=kind,
                point=point,
                fault=fault,
                task_id=task_id,
                clock_ahead_seconds=clock_ahead.total_seconds(),
                manual=manual,
            )
        )
        self._ticks.append(tick)
        return tick

    def tick(self, *, budget_seconds: float = SHORT_BUDGET_SECONDS, **options: Any) -> TickSummary:
        """A tick to which nothing happens."""
        summary = self.start_tick(budget_seconds=budget_seconds, **options).wait_until_returned()
        assert summary is not None, "the tick was Unavailable, and nothing was wrong with the database"
        return summary

    def recover(self, *, budget_seconds: float = SHORT_BUDGET_SECONDS) -> None:
        """Later ticks, until nothing is due; whoever died has lost its leases."""
        for _ in range(MAX_RECOVERY_TICKS):
            self.insignia.end_leases_and_waits()
            with transaction(self._engine) as connection:
                if not read_backlog(connection).due:
                    return
            self.tick(budget_seconds=budget_seconds)
        raise AssertionError(f"something is still due after {MAX_RECOVERY_TICKS} ticks")

    def assert_calls_are_recorded(self) -> None:
        """What must hold at any moment, here right after a fault."""
        self._assert_invariants(has_recovered=False, may_repeat=True, may_repeat_retries=True)

    def assert_invariants(self, *, may_repeat: bool, may_repeat_retries: bool = False) -> None:
        self._assert_invariants(
            has_recovered=True, may_repeat=may_repeat, may_repeat_retries=may_repeat_retries
        )

    def _assert_invariants(self, *, has_recovered: bool, may_repeat: bool, may_repeat_retries: bool) -> None:
        calls = self.receiver.calls()  # before the rows: what is received then is recorded by now
        assert_invariants(
            gather(self._engine, calls),
            self.due,
            [tick.summary for tick in self._ticks if tick.summary],
            [sentence for tick in self._ticks for sentence in tick.told("held")],
            has_recovered=has_recovered,
            may_repeat=may_repeat,
            may_repeat_retries=may_repeat_retries,
        )

    def end_idle_transactions(self) -> None:
        """What PostgreSQL does after idle_in_transaction_session_timeout, also to those that are not idle yet.

        And what it does after tcp_user_timeout where connections are by TCP, unlike these: end one whose frozen process
        has read only a part of a long answer.
        """

        def end_them() -> bool:
            self.insignia.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE datname = current_database()"
                " AND (state LIKE 'idle in transaction%' OR wait_event = 'ClientWrite')"
            )
            return self.open_transactions() == 0

        self.until(end_them, "no transaction is open")

    def terminate_connections(self) -> None:
        """All but this one."""
        self.insignia.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    def open_transactions(self) -> int:
        """Of ticks, at this moment; this one is not counted."""
        count: int = self.insignia.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND xact_start IS NOT NULL AND pid <> pg_backend_pid()"
        ).scalar_one()
        return count

    def until(self, condition: Callable[[], bool], what: str, seconds: float = 20) -> None:
        assert wait_until(condition, seconds), f"not within {seconds} s: {what}"

    def statuses(self, task_ids: Sequence[UUID] = ()) -> list[str]:
        wanted = set(task_ids)
        return [log.status for log in self.insignia.logs() if not wanted or log.task_id in wanted]

    def now(self) -> datetime:
        return self.insignia.now()

    def close(self) -> None:
        for tick in self._ticks:
            tick.kill()
