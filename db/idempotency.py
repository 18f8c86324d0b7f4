"""Answers that are kept for 24 hours under the Idempotency-Key of their requests."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select, text, update

from db.tables import idempotency_keys
from domain.errors import InvalidInput

CLAIM_KEY = text("""
INSERT INTO idempotency_keys AS known (key, fingerprint, created_at)
VALUES (:key, :fingerprint, statement_timestamp())
ON CONFLICT (key) DO UPDATE SET
    fingerprint = excluded.fingerprint, created_at = excluded.created_at, status = NULL, headers = NULL, body = NULL
WHERE known.created_at <= statement_timestamp() - interval '24 hours'
RETURNING key
""")

FORGET_SOME_KEYS = text("""
WITH batch AS MATERIALIZED (
    SELECT key FROM idempotency_keys
    WHERE created_at <= statement_timestamp() - interval '24 hours'
    ORDER BY created_at LIMIT :limit FOR UPDATE SKIP LOCKED
), forgotten AS (
    DELETE FROM idempotency_keys k USING batch WHERE k.key = batch.key
)
SELECT count(*) FROM batch
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptAnswer:
    """What was answered to the first request with a key."""

    status: int
    headers: Mapping[str, str]
    body: str


def claim_key(connection: Connection, key: str, fingerprint: str) -> KeptAnswer | None:
    """The answer that is kept for this request; None if there is none, and the key is this transaction's then.

    Waits for the end of a transaction that has just claimed the same key. Raises InvalidInput when the key was
    used for a request with another fingerprint.
    """
    claim = connection.execute(CLAIM_KEY, {"key": key, "fingerprint": fingerprint})
    if claim.one_or_none() is not None:
        return None
    known = connection.execute(select(idempotency_keys).where(idempotency_keys.c.key == key)).one()
    if known.fingerprint != fingerprint:
        raise InvalidInput(
            "This Idempotency-Key was used for another request; use a new key for a new request."
        )
    return KeptAnswer(status=known.status, headers=known.headers, body=known.body)


def keep_answer(connection: Connection, key: str, answer: KeptAnswer) -> None:
    """Keep the answer of the transaction that has claimed the key."""
    values: dict[str, Any] = {"status": answer.status, "headers": dict(answer.headers), "body": answer.body}
    own = update(idempotency_keys).where(idempotency_keys.c.key == key)
    connection.execute(own.values(**values))


def forget_expired_keys(connection: Connection, limit: int) -> bool:
    """Remove at most `limit` answers that are older than 24 hours; True when there may be more."""
    forgotten: int = connection.execute(FORGET_SOME_KEYS, {"limit": limit}).scalar_one()
    return forgotten == limit
