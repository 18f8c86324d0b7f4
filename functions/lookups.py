"""Host names are looked up here, each on a thread of its own, and not by libcurl.

libcurl has 20 threads for it. A name that gets no answer holds two of them for as long as the system's resolver
tries (up to half a minute), also when its call has ended, and closing the handle waits for them: ten such names
would fail the calls to all other hosts, and hold up the end of the tick (docs/adr/0002-pycurl-for-the-calls.md).
"""

import socket
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from ipaddress import ip_address
from queue import SimpleQueue

from functions.descriptors import are_used_up

MAX_LOOKUPS = 500
"""Calls in flight bound them already; those of calls that have ended may go on for a while."""


class Lookups:
    """What is known of hosts, for as long as a tick lasts. `bell` becomes readable when there is an answer."""

    def __init__(self) -> None:
        self.bell, self._ringer = socket.socketpair()
        self.bell.setblocking(False)
        self._known: dict[str, Sequence[str]] = {}
        self._under_way: set[str] = set()
        self._answers: SimpleQueue[tuple[str, Sequence[str] | None]] = SimpleQueue()

    def begin(self, host: str) -> bool:
        """Look a host up, unless that is done or under way; False when too many look-ups are under way, or when the
        system has no thread left.
        """
        if host not in self._known and host not in self._under_way:
            if len(self._under_way) >= MAX_LOOKUPS:
                return False
            try:
                threading.Thread(target=self._look_up, args=(host,), daemon=True).start()
            except RuntimeError:
                return False
            self._under_way.add(host)
        return True

    def addresses(self, host: str) -> Sequence[str]:
        """The IP addresses of a host that is known; none of one that is not (yet)."""
        return (host,) if is_address(host) else self._known.get(host, ())

    def collect(self) -> Mapping[str, bool]:
        """Take the answers that have come; the hosts that were not resolved, which may be tried again.

        With each, whether it was asked for: it was not where this process had no file descriptor left.
        """
        with suppress(BlockingIOError):
            self.bell.recv(4096)
        failed = {}
        while not self._answers.empty():
            host, addresses = self._answers.get()
            self._under_way.discard(host)
            if addresses:
                self._known[host] = addresses
            else:
                failed[host] = addresses is not None
        return failed

    def close(self) -> None:
        """Look-ups under way end by themselves, and are heard no more."""
        self.bell.close()
        self._ringer.close()

    def _look_up(self, host: str) -> None:
        self._answers.put((host, resolve(host)))
        with suppress(OSError):  # closed, or full of rings that nobody has heard yet
            self._ringer.send(b"!")


def resolve(host: str) -> Sequence[str] | None:
    """The IP addresses of a host in the order of the system's resolver, each once; none if it has none.

    None if this process had no file descriptor left to ask with. The error does not tell: it is the same as for
    other reasons, and another one on each system.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return None if are_used_up() else ()
    return tuple(dict.fromkeys(str(address[0]) for *_, address in found))


@lru_cache(maxsize=2_048)
def is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
