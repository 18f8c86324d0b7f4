"""Insignia as a user and its receivers see it, with a clock that can be set: what the stateful test plays with."""

import math
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from functools import partial
from ipaddress import ip_network
from typing import Any
from uuid import UUID

from sqlalchemy.exc import DBAPIError

import db.tasks
from db.engine import Engine, make_engine, make_tick_engine, transaction
from domain.errors import InvalidInput, Unavailable
from domain.summary import TickSummary
from domain.task import MisfirePolicy, OverlapPolicy, TaskDefinition, TaskStatus
from functions.egress import Egress
from functions.limits import Limits
from functions.ticking import run_tick
from tests.faults.behaviour import Behaviour
from tests.faults.findings import LIVE, deleted_faults, look, summary_faults
from tests.faults.mischief import Killed, Mischief, performed
from tests.faults.model import Call, Definition, Row, State, Task
from tests.faults.rows import READ_ROWS, READ_STATES, claimed_to, found, read, read_clock
from tests.faults.simulated_clock import Observer, SimulatedClock
from tests.faults.story import Story
from tests.faults.timetable import Timetable
from tests.receiver import Answer, Received, Receiver

LOOPBACK = Egress(allow=(ip_network("127.0.0.0/8"),))
LIMITS = Limits(budget_seconds=3.9, concurrency=64, per_destination=8)
"""Time for calls of a second and for no retry: those are left to later ticks."""

RECEIVERS = 2
RECOVERY_STEP = timedelta(seconds=40)
BETWEEN_MINUTES = (5, 25, 45)
"""Actions begin at these seconds, so that none of them runs into a slot; in between, time leaps."""

EMPTY = (
    "TRUNCATE tasks, task_state, task_logs, ticks, throttled_destinations, destination_limits, deleted_tasks"
)
READ_NEXT = """
SELECT least(
    (SELECT min(next_run_at) FROM task_state WHERE next_run_at > clock_timestamp()),
    (SELECT min(available_at) FROM task_logs WHERE available_at > clock_timestamp())) AS due
"""
END_OTHER_CONNECTIONS = (
    "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity"
    " WHERE datname = current_database() AND application_name = 'insignia'"
)


