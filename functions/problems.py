"""Errors of the HTTP side, the one table from error to status, and the document that says it (RFC 9457)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import flask

from domain.errors import (
    Conflict,
    InsigniaError,
    InvalidInput,
    InvalidSchedule,
    InvalidTimezone,
    InvalidWebhookUrl,
    NotFound,
    PreconditionFailed,
    Unavailable,
)
from functions.request_id import request_id

CONTENT_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong in a request; `pointer` is a JSON pointer into the body or the parameters."""

    pointer: str
    detail: str


class HttpError(InsigniaError):
    """Base of what the HTTP side itself refuses; `headers` and `members` are added to the answer."""

    def __init__(
        self,
        detail: str,
        *,
        faults: Sequence[Fault] = (),
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.faults = tuple(faults)
        self.headers = dict(headers or {})
        self.members = dict(members or {})


class BadRequest(HttpError):
    """Not HTTP as it should be."""


class MalformedBody(HttpError):
    """Not JSON by RFC 8259, or not a whole body."""


class Unauthorized(HttpError):
    """No token, or not one of ours."""


class Forbidden(HttpError):
    """A token that may not do this."""


class UnknownPath(HttpError):
    """No route has this path."""


class MethodNotAllowed(HttpError):
    """The path has routes, but not for this method."""


class BodyTooLarge(HttpError):
    """More bytes than a body may have."""


class UrlTooLong(HttpError):
    """More characters than a URL may have."""


class UnsupportedMediaType(HttpError):
    """A body that says it is something else than JSON."""


class InvalidRequest(HttpError, InvalidInput):
    """Legal JSON, or legal parameters, that break rules; `cause` is the type of the first rule's error."""

    def __init__(self, faults: Sequence[Fault], cause: type[InvalidInput] = InvalidInput) -> None:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        super().__init__(faults[0].detail + more, faults=faults)
        self.cause = cause


class Unhealthy(HttpError):
    """The service cannot work at present; `members` say what is wrong with what."""


class InternalError(HttpError):
    """A bug: stands for anything that is not in the table."""


TABLE: Mapping[type[InsigniaError], tuple[int, str]] = {
    BadRequest: (400, "BAD_REQUEST"),
    MalformedBody: (400, "MALFORMED_BODY"),
    Unauthorized: (401, "UNAUTHORIZED"),
    Forbidden: (403, "FORBIDDEN"),
    NotFound: (404, "NOT_FOUND"),
    UnknownPath: (404, "UNKNOWN_PATH"),
    MethodNotAllowed: (405, "METHOD_NOT_ALLOWED"),
    Conflict: (409, "CONFLICT"),
    PreconditionFailed: (412, "PRECONDITION_FAILED"),
    BodyTooLarge: (413, "BODY_TOO_LARGE"),
    UrlTooLong: (414, "URL_TOO_LONG"),
    UnsupportedMediaType: (415, "UNSUPPORTED_MEDIA_TYPE"),
    InvalidInput: (422, "INVALID_INPUT"),
    InvalidSchedule: (422, "INVALID_SCHEDULE"),
    InvalidTimezone: (422, "INVALID_TIMEZONE"),
    InvalidWebhookUrl: (422, "INVALID_WEBHOOK_URL"),
    InternalError: (500, "INTERNAL_ERROR"),
    Unavailable: (503, "UNAVAILABLE"),
    Unhealthy: (503, "UNHEALTHY"),
}
"""Error -> status and code. A subclass that is not listed is answered as its base."""

EXPECTED = tuple(TABLE)
"""Every other error is a bug."""

POINTERS: Mapping[type[InsigniaError], str] = {
    InvalidSchedule: "/schedule",
    InvalidTimezone: "/timezone",
    InvalidWebhookUrl: "/webhook_url",
}
"""Where the fault is when a rule is found broken after the body was read."""

TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    412: "Precondition Failed",
    413: "Content Too Large",
    414: "URI Too Long",
    415: "Unsupported Media Type",
    422: "Unprocessable Content",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


def problem(error: InsigniaError) -> flask.Response:
    """The answer that tells `error`, one of TABLE; every 4xx and 5xx is made here."""
    cause = error.cause if isinstance(error, InvalidRequest) else type(error)
    kind = next(known for known in cause.__mro__ if known in TABLE)
    status, code = TABLE[kind]
    faults = error.faults if isinstance(error, HttpError) else ()
    if kind in POINTERS and not faults:
        faults = (Fault(POINTERS[kind], str(error)),)
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": TITLES[status],
        "status": status,
        "detail": str(error),
        "code": code,
        "request_id": request_id.get(),
    }
    if faults:
        document["errors"] = [asdict(fault) for fault in faults]
    if isinstance(error, HttpError):
        document |= error.members
    response = flask.Response(
        json.dumps(document, ensure_ascii=False, separators=(",", ":")), status, content_type=CONTENT_TYPE
    )
    if status == 503:
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    if isinstance(error, HttpError):
        response.headers.update(error.headers)
    return response
