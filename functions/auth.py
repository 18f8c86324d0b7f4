"""Who may call: bearer tokens (RFC 6750)."""

import hmac
from collections.abc import Sequence

import flask

from functions.problems import Forbidden, Unauthorized

READING = ("GET", "HEAD")
CHALLENGE = 'Bearer realm="insignia"'


def require_token(request: flask.Request, tokens: Sequence[str]) -> None:
    """Raise Unauthorized unless the request carries one of `tokens`."""
    scheme, _, credentials = request.headers.get("Authorization", "").strip().partition(" ")
    if scheme.lower() != "bearer" or not credentials.strip():
        raise Unauthorized(
            "A token is missing; send the header 'Authorization: Bearer <token>'.",
            headers={"WWW-Authenticate": CHALLENGE},
        )
    if not is_one_of(credentials.strip(), tokens):
        raise Unauthorized(
            "The token is not valid; send the one that this Insignia was started with.",
            headers={"WWW-Authenticate": f'{CHALLENGE}, error="invalid_token"'},
        )


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
