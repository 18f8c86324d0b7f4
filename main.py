"""Entry points: each function here can be deployed by itself (`functions-framework --target=<name>`).

    api         every route of the API, its documentation at /docs and /redoc, and the dashboard at /ui/
    tasks       /tasks alone          task_logs   /task-logs alone          health      /health alone
    tick        POST /tick: runs what is due; called every minute
    deliver     POST /deliver: a worker, woken by Pub/Sub when more is due than one tick can deliver
    migrate     POST /migrate: brings the database to the schema of this code
    local       api and tick together, for one machine

`python main.py` starts everything on this machine, with an embedded PostgreSQL; `python main.py scheduler` manages
the job of Cloud Scheduler that calls `tick`.
"""

import gc

gc.disable()  # what is imported stays: to look through it meanwhile is a tenth of a cold start

import flask
import functions_framework
from werkzeug.exceptions import HTTPException, InternalServerError

from functions import bootstrap
from functions import declarations as _declarations
from functions import deliver as _deliver
from functions import docs as _docs
from functions import health as _health
from functions import migrate as _migrate
from functions import schedules as _schedules
from functions import stats as _stats
from functions import task_logs as _task_logs
from functions import tasks as _tasks
from functions import tick as _tick
from functions.routing import framework_problem, http_function
from functions.ui import doors as _doors
from functions.ui import logs as _log_pages
from functions.ui import overview as _overview
from functions.ui import run as _run_page
from functions.ui import system as _system_page
from functions.ui import task as _task_page
from functions.ui import task_form as _task_form
from functions.ui import tasks as _task_pages
from functions.ui.pages import refuse as _refuse

documented = [
    *_tasks.routes,
    *_declarations.routes,
    *_task_logs.routes,
    *_schedules.routes,
    *_stats.routes,
    *_health.routes,
]
_pages = [
    *_doors.pages,
    *_overview.pages,
    *_task_pages.pages,
    *_task_form.pages,
    *_task_page.pages,
    *_run_page.pages,
    *_log_pages.pages,
    *_system_page.pages,
]
_api = [*documented, *_docs.routes(documented), *_pages]

api = http_function(_api, refuse=_refuse)
tasks = http_function([*_tasks.routes, *_declarations.routes], prefix="/tasks")
task_logs = http_function(_task_logs.routes, prefix="/task-logs")
health = http_function(_health.routes, prefix="/health")
tick = http_function(_tick.routes, prefix="/tick")
deliver = http_function(_deliver.routes, prefix="/deliver")
migrate = http_function(_migrate.routes, prefix="/migrate")
local = http_function([*_api, *_tick.routes], refuse=_refuse)

if flask.has_app_context():  # functions-framework loads this file in one, and serves it then
    bootstrap.start()

functions_framework.errorhandler(HTTPException)(framework_problem)
functions_framework.errorhandler(InternalServerError)(framework_problem)
gc.enable()

if __name__ == "__main__":
    from functions.command_line import main

    main()
