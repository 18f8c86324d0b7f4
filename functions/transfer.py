"""One call in flight on one libcurl handle: how it is sent, what is read of its answer, what came of it."""

import io
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from socket import socket
from typing import NamedTuple

import certifi
import pycurl

from domain.attempt import Attempt, AttemptError, answered
from domain.retry import THROTTLING, retry_after_seconds
from domain.task import Method
from domain.webhook_url import WebhookUrl
from functions.egress import Dial, Egress

MAX_BODY_BYTES = 64 * 1024
MAX_HEADER_BYTES = 64 * 1024
EXCERPT_BYTES = 2 * 1024
"""What is kept of a body; the rest is read and forgotten, so that large answers to many calls need no memory."""

KEPT_HEADER_BYTES = 8 * 1024
"""What is kept of the headers, for whoever tests a task."""

MAX_IDLE_SECONDS = 3
"""libcurl repeats a POST by itself when a kept-alive connection has died; a short idle time makes that rare."""

BACKSTOP_SECONDS = 10
"""After a pause libcurl would time a call out before it reads the answer; so ours is the deadline that counts."""

TLS_ERRORS = {35, 51, 53, 54, 58, 59, 60, 64, 66, 80, 82, 83, 90, 91, 98}
OUR_ERRORS = {pycurl.E_ABORTED_BY_CALLBACK, pycurl.E_SSL_CACERT_BADFILE}
"""We did not let it be sent, or could not read the certificates that we trust, for want of a file descriptor."""

LIBCURL_TOO_LARGE = 100
"""libcurl's own limit on the headers of an answer (300 KB in all, 100 KB for one)."""

FAILURES = {
    pycurl.E_COULDNT_RESOLVE_HOST: (AttemptError.DNS, "the host name could not be resolved"),
    pycurl.E_COULDNT_CONNECT: (AttemptError.CONNECT, "the connection was refused or the host is unreachable"),
    pycurl.E_GOT_NOTHING: (AttemptError.CONNECT, "the connection was closed without an answer"),
    pycurl.E_SEND_ERROR: (AttemptError.CONNECT, "the connection broke while the request was sent"),
    pycurl.E_SEND_FAIL_REWIND: (AttemptError.CONNECT, "the connection broke while the request was sent"),
    pycurl.E_RECV_ERROR: (AttemptError.CONNECT, "the connection broke before the answer was complete"),
    pycurl.E_PARTIAL_FILE: (AttemptError.CONNECT, "the connection broke before the answer was complete"),
}


class Call(NamedTuple):
    """One HTTP request: what is sent, for how long its answer is waited for, and which answer is a success."""

    id: str
    url: WebhookUrl
    method: Method
    headers: Mapping[str, str]
    body: bytes | None
    timeout_seconds: float
    success_statuses: Sequence[range]
    claimed_at: datetime
    """By the clock of the database, which goes on in this process by its monotonic clock."""


class FinishedCall(NamedTuple):
    """`attempt` is None when nothing was sent: this process had been frozen, and the call may no longer be ours, or it
    had no file descriptor left. That is no failure of the webhook.

    `header_lines` are the beginning of what was received as headers, with the lines of status before them.
    """

    call: Call
    attempt: Attempt | None
    header_lines: Sequence[bytes] = ()


CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def monotonic() -> float:
    """Seconds of a clock that never steps and, where the system has one, counts suspended time."""
    return time.clock_gettime(CLOCK)


