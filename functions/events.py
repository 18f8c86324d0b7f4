"""The events of a tick in the log, by stable names: alerts and metrics are built on them (docs/operations.md)."""

import logging
from dataclasses import asdict

from db.settle import Disposal
from domain.errors import Unavailable
from domain.run import ClaimedRun, Decision
from domain.summary import TickSummary
from domain.webhook_url import redacted

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
    """One line per delivery; the webhook's URL only as scheme, host and hash."""
    run, attempt = decision.run, decision.attempt
    log.log(
        logging.INFO if disposal is Disposal.SUCCESS else logging.WARNING,
        "%s: %s → %s: %s",
        disposal,
        run.task_name,
        redacted(run.webhook_url),
        decision.message,
        extra={
            "event": "delivery",
            "task_id": str(run.task_id),
            "run_id": str(run.id),
            "attempt": run.number,
            "status": disposal,
            "http_status": attempt.http_status,
            "error": attempt.error,
            "duration_ms": attempt.duration_ms,
        },
    )


def log_deactivation(run: ClaimedRun) -> None:
    """A task was switched off: what nobody should have to find out from a missing call."""
    log.warning(
        "deactivated: %s will not be called again until its status is set to active",
        run.task_name,
        extra={"event": "task.deactivated", "task_id": str(run.task_id), "run_id": str(run.id)},
    )


def log_failed_tick(error: Unavailable) -> None:
    """A tick that answered 503: the next one goes on."""
    log.error("tick: %s", error, extra={"event": "tick.failed"})
