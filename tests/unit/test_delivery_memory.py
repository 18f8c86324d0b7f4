"""Hostile receivers cost no memory to speak of: neither while they are called, nor after."""

import gc
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from functions.delivery import Deliveries
from functions.transfer import Call
from tests.unit.test_delivery import LOOPBACK, call, hangs, raw_server

ROOT = Path(__file__).parents[2]
IN_FLIGHT = 500
ROUNDS = 2
MAX_BYTES_A_CALL = 78_000

BODY = b"HTTP/1.1 200 OK\r\nContent-Length: 90000000\r\n\r\n" + b"x" * 60_000
HEADERS = b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: %s\r\n" % (n, b"y" * 1000) for n in range(30))


def sends_and_hangs(content: bytes) -> Callable[[socket.socket, threading.Event], None]:
    def serve(connection: socket.socket, over: threading.Event) -> None:
        connection.recv(65536)
        connection.sendall(content)
        over.wait()

    return serve


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the memory of a process in /proc")
@pytest.mark.parametrize(
    "serve",
    [hangs, sends_and_hangs(BODY), sends_and_hangs(HEADERS)],
    ids=["nothing", "a-large-body", "many-headers"],
)
def test_hundreds_of_hostile_answers_at_once_need_78_kb_each(
    serve: Callable[[socket.socket, threading.Event], None],
) -> None:
    with raw_server(serve) as url:
        child = subprocess.run(
            [sys.executable, "-m", __spec__.name if __spec__ else __name__, url],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
    assert int(child.stdout) < IN_FLIGHT * MAX_BYTES_A_CALL


def test_what_has_finished_is_not_kept_while_an_older_call_goes_on() -> None:
    with raw_server(hangs) as hanging, raw_server(answers_at_once) as url, Deliveries(LOOPBACK) as deliveries:
        deliveries.start(call(hanging, timeout=45))
        for _ in range(200):
            deliveries.start(call(url, body=b"x" * 1000, timeout=45))
            while deliveries.in_flight > 1:
                deliveries.wait(1)
        assert sum(isinstance(one, Call) for one in gc.get_objects()) <= 5


def answers_at_once(connection: socket.socket, _: threading.Event) -> None:
    while connection.recv(65536):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def main(url: str) -> None:
    """Call `url` from a process of its own, and write by how much that grows."""
    with Deliveries(LOOPBACK) as deliveries:
        deliveries.start(call(url, timeout=0.1))
        while deliveries.in_flight:
            deliveries.wait(1)
    before = most = resident_bytes()
    with Deliveries(LOOPBACK) as deliveries:
        for _ in range(ROUNDS):
            for _ in range(IN_FLIGHT):
                deliveries.start(call(url, timeout=1))
            while deliveries.in_flight:
                deliveries.wait(0.1)
                most = max(most, resident_bytes())
    sys.stdout.write(str(most - before))


if __name__ == "__main__":
    main(sys.argv[1])
