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
    """libcurl takes a socket away after each call, and mostly brings it back with the next one.

    So the system goes on waiting for one that was taken away, until something comes for it. It forgets by itself
    what is closed, and the number may be another socket's then; that can only be one that was opened since.
    """

    def __init__(self) -> None:
        self._watched: dict[int, int] = {}
        self._left: dict[int, tuple[int, int]] = {}
        self._opened = 0
        if sys.platform == "linux":
            self._poll = select.epoll()
        else:
            self._poll = select.poll()

    def opened(self) -> None:
        """To be told before libcurl gets a socket that is new."""
        self._opened += 1

    def watch(self, what: int, fd: int, _multi: object = None, _data: object = None) -> None:
        """Wait for this from now on, in place of what was waited for before; the SOCKETFUNCTION of libcurl."""
        mask = MASKS.get(what)
        if mask is None:
            if (mask := self._watched.pop(fd, None)) is not None:
                self._left[fd] = mask, self._opened
            return
        left = self._left.pop(fd, None)
        if left is not None and left != (mask, self._opened):
            self._unregister(fd)
            left = None
        if fd in self._watched:
            self._poll.modify(fd, mask)
        elif left is None:
            self._poll.register(fd, mask)
        self._watched[fd] = mask

    def add(self, fd: int) -> None:
        """Wait until a socket can be read that is not libcurl's."""
        self._left.pop(fd, None)  # it was closed, and is another one now
        self._poll.register(fd, select.POLLIN)
        self._watched[fd] = select.POLLIN

    def discard(self, fd: int) -> None:
        """Wait no more for a socket that is not libcurl's."""
        del self._watched[fd]
        self._unregister(fd)

    def wait(self, seconds: float) -> list[int]:
        """The sockets for which something can be done, at the latest after so many seconds."""
        ready = []
        for fd, _ in self._poll.poll(seconds if sys.platform == "linux" else seconds * 1000):
            if fd in self._watched:
                ready.append(fd)
            else:
                self._left.pop(fd, None)
                self._unregister(fd)
        return ready

    def close(self) -> None:
        if sys.platform == "linux":
            self._poll.close()

    def _unregister(self, fd: int) -> None:
        with suppress(OSError):  # it may be closed
            self._poll.unregister(fd)
