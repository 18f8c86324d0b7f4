"""Idempotency-Key (draft-ietf-httpapi-idempotency-key-header): a request that is repeated is answered once."""

import hashlib
import re
from collections.abc import Callable

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


def fingerprint(request: flask.Request, body: bytes) -> str:
    line = f"{request.method} {request.path.rstrip('/')}\n"
    return hashlib.sha256(line.encode() + body).hexdigest()
