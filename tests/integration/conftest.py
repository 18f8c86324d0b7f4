"""Shorthand for tests of the engine on a real database."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from ipaddress import ip_network
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, text

from db.claiming import Room
from db.engine import make_engine, make_tick_engine, transaction
from db.manual_runs import begin_retry, begin_run
from db.paging import Page
from db.run_claims import claim_due_runs
from db.slot_claims import claim_slots
from db.task_logs import TaskLogFilter, get_task_log, list_task_logs
from db.tasks import create_task, get_task, update_task
from domain.rate import Rate, by_host, parse_rates
from domain.run import ClaimedRun, TaskLog, TaskLogOrder
from domain.summary import TickSummary
from domain.task import Task, TaskDefinition, TaskStatus
from functions.egress import Egress
from functions.limits import Limits
from functions.manual_runs import attempt
from functions.notifications import NotifySettings
from functions.ticking import run_tick
from tests.bench.filled import Filled, fill
from tests.conftest import url_of
from tests.integration.cloud_database import APP, MIGRATOR, OTHER_APP, OWNERS, Cloud
from tests.integration.notified import Person, Webhook
from tests.integration.plans import LOGS, TASKS, explain_all

LOOPBACK = Egress(allow=(ip_network("127.0.0.0/8"),))
YEARLY = "0 0 1 1 *"
"""Only the slot that a test makes due is due: the next one is far away."""


class Insignia:
    """The engine and its database, without HTTP in front."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def create(self, webhook_url: str, *, status: TaskStatus = TaskStatus.ACTIVE, **fields: Any) -> Task:
        timing = {} if "run_at" in fields else {"schedule": YEARLY}
        definition: dict[str, Any] = {"name": "A task", "max_retry": 0} | timing | fields
        with transaction(self.engine) as connection:
            return create_task(connection, TaskDefinition(webhook_url=webhook_url, **definition), status)

    def create_due(self, webhook_url: str, **fields: Any) -> Task:
        """An active task whose slot is due now."""
        task = self.create(webhook_url, **fields)
        self.make_due(task.id)
        return self.task(task.id)

    def make_due(self, *task_ids: UUID, ago: timedelta = timedelta(0)) -> None:
        """Move next runs into the past; all tasks if none is named."""
        with transaction(self.engine) as connection:
            connection.execute(
                text(
                    "UPDATE task_state"
                    " SET next_run_at = date_trunc('minute', clock_timestamp() - CAST(:ago AS interval))"
                    " WHERE status = 'active' AND (task_id = ANY (CAST(:ids AS uuid[])) OR :all)"
                ),
                {"ago": ago, "ids": list(task_ids), "all": not task_ids},
            )

    def task(self, task_id: UUID) -> Task:
        with transaction(self.engine) as connection:
            return get_task(connection, task_id)

    def logs(self, task_id: UUID | None = None) -> list[TaskLog]:
        with transaction(self.engine) as connection:
            wanted = TaskLogFilter(task_id=task_id)
            return list_task_logs(connection, wanted, TaskLogOrder.NEWEST, Page(limit=1000)).items

    def execute(self, statement: str, **values: Any) -> Any:
        with transaction(self.engine) as connection:
            return connection.execute(text(statement), values)

    def claim(self, calls: int = 10) -> list[ClaimedRun]:
        """Claim slots and deliver nothing, as a tick that dies at once."""
        with transaction(self.engine) as connection:
            return claim_slots(connection, room(calls)).runs

    def claim_due_runs(self, calls: int = 10) -> list[ClaimedRun]:
        with transaction(self.engine) as connection:
            return claim_due_runs(connection, room(calls)).runs

    def end_leases_and_waits(self) -> None:
        """What runs has lost its lease, and what waits is due."""
        self.execute(
            "UPDATE task_logs SET available_at = clock_timestamp() WHERE status IN ('running', 'retrying')"
        )

    def update(self, task_id: UUID, status: TaskStatus | None = None, **changes: Any) -> Task:
        with transaction(self.engine) as connection:
            return update_task(connection, task_id, changes, status)

    def now(self) -> datetime:
        now: datetime = self.execute("SELECT clock_timestamp()").scalar_one()
        return now

    def run(self, task_id: UUID, per_destination: int = 64, rates: str = "none") -> TaskLog:
        """A manual run up to its first attempt."""
        run_id = uuid4()
        begin = partial(
            begin_run,
            run_id=run_id,
            task_id=task_id,
            per_destination=per_destination,
            rates=rates_of(rates),
        )
        attempt(self.engine, LOOPBACK, begin)
        return self.log(run_id)

    def retry(self, log_id: UUID) -> TaskLog:
        run_id = uuid4()
        attempt(
            self.engine,
            LOOPBACK,
            partial(begin_retry, run_id=run_id, log_id=log_id, per_destination=64, rates={}),
        )
        return self.log(run_id)

    def begin_run(self, task_id: UUID) -> UUID:
        """A manual run whose process dies before its call."""
        run_id = uuid4()
        with transaction(self.engine) as connection:
            begin_run(connection, run_id=run_id, task_id=task_id, per_destination=64, rates={})
        return run_id

    def log(self, log_id: UUID) -> TaskLog:
        with transaction(self.engine) as connection:
            return get_task_log(connection, log_id)

    def tick(
        self,
        *,
        budget_seconds: float = 30,
        concurrency: int = 256,
        per_destination: int = 64,
        rates: str = "none",
        egress: Egress = LOOPBACK,
        notify: NotifySettings | None = None,
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> TickSummary:
        limits = Limits(
            budget_seconds=budget_seconds,
            concurrency=concurrency,
            per_destination=per_destination,
            rates=rates_of(rates),
        )
        return run_tick(self.engine, egress, limits, notify=notify, is_stopping=is_stopping)


def rates_of(text: str) -> dict[str, Rate]:
    return by_host(parse_rates(text))


def room(calls: int, per_destination: int = 64) -> Room:
    return Room(
        calls=calls,
        per_destination=per_destination,
        in_flight=Counter(),
        payload_bytes=2**25,
        max_timeout_seconds=45,
    )


@pytest.fixture
def insignia(engine: Engine) -> Insignia:
    return Insignia(engine)


@pytest.fixture
def person(insignia: Insignia) -> Iterator[Person]:
    with Person(insignia) as person:
        yield person


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with Webhook() as webhook:
        yield webhook


def assert_adds_up(summary: TickSummary) -> None:
    """Invariant I5 of docs/guarantees.md."""
    assert summary.started == (
        summary.succeeded
        + summary.failed
        + summary.retrying
        + summary.throttled
        + summary.cancelled
        + summary.late
        + summary.unsettled
    )


@pytest.fixture
def cloud(admin: Engine) -> Iterator[Cloud]:
    with admin.connect() as connection:
        for user in (OWNERS, MIGRATOR, APP, OTHER_APP):
            connection.execute(text(f'CREATE ROLE "{user}" LOGIN NOSUPERUSER'))
        connection.execute(text(f'GRANT {OWNERS} TO "{MIGRATOR}"'))
        connection.execute(text(f"CREATE DATABASE cloud OWNER {OWNERS}"))
    yield Cloud(url_of(admin.url.render_as_string(hide_password=False), "cloud"))
    with admin.connect() as connection:
        connection.execute(text("DROP DATABASE cloud WITH (FORCE)"))
        for user in (MIGRATOR, APP, OTHER_APP, OWNERS):
            connection.execute(text(f'DROP ROLE "{user}"'))


@pytest.fixture(scope="session")
def filled(admin: Engine) -> Iterator[Filled]:
    """For the tests of plans, which leave it as large as it is."""
    with admin.connect() as connection:
        connection.execute(text("CREATE DATABASE plans"))
        made = fill(url_of(admin.url.render_as_string(hide_password=False), "plans"), tasks=TASKS, logs=LOGS)
        made.engine.dispose()
        explain_all(connection, "plans")
    engine = make_engine(made.engine.url.render_as_string(hide_password=False))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
        # as when many logs changed since the last vacuum: what is only in an index cannot be counted on
        connection.execute(text("UPDATE pg_class SET relallvisible = 0 WHERE relname = 'task_logs'"))
    yield replace(made, engine=engine)
    engine.dispose()


@pytest.fixture
def ticking(filled: Filled) -> Iterator[Engine]:
    """The same database, as a tick uses it."""
    engine = make_tick_engine(filled.engine.url.render_as_string(hide_password=False))
    yield engine
    engine.dispose()
