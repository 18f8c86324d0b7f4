"""/ui/runs/{id}: one run, attempt by attempt, and why it came to what it did."""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

import flask

from db.engine import transaction
from db.task_logs import UNDER_WAY, get_task_log
from db.tasks import get_task
from db.ticks import read_clock
from domain.diagnosis import diagnose
from domain.run import TaskLog
from domain.task import Task
from functions import manual_runs, schemas
from functions.bootstrap import database
from functions.fields import MASK
from functions.idempotency import RunOnce
from functions.ui.charts import lanes_of
from functions.ui.pages import RUNS, Pages, View
from functions.webhook import headers_of

pages = Pages()


@pages.page("GET", "/ui/runs/{run_id}")
def run(view: View, run_id: UUID) -> flask.Response:
    with transaction(database()) as connection:
        log = get_task_log(connection, run_id)
        task = get_task(connection, log.task_id)
        now = read_clock(connection)
    shown = schemas.TaskLog.model_validate(log)
    return view.render(
        "run.html",
        now=now,
        task=task,
        log=shown,
        lanes=lanes_of(shown.attempts, now),
        diagnosis=diagnose(log),
        is_under_way=log.status in UNDER_WAY,
        webhook_url=schemas.masked_url(task.definition.webhook_url),
        headers=request_headers(task, log),
        is_changed=task.updated_at > log.execution_time,
    )


@pages.page("POST", "/ui/runs/{run_id}/retry")
def retry(view: View, run_id: UUID) -> flask.Response:
    log = manual_runs.retry_log(run_id, RunOnce(key=None, fingerprint=""))
    return view.go_to(f"{RUNS}/{log.id}", notice=f"ran-{log.status}")


def request_headers(task: Task, log: TaskLog) -> Mapping[str, str]:
    """Those of the last attempt, by the task as it is now, without its secrets; none if there was no attempt."""
    if not log.attempts or log.scheduled_for is None:
        return {}
    definition, last = task.definition, log.attempts[-1]
    headers = headers_of(
        dict.fromkeys(definition.headers, MASK),
        definition.method,
        run_id=str(log.id),
        lease_id=last["lease_id"],
        task_id=str(task.id),
        scheduled_for=log.scheduled_for,
        started_at=datetime.fromisoformat(last["started_at"]),
        number=last["number"],
    )
    return headers | ({"webhook-signature": MASK} if definition.signing_secrets else {})
