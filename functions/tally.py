"""Where each run that a tick took up stands in its summary."""

from typing import assert_never

from db.settle import Disposal
from domain.run import AttemptOutcome, Decision
from domain.summary import TickSummary


def count_end(summary: TickSummary, decision: Decision, disposal: Disposal) -> None:
    """Count one result that was recorded; one that is deferred is recorded, and counted, later."""
    match disposal:
        case Disposal.SUCCESS:
            summary.succeeded += 1
        case Disposal.FAILED:
            summary.failed += 1
        case Disposal.RETRYING if decision.outcome is AttemptOutcome.THROTTLED:
            summary.throttled += 1
        case Disposal.RETRYING:
            summary.retrying += 1
        case Disposal.CANCELLED | Disposal.GONE:
            summary.cancelled += 1
        case Disposal.LATE:
            summary.late += 1
        case Disposal.DEFERRED:
            pass
        case _:
            assert_never(disposal)
