"""An attempt: one HTTP call of a run, and what came of it."""

from collections.abc import Sequence
from enum import StrEnum
from functools import cache
from http import HTTPStatus
from typing import NamedTuple

from domain.success_statuses import is_success

PHRASES = {int(status): status.phrase for status in HTTPStatus}


class AttemptError(StrEnum):
    """Why a call failed."""

    DNS = "dns"
    CONNECT = "connect"
    TLS = "tls"
    TIMEOUT = "timeout"
    HTTP = "http"
    BLOCKED = "blocked"
    TOO_LARGE = "too_large"
    PROTOCOL = "protocol"


class Attempt(NamedTuple):
    """The facts of a finished call; `message` is a clause such as "the webhook answered HTTP 500".

    `retry_after_seconds` is what the receiver asked for, if it did.
    """

    duration_ms: int
    http_status: int | None
    error: AttemptError | None
    message: str
    response_excerpt: str | None
    retry_after_seconds: float | None = None

    @property
    def succeeded(self) -> bool:
        return self.error is None


def answered(
    http_status: int,
    *,
    duration_ms: int,
    success_statuses: Sequence[range],
    response_excerpt: str | None = None,
    retry_after_seconds: float | None = None,
) -> Attempt:
    """An attempt that got an answer: a success by `success_statuses`; a redirect is not followed."""
    message = said(http_status)
    if is_success(http_status, success_statuses):
        return Attempt(duration_ms, http_status, None, message, response_excerpt)
    if 300 <= http_status < 400:
        message += "; redirects are not followed, so use the final URL"
    return Attempt(
        duration_ms=duration_ms,
        http_status=http_status,
        error=AttemptError.HTTP,
        message=message,
        response_excerpt=response_excerpt,
        retry_after_seconds=retry_after_seconds,
    )


@cache
def said(http_status: int) -> str:
    return f"the webhook answered HTTP {http_status} {PHRASES.get(http_status, '')}".rstrip()


def unsendable(reason: str) -> Attempt:
    """An attempt whose request could not be made."""
    return Attempt(
        duration_ms=0, http_status=None, error=AttemptError.PROTOCOL, message=reason, response_excerpt=None
    )
