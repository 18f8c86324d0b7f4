"""Who may call: bearer tokens (RFC 6750), and on some routes the identity tokens of service accounts."""

import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import flask

from functions.problems import Forbidden, Unauthorized

READING = ("GET", "HEAD")
CHALLENGE = 'Bearer realm="insignia"'


@dataclass(frozen=True, slots=True)
class Caller:
    """The service accounts whose identity tokens open a route; `audience` None is the URL of the request."""

    emails: tuple[str, ...]
    audience: str | None = None


def require_token(
    request: flask.Request, tokens: Sequence[str], check_identity: Callable[[str], None] | None = None
) -> None:
    """Raise Unauthorized unless the request carries one of `tokens`, or what `check_identity` accepts.

    `check_identity` gets what looks like an identity token, and raises if it is none that opens this route.
    """
    scheme, _, credentials = request.headers.get("Authorization", "").strip().partition(" ")
    credentials = credentials.strip()
    if scheme.lower() != "bearer" or not credentials:
        raise Unauthorized(
            "A token is missing; send the header 'Authorization: Bearer <token>'.",
            headers={"WWW-Authenticate": CHALLENGE},
        )
    if is_one_of(credentials, tokens):
        return
    if check_identity is None or credentials.count(".") != 2:
        raise invalid_token("The token is not valid; send the one that this Insignia was started with.")
    check_identity(credentials)


def invalid_token(detail: str) -> Unauthorized:
    return Unauthorized(detail, headers={"WWW-Authenticate": f'{CHALLENGE}, error="invalid_token"'})


def may_only_read(request: flask.Request, read_tokens: Sequence[str]) -> bool:
    """Whether the request carries one of `read_tokens`; raises Forbidden if it does and wants to change something."""
    scheme, _, credentials = request.headers.get("Authorization", "").strip().partition(" ")
    if scheme.lower() != "bearer" or not is_one_of(credentials.strip(), read_tokens):
        return False
    if request.method not in READING:
        raise Forbidden(
            "This token may only read; use one of API_TOKEN to change something.",
            headers={"WWW-Authenticate": f'{CHALLENGE}, error="insufficient_scope"'},
        )
    return True


def is_one_of(credentials: str, tokens: Sequence[str]) -> bool:
    """Compare with every token, each in constant time, so that no answer is faster than another."""
    given = credentials.encode("utf-8", "surrogateescape")
    matches = [hmac.compare_digest(given, token.encode()) for token in tokens]
    return any(matches)


def audiences(caller: Caller, origin: str, path: str) -> list[str]:
    """What a token of `caller` may be meant for: `origin` is scheme and host of the URL of the request.

    Cloud Scheduler takes the whole URL unless told otherwise; Cloud Run wants the URL of the service.
    """
    expected = [caller.audience] if caller.audience is not None else [origin, origin + path]
    return [url.rstrip("/") for url in expected]
