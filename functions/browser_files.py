"""Files and pages for browsers: what they may load, how long they keep it, and how it travels."""

import gzip
import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import flask

from domain.errors import NotFound

ASSETS = Path(__file__).parent / "assets"

STRICT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
A_YEAR = "public, max-age=31536000, immutable"
ASK_AGAIN = "no-cache"
MEDIA_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}


def guarded(request: flask.Request, response: flask.Response, policy: str = STRICT_POLICY) -> flask.Response:
    """A page with the headers that tell a browser what it may do with it."""
    response.headers["Content-Security-Policy"] = policy
    response.headers["Referrer-Policy"] = "no-referrer"
    if "https" in (request.scheme, request.headers.get("X-Forwarded-Proto")):
        response.headers["Strict-Transport-Security"] = "max-age=31536000"
    return response


def asset(request: flask.Request, assets: Mapping[str, str], name: str) -> flask.Response:
    """A file, kept for a year by whoever asks for this version of it."""
    if (file := assets.get(name)) is None:
        raise NotFound("There is no such file; reload the page.")
    policy = A_YEAR if request.args.get("v") == version(file) else ASK_AGAIN
    is_gzipped = accepts_gzip(request)
    body = gzipped(file) if is_gzipped else content(file)
    response = cached(request, body, MEDIA_TYPES[Path(name).suffix], policy)
    if is_gzipped:
        response.headers["Content-Encoding"] = "gzip"
    response.headers["Vary"] = "Accept-Encoding"
    return response


def cached(request: flask.Request, body: bytes, content_type: str, policy: str) -> flask.Response:
    response = flask.Response(body, content_type=content_type, headers={"Cache-Control": policy})
    response.set_etag(digest(body))
    response.make_conditional(request)
    return response


def compressed(request: flask.Request, response: flask.Response) -> flask.Response:
    """A page as it travels."""
    response.headers["Vary"] = "Accept-Encoding"
    if accepts_gzip(request):
        response.set_data(gzip.compress(response.get_data(), 5, mtime=0))
        response.headers["Content-Encoding"] = "gzip"
    return response


def accepts_gzip(request: flask.Request) -> bool:
    return request.accept_encodings.quality("gzip") > 0


@cache
def content(file: str) -> bytes:
    return (ASSETS / file).read_bytes()


@cache
def gzipped(file: str) -> bytes:
    return gzip.compress(content(file), mtime=0)


@cache
def version(file: str) -> str:
    return digest(content(file))


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:16]
