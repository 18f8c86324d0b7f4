"""/ui/: how things are, and what needs attention."""

from datetime import timedelta

import flask

from db.engine import transaction
from db.health import read_last_tick
from db.paging import Page
from db.stats import read_stats
from db.tasks import TaskFilter, list_tasks
from db.ticks import read_clock
from domain.task import TaskOrder
from functions.bootstrap import database, settings
from functions.health import is_tick_late
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
        last_tick = read_last_tick(connection)
        stats = read_stats(connection, HOURS)
        soon = list_tasks(connection, TaskFilter(), TaskOrder.NEXT_RUN_AT, first(SHOWN))
        switched_off = list_tasks(
            connection, TaskFilter(is_deactivated=True), TaskOrder.CREATED_AT_DESCENDING, first(SHOWN)
        )
    return view.render(
        "overview.html",
        now=now,
        stats=stats,
        has_tasks=any(
            (stats.tasks.active, stats.tasks.inactive, stats.tasks.deactivated, stats.tasks.completed)
        ),
        tick_age=None if last_tick is None else last_tick.age_seconds,
        is_tick_late=is_tick_late(last_tick),
        bars=bars_of(stats.hours),
        upcoming=[
            task
            for task in soon.items
            if task.next_run_at and task.next_run_at <= now + timedelta(hours=HOURS)
        ],
        attention=switched_off.items,
        in_cloud=settings().in_cloud,
    )


def first(limit: int) -> Page:
    return Page(limit=limit, is_by_cursor=True)
