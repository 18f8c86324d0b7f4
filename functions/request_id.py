"""The id of the request being served: in the answer, in every problem document and in the logs."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from uuid import uuid4

HEADER = "X-Request-Id"

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""Empty outside of a request."""

_ACCEPTABLE = re.compile(r"[A-Za-z0-9._~:@/+=-]{1,128}")


@contextmanager
def known_by(sent: str | None) -> Iterator[None]:
    """Within it, `request_id` is what the caller sent if that is harmless in headers and logs, else a new id."""
    token = request_id.set(sent if sent and _ACCEPTABLE.fullmatch(sent) else uuid4().hex)
    try:
        yield
    finally:
        request_id.reset(token)
