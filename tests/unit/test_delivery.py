"""The calls in flight, against receivers that misbehave."""

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from uuid import uuid4

import pytest

from domain.attempt import Attempt, AttemptError
from domain.task import Method
from domain.webhook_url import WebhookUrl, parse_webhook_url
from functions import bootstrap
from functions.delivery import Deliveries
from functions.egress import Egress
from functions.lookups import Lookups
from functions.manual_runs import headers_of
from functions.settings import load
from functions.transfer import KEPT_HEADER_BYTES, Call, FinishedCall
from tests.bench.certificates import make_certificates
from tests.keepalive_receiver import KeepaliveReceiver
from tests.receiver import Answer, Received, Receiver

TIMEOUT = 1.0
LOOPBACK = Egress(allow=(ip_network("127.0.0.0/8"),))


def call(
    url: str, *, body: bytes | None = b"{}", timeout: float = TIMEOUT, method: Method = Method.POST
) -> Call:
    return Call(
        id=str(uuid4()),
        url=parse_webhook_url(url),
        method=method,
        headers={"Content-Type": "application/json"},
        body=body,
        timeout_seconds=timeout,
        success_statuses=(range(200, 300),),
        claimed_at=datetime(2026, 11, 23, tzinfo=UTC),
    )


def finish_all(deliveries: Deliveries, calls: list[Call]) -> dict[str, Attempt]:
    finished: list[FinishedCall] = []
    for one in calls:
        deliveries.start(one)
    while deliveries.in_flight:
        finished += deliveries.wait(1)
    return {one.call.id: one.attempt for one in finished if one.attempt is not None}


def attempt(one: Call) -> Attempt:
    with Deliveries(LOOPBACK) as deliveries:
        return finish_all(deliveries, [one])[one.id]


@contextmanager
def raw_server(serve: Callable[[socket.socket, threading.Event], None]) -> Iterator[str]:
    """A server that does to each connection whatever `serve` does, until the test is over."""
    over = threading.Event()
    threads: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                thread = threading.Thread(target=handle, args=(connection,))
                threads.append(thread)
                thread.start()

        def handle(connection: socket.socket) -> None:
            with connection:
                try:
                    serve(connection, over)
                except OSError:
                    return

        acceptor = threading.Thread(target=accept)
        acceptor.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            over.set()
            listener.shutdown(socket.SHUT_RDWR)
    acceptor.join()
    for thread in threads:
        thread.join()


def answers(content: bytes) -> Callable[[socket.socket, threading.Event], None]:
    def serve(connection: socket.socket, over: threading.Event) -> None:
        connection.recv(65536)
        connection.sendall(content)

    return serve


def drips(start: bytes, drop: bytes) -> Callable[[socket.socket, threading.Event], None]:
    def serve(connection: socket.socket, over: threading.Event) -> None:
        connection.recv(65536)
        connection.sendall(start)
        while not over.wait(0.02):
            connection.sendall(drop)

    return serve


def hangs(connection: socket.socket, over: threading.Event) -> None:
    over.wait()


def resets(connection: socket.socket, over: threading.Event) -> None:
    connection.recv(65536)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


