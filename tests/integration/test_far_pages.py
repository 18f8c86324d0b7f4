"""Pages that skip many logs, which are found by their hour: each holds what a page from the beginning holds there."""

from datetime import timedelta

import pytest
from sqlalchemy import Connection, text

import db.task_logs
from db.engine import transaction
from db.paging import Page
from db.task_log_counts import fold_changes
from db.task_logs import TaskLogFilter, list_task_logs
from domain.run import RunStatus, TaskLogOrder
from tests.integration.conftest import Insignia
from tests.integration.stored_logs import NOON, add

pytestmark = pytest.mark.parametrize("order", TaskLogOrder)


@pytest.fixture(autouse=True)
def every_page_is_far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db.task_logs, "FAR", 1)


def check(connection: Connection, order: TaskLogOrder, wanted: TaskLogFilter, logs: int) -> None:
    """Each page, also behind the end, of so many logs."""
    everything = list_task_logs(connection, wanted, order, Page(limit=100)).items
    assert len(everything) == logs
    for skip in range(1, logs + 5):
        listing = list_task_logs(connection, wanted, order, Page(limit=3, skip=skip))
        assert (listing.total, listing.items) == (logs, everything[skip : skip + 3]), skip


def test_of_all_logs(insignia: Insignia, order: TaskLogOrder) -> None:
    with transaction(insignia.engine) as connection:
        check(connection, order, TaskLogFilter(), 0)
        add(connection, 25)
        fold_changes(connection, 3)
        add(connection, 15, newest=NOON - timedelta(days=3), seconds_apart=0)
        check(connection, order, TaskLogFilter(), 40)


def test_while_logs_of_deleted_tasks_are_left(insignia: Insignia, order: TaskLogOrder) -> None:
    with transaction(insignia.engine) as connection:
        add(connection, 60)
        connection.execute(text("UPDATE task_logs SET task_id = gen_random_uuid()"))
        connection.execute(text("INSERT INTO deleted_tasks SELECT task_id FROM task_logs"))
        for newest in (NOON, NOON - timedelta(hours=6)):
            add(connection, 10, newest=newest)
        check(connection, order, TaskLogFilter(), 20)


def test_of_successes_beside_failures_and_those_of_a_deleted_task(
    insignia: Insignia, order: TaskLogOrder
) -> None:
    with transaction(insignia.engine) as connection:
        add(connection, 20)
        connection.execute(text("UPDATE task_logs SET task_id = gen_random_uuid()"))
        connection.execute(text("INSERT INTO deleted_tasks SELECT task_id FROM task_logs"))
        add(connection, 20, newest=NOON - timedelta(minutes=7))
        add(connection, 10, newest=NOON - timedelta(days=3))
        connection.execute(
            text("UPDATE task_logs SET status = 'failed' WHERE extract(minute FROM created_at)::int % 2 = 0")
        )
        check(connection, order, TaskLogFilter(status=RunStatus.SUCCESS), 16)
