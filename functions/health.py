"""/health: whether Insignia can work, and whether it does."""

import db.ticks
from db.engine import transaction
from domain.errors import Unavailable
from functions.bootstrap import database
from functions.problems import Unhealthy
from functions.routing import Routes
from functions.schemas import Health, HealthProblem

LATE_AFTER_SECONDS = 60 + 180
"""Age of the last tick at which the next one is overdue by 3 minutes."""

routes = Routes("Health")


@routes.add("GET", "/health", errors={503: HealthProblem})
def health() -> Health:
    """Tell whether Insignia can work.

    503 and `unhealthy` when the database is away or read-only. A late tick is told, and is no error.
    """
    try:
        with transaction(database()) as connection:
            state = db.ticks.read_health(connection)
    except Unavailable as error:
        raise Unhealthy(str(error), members={"status": "unhealthy", "database": "unavailable"}) from error
    age = state.seconds_since_last_tick
    return Health(
        status="healthy",
        database="ok",
        schema_revision=state.schema_revision,
        last_tick_at=state.last_tick_at,
        tick_lag_seconds=state.tick_lag_seconds,
        tick="pending" if age is None else "late" if age > LATE_AFTER_SECONDS else "ok",
    )
