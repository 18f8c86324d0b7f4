"""The calls in flight: one thread, libcurl's multi interface, real wall-clock deadlines.

Why pycurl: docs/adr/0002-pycurl-for-the-calls.md.
"""

import heapq
import io
import selectors
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from types import TracebackType
from typing import Self
from uuid import UUID

import certifi
import pycurl

from domain.attempt import Attempt, AttemptError, answered

MAX_BODY_BYTES = 64 * 1024
MAX_HEADER_BYTES = 64 * 1024
EXCERPT_BYTES = 2 * 1024
MAX_IDLE_SECONDS = 3
"""libcurl repeats a POST by itself when a kept-alive connection has died; a short idle time makes that rare."""

BACKSTOP_SECONDS = 10
"""After a pause libcurl would time a call out before it reads the answer; so ours is the deadline that counts."""

TLS_ERRORS = {35, 51, 53, 54, 58, 59, 60, 64, 66, 77, 80, 82, 83, 90, 91, 98}
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One HTTP POST: what is sent, and for how long its answer is waited for."""

    id: UUID
    url: str
    headers: Mapping[str, str]
    body: bytes
    timeout_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedCall:
    call: Call
    attempt: Attempt


def monotonic() -> float:
    """Seconds of a clock that never steps and, where the system has one, counts suspended time."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Deliveries:
    """Calls in flight. Use from one thread; `close()` drops what is still in flight."""

    def __init__(self) -> None:
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch_socket)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        self._selector = selectors.DefaultSelector()
        self._timer_at: float | None = None
        self._transfers: dict[pycurl.Curl, Transfer] = {}
        self._deadlines: list[tuple[float, int, Transfer]] = []
        self._sequence = count()
        self._spare: list[pycurl.Curl] = []
        self._finished: list[FinishedCall] = []

    @property
    def in_flight(self) -> int:
        return len(self._transfers) + len(self._finished)

    def start(self, call: Call) -> None:
        """Begin a call; a URL that libcurl refuses becomes a failed attempt."""
        curl = self._spare.pop() if self._spare else new_handle()
        transfer = Transfer(call, curl)
        try:
            transfer.prepare()
        except (pycurl.error, UnicodeError, ValueError):
            self._spare.append(curl)
            self._finished.append(
                transfer.failed(AttemptError.PROTOCOL, "the URL or a header cannot be sent")
            )
            return
        self._transfers[curl] = transfer
        heapq.heappush(self._deadlines, (transfer.deadline, next(self._sequence), transfer))
        self._multi.add_handle(curl)

    def wait(self, timeout: float) -> list[FinishedCall]:
        """Drive the calls until one has finished, at most `timeout` seconds; the finished ones.

        What has arrived is read before a call is judged to be overdue, so that a pause of this process does
        not turn an answer into a time-out.
        """
        until = monotonic() + timeout
        self._drive(0)
        while not self._finished and (now := monotonic()) < until and self._transfers:
            wake_at = min(until, self._deadlines[0][0], self._timer_at or until)
            self._drive(max(0.0, wake_at - now))
        finished, self._finished = self._finished, []
        return finished

    def close(self) -> None:
        for curl in [*self._transfers, *self._spare]:
            if curl in self._transfers:
                self._multi.remove_handle(curl)
            curl.close()
        self._transfers.clear()
        self._spare.clear()
        self._multi.close()
        self._selector.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _drive(self, timeout: float) -> None:
        if self._selector.get_map():
            ready = self._selector.select(timeout)
        else:
            ready = []
            time.sleep(timeout)
        for key, events in ready:
            action = (pycurl.CSELECT_IN if events & selectors.EVENT_READ else 0) | (
                pycurl.CSELECT_OUT if events & selectors.EVENT_WRITE else 0
            )
            self._multi.socket_action(key.fd, action)
        if self._timer_at is not None and self._timer_at <= monotonic():
            self._timer_at = None
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        self._collect()
        self._end_overdue()

    def _collect(self) -> None:
        remaining = 1
        while remaining:
            remaining, succeeded, failed = self._multi.info_read()
            for curl in succeeded:
                self._finish(self._transfers[curl], 0)
            for curl, code, _ in failed:
                self._finish(self._transfers[curl], code)

    def _end_overdue(self) -> None:
        now = monotonic()
        while self._deadlines and (self._deadlines[0][2].is_finished or self._deadlines[0][0] <= now):
            transfer = heapq.heappop(self._deadlines)[2]
            if not transfer.is_finished:
                self._finish(transfer, pycurl.E_OPERATION_TIMEDOUT)

    def _finish(self, transfer: "Transfer", code: int) -> None:
        self._finished.append(transfer.finish(code))
        self._multi.remove_handle(transfer.curl)
        del self._transfers[transfer.curl]
        self._spare.append(transfer.curl)

    def _watch_socket(self, what: int, fd: int, _multi: pycurl.CurlMulti, _data: object) -> None:
        events = (selectors.EVENT_READ if what & pycurl.POLL_IN else 0) | (
            selectors.EVENT_WRITE if what & pycurl.POLL_OUT else 0
        )
        is_watched = fd in self._selector.get_map()
        if what == pycurl.POLL_REMOVE or not events:
            if is_watched:
                self._selector.unregister(fd)
        elif is_watched:
            self._selector.modify(fd, events)
        else:
            self._selector.register(fd, events)

    def _set_timer(self, timeout_ms: int) -> None:
        self._timer_at = None if timeout_ms < 0 else monotonic() + timeout_ms / 1000