class Transfer:
    """A handle for one call after another: the present one, and what has been read of its answer."""

    call: Call
    started_at: float
    deadline: float

    def __init__(
        self, egress: Egress, was_frozen_since: Callable[[float], bool], opened: Callable[[], None]
    ) -> None:
        self._dial = Dial(egress)
        self._was_frozen_since = was_frozen_since
        self._opened = opened
        self._shared: pycurl.CurlShare | None = None
        self._known_hosts: Sequence[str] = ()
        self._kind: tuple[Method, bool, float] | None = None
        self._body = io.BytesIO()
        self.curl = new_handle(str(egress.authorities or certifi.where()))
        self.curl.setopt(pycurl.OPENSOCKETFUNCTION, self._open)
        self.curl.setopt(pycurl.PREREQFUNCTION, self._may_be_sent)
        self.curl.setopt(pycurl.WRITEFUNCTION, self._read_body)
        self.curl.setopt(pycurl.HEADERFUNCTION, self._read_header)

    def begin(self, call: Call, started_at: float, addresses: Sequence[str]) -> None:
        """Get ready for a call; raises pycurl.error, UnicodeError or ValueError for what cannot be sent."""
        self.call = call
        self.started_at = started_at
        self.deadline = started_at + call.timeout_seconds
        self.is_sent = False
        self._dial.begin()
        self._addresses = addresses
        self._excerpt = bytearray()
        self._body_bytes = 0
        self._header_bytes = 0
        self._header_lines: list[bytes] = []
        self.prepare()

    def share(self, tls_sessions: pycurl.CurlShare) -> None:
        """Resume one of these sessions; those of the call before are no longer shared."""
        if tls_sessions is self._shared:
            return
        if self._shared is not None:
            self.curl.setopt(pycurl.SHARE, None)
        self.curl.setopt(pycurl.SHARE, tls_sessions)
        self._shared = tls_sessions

    def prepare(self) -> None:
        """Tell libcurl what is to be sent, and where; what is as it was for the call before, it knows."""
        set_option = self.curl.setopt
        call = self.call
        set_option(pycurl.URL, call.url.url)
        known_hosts = resolved(call.url.host, call.url.port, self._addresses)
        if known_hosts is not self._known_hosts:
            set_option(pycurl.RESOLVE, known_hosts)
            self._known_hosts = known_hosts
        set_option(pycurl.HTTPHEADER, [*map(": ".join, call.headers.items())])
        kind = call.method, call.body is None, call.timeout_seconds
        if kind != self._kind:
            set_option(pycurl.HTTPGET if call.body is None else pycurl.POST, 1)
            set_option(pycurl.FRESH_CONNECT, call.body is None)
            set_option(pycurl.CUSTOMREQUEST, call.method)
            set_option(pycurl.TIMEOUT_MS, int((call.timeout_seconds + BACKSTOP_SECONDS) * 1000))
            self._kind = kind
        if call.body is not None:
            # Up to 1 MiB libcurl sends it without asking for a 100 Continue.
            # libcurl may repeat a request by itself on a fresh connection, unless it cannot rewind the body:
            # a read function without a seek function makes that an error, and so an attempt of ours.
            self._body = io.BytesIO(call.body)
            set_option(pycurl.READFUNCTION, self._body.read)
            set_option(pycurl.POSTFIELDSIZE_LARGE, len(call.body))

    def finish(self, code: int) -> FinishedCall:
        status: int = self.curl.getinfo(pycurl.RESPONSE_CODE)
        if code == 0:
            return FinishedCall(self.call, self._answered(status), self._header_lines)
        if code in OUR_ERRORS or (code == pycurl.E_COULDNT_CONNECT and self._dial.lacked_descriptor):
            return FinishedCall(call=self.call, attempt=None)
        if self._header_bytes > MAX_HEADER_BYTES or code == LIBCURL_TOO_LARGE:
            return self.failed(AttemptError.TOO_LARGE, "the answer's headers are larger than 64 KiB", status)
        if code == pycurl.E_WRITE_ERROR and self._body_bytes >= MAX_BODY_BYTES:
            return FinishedCall(self.call, self._answered(status), self._header_lines)
        if code == pycurl.E_OPERATION_TIMEDOUT:
            message = f"there was no complete answer within {self.call.timeout_seconds:g} s"
            return self.failed(AttemptError.TIMEOUT, message, status)
        if self._dial.refused is not None:
            return self.failed(AttemptError.BLOCKED, blocked(self._dial.refused))
        if code in TLS_ERRORS:
            return self.failed(AttemptError.TLS, f"the TLS connection failed: {self.curl.errstr()}", status)
        error, message = FAILURES.get(code, (AttemptError.PROTOCOL, "the answer is not valid HTTP"))
        return self.failed(error, message, status)

    def forget(self) -> None:
        """Keep no body until the next call: a handle is kept for each call that there ever was at once."""
        self._body.close()
        del self.call

    def failed(self, error: AttemptError, message: str, http_status: int = 0) -> FinishedCall:
        attempt = Attempt(
            duration_ms=self._duration_ms(),
            http_status=http_status or None,
            error=error,
            message=message,
            response_excerpt=self._response_excerpt(),
        )
        return FinishedCall(call=self.call, attempt=attempt, header_lines=self._header_lines)

    def _answered(self, status: int) -> Attempt:
        excerpt = self._response_excerpt()
        return answered(
            status,
            duration_ms=self._duration_ms(),
            success_statuses=self.call.success_statuses,
            response_excerpt=excerpt,
            retry_after_seconds=self._retry_after_seconds(status, excerpt) if status in THROTTLING else None,
        )

    def _retry_after_seconds(self, status: int, excerpt: str | None) -> float | None:
        now = self.call.claimed_at + timedelta(seconds=monotonic() - self.started_at)
        return retry_after_seconds(status, self._retry_after(), excerpt, now)

    def _open(self, purpose: int, address: object) -> socket | int:
        self._opened()
        return self._dial.open(purpose, address)

    def _may_be_sent(self, *_: object) -> int:
        if self._was_frozen_since(self.started_at):
            return pycurl.PREREQFUNC_ABORT
        self.is_sent = True
        return pycurl.PREREQFUNC_OK

    def _duration_ms(self) -> int:
        return round((monotonic() - self.started_at) * 1000)

    def _response_excerpt(self) -> str | None:
        text = self._excerpt.decode("utf-8", "replace")
        return text.replace("\0", "\N{REPLACEMENT CHARACTER}") or None

    def _read_body(self, chunk: bytes) -> int | None:
        self._body_bytes += len(chunk)
        self._excerpt += chunk[: EXCERPT_BYTES - len(self._excerpt)]
        return -1 if self._body_bytes >= MAX_BODY_BYTES else None

    def _read_header(self, line: bytes) -> int | None:
        self._header_bytes += len(line)
        if self._header_bytes <= KEPT_HEADER_BYTES or line.lower().startswith((b"http/", b"retry-after:")):
            self._header_lines.append(line)
        return -1 if self._header_bytes > MAX_HEADER_BYTES else None

    def _retry_after(self) -> str:
        """The value of the header, the last one if there are several; empty if there is none."""
        for line in reversed(self._header_lines):
            if line.startswith(b"HTTP/"):  # what came before is of a 1xx answer
                break
            name, _, value = line.partition(b":")
            if name.lower() == b"retry-after":
                return value.decode("latin-1").strip()
        return ""


