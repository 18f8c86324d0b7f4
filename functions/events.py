"""The events of a tick in the log: stable names, fixed fields (docs/events.md). Metrics and alerts are built on them.

One delivery is one line of thousands in a tick: what is in it costs nothing when its level is off.
"""

import logging
from dataclasses import asdict
from datetime import timedelta

from db.settle import Disposal
from domain.errors import Unavailable
from domain.run import ClaimedRun, Decision
from domain.summary import TickSummary
from domain.webhook_url import redacted

MILLISECOND = timedelta(milliseconds=1)

log = logging.getLogger(__name__)


def log_summary(summary: TickSummary) -> None:
    """One line per tick that could record all it did."""
    counts = {name: count for name, count in asdict(summary).items() if count and isinstance(count, int)}
    log.info(
        "tick: %s",
        ", ".join(f"{count:,} {name}" for name, count in counts.items()) or "nothing was due",
        extra={"event": "tick.summary", **asdict(summary)},
    )


def log_delivery(decision: Decision, disposal: Disposal) -> None:
    """One line per attempt, named by what became of its run; the webhook's URL only as scheme, host and hash."""
    level = logging.INFO if disposal is Disposal.SUCCESS else logging.WARNING
    if not log.isEnabledFor(level):
        return
    run, attempt = decision.run, decision.attempt
    log.log(
        level,
        "%s: %s → %s: %s",
        disposal,
        run.task_name,
        redacted(run.webhook_url),
        decision.message,
        extra={
            "event": event_of(disposal),
            "task_id": str(run.task_id),
            "run_id": str(run.id),
            "trace_id": run.trace_id,
            "attempt": run.number,
            "status": disposal,
            "outcome": decision.outcome,
            "destination": run.destination,
            "http_status": attempt.http_status,
            "error": attempt.error,
            "duration_ms": attempt.duration_ms,
            "lateness_ms": round((run.started_at - run.scheduled_for) / MILLISECOND),
        },
    )


def event_of(disposal: Disposal) -> str:
    match disposal:
        case Disposal.RETRYING:
            return "run.retrying"
        case Disposal.LATE:
            return "run.late"
        case _:
            return "run.finished"


def log_deactivation(run: ClaimedRun) -> None:
    """A task was switched off: what nobody should have to find out from a missing call."""
    log.warning(
        "deactivated: %s will not be called again until its status is set to active",
        run.task_name,
        extra={
            "event": "task.deactivated",
            "task_id": str(run.task_id),
            "run_id": str(run.id),
            "trace_id": run.trace_id,
        },
    )


def log_failed_tick(error: Unavailable) -> None:
    """A tick that answered 503: the next one goes on."""
    log.error("tick: %s", error, extra={"event": "tick.failed"})
