"""Which web pages may call the API from a browser (CORS_ORIGINS)."""

from collections.abc import Sequence

import flask

READABLE = "ETag, Idempotency-Replayed, Link, Location, Retry-After, X-Request-Id"
SENDABLE = "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, X-Request-Id"
PREFLIGHT_SECONDS = "7200"


def share(request: flask.Request, response: flask.Response, origins: Sequence[str]) -> None:
    """Let pages of `origins` read the answer; `*` stands for all of them. No cookie is ever involved."""
    if not origins:
        return
    is_for_all = "*" in origins
    if not is_for_all:
        response.vary.add("Origin")
    origin = request.headers.get("Origin")
    if origin is None or not (is_for_all or origin in origins):
        return
    response.headers["Access-Control-Allow-Origin"] = "*" if is_for_all else origin
    response.headers["Access-Control-Expose-Headers"] = READABLE
    if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
        response.headers["Access-Control-Allow-Methods"] = response.headers.get("Allow", "")
        response.headers["Access-Control-Allow-Headers"] = SENDABLE
        response.headers["Access-Control-Max-Age"] = PREFLIGHT_SECONDS
