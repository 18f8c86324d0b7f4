"""/health: whether Insignia can work, and whether it does."""

import logging
from functools import cache

from db.engine import transaction
from db.health import LastTick, Schema, read_last_tick, read_schema, read_work
from db.migrations import SCHEMA_REVISION
from domain.errors import Unavailable
from functions import VERSION, bootstrap
from functions.background import in_background
from functions.cloud_scheduler import NoSuchJob, SchedulerError, State, TickJob
from functions.problems import Unhealthy
from functions.reports import Health, HealthProblem
from functions.routing import Routes

LATE_AFTER_SECONDS = 60 + 180
"""Age of the last tick at which the next one is overdue by 3 minutes."""

LATE_SLOT_SECONDS = 180
"""Age of a due slot, as that of Terraform's alert by default."""

SCHEDULER_SECONDS = 2.0
"""How long Cloud Scheduler is waited for."""

routes = Routes("Health")
logger = logging.getLogger(__name__)


@routes.add("GET", "/health", errors={503: HealthProblem})
def health() -> Health:
    """Tell whether Insignia can work, and whether it does.

    503 and `unhealthy` when the database is away or read-only, or has an older schema than this code. 200 and
    `degraded` when webhooks are called late: the last tick was more than 4 minutes ago, or a slot has been due
    for more than 3. Else `healthy`, also before the first tick. A scheduler that does not call is told, and changes
    no status by itself. The cost does not grow with the number of tasks: counts stop at 10,000.
    """
    try:
        with transaction(bootstrap.database()) as connection:
            schema = read_schema(connection)
            if problem := problem_of(schema):
                raise problem
            last_tick = read_last_tick(connection)
            work = read_work(connection)
    except Unavailable as error:
        raise unhealthy(str(error), "unavailable") from error
    is_late = is_tick_late(last_tick)
    return Health(
        status="degraded" if is_late or work.lag_seconds > LATE_SLOT_SECONDS else "healthy",
        version=VERSION,
        database="ok",
        read_only=False,
        schema_revision=schema.revision,
        expected_schema_revision=SCHEMA_REVISION,
        last_tick_at=None if last_tick is None else last_tick.finished_at,
        tick_age_seconds=None if last_tick is None else last_tick.age_seconds,
        tick_lag_seconds=None if last_tick is None else last_tick.lag_seconds,
        tick="pending" if last_tick is None else "late" if is_late else "ok",
        lag_seconds=work.lag_seconds,
        due=work.due,
        running=work.running,
        waiting=work.waiting,
        deactivated=work.deactivated,
        scheduler=None if (name := bootstrap.settings().scheduler_job) is None else scheduler_state(name),
    )


def is_tick_late(last_tick: LastTick | None) -> bool:
    return last_tick is not None and last_tick.age_seconds > LATE_AFTER_SECONDS


def problem_of(schema: Schema) -> Unhealthy | None:
    if schema.is_read_only:
        return unhealthy("The database is read-only; let it be written to again.", "unavailable", schema)
    if schema.revision is None or schema.revision < SCHEMA_REVISION:
        return unhealthy(
            f"The database has schema {schema.revision}, and this code needs {SCHEMA_REVISION}: run the "
            "migration, or let the next tick ask for it.",
            "outdated",
            schema,
        )
    return None


def unhealthy(detail: str, database: str, schema: Schema | None = None) -> Unhealthy:
    """`schema` is what the database still said."""
    return Unhealthy(
        detail,
        members={
            "status": "unhealthy",
            "version": VERSION,
            "database": database,
            "read_only": schema and schema.is_read_only,
            "schema_revision": schema and schema.revision,
            "expected_schema_revision": SCHEMA_REVISION,
        },
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
