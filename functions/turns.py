"""Calls to one host over HTTPS take turns on the connections that are open: another one costs as much CPU as ten calls.

libcurl does not tell which connections it has, so that they are guessed at here: a wrong guess costs a call
MAX_WAIT_SECONDS, or a connection more, which each call of a burst may cost.
"""

import math
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from functions.transfer import MAX_IDLE_SECONDS, Call, monotonic

MAX_WAIT_SECONDS = 0.1
"""Then the host is slow, and the call gets a connection of its own."""

MAX_WAITING = 4
"""For each call under way: a whole crowd on one connection would wait for its host's answers one after the other."""


class Waiting(NamedTuple):
    call: Call
    began_at: float
    addresses: Sequence[str]
    since: float


@dataclass(slots=True)
class Host:
    """`under_way` counts calls; `free` is when connections were left that may be open, newest last."""

    under_way: int = 0
    free: deque[float] = field(default_factory=deque)
    waiting: deque[Waiting] = field(default_factory=deque)


class Turns:
    """Whose turn it is, of those that take turns."""

    def __init__(self) -> None:
        self._hosts: defaultdict[tuple[str, str, int], Host] = defaultdict(Host)
        self._queue: deque[Waiting] = deque()
        self._number = 0

    def __len__(self) -> int:
        """How many wait."""
        return self._number

    def take(self, call: Call, began_at: float, addresses: Sequence[str]) -> bool:
        """Whether the call may go at once; else it waits for `give_back` or `overdue`."""
        host = self._hosts[call.url.destination]
        while host.free and host.free[0] + MAX_IDLE_SECONDS < monotonic():
            host.free.popleft()
        if host.free:
            host.free.pop()
        elif host.under_way and len(host.waiting) < MAX_WAITING * host.under_way:
            waiting = Waiting(call, began_at, addresses, monotonic())
            host.waiting.append(waiting)
            self._queue.append(waiting)
            self._number += 1
            return False
        host.under_way += 1
        return True

    def give_back(self, call: Call, *, is_kept: bool) -> Waiting | None:
        """A call has ended, and its connection may be kept: the one whose turn it is now."""
        host = self._hosts[call.url.destination]
        if host.waiting:
            self._number -= 1
            return host.waiting.popleft()
        host.under_way -= 1
        if is_kept:
            host.free.append(monotonic())
        return None

    def overdue(self) -> list[Waiting]:
        """Those that have waited long enough, who go now."""
        now, overdue = monotonic(), []
        while self._queue:
            first = self._queue[0]
            host = self._hosts[first.call.url.destination]
            if host.waiting and host.waiting[0] is first:  # else it has gone
                if first.since + MAX_WAIT_SECONDS > now:
                    break
                overdue.append(host.waiting.popleft())
                host.under_way += 1
            self._queue.popleft()
        self._number -= len(overdue)
        return overdue

    @property
    def next_at(self) -> float:
        """When the next one has waited long enough."""
        return self._queue[0].since + MAX_WAIT_SECONDS if self._queue else math.inf

    def clear(self) -> set[str]:
        """Forget all; the ids of the calls that waited."""
        ids = {waiting.call.id for host in self._hosts.values() for waiting in host.waiting}
        self._hosts.clear()
        self._queue.clear()
        self._number = 0
        return ids


def takes_turns(call: Call) -> bool:
    """Calls over HTTP are free to go, and so are those without a body, which each have a fresh connection."""
    return call.url.scheme == "https" and call.body is not None
