"""/ui/tasks: the table of tasks, and what can be done with one of them or with many."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal
from uuid import UUID

import flask
from pydantic import BaseModel, BeforeValidator

import db.tasks
from db.engine import transaction
from db.paging import Page
from db.task_logs import read_recent_runs
from db.tasks import TaskFilter
from db.ticks import read_clock
from domain.errors import InvalidInput
from domain.task import TaskOrder, TaskStatus
from functions import manual_runs
from functions.bootstrap import database
from functions.fields import MAX_NAME_LENGTH, Search, Skip, Tag, canonical_uuid
from functions.idempotency import RunOnce
from functions.request_body import Form
from functions.ui.charts import SPARK_RUNS, sparkline
from functions.ui.pages import HOME, TASKS, Pages, View

SHOWN = 25
COPY = " (copy)"

pages = Pages()


def none_if_empty(value: Any) -> Any:
    """A choice of a form that was left open."""
    return value or None


class TaskTable(BaseModel):
    """Which tasks the table shows, in which order, from which one on."""

    search: Search = None
    tag: Annotated[Tag, BeforeValidator(none_if_empty)] = None
    status: Annotated[
        Literal["active", "inactive", "completed", "deactivated"] | None, BeforeValidator(none_if_empty)
    ] = None
    order_by: TaskOrder = TaskOrder.CREATED_AT_DESCENDING
    skip: Skip = 0

    @property
    def wanted(self) -> TaskFilter:
        is_deactivated = self.status == "deactivated"
        status = TaskStatus(self.status) if self.status and not is_deactivated else None
        return TaskFilter(search=self.search, tag=self.tag, status=status, is_deactivated=is_deactivated)

    def query(self, **changes: Any) -> dict[str, Any]:
        """What a link to the same table with `changes` says; the first page unless it names another."""
        chosen = self.model_dump(mode="json", exclude={"skip"}, exclude_defaults=True) | changes
        return {name: value for name, value in chosen.items() if value}


@pages.page("GET", TASKS)
def tasks(view: View, query: TaskTable) -> flask.Response:
    with transaction(database()) as connection:
        now = read_clock(connection)
        page = Page(limit=SHOWN, skip=query.skip)
        listing = db.tasks.list_tasks(connection, query.wanted, query.order_by, page)
        runs = read_recent_runs(connection, [task.id for task in listing.items], SPARK_RUNS)
    return view.render(
        "tasks.html",
        now=now,
        table=query,
        tasks=listing.items,
        total=listing.total,
        shown=SHOWN,
        sparklines={task_id: sparkline(found) for task_id, found in runs.items()},
    )


@pages.page("POST", "/ui/tasks/{task_id}/run")
def run(view: View, task_id: UUID, form: Form) -> flask.Response:
    log = manual_runs.run_task(task_id, RunOnce(key=None, fingerprint=""))
    return view.go_to(back(form), notice=f"ran-{log.status}")


@pages.page("POST", "/ui/tasks/{task_id}/activate")
def activate(view: View, task_id: UUID, form: Form) -> flask.Response:
    set_status([task_id], TaskStatus.ACTIVE)
    return view.go_to(back(form), notice="reactivated")


@pages.page("POST", "/ui/tasks/{task_id}/pause")
def pause(view: View, task_id: UUID, form: Form) -> flask.Response:
    set_status([task_id], TaskStatus.INACTIVE)
    return view.go_to(back(form), notice="paused")


@pages.page("POST", "/ui/tasks/{task_id}/duplicate")
def duplicate(view: View, task_id: UUID) -> flask.Response:
    """Make an inactive task with the same definition, secrets and all, and open it."""
    with transaction(database()) as connection:
        definition = db.tasks.get_task(connection, task_id).definition
        name = definition.name[: MAX_NAME_LENGTH - len(COPY)] + COPY
        copy = db.tasks.create_task(connection, replace(definition, name=name), TaskStatus.INACTIVE)
    return view.go_to(f"{TASKS}/{copy.id}/edit", notice="duplicated")


@pages.page("POST", "/ui/tasks/bulk")
def bulk(view: View, form: Form) -> flask.Response:
    """The same with many tasks, all of them or none; to delete them is asked for twice."""
    task_ids = [canonical_uuid(text) for text in form.getlist("task_id")]
    action = form.get("action")
    if not task_ids:
        return view.go_to(back(form))
    if action == "activate":
        set_status(task_ids, TaskStatus.ACTIVE)
        return view.go_to(back(form), notice="bulk-activated")
    if action == "pause":
        set_status(task_ids, TaskStatus.INACTIVE)
        return view.go_to(back(form), notice="bulk-paused")
    if action != "delete":
        raise InvalidInput("action must be 'activate', 'pause' or 'delete'.")
    with transaction(database()) as connection:
        if form.get("confirmed") != "yes":
            chosen = [db.tasks.get_task(connection, task_id) for task_id in task_ids]
            return view.render("delete_tasks.html", tasks=chosen, back=back(form))
        for task_id in sorted(task_ids):
            db.tasks.delete_task(connection, task_id)
    return view.go_to(back(form), notice="bulk-deleted")


def set_status(task_ids: Sequence[UUID], status: TaskStatus) -> None:
    """All or none, in one order, so that two of these do not wait for each other."""
    with transaction(database()) as connection:
        for task_id in sorted(task_ids):
            try:
                db.tasks.update_task(connection, task_id, {}, status)
            except InvalidInput as error:
                name = db.tasks.get_task(connection, task_id).definition.name
                raise type(error)(f"Nothing was changed, because of '{name}': {error}") from error


def back(form: Form) -> str:
    """The page that a form was on."""
    path = form.get("back", TASKS)
    return path if path.startswith(HOME) else TASKS
