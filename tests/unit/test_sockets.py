"""Which sockets are waited for, in the words of libcurl."""

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
    theirs.send(b"x")
    for what, can in (
        (pycurl.POLL_IN, [(fd, pycurl.CSELECT_IN)]),
        (pycurl.POLL_OUT, [(fd, pycurl.CSELECT_OUT)]),
        (pycurl.POLL_INOUT, [(fd, pycurl.CSELECT_IN | pycurl.CSELECT_OUT)]),
        (pycurl.POLL_NONE, []),
        (pycurl.POLL_IN, [(fd, pycurl.CSELECT_IN)]),
        (pycurl.POLL_REMOVE, []),
        (pycurl.POLL_REMOVE, []),
    ):
        sockets.watch(what, fd)
        assert sockets.wait(0) == can


def test_a_socket_with_an_error_is_to_be_read_and_written(
    sockets: Sockets, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    sockets.watch(pycurl.POLL_IN, ours.fileno())
    theirs.close()
    assert sockets.wait(1) == [(ours.fileno(), pycurl.CSELECT_IN | pycurl.CSELECT_OUT)]


def test_a_socket_that_was_closed_can_be_forgotten(
    sockets: Sockets, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    fd = ours.fileno()
    sockets.watch(pycurl.POLL_IN, fd)
    ours.close()
    sockets.watch(pycurl.POLL_REMOVE, fd)
    sockets.watch(pycurl.POLL_IN, theirs.fileno())
    assert sockets.wait(0) == [(theirs.fileno(), pycurl.CSELECT_IN | pycurl.CSELECT_OUT)]
