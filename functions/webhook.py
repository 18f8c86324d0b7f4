"""The HTTP request of an attempt: what a webhook receives (docs/engine.md, Identity of a delivery)."""

from domain.run import ClaimedRun
from domain.signature import parse_signing_secret, signature_header
from domain.success_statuses import parse_success_statuses
from domain.webhook_url import parse_webhook_url
from functions import VERSION
from functions.transfer import Call


def call_of(run: ClaimedRun) -> Call:
    """The call that makes this attempt. Raises InvalidInput for a definition that cannot be sent.

    A user's header takes the place of ours of the same name, where domain/webhook_headers.py allows it.
    """
    slot = run.scheduled_for.isoformat().replace("+00:00", "Z")
    timestamp = int(run.started_at.timestamp())
    body = run.payload if run.method.has_body else None
    headers = {
        "User-Agent": f"Insignia/{VERSION}",
        "Accept": "*/*",
        "traceparent": f"00-{run.trace_id}-{run.span_id}-00",
        **({"Content-Type": "application/json"} if body is not None else {}),
    }
    of_user = {name.lower() for name in run.headers}
    headers = {name: value for name, value in headers.items() if name.lower() not in of_user}
    identity = {
        "Expect": "",
        "webhook-id": str(run.id),
        "webhook-timestamp": str(timestamp),
        "X-Insignia-Task-Id": str(run.task_id),
        "X-Insignia-Scheduled-For": slot,
        "X-Insignia-Attempt": str(run.number),
    }
    secrets = [parse_signing_secret(secret) for secret in run.signing_secrets]
    if secrets:
        identity["webhook-signature"] = signature_header(secrets, str(run.id), timestamp, body or b"")
    return Call(
        id=run.id,
        url=parse_webhook_url(run.webhook_url),
        method=run.method,
        headers={**headers, **run.headers, **identity},
        body=body,
        timeout_seconds=run.timeout_seconds,
        success_statuses=parse_success_statuses(run.success_statuses),
        claimed_at=run.started_at,
    )
