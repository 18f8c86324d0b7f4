"""Google's sign-in on 127.0.0.1: certificates, identity tokens and access tokens of service accounts.

It refuses what Google refuses: an assertion that the account's key has not signed, that has expired, or that is
for somebody else.
"""

import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from google.auth import crypt, jwt

from tests.receiver import Answer, Received, Receiver

TOKEN_AUDIENCE = "https://oauth2.googleapis.com/token"
ACCOUNT = "tick@your-project-id.example.com"
SECONDS_OF_A_TOKEN = 3600


class Signer:
    """A key of Google's, or of a service account, with a certificate."""

    def __init__(self, key_id: str) -> None:
        self.key_id = key_id
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.private_pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, key_id)])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .sign(key, hashes.SHA256())
        )
        self.certificate_pem = certificate.public_bytes(serialization.Encoding.PEM).decode()

    def sign(self, claims: Mapping[str, Any], header: Mapping[str, Any] | None = None) -> str:
        signer = crypt.RSASigner.from_string(self.private_pem, self.key_id)  # type: ignore[no-untyped-call]
        token: bytes = jwt.encode(signer, claims, header=dict(header or {}))  # type: ignore[no-untyped-call]
        return token.decode()


def claims_of(audience: str, **changes: Any) -> dict[str, Any]:
    """Those of an identity token for `audience`; a change to None leaves the claim out."""
    now = int(time.time())
    claims = {
        "iss": "https://accounts.google.com",
        "aud": audience,
        "azp": "1234567890",
        "sub": "1234567890",
        "email": ACCOUNT,
        "email_verified": True,
        "iat": now,
        "exp": now + SECONDS_OF_A_TOKEN,
    }
    return {name: value for name, value in (claims | changes).items() if value is not None}


class GoogleAccounts(Receiver):
    """A context manager. `account` is the one service account that it knows, with a key of its own."""

    def __init__(self, account: str = ACCOUNT) -> None:
        super().__init__(self._answer)
        self.account = account
        self.signer = Signer("a-key-of-google")
        self.status = 200
        self.before_answer: Callable[[], object] = lambda: None
        self.cache_control = "public, max-age=20000, must-revalidate"
        self.access_tokens: dict[str, str] = {}
        """Access tokens that were given out, with their scopes."""

        self._account_signer = Signer("a-key-of-the-account")

    @property
    def certificates_url(self) -> str:
        return f"{self.base}/certificates"

    @property
    def base(self) -> str:
        return self.url.removesuffix("/hook")

    def identity_token(self, audience: str, **changes: Any) -> str:
        return self.signer.sign(claims_of(audience, **({"email": self.account} | changes)))

    def account_info(self) -> dict[str, str]:
        """What a file with the key of the account says."""
        return {
            "type": "service_account",
            "project_id": "your-project-id",
            "private_key_id": self._account_signer.key_id,
            "private_key": self._account_signer.private_pem,
            "client_email": self.account,
            "client_id": "1234567890",
            "token_uri": f"{self.base}/token",
            "universe_domain": "googleapis.com",
        }

    def _answer(self, request: Received) -> Answer:
        self.before_answer()
        if self.status != 200:
            return self.status, b"not now"
        if (request.method, request.path) == ("GET", "/certificates"):
            certificates = {self.signer.key_id: self.signer.certificate_pem}
            return 200, json.dumps(certificates).encode(), {"Cache-Control": self.cache_control}
        if (request.method, request.path) == ("POST", "/token"):
            return self._token(request)
        return 404, b"not found"

    def _token(self, request: Received) -> Answer:
        form = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        try:
            claims = jwt.decode(  # type: ignore[no-untyped-call]
                form["assertion"], certs=self._account_signer.certificate_pem, audience=TOKEN_AUDIENCE
            )
        except (KeyError, ValueError):
            claims = {}
        if (
            form.get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer"
            or claims.get("iss") != self.account
        ):
            return 400, b'{"error": "invalid_grant", "error_description": "Invalid JWT Signature."}'
        if "target_audience" in claims:
            return 200, json.dumps({"id_token": self.identity_token(claims["target_audience"])}).encode()
        token = f"access-token-{len(self.access_tokens)}"
        self.access_tokens[token] = claims["scope"]
        answer = {"access_token": token, "expires_in": SECONDS_OF_A_TOKEN, "token_type": "Bearer"}
        return 200, json.dumps(answer).encode()
