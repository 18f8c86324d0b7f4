"""The summary of a tick: its answer, and its row in `ticks`."""

from dataclasses import dataclass
from enum import StrEnum


class TickKind(StrEnum):
    """Who ran the loop: the tick of a minute, or a worker that it has woken."""

    TICK = "tick"
    WORKER = "worker"


@dataclass(slots=True, kw_only=True)
class TickSummary:
    """Counts of one tick. Every run that the tick took up stands in exactly one of its ends:

    started = succeeded + failed + retrying + throttled + cancelled + late + unsettled
    `due` is what was due at its start, `remaining` what was due at its end.
    """

    due: int = 0
    started: int = 0
    succeeded: int = 0
    failed: int = 0
    retrying: int = 0
    throttled: int = 0
    missed: int = 0
    skipped: int = 0
    cancelled: int = 0
    deactivated: int = 0
    late: int = 0
    unsettled: int = 0
    remaining: int = 0
    lag_seconds: float = 0.0
    duration_seconds: float = 0.0
