"""Why a run came to what it did, in plain words, and what to do about it."""

from dataclasses import dataclass
from typing import assert_never

from domain.attempt import AttemptError
from domain.run import AttemptOutcome, RunSource, RunStatus, TaskLog


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Two texts for people, of one or two sentences each; `advice` is None where there is nothing to do."""

    cause: str
    advice: str | None = None


MISSED = Diagnosis(
    "No call could be made in time, and the misfire policy of the task does not make up for what was missed.",
    "See on the overview whether something calls the tick every minute, and in the logs whether the limits of its "
    "destination hold the task back (throttled_ms). With misfire_policy run_all every slot is made up for.",
)
SKIPPED = Diagnosis(
    "The run before it was still under way, and runs of this task may not overlap.",
    "Run the task less often, or let its webhook answer sooner. With overlap_policy allow both run.",
)
CANCELLED = Diagnosis(
    "The task was switched off or changed before this run could go on.", "Retry it if it still matters."
)
RECORDED = Diagnosis(
    "Somebody recorded this run over the API; Insignia did not make it.", "Ask where it was made."
)
LOST = Diagnosis(
    "The process that made the call ended before the answer was recorded.",
    "The webhook may have been called, with the same webhook-id each time. "
    "If this repeats, see in the log of Insignia what its process dies of.",
)
UNRECORDED = Diagnosis(
    "The webhook was called, but Insignia could not record its answer.",
    "See the log of Insignia, which says why.",
)
UNTRIED = Diagnosis("It has not been tried yet.", "Wait: the next tick that may makes the attempt.")
UNKNOWN = Diagnosis("The log names no cause.")

BY_ERROR = {
    AttemptError.DNS: Diagnosis(
        "The host name of the webhook could not be resolved.",
        "Look for a typing error in the host, and whether its DNS record exists where Insignia runs.",
    ),
    AttemptError.CONNECT: Diagnosis(
        "Nobody answered at the address of the webhook, or the connection broke.",
        "See whether the service runs and listens on this port, and whether a firewall stands between.",
    ),
    AttemptError.TLS: Diagnosis(
        "No secure connection came about: the certificate may have expired, be for another name, or of an "
        "authority that Insignia does not know, or the port speaks plain HTTP.",
        "Renew the certificate with its whole chain, which Insignia always verifies; name an authority of your own "
        "in SSL_CERT_FILE; or, where there is no certificate, let the URL begin with http://.",
    ),
    AttemptError.TIMEOUT: Diagnosis(
        "The webhook did not answer completely within the time-out.",
        "Let it answer at once and work afterwards, or raise the time-out of the task (at most 45 s).",
    ),
    AttemptError.BLOCKED: Diagnosis(
        "Insignia did not make the call, because webhooks may not reach this address.",
        "Use a public address. If the network is yours, its operator may allow it in EGRESS_ALLOW.",
    ),
    AttemptError.TOO_LARGE: Diagnosis(
        "The headers of the answer are larger than what is read.", "Let the webhook send fewer headers."
    ),
    AttemptError.PROTOCOL: Diagnosis(
        "No valid HTTP was spoken.",
        "See whether scheme and port of the URL are those of an HTTP service.",
    ),
}
"""Of all errors but `http`, which the status tells more about."""

REFUSED = Diagnosis(
    "The webhook refuses what was sent.",
    "Compare the payload with what it expects; its answer may name the field.",
)
UNAUTHORIZED = Diagnosis(
    "The webhook does not accept who calls it.",
    "Renew the token in the URL or the headers of the task, and compare the signing secret.",
)
BEHIND = Diagnosis(
    "Something in front of the webhook could not reach it.",
    "See whether the service behind that address runs, and answers in time.",
)
BY_HTTP_STATUS = {
    400: REFUSED,
    401: UNAUTHORIZED,
    403: UNAUTHORIZED,
    404: Diagnosis(
        "There is nothing at the path of the webhook.",
        "Look for a typing error in the path, and whether the webhook was deleted.",
    ),
    405: Diagnosis("The webhook does not take this method.", "Choose another method in the task."),
    408: Diagnosis("The webhook waited in vain for the request.", "It may pass; retry it."),
    410: Diagnosis(
        "The webhook is gone for good, so Insignia switches the task off.",
        "Put the new URL into the task, or delete it.",
    ),
    413: Diagnosis("The payload is larger than what the webhook takes.", "Send less."),
    415: Diagnosis(
        "The webhook does not take this kind of content.", "Set the header Content-Type that it expects."
    ),
    422: REFUSED,
    429: Diagnosis(
        "The webhook is called too often, perhaps by others from the same address too.",
        "Run the task less often, or spread tasks of this host. A Retry-After is waited for, and a run that "
        "ends like this does not count towards deactivation.",
    ),
    502: BEHIND,
    503: Diagnosis(
        "The service is overloaded or down for maintenance.",
        "It may pass; see whether the service runs, and retry it.",
    ),
    504: BEHIND,
}


def diagnose(log: TaskLog) -> Diagnosis | None:
    """None of a success."""
    match log.status:
        case RunStatus.SUCCESS:
            return None
        case RunStatus.RUNNING:
            return Diagnosis("An attempt is under way.")
        case RunStatus.RETRYING | RunStatus.FAILED:
            return of_failure(log)
        case RunStatus.MISSED:
            return MISSED
        case RunStatus.SKIPPED:
            return SKIPPED
        case RunStatus.CANCELLED:
            return CANCELLED
    assert_never(log.status)


def of_failure(log: TaskLog) -> Diagnosis:
    if log.source is RunSource.API:
        return RECORDED
    if not log.attempts:
        return UNTRIED
    if log.attempts[-1].get("outcome") == AttemptOutcome.UNKNOWN:
        return LOST
    if log.error == AttemptError.HTTP and log.http_status is not None:
        return of_status(log.http_status)
    if log.error is not None:
        return BY_ERROR[AttemptError(log.error)]
    return UNRECORDED if log.attempts[-1].get("outcome") == AttemptOutcome.FAILED else UNKNOWN


def of_status(http_status: int) -> Diagnosis:
    if known := BY_HTTP_STATUS.get(http_status):
        return known
    if http_status >= 500:
        return Diagnosis(
            "Something went wrong inside the webhook's service.", "See its log; it may pass, so retry it."
        )
    if http_status >= 400:
        return Diagnosis(
            "The webhook refuses the call.", "Its answer, or its documentation, says what is wrong."
        )
    if http_status >= 300:
        return Diagnosis(
            "The webhook answered with a redirect, and these are not followed.",
            "Put the final URL into the task.",
        )
    return Diagnosis(
        "The webhook answered with a status that this task does not count as a success.",
        "Add it to the task's success_statuses if it is one.",
    )
