"""Idempotency-Key (draft-ietf-httpapi-idempotency-key-header): a request that is repeated is answered once."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import flask

from db.engine import Connection, transaction
from db.idempotency import KeptAnswer, claim_key, keep_answer
from functions import bootstrap
from functions.problems import BadRequest

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
KEY_PATTERN = r'^(?:[!#-\[\]-~]{1,128}|"[!#-\[\]-~]{1,128}")$'
"""Visible ASCII without quotes and backslashes; the draft writes a key in quotes, many clients do not."""

KEPT_HEADERS = ("Location", "ETag")


def key_of(request: flask.Request) -> str | None:
    """The key, without quotes; raises BadRequest for what is none."""
    text = request.headers.get(HEADER)
    if text is None:
        return None
    if not re.fullmatch(KEY_PATTERN, text.strip()):
        raise BadRequest(f"{HEADER} must have 1 to 128 visible ASCII characters; send a UUID, for example.")
    return text.strip().strip('"')


def answered_once(
    request: flask.Request, body: bytes, answer: Callable[[Connection], flask.Response]
) -> flask.Response:
    """What `answer` makes in a transaction, or what it made before for the same key, path and body.

    The answer is committed together with what it tells of: an error rolls both back, and leaves the key free.
    """
    key = key_of(request)
    with transaction(bootstrap.database()) as connection:
        if key is None:
            return answer(connection)
        kept = claim_key(connection, key, fingerprint(request, body))
        if kept is not None:
            return replayed(kept)
        response = answer(connection)
        headers = {name: response.headers[name] for name in KEPT_HEADERS if name in response.headers}
        kept = KeptAnswer(status=response.status_code, headers=headers, body=response.get_data(as_text=True))
        keep_answer(connection, key, kept)
        return response


def replayed(kept: KeptAnswer) -> flask.Response:
    response = flask.Response(kept.body, kept.status, content_type="application/json")
    response.headers.update(kept.headers)
    response.headers[REPLAYED] = "true"
    return response


@dataclass(slots=True, kw_only=True)
class RunOnce:
    """The manual run that a request asks for: a new one, or the one that a request with its key has begun before.

    No transaction may be open during a call, so the key is committed with the row of the run, before the call.
    What is kept is the run's id: whoever repeats the request is told how that run is by now.
    """

    key: str | None
    fingerprint: str
    run_id: UUID = field(default_factory=uuid4)
    is_repeated: bool = False

    def is_begun(self, connection: Connection) -> bool:
        """Claim the key for a new run in this transaction; True when there is a run of the key."""
        if self.key is None:
            return False
        if (kept := claim_key(connection, self.key, self.fingerprint)) is not None:
            self.run_id, self.is_repeated = UUID(kept.body), True
        else:
            keep_answer(connection, self.key, KeptAnswer(status=202, headers={}, body=str(self.run_id)))
        return self.is_repeated


def run_once(request: flask.Request, body: bytes) -> RunOnce:
    return RunOnce(key=key_of(request), fingerprint=fingerprint(request, body))


def fingerprint(request: flask.Request, body: bytes) -> str:
    line = f"{request.method} {request.path.rstrip('/')}\n"
    return hashlib.sha256(line.encode() + body).hexdigest()
