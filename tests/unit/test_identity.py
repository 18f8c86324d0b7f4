"""Identity tokens: what opens a route, and what does not."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flask
import pytest
from pydantic import BaseModel
from werkzeug.test import Client, TestResponse

from domain.errors import Unavailable
from functions import bootstrap
from functions.auth import Caller, audiences
from functions.deliver import account_of_subscription
from functions.identity import IdentityVerifier, fetch_certificates, fetch_identity_token
from functions.problems import Unauthorized
from functions.routing import Routes, http_function
from functions.settings import load
from functions.tick import account_of_scheduler
from tests.google_accounts import ACCOUNT, GoogleAccounts, Signer, claims_of
from tests.receiver import Receiver

URL = "https://tick.example.com"
TOKEN = "the-token-of-the-identity-tests"


@pytest.fixture(scope="module")
def google() -> Iterator[GoogleAccounts]:
    with GoogleAccounts() as google:
        yield google


@pytest.fixture(scope="module")
def verifier(google: GoogleAccounts) -> IdentityVerifier:
    return IdentityVerifier(google.certificates_url)


def verify(verifier: IdentityVerifier, token: str) -> None:
    verifier.verify(token, emails=[ACCOUNT], audiences=[URL, f"{URL}/tick"])


def base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def assembled(header: Any, claims: Any, signature: bytes = b"") -> str:
    return ".".join(
        base64url(part) for part in (json.dumps(header).encode(), json.dumps(claims).encode(), signature)
    )


@pytest.mark.parametrize("issuer", ["https://accounts.google.com", "accounts.google.com"])
@pytest.mark.parametrize("audience", [URL, f"{URL}/", f"{URL}/tick", f"{URL}/tick/"])
def test_a_token_of_the_account_for_this_function_opens(
    google: GoogleAccounts, verifier: IdentityVerifier, issuer: str, audience: str
) -> None:
    verify(verifier, google.identity_token(audience, iss=issuer))


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://accounts.example.com"},
        {"iss": "http://accounts.google.com"},
        {"iss": None},
        {"aud": "https://another.example.com"},
        {"aud": f"{URL}/migrate"},
        {"aud": "http://tick.example.com"},
        {"aud": [URL]},
        {"aud": ""},
        {"aud": None},
        {"email": "another@your-project-id.example.com"},
        {"email": ACCOUNT.upper()},
        {"email": None},
        {"email_verified": False},
        {"email_verified": "true"},
        {"email_verified": None},
        {"exp": None},
        {"iat": None},
        {"exp": "tomorrow"},
        {"iat": [1]},
    ],
    ids=str,
)
def test_each_claim_that_is_wrong_closes(
    google: GoogleAccounts, verifier: IdentityVerifier, changes: dict[str, Any]
) -> None:
    token = google.identity_token(URL, **changes)
    with pytest.raises(Unauthorized) as caught:
        verify(verifier, token)
    assert caught.value.headers == {"WWW-Authenticate": 'Bearer realm="insignia", error="invalid_token"'}
    assert not [part for part in token.split(".") if part in str(caught.value)]


@pytest.mark.parametrize(("name", "seconds"), [("exp", -60), ("iat", 600)])
def test_a_token_that_has_expired_or_is_of_the_future_closes(
    google: GoogleAccounts, verifier: IdentityVerifier, name: str, seconds: int
) -> None:
    with pytest.raises(Unauthorized):
        verify(verifier, google.identity_token(URL, **{name: int(time.time()) + seconds}))


def test_a_token_of_another_key_closes(google: GoogleAccounts, verifier: IdentityVerifier) -> None:
    claims = claims_of(URL)
    for key_id in (google.signer.key_id, "another-key"):
        with pytest.raises(Unauthorized):
            verify(verifier, Signer(key_id).sign(claims))


@pytest.mark.parametrize("algorithm", ["none", "None", "HS256", "RS512", None, ["RS256"], {}])
def test_only_the_algorithms_of_google_are_known(
    google: GoogleAccounts, verifier: IdentityVerifier, algorithm: Any
) -> None:
    header = {"alg": algorithm, "typ": "JWT", "kid": google.signer.key_id}
    with pytest.raises(Unauthorized):
        verify(verifier, assembled(header, claims_of(URL)))


def test_the_certificate_is_no_shared_secret(google: GoogleAccounts, verifier: IdentityVerifier) -> None:
    """The classic confusion: a public certificate, taken for the key of an HMAC."""
    unsigned = assembled({"alg": "HS256", "kid": google.signer.key_id}, claims_of(URL)).rstrip(".")
    secret = google.signer.certificate_pem.encode()
    signature = hmac.new(secret, unsigned.encode(), hashlib.sha256).digest()
    with pytest.raises(Unauthorized):
        verify(verifier, f"{unsigned}.{base64url(signature)}")


def test_a_changed_claim_breaks_the_signature(google: GoogleAccounts, verifier: IdentityVerifier) -> None:
    header, _, signature = google.identity_token("https://another.example.com").split(".")
    forged = base64url(json.dumps(claims_of(URL)).encode())
    with pytest.raises(Unauthorized):
        verify(verifier, f"{header}.{forged}.{signature}")


@pytest.mark.parametrize(
    "token",
    [
        "..",
        "a.b.c",
        "é.b.c",
        "e30.e30.",
        "bnVsbA.bnVsbA.",
        "e30.W10.AA",
        f"{'W' * 7_000}.e30.",
        "====.====.====",
    ],
)
def test_what_is_no_token_at_all_closes(verifier: IdentityVerifier, token: str) -> None:
    with pytest.raises(Unauthorized):
        verify(verifier, token)


def test_a_deeply_nested_header_closes(verifier: IdentityVerifier) -> None:
    with pytest.raises(Unauthorized):
        verify(verifier, f"{base64url(b'[' * 100_000)}.e30.e30")


def test_certificates_are_kept_as_long_as_google_says() -> None:
    with GoogleAccounts() as google:
        verifier = IdentityVerifier(google.certificates_url)
        for _ in range(3):
            verify(verifier, google.identity_token(URL))
        assert len(google.requests) == 1
        verifier._fresh_until = 0
        verify(verifier, google.identity_token(URL))
        assert len(google.requests) == 2


@pytest.mark.parametrize(
    ("cache_control", "seconds"),
    [("public, max-age=20000", 20_000), ("max-age=999999999", 86_400), ("max-age=0", 60), ("no-store", 60)],
)
def test_certificates_are_kept_within_bounds(cache_control: str, seconds: int) -> None:
    with GoogleAccounts() as google:
        google.cache_control = cache_control
        assert fetch_certificates(google.certificates_url)[1] == seconds


@pytest.mark.parametrize("status", [500, 404, 302])
def test_without_certificates_nothing_can_be_told(status: int) -> None:
    with GoogleAccounts() as google:
        google.status = status
        verifier = IdentityVerifier(google.certificates_url)
        with pytest.raises(Unavailable, match="Google's certificates cannot be had"):
            verify(verifier, google.identity_token(URL))
        google.status = 200
        verify(verifier, google.identity_token(URL))
    with pytest.raises(Unavailable):
        verify(IdentityVerifier(google.certificates_url), google.identity_token(URL))


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"key": 1}'])
def test_an_odd_answer_is_no_certificates(body: bytes) -> None:
    with Receiver(lambda _: (200, body)) as odd, pytest.raises(Unavailable):
        fetch_certificates(odd.url)


def test_the_audience_is_the_url_of_the_request_unless_it_is_set() -> None:
    assert audiences(Caller((ACCOUNT,)), URL, "/tick") == [URL, f"{URL}/tick"]
    assert audiences(Caller((ACCOUNT,), "https://set.example.com/"), URL, "/tick") == [
        "https://set.example.com"
    ]


def test_an_identity_of_our_own_is_fetched_and_would_open(
    google: GoogleAccounts, verifier: IdentityVerifier, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "account.json"
    file.write_text(json.dumps(google.account_info()))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    verify(verifier, fetch_identity_token(URL))


def test_without_an_account_there_is_no_identity(
    google: GoogleAccounts, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "account.json"
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    with pytest.raises(Unavailable, match="cannot prove its own account"):
        fetch_identity_token(URL)
    another = Signer("another-key").private_pem
    file.write_text(json.dumps(google.account_info() | {"private_key": another}))
    with pytest.raises(Unavailable, match="cannot prove its own account"):
        fetch_identity_token(URL)


class Done(BaseModel):
    done: bool = True


guarded = Routes("Guarded")


@guarded.add("POST", "/tick", caller=account_of_scheduler)
def guarded_route() -> Done:
    return Done()


@guarded.add("POST", "/deliver", caller=account_of_subscription)
def route_of_workers() -> Done:
    return Done()


@guarded.add("POST", "/plain")
def plain_route() -> Done:
    return Done()


@pytest.fixture
def call(verifier: IdentityVerifier, monkeypatch: pytest.MonkeyPatch) -> Callable[..., TestResponse]:
    """A request to a function whose settings are those of the cloud, and others."""
    monkeypatch.setattr(bootstrap, "identity_verifier", lambda: verifier)
    function = http_function(guarded)

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        return function(flask.Request(environ))(environ, start_response)

    def call(
        token: str, path: str = "/tick", base: str = "http://tick.example.com", **other: str
    ) -> TestResponse:
        cloud = {"K_SERVICE": "tick", "API_TOKEN": TOKEN, "DATABASE_URL": "postgresql://db.example.com/d"}
        account = {"TICK_SERVICE_ACCOUNT": ACCOUNT}
        settings = load({name: value for name, value in (cloud | account | other).items() if value})
        monkeypatch.setattr(bootstrap, "settings", lambda: settings)
        return Client(application).post(path, base_url=base, headers={"Authorization": f"Bearer {token}"})

    return call


def test_the_scheduler_and_the_token_of_the_api_both_open_tick(
    google: GoogleAccounts, call: Callable[..., TestResponse]
) -> None:
    for token in (TOKEN, google.identity_token(URL), google.identity_token(f"{URL}/tick")):
        assert call(token).status_code == 200


def test_in_the_cloud_the_url_of_a_request_is_https_whatever_is_forwarded(
    google: GoogleAccounts, call: Callable[..., TestResponse]
) -> None:
    assert call(google.identity_token("http://tick.example.com")).status_code == 401
    assert call(google.identity_token("http://tick.example.com"), K_SERVICE="").status_code == 200
    assert call(google.identity_token(URL), base="http://other.example.com").status_code == 401


def test_a_set_audience_is_the_only_one(google: GoogleAccounts, call: Callable[..., TestResponse]) -> None:
    other = "https://an-audience.example.com"
    assert call(google.identity_token(other), TICK_AUDIENCE=other).status_code == 200
    assert call(google.identity_token(URL), TICK_AUDIENCE=other).status_code == 401


def test_deliver_is_opened_by_the_account_of_the_subscription_and_not_by_that_of_the_scheduler(
    google: GoogleAccounts, call: Callable[..., TestResponse]
) -> None:
    pubsub = {"DELIVER_SERVICE_ACCOUNT": "pubsub@your-project-id.example.com"}
    own = google.identity_token(URL, email="pubsub@your-project-id.example.com")
    assert call(own, "/deliver", **pubsub).status_code == 200
    assert call(own, "/tick", **pubsub).status_code == 401
    assert call(google.identity_token(URL), "/deliver", **pubsub).status_code == 401
    assert call(google.identity_token(URL), "/deliver").status_code == 401
    other = "https://an-audience.example.com"
    assert call(own, "/deliver", DELIVER_AUDIENCE=other, **pubsub).status_code == 401
    token = google.identity_token(other, email="pubsub@your-project-id.example.com")
    assert call(token, "/deliver", DELIVER_AUDIENCE=other, **pubsub).status_code == 200


def test_without_an_account_an_identity_token_opens_nothing(
    google: GoogleAccounts, call: Callable[..., TestResponse]
) -> None:
    assert call(google.identity_token(URL), TICK_SERVICE_ACCOUNT="").status_code == 401
    assert call(google.identity_token(URL), path="/plain").status_code == 401


def test_a_refused_identity_is_401_and_its_token_is_not_repeated(
    google: GoogleAccounts, call: Callable[..., TestResponse], caplog: pytest.LogCaptureFixture
) -> None:
    token = google.identity_token(URL, email="another@example.com")
    answer = call(token)
    assert (answer.status_code, answer.json and answer.json["code"]) == (401, "UNAUTHORIZED")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="insignia", error="invalid_token"'
    assert not [part for part in token.split(".") if part in answer.text + caplog.text]
    assert f"its account is 'another@example.com'; expected {ACCOUNT}" in caplog.text


def test_certificates_that_are_away_are_503(
    google: GoogleAccounts, call: Callable[..., TestResponse], monkeypatch: pytest.MonkeyPatch
) -> None:
    unlucky = IdentityVerifier("http://127.0.0.1:9/certificates")
    monkeypatch.setattr(bootstrap, "identity_verifier", lambda: unlucky)
    answer = call(google.identity_token(URL))
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert call(TOKEN).status_code == 200
    assert call("another-token-of-the-api").status_code == 401
