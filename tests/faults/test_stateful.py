"""Users, ticks, receivers, faults and the clock in any order: nothing may contradict the model.

A failure tells its story: the shortest list of steps that hypothesis finds, and for each task that went wrong
what was done when (in simulated time), the calls that were received, and the rows.
"""

import gc
import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Engine, text

from domain.task import TaskStatus
from tests.conftest import TEMPLATE, url_of
from tests.faults.behaviour import Behaviour
from tests.faults.mischief import AFTER_COMMITS, Mischief, Point, kill, lose_acknowledgement, wrap_ticks
from tests.faults.model import Definition, Task
from tests.faults.simulated_clock import install_simulated_clock
from tests.faults.timetable import CRONS, EVERY_MINUTE, Timetable, Timing
from tests.faults.world import World

STARTS = (
    datetime(2027, 3, 27, 23, 30, tzinfo=UTC),  # at 01:00 the clocks of Berlin go forward
    datetime(2026, 10, 24, 23, 30, tzinfo=UTC),  # at 01:00 they go back
    datetime(2027, 4, 3, 14, 30, tzinfo=UTC),  # at 15:00 those of Lord Howe go back by 30 minutes
)
MOST_TASKS = 4

timings = st.one_of(
    st.just(Timing(cron=EVERY_MINUTE)),
    st.builds(Timing, cron=st.sampled_from(CRONS)),
    st.builds(
        Timing,
        cron=st.just(EVERY_MINUTE),
        start_in=st.sampled_from([None, 2]),
        end_in=st.sampled_from([4, 60]),
    ),
    st.builds(Timing, run_in=st.sampled_from([1, 2, 5, 180])),
)
policies = st.fixed_dictionaries(
    {
        "receiver": st.integers(0, 1),
        "misfire_policy": st.sampled_from(["run_once", "run_once", "skip", "run_all"]),
        "catchup_window_seconds": st.sampled_from([86_400, 3_600, 600]),
        "overlap_policy": st.sampled_from(["skip", "skip", "allow"]),
        "max_retry": st.integers(0, 2),
        "deactivate_after": st.sampled_from([2, 1, 0]),
    }
)
behaviours = st.one_of(
    st.just(("answers 200", None)),
    st.tuples(st.sampled_from(["fails", "hangs up", "throttles", "is slow", "is silent"]), st.integers(1, 3)),
    st.sampled_from([("fails", None), ("is busy", None), ("is gone", 1)]),
)
tasks = st.integers(0, MOST_TASKS - 1)
waits = st.sampled_from([True, True, True, False])
points = st.sampled_from(Point)
mischiefs = st.one_of(
    st.tuples(st.just("is killed"), points, st.sampled_from([1, 1, 2])),
    st.tuples(st.just("is frozen"), points, st.just(1)),
    st.tuples(st.just("loses its connections"), points, st.sampled_from([1, 1, 2])),
    st.tuples(st.just("loses an acknowledgement"), st.sampled_from(AFTER_COMMITS), st.just(1)),
    st.tuples(st.just("meets a crash of the database"), points, st.just(1)),
)


