"""What a tick does while the database works: lines of the log, and the calls of a claim that is being committed."""

from collections import deque
from collections.abc import Callable
from socket import socket
from typing import Self

from db.driver import is_readable


class Chores:
    """Short pieces of work, done in their order, the last ones at the end. They leave the database alone."""

    def __init__(self) -> None:
        self._put_off: deque[Callable[[], object]] = deque()

    def put_off(self, chore: Callable[[], object]) -> None:
        self._put_off.append(chore)

    def do_until_readable(self, answer: socket) -> None:
        """Do what there is, one piece after the other, until there is something to read."""
        while self._put_off and not is_readable(answer):
            self._put_off.popleft()()

    def do_all(self) -> None:
        while self._put_off:
            self._put_off.popleft()()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.do_all()
