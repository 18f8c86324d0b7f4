"""The heartbeat: a call to a monitor after each tick, which raises the alarm when it stays away."""

from datetime import UTC, datetime
from uuid import uuid4

from domain.success_statuses import DEFAULT, parse_success_statuses
from domain.task import Method
from domain.webhook_url import parse_webhook_url
from functions import VERSION
from functions.delivery import Deliveries
from functions.egress import Egress
from functions.events import log_lost_heartbeat
from functions.transfer import Call, FinishedCall, monotonic

SECONDS = 5.0
"""The answer is waited for no longer: the next tick is due."""


def beat(url: str, egress: Egress, *, has_failed: bool) -> None:
    """Call `url` after a tick, or its path with /fail after one that failed, as healthchecks.io wants it.

    A call that fails is logged, and changes nothing. https://healthchecks.io/docs/signaling_failures/
    """
    call = Call(
        id=str(uuid4()),
        url=parse_webhook_url(with_fail(url) if has_failed else url),
        method=Method.POST,
        headers={"User-Agent": f"Insignia/{VERSION}"},
        body=b"",
        timeout_seconds=SECONDS,
        success_statuses=parse_success_statuses(DEFAULT),
        claimed_at=datetime.now(UTC),
    )
    with Deliveries(egress) as deliveries:
        deliveries.start(call)
        until = monotonic() + SECONDS + 1
        finished: list[FinishedCall] = []
        while not finished and monotonic() < until:
            finished = deliveries.wait(until - monotonic())
    attempt = finished[0].attempt if finished else None
    if attempt is None or not attempt.succeeded:
        log_lost_heartbeat(url, "it was not sent" if attempt is None else attempt.message)


def with_fail(url: str) -> str:
    """The URL that says that something failed: /fail at the end of its path."""
    path, mark, query = url.partition("?")
    return f"{path.rstrip('/')}/fail{mark}{query}"
