"""/ui/tasks/new and /ui/tasks/{id}/edit: a task in a form, where it is checked, tried out and kept."""

import json
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

import flask

from db.engine import transaction
from db.tasks import get_task
from domain.curl_command import parse_curl_command
from domain.errors import InvalidInput, PreconditionFailed
from domain.retry import RetryOn
from domain.schedule import timezone_names
from domain.task import Method, MisfirePolicy, OverlapPolicy, Task, TaskStatus
from functions.bootstrap import database
from functions.reports import SchedulePreview, ScheduleQuery, TestedCall
from functions.request_body import Form
from functions.schedules import preview_schedule
from functions.schemas import TaskChanges, TaskCreate
from functions.tasks import call_once, create_task, update_task
from functions.ui.form_fields import DISCORD, Filled, body_of, defaults, filled, values_of, values_of_curl
from functions.ui.pages import TASKS, Pages, View
from functions.validation import validated

NEW = "/ui/tasks/new"
PRESETS = {
    "* * * * *": "every minute",
    "*/5 * * * *": "every 5 minutes",
    "*/15 * * * *": "every quarter of an hour",
    "0 * * * *": "every hour",
    "0 9 * * *": "every day at 9:00",
    "0 9 * * MON-FRI": "on working days at 9:00",
    "0 9 * * MON": "every Monday at 9:00",
    "0 9 1 * *": "on the first of the month at 9:00",
    "0 18 L * *": "on the last day of the month at 18:00",
}
CHOICES = {
    "method": list(Method),
    "retry_on": list(RetryOn),
    "misfire_policy": list(MisfirePolicy),
    "overlap_policy": list(OverlapPolicy),
}

ALWAYS_SHOWN = {"", "name", "method", "webhook_url", "payload", "schedule", "timezone", "run_at", "status"}
"""Fields that are not folded away."""

Body = TaskCreate | TaskChanges

pages = Pages()


@pages.page("GET", NEW)
def new(view: View) -> flask.Response:
    return show(view, Filled(defaults()))


@pages.page("POST", NEW)
def create(view: View, form: Form) -> flask.Response:
    return answer(view, form, None)


@pages.page("GET", "/ui/tasks/{task_id}/edit")
def edit(view: View, task_id: UUID) -> flask.Response:
    task = stored(task_id)
    return show(view, Filled(values_of(task)), task)


@pages.page("POST", "/ui/tasks/{task_id}/edit")
def change(view: View, task_id: UUID, form: Form) -> flask.Response:
    return answer(view, form, stored(task_id))


@pages.page("POST", "/ui/tasks/curl")
def from_curl(view: View, form: Form) -> flask.Response:
    """The form of a new task that makes the call of a curl command; nothing is stored."""
    command = form.get("command", "")
    try:
        call = parse_curl_command(command)
    except InvalidInput as error:
        return show(view, Filled(defaults()), command=command, command_fault=str(error))
    return show(view, Filled(values_of_curl(call)), notes=call.notes)


def stored(task_id: UUID) -> Task:
    with transaction(database()) as connection:
        return get_task(connection, task_id)


def answer(view: View, form: Form, task: Task | None) -> flask.Response:
    """Do what the button says: check, fill in Discord's message, test, or save."""
    page = filled(form)
    body = checked(page, task)
    match form.get("action"):
        case "check":
            page.forgive_empty()
        case "discord":
            page.values["payload"] = json.dumps(DISCORD, indent=2)
            page.faults.clear()
        case "test" if body is not None:
            return show(view, page, task, tested=attempt(page, body, task))
        case "save":
            if body is not None and (task_id := save(page, body, task)):
                return view.go_to(f"{TASKS}/{task_id}", notice="saved")
            return show(view, page, task, status=422)
    return show(view, page, task)


def checked(page: Filled, task: Task | None) -> Body | None:
    """What the form says as a body of the API; None, and faults of `page`, if it is none."""
    body = body_of(page, task.definition if task else None)
    try:
        valid = validated(TaskCreate, body) if task is None else validated(TaskChanges, body)
    except InvalidInput as error:
        page.blame(error)
        return None
    return None if page.faults else valid


def attempt(page: Filled, body: Body, task: Task | None) -> TestedCall | None:
    """Call the webhook once, as the task in the form would; nothing is stored."""
    if isinstance(body, TaskCreate):
        definition = body.definition()
    else:
        assert task is not None
        definition = replace(task.definition, **body.definition_changes())
    try:
        return call_once(definition, TaskStatus.INACTIVE)
    except InvalidInput as error:
        page.blame(error)
        return None


def save(page: Filled, body: Body, task: Task | None) -> UUID | None:
    """Store what the form says, unless somebody else has changed the task since it was shown; the task's id then."""
    try:
        if isinstance(body, TaskCreate):
            with transaction(database()) as connection:
                return create_task(body, connection).id
        assert task is not None
        revisions = frozenset({int(page.revision) if page.revision.isdecimal() else 0})
        return update_task(task.id, body, revisions).id
    except PreconditionFailed:
        page.faults[""] = "Somebody else has changed this task meanwhile; open it again to see how it is now."
    except InvalidInput as error:
        page.blame(error)
    return None


def show(
    view: View,
    page: Filled,
    task: Task | None = None,
    *,
    status: int = 200,
    tested: TestedCall | None = None,
    notes: Sequence[str] = (),
    command: str = "",
    command_fault: str | None = None,
) -> flask.Response:
    view.require_change()
    return view.render(
        "task_form.html",
        status=status,
        page=page,
        task=task,
        revision=page.revision or (task.revision if task else ""),
        preview=preview_of(page),
        tested=tested,
        notes=notes,
        command=command,
        command_fault=command_fault,
        is_unfolded=bool(page.faults.keys() - ALWAYS_SHOWN),
        presets=PRESETS,
        choices=CHOICES,
        zones=sorted(timezone_names()),
    )


def preview_of(page: Filled) -> SchedulePreview | None:
    """The next runs of the schedule in the form; None while it has none that is right."""
    asked = {"schedule": page.values["schedule"].strip(), "timezone": page.values["timezone"].strip()}
    try:
        return preview_schedule(validated(ScheduleQuery, asked))
    except InvalidInput:
        return None
