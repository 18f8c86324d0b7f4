"""Which calls may look up their host now.

libcurl resolves names on few threads, and names that get no answer would hold up all others (docs/engine.md,
Deadlines and limits): only so many hosts are looked up at once, and those whose last look-up got no answer have
places of their own.
"""

from ipaddress import ip_address

MAX_LOOKUPS = 8
MAX_SLOW_LOOKUPS = 2


class Lookups:
    """The hosts that are known, are being looked up, and gave no answer."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._slow: set[str] = set()
        self._under_way: set[str] = set()

    def begin(self, host: str) -> bool:
        """Whether a call to `host` may start; if its name is not known, it takes a place until the name is."""
        if host in self._known or is_address(host):
            return True
        if host in self._under_way:
            return False
        is_slow = host in self._slow
        if len(self._under_way & self._slow if is_slow else self._under_way - self._slow) >= (
            MAX_SLOW_LOOKUPS if is_slow else MAX_LOOKUPS
        ):
            return False
        self._under_way.add(host)
        return True

    def resolved(self, host: str) -> None:
        self._known.add(host)
        self._slow.discard(host)
        self._under_way.discard(host)

    def ended(self, host: str, *, timed_out: bool) -> None:
        """A call has ended; if its name is still not known, its place is free for another."""
        if host in self._under_way:
            self._under_way.discard(host)
            if timed_out:
                self._slow.add(host)


def is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
