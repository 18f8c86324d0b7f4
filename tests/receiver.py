"""A webhook receiver on 127.0.0.1 that records every request it gets."""

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Received:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    at: float = field(default_factory=time.monotonic)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Answer = tuple[int, bytes] | tuple[int, bytes, Mapping[str, str]]
"""Status, body, and headers of the answer's own."""


class Receiver:
    """Answers 200 unless `answer` says otherwise; use as a context manager."""

    def __init__(self, answer: Callable[[Received], Answer] = lambda _: (200, b"ok")) -> None:
        self.requests: list[Received] = []
        self.connections = 0
        self._changed = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                receiver.connections += 1
                super().setup()

            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                received = Received(self.command, self.path, dict(self.headers), self.rfile.read(length))
                receiver._record(received)
                status, body, *headers = answer(received)
                self.send_response(status)
                for name, value in headers[0].items() if headers else ():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_PUT = do_PATCH = do_GET = do_DELETE = do_POST  # noqa: N815 - the names that http.server asks for

            def log_message(self, *_: object) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/hook"

    def wait_for(self, number: int, seconds: float = 30) -> list[Received]:
        """The first `number` requests; fails if there are fewer after `seconds`."""
        with self._changed:
            arrived = self._changed.wait_for(lambda: len(self.requests) >= number, seconds)
        assert arrived, f"{len(self.requests)} of {number} requests after {seconds} s"
        return self.requests[:number]

    def _record(self, received: Received) -> None:
        with self._changed:
            self.requests.append(received)
            self._changed.notify_all()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024

    def handle_error(self, *_: object) -> None:
        """A client that goes away is part of the tests."""
