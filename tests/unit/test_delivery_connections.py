"""What calls have in common: handles, connections, TLS sessions, addresses, and one thread."""

import threading
from collections.abc import Sequence
from pathlib import Path

import certifi
import pycurl
import pytest

from domain.task import Method
from functions import lookups, transfer
from functions.delivery import Deliveries
from functions.transfer import Call
from tests.bench.certificates import make_certificates
from tests.keepalive_receiver import KeepaliveReceiver
from tests.receiver import Receiver
from tests.unit.test_delivery import LOOPBACK, call

HOSTS = 100


def post(url: str) -> Call:
    return call(url, body=b"", method=Method.POST, timeout=20)


def finish(deliveries: Deliveries, urls: Sequence[str], at_once: int) -> None:
    """Call all, so many at a time; each is answered."""
    waiting = list(urls)
    while waiting or deliveries.in_flight:
        while waiting and deliveries.in_flight < at_once:
            deliveries.start(post(waiting.pop()))
        for finished in deliveries.wait(1):
            assert finished.attempt is not None
            assert finished.attempt.succeeded, finished.attempt.message


def test_a_thousand_calls_are_in_flight_on_one_thread() -> None:
    with KeepaliveReceiver(holds=True) as receiver, Deliveries(LOOPBACK) as deliveries:
        threads = set(threading.enumerate())
        for _ in range(1000):
            deliveries.start(post(receiver.urls[0]))
        while receiver.requests < 1000:
            assert deliveries.wait(0.01) == []
        assert deliveries.in_flight == 1000
        assert set(threading.enumerate()) <= threads
        receiver.release()
        finish(deliveries, (), at_once=0)


def test_connections_to_hundreds_of_hosts_are_kept_alive() -> None:
    with KeepaliveReceiver(HOSTS) as receiver, Deliveries(LOOPBACK) as deliveries:
        for _ in range(3):
            finish(deliveries, receiver.urls, at_once=10)
    assert (receiver.requests, receiver.connections) == (3 * HOSTS, HOSTS)


def test_tls_sessions_with_hundreds_of_hosts_are_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted, served = make_certificates(tmp_path, hosts=0)
    monkeypatch.setattr(certifi, "where", lambda: str(trusted))
    with (
        KeepaliveReceiver(HOSTS, closes=True, certificate=served) as receiver,
        Deliveries(LOOPBACK) as deliveries,
    ):
        finish(deliveries, receiver.urls, at_once=20)
        assert receiver.resumed == 0
        finish(deliveries, receiver.urls, at_once=20)
    assert (receiver.connections, receiver.resumed) == (2 * HOSTS, HOSTS)


def test_a_call_gets_the_connection_of_a_call_that_was_answered_before_it_started() -> None:
    with KeepaliveReceiver(holds=True) as receiver, Deliveries(LOOPBACK) as deliveries:
        for _ in range(20):
            deliveries.start(post(receiver.urls[0]))
        while receiver.requests < 20:
            assert deliveries.wait(0.01) == []
        receiver.release()
        finish(deliveries, receiver.urls * 20, at_once=40)
    assert (receiver.requests, receiver.connections) == (40, 20)


def test_a_handle_makes_one_call_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[pycurl.Curl] = []

    def new_handle(authorities: str) -> pycurl.Curl:
        made.append(original(authorities))
        return made[-1]

    original = transfer.new_handle
    monkeypatch.setattr(transfer, "new_handle", new_handle)
    with KeepaliveReceiver(HOSTS) as receiver, Deliveries(LOOPBACK) as deliveries:
        finish(deliveries, receiver.urls, at_once=10)
    assert len(made) == 10


def test_a_host_is_looked_up_once_for_all_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def resolve(host: str) -> Sequence[str]:
        asked.append(host)
        return ("127.0.0.1",)

    monkeypatch.setattr(lookups, "resolve", resolve)
    with KeepaliveReceiver() as receiver, Deliveries(LOOPBACK) as deliveries:
        url = receiver.urls[0].replace("127.0.0.1", "webhooks.example.com")
        finish(deliveries, [url] * 100, at_once=10)
    assert asked == ["webhooks.example.com"]


def test_a_call_inherits_nothing_from_the_call_before_it_on_the_same_handle() -> None:
    kinds = [
        (Method.POST, b"a"),
        (Method.GET, None),
        (Method.PUT, b"bcd"),
        (Method.DELETE, None),
    ]
    # each kind after each other, itself included
    sequence = [kind for one in kinds for other in kinds for kind in (one, other)]
    with Receiver() as receiver, Deliveries(LOOPBACK) as deliveries:
        for method, body in sequence:
            deliveries.start(call(receiver.url, method=method, body=body, timeout=20))
            while deliveries.in_flight:
                deliveries.wait(1)
    sent = [(method, body or b"") for method, body in sequence]
    assert [(request.method, request.body) for request in receiver.requests] == sent
    sizes = [request.headers.get("Content-Length") for request in receiver.requests]
    assert sizes == [None if body is None else str(len(body)) for _, body in sequence]
