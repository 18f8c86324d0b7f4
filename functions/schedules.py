"""/schedules: what a schedule means, before a task has it."""

from db.engine import transaction
from db.ticks import read_clock
from domain.preview import preview
from domain.words import in_words
from functions.bootstrap import database
from functions.reports import SchedulePreview, ScheduleQuery
from functions.routing import Routes

routes = Routes("Schedules")


@routes.add("GET", "/schedules/preview")
def preview_schedule(query: ScheduleQuery) -> SchedulePreview:
    """Preview a schedule: its next runs, in words, and what is easily overlooked.

    The runs are those that a task with this schedule would have from now on. A `note` tells of a run that a clock
    change moves, or of runs that one drops before it.
    """
    with transaction(database()) as connection:
        now = read_clock(connection)
    found = preview(query.schedule, query.timezone, now, query.count)
    return SchedulePreview.model_validate(
        {
            "schedule": query.schedule,
            "timezone": query.timezone,
            "words": in_words(query.schedule),
            "runs": found.runs,
            "warnings": found.warnings,
        }
    )