class Transfer:
    """One call on one handle, and what has been read of its answer."""

    def __init__(self, call: Call, curl: pycurl.Curl) -> None:
        self.call = call
        self.curl = curl
        self.started_at = monotonic()
        self.deadline = self.started_at + call.timeout_seconds
        self.is_finished = False
        self._body = bytearray()
        self._header_bytes = 0

    def prepare(self) -> None:
        set_option = self.curl.setopt
        set_option(pycurl.URL, self.call.url)
        set_option(pycurl.HTTPHEADER, [f"{name}: {value}" for name, value in self.call.headers.items()])
        # libcurl may repeat a POST by itself on a fresh connection, unless it cannot rewind the body:
        # a read function without a seek function makes that an error, and so an attempt of ours.
        set_option(pycurl.READFUNCTION, io.BytesIO(self.call.body).read)
        set_option(pycurl.POSTFIELDSIZE_LARGE, len(self.call.body))
        set_option(pycurl.WRITEFUNCTION, self._read_body)
        set_option(pycurl.HEADERFUNCTION, self._read_header)
        set_option(pycurl.TIMEOUT_MS, int((self.call.timeout_seconds + BACKSTOP_SECONDS) * 1000))

    def finish(self, code: int) -> FinishedCall:
        self.is_finished = True
        status: int = self.curl.getinfo(pycurl.RESPONSE_CODE)
        if self._header_bytes > MAX_HEADER_BYTES or code == LIBCURL_TOO_LARGE:
            return self.failed(AttemptError.TOO_LARGE, "its headers are larger than 64 KiB", status)
        is_capped = code == pycurl.E_WRITE_ERROR and len(self._body) >= MAX_BODY_BYTES
        if code == 0 or is_capped:
            attempt = answered(status, duration_ms=self._duration_ms(), response_excerpt=self._excerpt())
            return FinishedCall(call=self.call, attempt=attempt)
        if code == pycurl.E_OPERATION_TIMEDOUT:
            message = f"there was no complete answer within {self.call.timeout_seconds:g} s"
            return self.failed(AttemptError.TIMEOUT, message, status)
        if code in TLS_ERRORS:
            return self.failed(AttemptError.TLS, f"the TLS connection failed: {self.curl.errstr()}", status)
        error, message = FAILURES.get(code, (AttemptError.PROTOCOL, "the answer is not valid HTTP"))
        return self.failed(error, message, status)

    def failed(self, error: AttemptError, message: str, http_status: int = 0) -> FinishedCall:
        self.is_finished = True
        attempt = Attempt(
            duration_ms=self._duration_ms(),
            http_status=http_status or None,
            error=error,
            message=message,
            response_excerpt=self._excerpt(),
        )
        return FinishedCall(call=self.call, attempt=attempt)

    def _duration_ms(self) -> int:
        return round((monotonic() - self.started_at) * 1000)

    def _excerpt(self) -> str | None:
        text = self._body[:EXCERPT_BYTES].decode("utf-8", "replace")
        return text.replace("\0", "\N{REPLACEMENT CHARACTER}") or None

    def _read_body(self, chunk: bytes) -> int | None:
        self._body += chunk[: MAX_BODY_BYTES - len(self._body)]
        return -1 if len(self._body) >= MAX_BODY_BYTES else None

    def _read_header(self, line: bytes) -> int | None:
        self._header_bytes += len(line)
        return -1 if self._header_bytes > MAX_HEADER_BYTES else None


def new_handle() -> pycurl.Curl:
    """A handle with all that is the same for every call (design/security.md, Egress)."""
    curl = pycurl.Curl()
    for option, value in (
        (pycurl.NOSIGNAL, 1),
        (pycurl.POST, 1),
        (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
        (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1),
        (pycurl.PATH_AS_IS, 1),
        (pycurl.FOLLOWLOCATION, 0),
        (pycurl.PROXY, ""),
        (pycurl.NETRC, 0),
        (pycurl.HTTP_CONTENT_DECODING, 0),
        (pycurl.CAINFO, certifi.where()),
        (pycurl.MAXAGE_CONN, MAX_IDLE_SECONDS),
    ):
        curl.setopt(option, value)
    return curl
