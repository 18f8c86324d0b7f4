"""Clients that do not speak HTTP well, or mean harm: no 500, and the others are served."""

import json
import socket
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest

from tests.acceptance.conftest import Database
from tests.acceptance.server import LEAKS, TOKEN, Api, task_body

HEAD = f"Host: localhost\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n"
POST = f"POST /tasks/ HTTP/1.1\r\n{HEAD}"
BODY = json.dumps(task_body())


def say(api: Api, *parts: bytes | str, then_end: bool = True) -> bytes:
    """Everything the server answers until it closes; `then_end` closes our side first."""
    url = urlsplit(api.url)
    answer = b""
    with socket.create_connection((url.hostname, url.port), 20) as connection:
        try:
            for part in parts:
                connection.sendall(part.encode() if isinstance(part, str) else part)
            if then_end:
                connection.shutdown(socket.SHUT_WR)
            while chunk := connection.recv(65536):
                answer += chunk
        except ConnectionError:
            pass  # refused while we were still sending
    return answer


def status(answer: bytes) -> int:
    """0 when the connection was closed without an answer."""
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/") else 0


HOSTILE = {
    "a body that ends early": f"{POST}Content-Length: 500\r\n\r\n{BODY}",
    "no body at all": f"{POST}Content-Length: 500\r\n\r\n",
    "a chunk that is no number": f"{POST}Transfer-Encoding: chunked\r\n\r\nxyz\r\n{BODY}\r\n0\r\n\r\n",
    "a chunk that ends early": f"{POST}Transfer-Encoding: chunked\r\n\r\nffff\r\n{BODY}",
    "a negative chunk": f"{POST}Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
    "a huge chunk": f"{POST}Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx",
    "chunks without an end": f"{POST}Transfer-Encoding: chunked\r\n\r\n{len(BODY):x}\r\n{BODY}\r\n",
    "an unknown coding": f"{POST}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "two lengths": f"{POST}Content-Length: 5\r\nContent-Length: 6\r\n\r\n{BODY}",
    "a length and chunks": f"{POST}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a negative length": f"{POST}Content-Length: -1\r\n\r\n{BODY}",
    "a length in words": f"{POST}Content-Length: five\r\n\r\n{BODY}",
    "a length beyond 64 bits": f"{POST}Content-Length: {'9' * 40}\r\n\r\n{BODY}",
    "many headers": f"GET /tasks/ HTTP/1.1\r\n{HEAD}" + "X-A: b\r\n" * 5_000 + "\r\n",
    "a large header": f"GET /tasks/ HTTP/1.1\r\n{HEAD}X-A: {'b' * 1_000_000}\r\n\r\n",
    "a header without an end": f"GET /tasks/ HTTP/1.1\r\n{HEAD}X-A: b",
    "a folded header": f"GET /tasks/ HTTP/1.1\r\n{HEAD}X-A: b\r\n c\r\n\r\n",
    "a header with a NUL": f"GET /tasks/ HTTP/1.1\r\n{HEAD}X-A: b\0c\r\n\r\n",
    "a header name with a blank": f"GET /tasks/ HTTP/1.1\r\n{HEAD}X A: b\r\n\r\n",
    "no host": f"GET /tasks/ HTTP/1.1\r\nAuthorization: Bearer {TOKEN}\r\n\r\n",
    "an odd host": f"GET /tasks/ HTTP/1.1\r\nHost: a b[\x7f\r\nAuthorization: Bearer {TOKEN}\r\n\r\n",
    "an empty host": f"GET /tasks/ HTTP/1.1\r\nHost:\r\nAuthorization: Bearer {TOKEN}\r\n\r\n",
    "HTTP/0.9": "GET /tasks/\r\n",
    "HTTP/9.9": f"GET /tasks/ HTTP/9.9\r\n{HEAD}\r\n",
    "no HTTP": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "a TLS hello": b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + bytes(160),
    "raw bytes in the path": b"GET /tasks/\xff\xfe HTTP/1.1\r\n" + HEAD.encode() + b"\r\n",
    "raw bytes in the query": b"GET /tasks/?search=\xff HTTP/1.1\r\n" + HEAD.encode() + b"\r\n",
    "raw bytes in the token": b"GET /tasks/ HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer \xff\xfe\r\n\r\n",
    "raw bytes in the request id": b"GET /tasks/ HTTP/1.1\r\nX-Request-Id: \xff\r\n"
    + HEAD.encode()
    + b"\r\n",
    "a URL that names another host": f"GET http://other.example/tasks/ HTTP/1.1\r\n{HEAD}\r\n",
    "a URL that is none": f"GET http://[/tasks/ HTTP/1.1\r\n{HEAD}\r\n",
    "only a query": f"GET ?a HTTP/1.1\r\n{HEAD}\r\n",
    "a star": f"OPTIONS * HTTP/1.1\r\n{HEAD}\r\n",
    "CONNECT": f"CONNECT example.com:443 HTTP/1.1\r\n{HEAD}\r\n",
    "a method of bytes": b"G\xc3\x89T /tasks/ HTTP/1.1\r\n" + HEAD.encode() + b"\r\n",
    "a long method": f"{'A' * 10_000} /tasks/ HTTP/1.1\r\n{HEAD}\r\n",
    "an upgrade": f"GET /tasks/ HTTP/1.1\r\n{HEAD}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "a query with many parameters": f"GET /tasks/?{'a&' * 3_000} HTTP/1.1\r\n{HEAD}\r\n",
    "many cookies": f"GET /tasks/ HTTP/1.1\r\n{HEAD}Cookie: {'a=b; ' * 1_000}\r\n\r\n",
    "a form": POST.replace("application/json", "multipart/form-data") + "Content-Length: 3\r\n\r\nabc",
}