class Life(RuleBasedStateMachine):
    """Each rule is something that may happen; World looks at everything after each."""

    world: ClassVar[World]

    @initialize(
        start=st.sampled_from(STARTS),
        first=st.lists(st.tuples(timings, policies, behaviours), min_size=2, max_size=MOST_TASKS),
    )
    def begin(
        self, start: datetime, first: list[tuple[Timing, dict[str, Any], tuple[str, int | None]]]
    ) -> None:
        self.world.begin(start)
        for timing, policies, behaviour in first:
            self.create(timing, policies, behaviour)

    def teardown(self) -> None:
        if not self.world.has_failed:
            self.world.get_well()
        self.world.end()

    # Users

    @precondition(lambda self: len(self.world.living) < MOST_TASKS)
    @rule(timing=timings, policies=policies, behaviour=behaviours)
    def create(self, timing: Timing, policies: dict[str, Any], behaviour: tuple[str, int | None]) -> None:
        definition = Definition(timetable=timing.from_now(self.world.now), **policies)
        self.world.create(definition, Behaviour(*behaviour))

    @precondition(lambda self: self.world.living)
    @rule(number=tasks, timing=timings)
    def reschedule(self, number: int, timing: Timing) -> None:
        task = self.task(number)
        self.world.change(task, replace(task.definition, timetable=timing.from_now(self.world.now)))

    @precondition(lambda self: self.world.living)
    @rule(number=tasks, policies=policies)
    def edit(self, number: int, policies: dict[str, Any]) -> None:
        task = self.task(number)
        self.world.change(task, replace(task.definition, **policies))

    @precondition(lambda self: self.world.living)
    @rule(number=tasks, status=st.sampled_from([TaskStatus.ACTIVE, TaskStatus.ACTIVE, TaskStatus.INACTIVE]))
    def pause_or_resume(self, number: int, status: TaskStatus) -> None:
        self.world.change(self.task(number), status=status)

    @precondition(lambda self: len(self.world.living) > 1)
    @rule(number=tasks)
    def delete(self, number: int) -> None:
        self.world.delete(self.task(number))

    # Ticks, most of them when something has just become due

    @rule(waits=waits)
    def tick(self, waits: bool) -> None:
        self.wait(waits)
        self.world.tick()

    @rule(waits=waits, mischief=mischiefs)
    def tick_with(self, waits: bool, mischief: tuple[str, Point, int]) -> None:
        self.wait(waits)
        self.world.tick_with(self.mischief(*mischief))

    @rule(waits=waits, mischief=st.none() | mischiefs.filter(lambda one: one[0] != "is frozen"))
    def ticks_at_once(self, waits: bool, mischief: tuple[str, Point, int] | None) -> None:
        self.wait(waits)
        self.world.ticks_at_once([None, self.mischief(*mischief) if mischief else None])

    @precondition(lambda self: self.world.living)
    @rule(
        waits=waits,
        number=tasks,
        status=st.sampled_from([TaskStatus.INACTIVE, TaskStatus.ACTIVE, None]),
        timetable=st.sampled_from([None, Timetable(cron=EVERY_MINUTE)]),
    )
    def tick_while_a_user_acts(
        self, waits: bool, number: int, status: TaskStatus | None, timetable: Timetable | None
    ) -> None:
        """With neither a status nor a timetable, the user deletes the task."""
        self.wait(waits)
        self.world.tick_while_changing(self.task(number), status, timetable)

    # The world

    @precondition(lambda self: self.world.living)
    @rule(number=tasks, behaviour=behaviours)
    def receiver(self, number: int, behaviour: tuple[str, int | None]) -> None:
        self.world.let_receiver(self.task(number), Behaviour(*behaviour))

    @rule(minutes=st.sampled_from([1, 3, 10, 30, 60, 180, 25 * 60]))
    def time_passes(self, minutes: int) -> None:
        self.world.step_clock(timedelta(minutes=minutes))

    @rule(seconds=st.sampled_from([30, 60, 90]))
    def clock_steps_back(self, seconds: int) -> None:
        self.world.step_clock(timedelta(seconds=-seconds))

    @rule(is_crash=st.booleans())
    def database_goes_away(self, is_crash: bool) -> None:
        if is_crash:
            self.world.crash_database()
        else:
            self.world.cut_connections()

    # What the rules have in common

    def task(self, number: int) -> Task:
        return self.world.living[number % len(self.world.living)]

    def wait(self, waits: bool) -> None:
        if waits:
            self.world.wait_until_due()

    def mischief(self, text: str, point: Point, time: int) -> Mischief:
        effects = {
            "is killed": kill,
            "is frozen": self.world.let_another_tick_run,
            "loses its connections": self.world.cut_connections,
            "loses an acknowledgement": lose_acknowledgement,
            "meets a crash of the database": self.world.crash_database,
        }
        return Mischief(text, point, effects[text], time)


@pytest.fixture
def world(
    admin: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[World]:
    """A world of its own; what it commits survives a crash of the database."""
    caplog.set_level(logging.CRITICAL, "sqlalchemy.pool")  # it tells of each connection that is lost
    database = "stateful"
    url = url_of(admin.url.render_as_string(hide_password=False), database)
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {database} TEMPLATE {TEMPLATE}"))
        connection.execute(text(f"ALTER DATABASE {database} SET synchronous_commit = on"))
    install_simulated_clock(admin, url)
    wrap_ticks(monkeypatch)
    world = World(url)
    yield world
    world.close()
    gc.collect()
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {database} WITH (FORCE)"))


@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # pg8000 does not close what the server has closed
def test_nothing_that_happens_breaks_a_promise(
    world: World, monkeypatch: pytest.MonkeyPatch, is_full: bool
) -> None:
    """Invariants I1 to I5 of docs/guarantees.md, after every step of every example."""
    monkeypatch.setattr(Life, "world", world, raising=False)
    try:
        run_state_machine_as_test(
            Life,
            settings=settings(
                max_examples=300 if is_full else 16,
                stateful_step_count=40 if is_full else 25,
                derandomize=not is_full,
                suppress_health_check=list(HealthCheck),
            ),
        )
    except Flaky as error:  # threads are not repeatable; what went wrong first is what matters
        raise error from world.first_failure
