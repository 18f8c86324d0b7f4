"""The calls in flight: one thread, libcurl's multi interface, real wall-clock deadlines.

Why pycurl: docs/adr/0002-pycurl-for-the-calls.md.
"""

import heapq
import io
import math
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from types import TracebackType
from typing import Self
from uuid import UUID

import certifi
import pycurl

from domain.attempt import Attempt, AttemptError, answered
from domain.retry import retry_after_seconds
from domain.task import Method
from domain.webhook_url import WebhookUrl
from functions.egress import Dial, Egress
from functions.lookups import Lookups

MAX_BODY_BYTES = 64 * 1024
MAX_HEADER_BYTES = 64 * 1024
EXCERPT_BYTES = 2 * 1024
MAX_IDLE_SECONDS = 3
"""libcurl repeats a POST by itself when a kept-alive connection has died; a short idle time makes that rare."""

BACKSTOP_SECONDS = 10
"""After a pause libcurl would time a call out before it reads the answer; so ours is the deadline that counts."""

FROZEN_SECONDS = 5
"""A process that was away for so long does not send what it had claimed: its lease may be another's."""

MAX_PAUSE_SECONDS = 1
"""So that a pause of this length is told from a freeze."""

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
    """One HTTP request: what is sent, for how long its answer is waited for, and which answer is a success."""

    id: UUID
    url: WebhookUrl
    method: Method
    headers: Mapping[str, str]
    body: bytes | None
    timeout_seconds: float
    success_statuses: Sequence[range]
    claimed_at: datetime
    """By the clock of the database, which goes on in this process by its monotonic clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedCall:
    """`attempt` is None when nothing was sent: this process had been frozen, and the call may no longer be ours."""

    call: Call
    attempt: Attempt | None


def monotonic() -> float:
    """Seconds of a clock that never steps and, where the system has one, counts suspended time."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Deliveries:
    """Calls in flight. Use from one thread; `close()` drops what is still in flight."""

    def __init__(self, egress: Egress) -> None:
        self._egress = egress
        self._driven_at = monotonic()
        self._thawed_at = -math.inf
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
        self._lookups = Lookups()
        self._waiting: deque[Call] = deque()
        self._waits_since: dict[UUID, float] = {}

    @property
    def in_flight(self) -> int:
        return len(self._transfers) + len(self._waiting) + len(self._finished)

    def start(self, call: Call) -> None:
        """Begin a call, as soon as its host may be looked up.

        What libcurl or the egress guard refuses at once becomes a failed attempt. A call that has waited too
        long for its look-up is finished unsent.
        """
        if self._lookups.begin(call.url.host):
            self._begin(call)
        else:
            self._waiting.append(call)
            self._waits_since[call.id] = monotonic()

    def _begin(self, call: Call) -> None:
        curl = self._spare.pop() if self._spare else new_handle()
        transfer = Transfer(call, curl, Dial(self._egress), self._was_frozen_since, self._lookups)
        refusal = self._egress.refusal_of_host(call.url.host)
        if refusal is None:
            try:
                transfer.prepare()
            except (pycurl.error, UnicodeError, ValueError):
                refused = transfer.failed(AttemptError.PROTOCOL, "the URL or a header cannot be sent")
            else:
                self._transfers[curl] = transfer
                heapq.heappush(self._deadlines, (transfer.deadline, next(self._sequence), transfer))
                self._multi.add_handle(curl)
                return
        else:
            refused = transfer.failed(AttemptError.BLOCKED, blocked(refusal))
        self._lookups.ended(call.url.host, timed_out=False)
        self._spare.append(curl)
        self._finished.append(refused)

    def _admit_waiting(self) -> None:
        for _ in range(len(self._waiting)):
            call = self._waiting.popleft()
            if self._lookups.begin(call.url.host):
                del self._waits_since[call.id]
                self._begin(call)
            elif monotonic() - self._waits_since[call.id] > FROZEN_SECONDS:
                del self._waits_since[call.id]
                self._finished.append(FinishedCall(call=call, attempt=None))
            else:
                self._waiting.append(call)

    def wait(self, timeout: float) -> list[FinishedCall]:
        """Drive the calls until one has finished, at most `timeout` seconds; the finished ones.

        What has arrived is read before a call is judged to be overdue, so that a pause of this process does
        not turn an answer into a time-out.
        """
        until = monotonic() + timeout
        self._drive(0)
        while not self._finished and (now := monotonic()) < until and (self._transfers or self._waiting):
            overdue_at = self._deadlines[0][0] if self._deadlines else until
            wake_at = min(until, overdue_at, self._timer_at or until)
            self._drive(min(max(0.0, wake_at - now), MAX_PAUSE_SECONDS))
        finished, self._finished = self._finished, []
        return finished

    def abandon(self) -> set[UUID]:
        """Drop the calls in flight, and return those that were not sent; whether the others arrived is not known."""
        unsent = {call.id for call in self._waiting}
        unsent |= {transfer.call.id for transfer in self._transfers.values() if not transfer.is_sent}
        for transfer in self._transfers.values():
            transfer.is_finished = True
            self._multi.remove_handle(transfer.curl)
            self._spare.append(transfer.curl)
        self._transfers.clear()
        self._waiting.clear()
        self._waits_since.clear()
        return unsent

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
        self._admit_waiting()
        now = monotonic()
        if now - self._driven_at > FROZEN_SECONDS:
            self._thawed_at = now
        self._driven_at = now

    def _was_frozen_since(self, instant: float) -> bool:
        return instant <= self._thawed_at or monotonic() - self._driven_at > FROZEN_SECONDS

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
            if transfer.is_finished:
                continue
            is_unsent = not transfer.is_sent and self._was_frozen_since(transfer.started_at)
            self._finish(transfer, pycurl.E_ABORTED_BY_CALLBACK if is_unsent else pycurl.E_OPERATION_TIMEDOUT)

    def _finish(self, transfer: "Transfer", code: int) -> None:
        self._lookups.ended(transfer.call.url.host, timed_out=code == pycurl.E_OPERATION_TIMEDOUT)
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

    def __init__(
        self,
        call: Call,
        curl: pycurl.Curl,
        dial: Dial,
        was_frozen_since: Callable[[float], bool],
        lookups: Lookups,
    ) -> None:
        self.call = call
        self.curl = curl
        self._dial = dial
        self._was_frozen_since = was_frozen_since
        self._lookups = lookups
        self.started_at = monotonic()
        self.deadline = self.started_at + call.timeout_seconds
        self.is_finished = False
        self.is_sent = False
        self._body = bytearray()
        self._header_bytes = 0
        self._headers: dict[str, str] = {}

    def prepare(self) -> None:
        set_option = self.curl.setopt
        call = self.call
        set_option(pycurl.URL, call.url.url)
        set_option(pycurl.HTTPHEADER, [f"{name}: {value}" for name, value in call.headers.items()])
        if call.body is None:
            set_option(pycurl.HTTPGET, 1)
        else:
            set_option(pycurl.POST, 1)
            # libcurl may repeat a request by itself on a fresh connection, unless it cannot rewind the body:
            # a read function without a seek function makes that an error, and so an attempt of ours.
            set_option(pycurl.READFUNCTION, io.BytesIO(call.body).read)
            set_option(pycurl.POSTFIELDSIZE_LARGE, len(call.body))
        set_option(pycurl.FRESH_CONNECT, call.body is None)
        set_option(pycurl.CUSTOMREQUEST, call.method)
        set_option(pycurl.OPENSOCKETFUNCTION, self._open_socket)
        set_option(pycurl.PREREQFUNCTION, self._may_be_sent)
        set_option(pycurl.WRITEFUNCTION, self._read_body)
        set_option(pycurl.HEADERFUNCTION, self._read_header)
        set_option(pycurl.TIMEOUT_MS, int((call.timeout_seconds + BACKSTOP_SECONDS) * 1000))

    def finish(self, code: int) -> FinishedCall:
        self.is_finished = True
        status: int = self.curl.getinfo(pycurl.RESPONSE_CODE)
        if code == pycurl.E_ABORTED_BY_CALLBACK:
            return FinishedCall(call=self.call, attempt=None)
        if self._header_bytes > MAX_HEADER_BYTES or code == LIBCURL_TOO_LARGE:
            return self.failed(AttemptError.TOO_LARGE, "the answer's headers are larger than 64 KiB", status)
        is_capped = code == pycurl.E_WRITE_ERROR and len(self._body) >= MAX_BODY_BYTES
        if code == 0 or is_capped:
            return FinishedCall(call=self.call, attempt=self._answered(status))
        if code == pycurl.E_OPERATION_TIMEDOUT:
            message = f"there was no complete answer within {self.call.timeout_seconds:g} s"
            return self.failed(AttemptError.TIMEOUT, message, status)
        if self._dial.refused is not None:
            return self.failed(AttemptError.BLOCKED, blocked(self._dial.refused))
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

    def _answered(self, status: int) -> Attempt:
        now = self.call.claimed_at + timedelta(seconds=monotonic() - self.started_at)
        body = self._body.decode("utf-8", "replace")
        return answered(
            status,
            duration_ms=self._duration_ms(),
            success_statuses=self.call.success_statuses,
            response_excerpt=self._excerpt(),
            retry_after_seconds=retry_after_seconds(status, self._headers, body, now),
        )

    def _open_socket(self, purpose: int, address: object) -> socket.socket | int:
        self._lookups.resolved(self.call.url.host)
        return self._dial.open(purpose, address)

    def _may_be_sent(self, *_: object) -> int:
        if self._was_frozen_since(self.started_at):
            return pycurl.PREREQFUNC_ABORT
        self.is_sent = True
        return pycurl.PREREQFUNC_OK

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
        if line.startswith(b"HTTP/"):
            self._headers.clear()
        name, separator, value = line.decode("latin-1").partition(":")
        if separator:
            self._headers[name.lower()] = value.strip()
        return -1 if self._header_bytes > MAX_HEADER_BYTES else None


def blocked(refusal: str) -> str:
    return f"the call was not made: {refusal}, which webhooks may not reach (EGRESS_ALLOW)"


def new_handle() -> pycurl.Curl:
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
        (pycurl.CAINFO, certifi.where()),
        (pycurl.MAXAGE_CONN, MAX_IDLE_SECONDS),
    ):
        curl.setopt(option, value)
    return curl
