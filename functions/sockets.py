"""The sockets that a tick waits for; by epoll itself, as `selectors` costs each call four microseconds more."""

import select
import sys
from contextlib import suppress

import pycurl

MASKS = {
    pycurl.POLL_IN: select.POLLIN,
    pycurl.POLL_OUT: select.POLLOUT,
    pycurl.POLL_INOUT: select.POLLIN | select.POLLOUT,
}


class Sockets:
    """In the words of libcurl: POLL_IN and so on for what is waited for, CSELECT_IN and so on for what can be done."""

    def __init__(self) -> None:
        self._watched: set[int] = set()
        if sys.platform == "linux":
            self._poll = select.epoll()
        else:
            self._poll = select.poll()

    def watch(self, what: int, fd: int, _multi: object = None, _data: object = None) -> None:
        """Wait for this from now on, in place of what was waited for before; the SOCKETFUNCTION of libcurl."""
        mask = MASKS.get(what)
        if mask is None:
            if fd in self._watched:
                self._watched.discard(fd)
                with suppress(OSError):  # it may be closed
                    self._poll.unregister(fd)
        elif fd in self._watched:
            self._poll.modify(fd, mask)
        else:
            self._watched.add(fd)
            self._poll.register(fd, mask)

    def wait(self, seconds: float) -> list[tuple[int, int]]:
        """Sockets and what can be done with each, at the latest after so many seconds; errors are read and written."""
        return [
            (
                fd,
                (pycurl.CSELECT_IN if mask & ~select.POLLOUT else 0)
                | (pycurl.CSELECT_OUT if mask & ~select.POLLIN else 0),
            )
            for fd, mask in self._poll.poll(seconds if sys.platform == "linux" else seconds * 1000)
        ]

    def close(self) -> None:
        if sys.platform == "linux":
            self._poll.close()
