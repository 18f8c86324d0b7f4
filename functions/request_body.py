"""The body of a request: how much of it is read, and as what it is understood."""

import io
import re
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import parse_qsl

import flask
from werkzeug.datastructures import MultiDict

from functions.problems import BodyTooLarge, MalformedBody, UnsupportedMediaType
from functions.validation import shown

MAX_BODY_BYTES = 256 * 1024
ENDED_TOO_EARLY = "The body ended too early; send all of it."
FORM_TYPE = "application/x-www-form-urlencoded"

Form = MultiDict[str, str]
"""The fields of a form that a browser sent."""

_JSON_TYPE = re.compile(r"application/(?:[a-z0-9.!#$&^_-]+\+)?json")


class RequestBody:
    """The body of a request, of which never more than one byte too many is read.

    It takes the place of `request.stream`: functions-framework reads what is left of that after an answer,
    all of it, into memory.
    """

    def __init__(self, request: flask.Request) -> None:
        self._headers = request.headers
        self._mimetype = request.mimetype
        self._length = request.content_length  # None for chunks, whose end is marked
        self._stream = request.stream
        self._read = 0
        self._limit = MAX_BODY_BYTES
        self.content = b""
        request.stream = io.BytesIO()

    def read_json(self, limit: int) -> bytes:
        """The bytes of a body that says it is JSON, or says nothing; at most `limit` of them."""
        self._limit = limit
        if self._mimetype and not _JSON_TYPE.fullmatch(self._mimetype):
            raise UnsupportedMediaType(f"{shown(self._mimetype)} is not understood; send application/json.")
        if (encoding := self._headers.get("Content-Encoding", "identity").lower()) != "identity":
            raise UnsupportedMediaType(
                f"Content-Encoding {shown(encoding)} is not understood; send plain JSON."
            )
        return self._read_all()

    def read_form(self, limit: int) -> Form:
        """The fields of a form, in their order."""
        self._limit = limit
        if self._mimetype != FORM_TYPE:
            raise UnsupportedMediaType(f"{shown(self._mimetype)} is not understood; send {FORM_TYPE}.")
        try:
            text = self._read_all().decode("ascii")
            return MultiDict(parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=2_000))
        except ValueError:
            raise MalformedBody("The form cannot be read; send it as a browser does, in UTF-8.") from None

    def _read_all(self) -> bytes:
        try:
            content = b"".join(self._chunks())
        except Exception as error:  # each server has its own for a client that goes away or breaks its chunks
            raise MalformedBody(ENDED_TOO_EARLY) from error
        if len(content) > self._limit:
            raise BodyTooLarge(f"The body is larger than {self._limit // 1024} KiB; send less.")
        if len(content) < (self._length or 0):
            raise MalformedBody(ENDED_TOO_EARLY)
        self.content = content
        return content

    def discard(self) -> None:
        """Read what is left, so that a client that is still sending gets the answer."""
        with suppress(Exception):
            for _ in self._chunks():
                pass

    def _chunks(self) -> Iterator[bytes]:
        while self._read <= self._limit and (chunk := self._stream.read(self._limit + 1 - self._read)):
            self._read += len(chunk)
            yield chunk