@pytest.mark.parametrize("request_text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_request_gets_no_500_and_the_next_one_is_served(
    api: Api, database: Database, request_text: str | bytes
) -> None:
    answer = say(api, request_text)
    assert status(answer) < 500 or status(answer) in (501, 505)
    assert not [leak for leak in LEAKS if leak.encode() in answer]
    assert database.count("tasks") == 0
    assert api.get("/health")["status"] == "healthy"


def test_a_chunked_body_is_taken(api: Api) -> None:
    half = len(BODY) // 2
    chunks = "".join(f"{len(part):X};x=y\r\n{part}\r\n" for part in (BODY[:half], BODY[half:]))
    answer = say(
        api, f"{POST}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n{chunks}0\r\nX: y\r\n\r\n"
    )
    assert status(answer) == 201


def test_a_chunked_body_over_256_kib_is_413(api: Api) -> None:
    chunk = "10000\r\n" + " " * 0x10000 + "\r\n"
    answer = say(
        api, f"{POST}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n", *[chunk] * 5, "0\r\n\r\n"
    )
    assert status(answer) == 413


def test_a_client_that_expects_100_continue_is_served(api: Api) -> None:
    head = f"{POST}Content-Length: {len(BODY)}\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    answer = say(api, head, BODY)
    assert answer.split(b"\r\n\r\n", 1)[0] == b"HTTP/1.1 100 Continue"
    assert b"HTTP/1.1 201 " in answer


def test_two_requests_on_one_connection_do_not_mix(api: Api) -> None:
    bad = f"{POST}Content-Length: 9\r\n\r\n{{not json"
    good = f"{POST}Content-Length: {len(BODY)}\r\nConnection: close\r\n\r\n{BODY}"
    answer = say(api, bad, good)
    assert answer.count(b"HTTP/1.1 ") == 2
    assert b"HTTP/1.1 400 " in answer
    assert b"HTTP/1.1 201 " in answer


def test_a_refused_body_is_not_read_as_the_next_request(api: Api) -> None:
    smuggled = f"DELETE /tasks/ HTTP/1.1\r\n{HEAD}\r\n"
    for refused in ("POST /tick HTTP/1.1", "GET /tasks/ HTTP/1.1", "POST /nothing HTTP/1.1"):
        head = f"{refused}\r\n{HEAD}Content-Length: {len(smuggled)}\r\nConnection: close\r\n\r\n"
        assert say(api, head, smuggled).count(b"HTTP/1.1 ") == 1


def test_a_few_clients_that_stop_in_the_middle_do_not_keep_others_waiting(api: Api) -> None:
    url = urlsplit(api.url)
    with ExitStack() as stack:
        for beginning in (b"GET /health HTT", POST.encode(), f"{POST}Content-Length: 500\r\n\r\n{{".encode()):
            stack.enter_context(socket.create_connection((url.hostname, url.port), 20)).sendall(beginning)
        assert api("GET", "/health", timeout=4).status_code == 200
