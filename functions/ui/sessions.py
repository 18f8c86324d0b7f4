"""Who looks at the pages: a cookie signed with a key that is derived from the token it was made with.

So a token that is rotated out ends its sessions, and nothing is stored.
"""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import flask
from itsdangerous import BadSignature, TimestampSigner

from functions.auth import READING, is_one_of
from functions.problems import Forbidden
from functions.settings import Settings

COOKIE = "__Host-insignia"
SECONDS = 12 * 3600


@dataclass(frozen=True, slots=True)
class Session:
    """`may_change` is False for those who signed in with a token of API_READ_TOKEN."""

    may_change: bool


def sign_in(settings: Settings, token: str) -> str | None:
    """The value of the cookie for who knows `token`; None unless it is one of ours."""
    if not is_one_of(token, (*settings.api_tokens, *settings.api_read_tokens)):
        return None
    return signer(token).sign(b"session").decode()


def session_of(settings: Settings, request: flask.Request) -> Session | None:
    """The session of a request; None without one, or when it has ended."""
    cookie = request.cookies.get(COOKIE, "")
    if is_signed_by_one_of(cookie, settings.api_tokens):
        return Session(may_change=True)
    if is_signed_by_one_of(cookie, settings.api_read_tokens):
        return Session(may_change=False)
    return None


def is_signed_by_one_of(cookie: str, tokens: Sequence[str]) -> bool:
    for token in tokens:
        try:
            signer(token).unsign(cookie, max_age=SECONDS)
        except BadSignature:
            continue
        return True
    return False


def signer(token: str) -> TimestampSigner:
    key = hmac.digest(token.encode(), b"insignia dashboard session", "sha256")
    return TimestampSigner(key, salt=COOKIE, digest_method=hashlib.sha256)


def set_cookie(response: flask.Response, value: str) -> None:
    """Keep the session for 12 h; with an empty value, end it."""
    seconds = SECONDS if value else 0
    response.set_cookie(COOKIE, value, max_age=seconds, path="/", secure=True, httponly=True, samesite="Lax")


def require_own_page(request: flask.Request) -> None:
    """Raise Forbidden when a page of another site makes a browser send what changes something."""
    if request.method in READING:
        return
    site = request.headers.get("Sec-Fetch-Site")
    origin = urlsplit(request.headers.get("Origin", ""))
    is_own = site == "same-origin" if site is not None else origin.netloc == request.host
    if not is_own:
        raise Forbidden(
            "This request does not come from a page of this Insignia; open the page, and try again."
        )
