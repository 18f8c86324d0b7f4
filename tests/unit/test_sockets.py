"""Which sockets are waited for, in the words of libcurl."""

import os
import socket
from collections.abc import Iterator
from contextlib import closing

import pycurl
import pytest

from functions.sockets import Sockets


@pytest.fixture
def sockets() -> Iterator[Sockets]:
    with closing(Sockets()) as one:
        yield one


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_a_socket_is_ready_for_what_is_waited_for_alone(
    sockets: Sockets, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    fd = ours.fileno()
    for what, is_ready in (
        (pycurl.POLL_IN, False),
        (pycurl.POLL_OUT, True),
        (pycurl.POLL_IN, False),
        (pycurl.POLL_INOUT, True),
        (pycurl.POLL_REMOVE, False),
        (pycurl.POLL_REMOVE, False),
        (pycurl.POLL_OUT, True),
        (pycurl.POLL_NONE, False),
        (pycurl.POLL_IN, False),
    ):
        sockets.watch(what, fd)
        assert sockets.wait(0) == [fd] * is_ready
    theirs.send(b"x")
    assert sockets.wait(1) == [fd]


def test_a_socket_with_an_error_is_ready(sockets: Sockets, pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    sockets.watch(pycurl.POLL_IN, ours.fileno())
    theirs.close()
    assert sockets.wait(1) == [ours.fileno()]


def test_a_socket_that_comes_back_is_waited_for(
    sockets: Sockets, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    fd = ours.fileno()
    sockets.watch(pycurl.POLL_IN, fd)
    sockets.watch(pycurl.POLL_REMOVE, fd)
    sockets.watch(pycurl.POLL_IN, fd)
    assert sockets.wait(0) == []
    theirs.send(b"x")
    assert sockets.wait(1) == [fd]


def test_what_comes_for_a_socket_that_was_taken_away_disturbs_once(
    sockets: Sockets, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    fd = ours.fileno()
    sockets.watch(pycurl.POLL_IN, fd)
    sockets.watch(pycurl.POLL_REMOVE, fd)
    theirs.send(b"x")
    assert sockets.wait(1) == []
    with pytest.raises((FileNotFoundError, KeyError)):  # the system has been told to forget it
        sockets._poll.unregister(fd)
    sockets.watch(pycurl.POLL_IN, fd)
    assert sockets.wait(1) == [fd]


def test_a_new_socket_with_the_number_of_one_that_was_closed_is_waited_for(
    sockets: Sockets, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    with socket.socket() as closed:
        fd = closed.fileno()
        sockets.opened()
        sockets.watch(pycurl.POLL_IN, fd)
        sockets.watch(pycurl.POLL_REMOVE, fd)
        sockets.opened()
        os.dup2(ours.fileno(), fd)
        sockets.watch(pycurl.POLL_IN, fd)
        theirs.send(b"x")
        assert sockets.wait(1) == [fd]


def test_sockets_of_others_come_and_go(sockets: Sockets, pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    with socket.socket() as closed:
        fd = closed.fileno()
        sockets.watch(pycurl.POLL_IN, fd)
        sockets.watch(pycurl.POLL_REMOVE, fd)
        os.dup2(ours.fileno(), fd)
        sockets.add(fd)
        theirs.send(b"x")
        assert sockets.wait(1) == [fd]
        sockets.discard(fd)
        assert sockets.wait(0) == []
        sockets.watch(pycurl.POLL_IN, fd)
        assert sockets.wait(1) == [fd]


def test_another_socket_that_was_closed_can_be_forgotten(
    sockets: Sockets, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    fd = ours.fileno()
    sockets.add(fd)
    ours.close()
    sockets.discard(fd)
    sockets.add(theirs.fileno())
    assert sockets.wait(1) == [theirs.fileno()]