@pytest.mark.parametrize(
    "serve",
    [
        pytest.param(hangs, id="a hanging accept"),
        pytest.param(drips(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n", b"."), id="a dripped body"),
        pytest.param(drips(b"HTTP/1.1 200 OK\r\n", b"x: y\r\n"), id="dripped headers"),
        pytest.param(drips(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), id="an endless 100 Continue"),
    ],
)
def test_no_response_outlives_the_deadline(
    serve: Callable[[socket.socket, threading.Event], None],
) -> None:
    with raw_server(serve) as url:
        started = time.monotonic()
        result = attempt(call(url))
        took = time.monotonic() - started
    assert result.error == "timeout"
    assert result.message == "there was no complete answer within 1 s"
    assert TIMEOUT <= took < TIMEOUT + 0.5
    assert TIMEOUT * 1000 <= result.duration_ms < TIMEOUT * 1000 + 500


@pytest.mark.parametrize(
    ("serve", "error"),
    [
        pytest.param(resets, "connect", id="a reset"),
        pytest.param(answers(b""), "connect", id="closed without an answer"),
        pytest.param(answers(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nshort"), "connect", id="cut off"),
        pytest.param(answers(b"SSH-2.0-OpenSSH\r\n"), "protocol", id="garbage"),
        pytest.param(
            answers(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"), "protocol", id="negative length"
        ),
        pytest.param(
            answers(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000 + b"\r\n\r\n"),
            "too_large",
            id="a 200 KB header",
        ),
        pytest.param(
            answers(b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 50_000 + b"\r\n"),
            "too_large",
            id="300 KB of headers",
        ),
    ],
)
def test_a_broken_answer_is_a_failed_attempt(
    serve: Callable[[socket.socket, threading.Event], None], error: str
) -> None:
    with raw_server(serve) as url:
        assert attempt(call(url)).error == error


def test_a_2xx_is_a_success_even_when_its_body_is_longer_than_what_is_read() -> None:
    with Receiver(lambda _: (200, b"x" * 1_000_000)) as receiver:
        result = attempt(call(receiver.url))
    assert (result.error, result.http_status) == (None, 200)
    assert result.response_excerpt == "x" * 2048


def test_an_excerpt_is_clean_text() -> None:
    with Receiver(lambda _: (200, b"a\0b\xff\xc3")) as receiver:
        assert (
            attempt(call(receiver.url)).response_excerpt
            == "a\N{REPLACEMENT CHARACTER}b" + "\N{REPLACEMENT CHARACTER}" * 2
        )


def test_a_compressed_answer_is_not_expanded() -> None:
    bomb = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00"
    with raw_server(answers(bomb)) as url:
        result = attempt(call(url))
    assert result.http_status == 200
    assert result.response_excerpt is not None
    assert len(result.response_excerpt) == 4


def test_a_redirect_is_not_followed() -> None:
    with Receiver() as target:
        found = f"HTTP/1.1 302 Found\r\nLocation: {target.url}\r\nContent-Length: 0\r\n\r\n".encode()
        with raw_server(answers(found)) as url:
            result = attempt(call(url))
    assert (result.error, result.http_status) == ("http", 302)
    assert target.requests == []


def test_an_unusual_status_is_reported_as_it_is() -> None:
    with raw_server(answers(b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n")) as url:
        result = attempt(call(url))
    assert (result.error, result.http_status) == ("http", 999)


def test_an_unknown_host_is_a_dns_error() -> None:
    assert attempt(call("http://name.invalid/", timeout=20)).error == "dns"


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "file:///etc/hostname", "gopher://127.0.0.1/"])
def test_only_http_and_https_leave_the_process(url: str) -> None:
    other = WebhookUrl(scheme="ftp", host="127.0.0.1", port=21, origin="ftp://127.0.0.1", url=url)
    assert attempt(call("http://127.0.0.1/")._replace(url=other)).error == "protocol"


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with Receiver() as receiver, Receiver() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert attempt(call(receiver.url)).succeeded
    assert proxy.requests == []


def test_an_authority_of_ones_own_is_trusted_if_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, certificate = make_certificates(tmp_path, hosts=0)
    with KeepaliveReceiver(certificate=certificate) as receiver:
        for environment, error in (({}, AttemptError.TLS), ({"SSL_CERT_FILE": str(authority)}, None)):
            monkeypatch.setattr(bootstrap, "settings", partial(load, environment))
            with Deliveries(bootstrap.egress()) as deliveries:
                one = call(receiver.urls[0], body=b"", timeout=20)
                assert finish_all(deliveries, [one])[one.id].error is error


def test_a_large_body_arrives_whole_and_unannounced() -> None:
    body = bytes(range(256)) * 4096
    with Receiver() as receiver:
        assert attempt(call(receiver.url, body=body, timeout=10)).succeeded
    assert receiver.requests[0].body == body
    assert "Expect" not in receiver.requests[0].headers


def test_a_call_that_has_ended_leaves_no_body_in_memory() -> None:
    body = b"x" * 200_000
    with Receiver() as receiver, Deliveries(LOOPBACK) as deliveries:
        references = sys.getrefcount(body)
        finish_all(deliveries, [call(receiver.url, body=body)])
        assert sys.getrefcount(body) == references


@pytest.mark.parametrize("padding", [b"", b"X-Padding: " + b"x" * KEPT_HEADER_BYTES + b"\r\n"])
def test_headers_before_the_answer_are_not_those_of_the_answer(padding: bytes) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nRetry-After: 60\r\nX-Early: 1\r\n" + padding + b"\r\n"
    head = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n"
    for more, seconds in ((b"", None), (b"Retry-After: 5\r\n", 5.0)):
        with raw_server(answers(hints + head + more + b"\r\n")) as url, Deliveries(LOOPBACK) as deliveries:
            deliveries.start(call(url))
            (finished,) = deliveries.wait(TIMEOUT)
        assert finished.attempt is not None
        assert (finished.attempt.http_status, finished.attempt.retry_after_seconds) == (503, seconds)
        headers = headers_of(finished.header_lines)
        assert (headers.get("Retry-After"), headers.get("X-Early")) == ("5" if more else None, None)


def test_a_connection_that_dies_unanswered_is_not_tried_again_in_silence() -> None:
    """libcurl would repeat the POST on a new connection: two calls, one attempt."""
    received: list[bytes] = []

    def answers_once_then_dies(connection: socket.socket, over: threading.Event) -> None:
        received.append(connection.recv(65536))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        received.append(connection.recv(65536))

    with raw_server(answers_once_then_dies) as url, Deliveries(LOOPBACK) as deliveries:
        first, second = call(url), call(url)
        assert finish_all(deliveries, [first])[first.id].succeeded
        assert finish_all(deliveries, [second])[second.id].error == "connect"
    assert len(received) == 2


def test_an_answer_that_arrived_during_a_pause_of_the_process_is_no_timeout() -> None:
    paused = threading.Event()

    def answer_in_the_pause(_: Received) -> Answer:
        paused.wait()
        return 200, b"ok"

    with Receiver(answer_in_the_pause) as receiver, Deliveries(LOOPBACK) as deliveries:
        deliveries.start(call(receiver.url, timeout=0.5))
        while not receiver.requests:
            assert deliveries.wait(0.01) == []
        paused.set()
        until = time.monotonic() + 0.7
        while time.monotonic() < until:  # busy elsewhere, beyond the deadline
            pass
        (finished,) = deliveries.wait(1)
    assert finished.attempt is not None
    assert finished.attempt.succeeded


def test_calls_to_many_unknown_hosts_all_finish_and_hold_up_no_known_one() -> None:
    with Receiver() as receiver, Deliveries(LOOPBACK) as deliveries:
        unknown = [call(f"http://host-{number}.invalid/", timeout=20) for number in range(30)]
        known = call(receiver.url, timeout=20)
        results = finish_all(deliveries, [*unknown, known])
    assert results[known.id].succeeded
    assert {results[one.id].error for one in unknown} == {"dns"}


def test_calls_whose_host_is_being_looked_up_cost_the_others_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    may_answer, asked = threading.Event(), []
    addresses = Lookups.addresses

    def resolve(host: str) -> Sequence[str]:
        may_answer.wait(10)
        return ()

    def asked_addresses(known: Lookups, host: str) -> Sequence[str]:
        asked.append(host)
        return addresses(known, host)

    monkeypatch.setattr("functions.lookups.resolve", resolve)
    monkeypatch.setattr(Lookups, "addresses", asked_addresses)
    with Receiver() as receiver, Deliveries(LOOPBACK) as deliveries:
        sick = call("http://sick.example.com/", timeout=20)
        deliveries.start(sick)
        for _ in range(20):
            deliveries.start(call(receiver.url))
            assert deliveries.wait(10)
        assert asked.count("sick.example.com") == 1
        may_answer.set()
        (finished,) = deliveries.wait(10)
    assert finished.call is sick
    assert finished.attempt is not None
    assert finished.attempt.error is AttemptError.DNS
