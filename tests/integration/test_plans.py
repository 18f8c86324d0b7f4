"""What each statement reads beside 50,000 tasks and 100,000 logs: its plan, as it was carried out.

auto_explain tells it of each statement that our code sends, within its own session, so that none is copied here, and
a plan that the server keeps is the one that is looked at. The rows are real, because the planner goes by the sizes of
files, whatever statistics say, and because a plan knows the rows it read only when it has read them. So many are made
in three seconds, and are enough: what is read for a page or a batch is hundreds of rows, and as many of 1,000,000.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import md5
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, event, make_url, text

from db.backlog import complete_tasks, seconds_until_next
from db.deleted_tasks import delete_logs_of_deleted_tasks
from db.driver import KEPT
from db.engine import Connection, make_engine, make_tick_engine, transaction
from db.health import read_work
from db.manual_runs import begin_run
from db.paging import Page
from db.places import open_places
from db.retention import remove_expired_logs
from db.run_claims import claim_due_runs
from db.slot_claims import claim_slots
from db.stats import read_hours_of_task, read_stats
from db.tables import task_logs
from db.task_logs import UNDER_WAY, UNDONE, TaskLogFilter, list_task_logs, read_recent_runs
from db.tasks import TaskFilter, create_task, delete_task, get_task, list_tasks, update_task
from domain.retention import Retention
from domain.run import RunSource, RunStatus, TaskLogOrder
from domain.task import TaskDefinition, TaskOrder, TaskStatus
from tests.bench.filled import COPY_STATES, COPY_TASKS, Filled, copies, fill
from tests.conftest import url_of
from tests.integration.conftest import Insignia, room
from tests.receiver import Receiver

TASKS, LOGS = 50_000, 100_000
BIG = {"tasks", "task_state", "task_logs"}
MOST_ROWS = 2_000
"""Read of a big table by one step of a plan: some for each row of a page (100) or of a batch."""

FIRST_COPY = UUID(md5(b"task1", usedforsecurity=False).hexdigest())
DUE, RETRIES, FAILURES = 100, 40, 5
EXPLAIN = {
    "session_preload_libraries": "auto_explain",
    "client_min_messages": "log",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_timing": "off",
    "auto_explain.log_nested_statements": "on",
    "auto_explain.log_format": "json",
}

Json = dict[str, Any]
Work = Callable[[Connection], object]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the plan of a statement that reads a big table."""

    kind: str
    table: str
    index: str | None
    rows: int
    statement: str


@pytest.fixture(scope="module")
def filled(admin: Engine) -> Iterator[Filled]:
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


def explain_all(admin: Connection, database: str) -> None:
    """In the sessions that begin from now on."""
    for name, value in EXPLAIN.items():
        admin.execute(text(f"ALTER DATABASE {database} SET {name} = '{value}'"))


@pytest.fixture
def ticking(filled: Filled) -> Iterator[Engine]:
    """The same database, as a tick uses it."""
    engine = make_tick_engine(filled.engine.url.render_as_string(hide_password=False))
    yield engine
    engine.dispose()


@contextmanager
def plans_of(engine: Engine) -> Iterator[list[Json]]:
    """The plans of what is executed meanwhile, as they come."""
    plans: list[Json] = []

    def take(connection: Connection, *_: object) -> None:
        notices = connection.connection.dbapi_connection.notices  # type: ignore[union-attr]
        while notices:
            _, is_plan, plan = notices.popleft()[b"M"].decode().partition("plan:\n")
            if is_plan:
                plans.append(json.loads(plan))

    event.listen(engine, "after_cursor_execute", take)
    yield plans
    event.remove(engine, "after_cursor_execute", take)


def steps_of(plan: Json) -> Iterator[Step]:
    def walk(node: Json) -> Iterator[Step]:
        removed = sum(rows for name, rows in node.items() if name.startswith("Rows Removed by"))
        rows = round((node["Actual Rows"] + removed) * node["Actual Loops"])
        table = node.get("Relation Name") or node.get("Index Name", "").partition("_pkey")[0]
        if node["Actual Loops"]:
            yield Step(node["Node Type"], table, node.get("Index Name"), rows, plan["Query Text"])
        for child in node.get("Plans", ()):
            yield from walk(child)

    return walk(plan["Plan"])


def steps(engine: Engine, work: Work) -> list[Step]:
    """The steps of all plans of the work, which is rolled back."""
    with plans_of(engine) as plans, engine.connect() as connection:
        work(connection)
        connection.execute(text("SELECT 1"))  # the server tells of a statement when the next one comes
    assert plans, "auto_explain tells of nothing"
    return [step for plan in plans for step in steps_of(plan)]