class World:
    """One database with a simulated clock, two receivers, and the model of what is in them."""

    def __init__(self, database_url: str) -> None:
        self.first_failure: BaseException | None = None
        self._url = database_url
        self.clock = SimulatedClock(database_url)
        self._users = make_engine(database_url)
        self._observer = Observer(database_url)
        self._receivers = [Receiver(self._answer) for _ in range(RECEIVERS)]
        for receiver in self._receivers:
            receiver.__enter__()

    def close(self) -> None:
        for receiver in self._receivers:
            receiver.__exit__()
        self.clock.close()
        self._users.dispose()
        self._observer.close()

    def begin(self, at: datetime) -> None:
        """An empty database, at the given time."""
        self.tasks: list[Task] = []
        self._behaviours: dict[UUID, Behaviour] = {}
        self._calls: list[Call] = []
        self.has_failed = False
        self._during_call: Callable[[], None] | None = None
        self._surprises: list[BaseException] = []
        self._findings: list[str] = []
        self._story = Story()
        self._ticker = self._tick_engine()
        self._observer.read(EMPTY)
        self.clock.set(at)
        self.now = self.latest = at

    def end(self) -> None:
        self._ticker.dispose()

    @property
    def living(self) -> list[Task]:
        return [task for task in self.tasks if not task.deleted_at]

    # What may happen

    def create(self, definition: Definition, behaviour: Behaviour) -> None:
        with self._step():
            task = Task(len(self.tasks) + 1, {1: definition})
            is_refused = definition.timetable.next(self.now) is None
            wanted = TaskDefinition(name=f"Task {task.number}", timeout_seconds=1, **self._fields(definition))
            with self._refusal(is_refused), transaction(self._users) as connection:
                task.id = db.tasks.create_task(connection, wanted, TaskStatus.ACTIVE).id
                task.open_epoch(self.now)
                self.tasks.append(task)
                self._behaviours[task.id] = behaviour
                self._tell(f"created: its receiver {behaviour}", task)

    def change(
        self, task: Task, definition: Definition | None = None, status: TaskStatus | None = None
    ) -> None:
        with self._step():
            self._change(task, definition or task.definition, status)

    def delete(self, task: Task) -> None:
        with self._step():
            self._delete(task)

    def let_receiver(self, task: Task, behaviour: Behaviour) -> None:
        self._tell(f"its receiver {behaviour} from now on", task)
        self._behaviours[task.id] = behaviour

    def tick(self) -> None:
        """A tick that nothing befalls: its summary says what it did."""
        with self._step():
            before, called = self._read()[1], len(self._calls)
            summary = self._tick(self._ticker, None)
            assert summary is not None
            after = self._read()[1]
            self._findings += summary_faults(asdict(summary), before, after, len(self._calls) - called)

    def tick_with(self, mischief: Mischief) -> None:
        with self._step():
            engine = self._tick_engine()
            self._tick(engine, mischief)
            engine.dispose()

    def tick_while_changing(self, task: Task, status: TaskStatus | None, timetable: Timetable | None) -> None:
        """A tick during whose first call a user acts; what is neither a status nor a timetable is a deletion."""
        definition = replace(task.definition, timetable=timetable or task.definition.timetable)
        with self._step():
            self._during_call = (
                partial(self._change, task, definition, status)
                if status or timetable
                else partial(self._delete, task)
            )
            self._tick(self._ticker, None)
            self._during_call = None

    def ticks_at_once(self, mischiefs: list[Mischief | None]) -> None:
        with self._step():
            engines = [self._tick_engine() for _ in mischiefs]
            with ThreadPoolExecutor(len(engines)) as pool:
                may_fail = any(mischiefs)  # what befalls one of them may befall the database
                list(pool.map(partial(self._tick, may_fail=may_fail), engines, mischiefs))
            for engine in engines:
                engine.dispose()

    def wait_until_due(self) -> None:
        """Step to the next slot or the end of the next wait or lease, whichever comes first."""
        due = self._observer.read(READ_NEXT)[0]["due"]
        if due is not None and due > self.clock.now():
            self.clock.set(due)

    def step_clock(self, by: timedelta) -> None:
        self.clock.step(by)
        self._tell(f"the clock steps by {by.total_seconds() / 60:g} min")

    def cut_connections(self) -> None:
        self._tell("all connections are ended")
        self._observer.read(END_OTHER_CONNECTIONS)

    def crash_database(self) -> None:
        """PostgreSQL ends all its processes and recovers when one of them is killed."""
        self._tell("the database crashes and starts again")
        with (
            suppress(DBAPIError, OSError),
            self._observer.connect() as victim,
            self._observer.connect() as other,
        ):
            os.kill(victim.exec_driver_sql("SELECT pg_backend_pid()").scalar_one(), signal.SIGKILL)
            while True:  # until the crash has reached the other ones
                other.exec_driver_sql("SELECT pg_sleep(0.005)")
        self._observer.read("SELECT 1")

    def let_another_tick_run(self) -> None:
        """What a frozen process finds when it goes on: its leases are over and its work is done."""
        self.step_clock(timedelta(minutes=10))
        engine = self._tick_engine()
        self._tick(engine, None)
        engine.dispose()

    def get_well(self) -> None:
        """All receivers are well again; after a few ticks nothing is under way or due (I2).

        A clock that has gone back needs as many more as it takes to come to the instants that runs wait for.
        """
        for task in self.living:
            self._behaviours[task.id] = Behaviour()
        ticks = 6 + math.ceil((self.latest - self.now) / RECOVERY_STEP)
        for _ in range(ticks):
            self.step_clock(RECOVERY_STEP)
            self.tick()
            states, rows = self._read()
            unfinished = [
                (task, f"run {row.scheduled_for:%d %H:%M:%S} is still {row.status}")
                for task in self.living
                for row in rows.get(task.id, [])
                if row.status in LIVE
            ] + [
                (task, "has a slot that is still due")
                for task in self.living
                if (next_run_at := states[task.id].next_run_at)
                and next_run_at <= self.now
                and task.definition.misfire_policy != "run_all"
            ]
            if not unfinished:
                return
        self._tell(f"all receivers are well for {ticks} ticks")
        self._fail(unfinished)

    # How it happens

    def _change(self, task: Task, definition: Definition, status: TaskStatus | None) -> None:
        old = task.definition
        fields = {
            name: value
            for name, value in self._fields(definition).items()
            if value != self._fields(old)[name]
        }
        with transaction(self._users) as connection:
            db.tasks.lock_state(connection, task.id)
            states, all_rows = read(connection)
            state, rows, now = states[task.id], all_rows.get(task.id, []), read_clock(connection)
            if task.status == "active" != state.status:  # since the tick began
                task.close_epoch(state.deactivated_at or now, claimed_to(rows))
            is_rescheduled = definition.timetable != old.timetable
            default = "active" if state.status == "completed" and is_rescheduled else state.status
            target = status or default
            is_moved = is_rescheduled or target != state.status
            after = max([now, *[slot for slot in [claimed_to(rows)] if slot]])
            is_refused = is_moved and target == "active" and definition.timetable.next(after) is None
            self._tell(f"set to {target}: {definition}{', which is refused' if is_refused else ''}", task)
            with self._refusal(is_refused):
                changed = db.tasks.update_task(connection, task.id, fields, status)
                task.was_changed = True
                task.definitions[changed.revision] = definition
                if is_moved and state.status == "active":
                    task.close_epoch(now, claimed_to(rows))
                if is_moved and target == "active":
                    task.open_epoch(now)
                task.status = target
                task.was_active |= target == "active"

    def _delete(self, task: Task) -> None:
        self._tell("deleted", task)
        with transaction(self._users) as connection:
            db.tasks.delete_task(connection, task.id)
            task.deleted_at, task.calls_before = read_clock(connection), len(self._calls_of(task))

    def _tick(
        self, engine: Engine, mischief: Mischief | None, *, may_fail: bool = False
    ) -> TickSummary | None:
        summary: TickSummary | None = None
        with performed(engine, mischief) as stage:
            try:
                summary = run_tick(engine, LOOPBACK, LIMITS)
            except (Killed, Unavailable) as error:
                if not mischief and not may_fail:
                    raise
                self._tell(f"tick: {f'{mischief}; ' if mischief else ''}it ends with {type(error).__name__}")
            if stage.held_during_calls:
                self._findings.append("a tick held a connection during a call (I4)")
        if summary:
            counts = {name: value for name, value in asdict(summary).items() if value}
            told = ", ".join(f"{name} {value}" for name, value in counts.items() if "seconds" not in name)
            befell = f"{mischief}; " if mischief and mischief.has_happened else ""
            self._tell(f"tick: {befell}{told or 'nothing'}")
        return summary

    def _answer(self, request: Received) -> Answer:
        task_id = UUID(request.headers["X-Insignia-Task-Id"])
        reply = self._behaviours[task_id].reply()
        self._calls.append(
            Call(
                task_id=task_id,
                run_id=UUID(request.headers["webhook-id"]),
                attempt=int(request.headers["X-Insignia-Attempt"]),
                claimed_at=int(request.headers["webhook-timestamp"]),
                status=reply.status,
            )
        )
        action, self._during_call = self._during_call, None
        if action:
            try:
                action()
            except BaseException as error:
                self._surprises.append(error)
        time.sleep(reply.after_seconds)
        if reply.status is None:
            raise ConnectionResetError
        return reply.status, b"", {"Retry-After": reply.retry_after} if reply.retry_after else {}

    def _tick_engine(self) -> Engine:
        return make_tick_engine(self._url)

    def _fields(self, definition: Definition) -> dict[str, Any]:
        return definition.timetable.fields() | {
            "webhook_url": self._receivers[definition.receiver].url,
            "misfire_policy": MisfirePolicy(definition.misfire_policy),
            "catchup_window_seconds": definition.catchup_window_seconds,
            "overlap_policy": OverlapPolicy(definition.overlap_policy),
            "max_retry": definition.max_retry,
            "deactivate_after": definition.deactivate_after,
        }

    # What is seen

    @contextmanager
    def _step(self) -> Iterator[None]:
        """At a time of its own; everything is looked at afterwards."""
        self.now = self.clock.now().replace(microsecond=0) + timedelta(seconds=1)
        self.latest = max(self.latest, self.now)
        while self.now.second not in BETWEEN_MINUTES:
            self.now += timedelta(seconds=1)
        self.clock.set(self.now)
        try:
            yield
            for surprise in self._surprises:
                raise surprise
            self._check()
        except BaseException as error:
            self.has_failed = True
            if not isinstance(error, AssertionError):
                error.add_note(self._stories(self.tasks))
            self.first_failure = self.first_failure or error
            raise

    def _check(self) -> None:
        """Fail with the stories of the tasks that contradict the model."""
        states, rows = self._read()
        faults: list[tuple[Task | None, str]] = [(None, finding) for finding in self._findings]
        for task in self.tasks:
            calls = self._calls_of(task)
            if task.deleted_at:
                found = deleted_faults(task, task.id in states, rows.get(task.id, []), calls)
            else:
                found = look(task, states[task.id], rows.get(task.id, []), calls)
            faults += [(task, fault) for fault in found]
        if faults:
            self._fail(faults)

    def _fail(self, faults: Sequence[tuple[Task | None, str]]) -> None:
        lines = [f"task {task.number} {fault}" if task else fault for task, fault in faults]
        wrong = {task.number: task for task, _ in faults if task}
        told = self._stories(list(wrong.values()) or self.tasks)
        raise AssertionError("\n".join([f"\n{len(lines)} faults:", *lines, told]))

    def _stories(self, tasks: Iterable[Task]) -> str:
        states, rows = self._read()
        return "\n".join(
            self._story.of(
                task,
                states.get(task.id),
                rows.get(task.id, []),
                self._calls_of(task),
            )
            for task in tasks
        )

    def _calls_of(self, task: Task) -> list[Call]:
        return [call for call in self._calls if call.task_id == task.id]

    def _tell(self, text: str, task: Task | None = None) -> None:
        self._story.tell(self.clock.now(), text, task)

    @contextmanager
    def _refusal(self, is_expected: bool) -> Iterator[None]:
        try:
            yield
        except InvalidInput as error:
            if not is_expected:
                self._findings.append(f"a task that has slots was refused: {error}")
        else:
            if is_expected:
                self._findings.append("a task that never runs was accepted")

    def _read(self) -> tuple[dict[UUID, State], dict[UUID, list[Row]]]:
        return found(self._observer.read(READ_STATES), self._observer.read(READ_ROWS))
