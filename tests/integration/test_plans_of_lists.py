"""What a page, a total or a change of tasks and logs reads (plans.py)."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from db.deleted_tasks import delete_logs_of_deleted_tasks
from db.engine import Connection
from db.health import read_work
from db.manual_runs import begin_run
from db.paging import Page
from db.retention import remove_expired_logs
from db.stats import read_hours_of_task, read_stats
from db.task_logs import UNDER_WAY, UNDONE, TaskLogFilter, list_task_logs, read_recent_runs
from db.tasks import TaskFilter, create_task, delete_task, get_task, list_tasks, update_task
from domain.retention import Retention
from domain.run import RunSource, RunStatus, TaskLogOrder
from domain.task import TaskDefinition, TaskOrder, TaskStatus
from tests.bench.filled import Filled
from tests.integration.plans import (
    BIG,
    FIRST_COPY,
    LOGS,
    MOST_ROWS,
    TASKS,
    Json,
    Work,
    steps,
    wasteful,
)


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
        "few": FIRST_COPY,
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


@pytest.mark.parametrize("skip", [0, 100])
def test_whoever_asks_for_what_is_not_there_has_the_table_read_once(filled: Filled, skip: int) -> None:
    wanted = TaskFilter(search="zz")  # too short for the index of names
    found = steps(
        filled.engine,
        lambda connection: list_tasks(connection, wanted, TaskOrder.CREATED_AT, Page(limit=100, skip=skip)),
    )
    assert len([step for step in found if step.table in BIG and step.rows > MOST_ROWS]) == 1


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


@pytest.mark.parametrize("order", TaskLogOrder)
def test_a_page_far_away_reads_no_hours_before_it_while_logs_of_a_deleted_task_are_left(
    filled: Filled, order: TaskLogOrder
) -> None:
    def work(connection: Connection) -> None:
        connection.execute(text("INSERT INTO deleted_tasks VALUES (:id)"), {"id": filled.talkative})
        list_task_logs(connection, TaskLogFilter(), order, Page(limit=100, skip=LOGS // 2))

    found = steps(filled.engine, work)
    assert [step for step in found if step.table in BIG and step.rows > LOGS / 10 + 1] == []


@pytest.mark.parametrize("order", TaskLogOrder)
@pytest.mark.parametrize("wanted", [{"status": RunStatus.SUCCESS}, {"source": RunSource.SCHEDULE}], ids=str)
def test_a_page_far_into_nearly_all_logs_passes_by_few_of_them(
    filled: Filled, wanted: Json, order: TaskLogOrder
) -> None:
    page = Page(limit=100, skip=LOGS // 2)
    found = steps(
        filled.engine, lambda connection: list_task_logs(connection, TaskLogFilter(**wanted), order, page)
    )
    assert [step for step in found if step.rows > LOGS / 10] == [], "those that are no success are a fiftieth"


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