def wasteful(found: list[Step]) -> list[Step]:
    """The steps that read a whole table, or more rows than are needed, or sort so many."""
    return [
        step for step in found if step.rows > MOST_ROWS or (step.kind == "Seq Scan" and step.table in BIG)
    ]


def page_of_tasks(order: TaskOrder = TaskOrder.CREATED_AT, **wanted: Any) -> Work:
    page = Page(limit=100, is_by_cursor=True)

    def work(connection: Connection) -> None:
        first = list_tasks(connection, TaskFilter(**wanted), order, page)
        if first.next is not None:
            list_tasks(connection, TaskFilter(**wanted), order, replace(page, after=first.next))

    return work


def page_of_logs(order: TaskLogOrder = TaskLogOrder.NEWEST, **wanted: Any) -> Work:
    page = Page(limit=100, is_by_cursor=True)

    def work(connection: Connection) -> None:
        first = list_task_logs(connection, TaskLogFilter(**wanted), order, page)
        if first.next is not None:
            list_task_logs(connection, TaskLogFilter(**wanted), order, replace(page, after=first.next))

    return work


YESTERDAY = datetime.now(UTC) - timedelta(days=1)
PAGES_OF_TASKS = {
    **{f"order by {order}": page_of_tasks(order) for order in TaskOrder},
    **{f"status {status}": page_of_tasks(status=status) for status in TaskStatus},
    "status inactive, by name": page_of_tasks(TaskOrder.NAME, status=TaskStatus.INACTIVE),
    "tag of all": page_of_tasks(tag="often"),
    "tag of few": page_of_tasks(tag="team-7"),
    "tag of none": page_of_tasks(tag="nobody"),
    "tag of few, by name": page_of_tasks(TaskOrder.NAME, tag="team-7"),
    "search for few": page_of_tasks(search="1f0e3dad"),
    "search for many": page_of_tasks(TaskOrder.NAME, search="reminder"),
    "search for none": page_of_tasks(TaskOrder.NAME, search="holiday"),
    "since": page_of_tasks(since=YESTERDAY),
    "deactivated": page_of_tasks(is_deactivated=True),
}


@pytest.mark.parametrize("page", PAGES_OF_TASKS.values(), ids=PAGES_OF_TASKS)
def test_a_page_of_tasks_reads_little_more_than_its_rows(filled: Filled, page: Work) -> None:
    assert wasteful(steps(filled.engine, page)) == []


PAGES_OF_LOGS = {
    **{f"order by {order}": {"order": order} for order in TaskLogOrder},
    **{f"status {status}": {"status": status} for status in RunStatus},
    **{f"source {source}": {"source": source} for source in RunSource},
    "since": {"since": YESTERDAY},
}


@pytest.mark.parametrize("wanted", PAGES_OF_LOGS.values(), ids=PAGES_OF_LOGS)
def test_a_page_of_logs_reads_little_more_than_its_rows(filled: Filled, wanted: Json) -> None:
    assert wasteful(steps(filled.engine, page_of_logs(**wanted))) == []


@pytest.mark.parametrize("wanted", PAGES_OF_LOGS.values(), ids=PAGES_OF_LOGS)
@pytest.mark.parametrize("whose", ["many", "few", "no"])
def test_a_page_of_the_logs_of_a_task_with_many_few_or_no_logs_reads_little_more_than_its_rows(
    filled: Filled, wanted: Json, whose: str
) -> None:
    task_id = {
        "many": filled.talkative,
        "few": UUID(md5(b"task1", usedforsecurity=False).hexdigest()),
        "no": uuid4(),
    }[whose]
    assert wasteful(steps(filled.engine, page_of_logs(**wanted, task_id=task_id))) == []


TOTALS = {
    "tasks": (list_tasks, TaskFilter(), TaskOrder.CREATED_AT),
    "tasks by next run": (list_tasks, TaskFilter(), TaskOrder.NEXT_RUN_AT),
    "active tasks": (list_tasks, TaskFilter(status=TaskStatus.ACTIVE), TaskOrder.NEXT_RUN_AT),
    "tasks since": (list_tasks, TaskFilter(since=YESTERDAY - timedelta(days=9)), TaskOrder.NAME),
}


