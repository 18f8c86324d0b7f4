"""/ui/tasks/{id}: one task, how it has gone and how it goes on; and the question before it is deleted."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import flask

from db.engine import transaction
from db.paging import Page
from db.stats import read_hours_of_task, success_rate
from db.task_logs import TaskLogFilter, list_task_logs, read_recent_runs
from db.tasks import delete_task, get_task, timing_of
from db.ticks import read_clock
from domain.curl_command import curl_command_of
from domain.preview import PlannedRun, planned_runs
from domain.run import RunSource, TaskLog, TaskLogOrder
from domain.task import Task
from functions import schemas
from functions.bootstrap import database
from functions.request_body import Form
from functions.ui.charts import DAYS, LONG_RUNS, days_of, duration_chart
from functions.ui.pages import TASKS, Pages, View

PLANNED = 5
LAST = 10
"""How many of the next and of the last runs."""

pages = Pages()


@pages.page("GET", "/ui/tasks/{task_id}")
def task(view: View, task_id: UUID) -> flask.Response:
    with transaction(database()) as connection:
        shown = get_task(connection, task_id)
        now = read_clock(connection)
        hours = read_hours_of_task(connection, task_id, hours_since_midnight(now, DAYS))
        runs = read_recent_runs(connection, [task_id], LONG_RUNS)[task_id]
        page = Page(limit=LAST, is_by_cursor=True)
        last = list_task_logs(connection, TaskLogFilter(task_id=task_id), TaskLogOrder.NEWEST, page)
    return view.render(
        "task.html",
        now=now,
        task=shown,
        planned=planned(shown),
        days=days_of(hours),
        success_rate=success_rate(hours),
        durations=duration_chart(runs),
        last=last.items,
        by_hand=last_by_hand(shown, last.items),
        curl=curl_command_of(shown.definition),
        document=schemas.Task.of(shown).masked().model_dump(mode="json"),
    )


@pages.page("GET", "/ui/tasks/{task_id}/delete")
def ask(view: View, task_id: UUID) -> flask.Response:
    view.require_change()
    with transaction(database()) as connection:
        return view.render("delete_task.html", task=get_task(connection, task_id), typed=None)


@pages.page("POST", "/ui/tasks/{task_id}/delete")
def delete(view: View, task_id: UUID, form: Form) -> flask.Response:
    """Delete a task if its name was typed."""
    typed = form.get("name", "").strip()
    with transaction(database()) as connection:
        doomed = get_task(connection, task_id)
        if typed != doomed.definition.name.strip():
            return view.render("delete_task.html", status=422, task=doomed, typed=typed)
        delete_task(connection, task_id)
    return view.go_to(TASKS, notice="deleted")


def last_by_hand(task: Task, last: Sequence[TaskLog]) -> TaskLog | None:
    """The newest run by hand, if it began after the last one of the schedule, which is all that the task tells."""
    newest = next((log for log in last if log.source is RunSource.MANUAL), None)
    is_last = newest and (task.last_run_at is None or newest.execution_time > task.last_run_at)
    return newest if is_last else None


def planned(task: Task) -> list[PlannedRun]:
    if task.next_run_at is None:
        return []
    return planned_runs(timing_of(task.definition), task.next_run_at, PLANNED)


def hours_since_midnight(now: datetime, days: int) -> int:
    """How many hours of the clock so many days in UTC have had, with this one."""
    return (days - 1) * 24 + now.hour + 1
