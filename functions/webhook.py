"""The HTTP request of an attempt: what a webhook receives (docs/engine.md, Identity of a delivery)."""

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache

from domain.run import ClaimedRun, span_id, trace_id
from domain.signature import parse_signing_secret, signature_header
from domain.success_statuses import parse_success_statuses
from domain.task import Method
from domain.webhook_url import parse_webhook_url
from functions import VERSION, telemetry
from functions.transfer import Call

USER_AGENT = f"Insignia/{VERSION}"


def call_of(run: ClaimedRun) -> Call:
    """The call that makes this attempt. Raises InvalidInput for a definition that cannot be sent."""
    body = run.payload if run.method.has_body else None
    headers = headers_of(
        run.headers,
        run.method,
        run_id=run.id,
        lease_id=run.lease_id,
        task_id=run.task_id,
        scheduled_for=run.scheduled_for,
        started_at=run.started_at,
        number=run.number,
    )
    secrets = [parse_signing_secret(secret) for secret in run.signing_secrets]
    if secrets:
        timestamp = int(run.started_at.timestamp())
        headers["webhook-signature"] = signature_header(secrets, run.id, timestamp, body or b"")
    return Call(
        run.id,
        parse_webhook_url(run.webhook_url),
        run.method,
        headers,
        body,
        run.timeout_seconds,
        parse_success_statuses(run.success_statuses),
        run.started_at,
    )


@lru_cache(maxsize=1_024)  # many tasks have the same slot
def written(instant: datetime) -> str:
    return instant.isoformat().replace("+00:00", "Z")


@lru_cache(maxsize=1_024)  # the runs of a claim begin at the same time
def in_seconds(instant: datetime) -> str:
    return str(int(instant.timestamp()))


def headers_of(
    of_user: Mapping[str, str],
    method: Method,
    *,
    run_id: str,
    lease_id: str,
    task_id: str,
    scheduled_for: datetime,
    started_at: datetime,
    number: int,
) -> dict[str, str]:
    """The headers of an attempt but for its signature.

    A user's header takes the place of ours of the same name, where domain/webhook_headers.py allows it.
    """
    headers = {
        "User-Agent": USER_AGENT,
        "traceparent": f"00-{trace_id(run_id)}-{span_id(lease_id)}-{'01' if telemetry.is_on() else '00'}",
    }
    if method.has_body:
        headers["Content-Type"] = "application/json"
    if of_user:
        replaced = {name.lower() for name in of_user}
        headers = {name: value for name, value in headers.items() if name.lower() not in replaced}
        headers |= of_user
    headers["webhook-id"] = run_id
    headers["webhook-timestamp"] = in_seconds(started_at)
    headers["X-Insignia-Task-Id"] = task_id
    headers["X-Insignia-Scheduled-For"] = written(scheduled_for)
    headers["X-Insignia-Attempt"] = str(number)
    return headers
