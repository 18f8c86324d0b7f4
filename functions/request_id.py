"""The request being served: its id, in its answer, in problem documents and in the logs, and its trace, in the logs."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from uuid import uuid4

from werkzeug.datastructures import Headers

HEADER = "X-Request-Id"

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""Empty outside of a request."""

trace_id: ContextVar[str] = ContextVar("trace_id", default="")
"""By Google's header or by W3C Trace Context; empty without them. A tick asks for it thousands of times."""

_ACCEPTABLE = re.compile(r"[A-Za-z0-9._~:@/+=-]{1,128}")
_GOOGLE = re.compile(r"([0-9a-f]{32})(?:[/;].*)?")
_W3C = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


@contextmanager
def known_by(headers: Headers) -> Iterator[None]:
    """Within it, `request_id` is what the caller sent if that is harmless in headers and logs, else a new id."""
    sent = headers.get(HEADER)
    identity = request_id.set(sent if sent and _ACCEPTABLE.fullmatch(sent) else uuid4().hex)
    trace = trace_id.set(trace_in(headers))
    try:
        yield
    finally:
        trace_id.reset(trace)
        request_id.reset(identity)


def trace_in(headers: Headers) -> str:
    match = _GOOGLE.fullmatch(headers.get("X-Cloud-Trace-Context", "")) or _W3C.fullmatch(
        headers.get("traceparent", "")
    )
    return match[1] if match else ""
