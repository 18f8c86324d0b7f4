"""The events of a tick in the log: stable names, fixed fields (docs/events.md). Metrics and alerts are built on them.

One delivery is one line of thousands in a tick: what is in it costs nothing when its level is off. What is
logged here is told to OpenTelemetry as well, where that is on (docs/telemetry.md).
"""

import logging
from collections.abc import Iterable
from dataclasses import asdict
from datetime import timedelta

from db.settle import Disposal
from domain.errors import Unavailable
from domain.notification import Change, ChangeKind, Outcome, Told
from domain.run import Decision, trace_id
from domain.summary import TickKind, TickSummary
from domain.webhook_url import redacted
from functions import telemetry
from functions.logs import Line, log_together

MILLISECOND = timedelta(milliseconds=1)
UNFINISHED = {Disposal.RETRYING: "run.retrying", Disposal.LATE: "run.late"}

log = logging.getLogger(__name__)


def log_summary(summary: TickSummary, kind: TickKind) -> None:
    """One line per tick or worker that could record all it did."""
    telemetry.record_summary(summary, kind)
    counts = {name: count for name, count in asdict(summary).items() if count and isinstance(count, int)}
    event = {"event": "tick.summary"} if kind is TickKind.TICK else {"event": "worker.summary"}
    log.info(
        "%s: %s",
        kind,
        ", ".join(f"{count:,} {name}" for name, count in counts.items()) or "nothing was due",
        extra={"fields": event | asdict(summary)},
    )


def log_deliveries(settled: Iterable[tuple[Decision, Disposal]]) -> None:
    """One line per attempt, named by what became of its run; the webhook's URL only as scheme, host and hash."""
    levels = [level for level in (logging.INFO, logging.WARNING) if log.isEnabledFor(level)]
    lines = []
    for decision, disposal in settled:
        telemetry.record_attempt(decision)
        level = logging.INFO if disposal is Disposal.SUCCESS else logging.WARNING
        if level in levels:
            lines.append(line_of_delivery(level, decision, disposal))
    log_together(log, "%s: %s → %s: %s", lines)


def line_of_delivery(level: int, decision: Decision, disposal: Disposal) -> Line:
    run, attempt = decision.run, decision.attempt
    fields: dict[str, object] = {
        "event": UNFINISHED.get(disposal, "run.finished"),
        "task_id": run.task_id,
        "run_id": run.id,
        "trace_id": run.trace_id,
        "attempt": run.number,
        "status": disposal,
        "outcome": decision.outcome,
        "destination": run.destination,
        "http_status": attempt.http_status,
        "error": attempt.error,
        "duration_ms": attempt.duration_ms,
        "lateness_ms": round((run.started_at - run.scheduled_for) / MILLISECOND),
    }
    return level, (disposal, run.task_name, redacted(run.webhook_url), decision.message), fields


def log_deactivations(changes: Iterable[Change]) -> None:
    """Tasks that were switched off: what nobody should have to find out from a missing call."""
    for change in changes:
        if change.kind is ChangeKind.DEACTIVATED:
            log.warning(
                "deactivated: %s will not be called again until its status is set to active",
                change.data["task_name"],
                extra={
                    "fields": {
                        "event": "task.deactivated",
                        "task_id": change.data["task_id"],
                        "run_id": change.data["run_id"],
                        "trace_id": trace_id(change.data["run_id"]),
                    }
                },
            )


def log_failed_tick(error: Unavailable, kind: TickKind) -> None:
    """A tick or a worker that answered 503: the next tick goes on."""
    telemetry.record_failure(kind)
    event = {"event": "tick.failed"} if kind is TickKind.TICK else {"event": "worker.failed"}
    log.error("%s: %s", kind, error, extra={"fields": event})


def log_lost_heartbeat(url: str, reason: str) -> None:
    """The monitor at HEARTBEAT_URL did not take the call, and will raise the alarm if that goes on."""
    log.warning(
        "heartbeat: %s was not told: %s",
        redacted(url),
        reason,
        extra={"fields": {"event": "heartbeat.lost", "error": reason}},
    )


def log_notification(told: Told, url: str) -> None:
    """One line per attempt to tell somebody of a change, named by what became of it."""
    notification = told.notification
    name, level = {
        Outcome.SENT: ("notification.sent", logging.INFO),
        Outcome.DROPPED: ("notification.dropped", logging.ERROR),
        None: ("notification.retrying", logging.WARNING),
    }[told.outcome]
    log.log(
        level,
        "notification: %s → %s: %s",
        notification.kind,
        redacted(url),
        told.error or told.outcome or "not sent",
        extra={
            "fields": {
                "event": name,
                "notification_id": str(notification.id),
                "kind": notification.kind,
                "attempt": notification.number,
                "error": told.error,
            }
        },
    )


def log_wake_up(workers: int, *, failure: str | None) -> None:
    """A tick has asked Pub/Sub for workers; without them it delivers by itself, and the next one goes on."""
    if failure is None:
        fields = {"event": "workers.woken", "workers": workers}
        log.info("workers: %d woken", workers, extra={"fields": fields})
    else:
        log.warning(
            "workers: %d were not woken, Pub/Sub did not take the messages: %s",
            workers,
            failure,
            extra={"fields": {"event": "workers.not_woken", "workers": workers, "error": failure}},
        )
