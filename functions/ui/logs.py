"""/ui/logs: the logs of all tasks, filtered by the URL, page by page."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

import flask
from pydantic import model_validator
from pydantic_core import PydanticCustomError

from db.engine import Connection, Engine, transaction
from db.paging import Listing, Page, Position
from db.task_logs import TaskLogFilter, list_task_logs
from db.tasks import NamedTask, TaskFilter, list_tasks, read_names
from db.ticks import read_clock
from domain.diagnosis import diagnose
from domain.errors import InvalidInput
from domain.run import RunSource, RunStatus, TaskLog, TaskLogOrder
from domain.task import TaskOrder
from functions.bootstrap import database, settings
from functions.browser_files import compressed, guarded
from functions.fields import Limit, Search, canonical_uuid
from functions.list_queries import CheckedPageToken, TaskLogQuery, page_of
from functions.paging import encoded
from functions.ui.log_file import MOST_EXPORTED, csv_of, file_name
from functions.ui.pages import LOGS, Pages, View

SHOWN = 50
CHOICES = 10
"""How many tasks at most may be chosen from when several have a name that is asked for."""

READ_AT_ONCE = 1_000
"""Of the logs that are exported: they are held whole."""

SPANS = {"1h": timedelta(hours=1), "24h": timedelta(hours=24), "7d": timedelta(days=7)}
SPAN_NAMES = {"1h": "last hour", "24h": "last 24 hours", "7d": "last 7 days"}
SOURCE_NAMES = {
    RunSource.SCHEDULE: "the schedule",
    RunSource.MANUAL: "hand",
    RunSource.API: "others, who recorded it",
}

pages = Pages()


class LogTable(TaskLogQuery):
    """What the API takes, and two ways to say it for people; all of it has to be met.

    `task` is part of the name of a task, or its id; `span` ends now. The page is always one by cursor: in the order
    of `order_by` from where `page_token` says, and shown with the newest on top.
    """

    task: Search = None
    span: Literal["1h", "24h", "7d"] | None = None
    limit: Limit = SHOWN
    page_token: CheckedPageToken = ""

    @model_validator(mode="before")
    @classmethod
    def without_open_choices(cls, values: dict[str, Any]) -> dict[str, Any]:
        """A field of a form that was left empty is not there."""
        return {name: value for name, value in values.items() if value.strip()}

    @property
    def task_named(self) -> str:
        return (self.task or "").strip()

    def wanted_of(self, found: Sequence[NamedTask] | None, now: datetime) -> TaskLogFilter:
        """Those of the task that was found; of all for None."""
        since = max(filter(None, (self.since, now - SPANS[self.span] if self.span else None)), default=None)
        return replace(self.wanted(), since=since, task_id=found[0].id if found else None)

    def query(self, **changes: Any) -> dict[str, Any]:
        """What a link to the same logs with `changes` says; the newest of them unless it names a page."""
        chosen = self.model_dump(
            mode="json", exclude={"skip", "order_by", "page_token"}, exclude_defaults=True
        )
        return {name: value for name, value in (chosen | changes).items() if value}


@dataclass(frozen=True, slots=True)
class Shown:
    """Logs with the newest on top, and the tokens of the pages beside them; None where there is none."""

    logs: Sequence[TaskLog]
    newer: Mapping[str, str] | None
    older: Mapping[str, str] | None


@pages.page("GET", LOGS)
def logs(view: View, query: LogTable) -> flask.Response:
    with transaction(database()) as connection:
        now = read_clock(connection)
        found = tasks_meant(connection, query)
        shown = None
        names: Mapping[UUID, NamedTask] = {}
        if found is None or len(found) == 1:
            shown = page_of_logs(connection, query.wanted_of(found, now), query)
            names = read_names(connection, {log.task_id for log in shown.logs})
    return view.render(
        "logs.html",
        now=now,
        table=query,
        found=found,
        shown=shown,
        names=names,
        causes={log.id: diagnose(log) for log in shown.logs} if shown else {},
        statuses=list(RunStatus),
        source_names=SOURCE_NAMES,
        span_names=SPAN_NAMES,
        choices=CHOICES,
        most_exported=MOST_EXPORTED,
        kept=settings(),
    )


@pages.page("GET", "/ui/logs.csv")
def export(view: View, query: LogTable) -> flask.Response:
    """The newest of these logs, or those from `page_token` on, as a file."""
    engine = database()
    with transaction(engine) as connection:
        now = read_clock(connection)
        found = tasks_meant(connection, query)
    if found is not None and len(found) != 1:
        whose = "Several tasks have" if found else "No task has"
        raise InvalidInput(f"{whose} this name or id; send the task_id of one.")
    file = csv_of(exported(engine, query.wanted_of(found, now), query))
    response = flask.Response(file, content_type="text/csv; charset=utf-8; header=present")
    name = file_name(found[0] if found else None, (query.status, query.source, query.span), now)
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return guarded(view.request, compressed(view.request, response))


def exported(engine: Engine, wanted: TaskLogFilter, query: LogTable) -> Iterator[tuple[NamedTask, TaskLog]]:
    """Some at a time, and no transaction is held meanwhile."""
    page, left = page_of(query), MOST_EXPORTED
    while left:
        page = replace(page, limit=min(left, READ_AT_ONCE))
        with transaction(engine) as connection:
            listing = list_task_logs(connection, wanted, query.order_by, page)
            names = read_names(connection, {log.task_id for log in listing.items})
        yield from ((names[log.task_id], log) for log in listing.items if log.task_id in names)
        if listing.next is None:
            return
        page, left = replace(page, after=listing.next), left - len(listing.items)


def tasks_meant(connection: Connection, query: LogTable) -> Sequence[NamedTask] | None:
    """The tasks that are asked for, at most one more than CHOICES of them; None if any is."""
    if query.task_id is not None:
        return list(read_names(connection, [query.task_id]).values())
    if not query.task_named:
        return None
    try:
        return list(read_names(connection, [canonical_uuid(query.task_named)]).values())
    except PydanticCustomError:
        page = Page(limit=CHOICES + 1, is_by_cursor=True)
        listing = list_tasks(connection, TaskFilter(search=query.task_named), TaskOrder.NAME, page)
        return [NamedTask(task.id, task.definition.name, task.definition.timezone) for task in listing.items]


def page_of_logs(connection: Connection, wanted: TaskLogFilter, query: LogTable) -> Shown:
    """The page that is asked for. One that reaches the newest logs from below is the first page: it is full."""
    listing = list_task_logs(connection, wanted, query.order_by, page_of(query))
    is_first = not query.page_token
    if query.order_by is TaskLogOrder.NEWEST:
        return shown_of(listing.items, has_newer=not is_first, has_older=listing.next is not None)
    if listing.next is not None:
        return shown_of(listing.items[::-1], has_newer=True, has_older=not is_first)
    first: Listing[TaskLog] = list_task_logs(
        connection, wanted, TaskLogOrder.NEWEST, Page(limit=query.limit, is_by_cursor=True)
    )
    return shown_of(first.items, has_newer=False, has_older=first.next is not None)


def shown_of(logs: Sequence[TaskLog], *, has_newer: bool, has_older: bool) -> Shown:
    return Shown(
        logs,
        newer=page_beside(logs[0], TaskLogOrder.OLDEST) if logs and has_newer else None,
        older=page_beside(logs[-1], TaskLogOrder.NEWEST) if logs and has_older else None,
    )


def page_beside(log: TaskLog, order: TaskLogOrder) -> Mapping[str, str]:
    return {"order_by": order, "page_token": encoded(order, Position(log.created_at, log.id))}