@pytest.mark.parametrize("total", TOTALS.values(), ids=TOTALS)
def test_what_a_total_counts_and_what_is_skipped_is_read_of_one_table_alone(
    filled: Filled, total: Any
) -> None:
    list_them, wanted, order = total
    page = Page(limit=100, skip=TASKS // 3)
    found = steps(filled.engine, lambda connection: list_them(connection, wanted, order, page))
    many = [step for step in found if step.table in BIG and step.rows > MOST_ROWS]
    assert len(many) == len({step.statement for step in many}) == 2, "the total, and what is skipped"
    assert many[-1].kind == "Index Only Scan" or wanted.since, "what is skipped is passed by in an index"


@pytest.mark.parametrize("status", [TaskStatus.INACTIVE, TaskStatus.COMPLETED])
def test_a_page_of_tasks_that_are_not_active_reads_little_for_its_total(
    filled: Filled, status: TaskStatus
) -> None:
    page = Page(limit=20, skip=10)
    wanted = TaskFilter(status=status)
    found = steps(
        filled.engine, lambda connection: list_tasks(connection, wanted, TaskOrder.CREATED_AT, page)
    )
    assert wasteful(found) == []


def test_active_tasks_are_counted_by_those_that_are_not(filled: Filled) -> None:
    wanted = TaskFilter(status=TaskStatus.ACTIVE, search="reminder")
    found = steps(
        filled.engine, lambda connection: list_tasks(connection, wanted, TaskOrder.NAME, Page(limit=9))
    )
    assert {step.table for step in found if step.table in BIG and step.rows > MOST_ROWS} == {"tasks"}


@pytest.mark.parametrize("order", TaskLogOrder)
def test_a_page_of_logs_that_is_far_away_is_found_by_its_hour(filled: Filled, order: TaskLogOrder) -> None:
    page = Page(limit=100, skip=LOGS // 2)
    found = steps(filled.engine, lambda connection: list_task_logs(connection, TaskLogFilter(), order, page))
    assert wasteful(found) == []


def test_failures_of_a_task_are_counted_in_their_own_index(filled: Filled) -> None:
    wanted = TaskLogFilter(task_id=filled.talkative, status=RunStatus.SUCCESS)
    found = steps(
        filled.engine,
        lambda connection: list_task_logs(connection, wanted, TaskLogOrder.NEWEST, Page(limit=9)),
    )
    assert {step.index for step in found} >= {"task_logs_failed_of_task"}


NEARLY_ALL_LOGS: dict[str, Json] = {
    "all": {},
    "since": {"since": YESTERDAY - timedelta(days=9)},
    "from day to day": {"since": YESTERDAY - timedelta(days=9), "until": YESTERDAY},
    "successes": {"status": RunStatus.SUCCESS},
    "slots": {"source": RunSource.SCHEDULE},
    "successful slots since": {
        "status": RunStatus.SUCCESS,
        "source": RunSource.SCHEDULE,
        "since": YESTERDAY,
    },
}


@pytest.mark.parametrize("wanted", NEARLY_ALL_LOGS.values(), ids=NEARLY_ALL_LOGS)
def test_a_total_that_most_logs_are_in_reads_few_of_them(filled: Filled, wanted: Json) -> None:
    assert {RunStatus.SUCCESS, RunStatus.FAILED, *UNDONE, *UNDER_WAY} == set(RunStatus), (
        "they are what the others leave"
    )

    def work(connection: Connection) -> None:
        listing = list_task_logs(connection, TaskLogFilter(**wanted), TaskLogOrder.NEWEST, Page(limit=9))
        assert listing.total is not None
        assert listing.total > MOST_ROWS

    found = steps(filled.engine, work)
    assert [step for step in found if step.rows > LOGS / 10] == [], "those that are no success are a fiftieth"


def test_hours_are_told_without_reading_their_logs(filled: Filled) -> None:
    found = steps(filled.engine, lambda connection: read_stats(connection, 720))
    of_hours = [step for step in found if "generate_series" in step.statement and step.table in BIG]
    assert {step.table for step in of_hours} == {"task_logs"}
    assert [step for step in of_hours if step.rows > LOGS / 10] == [], (
        "those that are no success are a fiftieth"
    )


def test_tasks_are_told_by_those_that_are_not_active(filled: Filled) -> None:
    found = steps(filled.engine, lambda connection: read_stats(connection, 1))
    assert "task_state_not_active" in {step.index for step in found}


TASK = TaskDefinition(name="One", schedule="0 0 1 1 *", webhook_url="https://example.com", payload={})


def read_hours(connection: Connection, filled: Filled) -> None:
    read_hours_of_task(connection, filled.talkative, 24)


CHANGES: dict[str, Callable[[Connection, Filled], object]] = {
    "create a task": lambda connection, _: create_task(connection, TASK, TaskStatus.ACTIVE),
    "read a task": lambda connection, filled: get_task(connection, filled.talkative),
    "change a task": lambda connection, filled: update_task(
        connection, filled.talkative, {"schedule": "1 0 1 1 *"}, TaskStatus.INACTIVE
    ),
    "delete a task with many logs": lambda connection, filled: delete_task(connection, filled.talkative),
    "run a task": lambda connection, filled: begin_run(
        connection, run_id=uuid4(), task_id=filled.talkative, per_destination=64, rates={}
    ),
    "read the hours of a task": read_hours,
    "read the last runs": lambda connection, filled: read_recent_runs(
        connection, [filled.talkative, uuid4()], 60
    ),
    "read what there is to do": lambda connection, _: read_work(connection),
    "remove old logs": lambda connection, _: remove_expired_logs(
        connection, 200, Retention(success_days=1, other_days=1)
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_concerns_a_task_reads_little_of_the_others(filled: Filled, change: Any) -> None:
    assert wasteful(steps(filled.engine, lambda connection: change(connection, filled))) == []


def test_the_logs_of_a_deleted_task_are_found_by_their_index(filled: Filled) -> None:
    def work(connection: Connection) -> None:
        delete_task(connection, filled.talkative)
        assert delete_logs_of_deleted_tasks(connection, 1_000)

    assert wasteful(steps(filled.engine, work)) == []


MAKE_DUE = """
WITH moved AS (
    UPDATE tasks SET webhook_url = :url WHERE id IN (
        SELECT md5('task' || n)::uuid FROM generate_series(1, :due) n
    ) RETURNING id
)
UPDATE task_state SET next_run_at = statement_timestamp(), destination = :destination
WHERE task_id IN (SELECT id FROM moved)
"""


@pytest.mark.parametrize("plans", ["auto", "force_generic_plan"])
def test_a_tick_reads_what_is_due_and_little_else(ticking: Engine, plans: str) -> None:
    """Slots, retries and failures; with the plans of the first uses, and those that a connection keeps later."""
    insignia = Insignia(ticking)
    insignia.execute(f"ALTER DATABASE plans SET plan_cache_mode = {plans}")
    ticking.dispose()
    with Receiver(lambda request: (500 if "fails" in request.path else 200, b"")) as receiver:
        insignia.execute(MAKE_DUE, due=DUE, url=receiver.url, destination=receiver.url.rpartition("/")[0])
        for _ in range(RETRIES):
            insignia.begin_run(insignia.create(receiver.url).id)
        for _ in range(FAILURES):
            insignia.create_due(f"{receiver.url}/fails")
        insignia.end_leases_and_waits()
        with plans_of(ticking) as found:
            summary = insignia.tick()
    insignia.execute("ALTER DATABASE plans RESET plan_cache_mode")
    assert (summary.succeeded, summary.deactivated) == (DUE + RETRIES, FAILURES)
    sent = [plan for plan in found if plans == "auto" or KEPT in plan["Query Text"]]
    assert len({plan["Query Text"] for plan in sent}) > 8, (
        "the statements of claims, of settles and of the lookout"
    )
    assert wasteful([step for plan in sent for step in steps_of(plan)]) == []


LET_WAIT = """
WITH waiting AS (
    UPDATE task_state SET next_run_at = NULL, deactivated_at = NULL, status = 'active' WHERE task_id IN (
        SELECT md5('task' || n)::uuid FROM generate_series(1, :runs) n
    ) RETURNING task_id, revision
)
INSERT INTO task_logs (id, task_id, source, status, scheduled_for, execution_time, retry_count, attempts, revision,
    available_at, lost_leases, throttles, created_at)
SELECT gen_random_uuid(), task_id, 'schedule', 'retrying', now(), now(), 0, '[{}]', revision,
    now() + interval '9 seconds', 0, 0, now()
FROM waiting
"""


def test_runs_that_wait_are_not_gone_through_for_the_next_one_or_the_end_of_a_task(filled: Filled) -> None:
    with plans_of(filled.engine) as plans, filled.engine.connect() as connection:
        connection.execute(text(LET_WAIT), {"runs": 2 * MOST_ROWS})
        connection.execute(text("ANALYZE task_logs"))
        plans.clear()
        _, retry_seconds = seconds_until_next(connection, 50)
        complete_tasks(connection, [str(FIRST_COPY)])
        connection.execute(text("SELECT 1"))
        found = [step for plan in plans for step in steps_of(plan)]
    assert 0 < retry_seconds < 9
    assert "task_logs_under_way" in {step.index for step in found}
    assert wasteful(found) == []


FALL_DUE = """
UPDATE task_state SET next_run_at = statement_timestamp(), destination = 'http://' || mod(n, 200)
FROM generate_series(CAST(:first AS int), :last) n WHERE task_id = md5('task' || n)::uuid AND status = 'active'
"""


@pytest.mark.parametrize("plans", ["auto", "force_generic_plan"])
def test_a_claim_neither_reads_nor_sorts_a_backlog_of_thousands(filled: Filled, plans: str) -> None:
    runs, slots = 2 * MOST_ROWS, {"first": 2 * MOST_ROWS + 1, "last": 4 * MOST_ROWS}
    with plans_of(filled.engine) as found, filled.engine.connect() as connection:
        connection.execute(text(f"SET LOCAL plan_cache_mode = {plans}"))
        connection.execute(text(FALL_DUE), slots)
        connection.execute(text(LET_WAIT), {"runs": runs})
        connection.execute(text("UPDATE task_logs SET available_at = now() WHERE status = 'retrying'"))
        connection.execute(text("ANALYZE task_logs"))
        found.clear()
        assert len(claim_slots(connection, room(256)).runs) == 256
        assert len(claim_due_runs(connection, room(256)).runs) == 256
        connection.execute(text("SELECT 1"))
        assert wasteful([step for plan in found for step in steps_of(plan)]) == []


@pytest.mark.parametrize("hosts", [1, 200])
def test_the_server_plans_a_claim_no_more_often_than_any_statement(ticking: Engine, hosts: int) -> None:
    with ticking.connect() as connection:
        connection.execute(
            text(
                "UPDATE task_state SET destination = 'http://' || mod(abs(hashtext(task_id::text)), :hosts),"
                " next_run_at = CASE status WHEN 'active' THEN clock_timestamp() END"
            ),
            {"hosts": hosts},
        )
        connection.execute(text("ANALYZE task_state"))
        for calls in (64, 3) * 4:
            claim_slots(connection, replace(room(calls), crowded={"http://7"} if calls == 3 else set()))
            claim_due_runs(connection, room(calls))
        plans = connection.execute(text("SELECT statement, custom_plans FROM pg_prepared_statements"))
        often = [(statement, times) for statement, times in plans if times > 5]
    assert not often


def test_a_claim_counts_calls_by_an_index_scan_which_forgets_those_that_have_ended(ticking: Engine) -> None:
    insignia, url = Insignia(ticking), "http://127.0.0.1:9"
    insignia.execute(MAKE_DUE, due=200, url=url, destination=url)
    with transaction(ticking) as connection:
        assert len(claim_slots(connection, room(200, per_destination=200)).runs) == 200
    insignia.execute("ANALYZE task_logs")
    found = steps(ticking, lambda connection: open_places(connection, room(1), [url], []))
    counts = [step for step in found if "AS calls" in step.statement and step.table == "task_logs"]
    assert {(step.kind, step.index) for step in counts} == {("Index Scan", "task_logs_under_way")}


COPY_LOGS = copies(
    task_logs,
    "one.task_id = :task_id AND status = 'success'",
    {"id": "gen_random_uuid()", "source": "'api'", "scheduled_for": "NULL"},
)


@pytest.mark.parametrize("calls", [2, 60])
def test_plans_as_old_as_the_database_read_no_whole_table(
    admin: Engine, database_url: str, insignia: Insignia, calls: int
) -> None:
    """A connection keeps those that the server made while it knew the tables to be empty, or small."""
    insignia.execute("ANALYZE")
    with admin.connect() as connection:
        explain_all(connection, make_url(database_url).database or "")
    tick_engine = make_tick_engine(database_url, pool_size=1)
    with Receiver(lambda request: (500 if "fails" in request.path else 200, b"")) as receiver:
        ids = [insignia.create(f"{receiver.url}/works").id for _ in range(calls - 1)]
        ids.append(insignia.create(f"{receiver.url}/fails").id)
        with plans_of(tick_engine) as found:
            for number in range(8):
                if number == 6:
                    for copy in (COPY_TASKS, COPY_STATES, COPY_LOGS):
                        insignia.execute(copy, task_id=ids[0], first=1, last=2 * MOST_ROWS)
                insignia.make_due(*ids)
                insignia.begin_run(ids[0])
                insignia.end_leases_and_waits()
                Insignia(tick_engine).tick()
    tick_engine.dispose()
    assert wasteful([step for plan in found for step in steps_of(plan)]) == []
