"""Signatures by Standard Webhooks, with its own library as the verifying peer."""

import base64
import time
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from domain.errors import InvalidInput
from domain.signature import parse_signing_secret, signature_header

KEYS = st.binary(min_size=24, max_size=64)
RUN_ID = str(UUID(int=7))


def secret(key: bytes) -> str:
    return "whsec_" + base64.b64encode(key).decode()


def verify(text: str, webhook_id: str, timestamp: int, body: bytes, signature: str) -> None:
    headers = {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature,
    }
    Webhook(text).verify(body, headers, json_parse=False)


def test_the_signature_is_that_of_the_reference_libraries() -> None:
    key = parse_signing_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'
    assert signature_header([key], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body) == (
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    )


@given(key=KEYS, run_id=st.uuids(), text=st.text())
def test_a_receiver_can_verify_any_body_with_its_secret(key: bytes, run_id: UUID, text: str) -> None:
    body, timestamp = text.encode(), int(time.time())
    signature = signature_header([parse_signing_secret(secret(key))], str(run_id), timestamp, body)
    verify(secret(key), str(run_id), timestamp, body, signature)


def test_a_call_without_a_body_can_be_verified() -> None:
    timestamp = int(time.time())
    verify(secret(b"k" * 24), RUN_ID, timestamp, b"", signature_header([b"k" * 24], RUN_ID, timestamp, b""))


def test_while_secrets_rotate_a_receiver_can_verify_with_any_of_them() -> None:
    keys, timestamp = [b"1" * 24, b"2" * 32, b"3" * 64], int(time.time())
    signature = signature_header(keys, RUN_ID, timestamp, b"{}")
    assert [part[:3] for part in signature.split(" ")] == ["v1,", "v1,", "v1,"]
    for key in keys:
        verify(secret(key), RUN_ID, timestamp, b"{}", signature)
    with pytest.raises(WebhookVerificationError):
        verify(secret(b"4" * 24), RUN_ID, timestamp, b"{}", signature)


@pytest.mark.parametrize(
    ("webhook_id", "later", "body"), [("another", 0, b"{}"), (RUN_ID, 1, b"{}"), (RUN_ID, 0, b"{ }")]
)
def test_a_signature_holds_for_one_id_one_time_and_one_body(webhook_id: str, later: int, body: bytes) -> None:
    key, timestamp = b"k" * 24, int(time.time())
    signature = signature_header([key], RUN_ID, timestamp, b"{}")
    with pytest.raises(WebhookVerificationError):
        verify(secret(key), webhook_id, timestamp + later, body, signature)


def test_a_body_that_is_not_utf_8_is_signed_as_it_is() -> None:
    assert signature_header([b"k" * 24], RUN_ID, 0, b"\xff\x00") != signature_header(
        [b"k" * 24], RUN_ID, 0, b"\xfe\x00"
    )


@given(KEYS)
def test_a_secret_is_a_prefix_and_a_key_of_24_to_64_bytes_in_base64(key: bytes) -> None:
    assert parse_signing_secret(secret(key)) == key


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must begin with whsec_"),
        ("ZZZZ" * 8, "must begin with whsec_"),
        ("WHSEC_" + "ZZZZ" * 8, "must begin"),
        (" whsec_" + "ZZZZ" * 8, "must begin"),
        ("whsk_" + "ZZZZ" * 8, "must begin"),
        ("whsec_" + "ZZZZ" * 8 + "\n", "not base64"),
        ("whsec_ZZ ZZ" + "ZZZZ" * 8, "not base64"),
        ("whsec_" + "ZZ-_" * 8, "not base64"),
        ("whsec_" + "ZZZé" * 8, "not base64"),
        ("whsec_" + "ZZZ\ud800" * 8, "not base64"),
        ("whsec_" + "ZZZZ" * 8 + "ZZZ", "not base64"),
        ("whsec_" + "ZZZZ" * 8 + "ZZ=", "not base64"),
        ("whsec_" + "ZZZZ" * 8 + "=", "not base64"),
        ("whsec_" + "ZZ==" * 8, "not base64"),
        ("whsec_whsec_" + "ZZZZ" * 8, "not base64"),
        ("whsec_", "a key of 0 bytes; use 24 to 64"),
        ("whsec_" + base64.b64encode(b"Z" * 23).decode(), "a key of 23 bytes"),
        ("whsec_" + base64.b64encode(b"Z" * 65).decode(), "a key of 65 bytes"),
    ],
)
def test_a_secret_of_another_form_is_refused_and_not_shown(text: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as caught:
        parse_signing_secret(text)
    assert "ZZ" not in str(caught.value)
    assert "Wlpa" not in str(caught.value)
    assert caught.value.__context__ is None
