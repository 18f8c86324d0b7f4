"""Hours of operation in minutes: ticks on a stepped clock, receivers that are ill at random, deploys that kill.

    python -m tests.faults.simulation [--hours 24] [--tasks 1000]

At the end every slot is accounted for (I1 to I5 of docs/guarantees.md), and a table tells what came of them.
"""

import argparse
import logging
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from itertools import count, islice
from pathlib import Path
from uuid import UUID

from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from db.backlog import read_backlog
from db.embedded import EmbeddedPostgres
from db.engine import Engine, make_engine, transaction
from db.migrations import upgrade
from db.tasks import create_task, timing_of
from domain.summary import TickSummary
from domain.task import OverlapPolicy, TaskDefinition, TaskStatus
from functions.egress import Egress
from functions.limits import Limits
from functions.ticking import run_tick
from tests.conftest import NOT_DURABLE, url_of
from tests.faults.durable_receiver import Call, DurableReceiver, call_of
from tests.faults.invariants import LIVE, Due, assert_invariants, gather
from tests.faults.simulated_clock import SimulatedClock, install_simulated_clock
from tests.faults.tick_process import Orders, Point, TickProcess

BEGIN = datetime(2027, 3, 27, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
LOOPBACK = Egress(allow=(ip_network("127.0.0.0/8"),))
LIMITS = Limits(budget_seconds=3.9, concurrency=256, per_destination=64)
"""Time for calls of a second and for no retry: time leaps, and nobody waits for it."""

DESTINATIONS = 20
ILL_PER_MILLE = 15
BROKEN_SHARE = 50
"""One task of so many has a receiver that always fails, and is deactivated."""

KILL_EVERY, STOP_EVERY, STOPPED = 11, 240, range(12, 19)
"""In minutes: how often a deploy kills a tick, and when, again and again, there is no tick at all."""

KILLED_AT = (
    Point.CLAIM_LOCKED,
    Point.CLAIM_WRITTEN,
    Point.CLAIM_COMMITTED,
    Point.BEFORE_SEND,
    Point.SENT,
    Point.ANSWER_READ,
    Point.BEFORE_SETTLE,
    Point.SETTLE_WRITTEN,
    Point.SETTLE_COMMITTED,
)
"""Points that every tick with work comes to."""

MAX_TICKS_AT_ONCE = 20
TASKS_JUDGED_AT_ONCE = 50
SECONDS_TO_END = 8
TRIES_TO_END = 6

COUNTS = text("""
SELECT status, count(*) AS rows, sum(coalesce(missed_count, 1)) AS slots, sum(jsonb_array_length(attempts)) AS calls
FROM task_logs GROUP BY status ORDER BY slots DESC
""")
SIZES = text("""
SELECT relname AS name, pg_total_relation_size(oid) AS bytes FROM pg_class
WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY bytes DESC
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is simulated; the seed says when deploys kill, and where."""

    minutes: int
    tasks: int
    seed: int = 1


@dataclass(slots=True)
class Simulation:
    """One run of it; what is told goes to `tell`, a line at a time."""

    size: Size
    database_url: str
    directory: Path
    receiver: DurableReceiver
    tell: Callable[[str], None]
    kills: int = 0
    due: dict[UUID, Due] = field(default_factory=dict)
    summaries: list[TickSummary] = field(default_factory=list)

    def run(self) -> None:
        """Simulate, let everything end, judge it and tell what came of it; raises AssertionError for a fault."""
        clock = SimulatedClock(self.database_url)
        engine = make_engine(self.database_url, pool_size=2, socket_timeout_seconds=5)
        chance, numbers, began_at = random.Random(self.size.seed), count(1), time.monotonic()
        try:
            clock.set(BEGIN)
            self._create(engine)
            for minute in range(1, self.size.minutes + 1):
                clock.set(BEGIN + minute * MINUTE)
                if minute % STOP_EVERY in STOPPED:
                    continue
                if minute % KILL_EVERY == 0:
                    self._kill(chance.choice(KILLED_AT), next(numbers))
                self._tick(engine)
                if minute % 30 == 0:
                    slots = minute * self.size.tasks
                    self.tell(
                        f"{minute // 60:3}:{minute % 60:02} h  {slots:>9,} slots  {time.monotonic() - began_at:6.0f} s"
                    )
            self._end(engine, clock)
            self.tell("Every slot is looked for ...")
            self.judge(engine)
            self._report(engine, time.monotonic() - began_at)
        finally:
            engine.dispose()
            clock.close()

    def _create(self, engine: Engine) -> None:
        with transaction(engine) as connection:
            for number in range(self.size.tasks):
                task = create_task(connection, self._definition(number), TaskStatus.ACTIVE)
                assert task.next_run_at is not None
                self.due[task.id] = Due(timing_of(task.definition), task.next_run_at)

    def _definition(self, number: int) -> TaskDefinition:
        is_broken = number % BROKEN_SHARE == 7
        url = self.receiver.urls[number % len(self.receiver.urls)]
        return TaskDefinition(
            name=f"Task {number}",
            schedule="* * * * *",
            webhook_url=f"{url}{'/fail' if is_broken else f'/random/{ILL_PER_MILLE}'}",
            timeout_seconds=1,
            deactivate_after=3 if is_broken else 0,
            overlap_policy=OverlapPolicy.ALLOW if number % 2 else OverlapPolicy.SKIP,
        )

    def _tick(self, engine: Engine) -> None:
        """Ticks until nothing is left for now: what one of them has no time for is due for the next."""
        for _ in range(MAX_TICKS_AT_ONCE):
            self.summaries.append(run_tick(engine, LOOPBACK, LIMITS))
            if not self.summaries[-1].started or not self.summaries[-1].remaining:
                return

    def _kill(self, point: Point, number: int) -> None:
        tick = TickProcess(
            Orders(
                database_url=self.database_url,
                report=self.directory / f"tick-{number}",
                limits=LIMITS,
                point=point,
            )
        )
        tick.wait_until_killed()
        self.kills += 1

    def _end(self, engine: Engine, clock: SimulatedClock) -> None:
        """Before the next slot: leases end, retries are made."""
        for _ in range(TRIES_TO_END):
            with transaction(engine) as connection:
                live = connection.execute(
                    text("SELECT count(*) FROM task_logs WHERE status = ANY (:live)"), {"live": list(LIVE)}
                ).scalar_one()
                if not live and not read_backlog(connection).due:
                    return
            clock.step(timedelta(seconds=SECONDS_TO_END))
            self._tick(engine)

    def judge(self, engine: Engine) -> None:
        """I1 to I3 and I5, for some tasks at a time: all rows at once need gigabytes."""
        all_ids = iter(self.due)
        while task_ids := list(islice(all_ids, TASKS_JUDGED_AT_ONCE)):
            assert_invariants(
                gather(engine, list(self._calls_of(set(task_ids))), task_ids),
                {task_id: [self.due[task_id]] for task_id in task_ids},
                self.summaries,
                held=(),
                has_recovered=True,
                may_repeat=True,
            )

    def _calls_of(self, task_ids: set[UUID]) -> Iterator[Call]:
        wanted = {str(task_id).encode() for task_id in task_ids}
        with self.receiver.record.open("rb") as lines:
            for line in lines:
                if line.split(b'"', 2)[1] in wanted:
                    yield call_of(line)

    def _report(self, engine: Engine, seconds: float) -> None:
        with engine.connect() as connection:
            counts = connection.execute(COUNTS).all()
            sizes = connection.execute(SIZES).all()
        slots = sum(int(row.slots) for row in counts)
        self.tell(f"\n{'what came of them':20} {'slots':>10} {'rows':>10} {'attempts':>10}")
        for row in counts:
            self.tell(f"{row.status:20} {int(row.slots):10,} {row.rows:10,} {row.calls:10,}")
        self.tell(f"{'together':20} {slots:10,}\n")
        self.tell(f"{len(self.summaries):,} ticks, {self.kills} more were killed; {seconds:,.0f} s")
        biggest = ", ".join(f"{row.name} {row.bytes / 2**20:,.0f}" for row in sizes[:3])
        self.tell(f"{sum(row.bytes for row in sizes) / 2**20:,.0f} MiB: {biggest}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="make simulate", description="Simulate hours of operation.")
    parser.add_argument("--hours", type=float, default=24)
    parser.add_argument("--tasks", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # it tells of each attempt that fails
    size = Size(minutes=round(options.hours * 60), tasks=options.tasks, seed=options.seed)
    with (
        tempfile.TemporaryDirectory(prefix="insignia-simulation-") as directory,
        EmbeddedPostgres(Path(directory), settings=NOT_DURABLE) as cluster_url,
        DurableReceiver(Path(directory), DESTINATIONS) as receiver,
    ):
        admin = create_engine(cluster_url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
        with admin.connect() as connection:
            connection.execute(text("CREATE DATABASE simulation"))
        url = url_of(cluster_url, "simulation")
        upgrade(url)
        install_simulated_clock(admin, url)
        Simulation(size, url, Path(directory), receiver, tell=lambda line: print(line, flush=True)).run()


if __name__ == "__main__":
    main()
