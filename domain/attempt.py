"""An attempt: one HTTP call of a run, and what came of it."""

from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus

PHRASES = {int(status): status.phrase for status in HTTPStatus}


class AttemptError(StrEnum):
    """Why a call failed; design/api.md, Task-log fields."""

    DNS = "dns"
    CONNECT = "connect"
    TLS = "tls"
    TIMEOUT = "timeout"
    HTTP = "http"
    TOO_LARGE = "too_large"
    PROTOCOL = "protocol"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """The facts of a finished call; `message` is a clause such as "the webhook answered HTTP 500"."""

    duration_ms: int
    http_status: int | None
    error: AttemptError | None
    message: str
    response_excerpt: str | None

    @property
    def succeeded(self) -> bool:
        return self.error is None


def answered(http_status: int, *, duration_ms: int, response_excerpt: str | None) -> Attempt:
    """An attempt that got a whole answer: a 2xx is a success; a redirect is not followed and is a failure."""
    message = f"the webhook answered HTTP {http_status} {PHRASES.get(http_status, '')}".rstrip()
    if 300 <= http_status < 400:
        message += "; redirects are not followed, so use the final URL"
    return Attempt(
        duration_ms=duration_ms,
        http_status=http_status,
        error=None if 200 <= http_status < 300 else AttemptError.HTTP,
        message=message,
        response_excerpt=response_excerpt,
    )


def unsendable(reason: str) -> Attempt:
    """An attempt whose request could not be made."""
    return Attempt(
        duration_ms=0, http_status=None, error=AttemptError.PROTOCOL, message=reason, response_excerpt=None
    )
