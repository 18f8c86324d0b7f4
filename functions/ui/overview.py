"""/ui/: how things are, and what needs attention."""

from datetime import timedelta

import flask

from db.engine import transaction
from db.paging import Page
from db.stats import read_stats
from db.tasks import TaskFilter, list_tasks
from db.ticks import read_clock, read_health
from domain.task import TaskOrder
from functions.bootstrap import database
from functions.health import LATE_AFTER_SECONDS
from functions.ui.charts import bars_of
from functions.ui.pages import HOME, Pages, View

HOURS = 24
SHOWN = 8
"""How many of the next runs, and of the tasks that need attention."""

pages = Pages()


@pages.page("GET", HOME)
def overview(view: View) -> flask.Response:
    with transaction(database()) as connection:
        now = read_clock(connection)
        health = read_health(connection)
        stats = read_stats(connection, HOURS)
        soon = list_tasks(connection, TaskFilter(), TaskOrder.NEXT_RUN_AT, first(SHOWN))
        switched_off = list_tasks(
            connection, TaskFilter(is_deactivated=True), TaskOrder.CREATED_AT_DESCENDING, first(SHOWN)
        )
    age = health.seconds_since_last_tick
    return view.render(
        "overview.html",
        now=now,
        stats=stats,
        has_tasks=any(
            (stats.tasks.active, stats.tasks.inactive, stats.tasks.deactivated, stats.tasks.completed)
        ),
        tick_age=age,
        is_tick_late=age is not None and age > LATE_AFTER_SECONDS,
        bars=bars_of(stats.hours),
        upcoming=[
            task
            for task in soon.items
            if task.next_run_at and task.next_run_at <= now + timedelta(hours=HOURS)
        ],
        attention=switched_off.items,
    )


def first(limit: int) -> Page:
    return Page(limit=limit, is_by_cursor=True)