@lru_cache(maxsize=2_048)
def resolved(host: str, port: int, addresses: Sequence[str]) -> Sequence[str]:
    """What libcurl is to know of a host, so that it looks nothing up; an address it knows by itself."""
    if addresses == (host,):
        return ()
    known = ",".join(f"[{one}]" if ":" in one else one for one in addresses)
    # a host may be written with a dot at its end, which libcurl takes for another name
    return tuple(f"{name}:{port}:{known}" for name in (host, f"{host}."))


def unsent(call: Call, began_at: float, error: AttemptError, message: str) -> FinishedCall:
    """A failed attempt that came to no connection."""
    duration_ms = round((monotonic() - began_at) * 1000)
    return FinishedCall(
        call=call,
        attempt=Attempt(
            duration_ms=duration_ms, http_status=None, error=error, message=message, response_excerpt=None
        ),
    )


def blocked(refusal: str) -> str:
    return f"the call was not made: {refusal}, which webhooks may not reach (EGRESS_ALLOW)"


def new_handle(authorities: str) -> pycurl.Curl:
    """A handle with all that is the same for every call (SECURITY.md)."""
    curl = pycurl.Curl()
    for option, value in (
        (pycurl.NOSIGNAL, 1),
        (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
        (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1),
        (pycurl.PATH_AS_IS, 1),
        (pycurl.FOLLOWLOCATION, 0),
        (pycurl.PROXY, ""),
        (pycurl.NETRC, 0),
        (pycurl.HTTP_CONTENT_DECODING, 0),
        (pycurl.CAINFO, authorities),
        (pycurl.MAXAGE_CONN, MAX_IDLE_SECONDS),
        (pycurl.DNS_CACHE_TIMEOUT, -1),  # else the addresses of all hosts are gone through after each call
        (
            pycurl.UPLOAD_BUFFERSIZE,
            16 * 1024,
        ),  # of the 64 KiB that libcurl takes for each call, 16 are enough
    ):
        curl.setopt(option, value)
    return curl
