"""The calls in flight: one thread, libcurl's multi interface, real wall-clock deadlines.

Why pycurl: docs/adr/0002-pycurl-for-the-calls.md.
"""

import math
from collections.abc import Mapping, Sequence
from socket import socket
from types import TracebackType
from typing import Self

import pycurl

from domain.attempt import AttemptError
from functions.egress import Egress
from functions.lookups import Lookups
from functions.sockets import Sockets
from functions.tls_sessions import TlsSessions
from functions.transfer import Call, FinishedCall, Transfer, blocked, monotonic, unsent
from functions.turns import Turns, Waiting, takes_turns

FROZEN_SECONDS = 5
"""A process that was away for so long does not send what it had claimed: its lease may be another's."""

KEPT_CONNECTIONS = 2_048
"""More than libcurl keeps by itself, so that hundreds of hosts do not close each other's (docs/performance.md)."""

PORTION = 32
"""So many calls are sent at once: what was prepared is at hand then, and answers leave connections for the next."""

MAX_PAUSE_SECONDS = 1
"""So that a pause of this length is told from a freeze."""


class Deliveries:
    """Calls in flight. Use from one thread; `close()` drops what is still in flight."""

    def __init__(self, egress: Egress) -> None:
        self._egress = egress
        self._alive_at = monotonic()
        self._thawed_at = -math.inf
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_MAXCONNECTS, KEPT_CONNECTIONS)
        self._sockets = Sockets()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._sockets.watch)
        self._tls_sessions = TlsSessions()
        self._turns = Turns()
        self._begun: list[pycurl.Curl] = []
        self._transfers: dict[pycurl.Curl, Transfer] = {}
        self._overdue_at = math.inf  # no call in flight has an earlier deadline
        self._spare: list[Transfer] = []
        self._refusals: dict[str, str | None] = {}
        self._finished: list[FinishedCall] = []
        self._lookups = Lookups()
        self._bell = self._lookups.bell.fileno()
        self._sockets.add(self._bell)
        self._waiting: list[Call] = []
        self._waits_since: dict[str, float] = {}
        self._admits_at = math.inf  # unless a look-up ends before

    @property
    def in_flight(self) -> int:
        return len(self._transfers) + len(self._turns) + len(self._waiting) + len(self._finished)

    def start(self, call: Call) -> None:
        """Begin a call, as soon as the addresses of its host are known; looking them up counts for its deadline.

        What libcurl or the egress guard refuses at once becomes a failed attempt. A call that has waited too
        long for a place among the look-ups is finished unsent. Calls are sent PORTION at a time, or by `wait`.
        """
        began_at = monotonic()
        host = call.url.host
        if host not in self._refusals:
            self._refusals[host] = self._egress.refusal_of_host(host)
        if (refusal := self._refusals[host]) is not None:
            self._finished.append(unsent(call, began_at, AttemptError.BLOCKED, blocked(refusal)))
        elif addresses := self._lookups.addresses(host):
            self._begin(call, began_at, addresses)
            if len(self._begun) >= PORTION:
                self._drive(0)
        else:
            self._waits_since[call.id] = began_at
            self._wait_for_lookup(call, began_at)

    def _wait_for_lookup(self, call: Call, began_at: float) -> None:
        seconds = call.timeout_seconds
        if not self._lookups.begin(call.url.host):
            seconds = min(seconds, FROZEN_SECONDS)
        self._admits_at = min(self._admits_at, began_at + seconds)
        self._waiting.append(call)

    def _begin(self, call: Call, began_at: float, addresses: Sequence[str]) -> None:
        if not takes_turns(call):
            self._send(call, began_at, addresses)
        elif self._turns.take(call, began_at, addresses) and not self._send(call, began_at, addresses):
            self._end_turn(call, is_kept=False)

    def _end_turn(self, call: Call, *, is_kept: bool) -> None:
        while (following := self._turns.give_back(call, is_kept=is_kept)) is not None:
            if self._take_turn(following):
                return
            call = following.call

    def _take_turn(self, waiting: Waiting) -> bool:
        """Whether the call is on its way; the wait does not count for its deadline."""
        if self._was_frozen_since(waiting.began_at):
            self._finished.append(FinishedCall(call=waiting.call, attempt=None))
            return False
        waited = monotonic() - waiting.since
        return self._send(waiting.call, waiting.began_at + waited, waiting.addresses)

    def _send(self, call: Call, began_at: float, addresses: Sequence[str]) -> bool:
        """Whether it can be sent; a call that cannot has failed."""
        transfer = self._spare.pop() if self._spare else self._new_transfer()
        try:
            transfer.begin(call, began_at, addresses)
            if call.url.scheme == "https":
                transfer.share(self._tls_sessions.of(call.url))
        except (pycurl.error, UnicodeError, ValueError):
            self._spare.append(transfer)
            self._finished.append(
                transfer.failed(AttemptError.PROTOCOL, "the URL or a header cannot be sent")
            )
            return False
        self._transfers[transfer.curl] = transfer
        self._overdue_at = min(self._overdue_at, transfer.deadline)
        self._begun.append(transfer.curl)
        return True

    def _new_transfer(self) -> Transfer:
        return Transfer(self._egress, self._was_frozen_since, self._sockets.opened)

    def _add_begun(self) -> None:
        """Hand to libcurl what was started, once it has read what arrived: that frees connections for it."""
        for curl in self._begun:
            self._multi.add_handle(curl)
        self._begun.clear()

    def _admit_waiting(self, unresolved: Mapping[str, bool]) -> None:
        waiting, self._waiting, self._admits_at = self._waiting, [], math.inf
        for call in waiting:
            host, began_at, now = call.url.host, self._waits_since[call.id], monotonic()
            if addresses := self._lookups.addresses(host):
                self._begin(call, began_at, addresses)
            elif unresolved.get(host):
                message = "the host name could not be resolved"
                self._finished.append(unsent(call, began_at, AttemptError.DNS, message))
            elif now >= began_at + call.timeout_seconds and not self._was_frozen_since(began_at):
                message = f"the host name was not resolved within {call.timeout_seconds:g} s"
                self._finished.append(unsent(call, began_at, AttemptError.TIMEOUT, message))
            elif (
                host in unresolved
                or self._was_frozen_since(began_at)
                or (not self._lookups.begin(host) and now - began_at > FROZEN_SECONDS)
            ):
                self._finished.append(FinishedCall(call=call, attempt=None))
            else:
                self._wait_for_lookup(call, began_at)
                continue
            del self._waits_since[call.id]

    def wait(self, timeout: float) -> list[FinishedCall]:
        """Drive the calls until one has finished, at most `timeout` seconds; the finished ones.

        What has arrived is read before a call is judged to be overdue, so that a pause of this process does
        not turn an answer into a time-out.
        """
        until = monotonic() + timeout
        self._drive(0)
        while not self._finished and (now := monotonic()) < until and (self._transfers or self._waiting):
            self._drive(self._pause(until, now))
        finished, self._finished = self._finished, []
        return finished

    def go_on_until_readable(self, answer: socket) -> None:
        """Drive the calls while the database works; what finishes is kept for `wait`.

        Raises TimeoutError when there is nothing to read from `answer` within the time-out of that socket.
        """
        if not self._transfers:
            self._note_life()
            return
        now = monotonic()
        until = now + (answer.gettimeout() or math.inf)
        fd = answer.fileno()
        self._sockets.add(fd)
        try:
            while not self._drive(self._pause(until, now), fd):
                if (now := monotonic()) >= until and not self._drive(0, fd):  # it may have come meanwhile
                    raise TimeoutError("the database did not answer in time")
        finally:
            self._sockets.discard(fd)

    def _pause(self, until: float, now: float) -> float:
        if self._begun:
            return 0
        timeout_ms = self._multi.timeout()
        timer_at = now + timeout_ms / 1000 if timeout_ms >= 0 else until
        wake_at = min(until, timer_at, self._overdue_at, self._turns.next_at, self._admits_at)
        return min(max(0.0, wake_at - now), MAX_PAUSE_SECONDS)

    def abandon(self) -> set[str]:
        """Drop the calls in flight, and return those that were not sent; whether the others arrived is not known."""
        self._add_begun()
        unsent = self._turns.clear() | {call.id for call in self._waiting}
        unsent |= {transfer.call.id for transfer in self._transfers.values() if not transfer.is_sent}
        for transfer in self._transfers.values():
            self._multi.remove_handle(transfer.curl)
            self._spare.append(transfer)
        self._transfers.clear()
        self._waiting.clear()
        self._waits_since.clear()
        self._admits_at = math.inf
        return unsent

    def close(self) -> None:
        self._add_begun()
        for curl in self._transfers:
            self._multi.remove_handle(curl)
        for transfer in [*self._transfers.values(), *self._spare]:
            transfer.curl.close()
        self._transfers.clear()
        self._spare.clear()
        self._multi.close()
        self._tls_sessions.close()
        self._sockets.close()
        self._lookups.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _drive(self, timeout: float, answer: int | None = None) -> bool:
        """Wait for events and deal with them; whether the socket `answer` is among what can be read."""
        is_answered = False
        unresolved: Mapping[str, bool] | None = None
        for fd in self._sockets.wait(timeout):
            if fd == self._bell:
                unresolved = self._lookups.collect()
            elif fd == answer:
                is_answered = True
            else:
                self._multi.socket_action(fd, 0)
        if unresolved is not None or monotonic() >= self._admits_at:
            self._admit_waiting(unresolved or {})
        for one in self._turns.overdue():
            if not self._take_turn(one):
                self._end_turn(one.call, is_kept=False)
        self._add_begun()
        if self._multi.timeout() == 0:
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        self._collect()
        self._end_overdue()
        self._note_life()
        return is_answered

    def _note_life(self) -> None:
        now = monotonic()
        if now - self._alive_at > FROZEN_SECONDS:
            self._thawed_at = self._admits_at = now
        self._alive_at = now

    def _was_frozen_since(self, instant: float) -> bool:
        return instant <= self._thawed_at or monotonic() - self._alive_at > FROZEN_SECONDS

    def _collect(self) -> None:
        remaining = 1
        while remaining:
            remaining, succeeded, failed = self._multi.info_read()
            for curl in succeeded:
                self._finish(self._transfers[curl], 0)
            for curl, code, _ in failed:
                self._finish(self._transfers[curl], code)

    def _end_overdue(self) -> None:
        if (now := monotonic()) < self._overdue_at:
            return
        self._add_begun()  # one that has just got its turn may be overdue, too
        for transfer in [one for one in self._transfers.values() if one.deadline <= now]:
            is_unsent = not transfer.is_sent and self._was_frozen_since(transfer.started_at)
            self._finish(transfer, pycurl.E_ABORTED_BY_CALLBACK if is_unsent else pycurl.E_OPERATION_TIMEDOUT)
        self._overdue_at = min((one.deadline for one in self._transfers.values()), default=math.inf)

    def _finish(self, transfer: Transfer, code: int) -> None:
        call = transfer.call
        self._finished.append(transfer.finish(code))
        self._multi.remove_handle(transfer.curl)
        del self._transfers[transfer.curl]
        transfer.forget()
        self._spare.append(transfer)
        if takes_turns(call):
            self._end_turn(call, is_kept=code == 0)
