"""/health: whether Insignia can work, and whether it does."""

import logging
from functools import cache

import db.ticks
from db.engine import transaction
from db.migrations import SCHEMA_REVISION
from domain.errors import Unavailable
from functions import bootstrap
from functions.background import in_background
from functions.cloud_scheduler import NoSuchJob, SchedulerError, State, TickJob
from functions.problems import Unhealthy
from functions.reports import Health, HealthProblem
from functions.routing import Routes

LATE_AFTER_SECONDS = 60 + 180
"""Age of the last tick at which the next one is overdue by 3 minutes."""

SCHEDULER_SECONDS = 2.0
"""How long Cloud Scheduler is waited for."""

routes = Routes("Health")
logger = logging.getLogger(__name__)


@routes.add("GET", "/health", errors={503: HealthProblem})
def health() -> Health:
    """Tell whether Insignia can work.

    503 and `unhealthy` when the database is away or read-only, or has an older schema than this code. A late tick
    is told, and is no error; nor is a scheduler that does not call.
    """
    try:
        with transaction(bootstrap.database()) as connection:
            state = db.ticks.read_health(connection)
    except Unavailable as error:
        raise Unhealthy(str(error), members={"status": "unhealthy", "database": "unavailable"}) from error
    if state.schema_revision is None or state.schema_revision < SCHEMA_REVISION:
        raise Unhealthy(
            f"The database has schema {state.schema_revision}, and this code needs {SCHEMA_REVISION}: run the "
            "migration, or let the next tick ask for it.",
            members={"status": "unhealthy", "database": "outdated"},
        )
    age = state.seconds_since_last_tick
    return Health(
        status="healthy",
        database="ok",
        schema_revision=state.schema_revision,
        last_tick_at=state.last_tick_at,
        tick_lag_seconds=state.tick_lag_seconds,
        tick="pending" if age is None else "late" if age > LATE_AFTER_SECONDS else "ok",
        scheduler=None if (name := bootstrap.settings().scheduler_job) is None else scheduler_state(name),
    )


@cache
def tick_job(name: str) -> TickJob:
    return TickJob(name, call_seconds=SCHEDULER_SECONDS)


def scheduler_state(name: str) -> State:
    """What Cloud Scheduler says about the job, if it says so in time."""
    looking = in_background(lambda: tick_job(name).read().state)
    try:
        return looking.result(SCHEDULER_SECONDS)
    except NoSuchJob:
        return "missing"
    except (SchedulerError, TimeoutError) as error:
        logger.warning("the state of the scheduler's job is not known: %s", str(error) or "no answer in time")
        return "unknown"
