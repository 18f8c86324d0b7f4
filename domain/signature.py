"""Signatures of calls: Standard Webhooks 1.0.0, symmetric scheme `v1` (HMAC-SHA256)."""

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence

from domain.errors import InvalidInput

PREFIX = "whsec_"
MIN_SECRET_BYTES = 24
MAX_SECRET_BYTES = 64

_PADDED_BASE64 = re.compile("(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")


def parse_signing_secret(text: str) -> bytes:
    """The key in `whsec_<base64 of 24 to 64 bytes>`; raises InvalidInput, which shows nothing of the secret.

    Standard base64 with its padding (RFC 4648, 3.2): many receivers' libraries refuse anything else, and the
    padding tells a secret that was copied whole.
    """
    if not text.startswith(PREFIX):
        raise InvalidInput(f"The signing secret must begin with {PREFIX}, followed by a key in base64.")
    encoded = text.removeprefix(PREFIX)
    if not _PADDED_BASE64.fullmatch(encoded):
        raise InvalidInput(
            f"The signing secret is not base64 after {PREFIX}; copy it whole, with any '=' at its end "
            "and without blanks."
        )
    key = base64.b64decode(encoded)
    if not MIN_SECRET_BYTES <= len(key) <= MAX_SECRET_BYTES:
        raise InvalidInput(
            f"The signing secret has a key of {len(key)} bytes; use {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} "
            "random bytes in base64."
        )
    return key


def signature_header(secrets: Sequence[bytes], webhook_id: str, timestamp: int, body: bytes) -> str:
    """The `webhook-signature` of one attempt: a signature per secret, so that a receiver can change over.

    `webhook_id` and `timestamp` (whole seconds since 1970) are those of the `webhook-id` and
    `webhook-timestamp` headers, `body` the very bytes that are sent. The id must have no '.', which separates
    the three.
    """
    signed = b"%s.%d.%s" % (webhook_id.encode("ascii"), timestamp, body)
    return " ".join(f"v1,{_base64(hmac.digest(secret, signed, hashlib.sha256))}" for secret in secrets)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
