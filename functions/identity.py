"""Google's identity tokens (OpenID Connect): those that callers send are verified, our own are fetched.

So are access tokens, which are for Google's own APIs.

google-auth does both; it and requests cost 300 ms to import, so that is done on first use.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from domain.errors import Unavailable
from functions.auth import invalid_token
from functions.transfer import monotonic

if TYPE_CHECKING:
    import requests

CERTIFICATES_URL = "https://www.googleapis.com/oauth2/v1/certs"
ISSUERS = ("https://accounts.google.com", "accounts.google.com")
CLOCK_SKEW_SECONDS = 10
TIMEOUT_SECONDS = 5
KEPT_SECONDS = (60, 86_400)
"""How long certificates are kept: as their answer says, within these bounds."""

logger = logging.getLogger(__name__)


class IdentityVerifier:
    """Verifies identity tokens, with certificates that it fetches and keeps."""

    def __init__(self, certificates_url: str = CERTIFICATES_URL) -> None:
        self._url = certificates_url
        self._certificates: Mapping[str, str] = {}
        self._fresh_until = 0.0
        self._lock = threading.Lock()

    def verify(self, token: str, *, emails: Sequence[str], audiences: Sequence[str]) -> None:
        """Raise Unauthorized unless Google gave `token` to one of the accounts `emails`, for one of `audiences`.

        Raises Unavailable when Google's certificates cannot be had.
        """
        from google.auth import exceptions, jwt

        certificates = self._current_certificates()
        try:
            claims = jwt.decode(  # type: ignore[no-untyped-call]
                token, certs=certificates, clock_skew_in_seconds=CLOCK_SKEW_SECONDS
            )
        # malformed, not signed by one of these keys, expired; odd JSON brings the last two
        except (exceptions.GoogleAuthError, ValueError, TypeError, RecursionError) as error:
            logger.info("an identity token was refused: %s", type(error).__name__)
            raise invalid_token(
                "The identity token is not one that Google signed, or it has expired."
            ) from None
        if (complaint := refusal(claims, emails=emails, audiences=audiences)) is not None:
            logger.warning("an identity token was refused: %s", complaint)
            raise invalid_token(
                "The identity token is not for this function, or not of the account that may call it; "
                "the log says which."
            )

    def _current_certificates(self) -> Mapping[str, str]:
        with self._lock:
            if monotonic() >= self._fresh_until:
                self._certificates, kept_seconds = fetch_certificates(self._url)
                self._fresh_until = monotonic() + kept_seconds
            return self._certificates


def refusal(claims: Mapping[str, object], *, emails: Sequence[str], audiences: Sequence[str]) -> str | None:
    """Why the claims of a token that Google signed do not open a route."""
    audience = claims.get("aud")
    if claims.get("iss") not in ISSUERS:
        return f"its issuer is {claims.get('iss')!r}; expected {ISSUERS[0]}"
    if not isinstance(audience, str) or audience.rstrip("/") not in audiences:
        return f"its audience is {audience!r}; expected {' or '.join(audiences)}"
    if claims.get("email") not in emails:
        return f"its account is {claims.get('email')!r}; expected {' or '.join(emails)}"
    if claims.get("email_verified") is not True:
        return "its e-mail address is not verified"
    return None


def fetch_certificates(url: str) -> tuple[Mapping[str, str], float]:
    """Certificates in PEM by key id, and for how many seconds they are good; raises Unavailable."""
    import requests

    try:
        with plain_session() as session:
            answer = session.get(url, timeout=TIMEOUT_SECONDS, allow_redirects=False)
        if answer.status_code != requests.codes.ok:
            raise ValueError(f"HTTP {answer.status_code}")
        certificates = answer.json()
        if not isinstance(certificates, dict) or not all(
            isinstance(pem, str) for pem in certificates.values()
        ):
            raise TypeError("no certificates by key id")
    except (requests.RequestException, ValueError, TypeError) as error:
        raise Unavailable(
            "Google's certificates cannot be had, without which no identity token can be checked; try again."
        ) from error
    stated = re.search(r"max-age=(\d{1,9})", answer.headers.get("Cache-Control", ""))
    least, most = KEPT_SECONDS
    return certificates, min(max(int(stated[1]) if stated else 0, least), most)


def fetch_identity_token(audience: str) -> str:
    """A token by which this process proves its own account to `audience`; raises Unavailable without one."""
    from google.auth import exceptions
    from google.auth.transport.requests import Request
    from google.oauth2.id_token import fetch_id_token

    try:
        with plain_session() as session:
            token: str = fetch_id_token(Request(session), audience)  # type: ignore[no-untyped-call]
    except exceptions.GoogleAuthError as error:
        raise Unavailable(
            "This function cannot prove its own account: Google gives it no identity token; try again."
        ) from error
    return token


def fetch_access_token(scope: str) -> str:
    """A token by which this process uses Google's APIs within `scope`; raises Unavailable without one."""
    import google.auth
    from google.auth import exceptions
    from google.auth.transport.requests import Request

    try:
        with plain_session() as session:
            request = Request(session)
            credentials, _ = google.auth.default(scopes=[scope], request=request)
            credentials.refresh(request)  # type: ignore[no-untyped-call]
    except exceptions.GoogleAuthError as error:
        raise Unavailable(
            "This function cannot use Google's APIs: Google gives it no access token; try again."
        ) from error
    return str(credentials.token)


def plain_session() -> requests.Session:
    """Without proxies and .netrc of the environment."""
    import requests

    session = requests.Session()
    session.trust_env = False
    return session
