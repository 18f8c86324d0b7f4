"""/stats: how things went, hour by hour."""

import db.stats
from db.engine import transaction
from functions.bootstrap import database
from functions.reports import Stats, StatsQuery
from functions.routing import Routes

routes = Routes("Stats")


@routes.add("GET", "/stats")
def get_stats(query: StatsQuery) -> Stats:
    """Get statistics by hour.

    A log counts in the hour in which it was made: a run when it was claimed, slots that never ran when that was
    recorded. Runs under way count when they have ended. The hours are those of UTC.
    """
    with transaction(database()) as connection:
        return Stats.model_validate(db.stats.read_stats(connection, query.hours))
